"""A file to a table: its suffix and its beginning decide what it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fieldmarks import bounds
from fieldmarks.errors import FieldmarksError, TableError
from fieldmarks.tables import delimited, documents
from fieldmarks.tables.encodings import decode
from fieldmarks.tables.table import Table


@contextmanager
def errors_as(error: type[FieldmarksError]) -> Iterator[None]:
    """Raise the reader's errors as those of the caller's kind."""
    try:
        yield
    except TableError as reason:
        raise error(str(reason)) from reason


def read_table(path: str | Path, most: int, error: type[FieldmarksError], suffix: str | None = None) -> Table:
    """Return the table in a file of at most `most` bytes; `suffix` is another than its own.

    Raises `error`, with the path and the line, for what cannot be read or is not certain.
    """
    data = bounds.read_bytes(path, most, error)
    with errors_as(error):
        return parse_table(data, str(path), suffix or Path(path).suffix)


def parse_table(data: bytes, source: str, suffix: str = "") -> Table:
    """Return the table in a file's bytes; `source` names it in errors. Raises TableError."""
    suffix = suffix.lower()
    structured = suffix in documents.JSON_SUFFIXES | documents.YAML_SUFFIXES
    text, encoding = decode(data, source, western=not structured)
    if suffix in documents.YAML_SUFFIXES:
        return documents.parse_yaml(text, source, encoding)
    if suffix in documents.JSON_SUFFIXES or documents.is_json(text):
        return documents.parse_json(text, source, suffix, encoding)
    return delimited.parse(text, source, suffix, encoding)
