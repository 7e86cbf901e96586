"""The measured effect of each descriptor, which an evaluation saves on the class's line.

A line's `measured`, as `write_effects` writes it; other keys are kept:

    {"at", "change", "data", "model", "preset", "pictures": number of images evaluated,
     "effects": [{"descriptor", "effect", "margin", "pictures": number of images of the class}…]}

The line otherwise repeats the current one. Its origin stays, so that it changes neither what generation asks
nor which line is current; `by` and `at` stay too, as they belong to the list. `store undo` reverts it. An
effect belongs to a descriptor's exact text: an edited descriptor has none, and restoring the text restores
the effect. A renamed class, a union of two lists and a new answer start without effects.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.edits import Change, Stamp, apply, current_entry
from fieldmarks.store.file import Store


@dataclass(frozen=True, slots=True)
class DescriptorEffect:
    """A descriptor's contribution: figures with it minus figures without it; if negative, it hurts.

    `effect` is a fraction of all images; `margin` is in logits (cosine times scale), the mean over the
    `images` images of the descriptor's class.
    """

    descriptor: str
    effect: float
    margin: float
    images: int

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the effect from its JSON object in a store."""
        return cls(value["descriptor"], value["effect"], value["margin"], value["pictures"])

    def to_dict(self) -> dict[str, Any]:
        """Return the effect as its JSON object in a store."""
        figures = {"effect": self.effect, "margin": self.margin, "pictures": self.images}
        return {"descriptor": self.descriptor, **figures}


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measured effects of a line's descriptors, by text, and the data they were measured on."""

    at: str
    data: str
    model: str
    preset: str
    images: int
    effects: Mapping[str, DescriptorEffect]
    changed: bool  # the class's list has changed since

    @classmethod
    def of(cls, entry: Entry) -> Self | None:
        """Return the measurement restricted to a line's descriptors, or None if none was measured."""
        measured = entry.measured
        if measured is None:
            return None
        every = {value["descriptor"]: DescriptorEffect.from_dict(value) for value in measured["effects"]}
        effects = {text: every[text] for text in entry.descriptors if text in every}
        if not effects:
            return None
        source = {key: measured[key] for key in ("at", "data", "model", "preset")}
        changed = set(entry.descriptors) != every.keys()
        return cls(**source, images=measured["pictures"], effects=effects, changed=changed)

    def lost(self, descriptor: str) -> int:
        """Return how many more images are classified correctly without a descriptor; 0 if unmeasured."""
        effect = self.effects.get(descriptor)
        return 0 if effect is None else round(-effect.effect * self.images)

    @property
    def worst(self) -> float:
        """The effect of the descriptor that helps least."""
        return min(effect.effect for effect in self.effects.values())

    @property
    def where(self) -> str:
        """What it was measured on, in words."""
        since = ", with a list that has changed since" if self.changed else ""
        return f"{self.images:,} images of {self.data}{since}"


def points(effect: float | None) -> str:
    """Return a fraction in percentage points, to three digits: "-1.2", "+0.004"; "" if unmeasured."""
    if effect is None:
        return ""
    return f"{100 * effect:+.3g}" if effect else "0"


def is_measurement(entry: Entry) -> bool:
    """Return whether a line only adds a measurement, which later lines may carry on."""
    return bool(entry.measured and entry.change and entry.measured.get("change") == entry.change)


def write_effects(
    store: Store,
    effects: Mapping[str, Sequence[DescriptorEffect]],
    metadata: Mapping[str, Any],
    stamp: Stamp,
) -> list[Change]:
    """Save measured effects in the store, each class's with its current line, as one change.

    `metadata` holds "data", "model", "preset" (strings) and "pictures" (number of images); "at" defaults to
    the stamp's. Raises StoreError naming the class, and writes nothing, if a class is not current, its list
    is not the one measured, or a value has the wrong type.
    """
    common = {"at": stamp.at, **metadata, "change": stamp.change}

    def lines(now: Store) -> Iterator[Entry]:
        for name, measured in effects.items():
            entry = current_entry(now, name)
            if {effect.descriptor for effect in measured} != set(entry.descriptors):
                raise StoreError(
                    f"{now.name}: class {name!r} has a different list from the one measured:"
                    " evaluate it again"
                )
            if measured:
                yield _line(entry, common | {"effects": [effect.to_dict() for effect in measured]}, stamp)

    return apply(store, lines)


def _line(entry: Entry, measured: Mapping[str, Any], stamp: Stamp) -> Entry:
    line = stamp.annotated(entry, note=stamp.note or entry.note, measured=measured)
    try:
        return Entry.from_dict(line.to_dict())  # what could not be read back must not be written
    except StoreError as error:
        raise StoreError(f"class {entry.name!r}: {error}") from error
