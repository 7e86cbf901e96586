"""Duplicates: equal files, and groups in which every image is near the first."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit import write_set
from tests.retrieval.worlds import unit

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.results import FileVersion
from fieldmarks.retrieval import duplicates as finding
from fieldmarks.retrieval.duplicates import Duplicates, duplicates
from fieldmarks.retrieval.scan import Scan

pytest.importorskip("pyarrow")


def _scan(path: Path, rows: Any, digests: list[str] | None = None) -> Scan:
    versions = [FileVersion(digest) for digest in digests] if digests else [None] * len(rows)
    each = zip(rows, versions, strict=True)
    write_set(path, [Embedded(str(n), row, None, version) for n, (row, version) in enumerate(each)])
    return Scan(EmbeddingSet(path).parts())


def test_equal_files_come_first_and_count_once(tmp_path: Path) -> None:
    rows = unit([[1, 0, 0], [1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 0]])
    found = list(duplicates(_scan(tmp_path / "set", rows, ["a", "a", "b", "c", "c"])))
    assert [(group.kind, group.images) for group in found] == [
        ("exact", ("0", "1")),
        ("exact", ("3", "4")),
        ("near", ("0", "2")),
    ]
    assert found[2].similarity == pytest.approx(1 / np.sqrt(1.01), abs=1e-6)
    assert found[0].to_dict() == {"kind": "exact", "images": ["0", "1"], "similarity": 1.0}


def test_a_row_of_small_steps_is_not_one_group(tmp_path: Path) -> None:
    angles = np.linspace(0, np.pi / 2, 31)  # each step is 3 degrees, cosine 0.9986
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = list(duplicates(_scan(tmp_path / "set", rows), near=0.99))  # 8.1 degrees
    assert len(found) > 5
    assert all(len(group.images) <= 3 for group in found)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), block=st.sampled_from([4, 16, 1024]))
def test_groups_are_those_of_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, block: int
) -> None:
    chance = np.random.default_rng(seed)
    rows = unit(
        chance.standard_normal((8, 6))[chance.integers(0, 8, count)]
        + 0.1 * chance.standard_normal((count, 6))
    )
    expected: dict[int, list[int]] = {}
    for row in range(count):
        cosines = [(first, float(rows[first] @ rows[row])) for first in expected]
        near = next((first for first, cosine in cosines if cosine >= 0.97), None)
        if near is None:
            expected[row] = [row]
        else:
            expected[near].append(row)
    scan = _scan(tmp_path_factory.mktemp("set") / "s", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "BLOCK", block)
        found = list(duplicates(scan))
    assert all(isinstance(group, Duplicates) and group.similarity >= 0.97 for group in found)
    groups = [[str(row) for row in members] for members in expected.values() if len(members) > 1]
    assert sorted(list(group.images) for group in found) == sorted(groups)


def test_vectors_that_are_none_repeat_nothing(tmp_path: Path) -> None:
    rows = np.array([[0, 0], [0, 0], [np.nan, 1], [np.nan, 1], [1, 1], [2, 2]], np.float32)
    np.savez(tmp_path / "a.npz", embeddings=rows)
    found = list(duplicates(Scan(EmbeddingSet(tmp_path / "a.npz").parts())))
    assert [group.images for group in found] == [(f"{tmp_path}/a.npz#4", f"{tmp_path}/a.npz#5")]
