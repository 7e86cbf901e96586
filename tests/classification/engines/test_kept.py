"""Converted models on disk: whole or not at all, bounded, found damaged where they are, and nothing else."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldmarks.classification.cache import EmbeddingCache
from fieldmarks.classification.engines import model_cache

ONE = "1" * 32  # as a model's folder is called


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A kept folder of two files."""
    model_cache.keep(tmp_path / "converted-2" / ONE, _write)
    return tmp_path / "converted-2" / ONE


def _write(folder: Path) -> model_cache.Metadata:
    (folder / "texts.bin").write_bytes(b"0123456789")
    (folder / "texts.xml").write_text("<net/>")
    return {"facts": {"logit_scale": 100.0}}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _is_whole(folder: Path) -> bool:
    about = model_cache.read(folder)
    return about is not None and model_cache.is_whole(folder, about, EmbeddingCache().file_hash)


def test_what_is_kept_is_read(folder: Path) -> None:
    about = model_cache.read(folder)
    assert about is not None
    assert about["facts"] == {"logit_scale": 100.0}
    assert _is_whole(folder)
    assert _names(folder.parent) == [ONE, model_cache.MARKER]


def test_it_is_its_users_alone(folder: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder.parent, folder, *folder.iterdir())}
    assert modes == {
        "converted-2": 0o700,
        ONE: 0o700,
        **dict.fromkeys(["about.json", "texts.bin", "texts.xml"], 0o600),
    }


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _turn_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _make_a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", ["about.json", "texts.bin", "texts.xml"])
@pytest.mark.parametrize("damage", [Path.unlink, _cut, _turn_a_bit, _make_a_pipe, _make_a_loop])
def test_damage_is_found_and_made_good(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    assert _is_whole(folder)
    damage(folder / name)
    assert not _is_whole(folder)
    if damage in (Path.unlink, _cut, _turn_a_bit):
        model_cache.keep(folder, _write)
        assert _is_whole(folder)


def test_every_bit_of_about_counts(folder: Path) -> None:
    whole = (folder / "about.json").read_bytes()
    for at in range(len(whole)):
        (folder / "about.json").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        about = model_cache.read(folder)
        assert about is None or about["facts"] == {"logit_scale": 100.0}


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> model_cache.Metadata:
        _write(folder)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        model_cache.keep(tmp_path / "converted-2" / ONE, fail)
    assert _names(tmp_path / "converted-2") == [model_cache.MARKER]


def test_another_process_may_be_first(folder: Path) -> None:
    def late(fresh: Path) -> model_cache.Metadata:
        model_cache.keep(folder, _write)
        return _write(fresh)

    model_cache.keep(folder, late)
    assert _is_whole(folder)
    assert _names(folder.parent) == [ONE, model_cache.MARKER]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "converted-2").mkdir()
    (tmp_path / "converted-2" / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match="fieldmarks did not create it"):
        model_cache.keep(tmp_path / "converted-2" / ONE, _write)
    assert _names(tmp_path / "converted-2") == ["notes.txt"]
    assert model_cache.models(tmp_path / "converted-2") == []


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("/"), None])
def test_what_lies_in_a_models_place_is_left_alone(
    tmp_path: Path, make: Callable[[Path], None] | None
) -> None:
    place = tmp_path / "converted-2" / ONE
    model_cache.keep(place.with_name("2" * 32), _write)
    if make is None:
        place.mkdir()
        (place / "notes.txt").write_text("mine")
    else:
        make(place)
    before = place.lstat()
    with pytest.raises(OSError, match="it is not a converted model"):
        model_cache.keep(place, _write)
    model_cache.drop(place)
    assert place.lstat().st_ino == before.st_ino
    assert _names(place.parent) == [ONE, "2" * 32, model_cache.MARKER]


def test_only_our_files_are_dropped(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    model_cache.drop(folder)
    assert _names(folder) == ["notes.txt"]


def test_those_used_last_stay(tmp_path: Path) -> None:
    def large(folder: Path) -> model_cache.Metadata:
        (folder / "texts.bin").write_bytes(bytes(40_000))
        return {}

    root = tmp_path / "converted-2"
    for age, name in enumerate(("1", "2")):
        model_cache.keep(root / (name * 32), large, limit=100_000)
        os.utime(root / (name * 32), (1000 + age, 1000 + age))
    (root / "notes").mkdir()
    assert model_cache.is_whole(root / ("1" * 32), {"files": {"texts.bin": "x"}}, lambda _: "x")
    model_cache.keep(root / ("3" * 32), _write, limit=100_000)
    assert _names(root) == ["1" * 32, "2" * 32, "3" * 32, model_cache.MARKER, "notes"]
    model_cache.keep(root / ("4" * 32), large, limit=100_000)
    assert _names(root) == ["1" * 32, "3" * 32, "4" * 32, model_cache.MARKER, "notes"]


KILLED = """
import os, signal, sys
from pathlib import Path
from fieldmarks.classification.engines import model_cache
def write(folder):
    (folder / "texts.bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
model_cache.keep(Path(sys.argv[1]), write)
"""


@pytest.mark.slow
def test_the_scratch_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    root = tmp_path / "converted-2"
    subprocess.run([sys.executable, "-c", KILLED, str(root / ONE)], timeout=60)
    (scratch, _) = sorted(root.iterdir())
    assert _names(scratch) == ["model", "owner"]
    assert model_cache.models(root) == [scratch]
    model_cache.keep(root / ONE, _write)
    assert _names(root) == [ONE, model_cache.MARKER]


def test_the_scratch_of_a_living_process_stays(folder: Path) -> None:
    scratch = folder.parent / f"{model_cache.SCRATCH}abc"
    scratch.mkdir()
    model_cache.drop_stale(folder.parent)  # its owner is about to take it
    with (scratch / "owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        model_cache.drop_stale(folder.parent)
        assert _names(folder.parent) == [scratch.name, ONE, model_cache.MARKER]
    model_cache.drop_stale(folder.parent)
    assert _names(folder.parent) == [ONE, model_cache.MARKER]


def test_what_only_looks_like_scratch_stays(folder: Path) -> None:
    scratch = folder.parent / f"{model_cache.SCRATCH}abc"
    scratch.mkdir()
    (scratch / "notes.txt").write_text("mine")
    os.mkfifo(folder.parent / f"{model_cache.SCRATCH}pipe")
    empty = folder.parent / f"{model_cache.SCRATCH}empty"
    empty.mkdir()
    os.utime(empty, (time.time() - 7200,) * 2)
    model_cache.drop_stale(folder.parent)
    assert _names(folder.parent) == [
        f"{model_cache.SCRATCH}abc",
        f"{model_cache.SCRATCH}pipe",
        ONE,
        model_cache.MARKER,
    ]
