"""The embedding cache: one SQLite file in the user's cache folder, shared by all processes.

A key is a SHA-256 over everything that an embedding depends on; a value is its float32 numbers, with a
checksum over both, so that a row that was damaged, exchanged or put there by hand is a miss. The file is
bounded: when it is full, the tenth that was used longest ago goes. What lies here can be computed again: a
cache that cannot be used is reported once, and the run goes on without it.

The file is ours if its header says so (application_id and user_version); any other file of this name,
also one that a newer fieldmarks wrote, is left as it is. Its name has the version of its schema:

    embeddings  id, key, vector (little-endian float32), checksum
    uses        id of an embedding, used (nanoseconds since 1970)
    files       key (of a path), state (size, mtime, ctime and SHA-256 of its content), checksum
"""

import hashlib
import logging
import os
import sqlite3
import stat
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldmarks.paths import make_private, open_regular, user_cache
from fieldmarks.text import printable

logger = logging.getLogger(__name__)

NAME: Final = "embeddings-3.sqlite3"
LIMIT: Final = 2 * 2**30  # bytes; about 900,000 embeddings of 512 numbers
APPLICATION: Final = int.from_bytes(b"fmrk", "big")  # SQLite's application_id
VERSION: Final = 3  # SQLite's user_version
_SCHEMA: Final = {
    "embeddings": "CREATE TABLE embeddings"
    " (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, vector BLOB NOT NULL, checksum BLOB NOT NULL)",
    "uses": "CREATE TABLE uses (id INTEGER PRIMARY KEY, used INTEGER NOT NULL)",
    "files": "CREATE TABLE files (key BLOB PRIMARY KEY, state BLOB NOT NULL, checksum BLOB NOT NULL)",
}
_KEYS_PER_QUERY: Final = 500
_WAIT: Final = 5.0  # seconds for a lock of another process, which holds it for milliseconds
_LONGEST_VECTOR: Final = 1e9  # the length of an embedding; more is damage, as CLIP's have about 10
_LONGEST: Final = 2**20  # bytes of a vector
_FILE_STATE: Final = struct.Struct("<qqq32s")

Array = NDArray[np.float32]
Out = TypeVar("Out")


class ForeignFileError(Exception):
    """A file in the cache's place that this version of fieldmarks did not write; it is left alone."""


# What comes of a file that cannot be used; ValueError is of an error whose text cannot be decoded.
_DAMAGE: Final = (sqlite3.Error, OSError, ValueError, ForeignFileError)


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """A cache's path, number of entries, size in bytes and size limit."""

    path: Path
    entries: int
    size: int
    limit: int


class EmbeddingCache:
    """Embeddings by key, safe under several threads and processes; `problem` says why it is not used."""

    def __init__(self, path: Path | None = None, *, limit: int = LIMIT) -> None:
        self.path = path or user_cache() / NAME
        self.problem: str | None = None
        self._limit = limit
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._usable = True
        self._read: set[int] = set()  # ids of rows whose use is not written yet

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(EmbeddingCache, limit=self._limit), (self.path,)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Array]:
        """Return the cached ones of these embeddings, each (D,)."""
        vectors: dict[bytes, Array] = {}
        for at in range(0, len(keys), _KEYS_PER_QUERY):
            part = keys[at : at + _KEYS_PER_QUERY]
            query = (
                f"SELECT id, key, vector, checksum FROM embeddings WHERE key IN ({','.join('?' * len(part))})"
                f" AND typeof(vector) = 'blob' AND length(vector) <= {_LONGEST}"
            )
            read = []
            for row, key, blob, checksum in self._rows(query, part):
                vector = _vector(key, blob, checksum)
                if vector is not None:
                    vectors[key] = vector
                    read.append(row)
            with self._lock:
                self._read.update(read)
        return vectors

    def put(self, vectors: Mapping[bytes, Array]) -> None:
        """Store embeddings, each (D,), in one transaction."""
        blobs = {key: vector.astype("<f4").tobytes() for key, vector in vectors.items()}
        rows = [(key, blob, _checksum(key, blob)) for key, blob in blobs.items()]
        if not rows:
            return

        def write(db: sqlite3.Connection) -> None:
            now = time.time_ns()
            with db:
                db.executemany(
                    "INSERT INTO embeddings (key, vector, checksum) VALUES (?, ?, ?)"
                    " ON CONFLICT (key) DO UPDATE SET vector = excluded.vector, checksum = excluded.checksum",
                    rows,
                )
                db.executemany(
                    "INSERT OR REPLACE INTO uses SELECT id, ? FROM embeddings WHERE key = ?",
                    [(now, key) for key in blobs],
                )
            self._evict(db)

        self._with(write, None)

    def save_uses(self) -> None:
        """Write which embeddings were read, all at once; what was used longest ago is evicted first."""
        if self._read:
            self._with(self._write_uses, None)

    def file_hash(self, path: Path) -> str:
        """Return a file's SHA-256; that of an unchanged file is remembered.

        Unchanged are its path, size and both times: that of modification alone is often set anew, as by
        `cp -p` or an archive. Raises OSError, also for what is not a regular file.
        """
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        key = key_of("file", os.fsencode(path.resolve()))
        for state, checksum in self._rows("SELECT state, checksum FROM files WHERE key = ?", (key,)):
            if isinstance(state, bytes) and checksum == _checksum(key, state):
                *known, digest = _FILE_STATE.unpack(state)
                if tuple(known) == stamp:
                    return bytes(digest).hex()
        with os.fdopen(open_regular(path), "rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        state = _FILE_STATE.pack(*stamp, digest)

        def remember(db: sqlite3.Connection) -> None:
            with db:
                db.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (key, state, _checksum(key, state))
                )

        self._with(remember, None)
        return digest.hex()

    def info(self) -> CacheInfo:
        """Return the cache's path, content and size, without creating it."""
        if not self.path.is_file():
            return CacheInfo(self.path, 0, 0, self._limit)
        entries = sum(int(count) for (count,) in self._rows("SELECT count(*) FROM embeddings", ()))
        return CacheInfo(
            self.path, entries, sum(path.stat().st_size for path in files_of(self.path)), self._limit
        )

    def clear(self) -> int:
        """Remove the cache's files, if they are ours, and return the bytes that became free."""
        if not is_ours(self.path):
            return 0
        files = files_of(self.path)
        freed = sum(path.stat().st_size for path in files)
        self.close()
        for path in files:
            path.unlink(missing_ok=True)
        return freed

    def close(self) -> None:
        """Write pending uses and close the file; the next use opens it again."""
        self.save_uses()
        with self._lock:
            if self._connection:
                self._connection.close()
            self._connection = None

    def _rows(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        return self._with(lambda db: db.execute(query, values).fetchall(), [])

    def _with(self, use: Callable[[sqlite3.Connection], Out], otherwise: Out) -> Out:
        """Use the connection; the first failure is reported and ends the cache's part in this run."""
        with self._lock:
            if not self._usable:
                return otherwise
            try:
                if self._connection is None:
                    self._connection = _open(self.path)
                return use(self._connection)
            except _DAMAGE as error:
                self._usable = False
                self._read.clear()
                reason = printable(" ".join(str(getattr(error, "strerror", None) or error).split())[:200])
                remedy = "move it away or set FIELDMARKS_CACHE to another folder"
                if is_ours(self.path):
                    remedy = "`fieldmarks cache clear` removes it"
                self.problem = (
                    f"the embedding cache {self.path} cannot be used ({reason}): continuing without it;"
                    f" {remedy}"
                )
                logger.warning("%s", self.problem)
                return otherwise

    def _write_uses(self, db: sqlite3.Connection) -> None:
        now = time.time_ns()
        with db:
            db.executemany(
                "UPDATE uses SET used = ? WHERE id = ?", [(now, row) for row in sorted(self._read)]
            )
        self._read.clear()

    def _evict(self, db: sqlite3.Connection) -> None:
        """Drop the tenth used longest ago while the file is over its limit; SQLite fills the room again."""
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size <= self._limit:
            return
        self._write_uses(db)
        with db:
            db.execute(
                "DELETE FROM embeddings WHERE id IN (SELECT embeddings.id FROM embeddings LEFT JOIN uses"
                " USING (id) ORDER BY used, embeddings.id LIMIT (SELECT count(*) / 10 + 1 FROM embeddings))"
            )
            db.execute("DELETE FROM uses WHERE id NOT IN (SELECT id FROM embeddings)")


def key_of(*parts: str | bytes) -> bytes:
    """Return one key for parts in their order."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def files_of(path: Path) -> list[Path]:
    """Return the files of a SQLite database that are there: itself and those that SQLite puts beside it."""
    names = (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")))
    return [name for name in names if name.is_file() and not name.is_symlink()]


def is_ours(path: Path) -> bool:
    """Whether a file is an embedding cache of this version, as its header says."""
    try:
        return _header(path) == (APPLICATION, VERSION)
    except (OSError, ForeignFileError):
        return False


def _header(path: Path) -> tuple[int, int] | None:
    """Return application_id and user_version of a SQLite file, None for an empty file.

    SQLite is asked, and told not to change the file: closing a descriptor of the file that is not SQLite's
    would end the locks that its connections in this process hold, and other processes would then remove the
    log that these write. Only a file that is damaged or not ours is read without it. Raises
    ForeignFileError for what is not a SQLite file, OSError.
    """
    if path.is_file():
        with suppress(sqlite3.Error):
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as db:
                names = ("application_id", "user_version")
                application, version = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
            if application == APPLICATION:
                return application, version
    with os.fdopen(open_regular(path), "rb") as file:
        header = file.read(100)
    if not header:
        return None
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise ForeignFileError("it is not a SQLite database")
    return int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big")


def _open(path: Path) -> sqlite3.Connection:
    """Open the cache's file, and make it where it is not there.

    Raises ForeignFileError for a file that is not ours, OSError, sqlite3.Error.
    """
    header = _header(path) if os.path.lexists(path) else None
    if header is not None and header != (APPLICATION, VERSION):
        newer = header[0] == APPLICATION and header[1] > VERSION
        raise ForeignFileError(f"it is {'of a newer version' if newer else 'not a cache'} of fieldmarks")
    make_private(path.parent)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with suppress(OSError):  # of another user
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            path.chmod(mode & 0o700)
    db = sqlite3.connect(path, timeout=_WAIT, check_same_thread=False)
    try:
        db.text_factory = bytes  # a damaged text is a value like any other, not an error
        db.execute("PRAGMA trusted_schema = OFF")
        if header is None:
            _create(db)
        _check_schema(db)
        with suppress(sqlite3.OperationalError):  # another process is making the same change
            db.execute("PRAGMA journal_mode = WAL")  # after the header says whose the file is
        db.execute("PRAGMA synchronous = OFF")  # a power cut costs the cache, not anything of the user's
        return db
    except BaseException:
        db.close()
        raise


def _create(db: sqlite3.Connection) -> None:
    with db:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:  # another process was first
            return
        for statement in _SCHEMA.values():
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")


def _check_schema(db: sqlite3.Connection) -> None:
    """Raise ForeignFileError for anything beside our tables: a trigger would run with our queries."""
    schema = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())
    if schema != {name.encode(): sql.encode() for name, sql in _SCHEMA.items()}:
        raise ForeignFileError("its tables are not those of a cache")


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(key + value).digest()[:16]  # a key is of one length


def _vector(key: bytes, blob: bytes, checksum: object) -> Array | None:
    """Return a value as an array, or None if it is not what was written: finite numbers, not all zero."""
    if not blob or len(blob) % 4 or checksum != _checksum(key, blob):
        return None
    vector = np.frombuffer(blob, "<f4")
    square = float(np.einsum("n,n->", vector, vector, dtype=np.float64))  # not finite if a number is not
    return vector.astype(np.float32) if 0 < square <= _LONGEST_VECTOR**2 else None  # NaN is neither
