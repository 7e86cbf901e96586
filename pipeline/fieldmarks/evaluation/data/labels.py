"""Labels of a data set meet the classes of a store: by exact name, by alias, else by folding."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fieldmarks.errors import ClassNameError, EvaluationError
from fieldmarks.evaluation.data.dataset import listed
from fieldmarks.evaluation.data.manifests import MAX_BYTES
from fieldmarks.records import class_name
from fieldmarks.tables import Table, read_table
from fieldmarks.tables.headings import folded

_LABEL_COLUMNS: Final = frozenset(("label", "labels", "alias", "aliases", "labelname"))
_CLASS_COLUMNS: Final = frozenset(("class", "classes", "classname", "klasse", "clase", "classe"))
_JOINT: Final = re.compile(r"[\s_\-]+")


@dataclass(frozen=True, slots=True)
class Matching:
    """Which class each label stands for, and what is left over on both sides, in the order it came."""

    class_of: Mapping[str, str]
    folded: tuple[tuple[str, str], ...] = ()  # labels that only folding brought to their class
    unknown_labels: tuple[str, ...] = ()
    unused_classes: tuple[str, ...] = ()


def match(
    labels: Iterable[str], classes: Sequence[str], aliases: Mapping[str, str] | None = None
) -> Matching:
    """Return which class each label stands for: exact name, else alias, else equal but for case, - and _.

    Raises EvaluationError where folding leaves several classes to choose from.
    """
    known = {class_name(name): name for name in classes}
    by_fold: dict[str, list[str]] = {}
    for name in known.values():
        by_fold.setdefault(fold(name), []).append(name)
    class_of: dict[str, str] = {}
    folded, unknown = [], []
    for label in dict.fromkeys(labels):
        name = _trimmed(label)
        meant = name if name in known else (aliases or {}).get(name, name)
        if meant in known:
            class_of[label] = known[meant]
        elif found := by_fold.get(fold(meant)):
            class_of[label] = _only(label, found)
            folded.append((label, found[0]))
        else:
            unknown.append(label)
    used = set(class_of.values())
    unused = tuple(name for name in known.values() if name not in used)
    return Matching(class_of, tuple(folded), tuple(unknown), unused)


def fold(name: str) -> str:
    """Return a name without what labels often differ in: case, underscores, hyphens, spaces."""
    return _JOINT.sub(" ", unicodedata.normalize("NFC", name.casefold())).strip()


def require(matching: Matching, empty_classes: Sequence[str], allow_missing: bool) -> list[str]:
    """Return what to tell of the matching; `empty_classes` are those without descriptors.

    Raises EvaluationError for labels without a class and for empty classes, unless they are allowed.
    """
    met = "label met its" if len(matching.folded) == 1 else "labels met their"
    told = [f"{len(matching.folded):,} {met} class only by folding: {_pairs(matching.folded)}"]
    told = told if matching.folded else []
    missing = []
    if matching.unknown_labels:
        missing.append(f"labels without a class in the store: {listed(matching.unknown_labels)}")
    if empty_classes:
        missing.append(f"classes without descriptors: {listed(empty_classes)}")
    if missing and not allow_missing:
        raise EvaluationError(
            "; ".join(missing)
            + ": add them to the store, name an alias file with --aliases, or score the rest"
            " with --allow-missing"
        )
    return [*told, *(f"left out: {one}" for one in missing)]


def read_aliases(path: Path) -> dict[str, str]:
    """Read a file of labels and the classes they stand for: a map {label: class}, or a table of both columns.

    Raises EvaluationError, with the line, for anything else and for a label with two classes.
    """
    table = read_table(path, MAX_BYTES, EvaluationError).with_heading()
    places = _alias_columns(table)
    aliases: dict[str, str] = {}
    for row in table.rows:
        label, name = (row.cells[place] for place in places)
        where = f"{path}, label {label!r}" if table.is_map else table.where(row)
        if not (isinstance(label, str) and isinstance(name, str)):
            raise EvaluationError(f"{where}: expected a label and a class, both strings")
        try:
            key, value = class_name(label), class_name(name)
        except ClassNameError as error:
            raise EvaluationError(f"{where}: expected a label and a class: {error}") from error
        if aliases.setdefault(key, value) != value:
            raise EvaluationError(f"{where}: {key!r} stands for {aliases[key]!r} and for {value!r}: keep one")
    return aliases


def _alias_columns(table: Table) -> list[int]:
    """Return the columns of labels and of classes. Raises EvaluationError for other headings."""
    if table.is_map:
        return [0, 1]
    columns = list(map(folded, table.columns or ()))
    places = [
        [place for place, column in enumerate(columns) if column in names]
        for names in (_LABEL_COLUMNS, _CLASS_COLUMNS)
    ]
    if any(len(some) != 1 for some in places):
        headings = listed(list(table.columns or ())) or "no heading"
        raise EvaluationError(f"{table.source}: expected the columns label and class, found {headings}")
    return [some[0] for some in places]


def _only(label: str, found: Sequence[str]) -> str:
    if len(found) > 1:
        raise EvaluationError(
            f"the label {label!r} could be any of {listed(found)}: say which in an alias file (--aliases)"
        )
    return found[0]


def _trimmed(label: str) -> str:
    return unicodedata.normalize("NFC", label).strip()


def _pairs(folded: Sequence[tuple[str, str]], most: int = 5) -> str:
    more = f" and {len(folded) - most} more" if len(folded) > most else ""
    return ", ".join(f"{label!r} as {name!r}" for label, name in folded[:most]) + more
