"""`store import`, `export`, `copy`, `diff`, `merge`, `compact`: commands that read and write whole stores."""

import click

from fieldmarks.choices import Preference, words
from fieldmarks.cli.console import ConfirmationNeeded, conclude, emit, say
from fieldmarks.cli.generate import warn_of_case
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import (
    ask_to_go_ahead,
    can_ask,
    change_options,
    complete_store,
    json_option,
    licence,
    store_argument,
    to_change,
)

FORMATS = ("json", "csv", "tsv", "folder")
format_option = click.option(
    "--format", "kind", type=click.Choice(FORMATS), help="Format of FILE (default: by its name)."
)


@click.command("import")
@store_argument
@click.argument("file", metavar="FILE", type=click.Path())
@format_option
@click.option(
    "--columns",
    metavar="CLASS,DESCRIPTOR",
    help="Class and descriptor columns of FILE: their headings or numbers  [default: by headings].",
)
@click.option("--replace", is_flag=True, help="Replace differing lists in the store.")
@change_options
def import_(
    store: str,
    file: str,
    kind: str | None,
    columns: str | None,
    replace: bool,
    note: str | None,
    by: str | None,
    dry_run: bool,
) -> None:
    """Import classes and descriptors from a file.

    Creates the store if it does not exist. A class that the store already has with different descriptors is
    an error, unless you pass --replace. Classes that FILE lacks are left as they are; with --replace they are
    listed.

    FILE is JSON of the form {class: [descriptor]}, as in the paper and CuPL; a table with a column of classes
    and one of descriptors (CSV, TSV, or a spreadsheet's export); or a folder written by `store export`. A
    column named review marks classes as approved or unsure. The command prints how it read the file, and
    refuses what is ambiguous before anything is written.

    \b
    Examples:
      fieldmarks store import mine.jsonl descriptors_imagenet.json
      fieldmarks store import mine.jsonl birds.csv --columns Species,Feature
      fieldmarks store import mine.jsonl corrected.csv --replace --note "from the spreadsheet"
    """
    from pathlib import Path

    from fieldmarks.store import Store, exchange
    from fieldmarks.store.edits import Stamp
    from fieldmarks.text import counted, cut_list

    named = [name.strip() for name in columns.split(",")] if columns is not None else []
    if named and (len(named) < 2 or not all(named)):
        raise click.UsageError(f"--columns {columns} needs two columns: CLASS,DESCRIPTOR")
    entries = exchange.read_file(Path(file), kind, named)
    opened = Store(store, create=True)
    warn_of_case([*opened.names(), *(entry.name for entry in entries)])
    changes = exchange.import_file(
        opened, entries, Stamp.of_user(by, note), overwrite=replace, dry_run=dry_run
    )
    if dry_run:
        stores.changes(changes, dry_run=True, final=False)
    if replace and (absent := sorted(set(opened.names()) - {entry.name for entry in entries})):
        some = ", ".join(map(repr, absent[:3])) + (
            f" and {len(absent) - 3:,} more" if len(absent) > 3 else ""
        )
        say(
            f"Not in {file}, and left as they are: {some};"
            f" `fieldmarks store drop {store} CLASS --all` removes one"
        )
    marked = {entry.name for entry in entries if entry.review}
    unmarked = [c.name for c in changes if c.name in marked and not (c.after and c.after.review)]
    if unmarked:
        say(
            f"Lists changed since they were marked, and so without a review mark: {cut_list(unmarked, 5)};"
            f" `fieldmarks store review {store} CLASS` marks one again"
        )
    counts = f"{counted(len(changes), 'class')}; {len(entries) - len(changes):,} unchanged"
    if changes and not dry_run:
        stores.closing(store, changes, f"imported {counts}")
    else:
        conclude(f"{'Would import' if dry_run else 'Imported'} {counts}")


@click.command()
@store_argument
@click.argument("file", metavar="FILE|-", type=click.Path(allow_dash=True))
@format_option
@click.option(
    "--licence",
    "--license",
    "license_id",
    default="unknown",
    metavar="ID",
    help="Licence named in the folder's card.",
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def export(store: str, file: str, kind: str | None, license_id: str, force: bool) -> None:
    """Export the current descriptors.

    As JSON, CSV, TSV, or a folder with a card for the Hugging Face Hub; - writes to stdout. Review marks are
    exported to a column in CSV and TSV, and to a folder; JSON has no place for them.

    \b
    Examples:
      fieldmarks store export imagenette imagenette.csv
      fieldmarks store export imagenette - --format json
      fieldmarks store export mine.jsonl hub-folder --licence cc-by-4.0
    """
    from pathlib import Path

    from fieldmarks.store import Store, exchange
    from fieldmarks.text import counted

    opened = Store(store)
    if file == "-":
        if kind == "folder":
            raise click.UsageError("a folder cannot be printed: name one")
        click.echo(exchange.export_text(exchange.current_entries(opened), kind or "json"))
        conclude(f"Exported {counted(len(opened.names()), 'class')}")
        return
    kind = exchange.kind_of_file(Path(file), kind)
    exchange.export_file(opened, Path(file), kind, license_id=license_id, force=force)
    conclude(f"Exported {counted(len(opened.names()), 'class')} to {file}")


@click.command()
@click.argument("name", metavar="NAME", shell_complete=complete_store)
@click.argument("file", metavar="FILE", type=click.Path())
@click.option("--salvage", is_flag=True, help="Recover intact lines of a damaged store and list the rest.")
def copy(name: str, file: str, salvage: bool) -> None:
    """Copy a store to a new FILE, with its history.

    Use it to start from a shipped store, or to recover the intact lines of a damaged one.

    \b
    Examples:
      fieldmarks store copy imagenette mine.jsonl
      fieldmarks store copy damaged.jsonl whole.jsonl --salvage
    """
    from pathlib import Path

    from fieldmarks.store import Store, exchange
    from fieldmarks.text import counted

    if not salvage:
        opened = Store(name)
        exchange.copy_store(opened, Path(file))
        conclude(f"Copied {counted(len(opened.names()), 'class')} to {file}", *licence(opened))
        return
    whole, lost = exchange.salvage(Path(name), Path(file))
    for number in lost:
        say(f"{name}, line {number}: left out")
    conclude(f"Copied {counted(whole, 'intact line')} to {file}; left out {len(lost):,}")


@click.command()
@click.argument("a", metavar="A", shell_complete=complete_store)
@click.argument("b", metavar="[B]", required=False, shell_complete=complete_store)
@json_option
def diff(a: str, b: str | None, as_json: bool) -> None:
    """Show how store B differs from store A.

    Class by class: descriptors added (+), removed (-) and moved (~), and review marks.

    A store's name with @DATE is the store as it was then, according to its timestamps: a day (from 00:00) or
    a time such as 2026-11-27T14:30, in UTC. Without B, it is compared with the same store now.

    \b
    Examples:
      fieldmarks store diff imagenette mine.jsonl
      fieldmarks store diff mine.jsonl@2026-11-20
      fieldmarks store diff mine.jsonl@2026-11-20 mine.jsonl@2026-11-27T14:30
    """
    from fieldmarks.store import compare
    from fieldmarks.text import counted

    if b is None:
        b, moment = compare.dated(a)
        if moment is None:
            raise click.UsageError("Missing argument 'B': give a second store, or A as STORE@DATE")
    changes = compare.diff(compare.current_lines(a), compare.current_lines(b))
    for change in changes:
        if as_json:
            emit(change.to_dict())
        else:
            for text in change.lines():
                stores.line(text)
    conclude(f"{counted(len(changes), 'class')} {'differs' if len(changes) == 1 else 'differ'}")


@click.command()
@click.argument("out", metavar="OUT", type=click.Path())
@click.argument("a", metavar="A", shell_complete=complete_store)
@click.argument("b", metavar="B", shell_complete=complete_store)
@click.option(
    "--prefer",
    type=click.Choice(words(Preference)),
    required=True,
    help="Which list becomes current if both have the class: A's, B's, the latest, or the union of both.",
)
@click.option("--note", metavar="TEXT", help="Reason, shown by `store history`.")
@click.option("--by", metavar="NAME", help="Who merges (default: your login name).")
def merge(out: str, a: str, b: str, prefer: str, note: str | None, by: str | None) -> None:
    """Merge two stores into a new one.

    OUT gets the history of both; --prefer decides which list becomes current where they differ.

    \b
    Example:
      fieldmarks store merge both.jsonl mine.jsonl theirs.jsonl --prefer newest
    """
    from pathlib import Path

    from fieldmarks.store import Store, compare
    from fieldmarks.store.edits import Stamp
    from fieldmarks.text import counted

    differ = compare.merge(Store(a), Store(b), Path(out), prefer, Stamp.of_user(by, note))
    for name in differ:
        stores.line(name)
    conclude(f"{counted(len(differ), 'class')} differed, decided by --prefer {prefer}", f"Wrote {out}")


@click.command()
@store_argument
@click.option("--keep-history", is_flag=True, help="Drop only blank and incomplete lines.")
@click.option("--yes", is_flag=True, help="Do not ask before earlier lines are removed.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; write nothing.")
def compact(store: str, keep_history: bool, yes: bool, dry_run: bool) -> None:
    """Rewrite a store without its history.

    The current lines stay, and so does the last answer to every request, so you never pay for one twice.
    Earlier lines are gone for good: `store undo` and `redo` go no further back, and `history` and STORE@DATE
    no longer show them. Asks before it removes any.

    \b
    Examples:
      fieldmarks store compact mine.jsonl --dry-run
      fieldmarks store compact mine.jsonl --yes
      fieldmarks store compact mine.jsonl --keep-history
    """
    from fieldmarks.store import compare
    from fieldmarks.text import counted

    opened = to_change(store, dry_run=dry_run)
    lost = "undo goes no further back than this"
    if not (dry_run or yes or keep_history):
        plan = compare.compact(opened, dry_run=True)
        if plan.after < plan.before:
            removed = counted(plan.before - plan.after, "earlier line")
            situation = f"would remove {removed} of {store} for good: {lost}"
            if not can_ask():
                raise ConfirmationNeeded(f"this {situation}; pass --yes to go ahead")
            ask_to_go_ahead(f"This {situation}.")
    done = compare.compact(opened, keep_history=keep_history, dry_run=dry_run)
    removed = counted(done.before - done.after, "earlier line")
    stay, is_gone = ("would stay", "would be removed") if dry_run else ("stay", "removed")
    gone = [f"{removed} {is_gone} for good: {lost}"] if done.after < done.before else []
    conclude(f"{done.after:,} of {done.before:,} lines {stay}", *gone)
