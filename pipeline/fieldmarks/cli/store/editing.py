"""`store edit`: descriptors as a text in an editor, and the text read back."""

import json
import os
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fieldmarks.cli.console import say
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import change_options, class_argument, store_argument
from fieldmarks.errors import StoreError

if TYPE_CHECKING:
    from fieldmarks.records import Entry
    from fieldmarks.store.lint import Finding

EDITOR_HELP: Final = """\
# One descriptor per line. Lines that begin with # are ignored; one in double quotes is read as JSON.
# A line that you delete is removed and not suggested again. Close without saving to change nothing."""


@click.command()
@store_argument
@class_argument
@change_options
def edit(store: str, name: str, note: str | None, by: str | None, dry_run: bool) -> None:
    """Edit a class's descriptors in $EDITOR.

    They are listed one per line. If the text is left unchanged or cannot be used, nothing is changed.

    \b
    Example:
      fieldmarks store edit mine.jsonl "tree frog"
    """
    from fieldmarks.paths import read_text
    from fieldmarks.store import Store, edits, queries
    from fieldmarks.store.edits import Stamp
    from fieldmarks.store.lines import MAX_LINE
    from fieldmarks.store.lint import project_config

    opened = Store(store)
    entry, flags = queries.show(opened, name, project_config())
    text = editor_text(entry, flags)
    file = _write_scratch(text)
    try:
        _run_editor(file)
        descriptors = descriptors_of(read_text(file, MAX_LINE, StoreError), entry)
        changes = edits.edit(opened, entry, descriptors, Stamp.of_user(by, note), dry_run=dry_run)
    except BaseException as error:  # an interruption too must not lose what was typed
        if not file.is_file() or file.read_bytes() == text.encode():
            file.unlink(missing_ok=True)
            raise
        if isinstance(error, (StoreError, click.ClickException)):
            raise StoreError(f"{error}; your text is kept in {file}") from error
        say(f"Your text is kept in {file}")
        raise
    file.unlink(missing_ok=True)
    stores.changes(changes, dry_run=dry_run)
    if not dry_run:
        stores.closing(store, changes)


def editor_text(entry: "Entry", flags: "Sequence[Finding]") -> str:
    """Return a class as a text to edit; what lint finds stands as a comment before its descriptor."""
    from fieldmarks.store.lint import by_number

    origin = [entry.origin or "typed", *filter(None, (entry.model, entry.at, entry.by))]
    lines = [f"# {entry.name}", f"# {', '.join(origin)}", *EDITOR_HELP.splitlines()]
    by = by_number(flags)
    lines += [f"# {flag.rule.code} {flag.message}" for flag in by.get(None, ())]
    lines = [_printable(line) for line in lines] + [""]
    for number, text in enumerate(entry.descriptors, 1):
        comments = (f"# {flag.rule.code} {flag.message}" for flag in by.get(number, ()))
        lines += [*map(_printable, comments), _line(text)]
    return "\n".join(lines) + "\n"


def descriptors_of(text: str, entry: "Entry") -> list[str]:
    """Return the descriptors of an edited text; those that `entry` has are taken as they are.

    Raises StoreError, with the line's number, for one that cannot be used, or if none is left.
    """
    from fieldmarks.store.edits import descriptor

    known = {_line(text): text for text in entry.descriptors}
    descriptors = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if line in known:
            descriptors.append(known[line])
        elif line.strip() and not line.lstrip().startswith("#"):
            try:
                descriptors.append(descriptor(_unquoted(line.strip())))
            except StoreError as error:
                raise StoreError(f"line {number}: {error}; nothing was changed") from error
    if not descriptors and entry.descriptors:
        raise StoreError(
            "no descriptor is left; nothing was changed: `fieldmarks store drop` empties a class"
        )
    return descriptors


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
    return "".join(" " if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in text)


def _write_scratch(text: str) -> Path:
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


def _run_editor(file: Path) -> None:
    try:
        click.edit(filename=str(file))
    except ValueError as error:  # of shlex
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        raise StoreError(f"editor {editor!r} cannot be run: {error}; set EDITOR") from error
