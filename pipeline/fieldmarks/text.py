"""Text helpers: articles, templates, normalisation for comparison, and safe printing."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from fieldmarks.errors import PromptError

_FIELD: Final = re.compile(r"\{([A-Za-z_]+)\}")
# Beginnings written with a vowel and spoken with a consonant, or the reverse.
_AS_CONSONANT: Final = re.compile(
    r"eu|ew|once|ouija|one(?![a-z])|u(?:ni(?!n|m|de)|til|top|s[aeu]|r[aeiou]|k|biq|fo\b|\b)"
)
_AS_VOWEL: Final = re.compile(r"hour|heir|honest|honou?r|[fhlmnrsx](?![a-z])|8|1[18](?!\d)")
_ACRONYM_AS_VOWEL: Final = re.compile(r"[FHLMNRSX][A-Z]{1,4}\b")

_CONTROLS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTIONS: Final = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def article(name: str) -> str:
    """Return the indefinite article, "a" or "an", before an English name as it is spoken.

    The first sound decides, not the first letter: "an hourglass", "a unicorn", "an X-ray fish", "an SUV".
    """
    name = name.strip()
    if _ACRONYM_AS_VOWEL.match(name) and not (name.isupper() and len(name) > 3):
        return "an"
    word = name.lower()
    if _AS_VOWEL.match(word):
        return "an"
    return "an" if word.startswith(tuple("aeiou")) and not _AS_CONSONANT.match(word) else "a"


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each `{name}` with its value in one pass, so that a value's own braces stay as they are.

    Raises PromptError for a `{name}` without a value. Braces around anything but a name are plain text.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            known = ", ".join(f"{{{name}}}" for name in values)
            alone = " without a concept" if match[1] == "concept" else ""
            raise PromptError(f"{match[0]} in {template!r:.80} is unknown{alone}: expected {known}")
        return values[match[1]]

    return _FIELD.sub(value, template)


def comparable(text: str) -> str:
    """Return a normalised text, equal for descriptors that differ only in case, punctuation or spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = folded
    if not folded.replace(" ", "").isalnum():  # letter by letter only if there is anything to remove
        letters = "".join(" " if unicodedata.category(c)[0] in "PSC" else c for c in folded)
    return " ".join(letters.split()) or folded


def counted(count: int, thing: str) -> str:
    """Return a count with its noun: "1 class", "2 classes", "1,000 images"."""
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{count:,} {thing if count == 1 else plural}"


def cut_list(items: Sequence[str], most: int) -> str:
    """Return the first items, separated by commas, and how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def printable(text: str) -> str:
    """Return untrusted text with control characters escaped, so that a terminal cannot act on them.

    Newlines and the marks that change the text direction are escaped too.
    """
    return "".join(
        _escaped(c) if unicodedata.category(c) in _CONTROLS or c in _DIRECTIONS else c for c in text
    )


def columns(text: str) -> int:
    """Return how many terminal columns a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Return a text of at most `width` columns, replacing the middle of a longer text with "…".

    What distinguishes long names is often at their end.
    """
    from rich.cells import set_cell_size

    if columns(text) <= width:
        return text
    after = (width - 1) // 3
    end = set_cell_size(text[::-1], after)[::-1]
    return f"{set_cell_size(text, width - 1 - after).rstrip()}…{end.lstrip()}"


def padded(text: str, width: int) -> str:
    """Return a text padded with spaces on the right to `width` columns."""
    return text + " " * (width - columns(text))


def folded(text: str, width: int) -> list[str]:
    """Return a text as lines of at most `width` columns, broken between words, or within over-long words."""
    if columns(text) <= width:
        return [text]
    from rich.cells import chop_cells

    lines = [""]
    for word in re.findall(r"\s*\S+", text):
        if columns(lines[-1] + word) <= width:
            lines[-1] += word
        else:
            word = word.lstrip()
            lines += chop_cells(word, max(width, 2)) or [word]  # a character takes up to two columns
    return lines if lines[0] else lines[1:]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
