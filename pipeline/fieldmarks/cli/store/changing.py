"""The commands that change a store, each by appended lines that can be undone.

`store add`, `drop`, `edit` and `rename` change a class, `reparse` reads the stored answers again, and `undo`,
`redo` and `restore` go back and forth in the history.
"""

import json
import os
import shlex
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from fieldmarks.cli.console import ConfirmationNeeded, say
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import change_options, class_argument, complete_class, store_argument
from fieldmarks.errors import StoreError

if TYPE_CHECKING:
    from fieldmarks.records import Entry
    from fieldmarks.store.edits import Change
    from fieldmarks.store.lint import Finding

ASK_ABOVE: Final = 20  # classes
LINES_SHOWN: Final = 60  # of a change; --dry-run shows all
EDITOR_HELP: Final = """\
# One descriptor per line. Lines that begin with # are ignored; one in double quotes is read as JSON.
# A line that you delete is removed and not suggested again. Close without saving to change nothing."""

Command = TypeVar("Command", bound=Callable[..., Any])


@click.command()
@store_argument
@class_argument
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@change_options
def add(
    store: str, name: str, texts: tuple[str, ...], note: str | None, by: str | None, dry_run: bool
) -> None:
    """Add descriptors to a class.

    Creates the class or the store if it does not exist.

    \b
    Examples:
      fieldmarks store add mine.jsonl "tree frog" "round toe pads" "bulging eyes"
      fieldmarks store add mine.jsonl "tree frog" "green skin" --note "seen in every photo"
    """
    from fieldmarks.store import Store, edits
    from fieldmarks.store.edits import Stamp

    changes = edits.add(Store(store, create=True), name, texts, Stamp.of_user(by, note), dry_run=dry_run)
    stores.changes(changes, dry_run=dry_run)


@click.command()
@store_argument
@class_argument
@click.argument("which", metavar="TEXT|NUMBER...", nargs=-1)
@click.option("--all", "whole", is_flag=True, help="Remove the class.")
@change_options
def drop(
    store: str,
    name: str,
    which: tuple[str, ...],
    whole: bool,
    note: str | None,
    by: str | None,
    dry_run: bool,
) -> None:
    """Remove descriptors of a class.

    Name each by its text or by its number in `store show`. Removed descriptors will not be suggested again.

    \b
    Examples:
      fieldmarks store drop mine.jsonl "tree frog" "croaks at night"
      fieldmarks store drop mine.jsonl "tree frog" 2 5
      fieldmarks store drop mine.jsonl "tree frog" --all
    """
    from fieldmarks.store import Store, edits
    from fieldmarks.store.edits import Stamp

    if whole == bool(which):
        raise click.UsageError("give the descriptors to remove, or --all to remove the class")
    opened, mark = Store(store), Stamp.of_user(by, note)
    if whole:
        changes = edits.remove(opened, name, mark, dry_run=dry_run)
    else:
        changes = edits.drop(opened, name, which, mark, dry_run=dry_run)
    stores.changes(changes, dry_run=dry_run)


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


@click.command()
@store_argument
@class_argument
@click.argument("new", metavar="NEW_NAME")
@change_options
def rename(store: str, name: str, new: str, note: str | None, by: str | None, dry_run: bool) -> None:
    """Rename a class.

    The old name keeps its history.

    \b
    Example:
      fieldmarks store rename mine.jsonl crane "crane (bird)"
    """
    from fieldmarks.store import Store, edits
    from fieldmarks.store.edits import Stamp

    stores.changes(
        edits.rename(Store(store), name, new, Stamp.of_user(by, note), dry_run=dry_run), dry_run=dry_run
    )


@click.command()
@store_argument
@click.option("--yes", is_flag=True, help="Write the change; without it, the change is only shown.")
@click.option("--note", metavar="TEXT", help="Reason, shown by `store history`.")
@click.option("--by", metavar="NAME", help="Who makes the change (default: your login name).")
def reparse(store: str, yes: bool, note: str | None, by: str | None) -> None:
    """Parse the stored answers again.

    Generated lines contain the model's answer, so a newer parser needs no new requests. Shows the
    difference; --yes appends it, and `store undo` reverts it. Edited and imported lines are left alone.

    \b
    Examples:
      fieldmarks store reparse mine.jsonl
      fieldmarks store reparse mine.jsonl --yes
    """
    from fieldmarks.generation.question import Reparsed, reparsed
    from fieldmarks.store import Store, edits
    from fieldmarks.store.edits import Stamp
    from fieldmarks.text import counted, printable

    mark = Stamp.of_user(by, note)
    result = Reparsed([], [], {})

    def lines(now: Store) -> "list[Entry]":
        nonlocal result
        result = reparsed(now, mark)
        return result.lines

    changes = edits.apply(Store(store), lines, dry_run=not yes)
    stores.changes(changes, dry_run=not yes)
    for name, problem in result.empty.items():
        say(f"Left as it is: {printable(name)}: {printable(problem)}")
    if result.unanswered:
        say(f"{counted(len(result.unanswered), 'class')} edited or imported; left alone")
    if changes and yes:
        say(f"Parsed {counted(len(changes), 'class')} again. `fieldmarks store undo` reverts it.")
    elif changes:
        say(f"{counted(len(changes), 'class')} would change; pass --yes to write.")


def reversal_arguments(command: Command) -> Command:
    """Add the arguments of undo and redo: STORE, CLASS, --yes and the options of all changes."""
    command = click.option("--yes", is_flag=True, help=f"Do not ask, even above {ASK_ABOVE} classes.")(
        change_options(command)
    )
    command = click.argument("name", metavar="[CLASS]", required=False, shell_complete=complete_class)(
        command
    )
    return store_argument(command)


@click.command()
@reversal_arguments
def undo(store: str, name: str | None, yes: bool, note: str | None, by: str | None, dry_run: bool) -> None:
    """Undo the last change.

    With CLASS, undoes the last change of that class; without it, the last command, for all classes that it
    changed. Undoing again goes one change further back; `store redo` reapplies what was undone. Asks first
    if more than 20 classes would change.

    \b
    Examples:
      fieldmarks store undo mine.jsonl "tree frog"
      fieldmarks store undo mine.jsonl --dry-run
      fieldmarks store undo mine.jsonl --yes
    """
    from fieldmarks.store import Store, undoing
    from fieldmarks.store.edits import Stamp

    opened = Store(store)
    lines = undoing.undoable(opened, name)
    what = stores.commands(list(lines.values())) if lines else ""
    undo = partial(undoing.undo, opened, name, Stamp.of_user(by, note))
    changes = _reverse(f"undo {what}", undo, yes=yes, dry_run=dry_run)
    if not dry_run:
        again = f"`fieldmarks store redo {shlex.join([store, name] if name else [store])}`"
        stores.line(f"Undid {what}: {stores.effect(changes)}. {again} brings it back.", err=True)


@click.command()
@reversal_arguments
def redo(store: str, name: str | None, yes: bool, note: str | None, by: str | None, dry_run: bool) -> None:
    """Redo what the last undo reverted.

    With CLASS, only for that class; without it, for all classes of that undo. Redoing again reverts the undo
    before it; after any other change, nothing can be redone. Asks first if more than 20 classes would change.

    \b
    Examples:
      fieldmarks store redo mine.jsonl
      fieldmarks store redo mine.jsonl "tree frog" --dry-run
    """
    from fieldmarks.store import Store, undoing
    from fieldmarks.store.edits import Stamp

    opened = Store(store)
    lines = undoing.redoable(opened, name)
    what = stores.commands(list(lines.values())) if lines else ""
    redo = partial(undoing.redo, opened, name, Stamp.of_user(by, note))
    changes = _reverse(f"redo {what}", redo, yes=yes, dry_run=dry_run)
    if not dry_run:
        stores.line(f"Redid {what}: {stores.effect(changes)}.", err=True)


@click.command()
@store_argument
@class_argument
@click.argument("number", metavar="N", type=int)
@change_options
def restore(store: str, name: str, number: int, note: str | None, by: str | None, dry_run: bool) -> None:
    """Make an earlier line of a class the current one again.

    N is the line's number in `store history`. The line is appended as an edit of yours, so newer model
    answers do not replace it; `store undo` reverts it.

    \b
    Examples:
      fieldmarks store history mine.jsonl "tree frog"
      fieldmarks store restore mine.jsonl "tree frog" 2
    """
    from fieldmarks.store import Store, undoing
    from fieldmarks.store.edits import Stamp

    changes = undoing.restore(Store(store), name, number, Stamp.of_user(by, note), dry_run=dry_run)
    stores.changes(changes, dry_run=dry_run)
    if changes and not dry_run:
        stores.line(f"Restored line {number} of {changes[0].name!r}.", err=True)


def _reverse(task: str, run: "Callable[..., list[Change]]", *, yes: bool, dry_run: bool) -> "list[Change]":
    """Show a change of however many classes, ask where they are many, and make it.

    Raises ConfirmationNeeded, before anything is printed, where nobody can be asked.
    """
    plan = run(dry_run=True)
    if dry_run:
        stores.changes(plan, dry_run=True)
        return plan
    ask = len(plan) > ASK_ABOVE and not yes
    if ask and not (sys.stdin and sys.stdin.isatty()):
        raise ConfirmationNeeded(f"this would {task}: {stores.effect(plan)}; pass --yes to go ahead")
    stores.changes(plan, dry_run=False, most=LINES_SHOWN)
    if ask:
        stores.line(f"This would {task}: {stores.effect(plan)}.", err=True)
        if not click.confirm("Go ahead?", err=True):
            say("Nothing was changed.")
            raise click.exceptions.Exit(1)
    return run(plan=plan)
