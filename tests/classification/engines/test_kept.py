"""Converted models on disk: whole or not at all, bounded, and found damaged where they are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldmarks.classification.cache import EmbeddingCache
from fieldmarks.classification.engines import kept


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A kept folder of two files."""
    kept.keep(tmp_path / "engines" / "one", _write)
    return tmp_path / "engines" / "one"


def _write(folder: Path) -> kept.About:
    (folder / "weights.bin").write_bytes(b"0123456789")
    (folder / "graph.xml").write_text("<net/>")
    return {"facts": {"logit_scale": 100.0}}


def _is_whole(folder: Path) -> bool:
    about = kept.read(folder)
    return about is not None and kept.is_whole(folder, about, EmbeddingCache().file_hash)


def test_what_is_kept_is_read(folder: Path) -> None:
    about = kept.read(folder)
    assert about is not None
    assert about["facts"] == {"logit_scale": 100.0}
    assert _is_whole(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _turn_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["about.json", "weights.bin", "graph.xml"])
@pytest.mark.parametrize("damage", [Path.unlink, _cut, _turn_a_bit])
def test_damage_is_found(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    assert _is_whole(folder)
    damage(folder / name)
    assert not _is_whole(folder)


def test_every_bit_of_about_counts(folder: Path) -> None:
    whole = (folder / "about.json").read_bytes()
    for at in range(len(whole)):
        (folder / "about.json").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        about = kept.read(folder)
        assert about is None or about["facts"] == {"logit_scale": 100.0}


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> kept.About:
        _write(folder)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        kept.keep(tmp_path / "engines" / "one", fail)
    assert list((tmp_path / "engines").iterdir()) == []


def test_another_process_may_be_first(folder: Path) -> None:
    def late(fresh: Path) -> kept.About:
        kept.keep(folder, _write)
        return _write(fresh)

    kept.keep(folder, late)
    assert _is_whole(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_those_used_last_stay(tmp_path: Path) -> None:
    def large(folder: Path) -> kept.About:
        with (folder / "weights.bin").open("wb") as file:
            file.truncate(kept.LIMIT * 2 // 5)  # a file without blocks
        return {}

    root = tmp_path / "engines"
    digest = "not looked at"
    for age, name in enumerate(("first", "second")):
        (root / name).mkdir(parents=True)
        large(root / name)
        (root / name / "about.json").write_text(digest)
        os.utime(root / name, (1000 + age, 1000 + age))
    assert not kept.is_whole(root / "first", {"files": {"weights.bin": digest}}, lambda _: "another")
    kept.keep(root / "third", _write)
    assert {path.name for path in root.iterdir()} == {"first", "second", "third"}
    (root / "fourth").mkdir()
    large(root / "fourth")
    kept.keep(root / "fifth", _write)
    assert {path.name for path in root.iterdir()} == {"first", "third", "fourth", "fifth"}
