"""How stores are shown to people: tables of 80 columns, changes as lines with - and +."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fieldmarks.records import Entry
    from fieldmarks.store.changes import Change
    from fieldmarks.store.lint import Finding
    from fieldmarks.store.view import Row


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()) -> None:
    """Print a table; the columns at `numbers` are set right.

    Strangers' text cannot reach the terminal raw.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fieldmarks.wording import printable

    shown = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for at, column in enumerate(columns):
        shown.add_column(column, justify="right" if at in numbers else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(str(cell))) for cell in row))
    Console(file=sys.stdout, highlight=False).print(shown)


def counted(value: object) -> str:
    """Return a number, or numbers by name, as one text."""
    return ", ".join(f"{one} {n}" for one, n in value.items()) if isinstance(value, dict) else str(value)


def line(text: str, *, err: bool = False) -> None:
    """Print one line of a stranger's text."""
    from fieldmarks.wording import printable

    click.echo(printable(text), err=err)


def findings(found: Sequence["Finding"]) -> None:
    """Print what lint found as a table, and the counts on stderr."""
    from fieldmarks.store.lint import counts

    if found:
        rows = [(one.rule.code, one.severity.name.lower(), one.name, _about(one)) for one in found]
        table(("code", "severity", "class", "what"), rows)
    summary = ", ".join(f"{code} {count}" for code, count in counts(found).items())
    click.echo(f"{len(found)} found{': ' if found else ''}{summary}", err=True)


def rules(*, as_json: bool) -> None:
    """Print the table of lint rules."""
    from fieldmarks.cli.console import emit
    from fieldmarks.store.lint_rules import RULES

    shown = [
        (one.code, one.name, one.severity.name.lower(), one.doc + (" Fixed by --fix." * one.fix))
        for one in RULES
    ]
    if as_json:
        for row in shown:
            emit(dict(zip(("code", "rule", "severity", "doc"), row, strict=True)))
    else:
        table(("code", "rule", "severity", "what it finds"), shown)


def changes(made: Sequence["Change"], *, dry_run: bool, quiet: bool = False) -> None:
    """Print what a command did, or with `dry_run` would do; `quiet` keeps stdout for others."""
    from fieldmarks.store.comparing import change_lines

    if not made:
        click.echo("Nothing to change.", err=True)
    for change in made:
        for one in change_lines(change.name, change.before, change.after):
            line(one, err=quiet)
    if made and dry_run:
        click.echo("Dry run: nothing was written.", err=True)


def classes(rows: Sequence["Row"]) -> None:
    """Print classes in short; the column of effects is there if one was measured."""
    from fieldmarks.store.measured import points

    shown = [(row.name, row.count, row.origin, " ".join(row.flags), points(row.effect)) for row in rows]
    columns = ("class", "descriptors", "origin", "flags", "worst effect")
    width = len(columns) if any(row.effect is not None for row in rows) else len(columns) - 1
    table(columns[:width], (cells[:width] for cells in shown), numbers=(1, 4))


def entry(one: "Entry", flags: Sequence["Finding"]) -> None:
    """Print a line of a store whole: the descriptors with their flags, where they come from, the answer."""
    from fieldmarks.store.view import origin

    line(f"{one.name}  ({origin(one)})")
    _descriptors(one, flags)
    for finding in flags:
        if finding.number is None:
            line(f"{finding.rule.code} {finding.message}")
    facts = one.to_dict()
    for key in ("class", "descriptors", "origin", "v", "answer", "answers", "measured"):
        facts.pop(key, None)
    for key, value in facts.items():
        line(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    for answer in (
        [one.answer] if one.answer is not None else [sample.get("answer") for sample in one.answers]
    ):
        click.echo("answer:")
        for text in str(answer).split("\n"):
            line(f"  {text}")


def _descriptors(one: "Entry", flags: Sequence["Finding"]) -> None:
    from fieldmarks.store.measured import Measurement, points

    found = Measurement.of(one)
    rows = [(n, text, _flags(flags, n)) for n, text in enumerate(one.descriptors, 1)]
    if found is None:
        table(("", "descriptor", "flags"), rows, numbers=(0,))
        return
    said = {text: points(effect.effect) for text, effect in found.effects.items()}
    measured = [(*cells, said.get(cells[1], "")) for cells in rows]
    table(("", "descriptor", "flags", "effect"), measured, numbers=(0, 3))
    line(f"effect: points of accuracy on {found.where}; {found.model}, {found.preset}, {found.at}")


def step(number: int, before: "Entry | None", after: "Entry") -> None:
    """Print a line of a class's history as what it changed against the one before."""
    from fieldmarks.store.comparing import change_lines
    from fieldmarks.store.curate import is_measurement
    from fieldmarks.store.view import origin

    what = "removed" if after.removed else "undo" if after.undo else origin(after)
    facts = (what, after.at, after.by or after.model, after.note)
    if after.measured and is_measurement(after):
        facts = ("measured", after.measured["at"], after.measured["data"], after.note)
    line(f"{number}. {', '.join(one for one in facts if one)}")
    for one in change_lines("", before, None if after.removed else after)[1:]:
        line(f"   {one}")


def _about(one: "Finding") -> str:
    return one.message if one.descriptor is None else f"{one.number}. {one.descriptor}: {one.message}"


def _flags(flags: Sequence["Finding"], number: int) -> str:
    return " ".join(one.rule.code for one in flags if one.number == number)
