"""Blocks: what archives, tables and URLs are read as, and what a damaged or absent one leads to."""

import os
import tracemalloc
from pathlib import Path

import pytest
from tests.scale.archives import BROKEN, png, write_tar

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import Blob
from fieldmarks.errors import ImageError
from fieldmarks.scale.blocks import SourceError, blocks_of, is_block_source, read

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "a.tar", [("x/0.png", png(0)), ("x/0.txt", b"owl"), ("x/1.png", png(1))])


def _table(path: Path, column: object, rows_of_a_group: int = 2) -> Path:
    parquet.write_table(arrow.table(column), path, row_group_size=rows_of_a_group)
    return path


def test_a_tar_is_one_block_of_its_images(tar: Path) -> None:
    (block,) = blocks_of([str(tar)])
    assert list(read(block)) == [Blob(f"{tar}/x/0.png", png(0)), Blob(f"{tar}/x/1.png", png(1))]


def test_a_row_group_is_a_block_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    path = _table(tmp_path / "a.parquet", {"image": [png(0), None, png(2)], "label": [1, 2, 3]})
    first, second = blocks_of([str(path)])
    assert list(read(first)) == [
        Blob(f"{path}#0", png(0)),
        Failure(f"{path}#1", "there are no bytes of an image in this row"),
    ]
    assert list(read(second)) == [Blob(f"{path}#2", png(2))]


def test_a_small_table_that_repeats_a_large_value_is_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    size = 2**21
    path = tmp_path / "a.parquet"
    table = arrow.table({"image": [bytes(size)] * 64})
    parquet.write_table(table, path, compression="zstd", dictionary_pagesize_limit=2 * size)
    assert path.stat().st_size < size // 100
    (block,) = blocks_of([str(path)])
    tracemalloc.start()
    try:
        assert sum(isinstance(image, Blob) for image in read(block)) == 64
        assert tracemalloc.get_traced_memory()[1] < 16 * size
    finally:
        tracemalloc.stop()


def test_images_of_hugging_face_keep_their_paths(tmp_path: Path) -> None:
    rows = [{"bytes": png(0), "path": "owl.png"}, {"bytes": png(1), "path": None}]
    path = _table(tmp_path / "a.parquet", {"image": rows})
    (block,) = blocks_of([str(path)])
    assert [image.name for image in read(block) if isinstance(image, Blob)] == [
        f"{path}#0/owl.png",
        f"{path}#1",
    ]


def test_folders_and_globs_have_their_files_in_order_and_once(tmp_path: Path, tar: Path) -> None:
    (tmp_path / "b.tar").write_bytes(tar.read_bytes())
    (tmp_path / "notes.txt").write_text("no block")
    every = blocks_of([str(tmp_path), str(tmp_path / "*.tar"), str(tar)])
    assert [Path(block.url).name for block in every] == ["a.tar", "b.tar"]


def test_a_range_has_its_files(tmp_path: Path, tar: Path) -> None:
    for number in range(3):
        (tmp_path / f"t-{number:02d}.tar").write_bytes(tar.read_bytes())
    blocks = blocks_of([f"{tmp_path}/t-{{01..02}}.tar"])
    assert [Path(block.url).name for block in blocks] == ["t-01.tar", "t-02.tar"]
    with pytest.raises(ImageError, match=r"t-03.tar: no such file"):
        blocks_of([f"{tmp_path}/t-{{01..03}}.tar"])


def test_a_url_of_fsspec_is_read_as_a_file_is(tar: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/a.tar", tar.read_bytes())
    try:
        (block,) = blocks_of(["memory://bucket/*.tar"])
        names = [image.name for image in read(block) if isinstance(image, Blob)]
        assert names == ["memory://bucket/a.tar/x/0.png", "memory://bucket/a.tar/x/1.png"]
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_replaced_file_is_another_block_and_refused_while_it_is_read(tar: Path) -> None:
    (before,) = blocks_of([str(tar)])
    write_tar(tar, [("x/2.png", png(2))])
    os.utime(tar, (1, 1))
    (after,) = blocks_of([str(tar)])
    assert before.key != after.key
    with pytest.raises(SourceError, match="has changed since this run began"):
        list(read(before))


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_file_that_changes_while_it_is_read_is_refused_at_its_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.tar":
        write_tar(path, [("0.png", png(0)), ("1.png", png(1))])
    else:
        _table(path, {"image": [png(0), png(1)]})
    (block,) = blocks_of([str(path)])
    images = read(block)
    assert isinstance(next(images), Blob)
    with path.open("r+b") as file:  # in place, so that the reader has both
        file.seek(100)
        file.write(b"x")
    os.utime(path, (1, 1))
    with pytest.raises(SourceError, match=r"^it has changed since this run began"):
        list(images)


def test_a_truncated_tar_gives_what_it_has_and_says_so(tar: Path) -> None:
    tar.write_bytes(tar.read_bytes()[:2000])
    (block,) = blocks_of([str(tar)])
    first, *_, last = read(block)
    assert first == Blob(f"{tar}/x/0.png", png(0))
    assert isinstance(last, Failure)
    assert last.image.startswith(str(tar))


def test_a_broken_image_is_read_as_it_is(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.jpg", BROKEN)])
    assert list(read(*blocks_of([str(path)]))) == [Blob(f"{path}/a.jpg", BROKEN)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent.tar", "absent.tar: no such file or folder"),
        ("empty", "empty has no archive or table of images: expected .tar, "),
        ("nowhere://bucket/a.tar", "nowhere://bucket/a.tar cannot be opened: Protocol not known: nowhere"),
        ("no.parquet", "no.parquet: cannot be read: Parquet magic bytes not found"),
        ("texts.parquet", "it has no column of images, as bytes or {bytes, path}; it has image (string)"),
        ("two.parquet", "two.parquet: it has 2 columns of bytes: call the right one 'image'"),
        ("https://ada:secret@127.0.0.1:9/a.tar", "https://127.0.0.1:9/a.tar"),
    ],
)
def test_a_source_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.parquet").write_bytes(b"hello, this is no table")
    _table(tmp_path / "two.parquet", {"a": [b""], "b": [b""]})
    _table(tmp_path / "texts.parquet", {"image": ["a.png"]})
    with pytest.raises(ImageError) as caught:
        blocks_of([source])
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", [arrow.binary(), arrow.large_binary(), arrow.binary_view()])
def test_bytes_of_every_type_are_images(tmp_path: Path, kind: object) -> None:
    path = _table(tmp_path / "a.parquet", {"picture": arrow.array([png(0), png(1)], kind)})
    assert list(read(*blocks_of([str(path)]))) == [Blob(f"{path}#{number}", png(number)) for number in (0, 1)]
    encoded = _table(tmp_path / "b.parquet", {"image": arrow.array([png(2)] * 2).dictionary_encode()})
    assert list(read(*blocks_of([str(encoded)]))) == [
        Blob(f"{encoded}#{number}", png(2)) for number in (0, 1)
    ]


def test_images_and_folders_of_images_are_no_blocks(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    assert not any(map(is_block_source, [str(tmp_path), str(tmp_path / "a.png"), "-", "absent"]))
    write_tar(tmp_path / "a.tar", [])
    assert all(map(is_block_source, [str(tmp_path), "x.TAR", "s3://bucket/x", "a/*.parquet"]))
