"""A whole store as one page for review: every class with its list, what lint finds, and its review mark.

    write(Path("review.html"), store_page(Store("frogs.jsonl"), Config()))

Classes are in the store's order, and links lead to the classes that they are confused with. A script filters
them as you type; without it, and on paper, all are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldmarks.paths import last_name
from fieldmarks.records import APPROVED, UNSURE, Entry
from fieldmarks.report.document import Imprint, document, fragment
from fieldmarks.store import Store
from fieldmarks.store.descriptor_effects import Measurement, points
from fieldmarks.store.lint import Finding, by_class, by_number, lint
from fieldmarks.store.lint_rules import Config
from fieldmarks.store.queries import origin
from fieldmarks.text import counted, cut_list

MODELS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Line:
    """A descriptor with its findings and its measured effect in points."""

    text: str
    findings: Sequence[Finding]
    effect: str


@dataclass(frozen=True, slots=True)
class ClassCard:
    """A class as the page shows it; `confused_with` has the number of each class that is on the page."""

    number: int
    entry: Entry
    origin: str
    review: str
    findings: Sequence[Finding]  # of the class itself
    lines: Sequence[Line]
    flagged: bool
    confused_with: Sequence[tuple[str, int | None]]
    measured: str


def store_page(store: Store, config: Config, imprint: Imprint | None = None) -> str:
    """Return the page of a store's current classes."""
    entries = list(store.entries())
    findings = by_class(lint(entries, config))
    numbers = {entry.name: number for number, entry in enumerate(entries, 1)}
    cards = [class_card(entry, findings.get(entry.name, ()), numbers) for entry in entries]
    approved, unsure = (sum(entry.review == mark for entry in entries) for mark in (APPROVED, UNSURE))
    flagged = sum(card.flagged for card in cards)
    models = list(dict.fromkeys(last_name(entry.model) for entry in entries if entry.model))
    facts = {
        "Store": store.name,
        "Descriptors": f"{sum(len(entry.descriptors) for entry in entries):,}",
        "Reviewed": f"{approved:,} approved, {unsure:,} unsure, {len(entries) - approved - unsure:,} open",
        "Lint": f"{counted(flagged, 'class')} with findings" if flagged else "no findings",
        "Model": cut_list(models, MODELS_SHOWN),
    }
    body = fragment(
        "store.html.j2",
        cards=cards,
        findings=flagged,
        marked=approved + unsure,
    )
    return document(
        f"Descriptors of {counted(len(entries), 'class')}",
        body,
        facts,
        imprint=imprint,
        styles=("results.css", "store.css"),
        script="store.js",
    )


def class_card(entry: Entry, findings: Sequence[Finding], numbers: Mapping[str, int]) -> ClassCard:
    """Return a class as the page shows it; `numbers` are those of the classes on the page."""
    by = by_number(findings)
    measurement = Measurement.of(entry)
    effects = measurement.effects if measurement else {}
    reviewed: Mapping[str, Any] = entry.reviewed or {}
    parts = (entry.review, reviewed.get("by"), (reviewed.get("at") or "")[:10], reviewed.get("note"))
    return ClassCard(
        number=numbers[entry.name],
        entry=entry,
        origin=", ".join(
            filter(None, (origin(entry), last_name(entry.model or ""), entry.by, (entry.at or "")[:10]))
        ),
        review=", ".join(filter(None, parts)),
        findings=by.get(None, ()),
        lines=[
            Line(text, by.get(place, ()), points(effects[text].effect) if text in effects else "")
            for place, text in enumerate(entry.descriptors, 1)
        ],
        flagged=bool(findings),
        confused_with=[(name, numbers.get(name)) for name in entry.confused_with],
        measured=measurement.where if measurement else "",
    )
