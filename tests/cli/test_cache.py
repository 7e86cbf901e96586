"""`fieldmarks cache`: what is kept, and clearing it; what is not ours stays."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fieldmarks.classification.cache import NAME, EmbeddingCache, key_of
from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import open_embedder
from fieldmarks.classification.engines import model_cache
from fieldmarks.cli import main
from fieldmarks.generation.dialects import EndpointProfile, remember
from fieldmarks.paths import user_cache

MODEL = "1" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that does not exist yet, without the converted models that other tests share."""
    monkeypatch.setenv("FIELDMARKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.slow
def test_info_and_clear(runner: CliRunner, tiny_clip: Path, folder: Path) -> None:
    pytest.importorskip("openvino")
    embeddings, models = user_cache() / NAME, user_cache() / model_cache.FOLDER
    empty = [
        str(embeddings),
        "0 embeddings, 0.0 MB of 2147.5 MB",
        str(models),
        "0 converted models, 0.0 MB of 8589.9 MB",
        str(user_cache() / "endpoints"),
        "0 remembered endpoints, 0.0 MB",
    ]
    assert runner.invoke(main, ["cache", "info"]).stdout.splitlines() == empty
    assert runner.invoke(main, ["cache", "clear"]).stderr == "Freed 0.0 MB.\n"
    clip = open_embedder(str(tiny_clip), device="cpu", engine="openvino")
    Classifier(["owl", "newt"], clip=clip)
    shown = runner.invoke(main, ["cache", "info"]).stdout.splitlines()
    assert shown[1].startswith("3 embeddings, 0.")
    assert shown[3].startswith("1 converted model, ")
    assert not shown[3].startswith("1 converted model, 0.0 MB")
    cleared = runner.invoke(main, ["cache", "clear"])
    assert cleared.exit_code == 0
    removed, other = cleared.stdout.splitlines()
    assert removed.startswith(f"Remove {models}: 1 converted model, 0.")
    assert other.startswith(f"Remove {embeddings}: 3 embeddings, 0.")
    assert cleared.stderr.startswith("Freed 0.")
    assert runner.invoke(main, ["cache", "info"]).stdout.splitlines() == empty
    assert list(folder.iterdir()) == []


def test_what_is_remembered_of_endpoints_is_counted_and_cleared(runner: CliRunner, folder: Path) -> None:
    remember("http://h/v1", "m", EndpointProfile("prefix"))
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "endpoints" / "notes.json").write_text("{}")
    shown = runner.invoke(main, ["cache", "info"]).stdout.splitlines()
    assert shown[4:] == [str(folder / "endpoints"), "1 remembered endpoint, 0.0 MB"]
    cleared = runner.invoke(main, ["cache", "clear"]).stdout.splitlines()
    assert cleared == [
        f"Remove {folder}/endpoints: 1 remembered endpoint, 0.0 MB",
        f"Leave {folder}/endpoints/notes.json: fieldmarks did not create it",
    ]
    assert [path.name for path in (folder / "endpoints").iterdir()] == ["notes.json"]
    (folder / "endpoints" / "notes.json").unlink()
    remember("http://h/v1", "m", EndpointProfile("prefix"))
    runner.invoke(main, ["cache", "clear"])
    assert list(folder.iterdir()) == []


def test_a_folder_with_remembered_endpoints_is_made_private(folder: Path) -> None:
    (folder / "endpoints").mkdir(parents=True)
    folder.chmod(0o755)
    EmbeddingCache().put({key_of("a"): np.ones(4, np.float32)})
    assert folder.stat().st_mode & 0o777 == 0o700


def _old_database(path: Path) -> None:
    """Make the embedding cache of version 0.1."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        columns = "path TEXT PRIMARY KEY, size INT, mtime_ns INT, ctime_ns INT, sha256 TEXT"
        db.execute(f"CREATE TABLE files ({columns})")
        db.execute("INSERT INTO embeddings VALUES (x'01', x'0000803f')")
        db.execute("PRAGMA user_version = 2")


def _old_model(folder: Path) -> None:
    """Make a converted model of version 0.1, which has no marker above it."""
    model_cache.keep(folder.parent.parent / model_cache.FOLDER / MODEL, lambda fresh: {})
    folder.parent.mkdir()
    (folder.parent.parent / model_cache.FOLDER / MODEL).rename(folder)
    model_cache.drop_root(folder.parent.parent / model_cache.FOLDER)


def test_what_version_01_left_is_cleared(runner: CliRunner, folder: Path) -> None:
    folder.mkdir()
    _old_database(folder / "embeddings.sqlite3")
    _old_model(folder / "engines" / MODEL)
    EmbeddingCache().put({key_of("a"): np.ones(4, np.float32)})  # which leaves them alone
    assert {path.name for path in folder.glob("*[!lm]")} == {"embeddings.sqlite3", "engines", NAME}
    shown = runner.invoke(main, ["cache", "clear"]).stdout
    assert f"Remove {folder}/embeddings.sqlite3: 1 embedding, 0.0 MB\n" in shown
    assert f"Remove {folder}/engines: 1 converted model, 0.0 MB\n" in shown
    assert list(folder.iterdir()) == []


def _other_table(path: Path) -> None:
    _old_database(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE notes (text TEXT)")


def _newer(path: Path) -> None:
    with closing(EmbeddingCache(path)) as cache:
        cache.put({key_of("a"): np.ones(4, np.float32)})
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 4")


def _model_of_somebody_else(path: Path) -> None:
    (path / MODEL).mkdir(parents=True)
    (path / MODEL / "about.json").write_text(json.dumps({"sha256": "0", "about": {}}))


def _link(path: Path) -> None:
    target = path.parent.parent / "elsewhere"
    target.mkdir()
    model_cache.keep(target / model_cache.FOLDER / MODEL, lambda fresh: {})
    path.symlink_to(target / model_cache.FOLDER)


def _link_to_a_database(path: Path) -> None:
    _old_database(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere")


FOREIGN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "another folder engines": ("engines", lambda path: (path / "diesel").mkdir(parents=True)),
    "a model of somebody else": ("engines", _model_of_somebody_else),
    "a file engines": ("engines", Path.touch),
    "a folder without our marker": (model_cache.FOLDER, lambda path: (path / "notes").mkdir(parents=True)),
    "a symlink out of the cache": (model_cache.FOLDER, _link),
    "a database of somebody else": ("embeddings.sqlite3", _other_table),
    "an old name with another content": ("embeddings.sqlite3", lambda path: path.write_text("notes")),
    "a newer cache": (NAME, _newer),
    "a text": (NAME, lambda path: path.write_text("notes")),
    "a folder": (NAME, Path.mkdir),
    "a pipe": (NAME, os.mkfifo),
    "a symlinked cache": (NAME, _link_to_a_database),
    "photos": ("photos", Path.mkdir),
    "a log of a database that is not there": (f"{NAME}-wal", Path.touch),
}


def _everything(folder: Path) -> dict[str, object]:
    return {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(("name", "make"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_ours_is_named_and_left(
    runner: CliRunner, folder: Path, name: str, make: Callable[[Path], object]
) -> None:
    folder.mkdir()
    make(folder / name)
    before = _everything(folder.parent)
    for command in ("info", "clear", "clear"):
        result = runner.invoke(main, ["cache", command])
        assert result.exit_code == 0
        assert _everything(folder.parent) == before
    left = result.stdout.splitlines()
    assert len(left) == 1
    assert left[0].startswith(f"Leave {folder}/{name}")
    assert result.stderr == "Freed 0.0 MB.\n"


def test_what_lies_between_our_things_stays(runner: CliRunner, folder: Path) -> None:
    EmbeddingCache().put({key_of("a"): np.ones(4, np.float32)})
    model_cache.keep(model_cache.folder_of("a"), lambda fresh: {})
    (model_cache.folder_of("a") / "notes.txt").write_text("mine")
    (folder / model_cache.FOLDER / "notes.txt").write_text("mine")
    result = runner.invoke(main, ["cache", "clear"])
    assert f"Leave {folder / model_cache.FOLDER / 'notes.txt'}: " in result.stdout
    assert {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} == {
        Path(model_cache.FOLDER) / model_cache.MARKER,
        Path(model_cache.FOLDER) / "notes.txt",
        model_cache.folder_of("a").relative_to(folder) / "notes.txt",
    }
