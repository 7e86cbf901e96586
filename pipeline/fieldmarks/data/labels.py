"""Matches the labels of a data set to the classes of a store.

A label is matched to a class by exact name, by alias, by one of the class's `ids` in the store, or else by
folding:

    Tree_Frog, tree-frog, TREE FROG       the class "tree frog", ignoring case, accents, separators
    003.TreeFrog, n01644373-tree_frog     the class "tree frog", also ignoring spaces and a leading number
    0007, n01644373-any_other_name        the class with 7 or n01644373 among its ids

The second kind counts only if no other label could mean the class, and both only if a single class fits.

Numeric labels first get their names from a class list beside the data, in any form people write it:

    classes.txt    tree frog            0 tree frog         n01641577 bullfrog
                   owl                  1 owl               n01644373 tree frog
    classes.csv    id,name              class,index         and other headings
    classes.json   ["tree frog", "owl"]    {"0": "tree frog"}    {"tree frog": 0}
    data.yaml      names: [tree frog, owl]

A list without numbers counts from 0, or from 1 if the labels run from 1 to the number of names.
"""

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fieldmarks.class_lists import contents
from fieldmarks.data.dataset import listed
from fieldmarks.data.manifest import MAX_BYTES
from fieldmarks.errors import ClassNameError, EvaluationError, TableError
from fieldmarks.records import MAX_LIST, class_name
from fieldmarks.tables import Row, Table, errors_as, read_table
from fieldmarks.tables.table import Role, folded, role
from fieldmarks.tables.writing import csv_text, unguarded
from fieldmarks.text import counted

FILES: Final = (
    *("classes.txt", "classnames.txt", "labels.txt", "classes.json", "labels.json", "id2label.json"),
    *("label2id.json", "classes.csv", "classes.tsv", "classes.yaml", "data.yaml", "obj.names"),
)
_INDEX: Final = re.compile(r"\d{1,9}|n\d{8}", re.ASCII)  # an index, or a WordNet id
_NUMBERED: Final = re.compile(rf"({_INDEX.pattern})[\s:,;.)=]+(\S.*)", re.ASCII)
_NUMBERED_BEHIND: Final = re.compile(rf"(\S.*?)[\s:,;=]+({_INDEX.pattern})", re.ASCII)
_INDICES: Final = frozenset(("id", "index", "idx", "classid", "labelid", "categoryid", "label", "keys"))


def find_list(*folders: Path) -> Path | None:
    """Return the first class list in some folders, or None."""
    return next((folder / name for folder in folders for name in FILES if (folder / name).is_file()), None)


def read_list(path: Path) -> dict[str, str]:
    """Return the class name of each number in a list. Raises EvaluationError."""
    table = read_table(path, MAX_LIST, EvaluationError)
    names: dict[str, str] = {}
    with errors_as(EvaluationError):
        table, _, _ = contents(table, None, "keep one of them")
        for row, number, text in _names_by_number(table):
            if not isinstance(text, str):
                raise EvaluationError(f"{table.where(row)}: expected a class name: write a string")
            try:
                name = class_name(text)
            except ClassNameError as error:
                raise EvaluationError(f"{table.where(row)}: {error}") from error
            if names.setdefault(_key(number), name) != name:
                raise EvaluationError(f"{table.where(row)}: {number} names two classes: keep one")
    if not names:
        raise EvaluationError(f"{path} contains no class name: write one per line")
    return names


def name_numbers(labels: Iterable[str], spec: str) -> tuple[dict[str, str], list[str]]:
    """Return the names of numeric labels, from a list next to a data set, and notices about it.

    Raises EvaluationError if there is a list that cannot be read.
    """
    labels = list(labels)
    place = Path(spec)
    path = find_list(*([place, place.parent] if place.is_dir() else [place.parent]))
    if path is None or not labels or not all(_INDEX.fullmatch(label) for label in labels):
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


def _names_by_number(table: Table) -> Iterator[tuple[Row, str, Any]]:
    """Yield each row with its number and its name; rows without numbers are counted from 0."""
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
    columns = [place for place in numbers if place in indices or not _is_index(table, place)]
    name = _name_column(table, numbers)
    for count, row in enumerate(table.rows):
        for number in [str(row.cells[place]) for place in columns] or [str(count)]:
            yield row, number, row.cells[name]


def _pairs_of_lines(table: Table) -> Iterator[tuple[Row, str, Any]]:
    texts = [
        (row, row.cells[0].strip() if isinstance(row.cells[0], str) else row.cells[0]) for row in table.rows
    ]
    lines = [text if isinstance(text, str) else "" for _, text in texts]
    for pattern, number, name in ((_NUMBERED, 1, 2), (_NUMBERED_BEHIND, 2, 1)):
        parsed = [pattern.fullmatch(line) for line in lines]
        matches = [match for match in parsed if match]
        if len(matches) == len(lines) == len({match[name] for match in matches}):
            yield from (
                (row, match[number], match[name]) for row, match in zip(table.rows, matches, strict=True)
            )
            return
    yield from ((row, str(count), text) for count, (row, text) in enumerate(texts))


def _name_column(table: Table, numbers: Sequence[int]) -> int:
    """Return the column of names. Raises TableError if there is none or it is ambiguous."""
    if len(table.rows) == 1 and table.columns is None and not numbers:
        raise TableError(f"{table.source}: all names are on one line: write one per line")
    places = [place for place in range(table.width) if place not in numbers and table.is_textual(place)]
    if len(places) > 1 and table.columns is not None:
        places = [place for place in places if role(table.columns[place]) is Role.CLASS] or places
    if len(places) != 1:
        columns = table.listed(places) if places else "none"
        raise TableError(
            f"{table.source}: expected a column of class names, found {columns}:"
            " write one class name per line"
        )
    return places[0]


def _are_numbers(table: Table, place: int) -> bool:
    """Whether a column has a number in every row, all of them different."""
    values = [str(value).strip() for value in table.values(place) if not isinstance(value, bool)]
    return len(values) == len(table.rows) == len(set(values)) and all(map(_INDEX.fullmatch, values))


def _is_index(table: Table, place: int) -> bool:
    return all(str(value).strip().isdecimal() for value in table.values(place))


def _key(number: str) -> str:
    number = number.strip()
    return str(int(number)) if number.isascii() and number.isdigit() else number


_JOINT: Final = re.compile(r"[\s_\-./]+")
_ACCENTED: Final = re.compile(r"([a-z])[\u0300-\u036f]+")  # in other scripts such a mark makes another letter
_NUMBER: Final = re.compile(r"(?:n\d{8}[\s._-]+|\d+\s*[._-]\s*|0\d*\s+)(?=[^\W\d_])")
_WORDNET: Final = re.compile(r"(n\d{8})[\s._-]+\S", re.ASCII)
_SIMILARITY: Final = 0.6  # difflib ratio of near names
_NEAR_PAIRS: Final = 50_000  # pairs of labels and classes that can be compared letter by letter in a second
_LABEL_COLUMNS: Final = frozenset(("label", "labels", "alias", "aliases", "labelname"))
_CLASS_COLUMNS: Final = frozenset(("class", "classes", "classname", "klasse", "clase", "classe"))


@dataclass(frozen=True, slots=True)
class Matching:
    """Which class each label stands for, and what is left over on both sides, in input order."""

    class_of: Mapping[str, str]
    folded: tuple[tuple[str, str], ...] = ()  # labels matched only by folding
    unknown_labels: tuple[str, ...] = ()
    unused_classes: tuple[str, ...] = ()
    numbered: tuple[tuple[str, str], ...] = ()  # labels matched by number to a class's ids
    unclear: tuple[tuple[str, Sequence[str]], ...] = ()  # unknown labels that are ids of several classes


def match(
    labels: Iterable[str],
    classes: Sequence[str],
    aliases: Mapping[str, str] | None = None,
    ids: Mapping[str, str] | None = None,
    clashing: Mapping[str, Sequence[str]] | None = None,
) -> Matching:
    """Match each label to a class: by exact name, alias or id, else to the only class that folds alike.

    Several labels may be spellings of one name. A label that fits several classes stays unknown, and so does
    one in `clashing`, which is an id of several.
    """
    known = {class_name(name): name for name in classes}
    other_names = {text: known[name] for text, name in (ids or {}).items() if name in known} | known
    clashing = {label: names for label, names in (clashing or {}).items() if label not in other_names}
    by_letters = _grouped(known.values(), letters)
    names = {label: _trimmed(label) for label in dict.fromkeys(labels)}
    names = {
        label: name if name in known else (aliases or {}).get(name, name) for label, name in names.items()
    }
    clear = {label: name for label, name in names.items() if name not in clashing}
    by_name = _match_names(clear, known, other_names)
    by_number = {
        label: other_names[number]
        for label, name in clear.items()
        if label not in by_name and not by_letters.get(letters(name))
        if (number := _number_in(name)) in other_names and number not in known
    }
    by_letter = _match_letters(names, by_name, by_letters, other_names)
    by_letter = {label: name for label, name in by_letter.items() if label in clear}
    found = by_name | by_letter | by_number
    class_of = {label: found[label] for label in names if label in found}
    unknown = tuple(label for label in names if label not in class_of)
    met = set(class_of.values())
    return Matching(
        class_of,
        folded=tuple(
            (label, name)
            for label, name in class_of.items()
            if names[label] not in other_names and label not in by_number
        ),
        unknown_labels=unknown,
        unused_classes=tuple(name for name in known.values() if name not in met),
        numbered=tuple(
            (label, name)
            for label, name in class_of.items()
            if _is_numbered(names[label], known) or label in by_number
        ),
        unclear=tuple((label, clashing[names[label]]) for label in unknown if names[label] in clashing),
    )


def _match_names(
    names: Mapping[str, str], known: Mapping[str, str], other_names: Mapping[str, str]
) -> dict[str, str]:
    """Return the class of each label that is a class name or id, or folds like that of only one class."""
    by_fold = _grouped(known.values(), fold)
    for key, texts in _grouped(other_names, fold).items():
        by_fold.setdefault(key, list(dict.fromkeys(other_names[text] for text in texts)))
    class_of = {}
    for label, name in names.items():
        fitting = [other_names[name]] if name in other_names else by_fold.get(fold(name), [])
        if len(fitting) == 1:
            class_of[label] = fitting[0]
    return class_of


def _match_letters(
    names: Mapping[str, str],
    by_name: Mapping[str, str],
    by_letters: Mapping[str, Sequence[str]],
    other_names: Mapping[str, str],
) -> dict[str, str]:
    """Return the class of each unmatched label that has the letters of a class that no other label means.

    A label whose number and name belong to different classes gets neither.
    """
    folds = {fold(text) for text in other_names}
    taken = set(by_name.values())
    rest = _grouped({fold(name) for label, name in names.items() if label not in by_name}, letters)
    class_of = {}
    for label, name in names.items():
        fitting = by_letters.get(letters(name), [])
        only = len(fitting) == 1 and fitting[0] not in taken and len(rest.get(letters(name), [])) == 1
        contradicted = only and other_names.get(_number_in(name), fitting[0]) != fitting[0]
        if label not in by_name and only and not contradicted and fold(name) not in folds:
            class_of[label] = fitting[0]
    return class_of


def _number_in(name: str) -> str:
    """Return the number that is the whole label (007 is 7), or the WordNet id before its name."""
    if name.isascii() and name.isdecimal():
        return name.lstrip("0") or "0"
    wordnet = _WORDNET.match(name)
    return wordnet[1] if wordnet else ""


def _is_numbered(label: str, known: Mapping[str, str]) -> bool:
    return label.isdecimal() and label not in known


def fold(name: str) -> str:
    """Return a name without what labels often differ in: case, accents, separators."""
    text = name
    while (folded := _folded_once(text)) != text:
        text = folded
    return text


def letters(name: str) -> str:
    """Return a folded name without its spaces and without a leading number, as in 001.Black_footed."""
    name = unicodedata.normalize("NFC", name).strip()
    return fold(_NUMBER.sub("", name, count=1) if _NUMBER.match(name) else name).replace(" ", "")


def near_names(matching: Matching) -> dict[str, str]:
    """Return the most similar class of each unknown label that resembles one.

    With very many labels and classes, only those that share a word are compared.
    """
    folds = {fold(name): name for name in sorted({*matching.unused_classes, *matching.class_of.values()})}
    by_word: dict[str, list[str]] = {}
    for key in folds:
        for word in key.split():
            by_word.setdefault(word, []).append(key)
    many = len(matching.unknown_labels) * len(folds) > _NEAR_PAIRS
    near = {}
    for label in matching.unknown_labels:
        key = fold(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _NUMBER.sub("", label, count=1)))
        related = dict.fromkeys(name for word in key.split() for name in by_word.get(word, []))
        alike = difflib.get_close_matches(key, related if many else folds, 1, _SIMILARITY)
        if alike and not key.isdigit():
            near[label] = folds[alike[0]]
    return near


def alias_file(near: Mapping[str, str]) -> str:
    """Return labels and classes as the .csv that `read_aliases` reads."""
    return csv_text([("label", "class"), *near.items()])


def _folded_once(name: str) -> str:
    apart = unicodedata.normalize("NFKD", name).casefold()
    plain = unicodedata.normalize("NFC", _ACCENTED.sub(r"\1", unicodedata.normalize("NFKD", apart)))
    return _JOINT.sub(" ", plain).strip()


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def require(matching: Matching, allow_missing: bool) -> list[str]:
    """Return notices about the matching.

    Raises EvaluationError for labels without a class, unless they are allowed.
    """
    notices = []
    if matching.folded:
        notices.append(
            f"{counted(len(matching.folded), 'label')} matched after ignoring case, accents, separators and"
            f" numbers in front: {_pairs(matching.folded)}"
        )
    if matching.numbered:
        notices.append(
            f"labels are matched by number to the ids of the store's classes: {_pairs(matching.numbered, 2)};"
            " check that your data set counts as the store does"
        )
    if not matching.unknown_labels:
        return notices
    missing = f"labels without a class in the store: {listed(matching.unknown_labels)}"
    if matching.unclear:
        label, names = matching.unclear[0]
        missing += f" ({label!r} is among the ids of several classes, {listed(names, 3)})"
    if not allow_missing:
        raise EvaluationError(
            missing
            + _advice(matching)
            + ": add them to the store, pass an alias file with --aliases, or score the rest"
            " with --allow-missing"
        )
    return [*notices, f"left out: {missing}"]


def _advice(matching: Matching) -> str:
    """Return advice on the unknown labels: the classes they resemble, or a list that names numbers."""
    if matching.unknown_labels and all(label.isdigit() for label in matching.unknown_labels):
        return " (numeric labels are named by a list of the classes next to the data, classes.txt)"
    near = near_names(matching)
    if not near:
        return ""
    return f"; near names: {_pairs(tuple(near.items()))} (--preflight prints them as an alias file)"


def read_aliases(path: Path) -> tuple[dict[str, str], str]:
    """Return labels with the classes they stand for, and a one-line report of how their file was read.

    The file is a map {label: class}, or a table with both columns. Raises EvaluationError, with the line, for
    anything else and for a label with two classes.
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
            key, value = class_name(unguarded(label)), class_name(unguarded(name))
        except ClassNameError as error:
            raise EvaluationError(f"{where}: expected a label and a class: {error}") from error
        if aliases.setdefault(key, value) != value:
            raise EvaluationError(f"{where}: {key!r} stands for {aliases[key]!r} and for {value!r}: keep one")
    if not aliases:
        raise EvaluationError(f"{path} has no label: write the heading label,class and a line for each label")
    where = "" if table.is_map else f" from {table.names(places)}"
    return aliases, f"{path}: {counted(len(aliases), 'alias')}{where}{table.separated()}"


def check_aliases(
    path: Path, aliases: Mapping[str, str], labels: Iterable[str], classes: Iterable[str]
) -> list[str]:
    """Return notices about aliases with an unknown class or label.

    Raises EvaluationError for swapped columns.
    """
    known, met = {fold(name) for name in classes}, {fold(label) for label in labels}
    unknown = [name for name in dict.fromkeys(aliases.values()) if fold(name) not in known]
    swapped = next((label for label in aliases if fold(label) in known), None)
    if unknown and swapped is not None and {*map(fold, unknown)} & met:
        raise EvaluationError(
            f"{path}: {unknown[0]!r} is a label and {swapped!r} a class: swap the columns, label first and"
            " then class"
        )
    notices = (
        [f"{path} has classes that are not in the store: {listed(unknown)}: correct them"] if unknown else []
    )
    unused = [label for label in aliases if fold(label) not in met]
    return notices + ([f"{path}: no image has the label {listed(unused, 3)}"] if unused else [])


def _alias_columns(table: Table) -> list[int]:
    """Return the label and class columns. Raises EvaluationError for other headings."""
    if table.is_map:
        return [0, 1]
    columns = list(map(folded, table.columns or ()))
    places = [
        [place for place, column in enumerate(columns) if column in names]
        for names in (_LABEL_COLUMNS, _CLASS_COLUMNS)
    ]
    if any(len(some) != 1 for some in places):
        headings = listed(list(table.columns or ())) or "no heading"
        mark = table.delimiter or ","
        raise EvaluationError(
            f"{table.source}: expected the columns label and class, found {headings}: write label{mark}class"
            " as the first line"
        )
    return [some[0] for some in places]


def _trimmed(label: str) -> str:
    return unicodedata.normalize("NFC", label).strip()


def _pairs(folded: Sequence[tuple[str, str]], most: int = 5) -> str:
    more = f" and {len(folded) - most} more" if len(folded) > most else ""
    return ", ".join(f"{label!r} as {name!r}" for label, name in folded[:most]) + more
