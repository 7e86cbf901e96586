"""Lint: what is wrong with a store's descriptors, and the remedies that are safe. Pure functions."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldmarks.records import Entry
from fieldmarks.store.curate import Stamp, comparable
from fieldmarks.store.lint_rules import RULES, Listing, Rule, Settings, Severity
from fieldmarks.store.lint_text import chatter, mend


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: of a class, or of its descriptor number `number`, from 1."""

    rule: Rule
    severity: Severity
    name: str
    message: str
    number: int | None = None
    descriptor: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON has it."""
        severity = self.severity.name.lower()
        found = {"code": self.rule.code, "rule": self.rule.name, "severity": severity, "class": self.name}
        where = {} if self.number is None else {"number": self.number, "descriptor": self.descriptor}
        return found | where | {"message": self.message}


def lint(
    entries: Iterable[Entry],
    settings: Settings | None = None,
    *,
    ignore: Collection[str] = (),
    severity: Mapping[str, Severity] | None = None,
    only: str | None = None,
) -> list[Finding]:
    """Return what is wrong, class by class, or with the class `only`.

    `ignore` and `severity` go by the codes of rules.
    """
    listing = Listing(list(entries), settings or Settings())
    severity = severity or {}
    rules = [rule for rule in RULES if rule.code not in ignore]
    return [
        Finding(
            rule,
            severity.get(rule.code, rule.severity),
            entry.name,
            message,
            None if at is None else at + 1,
            None if at is None else entry.descriptors[at],
        )
        for entry in listing.entries
        if only in (None, entry.name)
        for rule in rules
        for at, message in rule.check(entry, listing)
    ]


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how often each rule found something, in the table's order."""
    found = Counter(one.rule.code for one in findings)
    return {rule.code: found[rule.code] for rule in RULES if found[rule.code]}


def by_number(findings: Iterable[Finding]) -> dict[int | None, list[Finding]]:
    """Return one class's findings by the number of the descriptor, None for those of the class itself."""
    found: dict[int | None, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.number, []).append(finding)
    return found


def by_class(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Return the findings of each class that has any."""
    found: dict[str, list[Finding]] = {}
    for one in findings:
        found.setdefault(one.name, []).append(one)
    return found


def mended(entry: Entry, ignore: Collection[str], stamp: Stamp) -> Entry | None:
    """Return the line without debris, chatter, repeats and empty descriptors, or None if it has none."""
    kept: Sequence[str] = entry.descriptors
    if "FM204" not in ignore:
        kept = [mend(one) for one in kept]
    if "FM202" not in ignore:
        kept = [one for one in kept if not chatter(one)]
    if "FM102" not in ignore:
        kept = [one for one in kept if one.strip()]
    if "FM103" not in ignore:
        kept = list({comparable(one): one for one in reversed(kept)}.values())[::-1]
    if tuple(kept) == entry.descriptors:
        return None
    return stamp.curated(entry, kept, entry.rejected)
