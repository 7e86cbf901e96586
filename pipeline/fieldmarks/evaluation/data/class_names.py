"""Names for labels that are numbers: a list of the classes beside the data, in any form people write it.

    classes.txt    tree frog            0 tree frog         n01641577 bullfrog
                   owl                  1 owl               n01644373 tree frog
    classes.csv    id,name              class,index         and other headings
    classes.json   ["tree frog", "owl"]    {"0": "tree frog"}    {"tree frog": 0}
    data.yaml      names: [tree frog, owl]

A list without numbers counts from 0, or from 1 where the labels go from 1 to the number of names.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fieldmarks.class_lists import contents
from fieldmarks.errors import ClassNameError, EvaluationError, TableError
from fieldmarks.records import MAX_LIST, class_name
from fieldmarks.tables import Row, Table, errors_as, read_table
from fieldmarks.tables.headings import Role, folded, role

FILES: Final = (
    *("classes.txt", "classnames.txt", "labels.txt", "classes.json", "labels.json", "id2label.json"),
    *("label2id.json", "classes.csv", "classes.tsv", "classes.yaml", "data.yaml", "obj.names"),
)
_NUMBER: Final = re.compile(r"\d{1,9}|n\d{8}", re.ASCII)  # an index, or WordNet's
_NUMBERED: Final = re.compile(rf"({_NUMBER.pattern})[\s:,;.)=]+(\S.*)", re.ASCII)
_NUMBERED_BEHIND: Final = re.compile(rf"(\S.*?)[\s:,;=]+({_NUMBER.pattern})", re.ASCII)
_INDICES: Final = frozenset(("id", "index", "idx", "classid", "labelid", "categoryid", "label", "keys"))


def find_list(*folders: Path) -> Path | None:
    """Return the first list of class names in some folders."""
    return next((folder / name for folder in folders for name in FILES if (folder / name).is_file()), None)


def read_list(path: Path) -> dict[str, str]:
    """Return the class name of each number in a list. Raises EvaluationError."""
    table = read_table(path, MAX_LIST, EvaluationError)
    names: dict[str, str] = {}
    with errors_as(EvaluationError):
        table, _, _ = contents(table, None, "keep one of them")
        for row, number, text in _pairs(table):
            if not isinstance(text, str):
                raise EvaluationError(f"{table.where(row)}: expected a class name: write a string")
            try:
                name = class_name(text)
            except ClassNameError as error:
                raise EvaluationError(f"{table.where(row)}: {error}") from error
            if names.setdefault(_key(number), name) != name:
                raise EvaluationError(f"{table.where(row)}: {number} names two classes: keep one")
    if not names:
        raise EvaluationError(f"{path} names no class: write one class name a line")
    return names


def name_numbers(labels: Iterable[str], spec: str) -> tuple[dict[str, str], list[str]]:
    """Return the names of labels that are all numbers, by a list beside a data set, and what to tell.

    Raises EvaluationError where there is a list that cannot be read.
    """
    labels = list(labels)
    place = Path(spec)
    path = find_list(*([place, place.parent] if place.is_dir() else [place.parent]))
    if path is None or not labels or not all(_NUMBER.fullmatch(label) for label in labels):
        return {}, []
    names = read_list(path)
    keys = {label: _key(label) for label in labels}
    from_one = "0" not in keys.values() and str(len(names)) in keys.values() and "0" in names
    if from_one:
        names = {str(int(number) + 1): name for number, name in names.items() if number.isdecimal()}
    named = {label: names[key] for label, key in keys.items() if key in names}
    if not named:
        return {}, [f"the labels are numbers, and {path} names none of them"]
    label, name = next(iter(named.items()))
    counting = ", which is counted from 1" if from_one else ""
    return named, [f"the labels are numbers, named by {path}{counting}: {label!r} is {name!r}"]


def _pairs(table: Table) -> Iterator[tuple[Row, str, Any]]:
    """Yield each row with a number and the name that it has; rows without numbers are counted from 0."""
    if table.width < 2:
        yield from _pairs_of_lines(table)
        return
    numbers = [place for place in range(table.width) if _are_numbers(table, place)]
    indices = [place for place in numbers if _is_index(table, place)]
    if len(indices) > 1 and table.columns is not None:
        indices = [place for place in indices if folded(table.columns[place]) in _INDICES] or indices
    if len(indices) > 1:
        raise TableError(
            f"{table.source} has several columns of numbers: {table.listed(indices)}: keep that of the labels"
        )
    kept = [place for place in numbers if place in indices or not _is_index(table, place)]
    name = _name_column(table, numbers)
    for count, row in enumerate(table.rows):
        for number in [str(row.cells[place]) for place in kept] or [str(count)]:
            yield row, number, row.cells[name]


def _pairs_of_lines(table: Table) -> Iterator[tuple[Row, str, Any]]:
    texts = [
        (row, row.cells[0].strip() if isinstance(row.cells[0], str) else row.cells[0]) for row in table.rows
    ]
    lines = [text if isinstance(text, str) else "" for _, text in texts]
    for pattern, number, name in ((_NUMBERED, 1, 2), (_NUMBERED_BEHIND, 2, 1)):
        found = [pattern.fullmatch(line) for line in lines]
        matches = [match for match in found if match]
        if len(matches) == len(lines) == len({match[name] for match in matches}):
            yield from (
                (row, match[number], match[name]) for row, match in zip(table.rows, matches, strict=True)
            )
            return
    yield from ((row, str(count), text) for count, (row, text) in enumerate(texts))


def _name_column(table: Table, numbers: Sequence[int]) -> int:
    """Return the column of names. Raises TableError where several could be it."""
    if len(table.rows) == 1 and table.columns is None and not numbers:
        raise TableError(f"{table.source}: all names in one line: write one a line")
    places = [place for place in range(table.width) if place not in numbers and table.is_textual(place)]
    if len(places) > 1 and table.columns is not None:
        places = [place for place in places if role(table.columns[place]) is Role.CLASS] or places
    if len(places) != 1:
        columns = table.listed(places) if places else "none"
        raise TableError(
            f"{table.source}: expected a column of class names, found {columns}: write one class name a line"
        )
    return places[0]


def _are_numbers(table: Table, place: int) -> bool:
    """Whether a column has a number, each once, in every row."""
    values = [str(value).strip() for value in table.values(place) if not isinstance(value, bool)]
    return len(values) == len(table.rows) == len(set(values)) and all(map(_NUMBER.fullmatch, values))


def _is_index(table: Table, place: int) -> bool:
    return all(str(value).strip().isdecimal() for value in table.values(place))


def _key(number: str) -> str:
    number = number.strip()
    return str(int(number)) if number.isascii() and number.isdigit() else number
