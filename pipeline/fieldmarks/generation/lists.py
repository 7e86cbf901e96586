"""The entries of a list in whatever form: JSON, HTML, tables, marked lines, lines in bold, plain short lines.

JSON becomes texts; HTML and tables become lines with bullets, which are then read as all lines are. Pure.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fieldmarks.debris import plain
from fieldmarks.generation.marks import RULE, certain_mark, marks

LABELS: Final = frozenset(
    (
        *(
            "descriptor",
            "feature",
            "trait",
            "mark",
            "characteristic",
            "attribute",
            "cue",
            "clue",
            "name",
            "title",
            "text",
            "value",
        ),
        *(
            "label",
            "item",
            "point",
            "key",
            "merkmal",
            "rasgo",
            "caractéristique",
            "característica",
            "特征",
            "特徴",
        ),
    )
)
# What an object may say of the class itself before its list of descriptors.
_SUBJECTS: Final = frozenset(["class", "class_name", "category", "species", "subject", "object", "topic"])
_OF_LABELS: Final = frozenset(("visual", "key", "main", "useful", "distinctive", "distinguishing", "unique"))
DETAILS: Final = frozenset(["description", "details", "detail", "explanation", "desc"])

_JSON_START: Final = re.compile(
    r"\A[-\s]*(?=\(\s*[\"'])|(?:\A[-\s]*|\n[ \t]*|(?:\A|```\w{0,12}[ \t]*\n)[^\n\[{*•]{0,200}[:=：][ \t]*)"
    r"(?=[\[{]\s*(?:[\"'“‘\[{]|$)|\[[^\[\]{}()\n\"]{0,2000},[^\[\]{}()\n\"]{0,2000}\]\s*(?:```\s*)?\Z)"
)
_TOKEN: Final = re.compile(
    r"""\s*+(?:(?P<open>[\[{(])|(?P<close>[\]})])|(?P<comma>,)|(?P<colon>:)
    |(?P<comment>\#[^\n]*|//[^\n]*)
    |"(?P<double>(?:[^"\\]|\\.|\\\Z)*+)(?P<double_end>"?)
    |“(?P<curly>[^”]*+)(?P<curly_end>”?)
    |'(?P<single>(?:[^'\\]|\\.|\\\Z|'(?=\w))*+)(?P<single_end>'?)
    |(?P<bare>[^\s\[\]{}(),:"“][^\[\]{}(),:"\n]*+))""",
    re.VERBOSE | re.DOTALL,
)
_MAX_DEPTH: Final = 50  # of JSON; deeper is hostile

_SEPARATOR: Final = re.compile(r"[ \t]*+\|?[ \t]*+:?-+:?[ \t]*+(?:[|+][ \t]*+:?-+:?[ \t]*+)*+\|?[ \t]*+")
_CELL_END: Final = re.compile(r"(?<!\\)\|")
_LATEX: Final = re.compile(
    r"\\(?:begin|end)\{\w{1,20}\*?\}(?:\[[^\]\n]{0,60}\])?|\\item\b(?:\[([^\]\n]{0,200})\])?[ \t]*"
)
_LATEX_BOLD: Final = re.compile(r"\\(?:textbf|textit|emph|text|underline)\{([^{}\n]{0,300})\}")
_LATEX_MARK: Final = re.compile(r"\$\\(?:rightarrow|Rightarrow|to|bullet|cdot|star|checkmark)\$")
_TEXT: Final = re.compile(r"[^\W\d_]{2}|[\u3040-\u9fff\uac00-\ud7af]")
_MAX_COLUMNS: Final = 20
_ENTRY_TAGS: Final = "item|feature|descriptor|trait|characteristic|attribute"  # of XML
_XML_ENTRIES: Final = frozenset(_ENTRY_TAGS.split("|"))
_HTML: Final = re.compile(
    r"<(/?)(ul|ol|li|p|br|div|tr|t[dh]|h[1-6]|table|tbody|thead|dl|dt|dd"
    rf"|{_ENTRY_TAGS}|(?:{_ENTRY_TAGS})s|list)(?:\s[^<>]{{0,300}})?/?>",
    re.IGNORECASE,
)


def lines_of_tables(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines, and a bullet for each row of a table: its first column of text. Headings are left out."""
    at = 0
    while at < len(lines):
        rows: list[str] = []
        while at < len(lines) and ("|" in lines[at] or (rows and _SEPARATOR.fullmatch(lines[at]))):
            rows.append(lines[at])
            at += 1
        yield from _first_texts(rows) if _is_table(rows) else rows
        if at < len(lines):
            yield lines[at]
            at += 1


def _is_table(rows: Sequence[str]) -> bool:
    """Whether lines with bars have a line below their heading, or are rows from end to end."""
    separated = any(_SEPARATOR.fullmatch(row) for row in rows)
    rows_only = all(row.strip().startswith("|") and row.strip().endswith("|") for row in rows)
    return len(rows) > 1 and (separated or rows_only)


def _first_texts(rows: Sequence[str]) -> Iterator[str]:
    """Yield a bullet for each cell of the first column that mostly holds text: no number, no emoji."""
    separator = next((number for number, row in enumerate(rows) if _SEPARATOR.fullmatch(row)), None)
    below_heading = rows[0 if separator is None else separator + 1 :]
    body = [_cells(row) for row in below_heading if not _SEPARATOR.fullmatch(row)]
    if separator is None and any(is_label(cell) for cell in body[0]):
        del body[0]
    headings = [] if separator is None else _cells(rows[0])
    width = min(max(map(len, body), default=0), _MAX_COLUMNS)
    places = sorted(
        range(width), key=lambda number: not (number < len(headings) and is_label(headings[number]))
    )
    for column in ([row[number] for row in body if number < len(row)] for number in places):
        if 2 * sum(_TEXT.search(cell) is not None for cell in column) > len(column):
            yield from (f"- {cell}" for cell in column)
            return


def _cells(row: str) -> list[str]:
    row = row.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in _CELL_END.split(row, maxsplit=_MAX_COLUMNS)]


def is_label(text: str) -> bool:
    """Whether a text only names what a column or a field holds: "Feature", "Visual traits", "visual_cue"."""
    words = re.split(r"[\s_-]+", plain(text[:60]).casefold().rstrip(":"))
    word = words[-1] if len(words) == 1 or (len(words) == 2 and words[0] in _OF_LABELS) else ""
    return word in LABELS or word.removesuffix("s") in LABELS


def lines_of_html(text: str) -> str:
    """Return HTML with a line for each list entry, paragraph and row, as Markdown has them."""
    if _HTML.search(text) is None:
        return text
    lines: list[str] = []
    depth, only_headings, start = 0, False, 0
    in_block = False  # within an entry or a table, where the source's own line ends mean nothing
    for tag in _HTML.finditer(text):
        between = text[start : tag.start()]
        lines.append(" ".join(between.split()) if in_block else between)
        start = tag.end()
        closing, name = bool(tag[1]), tag[2].lower()
        name = "ul" if name == "list" or name.endswith("s") else "li" if name in _XML_ENTRIES else name
        if name in {"ul", "ol", "dl"}:
            depth = max(0, depth + (-1 if closing else 1))
            lines.append("\n" if depth or not closing else "\n\n")
        elif name in {"li", "dd"}:
            lines.append("\n" if closing else "\n" + "  " * max(0, depth - 1) + "- ")
        elif name in {"td", "th"}:
            only_headings = only_headings and name == "th"
            lines.append("|" if closing else "")
        elif name == "tr":
            lines.append(("\n|--|--|" if only_headings else "") if closing else "\n|")
            only_headings = not closing
        elif name in {"table", "thead", "tbody"}:
            lines.append("\n\n" if name == "table" else "")
        else:
            heading = not closing and (name[0] == "h" or name == "dt")
            lines.append("\n# " if heading else " " if name in {"p", "div", "br"} and depth else "\n")
        in_block = depth > 0 or (name in {"tr", "td", "th", "thead", "tbody"})
    lines.append(text[start:])
    return "\n".join(line for line in "".join(lines).split("\n") if line.strip() not in {"|"})


def lines_of_latex(text: str) -> str:
    """Return LaTeX lists as lines with bullets, without the commands of emphasis."""
    if "\\" not in text:
        return text
    text = _LATEX_MARK.sub("•", _LATEX_BOLD.sub(r"\1", text))
    if "\\item" not in text:
        return text
    return _LATEX.sub(
        lambda found: f"\n- {found[1]}: " if found[1] else "\n- " if found[0][1] == "i" else "", text
    )


def json_texts(answer: str) -> tuple[list[str], bool, bool] | None:
    """Return the texts of the JSON in an answer, whether the last may go on, and whether it surely would.

    None without JSON. JSON is read as far as it goes: cut off, in Python's quotes, with comments, one object
    a line.
    """
    if (start := _JSON_START.search(answer)) is None:
        return None
    reader = _JsonReader()
    reader.read(answer, start.end())
    if reader.too_deep:
        return None
    texts = [text.strip() for value in reader.values for text in _texts(value) if text.strip()]
    return (texts, reader.is_open, reader.is_cut) if texts or reader.is_unfinished else None


class _JsonReader:
    """Builds JSON values token by token, so that what was cut off is there as far as it goes."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.is_open = False  # the last text has no end
        self.is_cut = False  # and has a quote at its beginning, which only the end of the answer ends
        self.is_unfinished = False  # the answer ends within a list or an object
        self.too_deep = False
        self._stack: list[list[Any] | dict[str, Any]] = []
        self._keys: list[str | None] = []  # of each object in the stack, the key whose value comes next

    def read(self, text: str, at: int) -> None:
        """Read values of the first one's kind from a place on, up to the first thing that is none."""
        opening = text[at : at + 1]
        while not self.too_deep and (token := _TOKEN.match(text, at)) is not None:
            if not self._stack and not token["comma"] and token["open"] != opening:
                break
            at = token.end()
            if token["open"]:
                self._begin({} if token["open"] == "{" else [])
            elif token["close"]:
                self._end()
            elif token["colon"] or token["comma"] or token["comment"]:
                continue
            else:
                self._text(
                    token, is_key=(after := _TOKEN.match(text, at)) is not None and bool(after["colon"])
                )
        self.is_unfinished = bool(self._stack) and not text[at:].strip("` \n")
        if not self.is_unfinished:
            self.is_open = self.is_cut = False
        elif len(self._stack) > 1 and isinstance(self._stack[-1], dict) and self._stack[-1]:
            self.is_open = True  # a name whose description would follow

    def _begin(self, value: list[Any] | dict[str, Any]) -> None:
        self._put(value)
        self._stack.append(value)
        self._keys.append(None)
        self.is_open = self.is_cut = False
        self.too_deep = len(self._stack) > _MAX_DEPTH

    def _end(self) -> None:
        self._stack.pop()
        self._keys.pop()

    def _text(self, token: re.Match[str], *, is_key: bool) -> None:
        kind = (token.lastgroup or "").removesuffix("_end")
        text = _unescaped(token[kind])
        self.is_cut = kind != "bare" and not token[f"{kind}_end"]
        self.is_open = bool(text.strip()) and (kind == "bare" or self.is_cut)
        if kind == "bare":
            text = text.strip().rstrip("`").strip()
            if text in {"null", "None", "true", "false", "True", "False"}:
                return
        container = self._stack[-1]
        if isinstance(container, dict) and self._keys[-1] is None:
            if is_key:
                self._keys[-1] = text
            self.is_open = False
            return  # a key, or what there is of one
        self._put(text)

    def _put(self, value: Any) -> None:
        if not self._stack:
            self.values.append(value)
            return
        container = self._stack[-1]
        if isinstance(container, list):
            container.append(value)
        else:
            key = self._keys[-1] or ""
            while key in container:  # a key twice: models do that, and both values count
                key += " "
            container[key] = value
            self._keys[-1] = None


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return re.sub(r"\\(.)", r"\1", text)


def _texts(value: Any) -> Iterator[str]:
    """Yield the descriptors in a JSON value: lists and their texts, not the names that they stand under."""
    if isinstance(value, str):
        mark = certain_mark(value)
        yield value if mark is None else mark.text
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        nested = [part for part in value.values() if isinstance(part, list | dict)]
        texts = {
            key.strip(): part
            for key, part in value.items()
            if isinstance(part, str)
            and any(map(str.isalpha, part))
            and key.strip().casefold() not in _SUBJECTS
        }
        label = next((part for key, part in texts.items() if is_label(key)), None)
        detail = next((part for key, part in texts.items() if key.casefold() in DETAILS), None)
        if nested:
            yield from _texts(nested)
        elif label and detail:
            yield f"{label}: {detail}"
        elif label or detail:
            yield label or detail or ""
        else:
            for key, part in texts.items():
                yield part if re.fullmatch(r"\W*(?:[a-z]+[\W_]*)?\d+\W*", key) else f"{key}: {part}"


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
