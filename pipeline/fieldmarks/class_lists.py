"""Class lists: finds the class names in a table, which the `tables` package reads from a file.

    listed = class_list(read_table("species.csv", MAX_LIST, ClassNameError))
    listed.names     # ("tree frog", "newt", …), each once, in the file's order
    listed.report    # species.csv: 12 classes from column 'Common name', separated by ';'

The column of names is the only one, the one with a heading such as "class" or "species", or the only one with
words. Numbers, WordNet ids and list markers before every name are removed. If any of this is ambiguous, a
TableError says what to do, because a misread class costs money.
"""

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final

from fieldmarks.errors import ClassNameError, TableError
from fieldmarks.records import class_name
from fieldmarks.tables import Row, Table
from fieldmarks.tables.reading import KEYS, Pairs, tabulate
from fieldmarks.tables.table import Role, role
from fieldmarks.text import counted, cut_list, printable

OPTION: Final = "--column"

_INDICES: Final = ("id2label", "label2id")  # in a model's config.json; the first takes precedence
_NUMBERED: Final = re.compile(r"\s*[\[(]?(\d{1,9})(?:\s*[.:)\]=_]\s*|\s+-\s+|\s+)(?=\S)")
_LETTERED: Final = re.compile(r"\s*[\[(]?(?:([a-z])|([ivx]{1,5}))[.)\]]\s+(?=\S)", re.IGNORECASE)
_NUMBERED_BEHIND: Final = re.compile(r".*\S\s+(\d{1,9})")
_CODE: Final = re.compile(r"(?:(?:const|let|var)\s+)?\w+(?:\s*:\s*\w+(?:\[\w+\])?)?\s*=\s*[\[({].*")
_RULE: Final = re.compile(r"([-=_*~.])\1+")
# Labels of a sheet's last row, if it has totals.
_TOTALS: Final = frozenset(("total", "totals", "sum", "summe", "gesamt", "somme", "totale", "suma", "totaal"))
_IDENTIFIED: Final = re.compile(r"\s*n\d{8}[\s:,]+(?=\S)")
_BULLET: Final = re.compile(r"\s*[-*•–]\s+(?:\[[ xX]?\]\s+)?(?=\S)")
_FILE: Final = re.compile(r"\S+\.(jpe?g|png|gif|bmp|webp|tiff?|heic)(\s.*)?", re.IGNORECASE)
_TITLE: Final = re.compile(r"\S+\s*:")
_PAIR: Final = re.compile(r"[^:=]+(:|\s=)\s+\S.*")
_QUOTED: Final = re.compile(r"'.*'|‘.*’|“.*”")
# Words that may be the heading of a list, or a class in it: "bird".
_KINDS: Final = (
    "animal animals bird birds fish fishes flower flowers plant plants tree trees insect insects breed breeds"
    " mammal mammals mushroom mushrooms object objects item items type types product products food foods"
    " tier tiere tierart vogel vögel vogelart pflanze pflanzen pflanzenart blume blumen baum bäume objekt"
    " oiseau oiseaux animaux plante plantes arbre arbres pájaro aves ave planta plantas árbol"
)
_WORDNET_ID: Final = re.compile(r"n\d{8}")
_INVISIBLE: Final = re.compile("[\u200b\u2060\ufeff]")
_BREAK: Final = re.compile("[\r\n\u00a0\u202f\u2007]")  # stands for a space inside a cell


@dataclass(frozen=True, slots=True)
class ClassList:
    """Distinct class names in file order, and a one-line report of how the file was read."""

    names: tuple[str, ...]
    report: str


@dataclass(frozen=True, slots=True)
class _Cells:
    """Names as written, and the table row of each."""

    table: Table
    texts: Sequence[str]
    rows: Sequence[int]

    def where(self, at: int) -> str:
        """Return the location of a name, to begin an error with."""
        return self.table.where(self.table.rows[self.rows[at]])

    def first(self, pattern: re.Pattern[str]) -> int | None:
        """Return the index of the first name that a pattern matches fully, or None."""
        return next((at for at, text in enumerate(self.texts) if pattern.fullmatch(text)), None)


def class_list(table: Table, column: str | None = None) -> ClassList:
    """Return the class names of a table, from `column` (a heading or a number from 1) or the only candidate.

    Names that differ only in case are one class. Raises ClassNameError for an unusable name, with its
    location, and TableError if it is unclear which column is meant or what belongs to a name.
    """
    table, column, container = contents(table, column)
    if not table.rows:
        heading = f" has the heading {', '.join(map(repr, table.columns))} and" if table.columns else ""
        raise ClassNameError(f"{table.source}{heading} contains no class name: write one per line")
    if column is not None:
        table, place = table.find(column, OPTION)
    else:
        place = _class_column(table)
    cells, empty = _cells(table, place)
    if not cells.texts:
        raise ClassNameError(
            f"{table.source} contains no class name in {table.name(place)}: write one per line"
        )
    removed = None
    if column is None:
        as_it_is = f"pass {OPTION} {place + 1} to keep the names as they are"
        _check(cells, as_it_is)
        _check_numbers(cells, as_it_is)
        cells, removed = _without_marks(cells, as_it_is)
    names, repeats = _unique(cells)
    where = _where(table, place, container)
    parts = [f"{table.source}: {counted(len(names), 'class')}{where}{table.separated()}"]
    parts += [removed] if removed else []
    parts += [f"{counted(empty, 'row')} without a name left out"] if empty else []
    parts += [f"{counted(len(repeats), 'repeated name')} left out: {cut_list(repeats, 3)}"] if repeats else []
    return ClassList(names, "; ".join(parts))


def contents(
    table: Table, column: str | None, remedy: str = f"pass {OPTION} with one of these"
) -> tuple[Table, str | None, str | None]:
    """Return the table inside a map that has the names under a known key, or under the key `column`.

    Raises TableError, with `remedy`, if there are several such keys.
    """
    if not table.is_map:
        return table, column, None
    inside = {key: value for key, value in (row.cells for row in table.rows) if isinstance(value, list)}
    keys = [key for key in inside if role(key) is Role.CLASS or key in _INDICES]
    if column in inside:
        keys, column = [column], None
    elif column is not None and len(keys) != 1:
        return table, column, None
    if keys == [*_INDICES]:
        keys = keys[:1]
    if len(keys) > 1:
        raise TableError(f"{table.source} has names under {cut_list(keys, 10)}: {remedy}")
    if not keys:
        return _expanded(table), column, None
    inner = tabulate(inside[keys[0]], table.source, table.form, table.encoding)
    return _expanded(inner), column, keys[0]


def _expanded(table: Table) -> Table:
    """Return a map of objects, or a numbered map of equally long lists, with a column for each part."""
    if not table.is_map or not table.rows:
        return table
    values = [row.cells[1] for row in table.rows]
    if all(isinstance(value, Pairs) for value in values):
        objects = [Pairs([(KEYS[0], row.cells[0]), *row.cells[1]]) for row in table.rows]
    elif not table.is_textual(0) and len({isinstance(value, list) and len(value) for value in values}) == 1:
        if not isinstance(values[0], list):
            return table
        objects = [
            Pairs([(KEYS[0], key), *((f"value {number}", part) for number, part in enumerate(value, 1))])
            for key, value in (row.cells for row in table.rows)
        ]
    else:
        return table
    return tabulate(objects, table.source, table.form, table.encoding)


def _class_column(table: Table) -> int:
    """Return the column that certainly has the names. Raises TableError, listing the columns."""
    if table.width == 1:
        return 0
    if table.columns is None and len(table.rows) == 1:
        raise TableError(f"{table.where(table.rows[0])}: all names are on one line: write one per line")
    textual = [place for place in range(table.width) if table.is_textual(place)]
    named = [
        place for place in range(table.width) if table.columns and role(table.columns[place]) is Role.CLASS
    ]
    for candidates in ([place for place in named if place in textual], textual, named):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise TableError(
                f"{table.source} has several columns that could name the classes: {table.listed(candidates)}:"
                f" pass {OPTION} with a heading or a number"
            )
    raise TableError(
        f"{table.source} has no column of names: {table.listed()}: write the heading class above"
        f" it, or pass {OPTION}"
    )


def _cells(table: Table, place: int) -> tuple[_Cells, int]:
    """Return the names as written, and the number of rows without a name."""
    names: list[str] = []
    rows = array("L")
    empty = 0
    for number, row in enumerate(table.rows):
        value = row.cells[place] if place < len(row.cells) else None
        texts = [_text(table, row, part) for part in (value if isinstance(value, list) else [value])]
        empty += not any(texts)
        for text in filter(None, texts):
            names.append(text)
            rows.append(number)
    return _Cells(table, names, rows), empty


def _text(table: Table, row: Row, value: Any) -> str:
    table.check(row, value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        what = (
            "an object"
            if isinstance(value, Pairs)
            else "a list"
            if isinstance(value, list)
            else "true or false"
        )
        raise TableError(
            f"{table.where(row)}: expected a class name, found {what}: pass {OPTION}, or write a string"
        )
    text, breaks = _BREAK.subn(" ", _INVISIBLE.sub("", "" if value is None else str(value)))
    return (re.sub(" +", " ", text) if breaks else text).strip()


def _check(cells: _Cells, as_it_is: str) -> None:
    """Raise TableError, with a remedy, for what is hardly a list of class names."""
    table, texts = cells.table, cells.texts
    if all(map(_FILE.fullmatch, texts)):
        raise TableError(
            f"{table.source} lists image files, such as {texts[0]!r:.60}: give a list of class names"
        )
    if all(map(_WORDNET_ID.fullmatch, texts)):
        raise TableError(
            f"{table.source} lists WordNet ids, such as {texts[0]!r}: add a column with their names"
        )
    if table.form != "text":
        return
    if (rule := cells.first(_RULE)) is not None:
        raise TableError(
            f"{cells.where(rule)}: {texts[rule]!r:.60} is a separator, not a name:"
            f" remove the line; {as_it_is}"
        )
    if table.width > 1:
        is_last = cells.rows[-1] == len(table.rows) - 1
        if len(texts) > 1 and texts[-1].casefold().rstrip(":") in _TOTALS and is_last:
            raise TableError(
                f"{cells.where(-1)}: {texts[-1]!r} is a total, not a class: remove the line; {as_it_is}"
            )
        return
    if (code := cells.first(_CODE)) is not None:
        raise TableError(
            f"{cells.where(code)}: {texts[code]!r:.60} is program code: write one name per line; {as_it_is}"
        )
    plain = table.columns is None
    if len(texts) > 1 and all(map(_QUOTED.fullmatch, texts)):
        raise TableError(
            f'{table.source} has every name in quotes: remove them, or write " for CSV; {as_it_is}'
        )
    if plain and len(texts) > 1 and all(map(_PAIR.fullmatch, texts)) and not _are_numbered(texts):
        raise TableError(
            f"{table.source} has two parts on every line, such as {texts[0]!r:.60}: write a table with a"
            f" heading; {as_it_is}"
        )
    if plain and (title := cells.first(_TITLE)) is not None:
        raise TableError(
            f"{cells.where(title)}: {texts[title]!r:.60} ends with a colon: remove the line, or name a YAML"
            f" file .yaml; {as_it_is}"
        )
    if plain and len(texts) == 1 and len(re.findall("[,;|]| / ", texts[0])) > 1:
        raise TableError(f"{cells.where(0)}: several names on one line: write one per line; {as_it_is}")
    suffix = PurePath(table.source).suffix.lower()
    if plain and suffix in {".csv", ".tsv"} and _may_be_heading(texts[0], texts[1:]):
        raise TableError(
            f"{table.source} begins with {texts[0]!r:.60}, a heading or a class: pass {OPTION}"
            f" {texts[0]!r:.60} for a heading; {as_it_is}"
        )


def _check_numbers(cells: _Cells, as_it_is: str) -> None:
    """Raise TableError if all names but the first begin with numbers, or all end with numbers."""
    texts = cells.texts
    if not _NUMBERED.match(texts[0]) and _in_sequence(map(_NUMBERED.match, texts[1:])):
        raise TableError(
            f"{cells.where(0)}: {texts[0]!r:.60} has no number, unlike the others: remove the"
            f" line if it is a heading; {as_it_is}"
        )
    if _in_sequence(map(_NUMBERED_BEHIND.fullmatch, texts)):
        names = {text.rsplit(maxsplit=1)[0] for text in texts}
        if len(names) == len(texts):
            raise TableError(
                f"{cells.where(0)}: every name ends with a number, such as {texts[0]!r:.60}: remove"
                f" the numbers; {as_it_is}"
            )


def _may_be_heading(line: str, names: Sequence[str]) -> bool:
    """Whether the first line says what the others are, or is the only one with an initial capital."""
    alone = len(names) > 2 and line[:1].isupper() and all(name[:1].islower() for name in names)
    return bool(names) and (alone or line.casefold() in _KINDS.split())


def _are_numbered(texts: Sequence[str]) -> bool:
    return all(map(_NUMBERED.match, texts))


def _without_marks(cells: _Cells, as_it_is: str) -> tuple[_Cells, str | None]:
    """Return names without the numbers, ids or list markers before them, and what was removed.

    Raises TableError if they may belong to the names.
    """
    removed: list[str] = []
    for _ in range(2):  # "1 001.Albatross" has two
        for pattern, what, holds in _MARKS:
            texts = cells.texts
            if holds(map(pattern.match, texts)):
                cells = replace(cells, texts=[pattern.sub("", text, count=1) for text in texts])
                removed.append(what)
            elif what == "list marks" and any(map(pattern.match, texts)):
                first = next(at for at, text in enumerate(texts) if pattern.match(text))
                raise TableError(
                    f"{cells.where(first)}: {texts[first]!r:.60} begins with a list marker, others do not:"
                    f" remove what is not a name; {as_it_is}"
                )
            elif what == "numbers" and len(texts) > 2 and all(map(pattern.match, texts)):
                raise TableError(
                    f"{cells.where(0)}: every name begins with a number, such as"
                    f" {texts[0]!r:.60}: remove the numbers; {as_it_is}"
                )
    unique = list(dict.fromkeys(removed))
    return cells, f"without the {' and '.join(unique)} before them" if unique else None


def _in_sequence(marks: Iterable[re.Match[str] | None]) -> bool:
    """Whether there are several marks, none missing, with consecutive numbers."""
    first, count = 0, 0
    for count, mark in enumerate(marks, 1):
        if mark is None or (count > 1 and int(mark[1]) != first + count - 1):
            return False
        first = int(mark[1]) if count == 1 else first
    return count > 1


def _lettered(marks: Iterable[re.Match[str] | None]) -> bool:
    """Whether marks are consecutive letters from a, or Roman numerals from I."""
    shown: list[str] = []
    for mark in marks:
        if mark is None or len(shown) == len(_LETTERS):
            return False
        shown.append((mark[1] or mark[2]).casefold())
    return len(shown) > 1 and shown in (list(_LETTERS[: len(shown)]), list(_ROMAN[: len(shown)]))


_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_ROMAN: Final = (
    "i",
    "ii",
    "iii",
    "iv",
    "v",
    "vi",
    "vii",
    "viii",
    "ix",
    "x",
    "xi",
    "xii",
    "xiii",
    "xiv",
    "xv",
)

_Marks = Iterable[re.Match[str] | None]
_MARKS: Final[tuple[tuple[re.Pattern[str], str, Callable[[_Marks], bool]], ...]] = (
    (_BULLET, "list marks", all),
    (_IDENTIFIED, "WordNet ids", all),
    (_NUMBERED, "numbers", _in_sequence),
    (_LETTERED, "letters", _lettered),
)


def _unique(cells: _Cells) -> tuple[tuple[str, ...], list[str]]:
    """Return the distinct names, and those that repeat another, formatted for a message."""
    names: dict[str, str] = {}
    repeats: dict[str, None] = {}
    count = 0
    for at, text in enumerate(cells.texts):
        try:
            name = class_name(text)
        except ClassNameError as error:
            raise ClassNameError(f"{cells.where(at)}: {error}") from error
        folded = name.casefold()
        first = names.setdefault(name if folded == name else folded, name)  # the key is not a second string
        if len(names) == count:
            repeats[f"{printable(name)!r}" + (f" (as {printable(first)!r})" if first != name else "")] = None
        count = len(names)
    return tuple(names.values()), list(repeats)


def _where(table: Table, place: int, container: str | None) -> str:
    if container is not None:
        return f" from {container!r}"
    if table.is_map or (table.columns and table.columns[0] == KEYS[0] == table.columns[place]):
        return f" from the {KEYS[place]}"
    if table.columns is not None:
        return f" from {table.name(place)}"
    if table.width > 1:
        return f" from column {place + 1}, no heading"
    return ", one per line" if table.form == "text" else ""
