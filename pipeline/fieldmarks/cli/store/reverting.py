"""`store undo`, `redo` and `restore`: move back and forth in a store's history."""

import shlex
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from fieldmarks.cli.console import conclude
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import (
    change_options,
    class_argument,
    confirmed,
    optional_class_argument,
    store_argument,
    to_change,
    yes_option,
)

Command = TypeVar("Command", bound=Callable[..., Any])


def reversal_arguments(command: Command) -> Command:
    """Add the arguments of undo and redo: STORE, CLASS, --yes and the options of all changes."""
    return store_argument(optional_class_argument(yes_option(change_options(command))))


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
    from fieldmarks.store import undoing
    from fieldmarks.store.edits import Stamp

    opened = to_change(store, dry_run=dry_run)
    lines = undoing.lines_to_undo(opened, name)
    what = stores.commands(list(lines.values())) if lines else ""
    undo = partial(undoing.undo, opened, name, Stamp.of_user(by, note))
    changes = confirmed(f"undo {what}", undo, yes=yes, dry_run=dry_run)
    if not dry_run:
        again = f"`fieldmarks store redo {shlex.join([store, name] if name else [store])}`"
        conclude(f"Undid {what}: {stores.effect(changes)}. {again} brings it back.")


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
    from fieldmarks.store import undoing
    from fieldmarks.store.edits import Stamp

    opened = to_change(store, dry_run=dry_run)
    lines = undoing.lines_to_redo(opened, name)
    what = stores.commands(list(lines.values())) if lines else ""
    redo = partial(undoing.redo, opened, name, Stamp.of_user(by, note))
    changes = confirmed(f"redo {what}", redo, yes=yes, dry_run=dry_run)
    if not dry_run:
        again = f"`fieldmarks store undo {shlex.join([store, name] if name else [store])}`"
        conclude(f"Redid {what}: {stores.effect(changes)}. {again} reverts it.")


@click.command()
@store_argument
@class_argument
@click.argument("number", metavar="N", type=int)
@change_options
def restore(store: str, name: str, number: int, note: str | None, by: str | None, dry_run: bool) -> None:
    """Make an earlier line of a class the current one again.

    N is the line's number in `store history`. The line is appended as your own edit, so newer model answers
    do not replace it; `store undo` reverts it.

    \b
    Examples:
      fieldmarks store history mine.jsonl "tree frog"
      fieldmarks store restore mine.jsonl "tree frog" 2
    """
    from fieldmarks.store import undoing
    from fieldmarks.store.edits import Stamp

    changes = undoing.restore(
        to_change(store, dry_run=dry_run), name, number, Stamp.of_user(by, note), dry_run=dry_run
    )
    stores.changes(changes, dry_run=dry_run)
    if not dry_run:
        stores.closing(store, changes, f"restored line {number} of {name!r}")
