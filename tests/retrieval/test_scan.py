"""Scans: every row once, whatever the files; and the arithmetic of the calibration, against plain sums."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit import write_set
from tests.retrieval.worlds import unit

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.threads import cores
from fieldmarks.errors import ImageError
from fieldmarks.retrieval import scan as scanning
from fieldmarks.retrieval.calibration import (
    LIKELY,
    NEAR,
    NULL,
    SURE,
    Calibration,
    compute,
    rank_scores,
    score,
)
from fieldmarks.retrieval.scan import Scan, inverse_lengths

pytest.importorskip("pyarrow")


def _set(path: Path, rows: Any, shards: int = 1) -> Scan:
    for part in np.array_split(np.arange(len(rows)), shards):
        write_set(path, [Embedded(str(number), rows[number]) for number in part.tolist()])
    return Scan(EmbeddingSet(path).parts())


def test_names_and_vectors_of_chosen_rows(tmp_path: Path) -> None:
    opened = _set(tmp_path / "set", np.eye(24, dtype=np.float32), shards=3)
    chosen = [23, 0, 8, 7, 8]
    assert opened.names(chosen) == ["23", "0", "8", "7", "8"]
    np.testing.assert_array_equal(opened.at(chosen), np.eye(24, dtype=np.float32)[chosen])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", ["folder", "archive", "columns"])
def test_every_row_is_seen_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, kind: str
) -> None:
    monkeypatch.setattr(scanning, "BLOCK_BYTES", 2048)  # 32 rows
    rows = np.random.default_rng(0).standard_normal((1000, 16)).astype(dtype)
    if kind == "archive":
        np.savez(tmp_path / "a.npz", embeddings=rows)
        path = tmp_path / "a.npz"
    else:
        (tmp_path / "img_emb").mkdir()
        np.save(
            tmp_path / "img_emb" / "img_emb_0.npy",
            np.asfortranarray(rows[:600]) if kind == "columns" else rows[:600],
        )
        np.save(tmp_path / "img_emb" / "img_emb_1.npy", rows[600:])
        path = tmp_path
    opened, seen, total = (
        Scan(EmbeddingSet(path).parts()),
        np.zeros(1000, int),
        np.zeros((1000, 16), np.float32),
    )

    def take(block: scanning.Block) -> None:
        seen[block.rows] += 1
        total[block.rows] = block.vectors

    opened.each(take)
    assert (seen == 1).all()
    np.testing.assert_array_equal(total, rows.astype(np.float32))


def test_parts_of_two_lengths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "img_emb").mkdir()
    for number in (2, 3):
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", np.ones((2, number), np.float32))
    with pytest.raises(ImageError, match="holds embeddings of 2 and 3 numbers: expected one"):
        Scan(EmbeddingSet(tmp_path).parts())


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_a_set_in_one_file_is_read_by_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "BLOCK_BYTES", 2048)
    (tmp_path / "img_emb").mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", np.ones((100, 16), np.float32))
    together = threading.Barrier(2, timeout=30)

    def take(block: scanning.Block) -> None:
        together.wait()

    Scan(EmbeddingSet(tmp_path).parts()).each(take)


@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=8))
def test_lengths_of_any_numbers(rows: list[list[float]]) -> None:
    array = np.array(rows, np.float32)
    inverse = inverse_lengths(array)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(array.astype(np.float64), axis=1)
    for number, length in zip(inverse.tolist(), lengths.tolist(), strict=True):
        assert np.isfinite(number)
        if 1e-6 < length < 1e15:
            assert number == pytest.approx(1 / length, rel=1e-4)
        if not np.isfinite(length) or length == 0:
            assert number == 0


def test_the_calibration_is_what_plain_sums_give(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    rows, null = unit(chance.standard_normal((300, 24))), unit(chance.standard_normal((NULL, 24)))
    opened = _set(tmp_path / "set", rows, shards=2)
    found = compute(opened, null)
    cosines = rows @ null.T  # (300, NULL)
    ordered = -np.sort(-cosines, axis=1)
    for rank, values in ((SURE, found.sure), (NEAR, found.near), (LIKELY, found.likely)):
        np.testing.assert_allclose(values, ordered[:, rank - 1], atol=1e-6)
    np.testing.assert_allclose(
        rank_scores(opened, null, NEAR, found.inverse), ordered[:, NEAR - 1], atol=1e-6
    )
    np.testing.assert_allclose(score(opened, null[:3], found).cosines, cosines[:, :3].T, atol=1e-6)
    totals, peaks = [], []
    for text in range(NULL):
        others = -np.sort(-np.delete(cosines, text, axis=1), axis=1)[:, SURE - 1]  # without the text itself
        lead = cosines[:, text] - others
        totals.append(np.maximum(lead, 0).mean())
        peaks.append(lead.max())
    pass_ = [total > found.total or peak > found.peak for total, peak in zip(totals, peaks, strict=True)]
    assert 0.02 * NULL <= sum(pass_) <= 0.035 * NULL
    fresh = unit(chance.standard_normal((1000, 24)))
    assert found.is_about_something(score(opened, fresh, found)).mean() <= 0.06
    meant = unit([rows[:30].mean(axis=0) + 3 * rows[0]])
    assert found.is_about_something(score(opened, meant, found)).all()


@pytest.mark.parametrize("spoilt", [0, 7, 300])
def test_what_scores_come_to_is_what_plain_sums_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: int
) -> None:
    monkeypatch.setattr(scanning, "BLOCK_BYTES", 2048)  # 21 rows
    chance = np.random.default_rng(2)
    rows, queries = unit(chance.standard_normal((300, 24))), unit(chance.standard_normal((3, 24)))
    rows[:spoilt] = 0  # which has no direction
    opened = _set(tmp_path / "set", rows, shards=2)
    sure = chance.uniform(0, 0.3, 300).astype(np.float32)
    calibrated = Calibration(inverse_lengths(rows), sure, sure, sure, 0.1, 0.5)
    found = score(opened, queries, calibrated)
    again = score(opened, queries, calibrated)
    for name in ("cosines", "mean", "deviation", "total", "peak"):  # to the bit, whatever threads do
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    cosines = found.cosines[:, spoilt:].astype(np.float64)  # (3, usable)
    np.testing.assert_array_equal(found.cosines[:, :spoilt], 0)
    if spoilt == 300:
        assert not calibrated.is_about_something(found).any()
        np.testing.assert_array_equal(found.standardized(0), 0)
        return
    lead = cosines - sure[spoilt:]
    np.testing.assert_allclose(found.mean, cosines.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.deviation, cosines.std(axis=1), rtol=1e-10)
    np.testing.assert_allclose(found.total, np.maximum(lead, 0).mean(axis=1), atol=1e-7)
    np.testing.assert_allclose(found.peak, lead.max(axis=1), atol=1e-7)
    z = found.standardized(1)[spoilt:]
    np.testing.assert_allclose(z, (cosines[1] - cosines[1].mean()) / cosines[1].std(), atol=1e-5)
