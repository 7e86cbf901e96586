"""The class names that a command is given: a file, stdin or options."""

import sys
from pathlib import Path

import click

from fieldmarks.errors import ClassNameError

MOST_BYTES = 64 << 20  # of a class list


def class_names(classes: str | None, named: tuple[str, ...]) -> list[str]:
    """Return the names of a list (a path, - for stdin) and those named beside it. Raises ClassNameError."""
    from fieldmarks.records import class_list, class_name

    if classes is None and not named:
        raise click.UsageError("no class is named: give a file with one name a line, -, or --class NAME")
    listed: list[str] = []
    if classes is not None:
        try:
            data = _read(classes)
            listed = class_list(data.decode("utf-8-sig").split("\n"), "stdin" if classes == "-" else classes)
        except OSError as error:
            raise ClassNameError(f"{classes} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ClassNameError(f"{classes} is not UTF-8 text: save it as UTF-8") from error
    return list(dict.fromkeys([*listed, *map(class_name, named)]))


def _read(classes: str) -> bytes:
    """Return the bytes of a class list. Raises OSError, or ClassNameError where it has no end."""
    if classes == "-":
        data = sys.stdin.buffer.read(MOST_BYTES + 1) if sys.stdin else b""  # none where it was closed
    else:
        with Path(classes).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ClassNameError(f"{classes} has over {MOST_BYTES >> 20} MiB: no class list is that long")
    return data
