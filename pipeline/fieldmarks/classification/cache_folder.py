"""The contents of the user's cache folder: what fieldmarks created, its size, and how it is cleared.

Removed is only what carries a mark of ours: a database whose header, or in version 0.1 whose tables, are
those of an embedding cache, folders of converted models whose checksums hold, and files that say how an
endpoint is asked, which generation/probe.py writes. Symlinks are not followed.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fieldmarks.classification import cache
from fieldmarks.classification.cache import EmbeddingCache, files_of
from fieldmarks.classification.engines import model_cache
from fieldmarks.errors import FieldmarksError
from fieldmarks.paths import open_regular, read_regular, user_cache

KNOWN_ENDPOINT: Final = "remembered endpoint"
OLD_NAME: Final = "embeddings.sqlite3"  # of version 0.1
ENDPOINTS: Final = "endpoints"
_ENDPOINT: Final = re.compile(r"[0-9a-f]{24}\.(json|\d+)")
_LARGEST_ENDPOINT: Final = 1 << 16  # bytes
_OLD_SCHEMA: Final = {
    (b"embeddings", b"CREATE TABLE embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"),
    (
        b"files",
        b"CREATE TABLE files (path TEXT PRIMARY KEY, size INT, mtime_ns INT, ctime_ns INT, sha256 TEXT)",
    ),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One thing in the cache folder. `reason` says why it is not ours to remove; None if it is."""

    path: Path
    kind: str  # "embedding", "converted model"
    entries: int = 0
    size: int = 0
    reason: str | None = None
    remove: Callable[[], None] = lambda: None


def parts() -> Iterator[Part]:
    """Yield what is in the cache folder, in the order of names. Raises FieldmarksError."""
    folder = user_cache()
    if not folder.is_dir():
        return
    try:
        yield from _parts(folder)
    except OSError as error:
        raise FieldmarksError(f"{error.filename or folder} cannot be read: {error.strerror}") from error


def _parts(folder: Path) -> Iterator[Part]:
    databases = {folder / cache.NAME, folder / OLD_NAME}
    beside = {path for name in databases for path in files_of(name)} - databases
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            yield Part(path, "", reason="it is a symlink")
        elif path.name in (cache.NAME, OLD_NAME):
            yield _database(path)
        elif path.name in (model_cache.FOLDER, model_cache.OLD_FOLDER) and path.is_dir():
            yield from _models(path)
        elif path.name == ENDPOINTS and path.is_dir():
            yield from _endpoints(path)
        elif path not in beside or not _is_ours(_main(path)):
            yield Part(path, "", reason="fieldmarks did not create it")


def _database(path: Path) -> Part:
    if not _is_ours(path):
        return Part(path, "", reason="it is not an embedding cache of this version or of 0.1")
    size = sum(file.stat().st_size for file in files_of(path))

    def remove() -> None:
        for file in files_of(path):
            file.unlink(missing_ok=True)

    return Part(path, "embedding", _count(path), size, remove=remove)


def endpoints() -> tuple[Path, int, int]:
    """Return the path, number and size in bytes of the remembered endpoint settings.

    Raises FieldmarksError.
    """
    folder = user_cache() / ENDPOINTS
    try:
        ours = [path for path in folder.iterdir() if _is_endpoint(path)] if folder.is_dir() else []
        return folder, len(ours), sum(path.stat().st_size for path in ours)
    except OSError as error:
        raise FieldmarksError(f"{error.filename or folder} cannot be read: {error.strerror}") from error


def _endpoints(folder: Path) -> Iterator[Part]:
    """Yield what is known of endpoints, as one part, and whatever else lies there."""
    ours = [path for path in sorted(folder.iterdir()) if _is_endpoint(path)]
    others = sorted(set(folder.iterdir()) - set(ours))

    def remove() -> None:
        for path in ours:
            path.unlink(missing_ok=True)
        if not others:
            folder.rmdir()

    if ours:
        yield Part(
            folder, KNOWN_ENDPOINT, len(ours), sum(path.stat().st_size for path in ours), remove=remove
        )
    elif not others:
        yield Part(folder, "", reason="fieldmarks did not create it")
    for path in others:
        yield Part(path, "", reason="fieldmarks did not create it")


def _is_endpoint(path: Path) -> bool:
    """Whether a file says how an endpoint is asked, or is a draft of one."""
    try:
        if not _ENDPOINT.fullmatch(path.name) or path.is_symlink():
            return False
        known = json.loads(read_regular(path, _LARGEST_ENDPOINT) or b"{}")
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(known, dict) and ("mode" in known or path.suffix != ".json")


def _models(root: Path) -> Iterator[Part]:
    """Yield the converted models below a folder, as one part, and whatever else lies there."""
    models = model_cache.models(root)
    others = sorted(set(root.iterdir()) - set(models) - {root / model_cache.MARKER})

    def remove() -> None:
        for folder in models:
            model_cache.drop(folder)
        model_cache.drop_root(root)

    if models or (root / model_cache.MARKER).is_file():
        size = sum(map(model_cache.size_of, models))
        finished = [folder for folder in models if not folder.name.startswith(model_cache.SCRATCH)]
        yield Part(root, "converted model", len(finished), size, remove=remove)
    elif not others:
        yield Part(root, "", reason="fieldmarks did not create it")
    for path in others:
        yield Part(path, "", reason="fieldmarks did not create it, or it is damaged")


def _main(path: Path) -> Path:
    return path.with_name(path.name.rpartition("-")[0])


def _is_ours(path: Path) -> bool:
    return cache.is_ours(path) if path.name == cache.NAME else _is_old(path)


def _is_old(path: Path) -> bool:
    """Whether a file is the embedding cache of version 0.1: it has exactly its tables."""
    try:
        with closing(_read_only(path)) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            tables = set(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        return version == 2 and tables == _OLD_SCHEMA
    except (sqlite3.Error, OSError, ValueError):
        return False


def _count(path: Path) -> int:
    try:
        if path.name == cache.NAME:
            with closing(EmbeddingCache(path)) as embeddings:
                return embeddings.info().entries
        with closing(_read_only(path)) as db:
            return int(db.execute("SELECT count(*) FROM embeddings").fetchone()[0])
    except (sqlite3.Error, OSError, ValueError):
        return 0


def _read_only(path: Path) -> sqlite3.Connection:
    """Open a database so that nothing of it changes, not even by SQLite's own repair. Raises OSError."""
    os.close(open_regular(path, follow=False))
    db = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    db.text_factory = bytes
    db.execute("PRAGMA trusted_schema = OFF")
    return db
