"""One line of a store: bytes to entry and back, and which bytes are not a line.

A line is a JSON object in UTF-8 of at most `MAX_LINE` bytes. A key that occurs twice is an error, as the JSON
libraries silently keep one of the two values; so is nesting of more than 250 levels. Numbers beyond 64 bits
are kept.
"""

import io
import json
import re
from typing import Any, Final

import jsonlines
import orjson

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import FORMAT_VERSION, Entry, class_name

MAX_LINE: Final = 8 << 20  # bytes; far over the longest answer, a bound on a stranger's file
BOM: Final = b"\xef\xbb\xbf"

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
            raise StoreError(f"a line is an object in braces, not {type(value).__name__}")
        if orjson.dumps(value) != line.strip():  # keys may repeat, numbers be too large
            value = json.loads(line, object_pairs_hook=_once)
    except orjson.JSONDecodeError as error:
        raise StoreError(f"not JSON: {error}") from error
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise StoreError("objects are nested too deeply") from error
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
        with jsonlines.Writer(whole, dumps=_dumps) as writer:
            writer.write(one.to_dict())
    except (TypeError, ValueError) as error:
        raise StoreError(f"class {one.name!r} cannot be written as JSON: {error}") from error
    line = whole.getvalue()
    if len(line) > MAX_LINE:
        raise StoreError(f"class {one.name!r} makes a line of {len(line):,} bytes: {MAX_LINE:,} are the most")
    return line


def is_torn(tail: bytes) -> bool:
    """Say whether bytes after the last line end are the beginning of a line whose rest was never written.

    A line that is closed but wrong is a person's slip and stays theirs. A crash can leave NULs behind what it
    wrote.
    """
    outside = _STRING.sub(b"", tail.rstrip(b"\0"))
    opened = outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")
    return b'"' in outside or opened > 0 or not outside.strip()


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits that a stranger's key holds
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise StoreError(f"the key {twice!r} occurs twice: keep one")
    return found
