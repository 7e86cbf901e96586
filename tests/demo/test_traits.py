"""Traits: every phrase words exactly one of them, and says what is there."""

import random

import pytest

from fieldmarks.demo.species import (
    TRAIT_OF_PHRASE,
    WORDINGS,
    Creature,
    difference,
    is_true_of,
    random_creature,
    trait_of,
)

CREATURE = random_creature(random.Random(1))


def test_every_wording_is_unique() -> None:
    phrases = [phrase for values in WORDINGS.values() for wordings in values.values() for phrase in wordings]
    assert len(phrases) == len(set(phrases)) == len(TRAIT_OF_PHRASE) == 3 * 39


def test_no_wording_is_a_negation() -> None:
    words = {word for phrase in TRAIT_OF_PHRASE for word in phrase.split()}
    assert words.isdisjoint({"no", "not", "without", "lacks", "never"})


def test_wordings_are_lower_case_without_a_stop() -> None:
    assert all(phrase == phrase.strip(" .,").casefold() for phrase in TRAIT_OF_PHRASE)


@pytest.mark.parametrize("descriptor", ["a bushy tail", " A bushy tail. ", "a fluffy tail"])
def test_a_descriptor_is_recognised(descriptor: str) -> None:
    assert trait_of(descriptor) == ("tail", "bushy")


def test_other_descriptors_are_not() -> None:
    assert trait_of("a bushy") is None
    assert not is_true_of("four wheels", CREATURE)


def test_a_creature_has_what_its_phrases_say() -> None:
    true = set(CREATURE.phrases())
    assert {phrase for phrase in TRAIT_OF_PHRASE if is_true_of(phrase, CREATURE)} == true
    assert len(true) == 3 * len(WORDINGS)


def test_a_creature_comes_back_from_its_traits() -> None:
    assert Creature.from_dict(dict(CREATURE.traits())) == CREATURE


def test_an_unknown_value_is_named() -> None:
    with pytest.raises(ValueError, match="colour 'mauve' is not one of red, orange"):
        Creature.from_dict({**dict(CREATURE.traits()), "colour": "mauve"})


def test_difference_counts_attributes() -> None:
    first = Creature.from_dict({name: next(iter(values)) for name, values in WORDINGS.items()})
    last = Creature.from_dict({name: list(values)[-1] for name, values in WORDINGS.items()})
    assert difference(first, first) == 0
    assert difference(first, last) == len(WORDINGS)
