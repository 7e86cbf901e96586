"""`store add`, `drop`, `edit`, `rename`: each an appended line that can be undone."""

import click

from fieldmarks.cli.console import open_store, say
from fieldmarks.cli.store import printing
from fieldmarks.cli.store.group import change_options, class_argument, stamp, store_argument
from fieldmarks.errors import StoreError


@click.command()
@store_argument
@class_argument
@click.argument("texts", metavar="TEXT...", nargs=-1, required=True)
@change_options
def add(
    store: str, name: str, texts: tuple[str, ...], note: str | None, by: str | None, dry_run: bool
) -> None:
    """Add descriptors to a class.

    A class, or a store, that is not there begins.

    \b
    Examples:
      fieldmarks store add mine.jsonl "tree frog" "round toe pads" "bulging eyes"
      fieldmarks store add mine.jsonl "tree frog" "green skin" --note "seen in every photo"
    """
    from fieldmarks.store import changes

    opened = open_store(store, create=True)
    made = changes.apply(opened, changes.add(name, texts, stamp(by, note)), dry_run=dry_run)
    printing.changes(made, dry_run=dry_run)


@click.command()
@store_argument
@class_argument
@click.argument("which", metavar="TEXT|NUMBER...", nargs=-1)
@click.option("--all", "whole", is_flag=True, help="End the class itself.")
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
    """Strike descriptors of a class.

    Each is given by its text, or by its number in `store show`, and never offered again.

    \b
    Examples:
      fieldmarks store drop mine.jsonl "tree frog" "croaks at night"
      fieldmarks store drop mine.jsonl "tree frog" 2 5
      fieldmarks store drop mine.jsonl "tree frog" --all
    """
    from fieldmarks.store import changes

    if whole == bool(which):
        raise click.UsageError("give the descriptors to strike, or --all to end the class")
    mark = stamp(by, note)
    make = changes.end(name, mark) if whole else changes.drop(name, which, mark)
    printing.changes(changes.apply(open_store(store), make, dry_run=dry_run), dry_run=dry_run)


@click.command()
@store_argument
@class_argument
@change_options
def edit(store: str, name: str, note: str | None, by: str | None, dry_run: bool) -> None:
    """Edit a class's descriptors in $EDITOR.

    They stand one a line; if the text is left unchanged or broken, nothing is changed.

    \b
    Example:
      fieldmarks store edit mine.jsonl "tree frog"
    """
    from fieldmarks.store import changes, editing, view
    from fieldmarks.store.lint_config import project_config

    opened = open_store(store)
    entry, flags = view.show(opened, name, project_config())
    text = click.edit(editing.to_text(entry, flags), extension=".txt")
    if text is None:
        say("Nothing to change.")
        return
    try:
        make = changes.edit(entry, editing.from_text(text, entry), stamp(by, note))
        made = changes.apply(opened, make, dry_run=dry_run)
    except StoreError as error:
        raise StoreError(f"{error}; your text is kept in {editing.keep(text)}") from error
    printing.changes(made, dry_run=dry_run)


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
    from fieldmarks.store import changes

    made = changes.apply(open_store(store), changes.rename(name, new, stamp(by, note)), dry_run=dry_run)
    printing.changes(made, dry_run=dry_run)
