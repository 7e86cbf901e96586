"""`store add`, `drop`, `edit`, `rename`: each an appended line that can be undone."""

import os
from typing import TYPE_CHECKING

import click

from fieldmarks.cli.console import open_store, say
from fieldmarks.cli.store import printing
from fieldmarks.cli.store.group import change_options, class_argument, stamp, store_argument
from fieldmarks.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from fieldmarks.records import Entry


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
    from fieldmarks.store import changes

    opened = open_store(store, create=True)
    made = changes.apply(opened, changes.add(name, texts, stamp(by, note)), dry_run=dry_run)
    printing.changes(made, dry_run=dry_run)


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
    from fieldmarks.store import changes

    if whole == bool(which):
        raise click.UsageError("give the descriptors to remove, or --all to remove the class")
    mark = stamp(by, note)
    make = changes.end(name, mark) if whole else changes.drop(name, which, mark)
    printing.changes(changes.apply(open_store(store), make, dry_run=dry_run), dry_run=dry_run)


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
    from fieldmarks.store import changes, editing, view
    from fieldmarks.store.lines import MAX_LINE
    from fieldmarks.store.lint_config import project_config

    opened = open_store(store)
    entry, flags = view.show(opened, name, project_config())
    text = editing.to_text(entry, flags)
    file = editing.write_scratch(text)
    try:
        _run_editor(file)
        edited = editing.from_text(read_text(file, MAX_LINE, StoreError), entry)
        made = changes.apply(opened, changes.edit(entry, edited, stamp(by, note)), dry_run=dry_run)
    except BaseException as error:  # an interruption too must not lose what was typed
        if not file.is_file() or file.read_bytes() == text.encode():
            file.unlink(missing_ok=True)
            raise
        if isinstance(error, (StoreError, click.ClickException)):
            raise StoreError(f"{error}; your text is kept in {file}") from error
        say(f"Your text is kept in {file}")
        raise
    file.unlink(missing_ok=True)
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
    from fieldmarks.generation.answers import Reparsed, reparsed
    from fieldmarks.store import Store, changes
    from fieldmarks.wording import counted, printable

    opened = open_store(store)
    mark = stamp(by, note)
    result = Reparsed([], [], {})

    def make(now: Store) -> "list[Entry]":
        nonlocal result
        result = reparsed(now, mark)
        return result.lines

    made = changes.apply(opened, make, dry_run=not yes)
    printing.changes(made, dry_run=not yes)
    for name, problem in result.empty.items():
        say(f"Left as it is: {printable(name)}: {printable(problem)}")
    if result.unanswered:
        say(f"{counted(len(result.unanswered), 'class')} edited or imported; left alone")
    if made and yes:
        say(f"Parsed {counted(len(made), 'class')} again. `fieldmarks store undo` takes it back.")
    elif made:
        say(f"{counted(len(made), 'class')} would change; pass --yes to write.")
