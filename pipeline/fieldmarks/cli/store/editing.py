"""`store edit`: edit descriptors as text in an editor, and read it back."""

import json
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fieldmarks.cli.console import conclude, say
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import change_options, optional_class_argument, store_argument, to_change
from fieldmarks.errors import StoreError
from fieldmarks.records import MAX_LIST

if TYPE_CHECKING:
    from fieldmarks.records import Entry
    from fieldmarks.store.edits import Change
    from fieldmarks.store.lint import Finding

EDITOR_HELP: Final = """\
# One descriptor per line. Lines that begin with # are ignored; one in double quotes is read as JSON.
# A line that you delete is removed and not suggested again. Close without saving to change nothing."""
SEVERAL_HELP: Final = """\
# The descriptors of a class stand below its heading. Leave the headings as they are."""
HEADING: Final = "=== "

Lists = list[tuple["Entry", list[str]]]


@click.command(short_help="Edit descriptors in $EDITOR.")
@store_argument
@optional_class_argument
@click.option("--flagged", is_flag=True, help="Edit all classes with findings of `store lint`.")
@click.option("--all", "every", is_flag=True, help="Edit all classes.")
@change_options
def edit(
    store: str, name: str | None, flagged: bool, every: bool, note: str | None, by: str | None, dry_run: bool
) -> None:
    """Edit descriptors in $EDITOR: of one class, of classes with problems, or of all.

    They are listed one per line, with what `store lint` finds. If the text is left unchanged or cannot be
    used, nothing is changed; what you typed is kept. Changes to several classes count as one change, which
    one `store undo` reverts.

    \b
    Examples:
      fieldmarks store edit mine.jsonl "tree frog"
      fieldmarks store edit mine.jsonl --flagged
    """
    from fieldmarks.store import edits, queries
    from fieldmarks.store.edits import Stamp
    from fieldmarks.store.lint import by_class, lint, project_config

    if (name is not None) + flagged + every != 1:
        raise click.UsageError("give one of CLASS, --flagged and --all")
    opened, stamp = to_change(store, dry_run=dry_run), Stamp.of_user(by, note)
    change = partial(edits.edit, opened, stamp=stamp, dry_run=dry_run)
    if name is not None:
        entry, flags = queries.show(opened, name, project_config())
        changes = _through_editor(
            editor_text(entry, flags), lambda text: change([(entry, descriptors_of(text, entry))])
        )
    else:
        entries = list(opened.entries())
        by_name = by_class(lint(entries, project_config()))
        entries = [entry for entry in entries if every or entry.name in by_name]
        if not entries:
            conclude(f"{store}: no class {'has problems' if flagged else 'to edit'}")
            return
        changes = _through_editor(
            editor_text_of_several(entries, by_name), lambda text: change(lists_of(text, entries))
        )
    stores.changes(changes, dry_run=dry_run)
    if not dry_run:
        stores.closing(store, changes)


def editor_text(entry: "Entry", flags: Sequence["Finding"]) -> str:
    """Return a class as text to edit, with what lint finds as comments before its descriptors."""
    origin = [entry.origin or "typed", *filter(None, (entry.model, entry.at, entry.by))]
    lines = [f"# {entry.name}", f"# {', '.join(origin)}", *EDITOR_HELP.splitlines()]
    about, listed = _class_lines(entry, flags)
    return "\n".join([*map(_printable, lines), *about, "", *listed]) + "\n"


def editor_text_of_several(entries: Sequence["Entry"], flags: Mapping[str, Sequence["Finding"]]) -> str:
    """Return several classes as one text to edit, each below its heading."""
    lines = [*EDITOR_HELP.splitlines(), *SEVERAL_HELP.splitlines()]
    for entry in entries:
        about, listed = _class_lines(entry, flags.get(entry.name, ()))
        lines += ["", _heading(entry), *about, *listed]
    return "\n".join(lines) + "\n"


def _class_lines(entry: "Entry", flags: Sequence["Finding"]) -> tuple[list[str], list[str]]:
    """Return the comments on a class, and its descriptors, each preceded by the comments on it."""
    from fieldmarks.store.lint import by_number

    by = by_number(flags)
    comments = {
        number: [_printable(f"# {flag.rule.code} {flag.message}") for flag in some]
        for number, some in by.items()
    }
    listed = []
    for number, text in enumerate(entry.descriptors, 1):
        listed += [*comments.get(number, ()), _line(text)]
    return comments.get(None, []), listed


def descriptors_of(text: str, entry: "Entry") -> list[str]:
    """Return the descriptors in an edited text; those that `entry` already has are taken as they are.

    Raises StoreError, with the line's number, for one that cannot be used, or if none is left.
    """
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip().startswith(HEADING.strip()):
            lines.append((number, line))
        elif line.strip() != _heading(entry):  # its own heading, as in a text of several, is allowed
            raise StoreError(
                f"line {number}: {line.strip()!r} is a heading: only class {entry.name!r} is edited;"
                " nothing was changed"
            )
    return _descriptors(lines, entry)


def lists_of(text: str, entries: Sequence["Entry"]) -> Lists:
    """Return the descriptors of each class in an edited text of several.

    Raises StoreError, with the line's number, for a heading that is changed, missing or repeated, and for a
    descriptor that cannot be used or is above all headings.
    """
    headings = {_heading(entry): entry for entry in entries}
    sections: dict[str, list[tuple[int, str]]] = {}
    section: list[tuple[int, str]] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        heading = line.strip()
        if heading.startswith(HEADING.strip()):
            if heading not in headings:
                raise StoreError(
                    f"line {number}: {heading!r} is not one of the headings; nothing was changed"
                )
            if heading in sections:
                raise StoreError(f"line {number}: heading {heading!r} is there twice; nothing was changed")
            section = sections[heading] = []
        elif section is not None:
            section.append((number, line))
        elif heading and not heading.startswith("#"):
            raise StoreError(f"line {number}: {heading!r} stands above all headings; nothing was changed")
    missing = next((heading for heading in headings if heading not in sections), None)
    if missing is not None:
        raise StoreError(f"heading {missing!r} is missing: put it back; nothing was changed")
    return [(entry, _descriptors(sections[heading], entry)) for heading, entry in headings.items()]


def _descriptors(lines: Iterable[tuple[int, str]], entry: "Entry") -> list[str]:
    from fieldmarks.store.edits import descriptor

    known = {_line(text): text for text in entry.descriptors}
    descriptors = []
    for number, line in lines:
        line = line.rstrip("\r")
        if line in known:
            descriptors.append(known[line])
        elif line.strip() and not line.lstrip().startswith("#"):
            try:
                descriptors.append(descriptor(_unquoted(line.strip())))
            except StoreError as error:
                raise StoreError(f"line {number}: {error}; nothing was changed") from error
    if not descriptors and entry.descriptors:
        remedy = "`fieldmarks store drop` empties a class"
        raise StoreError(f"no descriptor is left of class {entry.name!r}; nothing was changed: {remedy}")
    return descriptors


def _heading(entry: "Entry") -> str:
    name = entry.name
    plain = name == name.strip() == _printable(name) and not name.startswith('"')
    return HEADING + (name if plain else json.dumps(name))


def _line(text: str) -> str:
    """Return a descriptor as one line, in quotes if it would be read as something else."""
    plain = text == text.strip() == _printable(text) and text and not text.startswith(("#", '"', "==="))
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
    """Write a text to a new file for an editor, and return its path. Raises StoreError."""
    try:
        handle, name = tempfile.mkstemp(prefix="fieldmarks-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StoreError(
            f"{tempfile.gettempdir()} cannot be written: {error.strerror}; set TMPDIR"
        ) from error
    return Path(name)


def _through_editor(text: str, use: Callable[[str], "list[Change]"]) -> "list[Change]":
    """Have a text edited and use it; if it cannot be used, what was typed is kept in a file."""
    from fieldmarks.paths import read_text

    file = _write_scratch(text)
    try:
        _run_editor(file)
        changes = use(read_text(file, MAX_LIST, StoreError))
    except BaseException as error:  # not even an interruption may lose what was typed
        if not file.is_file() or file.read_bytes() == text.encode():
            file.unlink(missing_ok=True)
            raise
        if isinstance(error, (StoreError, click.ClickException)):
            raise StoreError(f"{error}; your text is kept in {file}") from error
        say(f"Your text is kept in {file}")
        raise
    file.unlink(missing_ok=True)
    return changes


def _run_editor(file: Path) -> None:
    try:
        click.edit(filename=str(file))
    except ValueError as error:  # from shlex
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        raise StoreError(f"editor {editor!r} cannot be run: {error}; set EDITOR") from error
