"""A class as a text to edit, one descriptor a line, and back."""

import json
import os
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.curate import descriptor
from fieldmarks.store.lint import Finding, by_number

HELP = """# One descriptor a line. Lines that begin with # are ignored; one in double quotes is read as JSON.
# A line that you delete is removed and not suggested again. Leave without saving to change nothing."""


def to_text(entry: Entry, flags: Sequence[Finding]) -> str:
    """Return the text to edit; what lint finds stands as a comment before its descriptor."""
    origin = [entry.origin or "typed", *(one for one in (entry.model, entry.at, entry.by) if one)]
    lines = [f"# {entry.name}", f"# {', '.join(origin)}", *HELP.splitlines()]
    by = by_number(flags)
    lines += [f"# {flag.rule.code} {flag.message}" for flag in by.get(None, ())]
    lines = [_printable(line) for line in lines] + [""]
    for number, text in enumerate(entry.descriptors, 1):
        comments = (f"# {flag.rule.code} {flag.message}" for flag in by.get(number, ()))
        lines += [*map(_printable, comments), _line(text)]
    return "\n".join(lines) + "\n"


def from_text(text: str, entry: Entry) -> list[str]:
    """Return the descriptors of an edited text; those that `entry` has are taken as they are.

    Raises StoreError, with the line's number, for one that cannot be used, or if none is left.
    """
    known = {_line(one): one for one in entry.descriptors}
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if line in known:
            found.append(known[line])
        elif line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(descriptor(_unquoted(line.strip())))
            except StoreError as error:
                raise StoreError(f"line {number}: {error}; nothing was changed") from error
    if not found and entry.descriptors:
        raise StoreError(
            "no descriptor is left; nothing was changed: `fieldmarks store drop` empties a class"
        )
    return found


def write_scratch(text: str) -> Path:
    """Write a text to a new file for an editor, and return it. Raises StoreError."""
    try:
        handle, name = tempfile.mkstemp(prefix="fieldmarks-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StoreError(
            f"{tempfile.gettempdir()} cannot be written: {error.strerror}; set TMPDIR"
        ) from error
    return Path(name)


def _line(text: str) -> str:
    """Return a descriptor as one line, in quotes if it would be read as something else."""
    plain = text == text.strip() and text and text[0] not in '#"' and _printable(text) == text
    return text if plain else json.dumps(text)


def _unquoted(line: str) -> str:
    if not line.startswith('"'):
        return line
    try:
        text = json.loads(line)
    except ValueError as error:
        raise StoreError(f"{line!r} begins with a double quote but is not JSON: {error}") from error
    return str(text)


def _printable(text: str) -> str:
    return "".join(" " if unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} else one for one in text)
