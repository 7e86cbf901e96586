"""The species table: names that give nothing away, creatures that can be told apart."""

import itertools

import pytest

from fieldmarks.demo.species import (
    DEMO_COUNT,
    TRAIT_OF_PHRASE,
    WORDINGS,
    all_species,
    demo_species,
    difference,
    entry,
    trait_of,
)


def test_how_many() -> None:
    assert len(all_species()) == 48
    assert list(demo_species()) == list(all_species())[:DEMO_COUNT]


def test_names_are_plain_words() -> None:
    assert all(name.isascii() and name.isalpha() and name.islower() for name in all_species())


def test_no_name_holds_a_word_of_a_trait() -> None:
    words = {word for phrase in TRAIT_OF_PHRASE for word in phrase.replace("-", " ").split() if len(word) > 2}
    assert [(name, word) for name in all_species() for word in words if word in name] == []


def test_any_two_differ_in_three_attributes() -> None:
    pairs = itertools.combinations(all_species().values(), 2)
    assert min(difference(*pair) for pair in pairs) >= 3


@pytest.mark.parametrize("attribute", WORDINGS)
def test_the_demo_shows_every_value(attribute: str) -> None:
    shown = {getattr(creature, attribute) for creature in demo_species().values()}
    assert shown == set(WORDINGS[attribute])


def test_an_entry_words_every_trait_once() -> None:
    for name, creature in all_species().items():
        assert sorted(filter(None, map(trait_of, entry(name)))) == sorted(creature.traits())
        assert entry(name) == entry(name)


def test_entries_differ_in_order() -> None:
    orders = {tuple(trait[0] for trait in map(trait_of, entry(name)) if trait) for name in all_species()}
    assert len(orders) > 40


def test_an_unknown_name_has_no_entry() -> None:
    with pytest.raises(KeyError):
        entry("unicorn")
