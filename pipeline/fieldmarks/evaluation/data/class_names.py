"""Names for labels that are numbers: a list of the classes beside the data, in any form people write it.

    classes.txt    tree frog            0 tree frog         n01641577 bullfrog
                   owl                  1 owl               n01644373 tree frog
    classes.json   ["tree frog", "owl"]    {"0": "tree frog"}    {"tree frog": 0}

A list without numbers counts from 0, or from 1 where the labels go from 1 to the number of names.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from fieldmarks.bounds import read_text
from fieldmarks.errors import ClassNameError, EvaluationError
from fieldmarks.records import MAX_LIST, class_name

FILES: Final = ("classes.txt", "classnames.txt", "labels.txt", "classes.json", "labels.json")
_NUMBER: Final = re.compile(r"\d{1,9}|n\d{8}", re.ASCII)  # an index, or WordNet's
_NUMBERED: Final = re.compile(rf"({_NUMBER.pattern})[\s:,;]+(\S.*)", re.ASCII)


def find_list(*folders: Path) -> Path | None:
    """Return the first list of class names in some folders."""
    return next((folder / name for folder in folders for name in FILES if (folder / name).is_file()), None)


def read_list(path: Path) -> dict[str, str]:
    """Return the class name of each number in a list. Raises EvaluationError."""
    text = read_text(path, MAX_LIST, EvaluationError).strip()
    try:
        pairs = _from_json(json.loads(text)) if path.suffix == ".json" else _from_lines(text.split("\n"))
        return {_key(number): class_name(name) for number, name in pairs}
    except (ClassNameError, ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: expected a list of class names: {error}") from error


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
        names = {str(int(number) + 1): name for number, name in names.items()}
    named = {label: names[key] for label, key in keys.items() if key in names}
    if not named:
        return {}, [f"the labels are numbers, and {path} names none of them"]
    label, name = next(iter(named.items()))
    counting = ", which is counted from 1" if from_one else ""
    return named, [f"the labels are numbers, named by {path}{counting}: {label!r} is {name!r}"]


def _from_lines(lines: list[str]) -> list[tuple[str, str]]:
    lines = [line.strip() for line in lines]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(numbered):
        return [(match[1], match[2]) for match in numbered if match]
    return [(str(number), line) for number, line in enumerate(lines)]


def _from_json(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return [(str(number), name) for number, name in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value.values()):
        return list(value.items())
    if isinstance(value, Mapping) and all(type(number) is int for number in value.values()):
        return [(str(number), name) for name, number in value.items()]
    raise ValueError('neither ["owl", …] nor {"0": "owl", …} nor {"owl": 0, …}')


def _key(number: str) -> str:
    return str(int(number)) if number.isascii() and number.isdigit() else number
