"""The store: a JSONL file that is only ever appended to, except by `rewrite`, which compaction uses.

The latest line of a class is the current one and the earlier ones are its history, with four exceptions: a
line that a person made (typed, curated, imported) takes precedence over generated ones; a "failed" line is
never current; a line with `removed` removes the class, and a later line starts it afresh; a line with `undo`
stands for the line it restores, and everything before it is history.

Opening a store reads every line once and keeps, for each class, only the offsets and kinds of its lines;
entries are decoded on demand, so a million lines fit in memory.

Appending is one write and one fsync under a file lock, so a crash can truncate only the last line. An
incomplete last line is ignored on reading; the next change moves it to STORE.torn, because a person may have
typed it. Both are logged as warnings.

Tolerated and left untouched in the file: a byte order mark, CRLF, blank lines, a missing final newline, other
programs' keys. Rejected, with an error that names file and line, and left untouched too: damage before the
last line, a last line that is complete but invalid, NUL bytes, duplicate keys, wrong types, lines over 8 MiB,
UTF-16, and lines of a newer version. `exchange.salvage` copies the intact lines out of a damaged store.
"""

import errno
import html
import logging
import os
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from fieldmarks.choices import nearest
from fieldmarks.errors import DamagedStoreError, StoreError
from fieldmarks.paths import shipped_names, shipped_store, utf8_remedy, wide_encoding
from fieldmarks.records import Entry
from fieldmarks.store import durable
from fieldmarks.store.lines import (
    BOM,
    BUFFER,
    MAX_LINE,
    NewerVersionError,
    Outline,
    current_position,
    decode,
    encode,
    head,
    kind_of,
    numbers_at,
    ordered,
    outline,
    whole_end,
    without_collecting,
)
from fieldmarks.store.remote import DATA, SCHEME, fetch
from fieldmarks.text import counted

logger = logging.getLogger(__name__)

# A class's lines, oldest first, each packed as offset << KIND_BITS | kind: a million classes take 100 MB less
# than with lists of pairs.
Places = defaultdict[str, tuple[int, ...]]
KIND_BITS: Final = 3

Read = TypeVar("Read", Entry, Entry | Outline)

_CHUNK: Final = 1 << 13
_TRIES: Final = 5  # attempts at a change while another program is writing
_TAIL: Final = 256  # the last bytes read, which show whether the file was edited or has only grown
_SHOWN: Final = 20  # classes shown in a notebook
_ON_THE_HUB: Final = "is on the Hugging Face Hub"
_READ_ONLY: Final = (
    "{name} {is_at} and is read-only: `fieldmarks store copy {name} FILE` makes one of your own"
)


class Store:
    """A descriptor store: the current list of every class, and all its earlier ones, in a JSONL file.

    >>> store = Store("frogs.jsonl", create=True)
    >>> store.append(Entry("tree frog", ("protruding eyes", "large mouth")))
    >>> store.names(), "tree frog" in store, len(store)
    (['tree frog'], True, 1)
    >>> store.get("tree frog").descriptors
    ('protruding eyes', 'large mouth')

    `get`, `entries` and `names` return what is current, `history` and `lines` everything. An instance shows
    the file as of the last open, `refresh` or change; `append` and `change` first read what other processes
    have written.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        """Open a store: a file, a pack's folder, a shipped store by its bare name, or hf:NAME@REVISION.

        Only a regular file takes precedence over a shipped store of the same name. With `create`, a missing
        file is an empty store. Raises StoreError if the path is missing (without `create`), is not a regular
        file, cannot be read or downloaded, names a shipped store, a pack or a store on the hub (with
        `create`), or has lines of a newer version; DamagedStoreError, with file and line, for damage.
        """
        self._read_only: str | None = None  # the reason, if it is
        self.path, self.name = Path(path), str(path)  # the name is for people; on the hub it has the commit
        is_here = os.path.lexists(path)  # an existing path takes precedence over the hub
        if not os.path.isfile(path) and (shipped := shipped_store(path)):  # noqa: PTH113  # accepts any name
            self.path, self._read_only = shipped, "ships with fieldmarks"
        elif not is_here and self.name.startswith(SCHEME):
            if create:
                raise StoreError(_READ_ONLY.format(name=self.name, is_at=_ON_THE_HUB))
            self.path, self.name = fetch(path)
            self._read_only = _ON_THE_HUB
        elif os.path.isfile(data := os.path.join(path, DATA)):  # noqa: PTH113, PTH118
            self.path, self._read_only = Path(data), "is a pack"
        self._places: Places = defaultdict(tuple)
        self._positions: dict[str, float] = {}  # of classes from a class list
        self._ordered: list[str] | None = None  # all classes in order, computed on demand
        self._end = 0  # where the last complete line ends
        self._torn = 0  # how many bytes follow
        self._fd: int | None = None
        self._close: Callable[[], object] = lambda: None
        self._seen: tuple[int, ...] = ()
        self._tail = b""
        self._warned_of_links = False
        if create:
            self._refuse_read_only()
        if not create or os.access(self.path, os.F_OK):  # unlike exists, accepts an over-long name
            self._open()

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._current(name) is not None

    def __repr__(self) -> str:
        return f"<Store {self.name}: {counted(len(self), 'class')}>"

    def _repr_html_(self) -> str:
        """Show the first classes with their descriptors in a notebook."""
        shown = [(entry.name, "; ".join(entry.descriptors)) for entry in islice(self.entries(), _SHOWN)]
        cells = [(self.name, counted(len(self), "class")), *shown]
        rows = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in cells)
        return f"<table>{''.join(rows)}</table>"

    def to_pandas(self) -> Any:
        """Return the current lines as a DataFrame, one row per class, with the file's keys as columns.

        `frame.explode("descriptors")` gives one row per descriptor. Raises StoreError if pandas is not
        installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise StoreError("to_pandas needs pandas: install it with `pip install pandas`") from error
        rows = [entry.to_dict() for entry in self.entries()]
        return pandas.DataFrame(rows, columns=None if rows else ["class", "descriptors"])

    def names(self) -> list[str]:
        """Return the current classes, in the order of their class lists, or else of first appearance."""
        return [name for name in self._order() if self._current(name) is not None]

    def all_names(self) -> list[str]:
        """Return every class in the file, current or not, in the order of `names`."""
        return list(self._order())

    def positions(self) -> Mapping[str, float]:
        """Return the position of each class that has one, read-only; see store/lines.py."""
        return MappingProxyType(self._positions)

    def get(self, name: str) -> Entry | None:
        """Return the current line of a class, or None."""
        offset = self._current(name)
        return None if offset is None else self._read_entry(name, offset)

    def outline(self, name: str) -> Entry | Outline | None:
        """Return what identifies the question a class's current line answers, or None; faster than `get`."""
        offset = self._current(name)
        return None if offset is None else self._read_entry(name, offset, outline)

    def count(self, name: str) -> int:
        """Return how many lines a class has."""
        return len(self._places.get(name, ()))

    def history(self, name: str) -> list[Entry]:
        """Return every line of a class, oldest first."""
        return [self._read_entry(name, place >> KIND_BITS) for place in self._places.get(name, ())]

    def entries(self) -> Iterator[Entry]:
        """Yield the current lines, in the order of `names`."""
        return (entry for name in self._order() if (entry := self.get(name)) is not None)

    def ids(self) -> dict[str, str]:
        """Return the class of each alternative name in `ids`, omitting names that several classes share."""
        return {text: names[0] for text, names in self.owners_of_ids().items() if len(names) == 1}

    def owners_of_ids(self) -> dict[str, list[str]]:
        """Return the classes of each alternative name in `ids`: one, unless they clash."""
        owners: dict[str, list[str]] = {}
        for name in self.names():
            lines = reversed(self.history(name))  # a newer, generated line has no ids
            for text in dict.fromkeys(next((entry.ids for entry in lines if entry.ids), ())):
                owners.setdefault(text, []).append(name)
        return owners

    def parents(self) -> dict[str, str]:
        """Return the broader class, `parent`, of each class that has one."""
        found = {}
        for name in self.names():
            lines = reversed(self.history(name))  # a newer, generated line has no parent
            if parent := next((entry.parent for entry in lines if entry.parent), None):
                found[name] = parent.strip()
        return found

    def lines(self) -> Iterator[tuple[bytes, Entry]]:
        """Yield every line as its bytes, without the newline, and its entry, in file order."""
        return ((self._read_line(at), self._read_entry(name, at)) for at, name in self._by_offset())

    def newest_first(self) -> Iterator[Entry]:
        """Yield every line as an entry, the last in the file first."""
        return (self._read_entry(name, offset) for offset, name in reversed(self._by_offset()))

    def line_numbers(self) -> dict[str, int]:
        """Return the line number, from 1, of each class's current line."""
        offsets = {name: at for name in self._places if (at := self._current(name)) is not None}
        if self._fd is None:
            return {}
        numbers = numbers_at(self._fd, sorted(offsets.values()))
        return {name: numbers[offset] for name, offset in offsets.items()}

    def locked(self) -> AbstractContextManager[Path]:
        """Hold the store's lock across several changes; yields the file's real path.

        `append` and `change` may be called while it is held. Raises StoreError if it is not available.
        """
        return durable.locked(self.path)

    def append(self, *entries: Entry) -> None:
        """Append lines with one write and one fsync, under a lock. Raises StoreError as `change` does."""
        self.change(lambda _: entries)

    def change(self, make: Callable[["Store"], Iterable[Entry]]) -> list[Entry]:
        """Append the lines that `make` returns for the store's current state, and return them.

        `make` runs under the lock, after other processes' changes have been read, and again if a program that
        ignores the lock writes in the meantime. Raises StoreError, and writes nothing, if the store is
        read-only or the write fails.
        """
        self._refuse_read_only()
        with self.locked() as real:
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
        """Atomically replace the file with the lines that `choose` returns, given without newlines.

        Raises StoreError; the file is then unchanged.
        """
        self._refuse_read_only()
        with self.locked() as real:
            self._refresh(real)
            if self._torn and self._fd is not None:
                try:
                    durable.set_aside(_torn_file(real), os.pread(self._fd, self._torn, self._end))
                except OSError as error:
                    raise durable.unwritable(self.path, error) from error
                self._warn_of_moved(real)
            seen = self._seen or None
            durable.replace(real, (line + b"\n" for line in choose(self)), seen=seen)
            self._refresh(real)

    def _append(self, real: Path, entries: list[Entry]) -> None:
        fd = self._fd
        lines = [encode(entry) for entry in entries]
        gap = b"\n" if fd is not None and durable.ends_open(fd, self._end) else b""
        data, torn = gap + b"".join(lines), _torn_file(real)
        status = durable.append(real, self._end, data, torn=torn, seen=self._seen)
        if self._torn:
            self._warn_of_moved(real)
        if fd is None:
            durable.sync_folder(real.parent)
            self._open()
            return
        self._end, self._torn = self._end + len(gap), 0
        for entry, line in zip(entries, lines, strict=True):
            self._take(entry.name, self._end, kind_of(entry), entry.position)
            self._end += len(line)
        # A larger file means that another program wrote before this append: everything is then read again.
        self._seen = durable.identity(status) if status.st_size == self._end else ()
        self._tail = (self._tail + gap + b"".join(lines))[-_TAIL:]

    def refresh(self) -> None:
        """Read the whole file again, as other programs may have changed it. Raises StoreError."""
        self._seen = ()  # an edit right after an append can leave size and time as they were
        self._refresh(Path(os.path.realpath(self.path)))

    @property
    def is_on_hub(self) -> bool:
        """Whether the store is on the Hugging Face Hub; its `name` then includes the commit."""
        return self._read_only == _ON_THE_HUB

    def check_writable(self) -> None:
        """Raise StoreError if the store is read-only or its file is not writable."""
        self._refuse_read_only()
        if os.access(self.path, os.F_OK) and not os.access(self.path, os.W_OK):
            raise StoreError(
                f"{self.path} cannot be written: its permissions forbid it: copy it to change it"
            )

    def _refuse_read_only(self) -> None:
        if self._read_only:
            raise StoreError(_READ_ONLY.format(name=self.name, is_at=self._read_only))

    def _open(self) -> None:
        """Open or reopen the file and index its lines."""
        is_bare = len(self.path.parts) == 1 and not self.path.suffix
        near = nearest(self.path, shipped_names()) if is_bare and not os.path.lexists(self.path) else ""
        fd = durable.open_to_read(self.path, near)
        self._close()
        self._fd, self._close = fd, weakref.finalize(self, os.close, fd)
        self._forget()
        try:
            self._extend(fd)
        except StoreError:
            self._seen = ()  # whatever comes next reads it again and reports the damage again
            raise

    def _extend(self, fd: int) -> None:
        """Index the lines after `_end`. Raises StoreError, with file and line for damage."""
        known = self._torn
        status = os.fstat(fd)
        self._seen = durable.identity(status)  # before reading: lines appended meanwhile count as new
        try:
            if status.st_size == 0 and os.pread(fd, 1, 0):
                raise StoreError(
                    f"{self.path} has contents but no size, as files in /proc do: copy it to a .jsonl file"
                )
            stop = whole_end(fd, status.st_size)
            with without_collecting():
                self._read_places(fd, stop)
            self._end, self._torn = stop, status.st_size - stop
            self._tail = self._read_tail(fd)
        except OSError as error:
            raise durable.unreadable(self.path, error) from error
        if self._torn and self._torn != known:
            torn = f"an incomplete last line ({self._torn} bytes)"
            to = f"fix the line, or the next change moves it to {_torn_file(self.path)}"
            logger.warning("%s: ignored %s; %s", self.path, torn, to)

    def _read_places(self, fd: int, stop: int) -> None:
        offset = self._end
        with open(fd, "rb", buffering=BUFFER, closefd=False) as file:
            file.seek(offset)
            for line in iter(partial(file.readline, MAX_LINE + 1), b""):
                if offset >= stop:
                    break
                try:
                    name, kind, position = head(line if offset else line.removeprefix(BOM))
                except StoreError as error:
                    raise self._damage(fd, offset, error) from error
                if name:
                    self._take(name, offset, kind, position)
                offset += len(line)

    def _take(self, name: str, offset: int, kind: int, position: float | None) -> None:
        """Add a line to the index."""
        self._places[name] += (offset << KIND_BITS | kind,)
        self._ordered = None
        if position is not None:
            self._positions[name] = position

    def _forget(self) -> None:
        self._places, self._positions, self._ordered = defaultdict(tuple), {}, None
        self._end = self._torn = 0

    def _order(self) -> list[str]:
        """Return all classes in order."""
        if self._ordered is None:
            self._ordered = ordered(self._places, self._positions)
        return self._ordered

    def _refresh(self, real: Path) -> None:
        """Read what has happened to the file since it was last looked at."""
        try:
            status = real.stat()
        except FileNotFoundError:
            if self._fd is not None:
                logger.warning("%s was removed in the meantime and starts over", self.path)
            self._close()
            self._forget()
            self._fd, self._seen = None, ()
            return
        except OSError as error:
            raise durable.unwritable(self.path, error) from error
        now = durable.identity(status)
        if status.st_nlink > 1 and not self._warned_of_links:
            self._warned_of_links = True
            advice = "use only one of its names, because each has its own lock"
            logger.warning("%s has %d hard links: %s", self.path, status.st_nlink, advice)
        if (
            self._fd is None
            or now[:2] != self._seen[:2]
            or now[2] < self._end
            or (now != self._seen and not self._has_only_grown(self._fd, now[2]))
        ):
            self._open()
        elif now != self._seen:
            try:
                self._extend(self._fd)
            except StoreError:
                self._open()  # an editor may have changed earlier lines: read everything

    def _has_only_grown(self, fd: int, size: int) -> bool:
        """Whether a file has grown and the last bytes that were read are unchanged."""
        return size > self._end and self._read_tail(fd) == self._tail

    def _warn_of_moved(self, real: Path) -> None:
        torn = f"the incomplete last line ({self._torn} bytes)"
        logger.warning("%s: moved %s to %s", self.path, torn, _torn_file(real))

    def _damage(self, fd: int, offset: int, error: StoreError) -> StoreError:
        """Return the error with the file and the line number of `offset`."""
        if encoding := wide_encoding(os.pread(fd, 4, 0)):
            return DamagedStoreError(f"{self.path} is {encoding} text: {utf8_remedy(encoding)}")
        where = f"{self.path}, line {numbers_at(fd, [offset])[offset]}: {error}"
        if isinstance(error, NewerVersionError):
            return StoreError(where)
        remedy = f"fix the line, or `fieldmarks store copy {self.path} NEW --salvage`"
        return DamagedStoreError(f"{where}; {remedy}")

    def _current(self, name: str) -> int | None:
        """Return the offset of the current line of a class, or None."""
        places = self._places.get(name, ())
        position = current_position([place & (1 << KIND_BITS) - 1 for place in places])
        return None if position is None else places[position] >> KIND_BITS

    def _by_offset(self) -> list[tuple[int, str]]:
        """Return the offset and class of every line, in the file's order."""
        return sorted((place >> KIND_BITS, name) for name, places in self._places.items() for place in places)

    def _read_entry(self, name: str, offset: int, read: Callable[[bytes], Read] = decode) -> Read:
        try:
            entry = read(self._read_line(offset))
        except StoreError as error:
            assert self._fd is not None
            raise self._damage(self._fd, offset, error) from error
        if entry.name != name:
            raise StoreError(f"{self.path} was changed by another program while it was read: try again")
        return entry

    def _read_line(self, offset: int) -> bytes:
        """Return the line at an offset, without its newline. Raises StoreError."""
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

    def _read_tail(self, fd: int) -> bytes:
        start = max(0, self._end - _TAIL)
        return os.pread(fd, self._end - start, start)


def _torn_file(path: Path) -> Path:
    """Return the file to which a store's incomplete last lines are moved."""
    return path.with_name(f"{path.name}.torn")
