"""Read lists without list marks: bold lines, short plain lines, or the parts of one line. Pure."""

import re
from collections.abc import Sequence
from typing import Final

from fieldmarks.generation.bullets import (
    AFTERWORD,
    AND,
    ENDS,
    FIRST_AND,
    LAST_STOPS,
    MAX_DESCRIPTOR,
    OPENER,
    RULE,
    WORDLESS,
    Item,
    begins_bold,
    certain_mark,
    is_heading,
    is_label,
    width_of,
)

_INTRODUCED: Final = re.compile(r"^[^:：,;|]{1,80}[:：]\s*")  # "Useful features: "
_BETWEEN: Final = (
    re.compile(r"\s*[;；]\s+"),
    re.compile(r"\s+\|\s+"),
    re.compile(r"\s+/\s+"),
    re.compile(r"、"),
    re.compile(r"\s*(?:,\s+|[，،]\s*)"),
)
_SPOKEN: Final = re.compile(r"(?:i|yes|no|well|sorry|hello|thanks?)\b", re.IGNORECASE)
_LAST_AND: Final = re.compile(rf"\s+{AND}\s+")


def bold_items(lines: Sequence[str]) -> tuple[list[Item], bool]:
    """Return lines that begin in bold, if there are several, as items with what follows them."""
    items: list[Item] = []
    is_open = False
    for line in lines:
        text = line.strip()
        if begins_bold(text) and not (is_heading(text) and not items):
            items.append(Item(0, "", [text]))
            is_open = True
        elif text and is_open and not RULE.fullmatch(line):
            if not AFTERWORD.match(text) or len(items[-1].parts) == 1:
                items[-1].parts.append(text)
        elif text or (items and len(items[-1].parts) > 1):
            is_open = False
    described = [item for item in items if len(item.parts) > 1 or not item.titled]
    return (described or items, is_open) if len(items) > 1 else ([], False)


def short_items(lines: Sequence[str]) -> tuple[list[Item], bool]:
    """Return plain lines as items, if most lines of the answer have only a few words."""
    texts = [
        text
        for text in map(str.strip, lines)
        if text and not is_heading(text) and not RULE.fullmatch(text) and not text.startswith(("#", "|"))
    ]
    if len(texts) > 2 and is_label(texts[0]) and " " not in texts[0]:  # the heading of a column
        del texts[0]
    short = [text for text in texts if _is_short(text)]
    if len(short) < 2 or len(short) < 0.6 * len(texts):
        return [], False
    return [Item(0, "", [text]) for text in short], bool(lines[-1].strip()) and texts[-1] == short[-1]


def inline_items(lines: Sequence[str]) -> tuple[list[Item], bool]:
    """Return the parts of an answer's only line as items if each is a few words: "wet skin, long legs".

    Between commas, each part needs at least two words, as a single descriptor may begin "long, thin".
    """
    texts = [text for text in map(str.strip, lines) if text]
    if len(texts) != 1 or len(texts[0]) > MAX_DESCRIPTOR:
        return [], False
    text = _INTRODUCED.sub("", texts[0], count=1).rstrip(".。")
    parts = next((some for mark in _BETWEEN if len(some := mark.split(text)) > 1), [])
    if (
        len(parts) == 2
    ):  # "wet skin, long legs and big eyes"; with more parts, the last may be "black and white tail"
        parts = [parts[0], *_LAST_AND.split(parts[1])]
    parts = [*parts[:-1], FIRST_AND.sub("", parts[-1], count=1)] if parts else []
    if not parts or _SPOKEN.match(parts[0]):
        return [], False
    least = 1 if any(mark.search(text) for mark in _BETWEEN[:-1]) else 2
    short = all(
        part and least <= _words(part) <= 8 and not re.search(r"[.!?。]\s|[.!?]$", part) for part in parts
    )
    return ([Item(0, "", [part]) for part in parts], True) if len(parts) > 2 and short else ([], False)


def _words(text: str) -> int:
    """Return the number of words; in scripts without spaces, two characters count as one."""
    return len(text) // 2 if WORDLESS.match(text) else len(text.split())


def is_plain_list(lines: Sequence[str]) -> bool:
    """Whether lines, of which only the first has a mark, are plain entries rather than wrapped text."""
    first, *below = [line for line in lines if line.strip()]
    if not below or not lines[0].strip() or certain_mark(first) is None or first.endswith(LAST_STOPS):
        return False
    return all(_is_short(line) and width_of(line) <= 40 for line in (first, *below)) and not any(
        line[0].isspace() or line.endswith(LAST_STOPS) or RULE.fullmatch(line) or is_heading(line)
        for line in below
    )


def _is_short(text: str) -> bool:
    sentence = (text.endswith(ENDS) and len(text.split()) > 4) or OPENER.match(text) or AFTERWORD.match(text)
    return not sentence and width_of(text[:99]) <= 80 and len(text.split()) <= 10
