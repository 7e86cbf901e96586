"""What an evaluation measured of each descriptor, kept with the class that has it.

A line's `measured`, as `write` makes it; keys beyond these are kept:

    {"at", "change", "data", "model", "preset", "pictures": all that were evaluated,
     "effects": [{"descriptor", "effect", "margin", "pictures": those of the class}…]}

The line is otherwise the one in force: its origin, and so what generation asks and what is in force, stays;
so do `by` and `at`, which tell of the list. `store undo` takes it back. An effect goes by the descriptor's
exact text: an edited text has none, and one put back has it again. A class under another name, a union of two
lists and a new answer start without.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from fieldmarks.errors import StoreError
from fieldmarks.records import FORMAT_VERSION, Entry
from fieldmarks.store.curate import Stamp
from fieldmarks.store.edits import Change, apply, current_entry
from fieldmarks.store.file import Store

_ABOUT: Final = ("at", "data", "model", "preset", "pictures")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a descriptor brings: figures with it minus those without it, so a negative one hurts.

    `effect` is in shares of all pictures, `margin` in logits (cosine times scale), the mean over the pictures
    of its class, of which there are `pictures`.
    """

    descriptor: str
    effect: float
    margin: float
    pictures: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of a line's descriptors, by their text, and on what."""

    at: str
    data: str
    model: str
    preset: str
    pictures: int
    effects: Mapping[str, Measured]
    changed: bool  # the class has another list since

    @classmethod
    def of(cls, entry: Entry) -> Self | None:
        """Return what holds for the descriptors that a line has, or None if nothing does."""
        said = entry.measured
        if said is None:
            return None
        every = {
            one["descriptor"]: Measured(*(one[key] for key in ("descriptor", "effect", "margin", "pictures")))
            for one in said["effects"]
        }
        effects = {text: every[text] for text in entry.descriptors if text in every}
        if not effects:
            return None
        about = {key: said[key] for key in _ABOUT}
        return cls(**about, effects=effects, changed=set(entry.descriptors) != every.keys())

    def lost(self, descriptor: str) -> int:
        """Return how many pictures more are answered rightly without a descriptor; 0 for one unmeasured."""
        one = self.effects.get(descriptor)
        return 0 if one is None else round(-one.effect * self.pictures)

    @property
    def worst(self) -> float:
        """The effect of the descriptor that helps least."""
        return min(one.effect for one in self.effects.values())

    @property
    def where(self) -> str:
        """On what it was measured, in words."""
        since = ", with a list that has changed since" if self.changed else ""
        return f"{self.pictures:,} pictures of {self.data}{since}"


def points(effect: float | None) -> str:
    """Return a share in percentage points, to three digits: "-1.2", "+0.004"; "" for an unmeasured one."""
    if effect is None:
        return ""
    return f"{100 * effect:+.3g}" if effect else "0"


def write(
    store: Store, measured: Mapping[str, Sequence[Measured]], about: Mapping[str, Any], stamp: Stamp
) -> list[Change]:
    """Put what was measured into the store, for each class on the line in force, as one change.

    `about` holds "data", "model", "preset" (texts) and "pictures" (their count); "at" is the stamp's if it is
    not there. Raises StoreError that names the class, and writes nothing, for a class that is not in force,
    one with another list than was measured, and figures or texts of a wrong kind.
    """
    common = {"at": stamp.at, **about, "change": stamp.change}

    def make(now: Store) -> Iterator[Entry]:
        for name, effects in measured.items():
            entry = current_entry(now, name)
            if {one.descriptor for one in effects} != set(entry.descriptors):
                raise StoreError(
                    f"{now.path}: class {name!r} has another list than was measured: evaluate it again"
                )
            if effects:
                yield _line(entry, common | {"effects": [asdict(one) for one in effects]}, stamp)

    return apply(store, make)


def _line(entry: Entry, measured: Mapping[str, Any], stamp: Stamp) -> Entry:
    line = replace(
        entry,
        v=FORMAT_VERSION,
        undo=False,
        redo=False,
        change=stamp.change,
        note=stamp.note or entry.note,
        measured=measured,
    )
    try:
        return Entry.from_dict(line.to_dict())  # what could not be read back must not be written
    except StoreError as error:
        raise StoreError(f"class {entry.name!r}: {error}") from error
