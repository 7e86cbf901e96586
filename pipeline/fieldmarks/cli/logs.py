"""Messages of the library on stderr and in a log file: what `-v`, `-q` and `--log-file` mean.

The library logs to loggers below "fieldmarks". A warning is something to look into, an info is news of a run,
and a debug message is for whoever looks for the cause of a problem.
"""

import logging
import threading
from pathlib import Path
from typing import Final

import click

from fieldmarks.errors import FieldmarksError
from fieldmarks.text import printable

LOGGER: Final = logging.getLogger("fieldmarks")
_FORM: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _ToStderr(logging.Handler):
    """Prints a message once on stderr as one line, with control characters of strangers' texts escaped."""

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()
        self._turn = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        with self._turn:
            if message in self._printed:
                return
            self._printed.add(message)
        prefix = "Note: " if record.levelno >= logging.WARNING else ""
        click.echo(f"{prefix}{printable(message)}", err=True)


def start(verbosity: int, log_file: Path | None) -> None:
    """Send the library's messages to stderr, and to a file if one is named.

    `verbosity` is 1 for all messages, 0 for warnings and news, and -1 for neither. Raises FieldmarksError if
    the file cannot be written.
    """
    level = {1: logging.DEBUG, 0: logging.INFO, -1: logging.ERROR}[verbosity]
    shown = _ToStderr()
    shown.setLevel(level)
    handlers: list[logging.Handler] = [shown]
    if log_file is not None:
        try:
            to_file = logging.FileHandler(log_file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise FieldmarksError(f"{log_file} cannot be written: {error.strerror}") from error
        to_file.setFormatter(logging.Formatter(_FORM))
        handlers.append(to_file)
    LOGGER.handlers[:] = handlers  # a process may run several commands, as tests do
    LOGGER.setLevel(logging.DEBUG if log_file is not None else level)
    LOGGER.propagate = False
