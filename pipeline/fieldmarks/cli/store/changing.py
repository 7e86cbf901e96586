"""`store add`, `drop`, `edit`, `rename`: each an appended line that can be undone.

`store undo`, `redo`, `restore`: back and forth in a store's history, by appended lines.
"""

import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from fieldmarks.cli.console import ConfirmationNeeded, open_store, say
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import change_options, class_argument, complete_class, stamp, store_argument
from fieldmarks.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from fieldmarks.records import Entry
    from fieldmarks.store import Store
    from fieldmarks.store.edits import Change, Make


@click.command()
@store_argument
@class_argument
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@change_options
def add(
    store: str, name: str, texts: tuple[str, ...], note: str | None, by: str | None, dry_run: bool
) -> None:
    """Add descriptors to a class.

    A class or a store that does not exist yet is created.

    \b
    Examples:
      fieldmarks store add mine.jsonl "tree frog" "round toe pads" "bulging eyes"
      fieldmarks store add mine.jsonl "tree frog" "green skin" --note "seen in every photo"
    """
    from fieldmarks.store import edits

    opened = open_store(store, create=True)
    made = edits.apply(opened, edits.add(name, texts, stamp(by, note)), dry_run=dry_run)
    stores.changes(made, dry_run=dry_run)


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

    Each is given by its text, or by its number in `store show`, and will not be suggested again.

    \b
    Examples:
      fieldmarks store drop mine.jsonl "tree frog" "croaks at night"
      fieldmarks store drop mine.jsonl "tree frog" 2 5
      fieldmarks store drop mine.jsonl "tree frog" --all
    """
    from fieldmarks.store import edits

    if whole == bool(which):
        raise click.UsageError("give the descriptors to remove, or --all to remove the class")
    mark = stamp(by, note)
    make = edits.end(name, mark) if whole else edits.drop(name, which, mark)
    stores.changes(edits.apply(open_store(store), make, dry_run=dry_run), dry_run=dry_run)


@click.command()
@store_argument
@class_argument
@change_options
def edit(store: str, name: str, note: str | None, by: str | None, dry_run: bool) -> None:
    """Edit a class's descriptors in $EDITOR.

    They are listed one a line; if the text is left unchanged or cannot be used, nothing is changed.

    \b
    Example:
      fieldmarks store edit mine.jsonl "tree frog"
    """
    from fieldmarks.bounds import read_text
    from fieldmarks.store import editing, edits, queries
    from fieldmarks.store.lines import MAX_LINE
    from fieldmarks.store.lint import project_config

    opened = open_store(store)
    entry, flags = queries.show(opened, name, project_config())
    text = editing.to_text(entry, flags)
    file = editing.write_scratch(text)
    try:
        _run_editor(file)
        edited = editing.from_text(read_text(file, MAX_LINE, StoreError), entry)
        made = edits.apply(opened, edits.edit(entry, edited, stamp(by, note)), dry_run=dry_run)
    except BaseException as error:  # an interruption too must not lose what was typed
        if not file.is_file() or file.read_bytes() == text.encode():
            file.unlink(missing_ok=True)
            raise
        if isinstance(error, (StoreError, click.ClickException)):
            raise StoreError(f"{error}; your text is kept in {file}") from error
        say(f"Your text is kept in {file}")
        raise
    file.unlink(missing_ok=True)
    stores.changes(made, dry_run=dry_run)


@click.command()
@store_argument
@class_argument
@click.argument("new", metavar="NEW_NAME")
@change_options
def rename(store: str, name: str, new: str, note: str | None, by: str | None, dry_run: bool) -> None:
    """Give a class another name.

    The history of the old name stays.

    \b
    Example:
      fieldmarks store rename mine.jsonl crane "crane (bird)"
    """
    from fieldmarks.store import edits

    made = edits.apply(open_store(store), edits.rename(name, new, stamp(by, note)), dry_run=dry_run)
    stores.changes(made, dry_run=dry_run)


def _run_editor(file: "Path") -> None:
    try:
        click.edit(filename=str(file))
    except ValueError as error:  # of shlex
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        raise StoreError(f"editor {editor!r} cannot be run: {error}; set EDITOR") from error


@click.command()
@store_argument
@click.option("--yes", is_flag=True, help="Write the change; without it, it is only shown.")
@click.option("--note", metavar="TEXT", help="Why; `store history` shows it.")
@click.option("--by", metavar="NAME", help="Who makes the change (default: your login name).")
def reparse(store: str, yes: bool, note: str | None, by: str | None) -> None:
    """Parse kept answers again.

    Every generated line keeps the model's answer, so a better parser needs no new request. The difference is
    shown, and with --yes appended; `store undo` takes it back. Lines that people made or imported stay as
    they are.

    \b
    Examples:
      fieldmarks store reparse mine.jsonl
      fieldmarks store reparse mine.jsonl --yes
    """
    from fieldmarks.generation.question import Reparsed, reparsed
    from fieldmarks.store import Store, edits
    from fieldmarks.text import counted, printable

    opened = open_store(store)
    mark = stamp(by, note)
    result = Reparsed([], [], {})

    def make(now: Store) -> "list[Entry]":
        nonlocal result
        result = reparsed(now, mark)
        return result.lines

    made = edits.apply(opened, make, dry_run=not yes)
    stores.changes(made, dry_run=not yes)
    for name, problem in result.empty.items():
        say(f"Left as it is: {printable(name)}: {printable(problem)}")
    if result.unanswered:
        say(f"{counted(len(result.unanswered), 'class')} edited or imported; left alone")
    if made and yes:
        say(f"Parsed {counted(len(made), 'class')} again. `fieldmarks store undo` takes it back.")
    elif made:
        say(f"{counted(len(made), 'class')} would change; pass --yes to write.")


ASK_ABOVE: Final = 20  # classes
LINES_SHOWN: Final = 60  # of a change; --dry-run shows all

Command = TypeVar("Command", bound=Callable[..., Any])


def reversal_arguments(command: Command) -> Command:
    """Add what undo and redo take: STORE, CLASS, --yes and the options of all changes."""
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

    Of a class, or without CLASS of the last command, with all the classes that it changed. Undoing again goes
    one change further back; `store redo` brings back what was undone. Above 20 classes it asks first.

    \b
    Examples:
      fieldmarks store undo mine.jsonl "tree frog"
      fieldmarks store undo mine.jsonl --dry-run
      fieldmarks store undo mine.jsonl --yes
    """
    from fieldmarks.store import edits

    opened = open_store(store)
    lines = edits.undoable(opened, name)
    what = "" if not lines else stores.commands(list(lines.values()))
    made = _reverse(opened, f"undo {what}", edits.undo(name, stamp(by, note)), yes=yes, dry_run=dry_run)
    if not dry_run:
        again = f"`fieldmarks store redo {shlex.join([store, name] if name else [store])}`"
        stores.line(f"Undid {what}: {stores.effect(made)}. {again} brings it back.", err=True)


@click.command()
@reversal_arguments
def redo(store: str, name: str | None, yes: bool, note: str | None, by: str | None, dry_run: bool) -> None:
    """Bring back what the last undo took away.

    Of a class, or without CLASS of all the classes of that undo. Redoing again brings back the undo before
    it; a change after an undo ends redo. Above 20 classes it asks first.

    \b
    Examples:
      fieldmarks store redo mine.jsonl
      fieldmarks store redo mine.jsonl "tree frog" --dry-run
    """
    from fieldmarks.store import edits

    opened = open_store(store)
    lines = edits.redoable(opened, name)
    what = "" if not lines else stores.commands(list(lines.values()))
    made = _reverse(opened, f"redo {what}", edits.redo(name, stamp(by, note)), yes=yes, dry_run=dry_run)
    if not dry_run:
        stores.line(f"Redid {what}: {stores.effect(made)}.", err=True)


@click.command()
@store_argument
@class_argument
@click.argument("number", metavar="N", type=int)
@change_options
def restore(store: str, name: str, number: int, note: str | None, by: str | None, dry_run: bool) -> None:
    """Make an earlier line of a class the current one again.

    N is the line's number in `store history`. The line is appended as yours, so that later answers of a model
    do not replace it; `store undo` takes it back.

    \b
    Examples:
      fieldmarks store history mine.jsonl "tree frog"
      fieldmarks store restore mine.jsonl "tree frog" 2
    """
    from fieldmarks.store import edits

    make = edits.restore(name, number, stamp(by, note))
    made = edits.apply(open_store(store), make, dry_run=dry_run)
    stores.changes(made, dry_run=dry_run)
    if made and not dry_run:
        stores.line(f"Restored line {number} of {made[0].name!r}.", err=True)


def _reverse(store: "Store", task: str, make: "Make", *, yes: bool, dry_run: bool) -> "list[Change]":
    """Show a change of however many classes, ask where they are many, and make it.

    Raises ConfirmationNeeded, before anything is printed, where nobody can be asked.
    """
    from fieldmarks.store import edits

    plan = edits.apply(store, make, dry_run=True)
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
    return edits.apply(store, edits.as_planned(make, plan))
