"""Manifests: a table of pictures and labels as .csv, .tsv or .jsonl, UTF-8.

    image,label                               {"image": "frogs/1.jpg", "label": "tree frog"}
    frogs/1.jpg,tree frog

Paths are relative to the manifest's folder; as the user names the manifest, they may point anywhere.
A column `split` is obeyed. Nothing else in a line matters.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.fetch import Url, is_url
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import name_of
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data import splits
from fieldmarks.evaluation.data.dataset import (
    IMAGE_NAMES,
    LABEL_NAMES,
    Example,
    Listed,
    Source,
    choose_column,
    record,
    spread,
)
from fieldmarks.wording import printable

SUFFIXES: Final = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
MAX_BYTES: Final = 2**30  # of a manifest
MAX_LINE: Final = 2**20  # characters of a line

Row = tuple[int, Mapping[str, Any]]  # the line's number, from 1, and its cells by column


def open_manifest(source: Source) -> Listed:
    """Read a manifest. Raises EvaluationError with the line's number where it is not one."""
    path = Path(source.spec)
    text, fingerprint = _text(path)
    try:
        columns, rows = _rows(text, path.suffix.lower())
        if not columns:
            raise EvaluationError(
                "empty: a heading such as image,label is meant, or JSON lines with these keys"
            )
        image = choose_column("image", source.image_column, _named(columns, IMAGE_NAMES), columns)
        label = choose_column("label", source.label_column, _named(columns, LABEL_NAMES), columns)
        lines = list(rows)
        split, notices = _split(lines, columns, source.split)
    except EvaluationError as error:
        raise EvaluationError(f"{path}: {error}") from error
    chosen = [(number, row) for number, row in lines if split is None or row.get("split") == split]
    records = [_record(path, number, row.get(image), row.get(label)) for number, row in chosen]
    if not records:
        raise EvaluationError(f"{path} lists no picture: write one a line")
    about: dict[str, Any] = {"spec": source.spec, "kind": "manifest", "split": split, "limit": source.limit}
    about |= {"image_column": image, "label_column": label}
    about |= {"pictures": len(records), "fingerprint": fingerprint}
    return Listed(about, spread(records, source.limit), notices)


def read_rows(path: Path) -> tuple[Sequence[str], Iterator[Row]]:
    """Return the columns of a .csv, .tsv or .jsonl file and its rows. Raises EvaluationError, also later."""
    return _rows(_text(path)[0], path.suffix.lower())


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file. Raises EvaluationError, with the line that is something else."""
    return _text(path)[0]


def _text(path: Path) -> tuple[str, str]:
    """Return a file's text, and the hash of its bytes."""
    try:
        if not path.is_file():
            raise EvaluationError(f"{path}: no such file")
        if path.stat().st_size > MAX_BYTES:
            raise EvaluationError(f"{path} has over {MAX_BYTES >> 20} MiB: no list of pictures is that long")
        data = path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig"), hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EvaluationError(f"{path}, line {line}: not UTF-8 text: save it as UTF-8") from error


def _rows(text: str, suffix: str) -> tuple[Sequence[str], Iterator[Row]]:
    return _objects(text) if suffix in {".jsonl", ".ndjson"} else _cells(text, suffix)


def _objects(text: str) -> tuple[Sequence[str], Iterator[Row]]:
    """Read JSON lines; the columns are the keys of the first."""
    rows = [
        (number, _object(line, number)) for number, line in enumerate(text.split("\n"), 1) if line.strip()
    ]
    return list(rows[0][1]) if rows else [], iter(rows)


def _object(line: str, number: int) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise EvaluationError(f"line {number}: {len(line)} characters, {MAX_LINE} are the most")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"line {number}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise EvaluationError(f"line {number}: an object is meant, with the keys image and label")
    return found


def _cells(text: str, suffix: str) -> tuple[Sequence[str], Iterator[Row]]:
    """Read a table; the first line names the columns. A semicolon parts cells where the heading has it."""
    heading = text.partition("\n")[0]
    european = ";" in heading and "," not in heading
    delimiter = "\t" if suffix == ".tsv" else ";" if european else ","
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = _numbered(lines)
    columns = [cell.strip() for cell in next(rows, (1, []))[1]]
    if twice := next((name for name in columns if columns.count(name) > 1), None):
        raise EvaluationError(f"line 1: two columns are called {printable(twice)!r}: rename one")
    return columns, _by_column(columns, rows)


def _numbered(lines: Any) -> Iterator[tuple[int, list[str]]]:
    try:
        for cells in lines:
            if any(cells):
                yield lines.line_num, cells
    except csv.Error as error:  # a cell of over 128 KiB is one too
        raise EvaluationError(f"line {lines.line_num}: {error}") from error


def _by_column(columns: Sequence[str], rows: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    for number, cells in rows:
        if len(cells) != len(columns):
            raise EvaluationError(
                f"line {number}: {len(cells)} cells where the heading has {len(columns)}:"
                " quote a cell that has a comma inside"
            )
        yield number, dict(zip(columns, cells, strict=True))


def _named(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns that are called like one of `names`."""
    return [column for column in columns if column.strip().casefold() in names]


def _split(rows: list[Row], columns: Sequence[str], asked: str | None) -> tuple[str | None, list[str]]:
    if asked is None and "split" not in columns:
        return None, []
    names = list(dict.fromkeys(str(row["split"]) for _, row in rows if row.get("split")))
    if asked is None and not names:
        return None, []
    chosen = splits.choose(names, asked)
    return chosen, [] if asked else splits.told(chosen, names)


def _record(manifest: Path, number: int, image: Any, label: Any) -> Example | Failure:
    if not isinstance(image, str) or not image.strip():
        return Failure(f"{manifest}, line {number}", "it names no picture")
    if is_url(image):
        return Failure(
            Url(image).name, f"{manifest}, line {number}: an address: download it and name the file"
        )
    path = str(manifest.parent / image)
    return record(path, label, name_of(path, number))
