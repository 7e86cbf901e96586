"""A person's changes as pure functions: the line in force goes in, the line to append comes out.

A change never touches an earlier line, so it can be undone; all lines of one command share a `change` name. A
curated line keeps which model and prompt its class came from, and every key of other programs; the raw answer
stays in the history.
"""

import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Final

from fieldmarks.errors import StoreError
from fieldmarks.records import CURATED, FORMAT_VERSION, Entry
from fieldmarks.store.index import ANSWER, END, PERSONAL, RESTORED, kind_of

MAX_DESCRIPTOR: Final = 1000  # characters; CLIP reads about 300 of them


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who makes a change, why and when; one stamp is one change, of however many classes."""

    by: str | None = None
    note: str | None = None
    at: str = field(default_factory=_now)
    change: str = field(default_factory=lambda: secrets.token_hex(4))

    def put(self, entry: Entry, note: str | None = None) -> Entry:
        """Return an entry marked with this stamp; `note` stands in where the person gave none."""
        note = self.note or note
        return replace(entry, v=FORMAT_VERSION, by=self.by, note=note, at=self.at, change=self.change)

    def curated(self, entry: Entry, descriptors: Iterable[str], rejected: Iterable[str]) -> Entry:
        """Return the line that puts a person's descriptors in the place of an entry's."""
        kept = {key: getattr(entry, key) for key in ("name", "prompt", "model", "measured", "extra")}
        bare = Entry(**kept, origin=CURATED)
        return self.put(replace(bare, descriptors=tuple(descriptors), rejected=tuple(rejected)))


def comparable(text: str) -> str:
    """Return what two descriptors share that differ only in case, punctuation or spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = folded
    if not folded.replace(" ", "").isalnum():  # letter by letter only where there is anything to take out
        letters = "".join(" " if unicodedata.category(one)[0] in "PSC" else one for one in folded)
    return " ".join(letters.split()) or folded


def descriptor(text: str) -> str:
    """Return a typed descriptor with its spaces tidied. Raises StoreError for one that cannot be used."""
    tidy = " ".join(unicodedata.normalize("NFC", text).split())
    if not tidy:
        raise StoreError("a descriptor is empty: write what is to be seen")
    if len(tidy) > MAX_DESCRIPTOR:
        raise StoreError(
            f"descriptor {tidy[:40]!r}… has {len(tidy)} characters: {MAX_DESCRIPTOR} are the most"
        )
    if bad := next((c for c in tidy if unicodedata.category(c) in {"Cc", "Cs"}), None):
        raise StoreError(f"descriptor {tidy!r} has the control character {bad!r}: remove it")
    return tidy


def add(entry: Entry, texts: Sequence[str], stamp: Stamp) -> Entry | None:
    """Return the line with descriptors added, or None if all are there; what is added is rejected no more."""
    have = {comparable(one) for one in entry.descriptors}
    new: dict[str, str] = {}
    for one in map(descriptor, texts):
        if comparable(one) not in have:
            new.setdefault(comparable(one), one)
    if not new:
        return None
    rejected = (one for one in entry.rejected if comparable(one) not in new)
    return stamp.curated(entry, (*entry.descriptors, *new.values()), rejected)


def drop(entry: Entry, which: Sequence[str], stamp: Stamp) -> Entry:
    """Return the line with descriptors struck, each given by its text or its number, from 1, and remembered
    as such.

    Raises StoreError for one that the class does not have.
    """
    struck = {position for one in which for position in _positions(entry, one)}
    gone = [one for position, one in enumerate(entry.descriptors) if position in struck]
    kept = [one for position, one in enumerate(entry.descriptors) if position not in struck]
    return stamp.curated(entry, kept, _rejected(entry, gone, kept))


def edit(entry: Entry, descriptors: Sequence[str], stamp: Stamp) -> Entry | None:
    """Return the line with other descriptors, or None if they are the same; those gone count as struck."""
    if tuple(descriptors) == entry.descriptors:
        return None
    gone = [one for one in entry.descriptors if one not in descriptors]
    return stamp.curated(entry, descriptors, _rejected(entry, gone, descriptors))


def end(entry: Entry, stamp: Stamp, note: str | None = None) -> Entry:
    """Return the line that ends a class."""
    return stamp.put(Entry(entry.name, origin=CURATED, removed=True, extra=entry.extra), note)


def rename(entry: Entry, name: str, stamp: Stamp) -> tuple[Entry, Entry]:
    """Return the line that ends a class and the one that begins it under its new name."""
    begun = stamp.curated(replace(entry, name=name, measured=None), entry.descriptors, entry.rejected)
    note = stamp.note or f"renamed from {entry.name!r}"
    return end(entry, stamp, f"renamed to {name!r}"), replace(begun, note=note)


def undo(history: Sequence[Entry], stamp: Stamp) -> Entry | None:
    """Return the line that brings back what was in force before the last change, or None if nothing was
    changed.

    A second undo goes one change further back; the line that began a class is undone only if a command made
    it.
    """
    states = _states(history)
    if len(states) < 2:
        return None
    changed, before = states[-1][0], states[-2][1]
    if changed and is_measurement(changed) and (not before or before.descriptors != changed.descriptors):
        before = replace(changed, measured=None)  # a compaction took the line that was measured
    elif len(states) == 2 and (changed is None or changed.change is None):
        return None
    if before is None:
        return replace(end(history[-1], stamp), undo=True)
    return replace(stamp.put(before), undo=True)


def last_change(history: Sequence[Entry]) -> Entry | None:
    """Return the line of the last change of a class that is not undone, or None."""
    return _states(history)[-1][0]


def is_measurement(entry: Entry) -> bool:
    """Say whether a line does nothing but to add what was measured; later lines may carry that on."""
    return bool(entry.measured and entry.change and entry.measured.get("change") == entry.change)


def find(names: Sequence[str], name: str, where: object) -> str:
    """Return the name if it is among `names`. Raises StoreError that suggests the closest."""
    if name in names:
        return name
    near = get_close_matches(name, names, 3, 0.6)
    hint = (
        f": did you mean {' or '.join(map(repr, near))}?" if near else ": `fieldmarks store list` shows them"
    )
    raise StoreError(f"{where} has no class {name!r}{hint}")


def _positions(entry: Entry, which: str) -> list[int]:
    exact = [position for position, one in enumerate(entry.descriptors) if one == which]
    alike = [p for p, one in enumerate(entry.descriptors) if comparable(one) == comparable(which)]
    if exact or alike:
        return exact or alike
    if which.isdecimal() and 0 < int(which[:9]) <= len(entry.descriptors):
        return [int(which) - 1]
    near = get_close_matches(which, entry.descriptors, 1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"it has {len(entry.descriptors)}: give a text or a number"
    )
    raise StoreError(f"class {entry.name!r} has no descriptor {which!r}: {hint}")


def _rejected(entry: Entry, gone: Iterable[str], kept: Iterable[str]) -> list[str]:
    """Return the struck descriptors, old and new, without those that still stand in another spelling."""
    stand = {comparable(one) for one in kept}
    return list(dict.fromkeys(one for one in (*entry.rejected, *gone) if comparable(one) not in stand))


def _states(history: Sequence[Entry]) -> list[tuple[Entry | None, Entry | None]]:
    """Return (the line, what was in force from then on) of every change that is not undone, oldest first."""
    states: list[tuple[Entry | None, Entry | None]] = [(None, None)]
    personal = answer = None
    for one in history:
        kind = kind_of(one)
        personal = one if kind == PERSONAL else None if kind in (END, RESTORED) else personal
        answer = one if kind in (ANSWER, RESTORED) else None if kind == END else answer
        now = personal or answer
        if one.undo:
            states = states[: max(1, len(states) - 1)]
            states[-1] = (states[-1][0], now)
        elif now is not states[-1][1]:
            states.append((one, now))
    return states
