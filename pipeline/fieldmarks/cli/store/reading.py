"""`store list`, `grep`, `show`, `history`, `stats`: commands that only read a store."""

import click

from fieldmarks.cli.console import conclude, emit
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import (
    class_argument,
    complete_store,
    json_option,
    licence,
    store_argument,
)


@click.command("list", short_help="List the classes of a store, or the stores that ship.")
@click.argument("store", metavar="[STORE]", required=False, shell_complete=complete_store)
@click.option(
    "--missing", metavar="CLASSES.txt", help="Print only the classes of this list that are not in the store."
)
@click.option("--flagged", is_flag=True, help="Only classes with findings of `store lint`.")
@click.option("--unreviewed", is_flag=True, help="Only classes that nobody has approved; see `store review`.")
@click.option("--grep", metavar="REGEX", help="Only classes whose name or descriptors match, ignoring case.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(("name", "count", "effect")),
    help="Order by name, fewest descriptors, or worst measured effect (default: the order of the store).",
)
@json_option
def list_(
    store: str | None,
    missing: str | None,
    flagged: bool,
    unreviewed: bool,
    grep: str | None,
    order: str | None,
    as_json: bool,
) -> None:
    """List the classes of a store; without STORE, list the stores that ship with fieldmarks.

    The table shows the number of descriptors, the origin and the flags, which `store lint --rules` explains.
    If `fieldmarks evaluate` measured effects, it also shows the effect of the class's worst descriptor in
    percentage points of accuracy; a negative effect hurts. If classes have review marks, it shows them.

    \b
    Examples:
      fieldmarks store list
      fieldmarks store list frogs
      fieldmarks store list frogs --grep "webbed|toe"
      fieldmarks store list mine.jsonl --missing classes.txt
      fieldmarks store list mine.jsonl --unreviewed
      fieldmarks store list mine.jsonl --sort effect
    """
    from pathlib import Path

    from fieldmarks.store import Store, queries
    from fieldmarks.store.lint import project_config
    from fieldmarks.text import counted

    if store is None:
        if missing is not None or flagged or unreviewed or grep is not None or order:
            raise click.UsageError("name a STORE: these options choose among its classes")
        shipped = queries.shipped()
        if as_json:
            for ships in shipped:
                emit(ships)
        else:
            stores.table(tuple(shipped[0]), [tuple(ships.values()) for ships in shipped], numbers=(1, 2))
        conclude(f"Listed the {counted(len(shipped), 'store')} that ship with fieldmarks")
        return
    opened = Store(store)
    if missing is not None:
        names = queries.missing(opened, Path(missing))
        for name in names:
            emit({"class": name}) if as_json else stores.line(name)
        conclude(f"{counted(len(names), 'class')} of {missing} not in {store}")
        return
    rows = queries.rows(opened, project_config(), flagged=flagged, unreviewed=unreviewed, grep=grep)
    if order:
        rows = queries.sorted_rows(order, rows)
    if as_json:
        for row in rows:
            emit(row.to_dict())
    else:
        stores.classes(rows)
    conclude(f"Listed {counted(len(rows), 'class')} of {store}", *licence(opened))


@click.command()
@store_argument
@click.argument("regex", metavar="[REGEX]", required=False)
@click.option("--shared", is_flag=True, help="Only descriptors that more than one class has.")
@json_option
def grep(store: str, regex: str | None, shared: bool, as_json: bool) -> None:
    """Find descriptors, and the classes that have them.

    Prints each descriptor that matches REGEX, ignoring case, once, with its classes and its number in each;
    spellings that differ only in case or punctuation count as one, so REGEX may also match the text without
    punctuation: "short legs" finds "short, legs". Those with the most classes come first.

    --shared lists descriptors that several classes have, which cannot tell these apart; with it, REGEX may be
    left out. Exits with 0 even if nothing matches.

    \b
    Examples:
      fieldmarks store grep frogs "webbed|toe"
      fieldmarks store grep frogs --shared
      fieldmarks store grep mine.jsonl "^short legs$" --json
    """
    from fieldmarks.store import Store, bulk
    from fieldmarks.text import counted

    if regex is None and not shared:
        raise click.UsageError("Missing argument 'REGEX': give an expression, or --shared")
    matches = bulk.grep(Store(store), regex or "", shared=shared)
    if as_json:
        for match in matches:
            emit(match.to_dict())
        conclude(f"Found {counted(len(matches), 'descriptor')}")
    else:
        stores.matches(matches, shared=shared and regex is None)


@click.command()
@store_argument
@class_argument
@json_option
def show(store: str, name: str, as_json: bool) -> None:
    """Show everything about a class.

    Shows its descriptors with flags, their origin, and the model's raw answer.

    \b
    Example:
      fieldmarks store show frogs "tree frog"
    """
    from fieldmarks.store import Store, queries
    from fieldmarks.store.lint import project_config
    from fieldmarks.text import counted

    entry, flags = queries.show(Store(store), name, project_config())
    if as_json:
        emit(entry.to_dict() | {"flags": [flag.to_dict() for flag in flags]})
    else:
        stores.entry(entry, flags)
    conclude(f"Showed {counted(len(entry.descriptors), 'descriptor')}")


@click.command()
@store_argument
@class_argument
@json_option
def history(store: str, name: str, as_json: bool) -> None:
    """Show every line of a class, oldest first.

    \b
    Example:
      fieldmarks store history frogs bullfrog
    """
    from fieldmarks.store import Store, queries
    from fieldmarks.text import counted

    entries = queries.history(Store(store), name)
    if as_json:
        for entry in entries:
            emit(entry.to_dict())
    else:
        for number, (before, entry) in enumerate(zip([None, *entries], entries, strict=False), 1):
            stores.step(number, before, entry)
    conclude(f"Showed {counted(len(entries), 'line')}")


@click.command()
@store_argument
@json_option
def stats(store: str, as_json: bool) -> None:
    """Show the statistics of a store.

    Counts classes, descriptors, lines, tokens and review marks, and lists the models and prompts that wrote
    the lists and the rules of `store lint` that find something.

    \b
    Example:
      fieldmarks store stats imagenette
    """
    from fieldmarks.store import Store, queries
    from fieldmarks.store.lint import project_config

    opened = Store(store)
    numbers = queries.stats(opened, project_config())
    if as_json:
        emit(numbers)
    else:
        stores.table(("", ""), stores.statistics(numbers))
    conclude(f"Counted what {store} holds", *licence(opened))
