"""A person's edits to a store: each turns a class's current line into the line to append.

    edits.drop(store, "tree frog", ["croaks at night"], Stamp(by="ada", note="cannot be seen"))

A change never touches an earlier line, so it can be undone; all lines of one command share a `change` id. A
curated line keeps the model and prompt that its class came from, and other programs' keys; the raw answer
stays in the history. The functions on entries (`added`, `dropped` …) are pure; those on stores (`add`, `drop`
…) apply them to the store under its lock, and return the classes before and after.
"""

import getpass
import re
import secrets
import shlex
import unicodedata
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Final, Self

from fieldmarks.errors import StoreError
from fieldmarks.records import CURATED, FORMAT_VERSION, Entry, class_name, now
from fieldmarks.store.file import Store
from fieldmarks.text import comparable, cut_list

MAX_DESCRIPTOR: Final = 1000  # characters; CLIP reads about 300 of them
IMPORT: Final = "import-"  # prefix of the `change` of an import's lines
NEAR: Final = 0.85  # difflib ratio above which a name may be a misspelling of another


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who made a change, why and when; one stamp is one change, to any number of classes."""

    by: str | None = None
    note: str | None = None
    at: str = field(default_factory=now)
    change: str = field(default_factory=lambda: secrets.token_hex(4))

    @classmethod
    def of_user(cls, by: str | None, note: str | None) -> Self:
        """Return the stamp of a change made now, by the login name if `by` is None."""
        return cls(by=by or _login(), note=note)

    def put(self, entry: Entry, note: str | None = None) -> Entry:
        """Return an entry with this stamp; `note` is used if the person gave none."""
        note = self.note or note
        return replace(
            entry,
            v=FORMAT_VERSION,
            by=self.by,
            note=note,
            at=self.at,
            change=self.change,
            compacted=False,
        )

    def annotated(self, entry: Entry, **facts: Any) -> Entry:
        """Return the line that adds facts about an entry's list, such as `measured`, and keeps the list."""
        return replace(
            entry, v=FORMAT_VERSION, undo=False, redo=False, compacted=False, change=self.change, **facts
        )

    def curated(self, entry: Entry, descriptors: Iterable[str], rejected: Iterable[str]) -> Entry:
        """Return the line that replaces an entry's descriptors with a person's."""
        origin = ("name", "prompt", "model", "measured", "position", "extra")
        inherited = (*origin, "ids", "confused_with", "parent")
        origins = {key: getattr(entry, key) for key in inherited}
        bare = Entry(**origins, origin=CURATED)
        return self.put(replace(bare, descriptors=tuple(descriptors), rejected=tuple(rejected)))


def _login() -> str | None:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return None
    return name.encode("utf-8", "backslashreplace").decode()  # the environment may not be Unicode


def descriptor(text: str) -> str:
    """Return a typed descriptor with its whitespace normalised. Raises StoreError if it cannot be used."""
    tidy = " ".join(unicodedata.normalize("NFC", text).split())
    if not tidy:
        raise StoreError("a descriptor is empty: write what can be seen")
    if len(tidy) > MAX_DESCRIPTOR:
        raise StoreError(
            f"descriptor {tidy[:40]!r}… has {len(tidy):,} characters: expected at most {MAX_DESCRIPTOR:,}"
        )
    if bad := next((c for c in tidy if unicodedata.category(c) in {"Cc", "Cs"}), None):
        raise StoreError(f"descriptor {tidy!r} has the control character {bad!r}: remove it")
    return tidy


def added(entry: Entry, texts: Sequence[str], stamp: Stamp) -> Entry | None:
    """Return the line with descriptors added, or None if it has them all; they are no longer rejected."""
    known = {comparable(text) for text in entry.descriptors}
    new: dict[str, str] = {}
    for text in map(descriptor, texts):
        if comparable(text) not in known:
            new.setdefault(comparable(text), text)
    if not new:
        return None
    rejected = (text for text in entry.rejected if comparable(text) not in new)
    return stamp.curated(entry, (*entry.descriptors, *new.values()), rejected)


def dropped(entry: Entry, which: Sequence[str], stamp: Stamp) -> Entry:
    """Return the line without some descriptors, which are recorded as rejected.

    Each is given by its text or its number, from 1. Raises StoreError for any that the class does not have.
    """
    exact, similar = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for position, text in enumerate(entry.descriptors):
        exact[text].append(position)
        similar[comparable(text)].append(position)
    removed = {
        position
        for text in which
        for position in exact.get(text) or similar.get(comparable(text)) or [_position(entry, text)]
    }
    gone = [text for position, text in enumerate(entry.descriptors) if position in removed]
    rest = [text for position, text in enumerate(entry.descriptors) if position not in removed]
    return stamp.curated(entry, rest, _rejected(entry, gone, rest))


def edited(entry: Entry, descriptors: Sequence[str], stamp: Stamp) -> Entry | None:
    """Return the line with new descriptors, or None if they are the same; those removed become rejected."""
    if tuple(descriptors) == entry.descriptors:
        return None
    rest = set(descriptors)
    gone = [text for text in entry.descriptors if text not in rest]
    return stamp.curated(entry, descriptors, _rejected(entry, gone, descriptors))


def removed(entry: Entry, stamp: Stamp, note: str | None = None) -> Entry:
    """Return the line that removes a class."""
    return stamp.put(Entry(entry.name, origin=CURATED, removed=True, extra=entry.extra), note)


def renamed(entry: Entry, name: str, stamp: Stamp) -> tuple[Entry, Entry]:
    """Return the line that removes a class and the line that adds it under its new name."""
    begun = stamp.curated(replace(entry, name=name, measured=None), entry.descriptors, entry.rejected)
    note = stamp.note or f"renamed from {entry.name!r}"
    return removed(entry, stamp, f"renamed to {name!r}"), replace(begun, note=note)


def _position(entry: Entry, number: str) -> int:
    """Return the position for a number, from 1. Raises StoreError, suggesting the closest text."""
    count = len(entry.descriptors)
    if number.isdecimal() and 0 < int(number[:9]) <= count:
        return int(number) - 1
    near = get_close_matches(number, entry.descriptors, 1)
    numbers = f"it has {count} (1–{count}, or give its text)" if count else "it has none"
    hint = f"did you mean {near[0]!r}?" if near else numbers
    raise StoreError(f"class {entry.name!r} has no descriptor {number!r}; {hint}")


def _rejected(entry: Entry, gone: Iterable[str], rest: Iterable[str]) -> list[str]:
    """Return the rejected descriptors, old and new, except those that remain in another spelling."""
    spellings = {comparable(text) for text in rest}
    every = (text for text in (*entry.rejected, *gone) if comparable(text) not in spellings)
    return list(dict.fromkeys(every))


@dataclass(frozen=True, slots=True)
class Change:
    """A class before and after a change; None if it does not exist."""

    name: str
    before: Entry | None
    after: Entry | None

    @property
    def status(self) -> str:
        """Whether the class was added, dropped or changed."""
        return "added" if self.before is None else "dropped" if self.after is None else "changed"

    @property
    def added(self) -> list[str]:
        """The descriptors that were added, repeats included."""
        return _more(_list(self.after), _list(self.before))

    @property
    def dropped(self) -> list[str]:
        """The descriptors that were dropped, repeats included."""
        return _more(_list(self.before), _list(self.after))

    @property
    def moved(self) -> list[str]:
        """The descriptors in both lists that moved relative to the others in both."""
        before = _more(_list(self.before)[::-1], self.dropped)[::-1]
        after = _more(_list(self.after)[::-1], self.added)[::-1]
        places: dict[str, list[int]] = {}
        for place in range(len(before) - 1, -1, -1):
            places.setdefault(before[place], []).append(place)
        stay = _longest_rise([places[text].pop() for text in after])
        return [text for place, text in enumerate(after) if place not in stay]

    def to_dict(self) -> dict[str, Any]:
        """Return the change as a JSON object."""
        lists = {"added": self.added, "dropped": self.dropped, "moved": self.moved}
        marks = {"review": _mark(self.after)} if self.is_remarked else {}
        return {"class": self.name, "status": self.status, **lists, **marks}

    @property
    def is_remarked(self) -> bool:
        """Whether a class that stays has a new review mark."""
        return self.status == "changed" and _mark(self.before) != _mark(self.after)

    def lines(self) -> list[str]:
        """Return the change as lines to display: `-` dropped, `+` added, `~` moved."""
        status = "" if self.status == "changed" else f" ({self.status})"
        if self.is_remarked:
            status = f" ({_mark(self.after) or f'no longer marked {_mark(self.before)}'})"
        marked = (("-", self.dropped), ("+", self.added), ("~", self.moved))
        return [self.name + status, *(f"{mark} {text}" for mark, texts in marked for text in texts)]


def _mark(entry: Entry | None) -> str | None:
    return None if entry is None else entry.review


def _list(entry: Entry | None) -> Sequence[str]:
    return () if entry is None else entry.descriptors


def _more(texts: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the multiset difference of `texts` and `others`, in order; of repeats, the later ones."""
    left = Counter(others)
    more = []
    for text in texts:
        if left[text]:
            left[text] -= 1
        else:
            more.append(text)
    return more


def _longest_rise(numbers: Sequence[int]) -> set[int]:
    """Return the positions of a longest increasing subsequence of distinct numbers, in O(n log n) time."""
    tops: list[int] = []  # the lowest number that ends a subsequence of each length
    ends: list[int] = []  # and its position
    before: list[int] = []  # the previous position in its subsequence, or -1
    for position, number in enumerate(numbers):
        length = bisect_left(tops, number)
        before.append(ends[length - 1] if length else -1)
        tops[length : length + 1], ends[length : length + 1] = [number], [position]
    position, rise = ends[-1] if ends else -1, set()
    while position >= 0:
        rise.add(position)
        position = before[position]
    return rise


Plan = Sequence[Change]  # what a dry run returned


def apply(
    store: Store,
    make: Callable[[Store], Iterable[Entry | None]],
    *,
    dry_run: bool = False,
    plan: Plan | None = None,
) -> list[Change]:
    """Append the lines that `make` returns, unless `dry_run`, and return the changes.

    `make` gets the store, locked and up to date unless `dry_run`; None stands for no change. With a `plan`,
    raises StoreError, and writes nothing, if the lines are no longer the planned ones.
    """
    changes: dict[str, Change] = {}

    def lines(now: Store) -> list[Entry]:
        entries = [entry for entry in make(now) if entry is not None]
        after = {entry.name: None if entry.removed else entry for entry in entries}
        if plan is not None and after != {change.name: change.after for change in plan}:
            raise StoreError(f"{now.name} changed in the meantime; nothing was written: try again")
        changes.clear()  # `make` runs again if another program writes meanwhile
        for entry in entries:
            changes[entry.name] = Change(entry.name, now.get(entry.name), after[entry.name])
        return entries

    if dry_run:
        lines(store)
    else:
        store.change(lines)
    return list(changes.values())


def add(
    store: Store, name: str, texts: Sequence[str], stamp: Stamp, *, dry_run: bool = False
) -> list[Change]:
    """Add descriptors to a class, created if missing; one created again keeps its rejected descriptors."""
    name = class_name(name)

    def lines(now: Store) -> list[Entry | None]:
        entry = now.get(name)
        if entry is None:
            history = now.history(name)
            entry = Entry(name, rejected=history[-1].rejected if history else ())
        return [added(entry, texts, stamp)]

    return apply(store, lines, dry_run=dry_run)


def drop(
    store: Store, name: str, which: Sequence[str], stamp: Stamp, *, dry_run: bool = False
) -> list[Change]:
    """Remove descriptors from a class, by text or number."""
    return apply(store, lambda now: [dropped(current_entry(now, name), which, stamp)], dry_run=dry_run)


def remove(store: Store, name: str, stamp: Stamp, *, dry_run: bool = False) -> list[Change]:
    """Remove a class."""
    return apply(store, lambda now: [removed(current_entry(now, name), stamp)], dry_run=dry_run)


def edit(
    store: Store, lists: Collection[tuple[Entry, Sequence[str]]], stamp: Stamp, *, dry_run: bool = False
) -> list[Change]:
    """Replace the descriptors of several classes in one change.

    Raises StoreError, and writes nothing, if a class to be edited has changed since its entry was read.
    """
    entries = [entry for base, texts in lists if (entry := edited(base, texts, stamp))]
    bases = {base.name: base for base, _ in lists}

    def lines(now: Store) -> list[Entry]:
        changed = [repr(entry.name) for entry in entries if now.get(entry.name) != bases[entry.name]]
        if changed:
            what = f"class {changed[0]}" if len(changed) == 1 else f"classes {cut_list(changed, 5)}"
            raise StoreError(f"{what} changed in {store.name} while you were editing: try again")
        return entries

    return apply(store, lines, dry_run=dry_run)


def rename(store: Store, name: str, new: str, stamp: Stamp, *, dry_run: bool = False) -> list[Change]:
    """Rename a class; the new name must not be in use."""
    new = class_name(new)

    def lines(now: Store) -> Iterable[Entry]:
        entry = current_entry(now, name)
        if new in now:
            raise StoreError(f"{store.name} already has a class {new!r}: choose another name")
        return renamed(entry, new, stamp)

    return apply(store, lines, dry_run=dry_run)


def current_entry(store: Store, name: str) -> Entry:
    """Return the current line of a class. Raises StoreError, suggesting the closest names."""
    name = class_name(name)
    entry = store.get(name)
    if entry is None:
        if (meant := store.ids().get(name)) is not None:
            raise StoreError(f"{store.name} has no class {name!r}, but {meant!r} has it among its ids")
        if any(line.removed for line in store.history(name)):
            how = f"`fieldmarks store history {shlex.quote(store.name)} {shlex.quote(name)}` shows its lines"
            raise StoreError(f"{store.name}: class {name!r} has been removed; {how}")
        find(store.names(), name, store.name)
        raise StoreError(f"{store.name} was changed by another program while it was read: try again")
    return entry


def near_names(store: Store, name: str) -> list[str]:
    """Return the classes that a new name may be a misspelling of; none if the store has or had that name.

    Names with different numbers, as models and parts have, count as different.
    """
    name = class_name(name)
    if name in store.all_names():
        return []
    key, numbers = comparable(name), re.findall(r"\d+", name)
    near = get_close_matches(key, (names := {comparable(other): other for other in store.names()}), 3, NEAR)
    return [names[other] for other in near if re.findall(r"\d+", other) == numbers]


def find(names: Sequence[str], name: str, store: str) -> str:
    """Return the name if it is among a store's `names`. Raises StoreError, suggesting the closest."""
    if name in names:
        return name
    near = get_close_matches(name, names, 3, 0.6)
    shown = f": `fieldmarks store list {shlex.quote(store)}` shows them"
    hint = f": did you mean {' or '.join(map(repr, near))}?" if near else shown
    raise StoreError(f"{store} has no class {name!r}{hint}")
