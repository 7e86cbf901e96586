"""Recognise list marks: the bullet characters of every script, numbers, letters and emoji. Pure.

A mark is *certain* if it can be nothing else: a dash, "•" or "3." at the beginning of a line.
It is *possible* if ordinary text can begin the same way: "T. rex", "2 – 3 stripes", or a number after a dash.
Possible marks count only in a sequence that begins with the first of its kind: a., b. or I., II. or 1, 2, 3.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fieldmarks.debris import plain

DASHES: Final = "-–—−‐‑‒―﹣－"
_BLANK: Final = "[ \t\u3000\u00a0]"
_DOTS: Final = "•‣⁃◦∙●○◎◉▪▫■□◻◼◽◾▸▹►▻▶▷◆◇◈❖⬤⚫⚪★☆✦✧✶✱➢➤➔➜➥→⇒»›✓✔✗✘☐☑☒❑❒·・‧⋅※♦☞👉🔹🔸🔷🔶"
# Emoji, except the signs of sexes and planets, which descriptors use.
_EMOJI: Final = "[\U0001f000-\U0001faff\u2600-\u263f\u2644-\u27bf\u2b00-\u2bff\u2300-\u23ff]"
_AFTER_EMOJI: Final = "[\ufe0f\u200d\u2640\u2642\U0001f000-\U0001faff]"
_DOT: Final = re.compile(rf"(?:[{_DOTS}][\ufe0e\ufe0f]?|{_EMOJI}{_AFTER_EMOJI}*+(?={_BLANK})){_BLANK}*+")
_EMOJI_KIND: Final = re.compile(_EMOJI)  # each entry may have a different one
_DASH: Final = re.compile(rf"[{DASHES}]++(?![{DASHES}>]){_BLANK}*+|[*+＊~]{_BLANK}++|[*+]{_BLANK}*+$")
_DASH_APART: Final = re.compile(rf"[{DASHES}]{_BLANK}++")  # after another mark: "1. -5 °C" has only one
_GLYPHS: Final = "①-⑳⑴-⒇⒈-⒛⒜-⒵Ⓐ-ⓩ⓪❶-❿➀-➓㈠-㈩㉑-㉟㊀-㊉㊱-㊿Ⅰ-Ⅻⅰ-ⅻ"
_GLYPH: Final = re.compile(rf"(?:[{_GLYPHS}]|\d\ufe0f?\u20e3|🔟){_BLANK}*+[.)、:]?{_BLANK}*+")
_HAN: Final = "一二三四五六七八九十"
_HAN_NUMBER: Final = re.compile(
    rf"(?:[(（〔][{_HAN}]{{1,3}}[)）〕]|[{_HAN}]{{1,3}}[、．.:])[、，]?{_BLANK}*+(?=\S)"
    rf"|第[{_HAN}\d]{{1,3}}[点點条條项項个個]?[、，,:：.]{_BLANK}*+"
)
_NAMED_NUMBER: Final = re.compile(
    r"(?:feature|descriptor|trait|point|item|characteristic|attribute|field\ mark|merkmal|rasgo"
    rf"|caract[ée]ristique|step|cue|clue|特征|특징|特徴){_BLANK}*\#?\d{{1,2}}{_BLANK}*[:：.)–-]{_BLANK}*+",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(
    rf"""(?P<bracket>[(\[])?\#?\d{{1,3}}
    (?: (?(bracket)[)\]]|\.?[)\]])[.:,]?{_BLANK}*+
      | (?(bracket)(?!))(?:\.\d{{1,2}}(?:\.\d{{1,2}})?[.)]{_BLANK}++
        | \.{_BLANK}++ | [.](?=[^\W\d]|["“'‘«*_(]|$) | 、{_BLANK}*+)
    )
    | [(]?[A-Za-z][)]{_BLANK}*+ | [(][ivx]{{1,5}}[)]{_BLANK}*+ | [ivx]{{1,5}}[)]{_BLANK}++""",
    re.VERBOSE | re.IGNORECASE,
)
_POSSIBLE: Final = re.compile(
    r"(?P<open>[(（\[])?(?:\#|No\. ?)?(?P<number>\d{1,3}|[IVXL]{1,6}|[ivxl]{1,6}|[^\W\d_])"
    rf"(?P<close>\.[)]|[.)\]）．、:]|{_BLANK}?[-–—](?={_BLANK})|(?<=\d))(?:{_BLANK}++|(?<=[、)）\]]))(?=\S)"
    rf"|(?P<dotted>\d{{1,2}}\.\d{{1,2}}){_BLANK}++(?=\S)"
)
_ALPHABETS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "абвгдежзиклмнопрстуфхцчшщэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "가나다라마바사아자차카타파하",
    "アイウエオカキクケコサシスセソ",
    "أبجدهوزحطيكلمنسعفصقرشت",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "कखगघङचछजझञ",
    "กขคงจฉชซญดตถทธนบปผพฟมยรลวสหอ",
    "甲乙丙丁戊己庚辛壬癸",
)
_ROMAN: Final = {"i": 1, "v": 5, "x": 10, "l": 50}
_HASHES: Final = re.compile(r"#{1,6}\s+")
_BOX: Final = re.compile(rf"\[[ xX✓✔]?\]{_BLANK}+")
_COUNTING: Final = frozenset("1aA一①")
RULE: Final = re.compile(r"\s*+([-*_=`~])(?:\s*+\1){2,}+\s*+\w*+\s*+")  # no backtracking: lines can be 1 MiB

MAX_DESCRIPTOR: Final = 1000  # characters; anything longer is not a descriptor

OPENER: Final = re.compile(
    r"(?:sure(?: thing)?|certainly|of course|okay|ok|absolutely|great question|gladly|happy to help)[,.!:]"
    r"|(?:here|below|these|following) (?:are|is)\b|here['’]s\b|the following\b",
    re.IGNORECASE,
)
AND: Final = r"(?:and|und|et|y|e|ed|en|och|og|i|и)"
FIRST_AND: Final = re.compile(rf"^{AND}\s+(?=\S)")
_BEFORE_LAST: Final = re.compile(rf"\s*[,;]\s*{AND}\s*$|\s+(?:and|und|et)\s*$")
_BOLD: Final = re.compile(r"(?:\*\*|__)[^\s*_]")
AFTERWORD: Final = re.compile(
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
_LABEL: Final = re.compile(
    r"(?:(?:visual|key|main|useful|distinctive|distinguishing|unique)[\s_-]+)?"
    r"(?:descriptor|feature|trait|mark|characteristic|attribute|cue|clue|name|title|text|value|label|item|point|key"
    r"|merkmal|rasgo|caractéristique|característica|特征|特徴)s?"
)


@dataclass(slots=True)
class Item:
    """An entry of a list: the text after a line's marker, with the lines that continue it.

    `kind` is "1", "a", "A", "一" or "①" for numbers and letters, the bullet itself for bullets, and empty
    for an entry without a mark.
    """

    indent: int
    kind: str
    parts: list[str]
    has_below: bool = False  # there are items nested below it

    @property
    def counts(self) -> bool:
        """Whether its mark is a number or a letter."""
        return self.kind in _COUNTING

    @property
    def titled(self) -> bool:
        """Whether its whole first line is bold: a title, with its description below."""
        return is_bold(self.parts[0])

    @property
    def text(self) -> str:
        """The whole text."""
        first, *more = self.parts
        if not more:
            return first
        if self.titled and any(more):
            return f"{plain(first).rstrip(' :：')}: {_joined(more)}"
        return _joined(self.parts)

    @property
    def is_heading(self) -> bool:
        """Whether it only introduces the items below it: a name or a few words."""
        if not self.has_below:
            return False
        words = plain(self.text[:MAX_DESCRIPTOR])
        labelled = re.search(r"[:–—：]\s*\S|\s-\s", words.rstrip(":： "))
        return not labelled and (self.titled or len(words.split()) <= 6)


def marked_items(lines: Sequence[str]) -> tuple[list[Item], bool]:
    """Return the marked lines with their continuations, and whether the last one is unfinished."""
    items: list[Item] = []
    width = max(map(width_of, lines), default=0)
    is_open = after_blank = False
    for line, mark in zip(lines, marks(lines), strict=True):
        if mark is not None:
            if items:
                items[-1].has_below = _is_below(mark, items[-1], top=items[0].kind)
            items.append(mark)
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


def marks(lines: Sequence[str]) -> list[Item | None]:
    """Return the item that begins on each line, or None for a line without a mark."""
    certain = [certain_mark(line) for line in lines]
    texts = [mark.text if mark else line.strip() for line, mark in zip(lines, certain, strict=True)]
    possible = [
        _possible_numbers(text, bulleted=mark is not None and not mark.counts)
        for text, mark in zip(texts, certain, strict=True)
    ]
    for at, (line, mark) in enumerate(zip(lines, certain, strict=True)):
        if mark is not None and mark.counts:  # "- 1. eyes" begins a sequence that "2. feet" continues
            possible[at] = (_possible_numbers(line.strip(), bulleted=True)[0], "")
    alone = sum(mark is not None for mark in certain) == 1
    in_sequence = _in_sequence([numbers for numbers, _ in possible], alone=alone)
    items: list[Item | None] = []
    rows = zip(lines, certain, texts, possible, in_sequence, strict=True)
    for line, mark, text, (_, behind), counts in rows:
        items.append(Item(_indent(line), _kind(text), [behind]) if counts and behind else mark)
    return items


def certain_mark(line: str) -> Item | None:
    """Return the item of a line that begins with a certain mark, else None."""
    if RULE.fullmatch(line):
        return None
    text = line.strip()
    if (heading := _HASHES.match(text)) is not None:  # "## 1. Bulging eyes"
        number = _counted(text[heading.end() :])
        return None if number is None else Item(_indent(line), _kind(text[heading.end() :]), [number])
    if (dash := _DASH.match(text) or _DOT.match(text)) is None:
        number = _counted(text)
        if number is None:
            return None
        return Item(_indent(line), _kind(text), [_without_inner_bullet(number)])
    kind = "-" if text[0] in DASHES else "☺" if _EMOJI_KIND.match(text) else text[0]
    return Item(_indent(line), kind, [_without_inner_bullet(text[dash.end() :])])


def _kind(text: str) -> str:
    """Return the kind of number or letter that a text begins with."""
    first = text.lstrip("*_([（〔#第 ")[:1]
    if first.isdecimal():
        return "1"
    if first in _HAN:
        return "一"
    return ("A" if first.isupper() else "a") if first.isalpha() else "①"


def _counted(text: str) -> str | None:
    """Return the text after a certain number or letter, which may be in bold: "**1. Eyes** – large"."""
    bare = text.lstrip("*_") if text[:1] in "*_" else text
    emphasis = text[: len(text) - len(bare)]
    for kind in (_NUMBER, _GLYPH, _HAN_NUMBER, _NAMED_NUMBER):
        if (number := kind.match(bare)) is not None:
            rest = bare[number.end() :]
            if emphasis and rest.startswith(emphasis):  # "**1.** Eyes"
                return rest[len(emphasis) :].strip()
            return (emphasis + rest).strip()
    return None


def _without_inner_bullet(text: str) -> str:
    """Return a text without a second marker after the first: a box, an emoji, a glyph."""
    for pattern in (_BOX, _DASH_APART, _DOT, _BOX, _GLYPH):
        if (inner := pattern.match(text)) is not None and text[inner.end() :].strip():
            text = text[inner.end() :]
    return text.strip()


def _possible_numbers(text: str, *, bulleted: bool) -> tuple[dict[str, int], str]:
    """Return the numbers that a possible mark may stand for, by kind, and the text after it.

    After a bullet, a number followed by a space or a dash is part of the text: "- 1 horn".
    """
    bare = text.lstrip("*_") if text[:1] in "*_" else text
    match = _POSSIBLE.match(bare)
    if match is None:
        return {}, ""
    emphasis = text[: len(text) - len(bare)]
    behind = bare[match.end() :].strip()
    behind = (
        behind[len(emphasis) :].strip() if emphasis and behind.startswith(emphasis) else emphasis + behind
    )
    if match["dotted"]:
        major, minor = map(int, match["dotted"].split("."))
        return ({}, "") if bulleted else ({f"{major}.": minor}, behind)
    letter, close = match["number"].lower(), (match["close"] or " ").strip() or " "
    if bulleted and close in {" ", "-", "–", "—"}:
        return {}, ""
    numbers: dict[str, int] = {}
    if letter.isdecimal():
        numbers[f"number{close}"] = int(letter)
    if not letter.strip("ivxl") and close != " ":
        numbers[f"roman{close}"] = _roman(letter)
    for alphabet in _ALPHABETS:
        if len(letter) == 1 and letter in alphabet and close != " ":
            numbers[f"{alphabet[0]}{close}"] = alphabet.index(letter) + 1
    return numbers, behind


def _in_sequence(numbers: Sequence[dict[str, int]], *, alone: bool) -> list[bool]:
    """Return, for each line, whether its number belongs to a sequence that begins with 1.

    Bare numbers need three in a row, others two. If only one line has a mark (`alone`), "1." is a sequence
    by itself.
    """
    counts = [False] * len(numbers)
    sequences: dict[
        str, tuple[int, list[int]]
    ] = {}  # by kind: the last number, and the lines not yet counted
    for at, kinds in enumerate(numbers):
        for kind, value in kinds.items():
            last, waiting = sequences.get(kind, (0, []))
            if value == last + 1:
                waiting = [*waiting, at]
            elif value == 1:
                waiting = [at]
            else:
                continue
            needed = 3 if kind == "number " else 2
            if value >= needed or (alone and kind == "number."):
                for line in waiting:
                    counts[line] = True
                waiting = []
            sequences[kind] = (value, waiting)
    return counts


def _roman(letters: str) -> int:
    values = [_ROMAN[letter] for letter in letters]
    return sum(
        -value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True)
    )


_INLINE_DOT: Final = re.compile(r"(?:^|\s)(?P<dot>[•‣⁃◦∙●○◎◉▪▫■□▸►▶◆◇❖★☆✦➢➤✓✔☐☑🔹🔸🔷🔶✅])\ufe0f?(?=\s)")
_INLINE_GLYPH: Final = re.compile(rf"(?:^|(?<=[\s:：;；,，。、]))(?:[{_GLYPHS}]|\d\ufe0f?\u20e3|🔟)")
_INLINE_NUMBER: Final = re.compile(
    r"(?:^|(?<=[\s;,:：；，。]))(?P<open>[(（\[]?)(?P<number>\d{1,3}|[A-Za-z])(?P<close>[.)）\]、．])"
    r"(?:\s+|(?<=[、）)．]))(?=\S)"
)
_LINKING: Final = re.compile(r"[\s;,；，]*(?:[;,；，]\s*(?:and|und|et|y|e|ed|en|и|および|和)|\band)?\s*$")


def split_marks(line: str, *, alone: bool = False) -> Iterator[str]:
    """Yield the entries of a line that has several marks: "• a • b", "1. a 2. b"; else the line itself.

    In the only line of an answer (`alone`), " - ", " – " or " * " three times, or twice if the line begins
    with one, is a list, too.
    """
    starts = _inline_starts(line, alone=alone)
    if len(starts) < 2:
        yield line
        return
    indent = line[: len(line) - len(line.lstrip())]
    if line[: starts[0]].strip(" \t-*"):
        yield line[: starts[0]]
    for start, end in zip(starts, [*starts[1:], len(line)], strict=True):
        entry = line[start:end].strip()
        yield indent + (_LINKING.sub("", entry[-20:]).join([entry[:-20], ""]) if end < len(line) else entry)


def _inline_starts(line: str, *, alone: bool) -> list[int]:
    """Return where the entries of a line begin."""
    dots: dict[str, list[int]] = {}
    for match in _INLINE_DOT.finditer(line):
        dots.setdefault(match["dot"], []).append(match.start("dot"))
    glyphs = [match.start() for match in _INLINE_GLYPH.finditer(line)]
    several = max((*dots.values(), glyphs), key=len)
    if len(several) > 1:
        return several
    numbers: dict[str, list[int]] = {}  # by brackets and kind of number
    for match in _INLINE_NUMBER.finditer(line):
        number = match["number"]
        value = int(number) if number.isdecimal() else ord(number.lower()) - ord("a") + 1
        key = f"{match['open']}{'1' if number.isdecimal() else 'a'}{match['close']}"
        if value == len(numbers.setdefault(key, [])) + 1:
            numbers[key].append(match.start())
    several = max(numbers.values(), key=len, default=[])
    if len(several) < 2 and alone:
        for mark in (" - ", " – ", " * "):
            pieces = (" " + line).split(mark)
            begins = line.lstrip().startswith(mark.strip())
            if len(pieces) > 2 + (not begins):
                return _starts_of(pieces, len(mark))
    return several


def _starts_of(pieces: Sequence[str], width: int) -> list[int]:
    """Return the positions of the marks at which a line, with one space put before it, was split."""
    starts: list[int] = []
    at = -1
    for piece in pieces[:-1]:
        at += len(piece)
        starts.append(at + 1)
        at += width
    return starts


def _is_below(item: Item, above: Item, *, top: str) -> bool:
    """Whether an item is nested in the one above: it is indented more, or has a mark of a lower level.

    Bullets are below numbers, and other items below bold titles; `top` is the kind of the list's first mark.
    """
    if item.indent > above.indent + 1:
        return True
    lower = item.kind not in {above.kind, top} and (above.counts or above.titled)
    return lower and item.indent >= above.indent


def _goes_on(line: str, items: Sequence[Item], *, after_blank: bool, width: int) -> bool:
    """Whether a line without a marker continues the item above it; `width` is the longest line's."""
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
    if ends or AFTERWORD.match(text):
        return False
    word = first if WORDLESS.match(first) else text.split(maxsplit=1)[0]
    wrapped = width_of(item.parts[-1]) >= 18 and width_of(item.parts[-1]) + 3 + width_of(word) > width
    return wrapped or not first.isupper()


def texts_of(items: Sequence[Item]) -> list[str]:
    """Return the texts of items, without a key that they all share: "Feature: …"."""
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
    """Return entries without what joins them as a sentence: "wet," "green; and" "and small."."""
    if len(texts) < 2:
        return texts
    *first, before, last = texts
    if all(text.rstrip().endswith((",", ";")) for text in (*first, before)):
        last = last[match.end() :] if (match := FIRST_AND.match(last)) else last
    return [*first, _BEFORE_LAST.sub("", before[-20:]).join([before[:-20], ""]), last]


def is_bold(text: str) -> bool:
    """Whether a whole line is bold."""
    if len(text) > MAX_DESCRIPTOR or not begins_bold(text):
        return False
    return re.fullmatch(r"(\*\*|__)\S(?:(?!\1).)*\1[:：.]?", text) is not None


def begins_bold(text: str) -> bool:
    return _BOLD.match(text) is not None


def is_heading(text: str) -> bool:
    """Whether a text introduces a list: it ends with a colon, or opens an answer ("Here are …:")."""
    bare = text.rstrip(" \t*_`")
    return bare.endswith((":", "：")) or bool(OPENER.match(text.lstrip("*_ ")) and ":" in text)


def is_label(text: str) -> bool:
    """Whether a text only names what a column or a field holds: "Feature", "Visual traits", "visual_cue"."""
    return _LABEL.fullmatch(plain(text[:60]).casefold().rstrip(":")) is not None


def _indent(line: str) -> int:
    blank = line[: len(line) - len(line.lstrip(" \t\u3000"))]
    return len(blank.expandtabs(4)) if len(blank) < 1000 else len(blank)


def width_of(text: str) -> int:
    """Return how many columns a text takes; Chinese characters take two."""
    if text.isascii() or len(text) > MAX_DESCRIPTOR:
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def _joined(parts: Sequence[str]) -> str:
    """Join wrapped lines with spaces, except in scripts that use none."""
    whole: list[str] = []
    for part in filter(None, parts):
        close = whole and WORDLESS.match(whole[-1][-1]) and WORDLESS.match(part)
        whole.append(part if not whole or close else f" {part}")
    return "".join(whole)
