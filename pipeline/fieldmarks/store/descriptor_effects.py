"""The measured effect of each descriptor, saved by an evaluation with the descriptor's class.

A line's `measured`, as `write_effects` makes it; keys beyond these are kept:

    {"at", "change", "data", "model", "preset", "pictures": all images that were evaluated,
     "effects": [{"descriptor", "effect", "margin", "pictures": the images of the class}…]}

The line is otherwise the current one: its origin, and so what generation asks and which line is current,
stays; so do `by` and `at`, which belong to the list. `store undo` takes it back. An effect goes by the
descriptor's exact text: an edited text has none, and one put back has it again. A class under another name, a
union of two lists and a new answer start without.
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
    """A descriptor's contribution: figures with it minus those without it, so a negative one hurts.

    `effect` is in shares of all images, `margin` in logits (cosine times scale), the mean over the images of
    its class, of which there are `images`.
    """

    descriptor: str
    effect: float
    margin: float
    images: int

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read an effect as the file has it."""
        return cls(value["descriptor"], value["effect"], value["margin"], value["pictures"])

    def to_dict(self) -> dict[str, Any]:
        """Return the effect as the file has it."""
        figures = {"effect": self.effect, "margin": self.margin, "pictures": self.images}
        return {"descriptor": self.descriptor, **figures}


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measured effects of a line's descriptors, by their text, and the data they were measured on."""

    at: str
    data: str
    model: str
    preset: str
    images: int
    effects: Mapping[str, DescriptorEffect]
    changed: bool  # the class has another list since

    @classmethod
    def of(cls, entry: Entry) -> Self | None:
        """Return the measurement restricted to a line's descriptors, or None if there is nothing left."""
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
        """Return how many images more are classified correctly without a descriptor; 0 if unmeasured."""
        effect = self.effects.get(descriptor)
        return 0 if effect is None else round(-effect.effect * self.images)

    @property
    def worst(self) -> float:
        """The effect of the descriptor that helps least."""
        return min(effect.effect for effect in self.effects.values())

    @property
    def where(self) -> str:
        """On what it was measured, in words."""
        since = ", with a list that has changed since" if self.changed else ""
        return f"{self.images:,} images of {self.data}{since}"


def points(effect: float | None) -> str:
    """Return a share in percentage points, to three digits: "-1.2", "+0.004"; "" for an unmeasured one."""
    if effect is None:
        return ""
    return f"{100 * effect:+.3g}" if effect else "0"


def is_measurement(entry: Entry) -> bool:
    """Say whether a line does nothing but to add what was measured; later lines may carry that on."""
    return bool(entry.measured and entry.change and entry.measured.get("change") == entry.change)


def write_effects(
    store: Store,
    effects: Mapping[str, Sequence[DescriptorEffect]],
    metadata: Mapping[str, Any],
    stamp: Stamp,
) -> list[Change]:
    """Save the measured effects in the store, each class's on its current line, as one change.

    `metadata` holds "data", "model", "preset" (texts) and "pictures" (their count); "at" is the stamp's if it
    is not there. Raises StoreError that names the class, and writes nothing, for a class that is not current,
    one with another list than was measured, and figures or texts of a wrong kind.
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
