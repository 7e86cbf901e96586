"""Labels of a data set meet the classes of a store: by exact name, by alias, else by folding."""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from fieldmarks.errors import ClassNameError, EvaluationError
from fieldmarks.evaluation.data.dataset import listed
from fieldmarks.evaluation.data.manifests import SUFFIXES, read_rows, read_text
from fieldmarks.records import class_name

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
    """Read a file of labels and the classes they stand for.

    .json is an object {label: class}; .jsonl, .csv and .tsv have a line a label with the columns label and
    class. Raises EvaluationError, with the line, for anything else and for a label with two classes.
    """
    if path.suffix.lower() == ".json":
        pairs = _object(path)
    elif path.suffix.lower() in SUFFIXES:
        pairs = _lines(path)
    else:
        raise EvaluationError(f"{path}: an alias file is .csv, .tsv, .jsonl or .json")
    aliases: dict[str, str] = {}
    for where, label, name in pairs:
        if not (isinstance(label, str) and isinstance(name, str)):
            raise EvaluationError(f"{path}, {where}: a label and a class are meant: both are texts")
        try:
            key, value = class_name(label), class_name(name)
        except ClassNameError as error:
            raise EvaluationError(f"{path}, {where}: a label and a class are meant: {error}") from error
        if aliases.setdefault(key, value) != value:
            raise EvaluationError(
                f"{path}, {where}: {key!r} stands for {aliases[key]!r} and for {value!r}: keep one"
            )
    return aliases


def _lines(path: Path) -> list[tuple[str, Any, Any]]:
    try:
        columns, rows = read_rows(path)
        if not {"label", "class"} <= set(columns):
            raise EvaluationError(f"the columns label and class are meant, not {listed(list(columns))}")
        return [(f"line {number}", row.get("label"), row.get("class")) for number, row in rows]
    except EvaluationError as error:
        raise error if str(error).startswith(str(path)) else EvaluationError(f"{path}: {error}") from error


def _object(path: Path) -> list[tuple[str, Any, Any]]:
    text = read_text(path)
    try:
        orjson.loads(text)  # stricter than json: no NaN, no lone surrogates
        pairs: Any = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: not JSON: {error}") from error
    if not isinstance(pairs, _Pairs):
        raise EvaluationError(f"{path}: an object of labels is meant, each with its class")
    return [(f"label {label!r}", label, name) for label, name in pairs]


class _Pairs(list[Any]):
    """A JSON object as pairs, so that a label that is there twice is seen."""


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
