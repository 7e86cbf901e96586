"""Embeddings kept on disk: one SQLite file in the user's cache folder, shared by all processes.

A key is a SHA-256 over everything that an embedding depends on; a value is its float32 numbers. The file
is bounded: when it is full, the oldest tenth goes. What lies here can be computed again, so a cache that
cannot be used is told of once and gone without.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldmarks.paths import user_cache

LIMIT: Final = 2 * 2**30  # bytes; about 900,000 embeddings of 512 numbers
_SCHEMA: Final = 2
_KEYS_PER_QUERY: Final = 500

Array = NDArray[np.float32]
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """Where a cache is, how many things it holds, and the bytes it takes of those it may take."""

    path: Path
    entries: int
    size: int
    limit: int


class EmbeddingCache:
    """Embeddings by key, safe under several threads and processes; `notices` tells of a cache without use."""

    def __init__(self, path: Path | None = None, *, limit: int = LIMIT) -> None:
        self.path = path or user_cache() / "embeddings.sqlite3"
        self.notices: list[str] = []
        self._limit = limit
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._usable = True

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Array]:
        """Return those of the embeddings that are here, each (D,)."""
        found: dict[bytes, Array] = {}
        for at in range(0, len(keys), _KEYS_PER_QUERY):
            some = keys[at : at + _KEYS_PER_QUERY]
            query = f"SELECT key, vector FROM embeddings WHERE key IN ({','.join('?' * len(some))})"
            for key, blob in self._rows(query, some):
                vector = _vector(blob)
                if vector is not None:
                    found[key] = vector
        return found

    def put(self, vectors: Mapping[bytes, Array]) -> None:
        """Keep embeddings, each (D,), in one transaction."""
        rows = [(key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()]

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)
            self._evict(db)

        self._with(write, None)

    def file_hash(self, path: Path) -> str:
        """Return a file's SHA-256; that of an unchanged file is remembered.

        Unchanged are its path, size and both times: that of modification alone is often set anew, as by
        `cp -p` or an archive.
        """
        status = path.stat()
        stamp = (str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        query = "SELECT sha256 FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?"
        for (known,) in self._rows(query, stamp):
            return str(known)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()

        def remember(db: sqlite3.Connection) -> None:
            with db:
                db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*stamp, digest))

        self._with(remember, None)
        return digest

    def info(self) -> CacheInfo:
        """Return the cache's place, content and size, without making one."""
        if not self.path.exists():
            return CacheInfo(self.path, 0, 0, self._limit)
        entries = sum(int(count) for (count,) in self._rows("SELECT count(*) FROM embeddings", ()))
        return CacheInfo(self.path, entries, sum(one.stat().st_size for one in self._files()), self._limit)

    def clear(self) -> int:
        """Remove the cache's files and return the bytes that became free."""
        freed = sum(one.stat().st_size for one in self._files())
        self.close()
        for one in self._files():
            one.unlink(missing_ok=True)
        return freed

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._lock:
            if self._connection:
                self._connection.close()
            self._connection = None

    def _files(self) -> Iterable[Path]:
        names = (self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm")))
        return [name for name in names if name.exists()]

    def _rows(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        return self._with(lambda db: db.execute(query, values).fetchall(), [])

    def _with(self, use: Callable[[sqlite3.Connection], Out], otherwise: Out) -> Out:
        """Use the connection; the first failure is told and ends the cache's part in this run."""
        with self._lock:
            if not self._usable:
                return otherwise
            try:
                if self._connection is None:
                    self._connection = self._open()
                return use(self._connection)
            except (sqlite3.Error, OSError) as error:
                self._usable = False
                self.notices.append(
                    f"the embedding cache {self.path} cannot be used ({error}): going on without;"
                    " `fieldmarks cache clear` makes a new one"
                )
                return otherwise

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
        with suppress(sqlite3.OperationalError):  # another process is making the same change
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")  # a power cut costs the cache, not anything of the user's
        if _version(db) != _SCHEMA:
            with db:
                db.execute("BEGIN IMMEDIATE")
                if _version(db) == _SCHEMA:  # another process was first
                    return db
                db.execute("DROP TABLE IF EXISTS embeddings")
                db.execute("CREATE TABLE embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
                db.execute("DROP TABLE IF EXISTS files")
                columns = "path TEXT PRIMARY KEY, size INT, mtime_ns INT, ctime_ns INT, sha256 TEXT"
                db.execute(f"CREATE TABLE files ({columns})")
                db.execute(f"PRAGMA user_version = {_SCHEMA}")
        return db

    def _evict(self, db: sqlite3.Connection) -> None:
        """Drop the oldest tenth while the file is over its limit; SQLite fills the room again."""
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > self._limit:
            with db:
                db.execute(
                    "DELETE FROM embeddings WHERE rowid IN (SELECT rowid FROM embeddings ORDER BY rowid"
                    " LIMIT (SELECT count(*) / 10 + 1 FROM embeddings))"
                )


def key_of(*parts: str | bytes) -> bytes:
    """Return one key for parts in their order."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _vector(blob: object) -> Array | None:
    """Return a value as an array, or None if it is not a list of finite numbers."""
    if not isinstance(blob, bytes) or not blob or len(blob) % 4:
        return None
    vector = np.frombuffer(blob, "<f4").astype(np.float32)
    return vector if np.isfinite(vector).all() else None
