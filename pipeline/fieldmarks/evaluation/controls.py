"""The controls: what descriptors have to beat, drawn anew for each seed and alike on every machine.

waffle         every class reads the same 30 random texts: 15 of random words and 15 of random characters, in
               turn, as many words and as long as the classes' names are on average; the construction of
               WaffleCLIP, but for its list of words, in whose place stands our own, words.txt
random-words   each class reads as many random texts as it has descriptors: pairs of random strings and pairs
               of the store's own words in turn, the first ones of one list
swapped        each class reads the descriptors of another

Source: Roth et al., Waffling around for Performance (2023), and its code, waffle_tools.py, mode "waffle".
"""

import random
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from statistics import fmean
from typing import Final

from fieldmarks.classification.texts import common_words

PAIRS: Final = 15  # of a text of words and one of characters
_FEWEST_CHARACTERS: Final = 10  # from which strings are drawn
_TRIES: Final = 1000  # to draw a text that is not drawn yet
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_LETTERS_AND_DIGITS: Final = string.ascii_lowercase + string.digits
_LENGTHS: Final = range(4, 9)  # characters of a random string

Classes = Mapping[str, Sequence[str]]


def waffle(classes: Classes, seed: int) -> list[str]:
    """Return the 30 texts that stand in the place of every class's descriptors, all different.

    Names of on average W words of L letters give texts of W words, cut after L letters. Names of on average B
    blanks and a longest word of K letters give B + 1 strings with ", " between them, together the least
    multiple of B + 1 above K characters, from those that occur in the descriptors.
    """
    chance = random.Random(f"waffle {seed}")
    names = [name.replace("_", " ").split(" ") for name in classes]
    count = max(1, round(fmean(map(len, names))))
    letters = max(1, round(fmean(fmean(map(len, name)) for name in names)))
    groups = round(fmean(len(name) - 1 for name in names)) + 1
    longest = ceil(fmean(max(map(len, name)) for name in names))
    length = longest // groups + 1
    words = [word[:letters] for word in common_words()]
    characters = _characters(text for descriptors in classes.values() for text in descriptors)
    drawn: list[str] = []
    for _ in range(PAIRS):
        drawn.append(_new(drawn, (" ".join(chance.choices(words, k=count)) for _ in range(_TRIES))))
        strings = (", ".join(_strings(chance, characters, groups, length)) for _ in range(_TRIES))
        drawn.append(_new(drawn, strings))
    return drawn


def _characters(descriptors: Iterable[str]) -> str:
    """Return the characters of descriptors but blanks, commas and full stops; of few, letters and digits."""
    characters = "".join(sorted(set("".join(descriptors)) - set(" ,.")))
    return characters if len(characters) >= _FEWEST_CHARACTERS else _LETTERS_AND_DIGITS


def _strings(chance: random.Random, characters: str, count: int, length: int) -> list[str]:
    return ["".join(chance.choices(characters, k=length)) for _ in range(count)]


def _new(drawn: Sequence[str], texts: Iterator[str]) -> str:
    """Return the first of random texts that is not drawn yet."""
    return next(text for text in texts if text not in drawn)


def vocabulary_of(descriptors: Iterable[str]) -> list[str]:
    """Return the distinct words of descriptors, sorted: what pairs of words are drawn from."""
    return sorted({word.casefold() for text in descriptors for word in _WORD.findall(text)})


def random_descriptors(classes: Classes, seed: int) -> dict[str, list[str]]:
    """Return as many random texts for each class as it has descriptors.

    Two random strings of characters and two random words of the descriptors follow each other in turn. All
    classes read the first ones of one list, so that nothing in them but their number can tell classes apart.
    """
    chance = random.Random(f"waffle {seed}")
    vocabulary = vocabulary_of(text for descriptors in classes.values() for text in descriptors)
    most = max(len(set(descriptors)) for descriptors in classes.values())
    drawn: dict[str, None] = {}
    while len(drawn) < most:
        drawn[_pair(chance, vocabulary if len(drawn) % 2 and len(vocabulary) ** 2 > most else [])] = None
    return {name: list(drawn)[: len(set(descriptors))] for name, descriptors in classes.items()}


def _pair(chance: random.Random, vocabulary: Sequence[str]) -> str:
    """Return two random words of a vocabulary, or two strings of random characters without one."""
    if vocabulary:
        return " ".join(chance.choice(vocabulary) for _ in range(2))
    lengths = [chance.choice(_LENGTHS) for _ in range(2)]
    return " ".join("".join(chance.choices(_LETTERS_AND_DIGITS, k=length)) for length in lengths)


def derangement(count: int, seed: int) -> list[int]:
    """Return a random order of `count` things in which none keeps its place; all such are equally likely.

    Raises ValueError for fewer than two.
    """
    if count < 2:
        raise ValueError("one thing alone cannot change places")
    chance = random.Random(f"swapped {seed}")
    order = list(range(count))
    while any(place == number for place, number in enumerate(order)):
        chance.shuffle(order)
    return order


def swapped(classes: Classes, seed: int) -> dict[str, Sequence[str]]:
    """Return the classes with their descriptors shuffled between them; a class without any stays without.

    Raises ValueError where fewer than two classes have descriptors.
    """
    described = [name for name, descriptors in classes.items() if descriptors]
    order = derangement(len(described), seed)
    moved = {name: classes[described[other]] for name, other in zip(described, order, strict=True)}
    return {name: moved.get(name, ()) for name in classes}
