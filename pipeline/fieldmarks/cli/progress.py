"""How far a run is, on stderr: a bar in a terminal, now and then a plain line elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from fieldmarks.generation.run import Progress

PLAIN_EVERY = 5.0  # seconds between plain lines
BAR_EVERY = 0.2  # seconds between changes of the bar


@contextmanager
def shown(stream: TextIO) -> "Iterator[Callable[[Progress], None]]":
    """Give a function to call with each new progress; it costs next to nothing however often called."""
    if not stream.isatty():
        yield _throttled(lambda progress: print(line(progress), file=stream, flush=True), PLAIN_EVERY)
        return
    from rich.console import Console
    from rich.status import Status

    console = Console(file=stream, highlight=False, soft_wrap=True)
    with Status("asking…", console=console) as status:
        yield _throttled(lambda progress: status.update(line(progress)), BAR_EVERY)


def line(progress: "Progress") -> str:
    """Return a progress as one line: done, failed, rate, tokens, cost, time left."""
    finished = progress.done + progress.failed
    rate = finished / progress.seconds if progress.seconds else 0.0
    left = (progress.total - finished) / rate if rate else 0.0
    tokens = progress.usage.prompt_tokens + progress.usage.completion_tokens
    parts = [
        f"{progress.done} of {progress.total} done",
        f"{progress.failed} failed",
        f"{rate:.1f}/s",
        f"{tokens} tokens",
    ]
    if progress.cost:
        parts.append(f"{progress.cost:.4f} USD")
    minutes, seconds = divmod(round(left), 60)
    return ", ".join([*parts, f"{minutes}:{seconds:02d} left"])


def _throttled(show: "Callable[[Progress], None]", every: float) -> "Callable[[Progress], None]":
    last = -every

    def maybe(progress: "Progress") -> None:
        nonlocal last
        now = time.monotonic()
        over = progress.done + progress.failed >= progress.total
        if over or now - last >= every:
            last = now
            show(progress)

    return maybe
