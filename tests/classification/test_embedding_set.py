"""Embeddings in files: what is written is read again, in clip-retrieval's layout."""

import io
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit import write_set

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_files import READ_ROWS
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.embedding_writer import ROWS, SetWriter
from fieldmarks.classification.results import Failure
from fieldmarks.errors import ImageError, ModelError

parquet = pytest.importorskip("pyarrow.parquet")

ABOUT = {"model": "some/clip", "dtype": "bfloat16", "engine": "openvino", "decode": "reduced"}


def _embedded(count: int) -> list[Embedded | Failure]:
    rows = 3 * np.random.default_rng(0).standard_normal((count, 8), np.float32)
    return [Embedded(f"a/{n}.png", row) for n, row in enumerate(rows)]


def _read(path: Path) -> list[Embedded]:
    results = list(EmbeddingSet(path))
    assert all(isinstance(row, Embedded) for row in results)
    return [result for result in results if isinstance(result, Embedded)]


@pytest.mark.parametrize("count", [0, 1, 3, ROWS + 3])
def test_what_is_written_is_read(tmp_path: Path, count: int) -> None:
    given = _embedded(count)
    mixed = [*given[:2], Failure("broken.png", "why"), *given[2:]]
    with SetWriter(tmp_path / "out", ABOUT) as writer:
        assert list(writer.take(mixed)) == mixed
    back = _read(tmp_path / "out")
    assert [row.image for row in back] == [row.image for row in given]
    for row, other in zip(back[:5], given[:5], strict=True):
        assert isinstance(other, Embedded)
        np.testing.assert_allclose(
            row.vector, other.vector / np.linalg.norm(other.vector), rtol=1.3e-6, atol=1e-5
        )
    assert EmbeddingSet(tmp_path / "out").model == "some/clip"
    manifest = EmbeddingSet(tmp_path / "out").manifest
    assert manifest is not None
    assert (manifest.dtype, manifest.decode, manifest.rows) == ("bfloat16", "reduced", count)
    assert manifest.dim == (8 if count else 0)


def test_the_layout_is_that_of_clip_retrieval(tmp_path: Path) -> None:
    write_set(tmp_path, _embedded(ROWS + 3), **ABOUT)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*.*")) == [
        "img_emb/img_emb_0000.npy",
        "img_emb/img_emb_0001.npy",
        "manifest.json",
        "metadata/metadata_0000.parquet",
        "metadata/metadata_0001.parquet",
    ]
    rows = np.load(tmp_path / "img_emb" / "img_emb_0001.npy", allow_pickle=False)
    assert (rows.shape, rows.dtype) == ((3, 8), np.float32)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1])
    table = parquet.read_table(tmp_path / "metadata" / "metadata_0001.parquet")
    assert table.column("image_path").to_pylist() == [f"a/{ROWS + n}.png" for n in range(3)]


def test_clip_retrievals_own_half_precision_and_order(tmp_path: Path) -> None:
    (tmp_path / "img_emb").mkdir()
    for number in (10, 9):  # a name's order would put 10 first
        np.save(tmp_path / "img_emb" / f"img_emb_{number}.npy", np.full((1, 4), number, np.float16))
    back = _read(tmp_path)
    assert [row.vector.tolist() for row in back] == [[9.0] * 4, [10.0] * 4]
    assert [row.image for row in back] == [f"{tmp_path}/img_emb/img_emb_{n}.npy#0" for n in (9, 10)]
    assert EmbeddingSet(tmp_path).model is None


def test_a_stopped_run_leaves_what_it_has(tmp_path: Path) -> None:
    def stopped() -> Iterator[Embedded | Failure]:
        yield from _embedded(ROWS + 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path, stopped(), **ABOUT)
    assert len(_read(tmp_path)) == ROWS + 1


def test_a_run_that_fails_leaves_what_it_has_or_nothing(tmp_path: Path) -> None:
    def failing(count: int) -> Iterator[Embedded | Failure]:
        yield from _embedded(count)
        raise ModelError("the model broke")

    for count in (0, 3):
        with pytest.raises(ModelError, match="the model broke"):
            write_set(tmp_path / "out", failing(count), **ABOUT)
        assert (tmp_path / "out").exists() == bool(count)
    assert len(_read(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.touch, "already exists and is not a folder; choose a new one"),
        (os.mkfifo, "already exists and is not a folder; choose a new one"),
        (lambda path: path.symlink_to("none"), "already exists and is not a folder; choose a new one"),
        (lambda path: (path / "photos").mkdir(parents=True), "already exists and is not empty; choose a new"),
        (
            lambda path: (path / "metadata" / "metadata_0.parquet").mkdir(parents=True),
            "holds embeddings without a manifest.json, by clip-retrieval or fieldmarks 0.1, to which",
        ),
    ],
)
def test_only_a_new_or_an_empty_folder_is_written_to(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ImageError) as caught:
        write_set(tmp_path / "out", _embedded(1), **ABOUT)
    assert str(caught.value).startswith(f"{tmp_path / 'out'} {message}")
    assert sorted(tmp_path.rglob("*")) == before


def test_archives(tmp_path: Path) -> None:
    rows = np.eye(3, dtype=np.float64)
    np.savez(tmp_path / "named.npz", embeddings=rows, images=np.array(["a", "b", "c"]), other=rows)
    np.savez_compressed(tmp_path / "single.npz", anything=rows, labels=np.arange(3))
    assert [row.image for row in _read(tmp_path / "named.npz")] == ["a", "b", "c"]
    assert [row.image for row in _read(tmp_path / "single.npz")] == [
        f"{tmp_path}/single.npz#{n}" for n in range(3)
    ]


def test_rows_without_numbers_are_failures(tmp_path: Path) -> None:
    rows = np.array([[1.0, 0.0], [np.nan, 0.0], [1e300, 0.0], [0.0, -0.0]])  # the third is beyond float32
    np.savez(tmp_path / "nan.npz", embeddings=rows, images=np.array(["a", "b", "c", "d"]))
    assert list(EmbeddingSet(tmp_path / "nan.npz"))[1:] == [
        Failure("b", "its embedding contains NaN or infinity"),
        Failure("c", "its embedding contains NaN or infinity"),
        Failure("d", "its embedding is all zeros"),
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
        tmp_path / "empty": "has no img_emb/*.npy; expected a folder written by `fieldmarks embed`",
        tmp_path / "pickled": "cannot be read: it holds Python objects, which are not loaded",
        tmp_path / "cut": "cannot be read: ",
        _archive(
            tmp_path / "flat.npz", embeddings=np.ones(4)
        ): "holds (4,) of float64; expected a float array (N, D)",
        _archive(
            tmp_path / "ints.npz", embeddings=np.ones((2, 2), int)
        ): "holds (2, 2) of int64; expected a float array (N, D)",
        _archive(
            tmp_path / "objects.npz", embeddings=np.array([None])
        ): "cannot be read: it holds Python objects, which are not loaded",
        _archive(
            tmp_path / "two.npz", one=two, other=two
        ): "has 2 arrays of embeddings; name the right one 'embeddings'",
        _archive(tmp_path / "none_in.npz", names=np.array(["a"])): "has 0 arrays of embeddings",
        _archive(
            tmp_path / "names.npz", embeddings=two, images=np.array(["a"])
        ): "holds (2, 2) of float64 with names (1,); expected 2 names",
        _archive(tmp_path / "single.npz", embeddings=np.float32(1)): "cannot be read: it has 0 dimensions",
        _archive(tmp_path / "wide.npz", embeddings=np.ones((1, 70_000))): "of 70,000 numbers; expected 1 to",
        _archive(tmp_path / "none.npz", embeddings=np.ones((2, 0))): "of 0 numbers; expected 1 to 65,536",
        _archive(
            tmp_path / "long.npz", embeddings=two, images=np.array(["a" * 5000] * 2)
        ): "holds <U5000; expected strings of at most 4,096 characters",
        _archive(
            tmp_path / "records.npz", embeddings=np.zeros(2, [("x", "f4")])
        ): "it is not an array of numbers or strings",
    }
    for path, message in messages.items():
        with pytest.raises(ImageError) as caught:
            list(EmbeddingSet(path))
        assert message in str(caught.value)
        assert str(caught.value).startswith(str(path))


def test_labels_run_in_step_with_the_embeddings(tmp_path: Path) -> None:
    write_set(tmp_path / "out", _embedded(2), **ABOUT)
    assert list(EmbeddingSet(tmp_path / "out").labels()) == [None, None]
    path = _archive(
        tmp_path / "a.npz", embeddings=np.eye(2), labels=np.array([1, 0]), classes=np.array(["a", "b"])
    )
    assert list(EmbeddingSet(path).labels()) == ["b", "a"]
    path = _archive(tmp_path / "b.npz", embeddings=np.eye(2), labels=np.array(["owl", "newt"]))
    assert list(EmbeddingSet(path).labels()) == ["owl", "newt"]
    assert list(EmbeddingSet(_archive(tmp_path / "c.npz", embeddings=np.eye(2))).labels()) == [None, None]


def _npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + data


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 512), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 9), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1, 1), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }",
        "{'descr': '<f3', 'fortran_order': False, 'shape': (1, 4), }",
        "{'descr': ('<f4', (1000000000,)), 'fortran_order': False, 'shape': (1, 4), }",
        "{'descr': '<f4', 'shape': (1, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1" * 9000 + "x), }",
        "(" * 9000,
    ],
)
def test_a_header_is_not_believed(tmp_path: Path, header: str) -> None:
    for place in (tmp_path / "out" / "img_emb" / "img_emb_0.npy", tmp_path / "out.npz"):
        place.parent.mkdir(parents=True, exist_ok=True)
        content = _npy(header, bytes(64))
        if place.suffix == ".npz":
            with zipfile.ZipFile(place, "w") as archive:
                archive.writestr("embeddings.npy", content)
        else:
            place.write_bytes(content)
        with pytest.raises(ImageError):
            list(EmbeddingSet(place if place.suffix == ".npz" else tmp_path / "out"))
        with pytest.raises(ImageError):
            list(EmbeddingSet(place if place.suffix == ".npz" else tmp_path / "out").labels())


@pytest.mark.slow
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_form_that_numpy_writes(
    tmp_path: Path, order: Any, dtype: str, version: tuple[int, int]
) -> None:
    rows = np.asarray(np.arange(1, 3000 * 4 + 1).reshape(3000, 4) % 1000 + 1, dtype, order=order)
    content = io.BytesIO()
    np.lib.format.write_array(content, rows, version)
    (tmp_path / "img_emb").mkdir()
    (tmp_path / "img_emb" / "img_emb_0.npy").write_bytes(content.getvalue())
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("embeddings.npy", content.getvalue())
    for path in (tmp_path, tmp_path / "a.npz"):
        np.testing.assert_array_equal([row.vector for row in _read(path)], rows.astype(np.float32))


@pytest.mark.slow
def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    header = _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (8000000, 512), }")
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("embeddings.npy", "w", force_zip64=True) as file,
    ):
        file.write(header)
        for _ in range(300):
            file.write(bytes(2**20))
    assert (tmp_path / "bomb.npz").stat().st_size < 2_000_000
    with pytest.raises(ImageError, match=r"'embeddings' unpacks from 1,\d+,\d+ bytes to 314,"):
        list(EmbeddingSet(tmp_path / "bomb.npz"))


def test_names_and_labels_are_read_in_parts(tmp_path: Path) -> None:
    count = 5 * READ_ROWS // 2
    names = [f"{n}.png" for n in range(count)]
    path = _archive(
        tmp_path / "a.npz",
        embeddings=np.ones((count, 4), np.float32),
        images=np.array(names).astype("S"),
        labels=np.arange(count) % 3,
        classes=np.array(["a", "b", "c"]),
    )
    assert [row.image for row in _read(path)] == names
    assert list(EmbeddingSet(path).labels()) == (["a", "b", "c"] * count)[:count]


def test_metadata_that_does_not_fit(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    write_set(tmp_path / "out", _embedded(2), **ABOUT)
    file = tmp_path / "out" / "metadata" / "metadata_0000.parquet"
    tables: dict[str, Any] = {
        "has 3 rows; expected 2": {"image_path": ["a", "b", "c"]},
        "has no column image_path": {"path": ["a", "b"]},
        "has a column image_path of list<": {"image_path": [["a"], ["b"]]},
        "has a string of 5,000 characters in image_path": {"image_path": ["a", "b" * 5000]},
    }
    for message, columns in tables.items():
        parquet.write_table(arrow.table(columns), file)
        with pytest.raises(ImageError, match=message):
            list(EmbeddingSet(tmp_path / "out"))
    parquet.write_table(arrow.table({"image_path": ["a", None], "label": [1, None]}), file)
    assert [row.image for row in _read(tmp_path / "out")] == [
        "a",
        f"{tmp_path}/out/img_emb/img_emb_0000.npy#1",
    ]
    assert list(EmbeddingSet(tmp_path / "out").labels()) == ["1", None]
    file.unlink()
    os.mkfifo(file)
    for rows in (EmbeddingSet(tmp_path / "out"), EmbeddingSet(tmp_path / "out").labels()):
        with pytest.raises(ImageError, match="it is not a regular file"):
            list(rows)
    (tmp_path / "out" / "manifest.json").unlink()  # as 0.1 wrote it
    with pytest.raises(ImageError, match="it is not a regular file"):
        _ = EmbeddingSet(tmp_path / "out").model
