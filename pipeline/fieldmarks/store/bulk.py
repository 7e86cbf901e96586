"""One descriptor over many classes: where it stands, and dropping or replacing it everywhere in one change.

    for match in bulk.grep(store, "legs"):
        print(match.descriptor, match.names)
    bulk.rewrite(store, bulk.replacing("short legs", "stubby legs"), Stamp(by="ada"))

A rule says what becomes of a descriptor: another text, itself, or None where it is dropped. Regular
expressions are searched for anywhere in a descriptor, ignoring case; `grep` and `dropping` also search it
without its punctuation. Spellings of a descriptor that differ only in case or punctuation count as one.
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
    """Where a descriptor stands: its class, its number there, from 1, and its spelling."""

    name: str
    number: int
    descriptor: str

    def to_dict(self) -> dict[str, Any]:
        """Return the place as JSON has it."""
        return {"class": self.name, "number": self.number, "descriptor": self.descriptor}


@dataclass(frozen=True, slots=True)
class Match:
    """A descriptor in all its places."""

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
        """Return the match as JSON has it."""
        return {"descriptor": self.descriptor, "places": [place.to_dict() for place in self.places]}


def pattern(regex: str) -> re.Pattern[str]:
    """Return a regular expression that ignores case. Raises StoreError if it is not one."""
    try:
        return re.compile(regex, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise StoreError(f"{regex!r:.200} is not a regular expression: {error}") from error


def finder(regex: str) -> Callable[[str], bool]:
    """Return whether an expression is found in a text, as it is written or without case and punctuation.

    Raises StoreError for what is not a regular expression.
    """
    search = pattern(regex).search
    return lambda text: bool(search(text) or search(comparable(text)))


def grep(store: Store, regex: str = "", *, shared: bool = False) -> list[Match]:
    """Return the descriptors that match, those of most classes first; with `shared`, of more than one only.

    Raises StoreError for what is not a regular expression.
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
    """Return the rule that drops the descriptors that match. Raises StoreError for a bad expression."""
    search = finder(regex)
    return lambda text: None if search(text) else text


def replacing(old: str, new: str) -> Rule:
    """Return the rule that puts a descriptor in the place of another, whatever its case and punctuation.

    Raises StoreError for a descriptor that cannot be used.
    """
    replaced, new = comparable(descriptor(old)), descriptor(new)
    return lambda text: new if comparable(text) == replaced else text


def substituting(regex: str, template: str) -> Rule:
    r"""Return the rule that replaces what matches within descriptors; `\1`, `\g<name>` stand for groups.

    Raises StoreError for a bad expression or template; the rule raises it for a text that cannot be used.
    """
    compiled = pattern(regex)
    try:
        compiled.sub(template, "")  # which reads the template, whether or not anything matches
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
    """Return the line with its descriptors by a rule, or None if all stay; those gone are rejected.

    A descriptor that becomes equal to another of the class, but for case and punctuation, is merged with it.
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
    """Change the descriptors of all classes, or of one, by a rule, in one change.

    With a `plan` only if it is still the planned one. Raises StoreError if not, or if the class is missing.
    """

    def lines(now: Store) -> list[Entry | None]:
        entries = now.entries() if name is None else [current_entry(now, name)]
        return [rewritten(entry, rule, stamp) for entry in entries]

    return apply(store, lines, dry_run=dry_run, plan=plan)


def check_present(store: Store, old: str, name: str | None = None) -> None:
    """Raise StoreError, which suggests the closest, if no class, or not the one named, has a descriptor."""
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
    """What became of one descriptor, None where it was dropped, and in which classes.

    `merged` are those of the classes that had the new one already.
    """

    old: str
    new: str | None
    names: tuple[str, ...]
    merged: frozenset[str]


def rewrites(changes: Iterable[Change], rule: Rule) -> list[Rewrite]:
    """Return what a rule did, descriptor by descriptor, those of most classes first."""
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
