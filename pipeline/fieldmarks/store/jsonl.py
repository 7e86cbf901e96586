"""The store: a JSONL file to which lines are only ever appended.

The last line of a class is in force and the earlier ones are its history, with three rules beside:
a line that a person made (typed, curated, imported) stays in force over generated ones; a "failed"
line is never in force; a line with `removed` ends the class, and a later line starts it anew.

Appending is one write and one fsync under a file lock, so a crash can tear the last line only. A torn
last line is dropped at the next append, and `notices` tells of it; damage anywhere else is an error.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import jsonlines
import orjson
from filelock import FileLock

from fieldmarks.errors import ClassNameError, DamagedStoreError, StoreError
from fieldmarks.records import FAILED, GENERATED, Entry


class Store:
    """A descriptor store on disk, read whole on opening; `notices` holds what its user should be told."""

    def __init__(self, path: Path, entries: list[Entry], notices: list[str]) -> None:
        self.path = path
        self.notices = notices
        self._history: dict[str, list[Entry]] = {}
        self._remember(entries)

    @classmethod
    def open(cls, path: str | Path, *, create: bool = False) -> "Store":
        """Read a store; with `create`, a missing file is an empty store that the first append makes.

        Raises StoreError if the path is missing (without `create`), a folder or unreadable, DamagedStoreError
        with file and line if the damage is not a torn last line.
        """
        path = Path(path)
        if create and not path.exists():
            return cls(path, [], [])
        if path.is_dir():
            raise StoreError(f"{path} is a folder: name a .jsonl file")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        whole = _whole(data)
        notices = [] if whole == len(data) else [f"{path}: a torn last line of {len(data) - whole} bytes is left out"]
        return cls(path, list(_parse(path, data[:whole])), notices)

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def names(self) -> list[str]:
        """Return the classes in force, in the order in which the file first names them."""
        return [name for name in self._history if self.get(name) is not None]

    def get(self, name: str) -> Entry | None:
        """Return the line in force of a class, or None."""
        return in_force(self._history.get(name, []))

    def history(self, name: str) -> list[Entry]:
        """Return every line of a class, oldest first."""
        return list(self._history.get(name, []))

    def entries(self) -> Iterator[Entry]:
        """Yield the lines in force, in the order of `names`."""
        return (entry for name in self._history if (entry := self.get(name)) is not None)

    def append(self, *entries: Entry) -> None:
        """Append lines with one write and one fsync, under a lock. Raises StoreError if the disk refuses."""
        data = b"".join(_encode(entry) for entry in entries)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                self._write(data)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror or error}") from error
        self._remember(list(entries))

    def _write(self, data: bytes) -> None:
        with self.path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(0)
            whole = _whole(file.read())
            file.truncate(whole)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(min(whole, end))
                raise

    def _remember(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._history.setdefault(entry.name, []).append(entry)


def in_force(history: list[Entry]) -> Entry | None:
    """Return the line of one class's history (oldest first) that is in force, or None."""
    generated = None
    for entry in reversed(history):
        if entry.removed:
            break
        if entry.origin not in (GENERATED, FAILED):
            return entry
        if generated is None and entry.origin == GENERATED:
            generated = entry
    return generated


def _whole(data: bytes) -> int:
    """Return the length of the data up to its last whole line."""
    tail = data[data.rfind(b"\n") + 1 :]
    try:
        orjson.loads(tail)
    except orjson.JSONDecodeError:
        return len(data) - len(tail)
    return len(data)


def _parse(path: Path, data: bytes) -> Iterator[Entry]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                yield Entry.from_dict(orjson.loads(line))
            except (orjson.JSONDecodeError, StoreError, ClassNameError, AttributeError) as error:
                raise DamagedStoreError(f"{path}, line {number}: {error}") from error


def _encode(entry: Entry) -> bytes:
    chunks: list[bytes] = []
    with jsonlines.Writer(_Sink(chunks), dumps=orjson.dumps) as writer:  # type: ignore[arg-type]
        writer.write(entry.to_dict())
    return b"".join(chunks)


class _Sink:
    def __init__(self, chunks: list[bytes]) -> None:
        self.write = chunks.append
