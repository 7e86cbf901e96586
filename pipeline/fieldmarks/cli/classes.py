"""The class names that a command is given: a file, stdin or options."""

import sys

import click

from fieldmarks.errors import ClassNameError


def class_names(classes: str | None, named: tuple[str, ...]) -> list[str]:
    """Return the names of a list (a path, - for stdin) and those named beside it. Raises ClassNameError."""
    from fieldmarks.bounds import decode, read_bytes
    from fieldmarks.records import MAX_LIST, class_list, class_name

    if classes is None and not named:
        raise click.UsageError("no class is named: give a file with one name a line, -, or --class NAME")
    listed: list[str] = []
    if classes is not None:
        source = "stdin" if classes == "-" else classes
        data = _stdin() if classes == "-" else read_bytes(classes, MAX_LIST, ClassNameError)
        listed = class_list(decode(data, source, ClassNameError).split("\n"), source)
    return list(dict.fromkeys([*listed, *map(class_name, named)]))


def _stdin() -> bytes:
    """Return the class list on stdin, of which there is none where it was closed."""
    from fieldmarks.records import MAX_LIST

    try:
        data = sys.stdin.buffer.read(MAX_LIST + 1) if sys.stdin else b""
    except OSError as error:
        raise ClassNameError(f"stdin cannot be read: {error.strerror}") from error
    if len(data) > MAX_LIST:
        raise ClassNameError(f"stdin has over {MAX_LIST:,} bytes: expected a class list")
    return data
