"""Read structured answers: JSON becomes strings; HTML, LaTeX and tables become bulleted lines. Pure."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fieldmarks.generation.bullets import certain_mark, is_label

# Keys of an object that describe the class itself, before its list of descriptors.
_SUBJECTS: Final = frozenset(["class", "class_name", "category", "species", "subject", "object", "topic"])
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
    """Yield lines, with a bullet for each row of a table: its first column of text. Headings are dropped."""
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
    """Whether lines with bars have a separator, or all begin and end with a bar."""
    separated = any(_SEPARATOR.fullmatch(row) for row in rows)
    rows_only = all(row.strip().startswith("|") and row.strip().endswith("|") for row in rows)
    return len(rows) > 1 and (separated or rows_only)


def _first_texts(rows: Sequence[str]) -> Iterator[str]:
    """Yield a bullet for each cell of the first column with mostly text, not numbers or emoji."""
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


def lines_of_html(text: str) -> str:
    """Return HTML with a line for each list entry, paragraph and row, as in Markdown."""
    if _HTML.search(text) is None:
        return text
    lines: list[str] = []
    depth, only_headings, start = 0, False, 0
    in_block = False  # within an entry or a table, where the source's line breaks mean nothing
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
    """Return LaTeX lists as lines with bullets, without commands for emphasis."""
    text = _LATEX_MARK.sub("•", _LATEX_BOLD.sub(r"\1", text))
    if "\\item" not in text:
        return text
    return _LATEX.sub(
        lambda match: f"\n- {match[1]}: " if match[1] else "\n- " if match[0][1] == "i" else "", text
    )


def json_texts(answer: str) -> tuple[list[str], bool, bool] | None:
    """Return an answer's JSON strings, whether the last may be incomplete, and whether it certainly is.

    Returns None without JSON. JSON is read as far as it goes: it may be cut off, in Python's quotes, with
    comments, or one object per line.
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
    """Builds JSON values token by token, so that JSON that was cut off is read as far as it goes."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.is_open = False  # the last text may be incomplete
        self.is_cut = False  # and certainly is: its opening quote is never closed
        self.is_unfinished = False  # the answer ends within a list or an object
        self.too_deep = False
        self._stack: list[list[Any] | dict[str, Any]] = []
        self._keys: list[str | None] = []  # of each object in the stack, the key whose value comes next

    def read(self, text: str, at: int) -> None:
        """Read values of the first one's kind, from position `at` up to the first thing that is not one."""
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
            self.is_open = True  # a name whose description would have followed

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
            return  # a key, or the beginning of one
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
            while key in container:  # a repeated key: models do that, and both values count
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
    """Yield the descriptors in a JSON value; keys of lists and objects are not part of them."""
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
