"""Where each class's lines lie in a store's file, and which of them is in force.

Every line is parsed once on opening, but only its place and its kind are kept: a million lines fit in memory,
and an entry is made when somebody asks for it. A line that a person typed is checked whole on opening. Of a
line in the form that this package writes, only what the index needs is checked then, and the rest, such as a
key that is there twice, when the class is read: so opening takes little longer than parsing.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import orjson

from fieldmarks.bounds import utf8_remedy, wide_encoding
from fieldmarks.errors import DamagedStoreError, StoreError
from fieldmarks.records import CURATED, FAILED, FORMAT_VERSION, GENERATED, IMPORTED, MAX_NAME, Entry
from fieldmarks.store.lines import BOM, MAX_LINE, NewerVersionError, entry, is_torn

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
