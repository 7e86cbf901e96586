"""Detects the language of descriptors, because lint rules about English words apply only to English texts.

It distinguishes English, German, and scripts without spaces (Chinese, Japanese). A list has the language that
most of its texts show signs of; a list without signs has its store's language, or English.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal

Language = Literal["en", "de", "zh"]

_HAN: Final = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WITHOUT_BLANKS: Final = re.compile(f"[{_HAN}]")
# Short words of one language that are not words of the other: "die", "den" and "hat" are both.
_GERMAN: Final = re.compile(
    r"[äöüß]|\b(?:und|oder|der|das|dem|eine?[mnrs]?|mit|ohne|auf|bei|beim|zum|zur|vom|nicht|keine?[mnrs]?|ist"
    r"|sind|wie|sehr|etwa|bis|am|im|nach|unter|hinter|zwei|drei|vier|sechs|acht)\b",
    re.IGNORECASE,
)
_ENGLISH: Final = re.compile(r"\b(?:the|a|with|of|and|or|its|is|are|on|to|two|three|four)\b", re.IGNORECASE)
_LETTERS_OF_A_WORD: Final = 2  # on average, in scripts without spaces


def language(texts: Iterable[str]) -> Language | None:
    """Return the language that most texts show signs of, or None if there are none."""
    signs: dict[Language, int] = {"en": 0, "de": 0, "zh": 0}
    for text in texts:
        if _WITHOUT_BLANKS.search(text):
            signs["zh"] += 1
        else:
            german, english = len(_GERMAN.findall(text)), len(_ENGLISH.findall(text))
            if german != english:
                signs["de" if german > english else "en"] += 1
    best = max(signs, key=lambda name: signs[name])
    return best if signs[best] else None


def words(text: str) -> int:
    """Return how many words a text has; in scripts without spaces, two characters count as one word."""
    letters = len(_WITHOUT_BLANKS.findall(text))
    return len(_WITHOUT_BLANKS.sub(" ", text).split()) + -(-letters // _LETTERS_OF_A_WORD)


def named_in(name: str, text: str) -> bool:
    """Whether a text contains a name as whole words, also in the plural; both are `comparable` texts.

    A name in a script without spaces may occur anywhere.
    """
    pattern = re.escape(name).replace(r"\ ", " ")
    if not _WITHOUT_BLANKS.search(name):
        pattern = rf"(?<!\w){pattern}(?:e?s)?(?!\w)"
    return re.search(pattern, text) is not None
