"""Embeddings in files: what is written is read again, in clip-retrieval's layout."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldmarks.classification import interchange
from fieldmarks.classification.embeddings import Embedded
from fieldmarks.classification.results import Failure
from fieldmarks.errors import ImageError

parquet = pytest.importorskip("pyarrow.parquet")

ABOUT = {"model": "some/clip", "dtype": "bfloat16", "engine": "openvino"}


def _embedded(count: int) -> list[Embedded | Failure]:
    rows = 3 * np.random.default_rng(0).standard_normal((count, 8), np.float32)
    return [Embedded(f"a/{n}.png", row) for n, row in enumerate(rows)]


def _read(path: Path) -> list[Embedded]:
    results = list(interchange.read(path))
    assert all(isinstance(one, Embedded) for one in results)
    return [one for one in results if isinstance(one, Embedded)]


@pytest.mark.parametrize("count", [0, 1, 3, interchange.ROWS + 3])
def test_what_is_written_is_read(tmp_path: Path, count: int) -> None:
    given = _embedded(count)
    mixed = [*given[:2], Failure("broken.png", "why"), *given[2:]]
    assert list(interchange.write(mixed, tmp_path / "out", ABOUT)) == mixed
    back = _read(tmp_path / "out")
    assert [one.image for one in back] == [one.image for one in given]
    for one, other in zip(back[:5], given[:5], strict=True):
        assert isinstance(other, Embedded)
        np.testing.assert_allclose(
            one.vector, other.vector / np.linalg.norm(other.vector), rtol=1.3e-6, atol=1e-5
        )
    assert interchange.model_of(tmp_path / "out") == "some/clip"
    kept = parquet.read_schema(tmp_path / "out" / "metadata" / "metadata_0000.parquet").metadata
    assert {f"fieldmarks.{key}".encode(): value.encode() for key, value in ABOUT.items()} == kept


def test_the_layout_is_that_of_clip_retrieval(tmp_path: Path) -> None:
    list(interchange.write(_embedded(interchange.ROWS + 3), tmp_path, ABOUT))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == [
        "img_emb/img_emb_0000.npy",
        "img_emb/img_emb_0001.npy",
        "metadata/metadata_0000.parquet",
        "metadata/metadata_0001.parquet",
    ]
    rows = np.load(tmp_path / "img_emb" / "img_emb_0001.npy", allow_pickle=False)
    assert (rows.shape, rows.dtype) == ((3, 8), np.float32)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1])
    table = parquet.read_table(tmp_path / "metadata" / "metadata_0001.parquet")
    assert table.column("image_path").to_pylist() == [f"a/{interchange.ROWS + n}.png" for n in range(3)]


def test_clip_retrievals_own_half_precision_and_order(tmp_path: Path) -> None:
    (tmp_path / "img_emb").mkdir()
    for number in (10, 9):  # a name's order would put 10 first
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", np.full((1, 4), number, np.float16))
    back = _read(tmp_path)
    assert [one.vector.tolist() for one in back] == [[9.0] * 4, [10.0] * 4]
    assert [one.image for one in back] == [f"{tmp_path}/img_emb/img_emb_{n}.npy#0" for n in (9, 10)]
    assert interchange.model_of(tmp_path) is None


def test_nothing_is_written_over(tmp_path: Path) -> None:
    list(interchange.write(_embedded(1), tmp_path / "out", ABOUT))
    with pytest.raises(ImageError, match="holds embeddings already: name a new folder"):
        list(interchange.write(_embedded(2), tmp_path / "out", ABOUT))
    assert len(_read(tmp_path / "out")) == 1


def test_a_stopped_run_leaves_whole_parts(tmp_path: Path) -> None:
    running = interchange.write(_embedded(interchange.ROWS + 3), tmp_path, ABOUT)
    for _ in range(interchange.ROWS + 1):
        next(running)
    del running
    assert len(_read(tmp_path)) == interchange.ROWS


def test_archives(tmp_path: Path) -> None:
    rows = np.eye(3, dtype=np.float64)
    np.savez(tmp_path / "named.npz", embeddings=rows, images=np.array(["a", "b", "c"]), other=rows)
    np.savez_compressed(tmp_path / "single.npz", anything=rows, labels=np.arange(3))
    assert [one.image for one in _read(tmp_path / "named.npz")] == ["a", "b", "c"]
    assert [one.image for one in _read(tmp_path / "single.npz")] == [
        f"{tmp_path}/single.npz#{n}" for n in range(3)
    ]


def test_rows_without_numbers_are_failures(tmp_path: Path) -> None:
    rows = np.array([[1.0, 0.0], [np.nan, 0.0], [1e300, 0.0], [0.0, -0.0]])  # the third is beyond float32
    np.savez(tmp_path / "nan.npz", embeddings=rows, images=np.array(["a", "b", "c", "d"]))
    assert list(interchange.read(tmp_path / "nan.npz"))[1:] == [
        Failure("b", "its embedding holds NaN or infinity"),
        Failure("c", "its embedding holds NaN or infinity"),
        Failure("d", "its embedding is all noughts"),
    ]


def _archive(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_what_is_no_file_of_embeddings(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled" / "img_emb").mkdir(parents=True)
    np.save(tmp_path / "pickled" / "img_emb" / "img_emb_0.npy", np.array([{"a": 1}], dtype=object))
    (tmp_path / "cut" / "img_emb").mkdir(parents=True)
    np.save(tmp_path / "cut" / "img_emb" / "img_emb_0.npy", np.ones((100, 4)))
    data = (tmp_path / "cut" / "img_emb" / "img_emb_0.npy").read_bytes()
    (tmp_path / "cut" / "img_emb" / "img_emb_0.npy").write_bytes(data[:500])
    two = np.ones((2, 2))
    messages = {
        tmp_path / "none.npz": "no such file or folder of embeddings",
        Path("/dev/zero"): "no such file or folder of embeddings",
        tmp_path / "text.npz": "cannot be read: File is not a zip file",
        tmp_path / "empty": "has no img_emb/*.npy: a folder as `fieldmarks embed` writes is meant",
        tmp_path / "pickled": "cannot be read: Array can't be memory-mapped: Python objects in dtype.",
        tmp_path / "cut": "cannot be read: ",
        _archive(
            tmp_path / "flat.npz", embeddings=np.ones(4)
        ): "holds (4,) of float64: floats (N, D) are meant",
        _archive(
            tmp_path / "ints.npz", embeddings=np.ones((2, 2), int)
        ): "holds (2, 2) of int64: floats (N, D)",
        _archive(
            tmp_path / "objects.npz", embeddings=np.array([None])
        ): "cannot be read: Object arrays cannot be",
        _archive(
            tmp_path / "two.npz", one=two, other=two
        ): "has 2 arrays of embeddings: call the one meant 'embeddings'",
        _archive(tmp_path / "none_in.npz", names=np.array(["a"])): "has 0 arrays of embeddings",
        _archive(
            tmp_path / "names.npz", embeddings=two, images=np.array(["a"])
        ): "holds (2, 2) of float64 with 1 names",
    }
    for path, message in messages.items():
        with pytest.raises(ImageError) as caught:
            list(interchange.read(path))
        assert message in str(caught.value)
        assert str(caught.value).startswith(str(path))


def test_labels_run_in_step_with_the_embeddings(tmp_path: Path) -> None:
    list(interchange.write(_embedded(2), tmp_path / "out", ABOUT))
    assert list(interchange.labels(tmp_path / "out")) == [None, None]
    path = _archive(
        tmp_path / "a.npz", embeddings=np.eye(2), labels=np.array([1, 0]), classes=np.array(["a", "b"])
    )
    assert list(interchange.labels(path)) == ["b", "a"]
    path = _archive(tmp_path / "b.npz", embeddings=np.eye(2), labels=np.array(["owl", "newt"]))
    assert list(interchange.labels(path)) == ["owl", "newt"]
    assert list(interchange.labels(_archive(tmp_path / "c.npz", embeddings=np.eye(2)))) == [None, None]
