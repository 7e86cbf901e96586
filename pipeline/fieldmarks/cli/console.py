"""Output that all commands share: lines, messages, progress and the closing line on stderr, JSON on stdout.

The library logs to loggers below "fieldmarks": a warning is something to look into, an info is news about a
run, and a debug message helps to find the cause of a problem. `-v` and `-q` select which of them go to
stderr. A log file gets all of them, and the lines that commands print themselves (see `say`), as

    2026-01-31 12:00:00,123 WARNING fieldmarks.store.file: mine.jsonl: ignored an incomplete last line …
"""

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TextIO, TypeVar

import click

from fieldmarks.errors import FieldmarksError
from fieldmarks.text import printable

if TYPE_CHECKING:
    from fieldmarks.classification import results
    from fieldmarks.generation.run import Progress


_BEGAN: Final = "fieldmarks.began"  # when the command began: a key of click's shared `meta`


class InOrder(click.Group):
    """A group whose help lists its commands in the order in which they were added: that of the workflow.

    `hints` has words that are no command but that people may try, each with what to type instead.
    """

    def __init__(self, *args: Any, hints: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hints = hints or {}

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return a command's name, the command and its own arguments. A word near a hint's is an error."""
        near = get_close_matches(args[0], [*self.commands, *self.hints], 1)
        if near and near[0] in self.hints and not context.resilient_parsing:
            meant = f"{context.command_path} {self.hints[near[0]]}"
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean `{meant}`?", context)
        return super().resolve_command(context, args)

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


class ConfirmationNeeded(click.ClickException):
    """A command has to ask but there is no terminal to ask on, which is a usage error."""

    exit_code = 2


def say(message: str) -> None:
    """Print one line on stderr, even with `-q`: a command's closing lines and errors; the rest is logged.

    Control characters, which may come from a file or a server, are escaped.
    """
    click.echo(printable(message), err=True)
    record(message)


def start_clock() -> None:
    """Remember when the current command begins, for its closing line."""
    click.get_current_context().meta[_BEGAN] = time.monotonic()


def conclude(*sentences: str) -> None:
    """Print a command's closing line: what was done, skipped and written, and how long it took.

    Sentences without a full stop get one. Every command ends with this line, even with `-q`.
    """
    now = time.monotonic()
    took = duration(now - click.get_current_context().meta.get(_BEGAN, now))
    whole = [sentence if sentence.endswith((".", "?", "!")) else f"{sentence}." for sentence in sentences]
    say(" ".join([*whole, f"Took {took}."]))


def duration(seconds: float) -> str:
    """Return a duration for people to read: "0.4 s", "12 s", "3 min 5 s", "2 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def emit(value: Mapping[str, Any]) -> None:
    """Print one JSON object as a line on stdout, in ASCII if stdout is not Unicode."""
    import orjson

    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # integers beyond 64 bits, and file names that are not Unicode
        text = json.dumps(value)
    if not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf"):
        text = json.dumps(json.loads(text))
    click.echo(text)


class Counted(Protocol):
    """Progress as counts: how many are done, how many failed, out of how many, and the seconds taken."""

    @property
    def done(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def seconds(self) -> float: ...


Shown = TypeVar("Shown", bound=Counted)

PLAIN_EVERY = 10.0  # seconds between plain lines
BAR_EVERY = 0.2  # seconds between changes of the bar


@contextmanager
def shown(
    stream: TextIO, wording: Callable[[Shown], str], *, every: float = PLAIN_EVERY, bar: bool = True
) -> Iterator[Callable[[Shown], None]]:
    """Yield a function that shows the progress passed to it: as a bar on a terminal, else as plain lines.

    A line is printed `every` so many seconds, even if nothing new is reported, so that a log shows that the
    work goes on. The function costs next to nothing however often it is called, and shows nothing with `-q`,
    nor on a terminal without `bar`, as when the results themselves are printed there.
    """
    if is_quiet() or (stream.isatty() and not bar):
        yield lambda progress: None
    elif stream.isatty():
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        spinner = Spinner("dots", "starting…")
        console = Console(file=stream, highlight=False, soft_wrap=True)
        with Live(spinner, console=console, transient=True, redirect_stdout=False):  # stdout is for results
            yield _throttled(lambda progress: spinner.update(text=wording(progress)), BAR_EVERY)
    else:
        with _Lines(stream, wording, every) as lines:
            yield lines.take


class _Lines(Generic[Shown]):
    """Prints the latest progress as a line at regular intervals, from its own thread."""

    def __init__(self, stream: TextIO, wording: Callable[[Shown], str], every: float) -> None:
        self._stream, self._wording, self._every = stream, wording, every
        self._latest: Shown | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def take(self, progress: Shown) -> None:
        self._latest = progress

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._over.wait(self._every):
            latest = self._latest
            text = "no result yet" if latest is None else self._wording(latest)
            print(f"{text} (after {duration(time.monotonic() - began)})", file=self._stream, flush=True)


def line(progress: "Progress") -> str:
    """Return a run's progress as one line: done, failed, what it waits for, rate, tokens, cost, time left."""
    rate, left = _rate(progress)
    tokens = progress.usage.prompt_tokens + progress.usage.completion_tokens
    writing = progress.usage.completion_tokens / progress.seconds if progress.seconds >= 1 else 0.0
    written = f" ({writing:,.0f} written/s)" if writing else ""
    parts = [
        f"{progress.done:,} of {progress.total:,} done",
        f"{progress.failed:,} failed",
        *([f"{progress.retrying:,} waiting to retry"] if progress.retrying else []),
        *([f"{progress.waiting:,} being asked by other processes"] if progress.waiting else []),
        *([f"{rate:.1f}/s"] if rate else []),
        *([f"{tokens:,} tokens{written}"] if tokens else []),
        *([f"{progress.cost:.4f} USD"] if progress.cost else []),
        *([left] if rate else []),
    ]
    return ", ".join(parts)


def images_line(progress: "results.Progress") -> str:
    """Return the progress on images as one line: done, unreadable, rate, and time left if known."""
    rate, left = _rate(progress)
    unreadable = [f"{progress.failed:,} unreadable"] if progress.failed else []
    total = "" if progress.total is None else f" of {progress.total:,}"
    done = f"{progress.done:,}{total} images"
    if progress.total is None:
        return ", ".join([done, *unreadable, *([f"{rate:.1f}/s"] if progress.seconds >= 1 else [])])
    return ", ".join([done, *unreadable, *([f"{rate:.1f}/s", left] if progress.seconds >= 1 else [])])


def counting(what: str) -> Callable[[Counted], str]:
    """Return a function that words progress: "120 of 3,000 sorted, 60.0/s, 0:48 left" for "sorted"."""

    def wording(progress: Counted) -> str:
        rate, left = _rate(progress)
        finished = progress.done + progress.failed
        total = "" if progress.total is None else f" of {progress.total:,}"
        speed = [f"{rate:.1f}/s", *([left] if progress.total else [])] if progress.seconds >= 1 else []
        return ", ".join([f"{finished:,}{total} {what}", *speed])

    return wording


def _rate(progress: Counted) -> tuple[float, str]:
    """Return the rate per second, and the time left in words."""
    finished = progress.done + progress.failed
    rate = finished / progress.seconds if progress.seconds else 0.0
    minutes, seconds = divmod(round(max(0, (progress.total or 0) - finished) / rate) if rate else 0, 60)
    return rate, f"{minutes}:{seconds:02d} left"


def _throttled(show: Callable[[Shown], None], every: float) -> Callable[[Shown], None]:
    last = -every

    def maybe(progress: Shown) -> None:
        nonlocal last
        now = time.monotonic()
        over = progress.done + progress.failed == progress.total
        if over or now - last >= every:
            last = now
            show(progress)

    return maybe


LOGGER: Final = logging.getLogger("fieldmarks")
_FORM: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LINE: Final = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ fieldmarks[\w.]*: ")
_PREFIXES: Final = {logging.WARNING: "Note: ", logging.ERROR: "Error: ", logging.CRITICAL: "Error: "}


def start_logging(verbosity: int, log_file: Path | None) -> None:
    """Send a command's log messages to stderr, and to a file if one is named.

    `verbosity` is 1 for all messages, 0 for warnings and news, and -1 for errors only. The file is appended
    to. Raises FieldmarksError if it cannot be written, or is not a log of fieldmarks.
    """
    handlers: list[logging.Handler] = [_Printer((logging.DEBUG, logging.INFO, logging.ERROR)[1 - verbosity])]
    if log_file is not None:
        handlers.append(_open(log_file))
    for handler in LOGGER.handlers:  # of an earlier command in this process, as in tests
        handler.close()
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(min(handler.level for handler in handlers))


def is_quiet() -> bool:
    """Return whether to show only errors and the closing line."""
    return any(
        isinstance(handler, _Printer) and handler.level > logging.WARNING for handler in LOGGER.handlers
    )


def record(line: str) -> None:
    """Write a line that a command prints itself, such as its last one, to the log file if there is one."""
    level, prefix = next((pair for pair in _PREFIXES.items() if line.startswith(pair[1])), (logging.INFO, ""))
    for handler in LOGGER.handlers:
        if isinstance(handler, _File):
            handler.handle(LOGGER.makeRecord(LOGGER.name, level, "", 0, line.removeprefix(prefix), (), None))


class _Printer(logging.Handler):
    """Prints each message once, as one line, with the control characters of untrusted text escaped."""

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
    """Appends each message as a line; a full disk does not stop the work being logged."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setLevel(logging.DEBUG)
        self.setFormatter(_OneLine(_FORM))
        self._failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._failed:
            self._failed = True
            click.echo(f"Note: {printable(self.baseFilename)} can no longer be written", err=True)

    def close(self) -> None:
        with suppress(OSError):  # emit has reported it already
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
                raise FieldmarksError(f"{path} is not a log of fieldmarks: pass another file with --log-file")
        return _File(path)
    except OSError as error:
        raise FieldmarksError(f"{path} cannot be written: {error.strerror}: see --log-file") from error
