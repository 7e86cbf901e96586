"""Common English words, from which texts without a meaning are drawn: controls, and queries about nothing."""

import random
from functools import cache
from pathlib import Path
from typing import Final

WORDS: Final = Path(__file__).with_name("words.txt")
_MOST: Final = 3  # words of a random text


@cache
def common_words() -> tuple[str, ...]:
    """Return the words of words.txt."""
    lines = WORDS.read_text("utf-8").splitlines()
    return tuple(word for line in lines if not line.startswith("#") for word in line.split())


def random_texts(count: int, seed: str) -> list[str]:
    """Return different texts of one to three random words, the same ones on every machine."""
    chance, words, texts = random.Random(seed), common_words(), dict[str, None]()
    while len(texts) < count:
        texts[" ".join(chance.choices(words, k=chance.randint(1, _MOST)))] = None
    return list(texts)
