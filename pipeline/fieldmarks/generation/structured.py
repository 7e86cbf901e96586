"""Lists that are no plain lines: JSON becomes texts; HTML and tables become lines that begin with "- ". Pure."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fieldmarks.debris import plain
from fieldmarks.generation.marks import sure_mark

_SEPARATOR: Final = re.compile(r"[ \t]*\|?[ \t]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-{2,}:?[ \t]*)*\|?[ \t]*")
_CELL_END: Final = re.compile(r"(?<!\\)\|")
_TEXT_COLUMN: Final = re.compile(r"[^\W\d_]{2}")
_COLUMN_NAMES: Final = frozenset(
    [
        "feature",
        "features",
        "descriptor",
        "descriptors",
        "trait",
        "traits",
        "characteristic",
        "characteristics",
        "attribute",
        "mark",
    ]
)
_HTML: Final = re.compile(
    r"<(/?)(ul|ol|li|p|br|div|tr|t[dh]|h[1-6]|table|tbody|thead|dl|dt|dd)\b[^<>]{0,300}>", re.IGNORECASE
)
JSON_START: Final = re.compile(r"(?:\A[-\s]*|\n[ \t]*)(?=[\[{]\s*(?:[\"'“‘\[{]|$))")
_STRING: Final = re.compile(
    r"\"((?:[^\"\\\n]|\\.)*+)(\"?)|“([^”\n]*+)(”?)|(?<![\w])'((?:[^'\\\n]|\\.|'(?=\w))*+)('?)"
)
_KEY: Final = re.compile(r"\s*:")
_LABELS: Final = (
    "descriptor",
    "feature",
    "trait",
    "mark",
    "characteristic",
    "attribute",
    "name",
    "title",
    "text",
    "value",
)
_DETAILS: Final = ("description", "details", "detail", "explanation")


def lines_of_tables(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines, and a bullet for each row of a table: the first column of text; its heading is left out."""
    at = 0
    while at < len(lines):
        rows: list[str] = []
        while at < len(lines) and "|" in lines[at]:
            rows.append(lines[at])
            at += 1
        yield from _column(rows) if _is_table(rows) else rows
        if at < len(lines):
            yield lines[at]
            at += 1


def _is_table(rows: Sequence[str]) -> bool:
    """Whether lines with bars have a line below their heading, or are rows from end to end."""
    separated = any(_SEPARATOR.fullmatch(row) for row in rows)
    return len(rows) > 1 and (separated or all(re.match(r"\s*\|[^|]*\|[^|]*\|", row) for row in rows))


def _column(rows: Sequence[str]) -> Iterator[str]:
    separator = next((number for number, row in enumerate(rows) if _SEPARATOR.fullmatch(row)), None)
    body = [
        _cells(row)
        for row in rows[0 if separator is None else separator + 1 :]
        if not _SEPARATOR.fullmatch(row)
    ]
    width = max(map(len, body), default=0)
    columns = [[row[number] for row in body if number < len(row)] for number in range(min(width, 20))]
    texts = [
        column
        for column in columns
        if 2 * sum(bool(_TEXT_COLUMN.search(cell)) for cell in column) > len(column)
    ]
    for number, cell in enumerate(texts[0] if texts else ()):
        if number or separator is not None or plain(cell).casefold() not in _COLUMN_NAMES:
            yield f"- {cell}"


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in _CELL_END.split(row.strip().removeprefix("|").removesuffix("|"))]


def lines_of_html(text: str) -> str:
    """Return HTML with a line for each list entry, paragraph and row, as Markdown has them."""
    depth = 0

    def line(tag: re.Match[str]) -> str:
        nonlocal depth
        closing, name = bool(tag[1]), tag[2].lower()
        if name in {"ul", "ol"}:
            depth = max(0, depth + (-1 if closing else 1))
            return "\n"
        if name in {"li", "dd"}:
            return "\n" if closing else "\n" + "  " * max(0, depth - 1) + "- "
        if name in {"td", "th"}:
            return "|" if closing else ""
        if name == "tr":
            return "\n" if closing else "\n|"
        if name == "thead" and closing:
            return "\n|--|--|\n"
        if name[0] == "h" or name == "dt":
            return "\n" if closing else "\n# "
        return "\n"

    if _HTML.search(text) is None:
        return text
    return re.sub(r"\n[ \t]*(?=\n)", "", _HTML.sub(line, text))


def json_texts(text: str) -> tuple[list[str], bool] | None:
    """Return the texts of a JSON value that a text begins with, or None where it has none."""
    try:
        values = [json.JSONDecoder().raw_decode(text)[0]]
        if isinstance(values[0], dict) and "\n{" in text:  # JSON lines
            values = [
                json.loads(line.strip().rstrip(","))
                for line in text.split("\n")
                if line.strip().startswith("{")
            ]
        return [found for value in values for found in _texts(value)], False
    except (ValueError, RecursionError):
        return _strings(text)


def _texts(value: Any) -> Iterator[str]:
    """Yield the descriptors in a JSON value: lists and their texts, not the names that they stand under."""
    if isinstance(value, str):
        mark = sure_mark(value)
        yield mark[0] if mark else value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        nested = [part for part in value.values() if isinstance(part, list | dict)]
        texts = {str(key).casefold(): part for key, part in value.items() if isinstance(part, str)}
        label = next((texts[key] for key in _LABELS if key in texts), None)
        detail = next((texts[key] for key in _DETAILS if key in texts), None)
        if nested:
            yield from _texts(nested)
        elif label and detail:
            yield f"{label}: {detail}"
        elif label or detail:
            yield label or detail or ""
        else:
            yield from (
                part if re.fullmatch(r"\W*(?:[a-z]+[\W_]*)?\d+\W*", key) else f"{key}: {part}"
                for key, part in texts.items()
            )


def _strings(text: str) -> tuple[list[str], bool] | None:
    """Return the quoted texts of a list that is no JSON, cut off or in other quotes; None without any."""
    found: list[str] = []
    is_open = False
    for string in _STRING.finditer(text):
        said, end = next((string[at], string[at + 1]) for at in (1, 3, 5) if string[at] is not None)
        if said.strip() and not _KEY.match(text, string.end()):
            found.append(re.sub(r"\\(.)", r"\1", said))
            is_open = not end
    return (found, is_open) if found else None
