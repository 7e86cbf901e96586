"""The invented species of the demo: their names, what they look like, and what the encyclopedia says of each.

`species.json` is {name: {attribute: value}}. The first DEMO_COUNT species are the demo's classes; in
training, the demo's CLIP never sees a creature that looks like one of them, nor reads any species' name.
"""

import json
import random
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from fieldmarks.demo.traits import WORDINGS, Creature

DEMO_COUNT = 12


@cache
def all_species() -> Mapping[str, Creature]:
    """Every species of the encyclopedia, name -> creature, in the order of the file."""
    text = resources.files("fieldmarks.demo").joinpath("species.json").read_text(encoding="utf-8")
    return MappingProxyType({name: Creature.from_dict(values) for name, values in json.loads(text).items()})


def demo_species() -> Mapping[str, Creature]:
    """The demo's species, name -> creature."""
    return dict(list(all_species().items())[:DEMO_COUNT])


def entry(name: str) -> tuple[str, ...]:
    """The eight phrases of a species' encyclopedia entry, always the same; KeyError for an unknown name."""
    rng = random.Random(f"entry of {name}")
    phrases = [rng.choice(WORDINGS[attribute][value]) for attribute, value in all_species()[name].traits()]
    rng.shuffle(phrases)
    return tuple(phrases)
