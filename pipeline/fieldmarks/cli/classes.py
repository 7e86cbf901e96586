"""The class names that a command is given: a file, stdin or options."""

import sys

import click

from fieldmarks.errors import ClassNameError


def class_names(classes: str | None, named: tuple[str, ...], column: str | None = None) -> list[str]:
    """Return the names of a list (a path, - for stdin) and those named beside it; say what was understood.

    Raises ClassNameError.
    """
    from fieldmarks.class_lists import class_list
    from fieldmarks.cli.console import tell
    from fieldmarks.records import MAX_LIST, class_name
    from fieldmarks.tables import errors_as, parse_table, read_table

    if classes is None and not named:
        raise click.UsageError("no class is named: give a list of classes, -, or --class NAME")
    if classes is None and column is not None:
        raise click.UsageError("--column is for a list of classes, and none is given")
    listed: tuple[str, ...] = ()
    if classes is not None:
        with errors_as(ClassNameError):
            if classes == "-":
                table = parse_table(_stdin(), "stdin")
            else:
                table = read_table(classes, MAX_LIST, ClassNameError)
            understood = class_list(table, column)
        tell(understood.report)
        listed = understood.names
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
