"""`store undo`, `redo`, `restore`: back and forth in a store's history, by appended lines."""

import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from fieldmarks.cli.console import ConfirmationNeeded, open_store, say
from fieldmarks.cli.store import printing
from fieldmarks.cli.store.group import change_options, class_argument, complete_class, stamp, store_argument

if TYPE_CHECKING:
    from fieldmarks.store import Store
    from fieldmarks.store.changes import Change, Make

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
    from fieldmarks.store import changes

    opened = open_store(store)
    lines = changes.undoable(opened, name)
    what = "" if not lines else printing.commands(list(lines.values()))
    made = _reverse(opened, f"undo {what}", changes.undo(name, stamp(by, note)), yes=yes, dry_run=dry_run)
    if not dry_run:
        again = f"`fieldmarks store redo {shlex.join([store, name] if name else [store])}`"
        printing.line(f"Undid {what}: {printing.effect(made)}. {again} brings it back.", err=True)


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
    from fieldmarks.store import changes

    opened = open_store(store)
    lines = changes.redoable(opened, name)
    what = "" if not lines else printing.commands(list(lines.values()))
    made = _reverse(opened, f"redo {what}", changes.redo(name, stamp(by, note)), yes=yes, dry_run=dry_run)
    if not dry_run:
        printing.line(f"Redid {what}: {printing.effect(made)}.", err=True)


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
    from fieldmarks.store import changes

    make = changes.restore(name, number, stamp(by, note))
    made = changes.apply(open_store(store), make, dry_run=dry_run)
    printing.changes(made, dry_run=dry_run)
    if made and not dry_run:
        printing.line(f"Restored line {number} of {made[0].name!r}.", err=True)


def _reverse(store: "Store", task: str, make: "Make", *, yes: bool, dry_run: bool) -> "list[Change]":
    """Show a change of however many classes, ask where they are many, and make it.

    Raises ConfirmationNeeded, before anything is printed, where nobody can be asked.
    """
    from fieldmarks.store import changes

    plan = changes.apply(store, make, dry_run=True)
    if dry_run:
        printing.changes(plan, dry_run=True)
        return plan
    ask = len(plan) > ASK_ABOVE and not yes
    if ask and not (sys.stdin and sys.stdin.isatty()):
        raise ConfirmationNeeded(f"this would {task}: {printing.effect(plan)}; pass --yes to go ahead")
    printing.changes(plan, dry_run=False, most=LINES_SHOWN)
    if ask:
        printing.line(f"This would {task}: {printing.effect(plan)}.", err=True)
        if not click.confirm("Go ahead?", err=True):
            say("Nothing was changed.")
            raise click.exceptions.Exit(1)
    return changes.apply(store, changes.as_planned(make, plan))
