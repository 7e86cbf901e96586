"""The commands that change a store, each by appended lines that can be undone.

`store add`, `drop` and `rename` change a class, `drop --grep` and `replace` descriptors of many classes, and
`reparse` parses the stored answers again.
"""

from functools import partial
from typing import TYPE_CHECKING

import click

from fieldmarks.cli.console import ConfirmationNeeded, conclude, say
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import (
    ask_to_go_ahead,
    can_ask,
    change_options,
    class_argument,
    complete_class,
    confirmed,
    optional_class_argument,
    store_argument,
    to_change,
    yes_option,
)

if TYPE_CHECKING:
    from fieldmarks.records import Entry


@click.command()
@store_argument
@class_argument
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@click.option("--new", is_flag=True, help="Create the class without asking, even if a similar one exists.")
@change_options
def add(
    store: str, name: str, texts: tuple[str, ...], new: bool, note: str | None, by: str | None, dry_run: bool
) -> None:
    """Add descriptors to a class.

    Creates the class or the store if it does not exist. Asks first if the name looks like a misspelling of an
    existing class.

    \b
    Examples:
      fieldmarks store add mine.jsonl "tree frog" "round toe pads" "bulging eyes"
      fieldmarks store add mine.jsonl "tree frog" "green skin" --note "seen in every photo"
    """
    from fieldmarks.store import Store, edits
    from fieldmarks.store.edits import Stamp

    opened = Store(store, create=True)
    near = [] if new or dry_run else edits.near_names(opened, name)
    if near:
        problem = f"{store} has no class {name!r}; did you mean {' or '.join(map(repr, near))}?"
        if not can_ask():
            raise ConfirmationNeeded(f"{problem} Pass --new to create the class.")
        ask_to_go_ahead(f"{problem} This would create a new class.")
    changes = edits.add(opened, name, texts, Stamp.of_user(by, note), dry_run=dry_run)
    stores.changes(changes, dry_run=dry_run)
    if not dry_run:
        stores.closing(store, changes)


@click.command()
@store_argument
@optional_class_argument
@click.argument("which", metavar="[TEXT|NUMBER]...", nargs=-1)
@click.option(
    "--grep",
    metavar="REGEX",
    help="Remove the descriptors that match, ignoring case: from CLASS, or from all classes.",
)
@click.option("--all", "whole", is_flag=True, help="Remove the class.")
@yes_option
@change_options
def drop(
    store: str,
    name: str | None,
    which: tuple[str, ...],
    grep: str | None,
    whole: bool,
    yes: bool,
    note: str | None,
    by: str | None,
    dry_run: bool,
) -> None:
    """Remove descriptors from a class, or from all classes.

    Name each by its text or by its number in `store show`. Removed descriptors will not be suggested again.

    With --grep, removes every descriptor that matches REGEX, as in `store grep`. Shows them first, and asks
    if more than 20 classes would change.

    \b
    Examples:
      fieldmarks store drop mine.jsonl "tree frog" "croaks at night"
      fieldmarks store drop mine.jsonl "tree frog" 2 5
      fieldmarks store drop mine.jsonl "tree frog" --all
      fieldmarks store drop mine.jsonl --grep "at night" --dry-run
    """
    from fieldmarks.store import bulk, edits
    from fieldmarks.store.edits import Stamp

    if grep is not None:
        if which or whole:
            raise click.UsageError("--grep chooses the descriptors: give neither TEXT nor NUMBER nor --all")
        rule = bulk.dropping(grep)
        run = partial(bulk.rewrite, to_change(store, dry_run=dry_run), rule, Stamp.of_user(by, note), name)
        task = f"drop the descriptors that match {grep!r}"
        changes = confirmed(task, run, partial(stores.rewrites, rule), yes=yes, dry_run=dry_run)
    elif name is None:
        raise click.UsageError("Missing argument 'CLASS': give a class, or --grep for all classes")
    elif whole == bool(which):
        raise click.UsageError("give the descriptors to remove, or --all to remove the class")
    else:
        opened, mark = to_change(store, dry_run=dry_run), Stamp.of_user(by, note)
        if whole:
            changes = edits.remove(opened, name, mark, dry_run=dry_run)
        else:
            changes = edits.drop(opened, name, which, mark, dry_run=dry_run)
        stores.changes(changes, dry_run=dry_run)
    if not dry_run:
        stores.closing(store, changes)


@click.command()
@store_argument
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--class", "name", metavar="CLASS", shell_complete=complete_class, help="Only in this class.")
@click.option(
    "--regex", is_flag=True, help=r"OLD is a regular expression; in NEW, \1 or \g<name> stands for a group."
)
@yes_option
@change_options
def replace(
    store: str,
    old: str,
    new: str,
    name: str | None,
    regex: bool,
    yes: bool,
    note: str | None,
    by: str | None,
    dry_run: bool,
) -> None:
    """Replace a descriptor in all classes.

    OLD is a whole descriptor, ignoring case and punctuation. With --regex, what matches within descriptors is
    replaced, ignoring case. Where a class has NEW already, the two are merged. Descriptors that are replaced
    will not be suggested again.

    Shows the changes first, and asks if more than 20 classes would change.

    \b
    Examples:
      fieldmarks store replace mine.jsonl "short legs" "stubby legs"
      fieldmarks store replace mine.jsonl "short legs" "stubby legs" --class corgi --note "more precise"
      fieldmarks store replace mine.jsonl --regex "^(a|an|the) " "" --dry-run
      fieldmarks store replace mine.jsonl --regex "(\\w+)-coloured" "\\1"
    """
    from fieldmarks.store import bulk
    from fieldmarks.store.edits import Stamp

    opened = to_change(store, dry_run=dry_run)
    rule = bulk.substituting(old, new) if regex else bulk.replacing(old, new)
    if not regex:
        bulk.check_present(opened, old, name)
    run = partial(bulk.rewrite, opened, rule, Stamp.of_user(by, note), name)
    show = partial(stores.rewrites, rule)
    changes = confirmed(f"replace {old!r} with {new!r}", run, show, yes=yes, dry_run=dry_run)
    if not dry_run:
        stores.closing(store, changes)


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
    from fieldmarks.store import edits
    from fieldmarks.store.edits import Stamp

    changes = edits.rename(
        to_change(store, dry_run=dry_run), name, new, Stamp.of_user(by, note), dry_run=dry_run
    )
    stores.changes(changes, dry_run=dry_run)
    if not dry_run:
        stores.closing(store, changes, f"renamed {changes[0].name!r} to {changes[1].name!r}")


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

    changes = edits.apply(to_change(store, dry_run=not yes), lines, dry_run=not yes)
    stores.changes(changes, dry_run=not yes, final=False)
    for name, problem in result.empty.items():
        say(f"Left as it is: {printable(name)}: {printable(problem)}")
    if result.unanswered:
        say(f"{counted(len(result.unanswered), 'class')} edited or imported; left alone")
    if changes and yes:
        stores.closing(store, changes, f"parsed {counted(len(changes), 'class')} again")
    elif changes:
        conclude(f"{counted(len(changes), 'class')} would change; pass --yes to write")
    else:
        conclude(f"{store} is as the parser reads its answers")
