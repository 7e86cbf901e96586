"""Controls: the same random texts for every class or as many as there are, and no list stays where it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.classification.texts import common_words
from fieldmarks.evaluation.arms import (
    derangement,
    random_descriptors,
    swapped,
    vocabulary_of,
    waffle,
)

CLASSES = {
    "tree frog": ["protruding eyes", "a wide mouth", "sticky toe pads"],
    "owl": ["big eyes", "a hooked beak"],
    "newt": [],
}


def test_waffle_has_the_published_structure() -> None:
    """Worked out by hand from the names: 5/3 words of 4 1/6 letters, 2/3 of a blank, 6 as longest word."""
    classes = {"pied kingfisher": ["blue, and white."], "tree_frog": ["a wide mouth"], "owl": []}
    texts = waffle(classes, 0)
    assert (len(texts), len(set(texts))) == (30, 30)
    known = {word[:5] for word in common_words()}  # 4 1/2, 4 and 3 letters a name: (7 + 4 + 3) / 3 = 4.7
    characters = set("blueandwhitemouth")
    for words, strings in zip(texts[::2], texts[1::2], strict=True):
        assert len(words.split(" ")) == 2  # (2 + 2 + 1) / 3
        assert set(words.split(" ")) <= known
        parts = strings.split(", ")
        assert [len(part) for part in parts] == [4, 4]  # (10 + 4 + 3) / 3 is 5.7, so 6, and 8 above it
        assert set("".join(parts)) <= characters


@given(st.dictionaries(st.text("ab _", min_size=1), st.lists(st.text()), min_size=1), st.integers(0, 99))
def test_waffle_is_30_texts_whatever_the_classes(classes: dict[str, list[str]], seed: int) -> None:
    texts = waffle(classes, seed)
    assert len(set(texts)) == 30
    assert texts == waffle(classes, seed)
    assert texts != waffle(classes, seed + 1)


def test_words_are_plain_and_differ() -> None:
    words = common_words()
    assert len(words) == len(set(words)) > 1000
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


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
    with pytest.raises(ValueError, match="one thing alone cannot change places"):
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
