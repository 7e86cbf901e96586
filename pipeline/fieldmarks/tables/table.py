"""A table as it was read: rows of cells, with what was understood of its form."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from fieldmarks.errors import TableError
from fieldmarks.tables.encodings import UTF_8
from fieldmarks.tables.headings import folded
from fieldmarks.wording import counted, cut_list, printable

MAX_COLUMNS: Final = 1000
MAX_CELLS: Final = 50_000_000

_SHOWN: Final = 3  # values of a column in an error
_NUMBER: Final = re.compile(r"[+\-−]?\d[\d.,]*(e[+\-]?\d+)?%?", re.IGNORECASE)
_IDENTIFIER: Final = re.compile(r"n\d{8}|https?://.*|.*\.(jpe?g|png|gif|bmp|webp|tiff?)", re.IGNORECASE)
# What a spreadsheet shows in place of a value, in Excel's languages: "#NAME?" for "-wide", read as a formula.
SHEET_ERROR: Final = re.compile(r"#(?:[¡¿]?[A-ZÀ-Ý]{2,9}(?:/0)?[!?]|N/?[AVD])")

_SEPARATORS: Final = {"\t": "tabs", None: ""}


class Row(NamedTuple):
    """A row and where it stands: the number of its line, or of its item in JSON and YAML, from 1."""

    number: int
    cells: tuple[Any, ...]  # strings; in JSON any value


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under the names of their columns, which is None where no row is surely a heading.

    `form` is "text", "JSON", "JSON lines" or "YAML". The rows of a map, {name: value}, are its pairs.
    """

    source: str
    rows: Sequence[Row]
    columns: tuple[str, ...] | None = None
    form: str = "text"
    delimiter: str | None = None
    encoding: str = UTF_8
    comments: int = 0
    titles: int = 0  # lines above the heading
    is_map: bool = False

    @property
    def width(self) -> int:
        """The number of columns."""
        return (
            len(self.columns)
            if self.columns is not None
            else max((len(r.cells) for r in self.rows), default=0)
        )

    def where(self, row: Row) -> str:
        """Return the place of a row, for the beginning of an error: "birds.csv, line 3"."""
        return f"{self.source}, {'item' if self.form in {'JSON', 'YAML'} else 'line'} {row.number}"

    def check(self, row: Row, value: Any) -> None:
        """Raise TableError for a cell that holds a spreadsheet's error in place of a text."""
        if self.form == "text" and isinstance(value, str) and SHEET_ERROR.fullmatch(value.strip()):
            raise TableError(
                f"{self.where(row)}: the spreadsheet's error {value.strip()!r} in place of a text: type the"
                " text again in the sheet, with ' before a - or = that it begins with"
            )

    def values(self, column: int) -> list[Any]:
        """Return the cells of a column, without empty ones."""
        cells = (row.cells[column] for row in self.rows if column < len(row.cells))
        return [cell for cell in cells if cell is not None and (not isinstance(cell, str) or cell.strip())]

    def with_heading(self) -> "Table":
        """Return the table with its first row as heading, where it has none yet."""
        if self.columns is not None or not self.rows or self.form != "text":
            return self
        return replace(self, columns=tuple(str(cell) for cell in self.rows[0].cells), rows=self.rows[1:])

    def find(self, name: str, option: str) -> "tuple[Table, int]":
        """Return the column that a user names, by its heading or its number from 1, and the table.

        A first row with the name in it is the heading. Raises TableError, which lists the columns.
        """
        heading = self.columns
        if (
            heading is None
            and self.rows
            and folded(name) in (folded(_text(cell)) for cell in self.rows[0].cells)
        ):
            heading = self.with_heading().columns
        for same in (str.strip, folded):
            places = [place for place, column in enumerate(heading or ()) if same(column) == same(name)]
            if len(places) == 1:
                return (self if self.columns is not None else self.with_heading()), places[0]
            if places:
                raise TableError(f"{self.source} has several columns {name!r}: pass {option} with a number")
        if name.isascii() and name.isdigit() and 0 < int(name[:9]) <= self.width:
            return self, int(name[:9]) - 1
        raise TableError(f"{self.source} has no column {name!r}; it has {self.listed()}: pass {option}")

    def name(self, column: int) -> str:
        """Return what a column is called in messages."""
        if self.columns is None or not self.columns[column].strip():
            return f"column {column + 1}"
        return f"column {printable(self.columns[column].strip())!r}"

    def names(self, columns: Sequence[int]) -> str:
        """Return what several columns are called: "columns 'class' and 'descriptor'"."""
        names = [self.name(column).removeprefix("column ") for column in columns]
        return f"columns {', '.join(names[:-1])} and {names[-1]}"

    def is_textual(self, column: int) -> bool:
        """Whether a column has words: not only numbers, WordNet ids, file names, addresses or nothing."""
        values = self.values(column)
        return any(isinstance(value, str | list) for value in values) and not all(
            isinstance(value, int | float)
            or (isinstance(value, str) and bool(is_number(value) or _IDENTIFIER.fullmatch(value.strip())))
            for value in values
        )

    def listed(self, columns: Iterable[int] | None = None) -> str:
        """Return columns with their first values, for an error that asks which is meant."""
        places = range(self.width) if columns is None else columns
        return cut_list([f"{self.name(place)} ({self._sample(place)})" for place in places], 10)

    def _sample(self, column: int) -> str:
        some = self.values(column)[: _SHOWN + 1]
        more = ["…"] if len(some) > _SHOWN else []
        return ", ".join([printable(f"{_text(value):.40}") for value in some[:_SHOWN]] + more) or "empty"

    def separated(self) -> str:
        """Return by what the cells are separated and how the text is encoded, for a report."""
        parts = (
            [f"separated by {_SEPARATORS.get(self.delimiter, repr(self.delimiter))}"]
            if self.delimiter
            else []
        )
        parts += [self.form] if self.form != "text" else []
        parts += [self.encoding] if self.encoding != UTF_8 else []
        parts += [f"{counted(self.comments, 'comment line')} left out"] if self.comments else []
        parts += [f"{counted(self.titles, 'line')} above the heading left out"] if self.titles else []
        return "".join(f", {part}" for part in parts)


def check_size(source: str, rows: int, width: int) -> None:
    """Raise TableError for more cells than memory should hold: short rows are filled up to the widest."""
    if width > MAX_COLUMNS or rows * width > MAX_CELLS:
        what = f"{rows:,} rows of {width:,} columns"
        raise TableError(f"{source} has {what}: expected one class a row and at most {MAX_COLUMNS:,} columns")


def is_number(cell: str) -> bool:
    """Whether a cell is a number in any notation."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def _text(value: Any) -> str:
    return ", ".join(map(str, value[:_SHOWN])) if isinstance(value, list) else str(value).strip()
