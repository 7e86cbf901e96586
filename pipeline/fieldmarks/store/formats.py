"""Reads and writes {class: [descriptor]} in other programs' formats, with pure functions.

`json` is the format of Menon and Vondrick, and of CuPL, whose descriptors are sentences. `csv` and `tsv` have
one line per descriptor under the headings class and descriptor, and a line without a descriptor for an empty
class; if there are review marks, a third column, review, has a class's mark in each of its lines. A cell that
a spreadsheet would run as a formula, or that looks like a comment, gets a leading apostrophe, which is
removed on reading. These formats round-trip exactly.

Other people's tables have other headings, more columns, several columns of descriptors, or several
descriptors in a cell: `load` reads what is certain and refuses the rest.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import APPROVED, UNSURE, class_name
from fieldmarks.tables import Row, Table, errors_as
from fieldmarks.tables.reading import Pairs
from fieldmarks.tables.table import Role, folded, role
from fieldmarks.tables.writing import csv_text, unguarded
from fieldmarks.text import counted, cut_list, printable

Lists = Mapping[str, Sequence[str]]
Marks = Mapping[str, str]  # review marks, by class

HEADING: Final = ["class", "descriptor"]
REVIEW: Final = "review"
OPTION: Final = "--columns"
_DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
_SEPARATORS: Final = ("\n", ";", "|")  # of descriptors in a cell; a comma may be part of one
_EXPECTED: Final = "an object of class names, each with a list of descriptors"
_KEYS: Final = 20  # of a map, searched for those that show its origin
_OWN_OUTPUTS: Final = (  # recognised by columns or keys
    ("a file of results, from `fieldmarks classify`", {"image", "label", "probability", "runner_up"}),
    ("a file of results, from `fieldmarks classify`", {"image", "label", "scores"}),
    (
        "a list of sorted images, from `fieldmarks classify`",
        {"file_name", "label", "probability", "runner_up"},
    ),
    ("a saved evaluation, from `fieldmarks evaluate`", {"v", "settings"}),
    ("the manifest of embeddings, from `fieldmarks embed`", {"model", "fingerprint", "dtype"}),
)
_MARK: Final = re.compile(r"\s*[-*•–]\s+")
_NUMBER: Final = re.compile(r"\s*(\d{1,3})[.)]\s+")


@dataclass(frozen=True, slots=True)
class Imported:
    """The lists of a file, a one-line report of how it was read, and the review marks of its classes."""

    lists: dict[str, list[str]]
    report: str
    marks: dict[str, str]


def dump(lists: Lists, kind: str, marks: Marks | None = None) -> str:
    """Return the text of a json, csv or tsv file; only the tables have `marks`."""
    return _dump_json(lists) if kind == "json" else _dump_rows(lists, _DELIMITERS[kind], marks or {})


def load(table: Table, columns: Sequence[str] = ()) -> Imported:
    """Return the lists of a table; `columns` are the class column and one or more descriptor columns.

    Without `columns`, the headings decide. Raises StoreError, with the location, for anything but strings
    under class names, and if it is unclear which columns are meant.
    """
    marks: dict[str, str] = {}
    if not columns and (own := _own_output(table)):
        raise StoreError(
            f"{table.source} is {own}, which holds no descriptors: pass a file of `fieldmarks store"
            " export`, or a table of classes and descriptors"
        )
    with errors_as(StoreError):
        if table.is_map:
            if columns:
                raise StoreError(f"{table.source} is a map of classes and has no columns: leave out {OPTION}")
            lists, where = _lists_of_map(table), ""
        else:
            table, places = _places(table, columns)
            lists = _lists_of_rows(table, places)
            marks = {} if columns else _marks(table, places[0])
            where = f" from {table.names(places)}"
            if table.columns is None:
                where += ", no heading: class, then descriptor"
    count = sum(map(len, lists.values()))
    counts = f"{counted(len(lists), 'class')}, {counted(count, 'descriptor')}"
    counts += f", {counted(len(marks), 'review mark')}" if marks else ""
    report = f"{table.source}: {counts}{where}{table.separated()}"
    if not table.is_map and _may_hold_several(table, lists):
        report += (
            "; each cell is one descriptor: name the column descriptors to have cells split at ; or line ends"
        )
    return Imported(lists, report, marks)


def _own_output(table: Table) -> str | None:
    """Return what a table is if another fieldmarks command wrote it: it is easily mistaken for classes."""
    names = {row.cells[0] for row in table.rows[:_KEYS]} if table.is_map else {*(table.columns or ())}
    return next((what for what, keys in _OWN_OUTPUTS if keys <= names), None)


def _may_hold_several(table: Table, lists: Lists) -> bool:
    """Whether cells under the exact headings, which are never split, seem to hold several descriptors."""
    texts = [text for some in lists.values() for text in some]
    return (
        table.form == "text"
        and len(texts) == len(lists)
        and any(all(mark in text for text in texts) for mark in _SEPARATORS)
    )


def _dump_json(lists: Lists) -> str:
    return json.dumps({name: list(some) for name, some in lists.items()}, indent=4, ensure_ascii=False)


def _kind(value: object) -> str:
    """Return the kind of a JSON value, without its contents, which may be nested too deeply to print."""
    names = {Pairs: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _dump_rows(lists: Lists, delimiter: str, marks: Marks) -> str:
    rows: list[Sequence[str | None]] = [[*HEADING, REVIEW] if marks else HEADING]
    for name, some in lists.items():
        if marks:
            rows += [(name, text, marks.get(name)) for text in some or (None,)]
        else:
            rows += [(name, text) for text in some] or [(name,)]
    return csv_text(rows, delimiter)


def _lists_of_map(table: Table) -> dict[str, list[str]]:
    _check_keys(table)
    lists: dict[str, list[str]] = {}
    items: dict[str, int] = {}
    for row in table.rows:
        key, value = row.cells
        if other := _not_texts(value):
            what = f"expected a list of strings, found {other}: {_remedy(table, key, value)}"
            raise StoreError(f"{table.source}: class {key!r:.60}: {what}")
        name = _name(table, row, key)
        if name in lists:
            twice = f"class {name!r} occurs twice, also as item {items[name]}: keep one"
            raise StoreError(f"{table.where(row)}: {twice}")
        lists[name], items[name] = value, row.number
    return lists


def _check_keys(table: Table) -> None:
    """Raise StoreError for a map of columns: {class: [...], descriptor: [...]} would read as two classes."""
    keys = [row.cells[0] for row in table.rows]
    if len(keys) == 2 and set(map(role, keys)) in (
        {Role.CLASS, Role.DESCRIPTOR},
        {Role.CLASS, Role.DESCRIPTORS},
    ):
        raise StoreError(
            f"{table.source}: its keys {keys[0]!r} and {keys[1]!r} are headings of columns, not classes:"
            f" write {_EXPECTED}"
        )


def _not_texts(value: Any) -> str | None:
    """Return what a value is if it is not a list of strings, else None."""
    if isinstance(value, Pairs):
        keys = cut_list([repr(f"{printable(key):.40}") for key, _ in value], 3)
        return f"an object of {keys}" if value else "an object"
    if not isinstance(value, list):
        return _kind(value)
    odd = next((place for place, part in enumerate(value, 1) if not isinstance(part, str)), None)
    return None if odd is None else f"a list with {_kind(value[odd - 1])} in place {odd}"


def _remedy(table: Table, key: str, value: Any) -> str:
    """Return what to do about a class's value that is not a list of strings."""
    parts = [value]
    while parts:  # may be nested too deeply for recursion
        part = parts.pop()
        if isinstance(part, list):
            parts += [inner for _, inner in part] if isinstance(part, Pairs) else part
        elif not isinstance(part, str):
            return "give each class one list of its descriptors"
    remedy = "make all its texts one list with `jq 'map_values([.. | strings])' FILE`"
    if isinstance(value, Pairs) and len(table.rows) == 1:
        remedy += f", or, if {key!r:.60} is not a class, extract its contents with `jq '.[]' FILE`"
    return remedy


def _name(table: Table, row: Row, text: Any) -> str:
    if not isinstance(text, str):
        raise StoreError(f"{table.where(row)}: expected a class name, found {_kind(text)}: write a string")
    try:
        return class_name(text)
    except ClassNameError as error:
        raise StoreError(f"{table.where(row)}: {error}") from error


def _places(table: Table, columns: Sequence[str]) -> tuple[Table, list[int]]:
    """Return the table and its columns: the class's, then the descriptors'. Raises StoreError, TableError."""
    if columns:
        places = []
        for column in columns:
            table, place = table.find(column, OPTION)
            places.append(place)
        if len(set(places)) < max(len(places), 2):
            raise StoreError(f"{OPTION} needs two different columns: CLASS,DESCRIPTOR")
        return table, places
    if not table.rows and table.columns is None:
        if table.form == "text":
            raise StoreError(f"{table.source} is empty: expected the columns class and descriptor")
        raise StoreError(
            f"{table.source}: expected {_EXPECTED}, or a table with the columns class and descriptor"
        )
    if table.columns is None:
        return table, _unheaded(table)
    roles = [role(column) for column in table.columns]
    if table.form != "text" and table.width > 1 and not any(roles) and all(map(_has_one_value, table.rows)):
        join = "jq -s add" if table.form == "JSON lines" else "jq add"
        raise StoreError(f"{table.source} has an object for each class: join them with `{join} FILE`")
    marks = [place for place, is_a in enumerate(roles) if is_a in {Role.DESCRIPTOR, Role.DESCRIPTORS}]
    classes = [place for place, is_a in enumerate(roles) if is_a is Role.CLASS]
    if len(classes) > 1:
        classes = [place for place in classes if table.is_textual(place)]
    if not classes and marks:
        classes = [place for place, is_a in enumerate(roles) if is_a is None and table.is_textual(place)]
    unnamed = [
        place for place, column in enumerate(table.columns) if not column.strip() and table.values(place)
    ]
    if len(classes) == 1 and marks and any(place > marks[0] for place in unnamed):
        numbers = ",".join(str(place + 1) for place in (*classes, *marks, *unnamed))
        raise StoreError(
            f"{table.source}: no heading above {table.listed(unnamed)}, beside the descriptors: pass {OPTION}"
            f" {numbers} if descriptors stand there, or write headings"
        )
    kinds = {folded(table.columns[place]).rstrip("0123456789s") for place in marks}
    if len(classes) != 1 or len(kinds) != 1:
        raise _unsure(table, "it is not clear which columns hold the class and its descriptors")
    return table, [*classes, *marks]


def _has_one_value(row: Row) -> bool:
    return sum(cell is not None for cell in row.cells) == 1


def _unheaded(table: Table) -> list[int]:
    """Return the two columns of a table with no heading. Raises StoreError if the first row may be one."""
    places = [place for place in range(table.width) if table.values(place)]
    if places == [0] and table.width > 1:
        return [0, 1]  # classes without descriptors
    if table.form != "text" and table.width == 1:
        raise StoreError(
            f"{table.source} is a list without classes: expected {_EXPECTED}; names alone are for"
            " `fieldmarks generate`"
        )
    if len(places) != 2:
        where = table.where(next(row for row in table.rows if any(row.cells)))
        numbers = ",".join(str(place + 1) for place in places[:2])
        hint = (
            ": write class,descriptor on each line"
            if len(places) == 1
            else f": pass {OPTION} with two column numbers, such as {numbers}"
        )
        raise StoreError(f"{where}: expected 2 columns (class, descriptor), found {len(places)}{hint}")
    names, marks = ([str(row.cells[place] or "").strip() for row in table.rows] for place in places)
    counts = Counter(names)
    below = [mark for mark in marks[1:] if mark]
    first_is_other = (
        len(names) > 2
        and counts[names[0]] == 1
        and (
            min(counts[name] for name in names[1:]) > 1
            or (
                names[0][:1].isupper()
                and marks[0][:1].isupper()
                and not any(mark[:1].isupper() for mark in below)
            )
        )
    )
    if first_is_other:
        raise _unsure(table, f"the first row, {names[0]!r:.60} and {marks[0]!r:.60}, may be a heading")
    if len(counts) == len(names) > 2 and len(set(marks)) < len(marks) and all(marks):
        raise _unsure(
            table, "the second column has repeated values, as classes would, and the first has none"
        )
    return places


def _unsure(table: Table, what: str) -> StoreError:
    remedy = f"pass {OPTION} CLASS,DESCRIPTOR as headings or numbers, or write the heading class,descriptor"
    return StoreError(f"{table.source}: {what}: {table.listed()}: {remedy}")


def _lists_of_rows(table: Table, places: Sequence[int]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    headings = [column.casefold() for column in table.columns or ()]
    exact = headings in (HEADING, [*HEADING, REVIEW])
    separators = {place: None if exact else _separator(table, places[0], place) for place in places[1:]}
    for row in table.rows:
        raw = row.cells[places[0]]
        table.check(row, raw)
        if raw is None or raw == "":
            if any(row.cells[place] for place in places[1:]):
                raise StoreError(
                    f"{table.where(row)}: no class beside a descriptor, as in rows below a merged cell:"
                    " repeat the class in every row"
                )
            continue
        name = _name(table, row, unguarded(raw) if isinstance(raw, str) else raw)
        cells = [row.cells[place] for place in places[1:]]
        if name in lists and any(isinstance(cell, list) for cell in cells):
            raise StoreError(
                f"{table.where(row)}: class {name!r} occurs twice: keep one, or merge two stores"
                " with `fieldmarks store merge`"
            )
        some = lists.setdefault(name, [])
        for place, cell in zip(places[1:], cells, strict=True):
            some += _descriptors(table, row, cell, separators[place], exact=exact)
    return lists


def _marks(table: Table, classes: int) -> dict[str, str]:
    """Return the classes' marks from the column review, if any. Raises StoreError, with the location.

    A mark in one of a class's rows is enough, because people type it once.
    """
    places = [place for place, column in enumerate(table.columns or ()) if folded(column) == REVIEW]
    marks: dict[str, str] = {}
    for row, place in product(table.rows, places):
        name, cell = row.cells[classes], row.cells[place]
        mark = cell.strip().casefold() if isinstance(cell, str) else cell
        if not mark:
            continue
        if mark not in (APPROVED, UNSURE):
            remedy = f"write one of them, or pass {OPTION} CLASS,DESCRIPTOR to leave the column out"
            what = repr(f"{printable(cell):.40}") if isinstance(cell, str) else _kind(cell)
            raise StoreError(
                f"{table.where(row)}: expected {APPROVED}, {UNSURE} or nothing in {table.name(place)},"
                f" found {what}: {remedy}"
            )
        if name is None or name == "":
            raise StoreError(f"{table.where(row)}: no class beside a review mark: repeat the class there")
        name = _name(table, row, unguarded(name) if isinstance(name, str) else name)
        if marks.setdefault(name, mark) != mark:
            raise StoreError(
                f"{table.where(row)}: class {name!r} is {mark} here and {marks[name]} above: keep one mark"
            )
    return marks


def _separator(table: Table, classes: int, place: int) -> str | None:
    """Return what separates descriptors in a cell: a character, "[" for JSON lists, None for one each.

    Cells are split at a character only under a plural heading. Raises StoreError if it is unclear.
    """
    cells = [cell.strip() for cell in table.values(place) if isinstance(cell, str)]
    marks = [mark for mark in _SEPARATORS if any(mark in cell for cell in cells)]
    once = len(set(map(str, table.values(classes)))) == len(table.rows)
    several = (
        table.columns is not None and role(table.columns[place].rstrip("0123456789 _")) is Role.DESCRIPTORS
    )
    if cells and all(cell.startswith("[") and cell.endswith("]") for cell in cells):
        return "["
    if several and marks:
        return marks[0] if len(marks) == 1 or marks[0] == "\n" else _refused(table, place)
    if several and once and any("," in cell for cell in cells):
        return _refused(table, place)
    if once and len(cells) > 1 and any(all(mark in cell for cell in cells) for mark in marks):
        return _refused(table, place)
    if once and marks[:1] == ["\n"]:  # a single descriptor has no second line
        return _refused(table, place)
    return None


def _refused(table: Table, place: int) -> str:
    raise StoreError(
        f"{table.source}: {table.name(place)} may have several descriptors in a cell: write one per row, or"
        " name the column descriptors and separate them by ';'"
    )


def _without_marks(parts: Sequence[str]) -> list[str]:
    """Return the parts of a cell without bullets, or without their numbers if they are numbered."""
    numbers = [number and int(number[1]) for number in map(_NUMBER.match, parts)]
    mark = _NUMBER if numbers == list(range(1, len(parts) + 1)) else _MARK
    return [mark.sub("", part, count=1) for part in parts]


def _descriptors(table: Table, row: Row, cell: Any, separator: str | None, *, exact: bool) -> list[str]:
    """Return the descriptors in a cell. Raises StoreError, with the location."""
    table.check(row, cell)
    parts = cell if isinstance(cell, list) and not isinstance(cell, Pairs) else [cell]
    if isinstance(cell, str) and separator == "[" and cell.strip():
        try:
            parts = json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{table.where(row)}: {cell!r:.60} is not a JSON list: {error}") from error
    elif isinstance(cell, str) and separator:
        parts = _without_marks([part for part in cell.split(separator) if part.strip()])
    if odd := [part for part in parts if not isinstance(part, str | None)][:1]:
        raise StoreError(f"{table.where(row)}: expected a descriptor, found {_kind(odd[0])}: write a string")
    if parts is cell:  # a JSON list, whose strings stay as they are
        return [part for part in parts if part is not None]
    return [unguarded(part if exact else part.strip()) for part in parts if part]
