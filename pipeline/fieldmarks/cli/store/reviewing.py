"""`store review`: marks that say which lists a person has checked."""

from functools import partial

import click

from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import (
    change_options,
    complete_class,
    confirmed,
    store_argument,
    to_change,
    yes_option,
)


@click.command()
@store_argument
@click.argument("names", metavar="[CLASS]...", nargs=-1, shell_complete=complete_class)
@click.option("--unsure", is_flag=True, help="Mark as unsure instead: somebody else should look.")
@click.option("--all", "every", is_flag=True, help="Mark all classes that have no mark yet.")
@yes_option
@change_options
def review(
    store: str,
    names: tuple[str, ...],
    unsure: bool,
    every: bool,
    yes: bool,
    note: str | None,
    by: str | None,
    dry_run: bool,
) -> None:
    """Mark classes as reviewed.

    Marks their current lists as approved, or as unsure, with your name and the time. Any later change to a
    class's descriptors clears its mark, and so does a new answer from a model. `store list --unreviewed`
    lists what is left to do; `store undo` removes a mark again.

    \b
    Examples:
      fieldmarks store review mine.jsonl "tree frog" bullfrog
      fieldmarks store review mine.jsonl toad --unsure --note "which species is meant?"
      fieldmarks store review mine.jsonl --all
    """
    from fieldmarks.records import APPROVED, UNSURE
    from fieldmarks.store import reviewing
    from fieldmarks.store.edits import Stamp
    from fieldmarks.text import counted

    if every == bool(names):
        raise click.UsageError("give the classes to mark, or --all for those without a mark")
    mark = UNSURE if unsure else APPROVED
    run = partial(reviewing.review, to_change(store, dry_run=dry_run), names, mark, Stamp.of_user(by, note))
    changes = confirmed(f"mark classes as {mark}", run, yes=yes or not every, dry_run=dry_run)
    if not dry_run:
        stores.closing(store, changes, f"marked {counted(len(changes), 'class')} as {mark}")
