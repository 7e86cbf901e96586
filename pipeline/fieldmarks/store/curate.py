"""A person's changes as pure functions: the current line goes in, the line to append comes out.

A change never touches an earlier line, so it can be undone; all lines of one command share a `change` name. A
curated line keeps which model and prompt its class came from, and every key of other programs; the raw answer
stays in the history.
"""

import secrets
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Final, Self

from fieldmarks.errors import StoreError
from fieldmarks.records import CURATED, FAILED, FORMAT_VERSION, GENERATED, Entry
from fieldmarks.store.file import ANSWER, END, PERSONAL, RESTORED, kind_of

MAX_DESCRIPTOR: Final = 1000  # characters; CLIP reads about 300 of them


def now() -> str:
    """Return the time as lines hold it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who makes a change, why and when; one stamp is one change, of however many classes."""

    by: str | None = None
    note: str | None = None
    at: str = field(default_factory=now)
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
        raise StoreError("a descriptor is empty: write what can be seen")
    if len(tidy) > MAX_DESCRIPTOR:
        raise StoreError(
            f"descriptor {tidy[:40]!r}… has {len(tidy):,} characters: expected at most {MAX_DESCRIPTOR:,}"
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
    """Return the line without some descriptors, each given by its text or its number, from 1, and remembered
    as rejected.

    Raises StoreError for one that the class does not have.
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
    kept = [text for position, text in enumerate(entry.descriptors) if position not in removed]
    return stamp.curated(entry, kept, _rejected(entry, gone, kept))


def edit(entry: Entry, descriptors: Sequence[str], stamp: Stamp) -> Entry | None:
    """Return the line with other descriptors, or None if they are the same; those gone are rejected."""
    if tuple(descriptors) == entry.descriptors:
        return None
    kept = set(descriptors)
    gone = [text for text in entry.descriptors if text not in kept]
    return stamp.curated(entry, descriptors, _rejected(entry, gone, descriptors))


def end(entry: Entry, stamp: Stamp, note: str | None = None) -> Entry:
    """Return the line that ends a class."""
    return stamp.put(Entry(entry.name, origin=CURATED, removed=True, extra=entry.extra), note)


def rename(entry: Entry, name: str, stamp: Stamp) -> tuple[Entry, Entry]:
    """Return the line that ends a class and the one that begins it under its new name."""
    begun = stamp.curated(replace(entry, name=name, measured=None), entry.descriptors, entry.rejected)
    note = stamp.note or f"renamed from {entry.name!r}"
    return end(entry, stamp, f"renamed to {name!r}"), replace(begun, note=note)


@dataclass(frozen=True, slots=True)
class Step:
    """What one command did to a class: its last line, and the line that is current from then on.

    `undone_by` is the line that took it back, where one did.
    """

    line: Entry | None
    state: Entry | None
    undone_by: Entry | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The steps of a class that are done, oldest first, and those undone, of which the last is redone next.

    The first step done is the class as it was before any change.
    """

    done: list[Step]
    undone: list[Step]

    @classmethod
    def of(cls, history: Sequence[Entry]) -> Self:
        """Read the steps off a class's lines, oldest first.

        An `undo` line moves the last step from `done` to `undone`, a `redo` line moves it back; any other
        line that changes what is current is a new step and ends redo. Lines of one command are one step.
        """
        done, undone = [Step(None, None)], list[Step]()
        personal = answer = None
        for line in history:
            kind = kind_of(line)
            personal = line if kind == PERSONAL else None if kind in (END, RESTORED) else personal
            answer = line if kind in (ANSWER, RESTORED) else None if kind == END else answer
            state = personal or answer
            last = done[-1]
            if line.redo and undone:
                undone.pop()
                done.append(Step(line, state))
            elif line.undo and not line.redo:
                if len(done) > 1:
                    undone.append(replace(done.pop(), undone_by=line))
                done[-1] = Step(done[-1].line, state)
            elif state is not last.state:
                undone.clear()
                if last.line is not None and line.change is not None and last.line.change == line.change:
                    done.pop()
                done.append(Step(line, state))
        return cls(done, undone)

    def undoable(self) -> Entry | None:
        """Return the line that an undo takes back, or None; one that began a class if a command made it."""
        line = self.done[-1].line
        return line if len(self.done) > 2 or (line is not None and line.change is not None) else None


def undo(history: Sequence[Entry], stamp: Stamp) -> Entry | None:
    """Return the line that brings back what was current before the last change, or None if there is none.

    A second undo goes one change further back.
    """
    timeline = Timeline.of(history)
    line = timeline.undoable()
    if line is None:
        return None
    before = timeline.done[-2].state
    if is_measurement(line) and (not before or before.descriptors != line.descriptors):
        before = replace(line, measured=None)  # a compaction took the line that was measured
    return _brought_back(history, before, stamp, undo=True)


def redo(history: Sequence[Entry], stamp: Stamp) -> Entry | None:
    """Return the line that brings back what the last undo took away, or None if it took nothing.

    An answer carries `undo` too, which makes it current over a person's earlier lines for every reader.
    """
    undone = Timeline.of(history).undone
    if not undone:
        return None
    state = undone[-1].state
    answer = state is not None and state.origin == GENERATED
    return _brought_back(history, state, stamp, undo=answer, redo=True)


def restore(history: Sequence[Entry], number: int, stamp: Stamp) -> Entry | None:
    """Return the line that makes line `number`, from 1, of a class's history a person's and current again.

    Return None if it is current. Raises StoreError for a number that is not there, and for lines without a
    list: failed answers and the class's removal.
    """
    name = history[0].name
    if not 1 <= number <= len(history):
        lines = f"lines 1–{len(history)}" if len(history) > 1 else "line 1 only"
        raise StoreError(f"the history of class {name!r} has {lines}, no line {number}")
    line = history[number - 1]
    if line.removed:
        remedy = "to remove it again, use `fieldmarks store drop STORE CLASS --all`"
        raise StoreError(f"line {number} of class {name!r} removed the class: {remedy}")
    if line.origin == FAILED:
        raise StoreError(f"line {number} of class {name!r} is a failed answer without descriptors")
    if line is Timeline.of(history).done[-1].state:
        return None
    back = stamp.curated(line, line.descriptors, line.rejected)
    return replace(back, note=stamp.note or f"restored line {number}")


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


def _position(entry: Entry, number: str) -> int:
    """Return the position that a number, from 1, names. Raises StoreError that suggests the closest text."""
    count = len(entry.descriptors)
    if number.isdecimal() and 0 < int(number[:9]) <= count:
        return int(number) - 1
    near = get_close_matches(number, entry.descriptors, 1)
    numbers = f"it has {count} (1–{count}, or give its text)" if count else "it has none"
    hint = f"did you mean {near[0]!r}?" if near else numbers
    raise StoreError(f"class {entry.name!r} has no descriptor {number!r}: {hint}")


def _rejected(entry: Entry, gone: Iterable[str], kept: Iterable[str]) -> list[str]:
    """Return the struck descriptors, old and new, without those that still stand in another spelling."""
    stand = {comparable(one) for one in kept}
    return list(dict.fromkeys(one for one in (*entry.rejected, *gone) if comparable(one) not in stand))


def _brought_back(
    history: Sequence[Entry], state: Entry | None, stamp: Stamp, *, undo: bool = False, redo: bool = False
) -> Entry:
    line = end(history[-1], stamp) if state is None else stamp.put(state)
    return replace(line, undo=undo, redo=redo)
