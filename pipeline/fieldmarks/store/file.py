"""The stores that come with the package: read by name, never written.

Where each class's lines lie in a store's file, and which of them is in force.

Every line is parsed once on opening, but only its place and its kind are kept: a million lines fit in memory,
and an entry is made when somebody asks for it. A line that a person typed is checked whole on opening. Of a
line in the form that this package writes, only what the index needs is checked then, and the rest, such as a
key that is there twice, when the class is read: so opening takes little longer than parsing.

The store: a JSONL file to which lines are only ever appended, but for `rewrite`, which compacting uses.

The latest line of a class is the current one and the earlier ones are its history, with four further rules: a
line that a person made (typed, curated, imported) stays current over generated ones; a "failed" line is never
current; a line with `removed` ends the class, and a later line starts it anew; a line with `undo` stands for
the line that it brings back, and all before it is history.

Appending is one write and one fsync under a file lock, so a crash can tear the last line only. A torn last
line is ignored on reading; the next change moves it to STORE.torn, as a person may have typed it. `notices`
reports both.

Tolerated, and left as they are in the file: a byte order mark, CRLF, blank lines, a last line without a line
end, keys of other programs. Errors that name file and line, and leave the file's bytes unchanged: damage
before the last line or a last line that is closed but wrong, NUL bytes, a key that is there twice, a wrong
type, a line over 8 MiB, UTF-16. A line of a newer version is refused likewise. `salvage` copies the intact
lines out of a damaged store.
"""

import errno
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from fieldmarks.bounds import utf8_remedy, wide_encoding
from fieldmarks.errors import DamagedStoreError, StoreError
from fieldmarks.paths import shipped
from fieldmarks.records import CURATED, FAILED, FORMAT_VERSION, GENERATED, IMPORTED, MAX_NAME, Entry
from fieldmarks.store import durable
from fieldmarks.store.lines import BOM, MAX_LINE, NewerVersionError, encode, entry, is_torn


def shipped_names() -> list[str]:
    """Return the names of the stores that come with the package, sorted."""
    return sorted(path.stem for path in shipped("cache").glob("*.jsonl"))


def shipped_store(name: str | Path) -> Path | None:
    """Return the file of a shipped store, or None if no store of that bare name is shipped."""
    return shipped("cache") / f"{name}.jsonl" if str(name) in shipped_names() else None


PERSONAL, ANSWER, FAILURE, END, RESTORED = range(5)  # the kinds of lines
_WRITTEN: Final = {GENERATED: ANSWER, FAILED: FAILURE, CURATED: PERSONAL, IMPORTED: PERSONAL}
_KINDS: Final = 8  # a spot is offset * _KINDS + kind, as one integer is a third of a tuple's memory
_START: Final = b'{"class":"'  # as this package writes; a person leaves a space
_BUFFER: Final = 1 << 20


def kind_of(one: Entry) -> int:
    """Return what a line does to the lines before it; see `ruling`."""
    if one.removed:
        return END
    if one.origin == GENERATED:
        return RESTORED if one.undo else ANSWER
    return FAILURE if one.origin == FAILED else PERSONAL


def ruling(kinds: Sequence[int]) -> int | None:
    """Return the position of the line in force among one class's lines, oldest first, or None.

    The last line wins, but a person's line over later answers. An end, or an answer brought back by an undo,
    makes all lines before it history.
    """
    answer = None
    for position in range(len(kinds) - 1, -1, -1):
        kind = kinds[position]
        if kind == PERSONAL:
            return position
        if kind in (ANSWER, RESTORED) and answer is None:
            answer = position
        if kind in (END, RESTORED):
            break
    return answer


class _Head(msgspec.Struct, gc=False):
    """What the index needs of a line; the decoder passes over the rest without making it."""

    name: str = msgspec.field(name="class")
    origin: str
    v: int
    removed: Any = None
    undo: Any = None


_HEADS: Final = msgspec.json.Decoder(_Head)


class Index:
    """The places of a file's lines by class; `end` is where whole lines end, `torn` the bytes after."""

    def __init__(self) -> None:
        self.end = 0
        self.torn = 0
        self._first: dict[str, int] = {}
        self._later: dict[str, list[int]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def spots(self, name: str) -> list[tuple[int, int]]:
        """Return (offset, kind) of every line of a class, oldest first."""
        if name not in self._first:
            return []
        return [divmod(spot, _KINDS) for spot in (self._first[name], *self._later.get(name, ()))]

    def in_force(self, name: str) -> int | None:
        """Return the offset of the line in force of a class, or None."""
        spots = self.spots(name)
        position = ruling([kind for _, kind in spots])
        return None if position is None else spots[position][0]

    def by_place(self) -> list[tuple[int, str]]:
        """Return (offset, class) of every line, in the file's order."""
        later = ((spot // _KINDS, name) for name, spots in self._later.items() for spot in spots)
        return sorted([*((spot // _KINDS, name) for name, spot in self._first.items()), *later])

    def add(self, name: str, kind: int, length: int) -> None:
        """Add a line of `length` bytes at the end."""
        spot = self.end * _KINDS + kind
        if self._first.setdefault(name, spot) is not spot:
            self._later.setdefault(name, []).append(spot)
        self.end += length

    def extend(self, fd: int, path: str) -> None:
        """Read the lines after `end`.

        Raises DamagedStoreError or StoreError with `path` and the line's number.
        """
        size = os.fstat(fd).st_size
        if size == 0 and os.pread(fd, 1, 0):
            raise StoreError(
                f"{path} has contents but no size, as files in /proc do: copy it to a .jsonl file"
            )
        stop = whole_end(fd, size)
        first, later, offset = self._first, self._later, self.end
        decode = _HEADS.decode  # a million times
        with open(fd, "rb", buffering=_BUFFER, closefd=False) as file:
            file.seek(offset)
            for line in iter(partial(file.readline, MAX_LINE + 1), b""):
                if offset >= stop:
                    break
                try:
                    head = decode(line)
                    name = head.name
                    kind = _WRITTEN[head.origin]
                    plain = (
                        line.startswith(_START)
                        and head.v == FORMAT_VERSION
                        and head.removed is None
                        and head.undo is None
                        and name.isascii()
                        and name.isprintable()
                        and name.strip() == name
                        and 0 < len(name) <= MAX_NAME
                    )
                except (ValueError, LookupError, RecursionError):
                    plain = False
                if not plain:
                    name, kind = _read_carefully(fd, path, line, offset)
                spot = offset * _KINDS + kind
                if name and first.setdefault(name, spot) is not spot:
                    later.setdefault(name, []).append(spot)
                offset += len(line)
        self.end = stop
        self.torn = size - stop


def whole_end(fd: int, size: int) -> int:
    """Return where a file's last whole line ends; what follows is torn.

    Reads no more than one line's length.
    """
    rest = _after_last_line_end(fd, size)
    if not rest.strip() or len(rest) > MAX_LINE:
        return size
    try:
        orjson.loads(rest.removeprefix(BOM))
    except orjson.JSONDecodeError:
        return size - len(rest) if is_torn(rest, first=len(rest) == size) else size
    return size


def _after_last_line_end(fd: int, size: int) -> bytes:
    length = 1
    while True:
        start = max(0, size - length)
        tail = os.pread(fd, size - start, start)
        if (at := tail.rfind(b"\n")) >= 0 or start == 0 or length > MAX_LINE:
            return tail[at + 1 :]
        length *= 64


def damage(fd: int, path: str, offset: int, error: StoreError) -> StoreError:
    """Return the error with the file and the number of the line that begins at `offset`."""
    if encoding := wide_encoding(os.pread(fd, 4, 0)):
        return DamagedStoreError(f"{path} is {encoding} text: {utf8_remedy(encoding)}")
    where = f"{path}, line {numbers_at(fd, [offset])[offset]}: {error}"
    if isinstance(error, NewerVersionError):
        return StoreError(where)
    return DamagedStoreError(f"{where}; fix the line, or `fieldmarks store copy {path} NEW --salvage`")


def numbers_at(fd: int, offsets: Sequence[int]) -> dict[int, int]:
    """Return the numbers, from 1, of the lines that begin at ascending `offsets`, in one pass."""
    numbers = {}
    number, position = 1, 0
    for offset in offsets:
        while position < offset and (block := os.pread(fd, min(_BUFFER, offset - position), position)):
            number += block.count(b"\n")
            position += len(block)
        numbers[offset] = number
    return numbers


def _read_carefully(fd: int, path: str, line: bytes, offset: int) -> tuple[str, int]:
    """Return a line's class and kind, or an empty class for a blank line."""
    text = line.removeprefix(BOM) if offset == 0 else line
    if not text.strip():
        return "", FAILURE
    try:
        one = entry(text)
    except StoreError as error:
        raise damage(fd, path, offset, error) from error
    return one.name, kind_of(one)


_CHUNK = 1 << 13
_TRIES = 5  # of a change, where another program writes meanwhile
_TAIL = 256  # bytes at the end of what is indexed: they tell an edited file from one that has grown


class Store:
    """A descriptor store on disk, indexed on opening; `notices` holds what its user should be told.

    What one instance shows is the file as it was when it was opened or last appended to.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        """Read a store, or a shipped one by its bare name; with `create`, a missing file is an empty store.

        Raises StoreError if the path is missing (without `create`), no regular file, unreadable, a shipped
        store's name (with `create`) or of a newer version, DamagedStoreError with file and line for damage.
        """
        path = Path(path)
        shipped = None if os.path.lexists(path) else shipped_store(path)
        self.path = shipped or path
        self.notices: list[str] = []
        self._read_only = shipped is not None
        self._lock = durable.Lock(self.path)
        self._index = Index()
        self._fd: int | None = None
        self._close: Callable[[], object] = lambda: None
        self._seen: tuple[int, ...] = ()
        self._tail = b""
        self._told_of_links = False
        if create:
            self._refuse_shipped()
        if not create or os.access(self.path, os.F_OK):  # which, unlike exists, takes a name that is too long
            self._read()

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._index.in_force(name) is not None

    def names(self) -> list[str]:
        """Return the classes in force, in the order in which the file first names them."""
        return [name for name in self._index if self._index.in_force(name) is not None]

    def all_names(self) -> list[str]:
        """Return every class that the file names, in force or not."""
        return list(self._index)

    def get(self, name: str) -> Entry | None:
        """Return the line in force of a class, or None."""
        offset = self._index.in_force(name)
        return None if offset is None else self._entry(name, offset)

    def history(self, name: str) -> list[Entry]:
        """Return every line of a class, oldest first."""
        return [self._entry(name, offset) for offset, _ in self._index.spots(name)]

    def entries(self) -> Iterator[Entry]:
        """Yield the lines in force, in the order of `names`."""
        return (one for name in self._index if (one := self.get(name)) is not None)

    def lines(self) -> Iterator[tuple[bytes, Entry]]:
        """Yield every line as its bytes, without the line end, and its entry, in the file's order."""
        return ((self._line(at), self._entry(name, at)) for at, name in self._index.by_place())

    def newest_first(self) -> Iterator[Entry]:
        """Yield every line, the last of the file first."""
        return (self._entry(name, offset) for offset, name in reversed(self._index.by_place()))

    def line_numbers(self) -> dict[str, int]:
        """Return, for each class, the number, from 1, of the file's line that is its current one."""
        offsets = {name: at for name in self._index if (at := self._index.in_force(name)) is not None}
        if self._fd is None:
            return {}
        numbers = numbers_at(self._fd, sorted(offsets.values()))
        return {name: numbers[offset] for name, offset in offsets.items()}

    def locked(self) -> AbstractContextManager[Path]:
        """Hold the store's lock, for several changes in one piece, and give the file's real path.

        `append` and `change` may be called within. Raises StoreError if the lock cannot be had.
        """
        return self._lock.held()

    def append(self, *entries: Entry) -> None:
        """Append lines with one write and one fsync, under a lock. Raises StoreError if the disk refuses."""
        self.change(lambda _: entries)

    def change(self, make: Callable[["Store"], Iterable[Entry]]) -> list[Entry]:
        """Append the lines that `make` returns for the store as it now is, and return them.

        `make` runs under the lock, after what other processes wrote has been read, and again where a program
        that does not heed the lock writes meanwhile. Raises StoreError if the disk refuses or the store is a
        shipped one; nothing is then written.
        """
        self._refuse_shipped()
        with self._lock.held() as real:
            for tries_left in reversed(range(_TRIES)):
                self._refresh(real)
                entries = list(make(self))
                try:
                    if entries:
                        self._append(real, entries)
                    return entries
                except OSError as error:
                    if error.errno != errno.EBUSY or not tries_left:
                        raise durable.unwritable(self.path, error) from error
        raise AssertionError("the last try returns or raises")

    def rewrite(self, choose: Callable[["Store"], Iterable[bytes]]) -> None:
        """Put the lines that `choose` returns, without line ends, in the file's place: whole or not at all.

        Raises StoreError; the file is then as it was.
        """
        self._refuse_shipped()
        with self._lock.held() as real:
            self._refresh(real)
            if self._index.torn and self._fd is not None:
                try:
                    durable.set_aside(_torn(real), os.pread(self._fd, self._index.torn, self._index.end))
                except OSError as error:
                    raise durable.unwritable(self.path, error) from error
                self._tell_of_torn(real)
            loss = durable.replace(real, (line + b"\n" for line in choose(self)))
            self.notices += [loss] if loss else []
            self._refresh(real)

    def _append(self, real: Path, entries: list[Entry]) -> None:
        index, fd = self._index, self._fd
        lines = [encode(one) for one in entries]
        gap = b"\n" if fd is not None and durable.ends_open(fd, index.end) else b""
        found = durable.append(real, index.end, gap + b"".join(lines), torn=_torn(real))
        if index.torn:
            self._tell_of_torn(real)
        if fd is None:
            durable.sync_folder(real.parent)
            self._read()
            return
        index.end, index.torn = index.end + len(gap), 0
        for one, line in zip(entries, lines, strict=True):
            index.add(one.name, kind_of(one), len(line))
        # More than was indexed is another program's, written before this append: all is then read again.
        self._seen = _identity(found) if found.st_size == index.end else ()
        self._tail = (self._tail + gap + b"".join(lines))[-_TAIL:]

    def check_writable(self) -> None:
        """Raise StoreError for a shipped store, which is not written, and for a file that may not be."""
        self._refuse_shipped()
        if os.access(self.path, os.F_OK) and not os.access(self.path, os.W_OK):
            raise StoreError(
                f"{self.path} cannot be written: its permissions forbid it, copy it to change it"
            )

    def _refuse_shipped(self) -> None:
        if self._read_only:
            name = self.path.stem
            remedy = f"`fieldmarks store copy {name} FILE` makes one of your own"
            raise StoreError(f"{name} ships with fieldmarks and is read-only: {remedy}")

    def _read(self) -> None:
        """Open the file anew and index it."""
        self._close()
        self._fd = fd = durable.open_to_read(self.path)
        self._close = weakref.finalize(self, os.close, fd)
        self._index = Index()
        try:
            self._extend(fd)
        except StoreError:
            self._seen = ()  # whatever is done next reads it again, and meets the damage again
            raise

    def _extend(self, fd: int) -> None:
        known = self._index.torn
        self._seen = _identity(os.fstat(fd))  # before reading: what is appended meanwhile is then seen as new
        try:
            self._index.extend(fd, str(self.path))
            self._tail = self._read_tail(fd)
        except OSError as error:
            raise durable.unreadable(self.path, error) from error
        if self._index.torn and self._index.torn != known:
            torn = f"an incomplete last line ({self._index.torn} bytes)"
            to = f"fix the line, or the next change moves it to {_torn(self.path)}"
            self.notices.append(f"{self.path}: ignored {torn}; {to}")

    def _tell_of_torn(self, real: Path) -> None:
        torn = f"the incomplete last line ({self._index.torn} bytes)"
        self.notices.append(f"{self.path}: moved {torn} to {_torn(real)}")

    def _refresh(self, real: Path) -> None:
        """Take in what has happened to the file since it was last looked at; the caller holds the lock."""
        try:
            status = real.stat()
        except FileNotFoundError:
            if self._fd is not None:
                self.notices.append(f"{self.path} was removed in the meantime and starts anew")
            self._close()
            self._index, self._fd, self._seen = Index(), None, ()
            return
        except OSError as error:
            raise durable.unwritable(self.path, error) from error
        now = _identity(status)
        if status.st_nlink > 1 and not self._told_of_links:
            self._told_of_links = True
            advice = "use one of its names only, as each has a lock of its own"
            self.notices.append(f"{self.path} has {status.st_nlink} hard links: {advice}")
        if (
            self._fd is None
            or now[:2] != self._seen[:2]
            or now[2] < self._index.end
            or (now != self._seen and not self._has_only_grown(self._fd, now[2]))
        ):
            self._read()
        elif now != self._seen:
            try:
                self._extend(self._fd)
            except StoreError:
                self._read()  # somebody's editor wrote into the file: only reading all of it tells

    def _has_only_grown(self, fd: int, size: int) -> bool:
        """Whether a file that another program wrote to ends, up to what is indexed, as it did."""
        return size > self._index.end and self._read_tail(fd) == self._tail

    def _read_tail(self, fd: int) -> bytes:
        start = max(0, self._index.end - _TAIL)
        return os.pread(fd, self._index.end - start, start)

    def _entry(self, name: str, offset: int) -> Entry:
        try:
            one = entry(self._line(offset))
        except DamagedStoreError:
            raise
        except StoreError as error:
            assert self._fd is not None
            raise damage(self._fd, str(self.path), offset, error) from error
        if one.name != name:
            raise StoreError(f"{self.path} was changed by another program while it was read: try again")
        return one

    def _line(self, offset: int) -> bytes:
        assert self._fd is not None
        line, size = b"", _CHUNK
        while b"\n" not in line and len(line) <= MAX_LINE:
            try:
                more = os.pread(self._fd, size, offset + len(line))
            except OSError as error:
                raise durable.unreadable(self.path, error) from error
            if not more:
                break
            line, size = line + more, size * 4
        line = line.partition(b"\n")[0].removesuffix(b"\r")
        return line.removeprefix(BOM) if offset == 0 else line


def _torn(path: Path) -> Path:
    """Return where a store's incomplete last lines go."""
    return path.with_name(f"{path.name}.torn")


def in_force(history: list[Entry]) -> Entry | None:
    """Return the line of one class's history (oldest first) that is in force, or None."""
    position = ruling([kind_of(one) for one in history])
    return None if position is None else history[position]


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
