"""From the lines of an answer to its entries: marked lines, lines in bold, plain short lines. Pure."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fieldmarks.debris import plain
from fieldmarks.generation.marks import RULE, certain_mark, marks
from fieldmarks.generation.structured import is_label

MAX_DESCRIPTOR: Final = 1000  # characters; longer is a text, not a descriptor

OPENER: Final = re.compile(
    r"(?:sure(?: thing)?|certainly|of course|okay|ok|absolutely|great question|gladly|happy to help)[,.!:]"
    r"|(?:here|below|these|following) (?:are|is)\b|here['’]s\b|the following\b",
    re.IGNORECASE,
)
_INTRODUCED: Final = re.compile(r"^[^:：,;|]{1,80}[:：]\s*")  # "Useful features: "
_BETWEEN: Final = (
    re.compile(r"\s*[;；]\s+"),
    re.compile(r"\s+\|\s+"),
    re.compile(r"\s+/\s+"),
    re.compile(r"、"),
    re.compile(r"\s*(?:,\s+|[，،]\s*)"),
)
_AND: Final = r"(?:and|und|et|y|e|ed|en|och|og|i|и)"
_SPOKEN: Final = re.compile(r"(?:i|yes|no|well|sorry|hello|thanks?)\b", re.IGNORECASE)
_FIRST_AND: Final = re.compile(rf"^{_AND}\s+(?=\S)")
_LAST_AND: Final = re.compile(rf"\s+{_AND}\s+")
_BEFORE_LAST: Final = re.compile(rf"\s*[,;]\s*{_AND}\s*$|\s+(?:and|und|et)\s*$")
_BOLD: Final = re.compile(r"(?:\*\*|__)[^\s*_]")
_AFTERWORD: Final = re.compile(
    r"(?:(?:i )?hope|let me|please|note(?: that)?\b|these|this|if you|feel free|would you|do you"
    r"|overall|together"
    r"|in (?:summary|short|conclusion)|remember|keep in mind|by |with these|all of|ich hoffe|lassen"
    r"|wenn sie|diese"
    r"|j['’]espère|n['’]hésitez|ces |espero|si (?:necesita|quiere|deseas)|estas? "
    r"|希望|如果|这些|以上|これら|이러한|이 )",
    re.IGNORECASE,
)
ENDS: Final = (".", "!", "?", "。", "！", "？", '"', "”", "।", "۔")
LAST_STOPS: Final = (".", "!", "?", "。", "！", "？", "।", "۔")
WORDLESS: Final = re.compile(r"[\u3001-\u30ff\u3400-\u9fff\uff00-\uffef\u0e00-\u0e7f]")


@dataclass(slots=True)
class Item:
    """A marked line with the lines that go on with it."""

    indent: int
    kind: str  # of its mark
    parts: list[str]
    counts: bool = False  # its mark is a number or a letter
    has_below: bool = False  # further items stand below it

    @property
    def titled(self) -> bool:
        """Whether its first line is bold from end to end: a title, with its description below."""
        return is_bold(self.parts[0])

    @property
    def text(self) -> str:
        """The whole text."""
        first, *more = self.parts
        if self.titled and any(more):
            return f"{first.rstrip(' :：')}: {_joined(more)}"
        return _joined(self.parts)

    @property
    def is_heading(self) -> bool:
        """Whether it only announces the items below it: a name or a few words."""
        if not self.has_below:
            return False
        words = plain(self.text[:MAX_DESCRIPTOR])
        labelled = re.search(r"[:–—：]\s*\S|\s-\s", words.rstrip(":： "))
        return not labelled and (self.titled or len(words.split()) <= 6)


def marked_items(lines: Sequence[str]) -> tuple[list[Item], bool]:
    """Return the marked lines with what goes on with them, and whether the last is open at the end."""
    items: list[Item] = []
    width = max(map(_width, lines), default=0)
    is_open = after_blank = False
    for line, mark in zip(lines, marks(lines), strict=True):
        if mark is not None:
            item = Item(_indent(line), mark.kind, [mark.text], counts=mark.counts)
            if items:
                items[-1].has_below = _is_below(item, items[-1], top=items[0].kind)
            items.append(item)
            is_open, after_blank = True, False
        elif not line.strip():
            after_blank = after_blank or is_open
        elif items and is_open and _goes_on(line, items, after_blank=after_blank, width=width):
            items[-1].parts.append(line.strip())
            after_blank = False
        else:
            is_open = after_blank = False
    return [item for item in items if any(item.parts)], is_open and not after_blank and bool(
        lines[-1].strip()
    )


def _is_below(item: Item, above: Item, *, top: str) -> bool:
    """Whether an item belongs to the one above: it stands further in, or has a mark of a lower level.

    A number over bullets, or a bold title over others; `top` is the kind of the list's first mark.
    """
    if item.indent > above.indent + 1:
        return True
    lower = item.kind not in {above.kind, top} and (above.counts or above.titled)
    return lower and item.indent >= above.indent


def _goes_on(line: str, items: Sequence[Item], *, after_blank: bool, width: int) -> bool:
    """Whether a line without a mark goes on with the item above it; `width` is the longest line's."""
    text, item = line.strip(), items[-1]
    if RULE.fullmatch(line) or is_heading(text) or text.startswith(("#", "<", "|")):
        return False
    if not any(item.parts):
        return not after_blank or len(items) == 1
    if _indent(line) > item.indent:
        return True
    if after_blank or is_bold(text):
        return False
    if item.titled and len(item.parts) == 1:
        return True
    first = text.lstrip("*_\"'“")[:1]
    if first.islower():
        return True
    ends = text.endswith(LAST_STOPS) and not any(other.parts[-1].endswith(LAST_STOPS) for other in items)
    if ends or _AFTERWORD.match(text):
        return False
    word = first if WORDLESS.match(first) else text.split(maxsplit=1)[0]
    wrapped = _width(item.parts[-1]) >= 18 and _width(item.parts[-1]) + 3 + _width(word) > width
    return wrapped or not first.isupper()


def bold_items(lines: Sequence[str]) -> tuple[list[Item], bool]:
    """Return the lines that begin in bold as items, where there are several, with what follows them."""
    items: list[Item] = []
    is_open = False
    for line in lines:
        text = line.strip()
        if begins_bold(text) and not (is_heading(text) and not items):
            items.append(Item(0, "", [text]))
            is_open = True
        elif text and is_open and not RULE.fullmatch(line):
            if not _AFTERWORD.match(text) or len(items[-1].parts) == 1:
                items[-1].parts.append(text)
        elif text or (items and len(items[-1].parts) > 1):
            is_open = False
    described = [item for item in items if len(item.parts) > 1 or not item.titled]
    return (described or items, is_open) if len(items) > 1 else ([], False)


def short_items(lines: Sequence[str]) -> tuple[list[Item], bool]:
    """Return plain lines as items, if the answer is hardly more than a few words a line."""
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
    """Return the parts of an answer's only line as items, where all are a few words: "wet skin, long legs".

    Between commas each part has two words at least, as one descriptor may begin "long, thin".
    """
    texts = [text for text in map(str.strip, lines) if text]
    if len(texts) != 1 or len(texts[0]) > MAX_DESCRIPTOR:
        return [], False
    text = _INTRODUCED.sub("", texts[0], count=1).rstrip(".。")
    parts = next((some for mark in _BETWEEN if len(some := mark.split(text)) > 1), [])
    if (
        len(parts) == 2
    ):  # "wet skin, long legs and big eyes"; of more parts the last may be "black and white tail"
        parts = [parts[0], *_LAST_AND.split(parts[1])]
    parts = [*parts[:-1], _FIRST_AND.sub("", parts[-1], count=1)] if parts else []
    if not parts or _SPOKEN.match(parts[0]):
        return [], False
    least = 1 if any(mark.search(text) for mark in _BETWEEN[:-1]) else 2
    short = all(
        part and least <= _words(part) <= 8 and not re.search(r"[.!?。]\s|[.!?]$", part) for part in parts
    )
    return ([Item(0, "", [part]) for part in parts], True) if len(parts) > 2 and short else ([], False)


def _words(text: str) -> int:
    """Return the number of words; in scripts without blanks, two characters are one."""
    return len(text) // 2 if WORDLESS.match(text) else len(text.split())


def is_plain_list(lines: Sequence[str]) -> bool:
    """Whether lines, of which only the first has a mark, are plain entries and no wrapped text."""
    first, *below = [line for line in lines if line.strip()]
    if not below or not lines[0].strip() or certain_mark(first) is None or first.endswith(LAST_STOPS):
        return False
    return all(_is_short(line) and _width(line) <= 40 for line in (first, *below)) and not any(
        line[0].isspace() or line.endswith(LAST_STOPS) or RULE.fullmatch(line) or is_heading(line)
        for line in below
    )


def _is_short(text: str) -> bool:
    sentence = (text.endswith(ENDS) and len(text.split()) > 4) or OPENER.match(text) or _AFTERWORD.match(text)
    return not sentence and _width(text[:99]) <= 80 and len(text.split()) <= 10


def texts_of(items: Sequence[Item]) -> list[str]:
    """Return the texts of items, without a key that all of them begin with: "Feature: …"."""
    texts = _without_and([item.text for item in items])
    keys = [re.match(r"[\"']?([^\W\d_]+)[\"']?:\s+(?=\S)", text) for text in texts]
    first = keys[0] if keys else None
    if first is None or not is_label(first[1]) or any(key is None or key[1] != first[1] for key in keys):
        return texts
    texts = [text[first.end() :] for text in texts]
    return [
        re.sub(r"[\"']?\s+(?:description|details?|explanation|why|reason): [\"']?", ": ", text)
        for text in texts
    ]


def _without_and(texts: list[str]) -> list[str]:
    """Return entries without what joins them to a sentence: "wet," "green; and" "and small."."""
    if len(texts) < 2:
        return texts
    *first, before, last = texts
    if all(text.rstrip().endswith((",", ";")) for text in (*first, before)):
        last = last[match.end() :] if (match := _FIRST_AND.match(last)) else last
    return [*first, _BEFORE_LAST.sub("", before[-20:]).join([before[:-20], ""]), last]


def is_bold(text: str) -> bool:
    """Whether a line is bold from end to end."""
    if len(text) > MAX_DESCRIPTOR or not begins_bold(text):
        return False
    return re.fullmatch(r"(\*\*|__)\S(?:(?!\1).)*\1[:：.]?", text) is not None


def begins_bold(text: str) -> bool:
    return _BOLD.match(text) is not None


def is_heading(text: str) -> bool:
    """Whether a text announces a list: it ends with a colon, or opens an answer ("Here are …:")."""
    bare = text.rstrip(" \t*_`")
    return bare.endswith((":", "：")) or bool(OPENER.match(text.lstrip("*_ ")) and ":" in text)


def _indent(line: str) -> int:
    blank = line[: len(line) - len(line.lstrip(" \t\u3000"))]
    return len(blank.expandtabs(4)) if len(blank) < 1000 else len(blank)


def _width(text: str) -> int:
    """Return how many columns a text takes; Chinese characters take two."""
    if text.isascii() or len(text) > MAX_DESCRIPTOR:
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def _joined(parts: Sequence[str]) -> str:
    """Join wrapped lines, with a blank between them except in scripts that have none."""
    whole: list[str] = []
    for part in filter(None, parts):
        close = whole and WORDLESS.match(whole[-1][-1]) and WORDLESS.match(part)
        whole.append(part if not whole or close else f" {part}")
    return "".join(whole)
