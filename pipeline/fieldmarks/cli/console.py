"""What all commands print alike: lines and progress on stderr, JSON on stdout."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

import click

if TYPE_CHECKING:
    from fieldmarks.evaluation import predictions
    from fieldmarks.generation.run import Progress


class ConfirmationNeeded(click.ClickException):
    """A command has to ask and there is no terminal to ask on, which is wrong usage."""

    exit_code = 2


def say(message: str) -> None:
    """Print one line on stderr, also with `-q`: a command's closing lines and errors; the rest is logged.

    Control characters, which a file or a server may have put into it, are escaped.
    """
    from fieldmarks.cli import logs
    from fieldmarks.text import printable

    click.echo(printable(message), err=True)
    logs.record(message)


def emit(value: Mapping[str, Any]) -> None:
    """Print one JSON object as a line on stdout, in ASCII where stdout takes no other letters."""
    import orjson

    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # integers beyond 64 bits, and file names that are not Unicode
        text = json.dumps(value)
    if not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf"):
        text = json.dumps(json.loads(text))
    click.echo(text)


class Counted(Protocol):
    """How many things of how many are done or failed, and the seconds it took."""

    @property
    def done(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def seconds(self) -> float: ...


Shown = TypeVar("Shown", bound=Counted)

PLAIN_EVERY = 5.0  # seconds between plain lines
BAR_EVERY = 0.2  # seconds between changes of the bar


@contextmanager
def shown(stream: TextIO, wording: Callable[[Shown], str]) -> Iterator[Callable[[Shown], None]]:
    """Give a function to call with each new progress, which shows it: a bar in a terminal, else plain lines.

    It costs next to nothing however often it is called, and shows nothing with `-q`.
    """
    from fieldmarks.cli import logs

    if logs.is_quiet():
        yield lambda progress: None
        return
    if not stream.isatty():
        yield _throttled(lambda progress: print(wording(progress), file=stream, flush=True), PLAIN_EVERY)
        return
    from rich.console import Console
    from rich.status import Status

    console = Console(file=stream, highlight=False, soft_wrap=True)
    with Status("beginning…", console=console) as status:
        yield _throttled(lambda progress: status.update(wording(progress)), BAR_EVERY)


def line(progress: "Progress") -> str:
    """Return a run's progress as one line: done, failed, what it waits for, rate, tokens, cost, time left."""
    rate, left = _rate(progress)
    tokens = progress.usage.prompt_tokens + progress.usage.completion_tokens
    parts = [
        f"{progress.done:,} of {progress.total:,} done",
        f"{progress.failed:,} failed",
        *([f"{progress.retrying:,} waiting to retry"] if progress.retrying else []),
        *([f"{progress.waiting:,} being asked by other processes"] if progress.waiting else []),
        *([f"{rate:.1f}/s"] if rate else []),
        *([f"{tokens:,} tokens"] if tokens else []),
        *([f"{progress.cost:.4f} USD"] if progress.cost else []),
        *([left] if rate else []),
    ]
    return ", ".join(parts)


def images_line(progress: "predictions.Progress") -> str:
    """Return how far the images are as one line: done, unreadable, rate, time left where it is known."""
    rate, left = _rate(progress)
    unreadable = [f"{progress.failed:,} unreadable"] if progress.failed else []
    total = "" if progress.total is None else f" of {progress.total:,}"
    done = f"{progress.done:,}{total} images"
    if progress.total is None:
        return ", ".join([done, *unreadable, *([f"{rate:.1f}/s"] if progress.seconds >= 1 else [])])
    return ", ".join([done, *unreadable, *([f"{rate:.1f}/s", left] if progress.seconds >= 1 else [])])


def _rate(progress: Counted) -> tuple[float, str]:
    """Return things a second, and the time left in words."""
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
