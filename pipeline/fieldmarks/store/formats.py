"""Files of {class: [descriptor]} in other programs' formats, both ways and exact. Pure functions.

`json` is the file of Menon and Vondrick, and of CuPL, whose descriptors are sentences. `csv` and `tsv` have a
line per descriptor under the heading class, descriptor, and a line without one for an empty class; a cell
that a spreadsheet would run as a formula is kept from it by an apostrophe, which is taken off again on
reading.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import class_name

Lists = Mapping[str, Sequence[str]]

HEADING: Final = ["class", "descriptor"]
_DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
_FORMULA: Final = re.compile(r"'*\s*[=+\-@＝＋－＠\t\r\n]|'*$")
_UTF8_BOM: Final = "\ufeff"  # without it a spreadsheet reads UTF-8 as something else


def dump(lists: Lists, kind: str) -> str:
    """Return the file of a format: json, csv or tsv."""
    return _dump_json(lists) if kind == "json" else _dump_rows(lists, _DELIMITERS[kind])


def load(text: str, kind: str) -> dict[str, list[str]]:
    """Return the lists of a file. Raises StoreError for anything but texts under class names."""
    try:
        lists = _load_json(text) if kind == "json" else _load_rows(text, _DELIMITERS[kind])
        return _named(lists)
    except ClassNameError as error:
        raise StoreError(str(error)) from error


def _dump_json(lists: Lists) -> str:
    return json.dumps({name: list(some) for name, some in lists.items()}, indent=4, ensure_ascii=False)


def _load_json(text: str) -> list[tuple[str, list[str]]]:
    try:
        orjson.loads(text.removeprefix(_UTF8_BOM))  # stricter than json: no NaN, no lone surrogates
        pairs: Any = json.loads(text.removeprefix(_UTF8_BOM), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"not JSON: {error}") from error
    if not isinstance(pairs, _Pairs):
        raise StoreError("expected an object of class names, each with a list of descriptors")
    for name, value in pairs:
        listed = isinstance(value, list) and not isinstance(value, _Pairs)
        odd = [part for part in value if not isinstance(part, str)][:1] if listed else [value]
        if odd:
            found = f"a list with {_kind(odd[0])}" if listed else _kind(odd[0])
            raise StoreError(f"class {name!r:.60}: expected a list of strings, found {found}")
    return pairs


def _kind(value: object) -> str:
    """Return what a JSON value is, without its contents, which may be nested beyond printing."""
    names = {_Pairs: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


class _Pairs(list[Any]):
    """A JSON object as pairs, so that a class that is there twice is seen."""


def _dump_rows(lists: Lists, delimiter: str) -> str:
    whole = io.StringIO()
    writer = csv.writer(whole, delimiter=delimiter)
    writer.writerow(HEADING)
    for name, some in lists.items():
        writer.writerows([_guarded(name), _guarded(one)] for one in some)
        if not some:
            writer.writerow([_guarded(name)])
    return _UTF8_BOM + whole.getvalue()


def _load_rows(text: str, delimiter: str) -> list[tuple[str, list[str]]]:
    lists: dict[str, list[str]] = {}
    rows = csv.reader(io.StringIO(text.removeprefix(_UTF8_BOM), newline=""), delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if rows.line_num == 1 and [cell.strip().casefold() for cell in row] == HEADING:
                continue
            if len(row) > 2 and any(row[2:]):
                found = f"expected 2 columns (class, descriptor), found {len(row)}"
                raise StoreError(f"line {rows.line_num}: {found}")
            if any(row):
                some = lists.setdefault(_bare(row[0]), [])
                some.extend(_bare(one) for one in row[1:2] if one)
    except csv.Error as error:
        raise StoreError(f"line {rows.line_num}: {error}") from error
    return list(lists.items())


def _guarded(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _bare(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell


def _named(pairs: Iterable[tuple[str, list[str]]]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for raw, some in pairs:
        name = class_name(raw)
        if name in lists:
            raise StoreError(f"class {name!r} is there twice: keep one")
        lists[name] = some
    return lists
