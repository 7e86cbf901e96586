"""Sets that grow: what is there is left alone, what is new is added, and a stop loses none of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.kit import logged, write_set

from fieldmarks.classification import embedding_writer
from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_set import EmbeddingSet, embed
from fieldmarks.classification.embedding_shards import write_shard
from fieldmarks.classification.embedding_writer import SetWriter
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.classification.sources import digest_of
from fieldmarks.errors import ImageError

pytest.importorskip("pyarrow")

MADE = {"model": "some/clip", "dtype": "float32", "engine": "torch", "decode": "full", "fingerprint": "f"}


def _picture(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


def _vector(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return what stands for a file's embedding: numbers that its content decides."""
    return np.frombuffer(bytes.fromhex(digest_of(path).sha256), np.uint8).astype(np.float32)[:8] + 1


def _run(out: Path, images: list[Path], *, prune: bool = False, made: dict[str, str] = MADE) -> SetWriter:
    """Do what `embed` does, without a model; return the writer for its counts."""

    def rows(writer: SetWriter) -> Iterator[Embedded | Failure]:
        for image in writer.missing(map(str, images)):
            assert isinstance(image, str)
            yield Embedded(image, _vector(Path(image)), None, digest_of(image))

    with SetWriter(out, made) as writer:
        for _ in writer.take(rows(writer)):
            pass
        if prune:
            writer.prune()
    return writer


def _contents(out: Path) -> dict[str, Any]:
    rows = [row for row in EmbeddingSet(out) if isinstance(row, Embedded)]
    assert len({row.image for row in rows}) == len(rows)
    return {row.image: row.vector for row in rows}


def _assert_is_of(out: Path, images: list[Path]) -> None:
    """Check that a set is what one run over these files makes, whatever the order of its rows."""
    contents = _contents(out)
    assert set(contents) == {str(image) for image in images}
    for image in images:
        vector = _vector(image)
        np.testing.assert_allclose(contents[str(image)], vector / np.linalg.norm(vector), atol=1e-6)


def _counts(writer: SetWriter) -> tuple[int, int, int, int]:
    return writer.added, writer.present, writer.reused, writer.dropped


def test_only_what_is_new_is_embedded(tmp_path: Path) -> None:
    out, a, b = (
        tmp_path / "set",
        _picture(tmp_path / "a.png", (1, 2, 3)),
        _picture(tmp_path / "b.png", (4, 5, 6)),
    )
    assert _counts(_run(out, [a, b])) == (2, 0, 0, 0)
    assert _counts(_run(out, [a, b, b])) == (0, 3, 0, 0)
    os.utime(a, (1, 1))  # the time alone is no change
    c = _picture(tmp_path / "c.png", (7, 8, 9))
    assert _counts(_run(out, [a, b, c])) == (1, 2, 0, 0)
    _assert_is_of(out, [a, b, c])


def test_a_changed_file_replaces_its_earlier_version(tmp_path: Path) -> None:
    out, a, b = (
        tmp_path / "set",
        _picture(tmp_path / "a.png", (1, 2, 3)),
        _picture(tmp_path / "b.png", (4, 5, 6)),
    )
    _run(out, [a, b])
    _picture(a, (200, 100, 50))
    assert _counts(_run(out, [a, b])) == (1, 1, 0, 0)
    _assert_is_of(out, [a, b])


def test_a_renamed_file_is_not_embedded_again(tmp_path: Path) -> None:
    out, a = tmp_path / "set", _picture(tmp_path / "a.png", (1, 2, 3))
    _run(out, [a])
    moved = a.rename(tmp_path / "moved.png")
    assert _counts(_run(out, [moved])) == (0, 0, 1, 0)
    assert set(_contents(out)) == {str(a), str(moved)}
    assert _counts(_run(out, [moved], prune=True)) == (0, 1, 0, 1)
    _assert_is_of(out, [moved])


def test_nothing_is_dropped_unasked_and_not_all_of_it_even_then(tmp_path: Path) -> None:
    out, a, b = (
        tmp_path / "set",
        _picture(tmp_path / "p/a.png", (1, 2, 3)),
        _picture(tmp_path / "p/b.png", (4, 5, 6)),
    )
    _run(out, [a, b])
    b.unlink()
    assert _counts(_run(out, [a])) == (0, 1, 0, 0)
    assert len(_contents(out)) == 2
    shutil.rmtree(tmp_path / "p")
    with pytest.raises(
        ImageError, match="none of its 2 images exists any more, so nothing was removed: connect"
    ):
        _run(out, [], prune=True)
    assert len(_contents(out)) == 2


def test_images_without_a_file_are_never_pruned(tmp_path: Path) -> None:
    write_set(tmp_path / "set", [Embedded("image 1", np.ones(4, np.float32))], **MADE)
    assert _counts(_run(tmp_path / "set", [], prune=True)) == (0, 0, 0, 0)
    assert len(_contents(tmp_path / "set")) == 1


def test_a_name_that_is_not_unicode_is_found_again(tmp_path: Path) -> None:
    out, a = tmp_path / "set", _picture(tmp_path / "a.png", (1, 2, 3))
    odd = a.rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.png")))

    def row() -> Iterator[Embedded | Failure]:
        yield Embedded(f"{tmp_path}/\\xff\\xe9.png", np.ones(8, np.float32), None, digest_of(odd))
        yield Embedded("gone.png", np.ones(8, np.float32), None, FileVersion("0" * 64, (1, 2, 3)))

    write_set(out, row(), **MADE)
    assert _counts(_run(out, [], prune=True)) == (0, 0, 0, 1)
    assert set(_contents(out)) == {f"{tmp_path}/\\xff\\xe9.png"}
    assert _counts(_run(out, [odd])) == (0, 1, 0, 0)


def test_relative_names_start_where_the_set_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _picture(tmp_path / "photos/a.png", (1, 2, 3))
    _picture(tmp_path / "photos/b.png", (4, 5, 6))
    monkeypatch.chdir(tmp_path)
    _run(Path("set"), [Path("photos/a.png")])
    monkeypatch.chdir(tmp_path / "photos")
    assert _counts(_run(tmp_path / "set", [Path("a.png"), Path("b.png")])) == (1, 1, 0, 0)
    assert _counts(_run(tmp_path / "set", [], prune=True)) == (0, 0, 0, 0)
    assert set(_contents(tmp_path / "set")) == {"photos/a.png", "photos/b.png"}
    assert EmbeddingSet(tmp_path / "set").file_of("photos/b.png") == tmp_path / "photos/b.png"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model": "other/clip"}, "was made with the model some/clip, not other/clip: pass --clip some/clip"),
        (
            {"fingerprint": "g"},
            "was made with another version of some/clip or its preprocessing: choose a new",
        ),
        ({"dtype": "bfloat16"}, "was made in float32, not bfloat16: pass --dtype float32"),
        ({"decode": "reduced"}, "was made of images decoded at full size: choose a new folder"),
    ],
)
def test_embeddings_made_in_another_way_are_refused(
    tmp_path: Path, other: dict[str, str], message: str
) -> None:
    _run(tmp_path / "set", [_picture(tmp_path / "a.png", (1, 2, 3))])
    with pytest.raises(ImageError) as caught:
        _run(tmp_path / "set", [], made=MADE | other)
    assert str(caught.value).startswith(f"{tmp_path / 'set'} {message}")
    _run(tmp_path / "set", [], made=MADE | {"engine": "openvino"})  # which gives the same, as it is checked


def test_half_precision_is_a_property_of_the_set(tmp_path: Path) -> None:
    rows = [Embedded(str(n), row) for n, row in enumerate(np.eye(3, dtype=np.float32) + 0.1)]
    with SetWriter(tmp_path / "half", MADE, half=True) as writer:
        assert len(list(writer.take(rows[:2]))) == 2
    write_set(tmp_path / "half", rows[2:], **MADE)
    parts = EmbeddingSet(tmp_path / "half").parts()
    assert [part.vectors.dtype for part in parts] == [np.float16, np.float16]
    np.testing.assert_allclose(np.linalg.norm(EmbeddingSet(tmp_path / "half").vectors, axis=1), 1, atol=1e-3)
    write_set(tmp_path / "full", rows, **MADE)
    with (
        pytest.raises(ImageError, match="holds float32: leave out --half"),
        SetWriter(tmp_path / "full", MADE, half=True),
    ):
        pass


def test_only_one_process_writes_a_set(tmp_path: Path) -> None:
    with (
        SetWriter(tmp_path / "set", MADE),
        pytest.raises(ImageError, match="is being written by another process"),
    ):
        _run(tmp_path / "set", [])


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda out: (out / "img_emb/img_emb_0000.npy").unlink(),
            "is incomplete: img_emb_0000.npy is missing",
        ),
        (
            lambda out: (out / "metadata/metadata_0000.parquet").unlink(),
            "incomplete: metadata_0000.parquet is",
        ),
        (lambda out: _truncate(out / "img_emb/img_emb_0000.npy"), "but is shorter: restore the folder"),
        (lambda out: (out / "manifest.json").write_text("{"), "Input data was truncated: restore the folder"),
        (lambda out: (out / "manifest.json").write_text('{"format": "other"}'), "its format is not"),
        (
            lambda out: np.save(out / "img_emb/img_emb_0000.npy", np.ones((2, 4))),
            "and the manifest says (1, 8)",
        ),
    ],
)
def test_a_damaged_set_is_refused_by_readers_and_writers(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    out = tmp_path / "set"
    _run(out, [_picture(tmp_path / "a.png", (1, 2, 3))])
    damage(out)
    for use in (lambda: list(EmbeddingSet(out)), lambda: _run(out, [])):
        with pytest.raises(ImageError) as caught:
            use()
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "at", "message"),
    [
        ("img_emb/img_emb_0000.npy", b"", "img_emb_0000.npy is damaged: restore the folder"),
        ("metadata/metadata_0000.parquet", b"a.png", "metadata_0000.parquet cannot be read: "),
    ],
)
def test_a_single_changed_bit_of_a_shard_is_found(tmp_path: Path, name: str, at: bytes, message: str) -> None:
    out = tmp_path / "set"
    _run(out, [_picture(tmp_path / "a.png", (1, 2, 3))])
    content = bytearray((out / name).read_bytes())
    content[content.index(at) if at else -1] ^= 1
    (out / name).write_bytes(content)
    with pytest.raises(ImageError, match=message):
        list(EmbeddingSet(out))


def test_errors_of_a_recovered_block_are_not_counted_as_images(tmp_path: Path) -> None:
    out, row = tmp_path / "set", np.eye(1, 8, dtype=np.float32)[0]
    with SetWriter(out, MADE, of_blocks=True) as writer:
        writer.add_block("first", [Embedded("a", row, None, None)])
    vectors = np.stack([row, 0 * row])
    write_shard(out, 1, [("b", None), ("c", None)], vectors, MADE, block="second", errors=[None, "broken"])
    with SetWriter(out, MADE, of_blocks=True) as writer:
        assert writer.blocks == {"first": 1, "second": 1}
        assert (writer.manifest.rows, writer.manifest.images) == (3, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"next": 0},
        {"rows": 7},
        {"dim": "8"},
        {"stored": "float8"},
        {"next": 10**12},
        {"dim": -1, "rows": 0, "shards": []},
        {"shards": [{"vectors": "../a.npy", "metadata": "b.parquet", "rows": 1, "sha256": ""}]},
        {"shards": [{"vectors": "img_emb/img_emb_0000.npy", "metadata": "metadata/metadata_0001.parquet"}]},
    ],
)
def test_a_manifest_is_not_believed(tmp_path: Path, change: dict[str, Any]) -> None:
    _run(tmp_path / "set", [_picture(tmp_path / "a.png", (1, 2, 3))])
    path = tmp_path / "set" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ImageError, match="is not the manifest of an embedding set"):
        list(EmbeddingSet(tmp_path / "set"))


def test_a_shard_that_was_not_named_yet_is_recovered(tmp_path: Path) -> None:
    out, a = tmp_path / "set", _picture(tmp_path / "a.png", (1, 2, 3))
    _run(out, [a])
    b = _picture(tmp_path / "b.png", (4, 5, 6))
    row = _vector(b)[None] / np.linalg.norm(_vector(b))
    write_shard(out, 5, [(str(b), digest_of(b))], row, MADE)  # as a process of many does, in no order
    (out / "img_emb/img_emb_0006.npy").write_bytes(b"half of it")
    (out / "img_emb" / f".img_emb_0007.npy.{'0' * 16}.tmp").write_bytes(b"less")
    assert len(_contents(out)) == 1
    with logged() as messages:
        assert _counts(_run(out, [a, b])) == (0, 2, 0, 0)
    assert messages == [f"{out}: recovered 1 shard of a run that was stopped"]
    _assert_is_of(out, [a, b])
    assert sorted(path.name for path in (out / "img_emb").iterdir()) == [
        "img_emb_0000.npy",
        "img_emb_0005.npy",
    ]


def test_a_shard_of_another_set_is_not_taken_for_one(tmp_path: Path) -> None:
    out, a = tmp_path / "set", _picture(tmp_path / "a.png", (1, 2, 3))
    _run(out, [a])
    write_shard(out, 1, [("b", None)], np.ones((1, 8), np.float32), MADE | {"model": "other/clip"})
    with pytest.raises(
        ImageError, match=r"holds img_emb/img_emb_0001.npy, which is not part of the set: move"
    ):
        _run(out, [a])
    assert (out / "img_emb/img_emb_0001.npy").exists()


def test_many_small_shards_are_merged(tmp_path: Path) -> None:
    images = [_picture(tmp_path / f"{n}.png", (n, 2, 3)) for n in range(embedding_writer.MAX_SMALL + 3)]
    for count in range(1, len(images) + 1):
        _run(tmp_path / "set", images[:count])
    assert len(EmbeddingSet(tmp_path / "set").parts()) <= embedding_writer.MAX_SMALL
    _assert_is_of(tmp_path / "set", images)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "delete", "move", "run", "prune"]), st.integers(0, 3), st.integers(0, 3)
        ),
        max_size=10,
    )
)
def test_after_any_history_the_set_is_what_one_run_would_make(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    _picture(folder / "always.png", (0, 0, 255))
    paths = [folder / f"{n}.png" for n in range(4)]
    for step, first, second in steps:
        if step == "write":
            _picture(paths[first], (first, second, 9))
        elif step == "delete":
            paths[first].unlink(missing_ok=True)
        elif step == "move" and paths[first].exists():
            paths[first].rename(paths[second])
        elif step in ("run", "prune"):
            _run(folder / "set", sorted(folder.glob("*.png")), prune=step == "prune")
    present = sorted(folder.glob("*.png"))
    _run(folder / "set", present, prune=True)
    _assert_is_of(folder / "set", present)


KILLED = """
import sys
from pathlib import Path
from fieldmarks.classification import embedding_writer
from tests.classification.test_embedding_writer import _run
embedding_writer.ROWS = 5
_run(Path(sys.argv[1]), sorted(Path(sys.argv[2]).glob("*.png")))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_is_continued(tmp_path: Path) -> None:
    images = [_picture(tmp_path / "p" / f"{n:02}.png", (n, 2, 3)) for n in range(60)]
    whole = 0
    for attempt in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "set"), str(tmp_path / "p")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        manifest = tmp_path / "set" / "manifest.json"
        while process.poll() is None and not (manifest.exists() and EmbeddingSet(tmp_path / "set").parts()):
            pass
        try:
            process.wait(0.004 * attempt)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), output.decode()
        rows = list(EmbeddingSet(tmp_path / "set"))  # what is named can be read at any moment
        assert len(rows) >= whole
        whole = len(rows)
    _run(tmp_path / "set", images)
    _assert_is_of(tmp_path / "set", images)


@pytest.mark.slow
def test_embed_from_python_adds_and_prunes(tmp_path: Path, tiny_clip: Path) -> None:
    a, b = _picture(tmp_path / "p/a.png", (1, 2, 3)), _picture(tmp_path / "p/b.png", (200, 5, 6))
    clip: dict[str, Any] = {"clip": tiny_clip, "dtype": "float32", "engine": "torch"}
    first = embed(tmp_path / "p", tmp_path / "set", **clip)
    manifest = first.manifest
    assert manifest is not None
    assert (manifest.model, manifest.decode, len(manifest.fingerprint or "")) == (str(tiny_clip), "full", 64)
    names, before = first.images, first.vectors
    b.unlink()
    _picture(tmp_path / "p/c.png", (9, 200, 9))
    again = embed(tmp_path / "p", tmp_path / "set", prune=True, **clip)
    assert sorted(again.images) == [str(a), str(tmp_path / "p/c.png")]
    vectors = dict(zip(names, before, strict=True))
    np.testing.assert_array_equal(again.vectors[again.images.index(str(a))], vectors[str(a)])
