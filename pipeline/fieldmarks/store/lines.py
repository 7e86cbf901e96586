"""One line of a store: bytes to entry and back, and which bytes are not a line.

A line is a JSON object in UTF-8 of at most `MAX_LINE` bytes. A key that occurs twice is an error, as the JSON
libraries silently keep one of the two values; so is nesting of more than 250 levels. Integers beyond 64 bits
are kept; what JSON has no number for (NaN, 1e400) is an error, as it could not be written back.
"""

import io
import json
import math
import re
from collections import Counter
from typing import Any, Final

import jsonlines
import orjson

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import FORMAT_VERSION, Entry, class_name

MAX_LINE: Final = 8 << 20  # bytes; far over the longest answer, a bound on a stranger's file
BOM: Final = b"\xef\xbb\xbf"

_BEGINNING: Final = b'{"class":'
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class NewerVersionError(StoreError):
    """A line was written by a newer fieldmarks; nothing may touch it."""


def parse(line: bytes) -> dict[str, Any]:
    """Return a line's object.

    Raises StoreError for bytes that are no JSON object, or a key that occurs twice.
    """
    if len(line) > MAX_LINE:
        raise StoreError(f"a line has {len(line):,} bytes: {MAX_LINE:,} are the most")
    if b"\0" in line:
        raise StoreError("a line has NUL bytes: restore the file from a backup, or salvage it")
    try:
        value = orjson.loads(line)
        if not isinstance(value, dict):
            raise StoreError(f"expected an object in braces, found {type(value).__name__}")
        if orjson.dumps(value) != line.strip():  # keys may repeat, numbers be too large
            value = json.loads(line, object_pairs_hook=_once, parse_float=_finite)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise StoreError("objects are nested too deeply") from error
    except ValueError as error:  # of orjson, of json, and of int for more digits than Python takes
        raise StoreError(f"not JSON: {error}{_hint(line.strip())}") from error
    return dict(value)


def entry(line: bytes) -> Entry:
    """Return a line's entry.

    Raises StoreError for a line that is none, NewerVersionError for a newer version's.
    """
    value = parse(line)
    version = value.get("v")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerVersionError(f"version {version} is newer than {FORMAT_VERSION}: use a newer fieldmarks")
    try:
        return Entry.from_dict(value)
    except ClassNameError as error:
        raise StoreError(str(error)) from error


def encode(one: Entry) -> bytes:
    """Return an entry's line with its line end.

    Raises StoreError for text that is not Unicode, or over-long.
    """
    if class_name(one.name) != one.name:
        raise StoreError(f"class {one.name!r} is not in the form that `class_name` gives")
    whole = io.BytesIO()  # jsonlines writes a line and its end apart; the file must get them in one piece
    try:
        with jsonlines.Writer(whole, dumps=dumps) as writer:
            writer.write(one.to_dict())
    except UnicodeEncodeError as error:
        bad = f"{error.object[error.start]!r} is not Unicode text: remove it"
        raise StoreError(f"class {one.name!r} cannot be written: {bad}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"class {one.name!r} cannot be written as JSON: {error}") from error
    line = whole.getvalue()
    if len(line) > MAX_LINE:
        raise StoreError(f"class {one.name!r} makes a line of {len(line):,} bytes: {MAX_LINE:,} are the most")
    return line


def is_torn(tail: bytes, *, first: bool) -> bool:
    """Say whether bytes after the last line end are the beginning of a line whose rest was never written.

    With `first` no line is before them, and they must begin as a store's line does: else they are another
    file's. A line that is closed but wrong is a person's slip and stays theirs, and so does one that holds a
    whole object, as a file has whose lines end in CR alone. A crash can leave NULs behind what it wrote.
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
    """Return JSON as UTF-8. Raises TypeError or ValueError for what JSON cannot hold."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits that a stranger's key holds
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        orjson.dumps(orjson.loads(text))  # nesting that could not be read back must not be written
        return text


def _begins_with_object(text: bytes) -> bool:
    try:
        json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
    except ValueError:
        return False
    except RecursionError:
        pass  # deeper than any line of ours
    return True


def _hint(line: bytes) -> str:
    """Return what is wrong with a whole file, where its first line shows it."""
    if line in (b"{", b"[", b"[{"):
        return "; it looks like JSON laid out over several lines: a store has one object a line (`jq -c`)"
    if b"\r" in line:
        return "; its lines end in CR alone: end them in LF (`tr '\\r' '\\n'`)"
    return ""


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits:.20} is too large for a number")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise StoreError(f"the key {twice!r} occurs twice: keep one")
    return found
