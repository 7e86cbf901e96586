"""Learned weights, saved in a store on each class's line, for people to read and for `--use-weights`.

A line's `weights`:

    {"of": {descriptor: weight, in multiples of the equal one}, "offset": added to the class's score,
     "encoder": hash of the model, "template", "concept": how texts were worded,
     "at", "data", "change": id of the command that wrote all lines}

A weight says how much a descriptor counts relative to its class's others, and the offset how the class stands
relative to other classes. Weights are therefore valid only for the classes, lists, wording and model that
they were learned with: `of_store` returns them only if lists, wording and model are the same and all were
learned together. A line with a different list has no weights.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.edits import Change, Stamp, apply, current_entry
from fieldmarks.store.file import Store


@dataclass(frozen=True, slots=True)
class ClassWeights:
    """The weights of a class's descriptors, in multiples of the equal one, and the offset of its score."""

    of: Mapping[str, float]
    offset: float


def write_weights(
    store: Store, weights: Mapping[str, ClassWeights], metadata: Mapping[str, Any], stamp: Stamp
) -> list[Change]:
    """Save weights on the classes' current lines, as one change.

    `metadata` holds "encoder", "template", "concept" and "data". Raises StoreError, and writes nothing, for a
    class that is not current or whose list is not the one learned from.
    """
    common = {"at": stamp.at, **metadata, "change": stamp.change}

    def lines(now: Store) -> Iterator[Entry]:
        for name, learned in weights.items():
            entry = current_entry(now, name)
            if learned.of.keys() != set(entry.descriptors):
                raise StoreError(
                    f"{now.name}: class {name!r} has a different list from the one that weights were learned"
                    " for: learn again"
                )
            kept = {"of": dict(learned.of), "offset": learned.offset} | common
            yield stamp.annotated(entry, note=stamp.note or entry.note, weights=kept)

    return apply(store, lines)


def of_store(store: Store, encoder: str, template: str, concept: str | None) -> dict[str, ClassWeights]:
    """Return all classes' weights. Raises StoreError if they are missing or not valid for these texts."""
    found: dict[str, ClassWeights] = {}
    written = set()
    again = "learn again with `fieldmarks learn --write-weights`, or leave out --use-weights"
    for entry in store.entries():
        kept = entry.weights
        if kept is None:
            raise StoreError(f"{store.name}: class {entry.name!r} has no learned weights: {again}")
        if kept["of"].keys() != set(entry.descriptors):
            raise StoreError(
                f"{store.name}: the list of class {entry.name!r} has changed since its weights were learned:"
                f" {again}"
            )
        if kept["encoder"] != encoder:
            raise StoreError(
                f"{store.name}: the weights of class {entry.name!r} were learned with another model: pass"
                f" that one with --clip; or {again}"
            )
        if (kept["template"], kept.get("concept")) != (template, concept):
            raise StoreError(
                f"{store.name}: the weights of class {entry.name!r} were learned with texts worded as"
                f" {kept['template']!r}, not {template!r}: pass the same --preset, --text and --concept; or"
                f" {again}"
            )
        written.add(kept["change"])
        found[entry.name] = ClassWeights(kept["of"], kept["offset"])
    if len(written) > 1:
        raise StoreError(f"{store.name}: the classes' weights were learned at several times: {again}")
    return found
