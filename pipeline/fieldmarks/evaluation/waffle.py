"""Descriptors by chance, the control that descriptors have to beat: random words, and lists of other classes.

Random words and characters in the place of descriptors are those of Roth et al., Waffling around for
Performance (2023). A seed draws the same on every machine.
"""

import random
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

WAFFLE_TEMPLATE: Final = "a photo of a {class}, which has {descriptor}"
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_LETTERS_AND_DIGITS: Final = string.ascii_lowercase + string.digits
_LENGTHS: Final = range(4, 9)  # characters of a random string


def words(descriptors: Iterable[str]) -> list[str]:
    """Return the distinct words of descriptors, sorted: what random pairs are drawn from."""
    return sorted({word.casefold() for text in descriptors for word in _WORD.findall(text)})


def random_descriptors(classes: Mapping[str, Sequence[str]], seed: int) -> dict[str, list[str]]:
    """Return as many random texts for each class as it has descriptors.

    Two random strings of characters and two random words of the descriptors follow each other in turn. As in
    the source, all classes read the same ones, so that nothing in them can tell classes apart.
    """
    chance = random.Random(f"waffle {seed}")
    vocabulary = words(text for listed in classes.values() for text in listed)
    most = max(len(set(listed)) for listed in classes.values())
    drawn: dict[str, None] = {}
    while len(drawn) < most:
        drawn[_pair(chance, vocabulary if len(drawn) % 2 and len(vocabulary) ** 2 > most else [])] = None
    return {name: list(drawn)[: len(set(listed))] for name, listed in classes.items()}


def derangement(count: int, seed: int) -> list[int]:
    """Return a random order of `count` things in which none keeps its place; all such are equally likely.

    Raises ValueError for fewer than two.
    """
    if count < 2:
        raise ValueError("one thing alone cannot change places")
    chance = random.Random(f"swapped {seed}")
    order = list(range(count))
    while any(place == one for place, one in enumerate(order)):
        chance.shuffle(order)
    return order


def swapped(classes: Mapping[str, Sequence[str]], seed: int) -> dict[str, Sequence[str]]:
    """Return the classes with their lists exchanged; a class without descriptors stays without.

    Raises ValueError where fewer than two classes have descriptors.
    """
    described = [name for name, listed in classes.items() if listed]
    order = derangement(len(described), seed)
    moved = {name: classes[described[other]] for name, other in zip(described, order, strict=True)}
    return {name: moved.get(name, ()) for name in classes}


def _pair(chance: random.Random, vocabulary: Sequence[str]) -> str:
    """Return two random words of a vocabulary, or two strings of random characters without one."""
    if vocabulary:
        return " ".join(chance.choice(vocabulary) for _ in range(2))
    lengths = [chance.choice(_LENGTHS) for _ in range(2)]
    return " ".join("".join(chance.choices(_LETTERS_AND_DIGITS, k=length)) for length in lengths)
