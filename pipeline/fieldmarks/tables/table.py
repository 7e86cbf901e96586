"""Tables as they were read: rows of cells under the headings of columns.

`role` says what a column with a given heading holds, from the names people use in six languages, ignoring
case, accents and spaces.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Any, Final, NamedTuple, overload

from fieldmarks.errors import TableError
from fieldmarks.tables.encoding import UTF_8
from fieldmarks.text import counted, cut_list, printable

MAX_COLUMNS: Final = 1000
MAX_CELLS: Final = 50_000_000

_SHOWN: Final = 3  # values of a column shown in an error
_NUMBER: Final = re.compile(r"[+\-−]?\d[\d.,]*(e[+\-]?\d+)?%?", re.IGNORECASE)
_IDENTIFIER: Final = re.compile(r"n\d{8}|https?://.*|.*\.(jpe?g|png|gif|bmp|webp|tiff?)", re.IGNORECASE)
# What a spreadsheet shows instead of a value, in Excel's languages: "#NAME?" for "-wide", read as a formula.
SHEET_ERROR: Final = re.compile(r"#(?:[¡¿]?[A-ZÀ-Ý]{2,9}(?:/0)?[!?]|N/?[AVD])")

_SEPARATORS: Final = {"\t": "tabs", None: ""}


class Row(NamedTuple):
    """A row and its location: the number of its line, or of its item in JSON and YAML, from 1."""

    number: int
    cells: tuple[Any, ...]  # strings; in JSON any value


class SingleCells(Sequence[Row]):
    """Rows of one cell each, made on demand, so that a list of a million names is kept as plain strings."""

    __slots__ = ("numbers", "texts")

    def __init__(self, texts: Sequence[str], numbers: Sequence[int]) -> None:
        self.texts = texts
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> "SingleCells": ...

    def __getitem__(self, at: int | slice) -> "Row | SingleCells":
        if isinstance(at, slice):
            return SingleCells(self.texts[at], self.numbers[at])
        return Row(self.numbers[at], (self.texts[at],))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under the names of their columns, which are None if no row is certainly a heading.

    `form` is "text", "JSON", "JSON lines" or "YAML". The rows of a map, {name: value}, are its key-value
    pairs.
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
            else bool(self.rows)
            if isinstance(self.rows, SingleCells)
            else max((len(r.cells) for r in self.rows), default=0)
        )

    def where(self, row: Row) -> str:
        """Return the location of a row, to begin an error with: "birds.csv, line 3"."""
        return f"{self.source}, {'item' if self.form in {'JSON', 'YAML'} else 'line'} {row.number}"

    def check(self, row: Row, value: Any) -> None:
        """Raise TableError for a cell that holds a spreadsheet error instead of text."""
        if self.form == "text" and isinstance(value, str) and SHEET_ERROR.fullmatch(value.strip()):
            raise TableError(
                f"{self.where(row)}: the spreadsheet error {value.strip()!r} instead of text: retype the"
                " text in the sheet, with ' before a leading - or ="
            )

    def values(self, column: int) -> list[Any]:
        """Return the cells of a column, without empty ones."""
        cells = (row.cells[column] for row in self.rows if column < len(row.cells))
        return [cell for cell in cells if cell is not None and (not isinstance(cell, str) or cell.strip())]

    def with_heading(self) -> "Table":
        """Return the table with its first row as the heading, if it has none yet."""
        if self.columns is not None or not self.rows or self.form != "text":
            return self
        return replace(self, columns=tuple(str(cell) for cell in self.rows[0].cells), rows=self.rows[1:])

    def find(self, name: str, option: str) -> "tuple[Table, int]":
        """Return the table and the column that a user names by its heading or by its number, from 1.

        If the first row contains the name, it is the heading. Raises TableError, listing the columns.
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
        """Return what messages call a column."""
        if self.columns is None or not self.columns[column].strip():
            return f"column {column + 1}"
        return f"column {printable(self.columns[column].strip())!r}"

    def names(self, columns: Sequence[int]) -> str:
        """Return what messages call several columns: "columns 'class' and 'descriptor'"."""
        names = [self.name(column).removeprefix("column ") for column in columns]
        return f"columns {', '.join(names[:-1])} and {names[-1]}"

    def is_textual(self, column: int) -> bool:
        """Whether a column has words: not only numbers, WordNet ids, file names, URLs or nothing."""
        values = self.values(column)
        return any(isinstance(value, str | list) for value in values) and not all(
            isinstance(value, int | float)
            or (isinstance(value, str) and bool(is_number(value) or _IDENTIFIER.fullmatch(value.strip())))
            for value in values
        )

    def listed(self, columns: Iterable[int] | None = None) -> str:
        """Return columns with their first values, for an error that asks which one is meant."""
        places = range(self.width) if columns is None else columns
        return cut_list([f"{self.name(place)} ({self._sample(place)})" for place in places], 10)

    def _sample(self, column: int) -> str:
        some = self.values(column)[: _SHOWN + 1]
        more = ["…"] if len(some) > _SHOWN else []
        return ", ".join([printable(f"{_text(value):.40}") for value in some[:_SHOWN]] + more) or "empty"

    def separated(self) -> str:
        """Return the delimiter, format, encoding and skipped lines, for a report."""
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
    """Raise TableError for more cells than memory should hold: short rows are padded to the widest."""
    if width > MAX_COLUMNS or rows * width > MAX_CELLS:
        what = f"{rows:,} rows of {width:,} columns"
        raise TableError(
            f"{source} has {what}: expected one class per row and at most {MAX_COLUMNS:,} columns"
        )


def is_number(cell: str) -> bool:
    """Whether a cell is a number in any notation."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def _text(value: Any) -> str:
    return ", ".join(map(str, value[:_SHOWN])) if isinstance(value, list) else str(value).strip()


class Role(Enum):
    """What a column holds, according to its heading."""

    CLASS = "class"
    DESCRIPTOR = "descriptor"
    DESCRIPTORS = "descriptors"  # several in a cell
    IMAGE = "image"  # or the path of one
    OTHER = "other"  # certainly a heading, but of something else


_NAMES: Final = {
    Role.CLASS: (
        "class classes class_name class_names class_label label labels label_name label_names name names"
        " species species_name common_name english_name vernacular_name category categories"
        " category_name concept"
        " klasse klassen klassenname kategorie bezeichnung artname art deutscher_name naam soort"
        " classe classes nom noms nom_commun nom_français nom_vernaculaire catégorie espèce étiquette"
        " clase clases nombre nombres nombre_común especie categoría etiqueta nome nomi nome_comune specie"
    ),
    Role.DESCRIPTOR: (
        "descriptor description feature mark field_mark attribute trait characteristic property"
        " visual_feature visual_description merkmal beschreibung eigenschaft attribut kenmerk"
        " descripteur caractéristique descripción característica rasgo atributo descrizione caratteristica"
    ),
    Role.DESCRIPTORS: (
        "descriptors descriptions features marks field_marks attributes traits characteristics properties"
        " visual_features merkmale beschreibungen eigenschaften attribute kenmerken descripteurs"
        " caractéristiques descriptores características rasgos atributos caratteristiche"
    ),
    Role.IMAGE: (
        "image images path file files file_name filepath file_path image_path image_name image_file img"
        " img_path img_name photo photos picture pictures bild bilder bilddatei datei dateiname pfad fichier"
        " chemin archivo imagen ruta"
    ),
    Role.OTHER: (
        "picture_url image_url url link split subset partition fold id ids class_id category_id label_id"
        " index idx no nr number count n latin_name latin scientific_name scientific binomial genus family"
        " order kingdom phylum site location place habitat region country date year note notes comment"
        " comments remark review source author code wnid synset supercategory anzahl nummer ort fundort datum"
        " land bemerkung bemerkungen lateinischer_name wissenschaftlicher_name nom_latin nom_scientifique"
        " numéro lieu nombre_científico número lugar fecha"
    ),
}
_LAST_WORDS: Final = frozenset(("name", "names", "class", "species", "label", "labels", "nom", "nombre"))
_THINGS: Final = frozenset(("art", "concept", "soort"))  # names of classes, if there is no other column


def folded(heading: str) -> str:
    """Return a heading without what its spellings differ in: "Common_Name" and "common name" become equal."""
    plain = unicodedata.normalize("NFKD", heading.casefold())
    return "".join(character for character in plain if character.isalnum())


_ROLES: Final = {
    folded(name): role for role in reversed(Role) for name in _NAMES[role].split()
}  # the first role wins


@cache
def role(heading: str) -> Role | None:
    """Return what a column with this heading holds, None for words that may or may not be a heading.

    "Feature 2" counts as "feature", but "class 2" is a class; "Bird name (IOC)" is only known to be a
    heading.
    """
    if len(heading) > 80:
        return None
    name = folded(heading)
    if known := _ROLES.get(name):
        return known
    numbered = _ROLES.get(name.rstrip("0123456789"))
    if numbered in (Role.DESCRIPTOR, Role.DESCRIPTORS):
        return numbered
    plain = re.sub(r"[(\[].*", "", heading)
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain))
    if (len(words) > 1 or plain != heading) and words and words[-1].casefold() in _LAST_WORDS:
        return Role.OTHER
    return Role.OTHER if re.sub(r"[#№\s]", "", heading) == "" and heading.strip() else None


def heads_a_list(line: str) -> bool:
    """Whether the first line of a list of names is a heading rather than a name."""
    if re.fullmatch(r"[\w\s()/.,-]+", line) is None:
        return False
    meaning = role(line)
    if meaning is Role.CLASS:
        return folded(line) not in _THINGS
    return meaning in {Role.IMAGE, Role.OTHER} and len(re.findall(r"\w+", line)) > 1
