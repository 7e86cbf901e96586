"""Stores in the terminal: tables of at most 80 columns, and changes as lines with - and +."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from fieldmarks.records import Entry
    from fieldmarks.store import bulk
    from fieldmarks.store.bulk import Match
    from fieldmarks.store.edits import Change
    from fieldmarks.store.lint import Finding
    from fieldmarks.store.lint_rules import Rule
    from fieldmarks.store.queries import Row


_GAP: Final = "  "


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()) -> None:
    """Print a table no wider than the terminal; in a file or pipe, each row is one line."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for number, texts in enumerate(table_rows(columns, rows, numbers, width)):
        for text in texts:
            click.echo(click.style(text, bold=True) if number == 0 and any(columns) else text)


def table_rows(
    columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int], width: int | None
) -> Iterator[list[str]]:
    """Yield the lines of each row of a table, the heading first; the columns `numbers` are right-aligned.

    Cells are folded if the table would be wider than `width`. Untrusted text never reaches the terminal raw.
    (rich's tables take a millisecond per row, which is slow for a store of 10,000 classes.)
    """
    from fieldmarks.text import columns as width_of
    from fieldmarks.text import printable

    cells = [[printable(str(cell)) for cell in row] for row in rows]
    heading = [list(columns)] if any(columns) else []
    widths = [max(map(width_of, column)) for column in zip(*heading, *cells, strict=True)]
    if width is not None:
        widths = _narrowed(widths, width - len(_GAP) * (len(widths) - 1))
    for row in (*heading, *cells):
        yield list(_rows(row, widths, numbers))


def _narrowed(widths: Sequence[int], most: int) -> list[int]:
    """Return widths that add up to at most `most`, by narrowing the widest columns."""
    cap = max(widths, default=0)
    while cap > 1 and sum(min(width, cap) for width in widths) > most:
        cap -= 1
    return [min(width, cap) for width in widths]


def _rows(row: Sequence[str], widths: Sequence[int], numbers: Sequence[int]) -> Iterator[str]:
    """Yield the lines of one row of a table."""
    from fieldmarks.text import folded, padded

    pieces = (folded(cell, width) for cell, width in zip(row, widths, strict=True))
    for line in zip_longest(*pieces, fillvalue=""):
        cells = (
            padded(text[::-1], width)[::-1] if at in numbers else padded(text, width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        yield _GAP.join(cells).rstrip()


def statistics(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a store's numbers, as `queries.stats` returns them, as rows for people."""
    from fieldmarks.store.lint_rules import RULES

    reviewed = {
        {"none": "not reviewed"}.get(mark, mark): number for mark, number in numbers["review"].items()
    }
    names = {rule.code: rule.name for rule in RULES}
    found = {f"{code} {names[code]}": number for code, number in numbers["flags"].items()}
    sizes = [f"{number:g} {end}" for end, number in numbers["per_class"].items()]
    rows = {
        "classes": f"{numbers['classes']:,}",
        "removed classes": f"{numbers['ended']:,}",
        "descriptors": f"{numbers['descriptors']:,}",
        "descriptors per class": ", ".join(sizes),
        "rejected descriptors": f"{numbers['rejected']:,}",
        "review": _by_name(reviewed),
        "origin": _by_name(numbers["origins"]),
        "models": _by_name(numbers["models"]),
        "prompts": _by_name(numbers["prompts"]),
        "lint": _by_name(found),
        "lines, with history": f"{numbers['lines']:,}",
        "failed answers": f"{numbers['failed']:,}",
        "tokens of all answers": f"{numbers['tokens']:,}",
    }
    return [(term, text or "–") for term, text in rows.items()]


def _by_name(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({number:,})" for name, number in numbers.items())


def line(text: str, *, err: bool = False) -> None:
    """Print one line of untrusted text."""
    from fieldmarks.text import printable

    click.echo(printable(text), err=err)


def findings(flags: Sequence["Finding"]) -> None:
    """Print what lint found as a table, a row for each finding with its classes."""
    from fieldmarks.store.lint import grouped

    if flags:
        rows = [
            (group[0].severity.name.lower(), _rule(group[0].rule), _what(group), _classes(group))
            for group in grouped(flags)
        ]
        table(("severity", "rule", "what", "class"), rows)


def counts_of_findings(flags: Sequence["Finding"]) -> str:
    """Return how often lint found each problem, as a sentence."""
    from fieldmarks.store.lint import counts
    from fieldmarks.store.lint_rules import RULES
    from fieldmarks.text import counted

    numbers = counts(flags)
    summary = ", ".join(f"{_rule(rule)}: {numbers[rule.code]}" for rule in RULES if rule.code in numbers)
    return f"{counted(len(flags), 'finding')}: {summary}" if flags else "No findings"


def _rule(rule: "Rule") -> str:
    return f"{rule.code} {rule.name}"


def _what(group: Sequence["Finding"]) -> str:
    flag = group[0]
    return flag.message if flag.descriptor is None else f"{flag.descriptor}: {flag.message}"


def _classes(group: Sequence["Finding"]) -> str:
    """Return the number of classes of a finding, if several, and each with the descriptor's number."""
    from fieldmarks.text import counted

    places = [flag.name if flag.number is None else f"{flag.name} #{flag.number}" for flag in group]
    count = len({flag.name for flag in group})
    return f"{counted(count, 'class')}: {', '.join(places)}" if count > 1 else ", ".join(places)


def rules(*, as_json: bool) -> None:
    """Print the table of lint rules."""
    from fieldmarks.cli.console import emit
    from fieldmarks.store.lint_rules import RULES

    shown = [
        (rule.code, rule.name, rule.severity.name.lower(), rule.doc + (" Fixed by --fix." * rule.fix))
        for rule in RULES
    ]
    if as_json:
        for row in shown:
            emit(dict(zip(("code", "rule", "severity", "doc"), row, strict=True)))
    else:
        table(("code", "rule", "severity", "what it finds"), shown)


def changes(
    some: Sequence["Change"],
    *,
    dry_run: bool,
    quiet: bool = False,
    most: int | None = None,
    final: bool = True,
) -> None:
    """Print what a command did, or with `dry_run` would do, in at most `most` lines.

    `quiet` keeps stdout free. If nothing changes or is written, the closing line says so; if the command goes
    on (not `final`), an ordinary line does.
    """
    lines = [text for change in some for text in change.lines()]
    _show_change(lines, dry_run=dry_run, quiet=quiet, most=most, final=final)


def rewrites(rule: "bulk.Rule", some: Sequence["Change"], *, dry_run: bool, most: int | None = None) -> None:
    """Print what a rule did, or would do, to descriptors: each with its classes, in at most `most` lines."""
    from fieldmarks.store.bulk import rewrites
    from fieldmarks.text import counted

    lines = []
    for each in rewrites(some, rule):
        names = (f"{name} (merged)" if name in each.merged else name for name in each.names)
        what = f"- {each.old}" if each.new is None else f"{each.old} → {each.new}"
        lines.append(f"{what}: {counted(len(each.names), 'class')}: {', '.join(names)}")
    _show_change(lines, dry_run=dry_run, most=most)


def _show_change(
    lines: Sequence[str], *, dry_run: bool, quiet: bool = False, most: int | None, final: bool = True
) -> None:
    from fieldmarks.cli.console import conclude, say

    end = conclude if final else say
    if not lines:
        end("Nothing to change.")
    for text in lines[:most]:
        line(text, err=quiet)
    if len(lines) > len(lines[:most]):
        click.echo(f"… {len(lines) - len(lines[:most]):,} more lines", err=True)
    if lines and dry_run:
        end("Dry run: nothing was written.")


def closing(store: str, some: Sequence["Change"], done: str | None = None, *, final: bool = True) -> None:
    """If something was changed, print one sentence that says what was done and how to undo it.

    `done` says it in the command's own words; without it, classes and descriptors are counted.
    """
    from fieldmarks.cli.console import conclude, say
    from fieldmarks.text import counted

    if not some:
        return
    if done is None:
        sizes = (
            (sum(len(change.added) for change in some), "added"),
            (sum(len(change.dropped) for change in some if change.after), "removed"),
        )
        parts = [f"{counted(count, 'descriptor')} {verb}" for count, verb in sizes if count]
        done = ": ".join([effect(some, new="added"), *([", ".join(parts)] if parts else [])])
    empty = sum(bool(change.after and change.dropped and not change.after.descriptors) for change in some)
    left = f" {counted(empty, 'class')} left without descriptors." if empty else ""
    end = conclude if final else say
    end(f"{done[0].upper()}{done[1:]}.{left} `fieldmarks store undo {shlex.quote(store)}` reverts it.")


def commands(lines: Sequence["Entry"]) -> str:
    """Return which command wrote some classes' lines, how many, and who ran it, when and why."""
    from fieldmarks.records import GENERATED, IMPORTED
    from fieldmarks.store.descriptor_effects import is_measurement
    from fieldmarks.store.reviewing import is_review
    from fieldmarks.text import counted

    removed = sum(line.removed for line in lines)
    if all(map(is_measurement, lines)):
        what = "a measurement"
    elif all(map(is_review, lines)):
        what = "a review"
    elif any(line.origin == IMPORTED for line in lines):
        what = "an import"
    elif any(line.origin == GENERATED for line in lines):
        what = "a reparse" if any(line.change for line in lines) else "an answer"
    elif removed:
        what = "a removal" if removed == len(lines) else "a rename"
    else:
        what = "an edit"
    first = lines[0]
    by, at, note = first.by, first.at, first.note
    if first.reviewed and is_review(first):
        by, at, note = (first.reviewed[key] for key in ("by", "at", "note"))
    parts = [f"{what} of {counted(len(lines), 'class')}"]
    parts += [f"by {by}"] if by else []
    parts += [f"at {at}"] if at else []
    parts += [f"({note})"] if note else []
    return " ".join(parts)


def effect(some: Sequence["Change"], new: str = "brought back") -> str:
    """Return how many classes a change removes, adds (`new` says how) and changes."""
    from fieldmarks.text import counted

    removed = sum(change.after is None for change in some)
    back = sum(change.before is None and change.after is not None for change in some)
    counts = ((removed, "removed"), (back, new), (len(some) - removed - back, "changed"))
    return ", ".join(f"{counted(count, 'class')} {verb}" for count, verb in counts if count)


def classes(rows: Sequence["Row"]) -> None:
    """Print a table of classes, with columns for review marks and effects if any class has them."""
    from fieldmarks.store.descriptor_effects import points

    columns = ["class", "descriptors", "origin", "flags"]
    shown = [[row.name, row.count, row.origin, " ".join(row.flags)] for row in rows]
    more = {
        "review": [row.review or "" for row in rows],
        "worst effect": [points(row.effect) for row in rows],
    }
    for column, cells in more.items():
        if any(cells):
            columns.append(column)
            shown = [[*row, cell] for row, cell in zip(shown, cells, strict=True)]
    table(columns, shown, numbers=(1, columns.index("worst effect")) if "worst effect" in columns else (1,))


def matches(some: Sequence["Match"], *, shared: bool) -> None:
    """Print descriptors, each with its classes and its number in each, and the counts on stderr."""
    from fieldmarks.cli.console import conclude
    from fieldmarks.text import counted

    for match in some:
        places = ", ".join(f"{place.name} #{place.number}" for place in match.places)
        line(f"{match.descriptor}: {counted(len(match.names), 'class')}: {places}")
    if some:
        names = {name for match in some for name in match.names}
        conclude(f"Found {counted(len(some), 'descriptor')} in {counted(len(names), 'class')}")
    else:
        conclude("No descriptor is in more than one class." if shared else "No descriptor matches.")


def entry(shown: "Entry", flags: Sequence["Finding"]) -> None:
    """Print all of a store's line: the descriptors with their flags, where they come from, the answer."""
    from fieldmarks.store.queries import origin

    line(f"{shown.name}  ({origin(shown)})")
    _descriptors(shown, flags)
    for flag in flags:
        if flag.number is None:
            line(f"{flag.rule.code} {flag.message}")
    facts = shown.to_dict()
    for key in ("class", "descriptors", "origin", "v", "answer", "answers", "measured"):
        facts.pop(key, None)
    if reviewed := facts.pop("reviewed", None):
        facts["review"] = ", ".join(
            filter(None, (shown.review, *(reviewed[key] for key in ("by", "at", "note"))))
        )
    for key, value in facts.items():
        line(f"{key}: {_readable(value)}")
    answers = [answer.get("answer") for answer in shown.answers] if shown.answer is None else [shown.answer]
    for answer in answers:
        click.echo("answer:")
        for text in str(answer).split("\n"):
            line(f"  {text}")


def _readable(value: object) -> str:
    """Return a line's value for people: strings as they are, objects as `name value`, others as JSON."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_readable(part)}" for key, part in value.items())
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) and part.isprintable() for part in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _descriptors(shown: "Entry", flags: Sequence["Finding"]) -> None:
    from fieldmarks.store.descriptor_effects import Measurement, points
    from fieldmarks.store.lint import by_number

    measurement = Measurement.of(shown)
    by = by_number(flags)
    codes = {number: " ".join(flag.rule.code for flag in some) for number, some in by.items()}
    rows = [(number, text, codes.get(number, "")) for number, text in enumerate(shown.descriptors, 1)]
    if measurement is None:
        table(("", "descriptor", "flags"), rows, numbers=(0,))
        return
    effects = {text: points(effect.effect) for text, effect in measurement.effects.items()}
    measured = [(*cells, effects.get(cells[1], "")) for cells in rows]
    table(("", "descriptor", "flags", "effect"), measured, numbers=(0, 3))
    source = f"{measurement.model}, {measurement.preset}, {measurement.at}"
    line(f"effect: points of accuracy on {measurement.where}; {source}")


def step(number: int, before: "Entry | None", after: "Entry") -> None:
    """Print a line of a class's history as its changes from the one before."""
    from fieldmarks.store.descriptor_effects import is_measurement
    from fieldmarks.store.edits import Change
    from fieldmarks.store.queries import origin
    from fieldmarks.store.reviewing import is_review

    flags = (("redo", after.redo), ("undo", after.undo), ("removed", after.removed))
    what = next((word for word, applies in flags if applies), origin(after))
    facts: tuple[str | None, ...] = (what, after.at, after.by or after.model, after.note)
    if after.measured and is_measurement(after):
        facts = ("measured", after.measured["at"], after.measured["data"], after.note)
    if after.reviewed and is_review(after):
        facts = (after.review, *(after.reviewed[key] for key in ("at", "by", "note")))
    line(f"{number}. {', '.join(filter(None, facts))}")
    change = Change("", before, None if after.removed else after)
    heading, *texts = change.lines()
    if not texts and (after.undo or after.redo) and before is not None:
        if change.is_remarked:
            texts = [heading.strip(" ()")]
        elif before.measured != after.measured:
            texts = ["measured" if after.measured else "no longer measured"]
    for text in texts:
        line(f"   {text}")
