"""The demo's invented species: their traits, and the phrases for each trait.

A *trait* is one of eight attributes with one of its values; a *phrase* is one wording of a trait, as in a
descriptor. Every phrase belongs to exactly one trait, so whether a descriptor is true can be looked up.

`species.json` is {name: {attribute: value}}. The first DEMO_COUNT species are the demo's classes. In
training, the demo's CLIP never sees a creature that looks like one of them, nor reads any species' name.
"""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Self

from fieldmarks.paths import shipped

WORDINGS: Mapping[str, Mapping[str, tuple[str, str, str]]] = {
    "colour": {
        "red": ("bright red skin", "a red body", "red colouring"),
        "orange": ("bright orange skin", "an orange body", "orange colouring"),
        "yellow": ("bright yellow skin", "a yellow body", "yellow colouring"),
        "green": ("bright green skin", "a green body", "green colouring"),
        "blue": ("bright blue skin", "a blue body", "blue colouring"),
        "purple": ("bright purple skin", "a purple body", "purple colouring"),
        "pink": ("bright pink skin", "a pink body", "pink colouring"),
        "grey": ("pale grey skin", "a grey body", "grey colouring"),
    },
    "shape": {
        "round": ("a round body", "a body like a ball", "a circular outline"),
        "tall": ("a tall oval body", "a body like an upright egg", "a tall and slender outline"),
        "wide": ("a wide flat body", "a body like a pancake", "a low and broad outline"),
        "square": ("a square body", "a body like a box", "a square outline"),
        "triangle": ("a triangular body", "a body like a pyramid", "a triangular outline"),
        "pear": ("a pear-shaped body", "a body like a pear", "an outline narrow above and broad below"),
    },
    "skin": {
        "plain": ("plain smooth skin", "skin of one even tone", "a plain coat"),
        "spots": ("dark round spots", "spotted skin", "a coat dotted with spots"),
        "stripes": (
            "dark vertical stripes",
            "skin with upright stripes",
            "a coat striped from top to bottom",
        ),
        "bands": ("dark horizontal bands", "skin with level bands", "a coat banded from side to side"),
        "checks": ("dark and light checks", "chequered skin", "a coat like a chessboard"),
    },
    "eyes": {
        "one": ("one large eye", "a single huge eye", "one eye in the middle of the face"),
        "two": ("two small eyes", "a pair of small eyes", "two eyes close together"),
        "stalks": ("two eyes on stalks", "stalked eyes", "eyes raised on long stems"),
        "three": ("three eyes", "three eyes in a row", "a trio of eyes"),
    },
    "legs": {
        "long": ("two long legs", "a pair of long legs", "tall legs like stilts"),
        "short": ("four short legs", "four stubby legs", "four thick little legs"),
        "six": ("six thin legs", "six spidery legs", "three thin legs on each side"),
        "flippers": ("flat flippers", "broad flippers", "flippers like paddles"),
    },
    "tail": {
        "curled": ("a long curled tail", "a tail rolled into a spiral", "a curly tail"),
        "forked": ("a forked tail", "a tail split into two prongs", "a tail like a fork"),
        "bushy": ("a bushy tail", "a fluffy tail", "a tail like a soft cloud"),
        "arrow": ("an arrow-tipped tail", "a tail that ends in an arrowhead", "a tail like an arrow"),
    },
    "ornament": {
        "horns": ("two pointed horns", "a pair of horns", "a horn on either side of the head"),
        "unicorn": ("a single horn", "one straight horn on the forehead", "a lone horn like a unicorn"),
        "antennae": ("long antennae", "two thin feelers", "antennae with round tips"),
        "ears": ("round ears", "large rounded ears", "ears like a mouse"),
        "crest": ("a feather crest", "a crest of feathers", "feathers on top of the head"),
    },
    "mouth": {
        "grin": ("a toothy grin", "a wide grin full of teeth", "big white teeth"),
        "beak": ("a beak", "a pointed beak", "a beak like a bird"),
        "small": ("a small round mouth", "a tiny open mouth", "a mouth like a little circle"),
    },
}
"""attribute -> value -> its three wordings."""


@dataclass(frozen=True, slots=True)
class Creature:
    """One value for each attribute; ValueError names a value that its attribute does not have."""

    colour: str
    shape: str
    skin: str
    eyes: str
    legs: str
    tail: str
    ornament: str
    mouth: str

    def __post_init__(self) -> None:
        for attribute, value in self.traits():
            if value not in WORDINGS[attribute]:
                raise ValueError(f"{attribute} {value!r} is not one of {', '.join(WORDINGS[attribute])}")

    @classmethod
    def from_dict(cls, values: Mapping[str, str]) -> Self:
        """Build a creature from a plain mapping; TypeError if an attribute is missing or unknown."""
        return cls(**values)

    def traits(self) -> Iterator[tuple[str, str]]:
        """Return the (attribute, value) pairs in the order of WORDINGS."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))

    def phrases(self) -> tuple[str, ...]:
        """Return every wording of every trait of this creature."""
        return tuple(phrase for attribute, value in self.traits() for phrase in WORDINGS[attribute][value])


TRAIT_OF_PHRASE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        phrase: (attribute, value)
        for attribute, values in WORDINGS.items()
        for value, phrases in values.items()
        for phrase in phrases
    }
)
"""phrase -> (attribute, value)."""


def trait_of(descriptor: str) -> tuple[str, str] | None:
    """Return the (attribute, value) of a descriptor, ignoring case and a final period, or None."""
    return TRAIT_OF_PHRASE.get(descriptor.strip().rstrip(".").casefold())


def is_true_of(descriptor: str, creature: Creature) -> bool:
    """Return whether a descriptor expresses a trait that the creature has."""
    return trait_of(descriptor) in set(creature.traits())


def difference(creature: Creature, other: Creature) -> int:
    """Return the number of attributes in which two creatures differ, 0 to 8."""
    return sum(left != right for left, right in zip(creature.traits(), other.traits(), strict=True))


def random_creature(rng: random.Random) -> Creature:
    """Return a random creature, with every value of an attribute equally likely."""
    return Creature.from_dict({attribute: rng.choice(list(values)) for attribute, values in WORDINGS.items()})


DEMO_COUNT = 12


@cache
def all_species() -> Mapping[str, Creature]:
    """Return every species of the encyclopedia, name -> creature, in the order of the file."""
    text = resources.files("fieldmarks.demo").joinpath("species.json").read_text(encoding="utf-8")
    return MappingProxyType({name: Creature.from_dict(values) for name, values in json.loads(text).items()})


def demo_species() -> Mapping[str, Creature]:
    """Return the demo's species, name -> creature."""
    return dict(list(all_species().items())[:DEMO_COUNT])


def entry(name: str) -> tuple[str, ...]:
    """Return the eight phrases of a species' entry, always the same; KeyError for an unknown name."""
    rng = random.Random(f"entry of {name}")
    phrases = [rng.choice(WORDINGS[attribute][value]) for attribute, value in all_species()[name].traits()]
    rng.shuffle(phrases)
    return tuple(phrases)


def clip_folder() -> Path:
    """Return the folder of the small CLIPModel."""
    return shipped("demo") / "models" / "clip"


def lm_folder() -> Path:
    """Return the folder of the small causal language model."""
    return shipped("demo") / "models" / "lm"
