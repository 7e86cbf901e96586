"""Store lines: conversion from bytes to entries and back, which line is current, and the order of classes.

A line is a JSON object in UTF-8 of at most `MAX_LINE` bytes. Duplicate keys are an error, because JSON
libraries silently keep one of the values; so is nesting deeper than 250 levels. Integers beyond 64 bits are
kept; numbers that JSON cannot represent (NaN, 1e400) are an error, because they could not be written back.

jsonlines, backed by orjson, writes the lines. It does not read them, because the store needs each line's
offset, distinguishes an incomplete last line from a damaged one, and rejects duplicate keys.

Answers arrive in any order, and lines are written as they arrive. A generated line therefore holds the
`position` of its class, a number by which a store sorts its classes. The first list counts from 1. Classes
that a later list adds get numbers between those of their neighbours there, so that a class inserted into a
list, or answered by a later run, takes its place without any line being rewritten. Later lists do not
renumber classes. A class without a position, such as one typed by hand, comes after the classes that precede
it in the file.
"""

import gc
import io
import json
import math
import os
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Final

import jsonlines
import msgspec
import orjson

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import (
    CURATED,
    FAILED,
    FORMAT_VERSION,
    GENERATED,
    IMPORTED,
    MAX_NAME,
    Entry,
    class_name,
    is_position,
)

MAX_LINE: Final = 8 << 20  # bytes; far above the longest answer, to bound untrusted files
BUFFER: Final = 1 << 20  # bytes read at a time
BOM: Final = b"\xef\xbb\xbf"

PERSONAL, ANSWER, FAILURE, END, RESTORED = range(5)  # the kinds of lines
_KIND_OF_ORIGIN: Final = {GENERATED: ANSWER, FAILED: FAILURE, CURATED: PERSONAL, IMPORTED: PERSONAL}
_WRITTEN: Final = b'{"class":"'  # as this package writes it; people add a space
_BEGINNING: Final = b'{"class":'
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class NewerVersionError(StoreError):
    """A line was written by a newer fieldmarks and must not be changed."""


def parse(line: bytes) -> dict[str, Any]:
    """Parse a line into an object.

    Raises StoreError for anything but a JSON object, and for duplicate keys.
    """
    if len(line) > MAX_LINE:
        raise StoreError(f"a line has {len(line):,} bytes: the limit is {MAX_LINE:,}")
    if b"\0" in line:
        raise StoreError("a line has NUL bytes: restore the file from a backup, or salvage it")
    try:
        value = orjson.loads(line)
        if not isinstance(value, dict):
            raise StoreError(f"expected an object in braces, found {type(value).__name__}")
        if orjson.dumps(value) != line.strip():  # perhaps duplicate keys or too large numbers
            value = json.loads(line, object_pairs_hook=_once, parse_float=_finite)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise StoreError("objects are nested too deeply") from error
    except ValueError as error:  # from orjson, json, or int for more digits than Python accepts
        raise StoreError(f"not JSON: {error}{_hint(line.strip())}") from error
    return dict(value)


def decode(line: bytes) -> Entry:
    """Return a line's entry.

    Raises StoreError for an invalid line, NewerVersionError for a line of a newer version.
    """
    value = parse(line)
    version = value.get("v")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerVersionError(f"version {version} is newer than {FORMAT_VERSION}: use a newer fieldmarks")
    try:
        return Entry.from_dict(value)
    except ClassNameError as error:
        raise StoreError(str(error)) from error


def encode(entry: Entry) -> bytes:
    """Return an entry's line with its newline.

    Raises StoreError for values that UTF-8 or JSON cannot represent, and for an over-long line.
    """
    if class_name(entry.name) != entry.name:
        raise StoreError(f"class {entry.name!r} is not in the form that `class_name` gives")
    whole = io.BytesIO()  # jsonlines writes a line and its newline separately; the file must get them at once
    try:
        with jsonlines.Writer(whole, dumps=dumps) as writer:
            writer.write(entry.to_dict())
    except UnicodeEncodeError as error:
        bad = f"{error.object[error.start]!r} is not Unicode text: remove it"
        raise StoreError(f"class {entry.name!r} cannot be written: {bad}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"class {entry.name!r} cannot be written as JSON: {error}") from error
    line = whole.getvalue()
    if len(line) > MAX_LINE:
        raise StoreError(
            f"class {entry.name!r} makes a line of {len(line):,} bytes: the limit is {MAX_LINE:,}"
        )
    return line


class _Head(msgspec.Struct, gc=False):
    """The parts of a line that opening a store needs; the decoder skips the rest without building it."""

    name: str = msgspec.field(name="class")
    origin: str
    v: int
    removed: Any = None
    undo: Any = None
    position: Any = None


_decode_head: Final = msgspec.json.Decoder(_Head).decode


def head(line: bytes) -> tuple[str, int, float | None]:
    """Return a line's class, kind and position; the class is "" for a blank line.

    Raises StoreError as `decode` does.

    A line that a person typed is validated in full. Of a line in this package's own format, only the head is;
    the rest, such as duplicate keys, is validated when `decode` reads it, so that opening a store takes
    little longer than parsing it.
    """
    try:
        known = _decode_head(line)
        name = known.name
        kind = _KIND_OF_ORIGIN[known.origin]
        if (
            line.startswith(_WRITTEN)
            and known.v == FORMAT_VERSION
            and known.removed is None
            and known.undo is None
            and name.isascii()
            and name.isprintable()
            and name.strip() == name
            and 0 < len(name) <= MAX_NAME
        ):
            return name, kind, known.position if is_position(known.position) else None
    except (ValueError, LookupError, RecursionError):
        pass
    if not line.strip():
        return "", FAILURE, None
    entry = decode(line)
    return entry.name, kind_of(entry), entry.position


class Outline(msgspec.Struct, gc=False):
    """The fields of a line that identify the question it answers, named as in `Entry`."""

    name: str = msgspec.field(name="class")
    origin: str | None = None
    prompt: dict[str, Any] | None = None
    model: str | None = None
    params: dict[str, Any] | None = None
    finish_reason: str | None = None


_decode_outline: Final = msgspec.json.Decoder(Outline).decode


def outline(line: bytes) -> Outline | Entry:
    """Return the outline of a line in this package's own format, the entry of any other line.

    Takes a tenth of the time of `decode`. Raises StoreError as `decode` does.
    """
    if line.startswith(_WRITTEN):
        try:
            return _decode_outline(line)
        except (ValueError, RecursionError):
            pass
    return decode(line)


@contextmanager
def without_collecting() -> Iterator[None]:
    """Disable the garbage collector, which would scan a million new objects again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def kind_of(entry: Entry) -> int:
    """Return a line's kind, which determines its effect on earlier lines; see `current_position`."""
    if entry.removed:
        return END
    if entry.origin == GENERATED:
        return RESTORED if entry.undo else ANSWER
    return FAILURE if entry.origin == FAILED else PERSONAL


def current_position(kinds: Sequence[int]) -> int | None:
    """Return the position of the current line among one class's lines, oldest first, or None.

    The last line wins, but a person's line takes precedence over later generated ones. A removal, or an
    answer restored by an undo, makes all earlier lines history.
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


def current(history: Sequence[Entry]) -> Entry | None:
    """Return the current line of one class's history, oldest first, or None."""
    position = current_position([kind_of(entry) for entry in history])
    return None if position is None else history[position]


def whole_end(fd: int, size: int) -> int:
    """Return the offset at which a file's last complete line ends; anything after it is incomplete.

    Reads only the end of the file.
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


def numbers_at(fd: int, offsets: Sequence[int]) -> dict[int, int]:
    """Return the numbers, from 1, of the lines that begin at the ascending `offsets`, in one pass."""
    numbers = {}
    number, position = 1, 0
    for offset in offsets:
        while position < offset and (block := os.pread(fd, min(BUFFER, offset - position), position)):
            number += block.count(b"\n")
            position += len(block)
        numbers[offset] = number
    return numbers


def is_torn(tail: bytes, *, first: bool) -> bool:
    """Return whether the bytes after the last newline are a line that was only partly written.

    With `first`, no line precedes them, and they must begin as a store's line does: otherwise the file is not
    a store. A line that is complete but invalid is a person's mistake and is left alone; so is a line that
    contains a whole object, as in a file whose lines end in CR alone. A crash can leave NULs after what was
    written.
    """
    text = tail.removeprefix(BOM).rstrip(b"\0").lstrip()
    if not text:
        return True
    if not text.startswith(b"{") or b"\0" in text:
        return False
    if first and not _BEGINNING.startswith(b"".join(text[:64].split())[: len(_BEGINNING)]):
        return False
    outside = _STRING.sub(b"", text)
    opened = outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")
    return (b'"' in outside or opened > 0) and not _begins_with_object(text)


def dumps(value: Any) -> bytes:
    """Return JSON as UTF-8. Raises TypeError or ValueError for what JSON cannot represent."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits under an unknown key
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        orjson.dumps(orjson.loads(text))  # nesting that could not be read back must not be written
        return text


def _begins_with_object(text: bytes) -> bool:
    try:
        json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
    except ValueError:
        return False
    except RecursionError:
        pass  # deeper than any line that we write
    return True


def _hint(line: bytes) -> str:
    """Return what is wrong with the whole file, if its first line shows it."""
    if line in (b"{", b"[", b"[{"):
        return "; it looks like JSON laid out over several lines: a store has one object per line (`jq -c`)"
    if b"\r" in line:
        return "; its lines end in CR alone: end them in LF (`tr '\\r' '\\n'`)"
    return ""


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits:.20} is too large for a number")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise StoreError(f"the key {twice!r} occurs twice: keep one")
    return value


def ordered(names: Iterable[str], positions: Mapping[str, float]) -> list[str]:
    """Return names, given in order of first appearance, sorted by position.

    >>> ordered(["newt", "eft", "typed", "frog"], {"newt": 2, "frog": 1, "eft": 3})
    ['frog', 'newt', 'eft', 'typed']
    """
    places: dict[str, float] = {}
    highest = 0.0
    for name in names:
        places[name] = positions.get(name, highest)
        highest = max(highest, places[name])
    return sorted(places, key=places.__getitem__)


def positions_of(listed: Sequence[str], known: Mapping[str, float]) -> dict[str, float]:
    """Return the position of each class of a list, given the positions known to the store.

    >>> positions_of(["ant", "frog", "newt", "eft"], {"frog": 1, "eft": 2})
    {'ant': 0.5, 'frog': 1, 'newt': 1.5, 'eft': 2}
    """
    taken = sorted(map(float, known.values()))
    above: dict[float, float] = {}  # maps a position to the lowest one assigned right above it
    positions: dict[str, float] = {}
    before: float | None = None  # the position of the nearest preceding class that has one
    for is_known, group in groupby(listed, known.__contains__):
        names = list(group)
        if is_known:
            positions |= {name: known[name] for name in names}
            before = known[names[-1]]
            continue
        if before is None:
            first = next((known[name] for name in listed if name in known), None)
            low, high = _below(taken, first), first
        else:
            at = bisect_right(taken, before)
            low, high = before, above.get(before, taken[at] if at < len(taken) else None)
        step = 1 if high is None else (high - low) / (len(names) + 1)
        for place, name in enumerate(names, 1):
            number = low + step * place
            positions[name] = int(number) if float(number).is_integer() else number
        above[low] = positions[names[0]]
    return positions


def _below(taken: Sequence[float], position: float | None) -> float:
    """Return the highest position below `position` (if None, of all), or a lower bound if there is none."""
    rest = taken if position is None else taken[: bisect_left(taken, position)]
    if rest:
        return rest[-1]
    return 0 if position is None or position > 0 else position - 1
