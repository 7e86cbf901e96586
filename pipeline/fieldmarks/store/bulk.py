"""Bulk edits: find a descriptor in all classes, and drop or replace it everywhere in one change.

    for match in bulk.grep(store, "legs"):
        print(match.descriptor, match.names)
    bulk.rewrite(store, bulk.replacing("short legs", "stubby legs"), Stamp(by="ada"))

A rule says what becomes of a descriptor: another text, itself, or None if it is dropped. Regular expressions
match anywhere in a descriptor, ignoring case; `grep` and `dropping` also match it without its punctuation.
Spellings that differ only in case or punctuation count as the same descriptor.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.edits import Change, Plan, Stamp, apply, current_entry, descriptor, edited
from fieldmarks.store.file import Store
from fieldmarks.text import comparable

Rule = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Place:
    """An occurrence of a descriptor: its class, its number there, from 1, and its spelling."""

    name: str
    number: int
    descriptor: str

    def to_dict(self) -> dict[str, Any]:
        """Return the place as a JSON object."""
        return {"class": self.name, "number": self.number, "descriptor": self.descriptor}


@dataclass(frozen=True, slots=True)
class Match:
    """A descriptor and all its places."""

    places: tuple[Place, ...]

    @property
    def descriptor(self) -> str:
        """The spelling of the first place."""
        return self.places[0].descriptor

    @property
    def names(self) -> list[str]:
        """The classes that have the descriptor, each once."""
        return list(dict.fromkeys(place.name for place in self.places))

    def to_dict(self) -> dict[str, Any]:
        """Return the match as a JSON object."""
        return {"descriptor": self.descriptor, "places": [place.to_dict() for place in self.places]}


def pattern(regex: str) -> re.Pattern[str]:
    """Compile a regular expression, ignoring case. Raises StoreError if it is invalid."""
    try:
        return re.compile(regex, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise StoreError(f"{regex!r:.200} is not a regular expression: {error}") from error


def finder(regex: str) -> Callable[[str], bool]:
    """Return a function that searches a text, as it is written and without case and punctuation.

    Raises StoreError for an invalid expression.
    """
    search = pattern(regex).search
    return lambda text: bool(search(text) or search(comparable(text)))


def grep(store: Store, regex: str = "", *, shared: bool = False) -> list[Match]:
    """Return the matching descriptors, most widespread first; with `shared`, only those in several classes.

    Raises StoreError for an invalid expression.
    """
    search = finder(regex)
    groups: dict[str, list[Place]] = {}
    for entry in store.entries():
        for number, text in enumerate(entry.descriptors, 1):
            if search(text):
                groups.setdefault(comparable(text), []).append(Place(entry.name, number, text))
    matches = [Match(tuple(places)) for places in groups.values()]
    sizes = [len(match.names) for match in matches]
    order = sorted(range(len(matches)), key=lambda at: -sizes[at])
    return [matches[at] for at in order if sizes[at] > 1 or not shared]


def dropping(regex: str) -> Rule:
    """Return a rule that drops matching descriptors. Raises StoreError for an invalid expression."""
    search = finder(regex)
    return lambda text: None if search(text) else text


def replacing(old: str, new: str) -> Rule:
    """Return a rule that replaces one descriptor with another, ignoring case and punctuation.

    Raises StoreError for a descriptor that cannot be used.
    """
    replaced, new = comparable(descriptor(old)), descriptor(new)
    return lambda text: new if comparable(text) == replaced else text


def substituting(regex: str, template: str) -> Rule:
    r"""Return a rule that replaces matches within descriptors; `\1` and `\g<name>` stand for groups.

    Raises StoreError for an invalid expression or template; the rule raises it if the result cannot be used.
    """
    compiled = pattern(regex)
    try:
        compiled.sub(template, "")  # parses the template even if nothing matches
    except (re.error, IndexError) as error:
        raise StoreError(f"{template!r:.200} is not a replacement for {regex!r:.200}: {error}") from error

    def substituted(text: str) -> str:
        changed = compiled.sub(template, text)
        if changed == text:
            return text
        try:
            return descriptor(changed)
        except StoreError as error:
            remedy = "to remove descriptors, use `fieldmarks store drop STORE --grep REGEX`"
            raise StoreError(f"replacing in {text!r:.200}: {error}; {remedy}") from error

    return substituted


def rewritten(entry: Entry, rule: Rule, stamp: Stamp) -> Entry | None:
    """Return the line with a rule applied, or None if all descriptors stay; those removed become rejected.

    A descriptor that becomes equal to another of the class, ignoring case and punctuation, is merged with it.
    """
    pairs = [(text, rule(text)) for text in entry.descriptors]
    present = {comparable(text) for text, new in pairs if new == text}
    descriptors = []
    for text, new in pairs:
        if new == text:
            descriptors.append(text)
        elif new is not None and comparable(new) not in present:
            present.add(comparable(new))
            descriptors.append(new)
    return edited(entry, descriptors, stamp)


def rewrite(
    store: Store,
    rule: Rule,
    stamp: Stamp,
    name: str | None = None,
    *,
    dry_run: bool = False,
    plan: Plan | None = None,
) -> list[Change]:
    """Apply a rule to the descriptors of all classes, or of one, in one change.

    Raises StoreError if the class is missing or, with a `plan`, if the change is no longer the planned one.
    """

    def lines(now: Store) -> list[Entry | None]:
        entries = now.entries() if name is None else [current_entry(now, name)]
        return [rewritten(entry, rule, stamp) for entry in entries]

    return apply(store, lines, dry_run=dry_run, plan=plan)


def check_present(store: Store, old: str, name: str | None = None) -> None:
    """Raise StoreError, suggesting the closest, if no class, or not the named class, has a descriptor."""
    entries = list(store.entries()) if name is None else [current_entry(store, name)]
    texts = list(dict.fromkeys(text for entry in entries for text in entry.descriptors))
    if comparable(old) in map(comparable, texts):
        return
    where = f"{store.name}: no class has" if name is None else f"class {entries[0].name!r} does not have"
    near = get_close_matches(old, texts, 1)
    hint = f"did you mean {near[0]!r}?" if near else "pass --regex to replace a part of descriptors"
    raise StoreError(f"{where} the descriptor {old!r:.200}; {hint}")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What became of a descriptor, None if it was dropped, and in which classes.

    `merged` are those classes that already had the new descriptor.
    """

    old: str
    new: str | None
    names: tuple[str, ...]
    merged: frozenset[str]


def rewrites(changes: Iterable[Change], rule: Rule) -> list[Rewrite]:
    """Return what a rule did, descriptor by descriptor, most widespread first."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    merged: dict[tuple[str, str | None], set[str]] = {}
    for change in changes:
        added = set(change.added)
        for text in dict.fromkeys(change.before.descriptors if change.before else ()):
            new = rule(text)
            if new == text:
                continue
            groups.setdefault((text, new), []).append(change.name)
            if new is not None and new not in added:
                merged.setdefault((text, new), set()).add(change.name)
    shown = [
        Rewrite(*key, names=tuple(names), merged=frozenset(merged.get(key, ())))
        for key, names in groups.items()
    ]
    return sorted(shown, key=lambda each: -len(each.names))
