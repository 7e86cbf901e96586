"""JSON, JSON lines and YAML as tables: lists of names or objects, and maps of names."""

import json
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Final

import orjson

from fieldmarks.errors import TableError
from fieldmarks.tables.table import Row, Table, check_size

JSON_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson"})
YAML_SUFFIXES: Final = frozenset({".yaml", ".yml"})
MAX_LINE: Final = 1 << 20  # characters of a JSON line
MAX_YAML: Final = 4 << 20  # characters; of a longer list JSON is read a hundred times faster
MAX_DEPTH: Final = 20  # of YAML

KEYS: Final = ("keys", "values")  # the columns of a map
_BEGINNING: Final = re.compile(r'\s*[\[{]\s*(["\'\[{\]}\d\n\r]|$)')


class Pairs(list[Any]):
    """An object as (key, value) pairs, so that a key that is there twice is seen."""


def is_json(text: str) -> bool:
    """Whether a text begins as JSON does, and not as a name such as "[unknown]"."""
    return _BEGINNING.match(text) is not None


def parse_json(text: str, source: str, suffix: str, encoding: str) -> Table:
    """Return the table of JSON or JSON lines. Raises TableError for text that is neither."""
    by_line = suffix in {".jsonl", ".ndjson"}
    if not by_line or _spans_lines(text):
        try:
            return tabulate(_json(text), source, "JSON", encoding)
        except ValueError as error:
            first, _, rest = text.strip().partition("\n")
            if not by_line and not (rest.strip() and _is_valid(first)):
                remedy = "" if suffix == ".json" else ": write one name a line, or strings in double quotes"
                raise TableError(f"{source}: not JSON: {error}{remedy}") from error
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            if len(line) > MAX_LINE:
                what = f"{len(line):,} characters, more than {MAX_LINE:,}"
                raise TableError(f"{source}, line {number}: {what}: write one object a line")
            try:
                rows.append((number, _json(line)))
            except ValueError as error:
                raise TableError(f"{source}, line {number}: not JSON: {error}") from error
    return _table(rows, source, "JSON lines", encoding)


def parse_yaml(text: str, source: str, encoding: str) -> Table:
    """Return the table of a YAML list or map. Raises TableError for anything else, and for aliases."""
    if len(text) > MAX_YAML:
        raise TableError(f"{source} has over {MAX_YAML:,} characters of YAML: write the list as JSON or CSV")
    return tabulate(_yaml(text, source), source, "YAML", encoding)


def tabulate(value: Any, source: str, form: str, encoding: str) -> Table:
    """Return the table of a list or map. Raises TableError for a single value."""
    if isinstance(value, Pairs):
        rows = [Row(number, pair) for number, pair in enumerate(value, 1)]
        return Table(source, rows, KEYS, form, encoding=encoding, is_map=True)
    if not isinstance(value, list):
        raise TableError(f"{source} is a single {form} value: expected a list of names or a map")
    return _table(list(enumerate(value, 1)), source, form, encoding)


def _table(items: Sequence[tuple[int, Any]], source: str, form: str, encoding: str) -> Table:
    """Return a table of objects by their keys, of lists by their places, or of single values."""
    kinds = {_shape(item) for _, item in items}
    if len(kinds) > 1:
        raise TableError(f"{source} has {' and '.join(sorted(kinds))}: write all in one form")
    if kinds == {"objects"}:
        keys = dict.fromkeys(key for _, item in items for key, _ in item)
        check_size(source, len(items), len(keys))
        rows = [Row(number, tuple(map(dict(item).get, keys))) for number, item in items]
        return Table(source, rows, tuple(keys), form, encoding=encoding)
    if kinds == {"lists"}:
        width = max(len(item) for _, item in items)
        check_size(source, len(items), width)
        rows = [Row(number, (*item, *[None] * (width - len(item)))) for number, item in items]
    else:
        rows = [Row(number, (item,)) for number, item in items]
    return Table(source, rows, None, form, encoding=encoding)


def _shape(item: Any) -> str:
    return "objects" if isinstance(item, Pairs) else "lists" if isinstance(item, list) else "single values"


def _json(text: str) -> Any:
    """Return the value of strict JSON. Raises ValueError."""
    orjson.loads(text)  # stricter than json: no NaN, no lone surrogates
    try:
        return json.loads(text, object_pairs_hook=Pairs)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _is_valid(line: str) -> bool:
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True


def _spans_lines(text: str) -> bool:
    """Whether JSON's first line is not a whole value, as where it is indented."""
    return not _is_valid(text.strip().partition("\n")[0]) and text.lstrip()[:1] in {"{", "["}


def _yaml(text: str, source: str) -> Any:
    """Return a document of lists, maps and strings; no value is taken for anything but its letters."""
    yaml = import_module("yaml")
    try:
        root: list[Any] = []
        stack: list[Any] = [root]
        for event in yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader)):
            _build(type(event).__name__, event, stack, source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise TableError(
            f"{source}{line}: not YAML: {getattr(error, 'problem', None) or 'damaged'}"
        ) from error
    if len(root) != 1:
        raise TableError(f"{source} has {len(root)} YAML documents: expected one list or map")
    return _paired(root[0])


class _Map(list[Any]):
    """Keys and values in turn, while a map is read."""


def _build(kind: str, event: Any, stack: list[Any], source: str) -> None:
    """Put an event of the parser into the innermost list that is open."""
    where = f"{source}, line {event.start_mark.line + 1}"
    if kind == "AliasEvent":
        raise TableError(f"{where}: an alias (*{event.anchor}): write the names out")
    if kind == "ScalarEvent":
        stack[-1].append(event.value)
    elif kind in {"SequenceStartEvent", "MappingStartEvent"}:
        if len(stack) > MAX_DEPTH:
            raise TableError(f"{where}: nested over {MAX_DEPTH} levels: write a list of names")
        stack[-1].append(inner := _Map() if kind == "MappingStartEvent" else [])
        stack.append(inner)
    elif kind in {"SequenceEndEvent", "MappingEndEvent"}:
        stack.pop()


def _paired(value: Any) -> Any:
    """Return maps as Pairs, at most MAX_DEPTH deep; a key that is no string is written out."""
    if isinstance(value, _Map):
        pairs: Iterator[Any] = iter(value)
        return Pairs((str(key), _paired(item)) for key, item in zip(pairs, pairs, strict=True))
    return [_paired(item) for item in value] if isinstance(value, list) else value
