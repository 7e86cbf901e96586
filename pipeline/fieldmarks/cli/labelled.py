"""Options that name labelled images and word the descriptors, shared by `evaluate` and `what-if`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from fieldmarks.data import DatasetSpec

Command = Callable[..., None]
FILE = click.Path(path_type=Path)
OF_DATA = (
    *("embeddings", "split", "image_column", "label_column", "limit", "streaming", "aliases"),
    "allow_missing",
)
OF_MODEL = ("clip", "device", "dtype", "engine", "batch", "cache")


class Several(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """Some of several words, with commas between them."""

    name = "a,b"

    def __init__(self, choices: Sequence[str]) -> None:
        self._choices = choices

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the words, each once, or fail as click does."""
        if isinstance(value, tuple):
            return value
        words = tuple(dict.fromkeys(word.strip() for word in str(value).split(",")))
        for word in words:
            if word not in self._choices:
                self.fail(f"{word!r} is none of {', '.join(self._choices)}", param, ctx)
        return words


def data_options(command: Command) -> Command:
    """Add the options that say which images are wanted, and how their labels are read."""
    for option in reversed(
        (
            click.option(
                "--image-embeddings",
                "embeddings",
                type=FILE,
                help="Precomputed image embeddings: a folder written by `fieldmarks embed`, or an .npz file. "
                "Without DATASET, labels come from the file itself or from folder names.",
            ),
            click.option(
                "--split", help="Split to use  [default: test, else validation, else the only one]."
            ),
            click.option("--image-column", metavar="NAME", help="Image column  [default: by type]."),
            click.option("--label-column", metavar="NAME", help="Label column  [default: by type]."),
            click.option(
                "--limit",
                type=click.IntRange(1),
                help="Use at most N images, spread evenly over the data set.",
                metavar="N",
            ),
            click.option(
                "--streaming",
                is_flag=True,
                help="Stream a data set from the Hugging Face hub instead of downloading it.",
            ),
            click.option(
                "--aliases",
                type=FILE,
                help="Maps labels to classes: a table with the columns label and class (CSV, TSV, JSON "
                "lines), or a JSON or YAML map {label: class}.",
            ),
            click.option(
                "--allow-missing",
                is_flag=True,
                help="Skip labels without a class and classes without descriptors.",
            ),
        )
    ):
        command = option(command)
    return command


def text_options(command: Command) -> Command:
    """Add the options that word the descriptors, as `classify` has them."""
    for option in reversed(
        (
            click.option(
                "--text",
                metavar="TEMPLATE",
                help="Template of the descriptors' texts, as for `fieldmarks classify --text`  [default: the "
                "preset's].",
            ),
            click.option(
                "--with-name", is_flag=True, help="Add 'a photo of a {class}' to each class's texts."
            ),
        )
    ):
        command = option(command)
    return command


def spec_of(dataset: str | None, options: dict[str, Any]) -> "DatasetSpec":
    """Return the images that the options name. Raises UsageError."""
    from fieldmarks.evaluation.evaluate import dataset_spec

    return dataset_spec(dataset, **{key: options[key] for key in OF_DATA})


def command_line(context: click.Context) -> list[str]:
    """Return the command line that has these values, without the options that were not given."""
    words = ["fieldmarks", context.info_name or ""]
    for param in context.command.params:
        value = context.params.get(param.name or "")
        if isinstance(param, click.Argument):
            words += [] if value is None else [str(value)]
        elif context.get_parameter_source(param.name or "") is not ParameterSource.DEFAULT:
            words += _option(param, value)
    return words


def _option(param: click.Parameter, value: Any) -> list[str]:
    if isinstance(value, bool):
        names = param.opts if value else param.secondary_opts
        return names[:1]
    if isinstance(param, click.Option) and param.multiple:
        return [word for text in value for word in (param.opts[0], str(text))]
    return [param.opts[0], ",".join(value) if isinstance(value, tuple) else str(value)]
