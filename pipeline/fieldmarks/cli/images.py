"""Images as a command goes through them: their paths, progress, failures, and the closing line."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

import click

from fieldmarks.cli.console import conclude, say
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from fieldmarks.classification.results import Failure
    from fieldmarks.evaluation.predictions import Progress

    Paths = Iterator[str | Failure]
    Filter = Callable[[Paths], Paths]

Result = TypeVar("Result")

INCOMPLETE = 3  # the exit code of a run that did all but what its last lines name
NAMED = 20  # images in the last lines
COUNTED = 100_000  # images that are counted before the work


def say_failure(failure: "Failure") -> None:
    """Print on stderr why an image could not be read."""
    say(f"Error: {printable(failure.image)}: {printable(failure.error)}")


def conclude_read(failures: "Sequence[Failure]", done: int, *closing: str) -> None:
    """Say why images could not be read, beside those that were, and conclude as `conclude_images`."""
    for failure in failures:
        say_failure(failure)
    failed = [failure.image for failure in failures]
    conclude_images(failed, len(failed), len(failed) + done, *closing)


def conclude_images(failed: Sequence[str], failures: int, total: int, *closing: str) -> None:
    """Name the images that failed, of which `failed` are the first, and print the closing line.

    If any failed, it says so, and the command ends with INCOMPLETE.
    """
    if not failures:
        conclude(*closing)
        return
    say(f"{failures:,} of {counted(total, 'image')} failed:")
    for image in failed[:NAMED]:
        say(f"  {printable(image)}")
    if failures > NAMED:
        say(f"  … {failures - NAMED:,} more, named above")
    conclude(*closing, f"{counted(failures, 'image')} failed")
    click.get_current_context().exit(INCOMPLETE)


def image_paths(images: Sequence[str], *filters: "Filter") -> "tuple[Paths, int | None]":
    """Return the paths of the images that the filters leave, and their number.

    Of paths that come from stdin, or of very many, the number is None.
    """
    from fieldmarks.classification.sources import STDIN, find

    paths: Paths = find(images, sys.stdin)
    for leave in filters:
        paths = leave(paths)
    if STDIN in images:
        return paths, None
    first = list(islice(paths, COUNTED + 1))
    return chain(first, paths), len(first) if len(first) <= COUNTED else None


def watched(
    results: "Iterable[Result]", show: "Callable[[Progress], None]", total: int | None
) -> "Iterator[Result]":
    """Yield results of images, and show how many there were."""
    from fieldmarks.classification.results import Failure
    from fieldmarks.evaluation.predictions import Progress

    began, done, failed = time.monotonic(), 0, 0
    for result in results:
        failed += isinstance(result, Failure)
        done += not isinstance(result, Failure)
        show(Progress(done, failed, total, time.monotonic() - began))
        yield result
