"""Random descriptors: as many as there are, the same for a seed, and no list stays where it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.evaluation.arms import derangement, random_descriptors, swapped, vocabulary_of

CLASSES = {
    "tree frog": ["protruding eyes", "a wide mouth", "sticky toe pads"],
    "owl": ["big eyes", "a hooked beak"],
    "newt": [],
}


@given(st.integers(2, 30), st.integers(0, 1000))
def test_nothing_keeps_its_place(count: int, seed: int) -> None:
    order = derangement(count, seed)
    assert sorted(order) == list(range(count))
    assert all(place != number for place, number in enumerate(order))
    assert order == derangement(count, seed)


def test_all_derangements_are_equally_likely() -> None:
    drawn = [tuple(derangement(4, seed)) for seed in range(1800)]
    counts = [drawn.count(order) for order in set(drawn)]
    assert len(counts) == 9
    assert all(140 < count < 260 for count in counts)


def test_one_alone_cannot_move() -> None:
    with pytest.raises(ValueError, match="at least two"):
        derangement(1, 0)


def test_a_seed_draws_the_same_everywhere() -> None:
    assert derangement(6, 0) == [2, 4, 0, 5, 1, 3]
    assert random_descriptors(CLASSES, 0)["tree frog"] == ["t77mnm p1wcn8", "mouth eyes", "z1jorbi zwkr32"]


@pytest.mark.slow
@given(
    st.dictionaries(st.text("ab", min_size=1), st.lists(st.text("cde ", min_size=1), max_size=5), min_size=1)
)
def test_as_many_as_there_are(classes: dict[str, list[str]]) -> None:
    drawn = random_descriptors(classes, 1)
    assert {name: len(texts) for name, texts in drawn.items()} == {
        name: len(set(texts)) for name, texts in classes.items()
    }
    longest = max(drawn.values(), key=len)
    assert len(set(longest)) == len(longest)
    assert all(texts == longest[: len(texts)] for texts in drawn.values())


def test_half_are_words_of_the_store() -> None:
    known = set(vocabulary_of(text for listed in CLASSES.values() for text in listed))
    assert known == {"beak", "big", "eyes", "hooked", "mouth", "pads", "protruding", "sticky", "toe", "wide"}
    texts = random_descriptors({"frog": [f"{word} skin" for word in sorted(known)]}, 3)["frog"]
    of_words = [set(text.split()) <= known | {"skin"} for text in texts]
    assert of_words == [False, True] * 5


@given(st.integers(0, 100))
def test_lists_are_exchanged(seed: int) -> None:
    classes = CLASSES | {"toad": ["warts"]}
    moved = swapped(classes, seed)
    assert list(moved) == list(classes)
    assert moved["newt"] == ()
    assert sorted(map(list, moved.values())) == sorted(map(list, classes.values()))
    assert all(list(moved[name]) != listed for name, listed in classes.items() if listed)
