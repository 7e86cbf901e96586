"""Where messages go: stderr and a log file, as `-v`, `-q` and `--log-file` say.

The library logs to loggers below "fieldmarks": a warning is something to look into, an info is news of a run,
and a debug message helps to find the cause of a problem. The log file gets all of them, and the lines that
commands print themselves (see console.say), as

    2026-01-31 12:00:00,123 WARNING fieldmarks.store.file: mine.jsonl: ignored an incomplete last line …
"""

import logging
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from fieldmarks.errors import FieldmarksError
from fieldmarks.text import printable

LOGGER: Final = logging.getLogger("fieldmarks")
_FORM: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LINE: Final = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ fieldmarks[\w.]*: ")
_PREFIXES: Final = {logging.WARNING: "Note: ", logging.ERROR: "Error: ", logging.CRITICAL: "Error: "}


def start(verbosity: int, log_file: Path | None) -> None:
    """Send the messages of a command to stderr, and to a file if one is named.

    `verbosity` is 1 for all messages, 0 for warnings and news, and -1 for errors only. The file is appended
    to. Raises FieldmarksError if it cannot be written, or holds anything but a log of ours.
    """
    handlers: list[logging.Handler] = [_Stderr((logging.DEBUG, logging.INFO, logging.ERROR)[1 - verbosity])]
    if log_file is not None:
        handlers.append(_open(log_file))
    for handler in LOGGER.handlers:  # of an earlier command in this process, as in tests
        handler.close()
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(min(handler.level for handler in handlers))


def is_quiet() -> bool:
    """Return whether only errors and the closing line are wanted."""
    return any(isinstance(shown, _Stderr) and shown.level > logging.WARNING for shown in LOGGER.handlers)


def record(line: str) -> None:
    """Write a line that a command prints itself, such as its last one, to the log file if there is one."""
    level, prefix = next((pair for pair in _PREFIXES.items() if line.startswith(pair[1])), (logging.INFO, ""))
    for handler in LOGGER.handlers:
        if isinstance(handler, _File):
            handler.handle(LOGGER.makeRecord(LOGGER.name, level, "", 0, line.removeprefix(prefix), (), None))


class _Stderr(logging.Handler):
    """Prints each message once, as one line, with the control characters of strangers' texts escaped."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._printed: set[str] = set()
        self._turn = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        with self._turn:
            if message in self._printed:
                return
            self._printed.add(message)
        click.echo(f"{_PREFIXES.get(record.levelno, '')}{printable(message)}", err=True)


class _File(logging.FileHandler):
    """Appends each message as a line; a disk that is full does not end the work that it tells of."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setLevel(logging.DEBUG)
        self.setFormatter(_OneLine(_FORM))
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._failed:
            self._failed = True
            click.echo(f"Note: {printable(self.baseFilename)} cannot be written any more", err=True)

    def close(self) -> None:
        with suppress(OSError):  # which emit has met already
            super().close()


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)


def _open(path: Path) -> _File:
    try:
        if path.is_file():
            with path.open("rb") as file:
                beginning = file.read(200)
            if beginning and not _LINE.match(beginning):
                raise FieldmarksError(f"{path} is not a log of fieldmarks: name another file with --log-file")
        return _File(path)
    except OSError as error:
        raise FieldmarksError(f"{path} cannot be written: {error.strerror}: see --log-file") from error
