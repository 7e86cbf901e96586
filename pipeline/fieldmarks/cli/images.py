"""Shared by commands on images: options for the model and the page, paths, failures, the closing line."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.choices import Decode, DType, Engine, check_device, words
from fieldmarks.cli.console import conclude, say
from fieldmarks.errors import ImageError, UsageError
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from fieldmarks.classification.results import Failure
    from fieldmarks.report.document import Imprint

    Paths = Iterator[str | Failure]
    Filter = Callable[[Paths], Paths]

Command = Callable[..., None]

OF_MODEL = ("clip", "device", "dtype", "engine", "decode", "batch", "cache")
INCOMPLETE = 3  # the exit code of a run that did everything except what its errors name
MISSING_SHOWN = 3  # of arguments that name no images
COUNTED = 100_000  # images that are counted before the work begins


class Device(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """The name of a device; cuda:N is one of several GPUs."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail as click does."""
        try:
            check_device(value)
        except UsageError as error:
            self.fail(str(error).removeprefix("device: "), param, ctx)
        return str(value)


class Share(click.FloatRange):
    """A number from 0 to 1, which may be written as a percentage: 0.8 or 80%."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail as click does."""
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{value!r} is not a number: write 0.8, or 80%.", param, ctx)
        if not 0 <= number <= 1:
            self.fail(f"{value!r} is not between 0 and 1: write 0.8, or 80%.", param, ctx)
        return float(super().convert(number, param, ctx))


def model_options(command: Command) -> Command:
    """Add the options for the CLIP model, its engine, device and precision."""
    for option in (
        click.option(
            "--cache/--no-cache",
            default=True,
            help="Cache embeddings for later runs; converted models are always cached.",
        ),
        click.option(
            "--batch",
            type=click.IntRange(1, 4096),
            help="Images per forward pass  [default: 32 on a CPU; on a GPU 256, or what its memory holds].",
        ),
        click.option(
            "--dtype",
            type=click.Choice(words(DType)),
            default="auto",
            help="Numeric precision; auto: half precision where the processor supports it natively, else "
            "float32. With float32, JPEGs are decoded at full size.",
        ),
        click.option(
            "--engine",
            type=click.Choice(words(Engine)),
            default="auto",
            help="Inference backend; auto: OpenVINO on a CPU if it is installed and its results match "
            "torch's.",
        ),
        click.option(
            "--device",
            type=Device(),
            metavar="[auto|cpu|cuda|cuda:N|mps]",
            default="auto",
            help="Device; cuda:1 is one of several GPUs  [default: the fastest available].",
        ),
        click.option(
            "--clip",
            metavar="MODEL",
            help="CLIP-like model: a folder or a Hugging Face id  [default: what made the classifier or the "
            "embeddings, else openai/clip-vit-base-patch32].",
        ),
    ):
        command = option(command)
    return command


def decode_option(command: Command) -> Command:
    """Add the option for what decodes images; for commands that may read many of them."""
    return click.option(
        "--decode",
        type=click.Choice(words(Decode)),
        default="auto",
        help="What decodes JPEGs; auto: the CPU; gpu: an NVIDIA GPU, faster and approximate. Needs the extra "
        "'gpu' (torchvision).",
    )(command)


def label_options(command: Command) -> Command:
    """Add the options that say when an image gets no label, several, or a broader one."""
    for option in (
        click.option(
            "--back-off",
            is_flag=True,
            help="Answer with the broader class, the `parent` in the store, where the classes below it cannot"
            " be told apart.",
        ),
        click.option(
            "--sets",
            is_flag=True,
            help="Also list the labels needed for the calibrated coverage (needs a calibrated --classifier).",
        ),
        click.option(
            "--abstain",
            is_flag=True,
            help='Report "none of these" where the best class\'s score is under its threshold (needs a'
            " calibrated --classifier).",
        ),
        click.option(
            "--min-probability",
            type=Share(0, 1),
            default=0.0,
            help='Report "unsure" for images whose top probability is below this.',
        ),
    ):
        command = option(command)
    return command


def page_options(command: Command) -> Command:
    """Add the options for a page's title and author."""
    for option in (
        click.option("--author", metavar="NAME", help="Author, shown below the title of the page."),
        click.option(
            "--title", metavar="TEXT", help="Title of the page  [default: a summary of the contents]."
        ),
    ):
        command = option(command)
    return command


def force_option(command: Command) -> Command:
    """Add `--force`, without which no command overwrites a file."""
    return click.option("--force", is_flag=True, help="Overwrite existing files.")(command)


def check_new(force: bool, named: Mapping[str, Path | Sequence[Path] | None]) -> None:
    """Raise StoreError if a file exists, unless `force` is set and it is a regular file.

    `named` has the files by the option that names them. Raises UsageError for `force` if there are none.
    """
    from fieldmarks.store import exchange

    if force and not any(named.values()):
        *names, last = named
        raise click.UsageError(f"--force goes with {', '.join(names)}{' or ' if names else ''}{last}")
    for place in named.values():
        for path in [place] if isinstance(place, Path) else place or ():
            exchange.check_new(path, force=force, remedy="choose another name, or pass --force")


def wrote(files: Sequence[object]) -> list[str]:
    """Return the sentence of the closing line that names the files written; nothing if there are none."""
    *names, last = map(str, files or [""])
    return [f"Wrote {', '.join(names)}{' and ' if names else ''}{last}"] if files else []


def imprint(options: Mapping[str, Any]) -> "Imprint":
    """Return the page's title and author as given. Raises UsageError if they are given without a page."""
    from fieldmarks.report.document import Imprint

    check_page(options)
    return Imprint(options["title"], options["author"])


def check_page(options: Mapping[str, Any]) -> None:
    """Raise UsageError for a title or an author without a page."""
    for name in ("title", "author"):
        if options[name] is not None and options["report"] is None:
            raise click.UsageError(f"--{name} goes with --report FILE")


def say_failure(failure: "Failure") -> None:
    """Print on stderr why an image could not be read."""
    say(f"Error: {printable(failure.image)}: {printable(failure.error)}")


def conclude_read(failures: "Sequence[Failure]", done: int, *closing: str) -> None:
    """Print why images could not be read, and conclude as `conclude_images` does."""
    for failure in failures:
        say_failure(failure)
    conclude_images(len(failures), done, *closing)


def conclude_images(failures: int, done: int, *closing: str) -> None:
    """Print the closing line, which counts the failed inputs: each was named when it failed.

    If some failed, the command exits with INCOMPLETE, or with 1 if none is `done`, by this run or an earlier.
    """
    if not failures:
        conclude(*closing)
    elif done:
        conclude(*closing, f"{counted(failures, 'input')} failed")
        click.get_current_context().exit(INCOMPLETE)
    else:
        conclude(*closing, f"Every input failed ({failures:,})")
        click.get_current_context().exit(1)


def find_images(images: "Sequence[str | Path | Failure]") -> "Paths":
    """Return the paths of the images that arguments name, with failures for those that name none.

    Raises ImageError if there is not a single image, as when a disk is not mounted; an empty list on stdin
    names nothing, so nothing is missing.
    """
    from fieldmarks.classification.results import Failure
    from fieldmarks.classification.sources import find

    paths: Paths = find(images, sys.stdin)
    missing: list[Failure] = []
    for path in paths:
        if not isinstance(path, Failure) and os.path.lexists(path):
            return chain(missing, [path], paths)
        missing.append(path if isinstance(path, Failure) else Failure(path, "no such file or folder"))
    if missing:
        shown = [f"{failure.image}: {failure.error}" for failure in missing[:MISSING_SHOWN]]
        more = [f"{len(missing) - MISSING_SHOWN:,} more"] if len(missing) > MISSING_SHOWN else []
        raise ImageError(f"no images: {'; '.join([*shown, *more])}")
    return paths


def image_paths(images: Sequence[object], paths: "Paths", *filters: "Filter") -> "tuple[Paths, int | None]":
    """Return the paths of `find_images` that pass the filters, and their number.

    The number is None for paths from stdin, or if there are very many.
    """
    from fieldmarks.classification.sources import STDIN

    for leave in filters:
        paths = leave(paths)
    if STDIN in images:
        return paths, None
    first = list(islice(paths, COUNTED + 1))
    return chain(first, paths), len(first) if len(first) <= COUNTED else None
