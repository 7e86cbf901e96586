"""Options that name labelled pictures and what classifies them, shared by `evaluate` and `what-if`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from fieldmarks.classification.embedder import EncoderOptions
    from fieldmarks.evaluation.experiment import Data

Command = Callable[..., None]
FILE = click.Path(path_type=Path)


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
    """Add the options that say which pictures are meant, and how their labels are read."""
    for option in reversed(
        (
            click.option(
                "--image-embeddings",
                "embeddings",
                type=FILE,
                help="Kept embeddings of the pictures: a folder of `fieldmarks embed`, or an .npz. Without"
                " DATASET they are labelled by themselves or by their folders' names.",
            ),
            click.option(
                "--split", help="The split to read  [default: test, else validation, else the only]."
            ),
            click.option(
                "--image-column", metavar="NAME", help="The column of pictures  [default: by type]."
            ),
            click.option("--label-column", metavar="NAME", help="The column of labels  [default: by type]."),
            click.option(
                "--limit", type=click.IntRange(1), help="Take so many pictures, evenly over the data set."
            ),
            click.option(
                "--streaming", is_flag=True, help="Read a hub's data set without downloading all of it."
            ),
            click.option(
                "--aliases",
                type=FILE,
                help="Labels and the classes they stand for: a table with the columns label and class (CSV,"
                " TSV, JSON lines), or a JSON or YAML map {label: class}.",
            ),
            click.option(
                "--allow-missing",
                is_flag=True,
                help="Leave out labels without a class and classes without descriptors.",
            ),
        )
    ):
        command = option(command)
    return command


def data_of(dataset: str | None, options: dict[str, Any]) -> "Data":
    """Return the pictures that the options name; they are taken out of `options`. Raises UsageError."""
    from fieldmarks.data import Source
    from fieldmarks.evaluation.experiment import Data

    of_source = {
        key: options.pop(key) for key in ("split", "image_column", "label_column", "limit", "streaming")
    }
    of_data = {key: options.pop(key) for key in ("embeddings", "aliases", "allow_missing")}
    if dataset == "":
        raise click.UsageError("DATASET is empty: name a folder or a file")
    if dataset is None and of_data["embeddings"] is None:
        raise click.UsageError("name a DATASET, or --image-embeddings with labels of their own")
    if dataset is None and (given := next((key for key, value in of_source.items() if value), None)):
        raise click.UsageError(f"--{given.replace('_', '-')} is for a DATASET, and none is named")
    return Data(source=None if dataset is None else Source(spec=dataset, **of_source), **of_data)


def model_of(options: Mapping[str, Any]) -> "EncoderOptions":
    """Return the model that the options name."""
    from fieldmarks.classification.embedder import EncoderOptions

    names = (field.name for field in fields(EncoderOptions))
    return EncoderOptions(**{name: options[name] for name in names if name in options})


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
        return [word for one in value for word in (param.opts[0], str(one))]
    return [param.opts[0], ",".join(value) if isinstance(value, tuple) else str(value)]
