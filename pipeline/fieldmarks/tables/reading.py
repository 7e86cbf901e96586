"""Reads a file into a table: CSV with any delimiter (comma, semicolon, bar, tab), JSON, JSON lines or YAML.

A file's suffix and its beginning determine the format.

Text has delimiters, or one name per line: the number of cells decides. A delimiter fits if every row, split
at it outside quotes, has as many cells as the first, or if the first row is then a known heading. In text
without the suffix .csv, a comma is a delimiter only if that is certain, because names have commas too:
"tench, Tinca tinca". Titles above a known heading are left out.

JSON, JSON lines and YAML are lists of names or objects, or maps of names. JSON lines are read here and not by
jsonlines, which does not give the line numbers that errors need.
"""

import csv
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from fieldmarks.errors import FieldmarksError, TableError
from fieldmarks.paths import read_bytes
from fieldmarks.tables.encoding import decode
from fieldmarks.tables.table import (
    SHEET_ERROR,
    Row,
    SingleCells,
    Table,
    check_size,
    heads_a_list,
    is_number,
    role,
)
from fieldmarks.text import counted, printable

DELIMITERS: Final = (",", ";", "\t", "|")

_PREFERRED: Final = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_NO_DELIMITER: Final = "\x1f"  # for the csv module, which needs one
_SAMPLE: Final = 200  # rows used to choose a delimiter
_SEP_LINE: Final = re.compile(r'\s*"?sep=(.)"?[;,\t| ]*(\r\n|\r|\n|$)', re.IGNORECASE)  # Excel's own
_COMMENT: Final = re.compile(rf"\s*(?!{SHEET_ERROR.pattern})#(?![,;\t|])(?!\s*$)")
_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")  # with its newline; the text is not copied
_MOST_TITLES: Final = 5  # lines above a heading
_RULE: Final = re.compile(r"\s*:?-+:?\s*|")  # under the heading of a Markdown table


class _Lines:
    """Rows of text in order, without blank rows and comments; the comments are counted."""

    def __init__(self, text: str, first: int, delimiter: str | None, source: str) -> None:
        self.comments = 0
        self._source = source
        self._number = self._start = first - 1
        self._at_start = True  # of a row: a "#" inside a quoted cell is not a comment
        self._lines = map(re.Match.group, _LINE.finditer(text))
        self._reader = csv.reader(self._physical(), delimiter=delimiter or _NO_DELIMITER, strict=True)

    def __iter__(self) -> Iterator[Row]:
        """Yield rows. Raises TableError for unclosed quotes, and for too many or too large cells."""
        while True:
            self._at_start = True
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                raise TableError(f"{self._source}, line {max(self._start, 1)}: {_quoting(error)}") from error
            if cells is None:
                return
            check_size(f"{self._source}, line {self._start}", 1, len(cells))
            if any(map(str.strip, cells)):
                yield Row(self._start, tuple(cells))

    def _physical(self) -> Iterator[str]:
        for line in self._lines:
            self._number += 1
            if self._at_start and _COMMENT.match(line):
                self.comments += 1
                continue
            if self._at_start:
                self._start = self._number
            self._at_start = False
            yield line


def _quoting(error: csv.Error) -> str:
    """Return what is wrong with a cell, and what to do."""
    reason = str(error)
    if "expected after" in reason:
        return 'text after a closing quote: write a quote inside a quoted cell as two ("")'
    if "end of data" in reason:
        return "a quoted cell is not closed: add the quote at its end"
    return f"{reason}: split the cell"


def parse(text: str, source: str, suffix: str, encoding: str) -> Table:
    """Return the table in a text. Raises TableError if its delimiter is ambiguous or row lengths differ."""
    first, delimiter, titles = 1, None, 0
    if sep := _SEP_LINE.match(text):
        first, delimiter, text = 2, sep[1], text[sep.end() :]
    else:
        titles = _titles(text)
        text = "".join(line[0] for line in islice(_LINE.finditer(text), titles, None)) if titles else text
        first = titles + 1
        delimiter = _delimiter(text, source, _PREFERRED.get(suffix))
    if delimiter is None and ('"' not in text or (suffix not in _PREFERRED and not _quotes_are_csv(text))):
        lines = re.split(r"\r\n|\r|\n", text)
        is_comment = [_COMMENT.match(line) is not None for line in lines]
        numbers = [
            number
            for number, line in enumerate(lines, first)
            if line.strip() and not is_comment[number - first]
        ]
        texts = [lines[number - first] for number in numbers]
        rows: Sequence[Row] = SingleCells(texts, array("L", numbers))
        comments = sum(is_comment)
    else:
        reader = _Lines(text, first, delimiter, source)
        rows, comments = _even(list(reader), delimiter, source), reader.comments
    if delimiter == "|":
        rows = [row for row in rows if not all(map(_RULE.fullmatch, row.cells))]
    table = Table(source, rows, delimiter=delimiter, encoding=encoding, comments=comments, titles=titles)
    if rows and _has_heading(rows):
        table = table.with_heading()
    else:
        _check_title(rows, source)
    _check_note(table)
    return table


def _titles(text: str) -> int:
    """Return how many lines of one cell, such as a sheet's titles, stand above a known heading."""
    titles = 0
    for delimiter in DELIMITERS:
        try:
            rows = list(islice(_Lines(text, 1, delimiter, ""), _MOST_TITLES + 1))
        except TableError:
            continue
        above = next((place for place, row in enumerate(rows) if sum(map(bool, row.cells)) > 1), None)
        if above is not None and _is_known(rows[above].cells):
            if not above:
                return 0
            titles = titles or rows[above].number - 1
    return titles


def _check_title(rows: Sequence[Row], source: str) -> None:
    """Raise TableError for a first row of one cell above rows of several, if no heading is known."""
    if isinstance(rows, SingleCells):
        return
    if len(rows) > 2 and sum(map(bool, rows[0].cells)) == 1 < min(
        sum(map(bool, row.cells)) for row in rows[1:]
    ):
        title = next(filter(None, rows[0].cells)).strip()
        raise TableError(
            f"{source}, line {rows[0].number}: one cell, {printable(title)!r:.60}, above rows with several,"
            " probably a title: remove the line"
        )


def _check_note(table: Table) -> None:
    """Raise TableError for a last row of one cell set apart below rows of several, as notes are."""
    if len(table.rows) < 2 or table.width < 2:
        return
    before, last = table.rows[-2], table.rows[-1]
    apart = last.number > before.number + 1 + sum(
        len(re.findall(r"\r\n|\r|\n", cell)) for cell in before.cells
    )
    if apart and _length(last.cells) == 1 < min(sum(map(bool, row.cells)) for row in table.rows[:-1]):
        raise TableError(
            f"{table.where(last)}: {printable(last.cells[0].strip())!r:.60} stands alone below the table,"
            " probably a note: remove the line"
        )


def _delimiter(text: str, source: str, preferred: str | None) -> str | None:
    """Return the delimiter, or None for one cell per line."""
    every = {delimiter: _sample(text, delimiter, whole=preferred is None) for delimiter in DELIMITERS}
    samples = {delimiter: rows for delimiter, rows in every.items() if any(any(row[1:]) for row in rows)}
    if headed := [delimiter for delimiter, rows in samples.items() if _is_known(rows[0])]:
        fitting = [mark for mark in headed if _is_even(samples[mark])] or headed
        return _only(fitting, source)
    fitting = [delimiter for delimiter, rows in samples.items() if _is_even(rows)]
    if preferred is None or len(fitting) > 1:
        prose = [mark for mark in fitting if mark in ",;" and _is_prose(text, mark)]
        fitting = [mark for mark in fitting if mark not in prose] or (prose if preferred else [])
    if fitting:
        return preferred if preferred in fitting and preferred != "," else _only(fitting, source)
    if at_ends := next((delimiter for delimiter, rows in every.items() if _ends_all(rows)), None):
        return at_ends
    if preferred is None or not samples:
        return None
    return preferred if preferred in samples else next(iter(samples))


def _sample(text: str, delimiter: str, *, whole: bool) -> list[tuple[str, ...]]:
    """Return the first rows, as far as their quotes fit the delimiter; with `whole`, none if they do not.

    If not even the first row fits, that is the line as it stands: reading it will report what is wrong.
    """
    rows: list[tuple[str, ...]] = []
    try:
        rows.extend(row.cells for row in islice(_Lines(text, 1, delimiter, ""), _SAMPLE))
    except TableError:
        return [] if whole else rows or [tuple(text.partition("\n")[0].split(delimiter))]
    return rows


def _only(delimiters: Sequence[str], source: str) -> str:
    if len(delimiters) > 1:
        some = " or ".join(map(repr, delimiters))
        raise TableError(
            f"{source} could be separated by {some}: write a heading such as class{delimiters[0]}descriptor,"
            f" or sep={delimiters[0]} as the first line"
        )
    return delimiters[0]


def _is_known(heading: Sequence[str]) -> bool:
    return sum(map(bool, heading)) > 1 and any(map(role, heading))


def _is_even(rows: Sequence[Sequence[str]]) -> bool:
    """Whether all rows have the same number of cells, ignoring empty ones at the end."""
    lengths = {_length(row) for row in rows}
    return lengths != {1} and (len(lengths) == 1 or len(set(map(len, rows))) == 1)


def _ends_all(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a delimiter only ends lines, and ends all but perhaps the last: "frog," and "toad,"."""
    return (
        bool(rows)
        and all(len(row) > 1 for row in rows[:-1] or rows)
        and not any(any(row[1:]) for row in rows)
    )


def _length(cells: Sequence[str]) -> int:
    return max((place for place, cell in enumerate(cells, 1) if cell.strip()), default=0)


def _is_prose(text: str, delimiter: str) -> bool:
    """Whether a delimiter is always followed by a space, as in prose."""
    return re.search(rf"{re.escape(delimiter)}(?![ \u00a0])", text) is None


def _quotes_are_csv(text: str) -> bool:
    """Whether the quotes of a text enclose whole lines, as a spreadsheet writes them."""
    try:
        return all(len(row.cells) == 1 for row in _Lines(text, 1, None, ""))
    except TableError:
        return False


def _even(rows: list[Row], delimiter: str | None, source: str) -> list[Row]:
    """Return rows of equal length, padding short ones. Raises TableError for a longer row."""
    width = max(len(rows[0].cells), 1) if rows else 1
    check_size(source, len(rows), width)
    for place, row in enumerate(rows):
        if len(row.cells) != width:
            if _length(row.cells) > width:
                title = (
                    f"remove line {rows[0].number} if it is a title, or "
                    if width == 1 and not heads_a_list(rows[0].cells[0])
                    else ""
                )
                raise TableError(
                    f"{source}, line {row.number}: expected {counted(width, 'cell')} as in line"
                    f" {rows[0].number}, found {_length(row.cells)}: {title}quote a cell that has a"
                    f" {delimiter!r} inside"
                )
            rows[place] = Row(row.number, (row.cells + ("",) * width)[:width])
    return rows


def _has_heading(rows: Sequence[Row]) -> bool:
    """Whether the first row is certainly a heading: by its words, or because it has words above numbers."""
    heading = rows[0].cells
    if len(heading) == 1:
        return heads_a_list(heading[0])
    if any(map(role, heading)):
        return True
    return len(rows) > 1 and any(
        not is_number(cell) and all(is_number(row.cells[place]) for row in rows[1:])
        for place, cell in enumerate(heading)
    )


JSON_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson"})
YAML_SUFFIXES: Final = frozenset({".yaml", ".yml"})
MAX_LINE: Final = 1 << 20  # characters of a JSON line
MAX_YAML: Final = 4 << 20  # characters; for longer lists, JSON reads a hundred times faster
MAX_DEPTH: Final = 20  # of YAML

KEYS: Final = ("keys", "values")  # the columns of a map
_BEGINNING: Final = re.compile(r'\s*[\[{]\s*(["\'\[{\]}\d\n\r]|$)')


class Pairs(list[Any]):
    """An object as (key, value) pairs, so that duplicate keys can be seen."""


def is_json(text: str) -> bool:
    """Whether a text begins like JSON, and not like a name such as "[unknown]"."""
    return _BEGINNING.match(text) is not None


def parse_json(text: str, source: str, suffix: str, encoding: str) -> Table:
    """Return the table in JSON or JSON lines. Raises TableError for text that is neither."""
    by_line = suffix in {".jsonl", ".ndjson"}
    if not by_line or _spans_lines(text):
        try:
            return tabulate(_json(text), source, "JSON", encoding)
        except ValueError as error:
            first, _, rest = text.strip().partition("\n")
            if not by_line and not (rest.strip() and _is_valid(first)):
                remedy = "" if suffix == ".json" else ": write one name per line, or strings in double quotes"
                raise TableError(f"{source}: not JSON: {error}{remedy}") from error
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            if len(line) > MAX_LINE:
                what = f"{len(line):,} characters, more than {MAX_LINE:,}"
                raise TableError(f"{source}, line {number}: {what}: write one object per line")
            try:
                rows.append((number, _json(line)))
            except ValueError as error:
                raise TableError(f"{source}, line {number}: not JSON: {error}") from error
    return _table(rows, source, "JSON lines", encoding)


def parse_yaml(text: str, source: str, encoding: str) -> Table:
    """Return the table in a YAML list or map. Raises TableError for anything else, and for aliases."""
    if len(text) > MAX_YAML:
        raise TableError(f"{source} has over {MAX_YAML:,} characters of YAML: write the list as JSON or CSV")
    return tabulate(_yaml(text, source), source, "YAML", encoding)


def tabulate(value: Any, source: str, form: str, encoding: str) -> Table:
    """Return the table in a list or map. Raises TableError for a single value."""
    if isinstance(value, Pairs):
        rows = [Row(number, pair) for number, pair in enumerate(value, 1)]
        return Table(source, rows, KEYS, form, encoding=encoding, is_map=True)
    if not isinstance(value, list):
        raise TableError(f"{source} is a single {form} value: expected a list of names or a map")
    return _table(list(enumerate(value, 1)), source, form, encoding)


def _table(items: Sequence[tuple[int, Any]], source: str, form: str, encoding: str) -> Table:
    """Return a table of objects by key, of lists by position, or of single values."""
    kinds = {_shape(item) for _, item in items}
    if len(kinds) > 1:
        raise TableError(f"{source} has {' and '.join(sorted(kinds))}: write all in one form")
    if kinds == {"objects"}:
        keys = dict.fromkeys(key for _, item in items for key, _ in item)
        check_size(source, len(items), len(keys))
        rows = [Row(number, tuple(map(dict(item).get, keys))) for number, item in items]
        return Table(source, rows, tuple(keys), form, encoding=encoding)
    if kinds == {"lists"}:
        width = max(len(item) for _, item in items)
        check_size(source, len(items), width)
        rows = [Row(number, (*item, *[None] * (width - len(item)))) for number, item in items]
    else:
        rows = [Row(number, (item,)) for number, item in items]
    return Table(source, rows, None, form, encoding=encoding)


def _shape(item: Any) -> str:
    return "objects" if isinstance(item, Pairs) else "lists" if isinstance(item, list) else "single values"


def _json(text: str) -> Any:
    """Return the value of strict JSON. Raises ValueError."""
    orjson.loads(text)  # stricter than json: no NaN, no lone surrogates
    try:
        return json.loads(text, object_pairs_hook=Pairs)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _is_valid(line: str) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True


def _spans_lines(text: str) -> bool:
    """Whether a JSON value goes beyond the first line, as when it is indented."""
    return not _is_valid(text.strip().partition("\n")[0]) and text.lstrip()[:1] in {"{", "["}


def _yaml(text: str, source: str) -> Any:
    """Return a document of lists, maps and strings; every scalar stays a string."""
    yaml = import_module("yaml")
    try:
        root: list[Any] = []
        stack: list[Any] = [root]
        for event in yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader)):
            _build(type(event).__name__, event, stack, source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise TableError(
            f"{source}{line}: not YAML: {getattr(error, 'problem', None) or 'damaged'}"
        ) from error
    if len(root) != 1:
        raise TableError(f"{source} has {len(root)} YAML documents: expected one list or map")
    return _paired(root[0])


class _Map(list[Any]):
    """Alternating keys and values, while a map is being read."""


def _build(kind: str, event: Any, stack: list[Any], source: str) -> None:
    """Add a parser event to the innermost open list."""
    where = f"{source}, line {event.start_mark.line + 1}"
    if kind == "AliasEvent":
        raise TableError(f"{where}: an alias (*{event.anchor}): write the names out")
    if kind == "ScalarEvent":
        stack[-1].append(event.value)
    elif kind in {"SequenceStartEvent", "MappingStartEvent"}:
        if len(stack) > MAX_DEPTH:
            raise TableError(f"{where}: nested over {MAX_DEPTH} levels: write a list of names")
        stack[-1].append(inner := _Map() if kind == "MappingStartEvent" else [])
        stack.append(inner)
    elif kind in {"SequenceEndEvent", "MappingEndEvent"}:
        stack.pop()


def _paired(value: Any) -> Any:
    """Return maps as Pairs, at most MAX_DEPTH deep; a key that is not a string is converted to one."""
    if isinstance(value, _Map):
        pairs: Iterator[Any] = iter(value)
        return Pairs((str(key), _paired(item)) for key, item in zip(pairs, pairs, strict=True))
    return [_paired(item) for item in value] if isinstance(value, list) else value


@contextmanager
def errors_as(error: type[FieldmarksError]) -> Iterator[None]:
    """Re-raise the reader's errors as the caller's error type."""
    try:
        yield
    except TableError as reason:
        raise error(str(reason)) from reason


def read_table(path: str | Path, most: int, error: type[FieldmarksError], suffix: str | None = None) -> Table:
    """Return the table in a file of at most `most` bytes; `suffix` overrides its own.

    Raises `error`, with path and line, for anything unreadable or ambiguous.
    """
    data = read_bytes(path, most, error)
    with errors_as(error):
        return parse_table(data, str(path), suffix or Path(path).suffix)


def parse_table(data: bytes, source: str, suffix: str = "") -> Table:
    """Return the table in a file's bytes; `source` names it in errors. Raises TableError."""
    suffix = suffix.lower()
    structured = suffix in JSON_SUFFIXES | YAML_SUFFIXES
    text, encoding = decode(data, source, western=not structured)
    if suffix in YAML_SUFFIXES:
        return parse_yaml(text, source, encoding)
    if suffix in JSON_SUFFIXES or is_json(text):
        return parse_json(text, source, suffix, encoding)
    return parse(text, source, suffix, encoding)
