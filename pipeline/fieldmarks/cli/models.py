"""The class names that a command is given: a file, stdin or options.

Options that name a language model, and the completer they come to.
"""

import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.errors import ClassNameError

if TYPE_CHECKING:
    from fieldmarks.generation.request import Completer


def class_names(classes: str | None, named: tuple[str, ...], column: str | None = None) -> list[str]:
    """Return the names of a list (a path, - for stdin) and those named beside it; say what was understood.

    Raises ClassNameError.
    """
    from fieldmarks.class_lists import class_list
    from fieldmarks.cli.console import say
    from fieldmarks.records import MAX_LIST, class_name
    from fieldmarks.tables import errors_as, parse_table, read_table

    if classes is None and not named:
        raise click.UsageError("no class is named: give a list of classes, -, or --class NAME")
    if classes is None and column is not None:
        raise click.UsageError("--column is for a list of classes, and none is given")
    listed: tuple[str, ...] = ()
    if classes is not None:
        with errors_as(ClassNameError):
            if classes == "-":
                table = parse_table(_stdin(), "stdin")
            else:
                table = read_table(classes, MAX_LIST, ClassNameError)
            understood = class_list(table, column)
        say(understood.report)
        listed = understood.names
    return list(dict.fromkeys([*listed, *map(class_name, named)]))


def _stdin() -> bytes:
    """Return the class list on stdin, of which there is none where it was closed."""
    from fieldmarks.records import MAX_LIST

    try:
        data = sys.stdin.buffer.read(MAX_LIST + 1) if sys.stdin else b""
    except OSError as error:
        raise ClassNameError(f"stdin cannot be read: {error.strerror}") from error
    if len(data) > MAX_LIST:
        raise ClassNameError(f"stdin has over {MAX_LIST:,} bytes: expected a class list")
    return data


THREE_WAYS = (
    "no language model is named: give --local FOLDER_OR_ID, or --base-url URL (or OPENAI_BASE_URL) with "
    "--model ID, or set OPENAI_API_KEY and give --model ID"
)
LOCAL_MODES = ("auto", "completions", "continue")


class Number(click.FloatRange):
    """A number within a range; "nan", which no comparison refuses, is none."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail as click does."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def checked_headers(ctx: click.Context, param: click.Parameter, headers: tuple[str, ...]) -> tuple[str, ...]:
    """Return --header's values as they are, or fail as click does, without showing a value."""
    names: set[str] = set()
    for header in headers:
        from fieldmarks.generation.credentials import header_problem

        name, equals, value = header.partition("=")
        problem = header_problem(name, value) if equals else "expected NAME=VALUE"
        if problem:  # what has no name may be a secret as a whole
            where = f"header {name!r}" if equals else "a header"
            raise click.BadParameter(f"{where}: {problem}.", ctx, param)
        if name.lower() in names:
            raise click.BadParameter(f"header {name!r} is given twice.", ctx, param)
        names.add(name.lower())
    return headers


def headers_of(headers: Sequence[str]) -> dict[str, str]:
    """Return checked headers by name."""
    return dict(header.split("=", 1) for header in headers)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name an endpoint's model or a local one."""
    for option in reversed(
        (
            click.option(
                "--local", metavar="MODEL", help="A causal LM to run here: a folder or a Hugging Face id."
            ),
            click.option("--model", metavar="ID", help="The model's name at the endpoint."),
            click.option(
                "--base-url",
                metavar="URL",
                envvar="OPENAI_BASE_URL",
                help="The endpoint, often ending in /v1; else OPENAI_BASE_URL. Its key is OPENAI_API_KEY.",
            ),
            click.option(
                "--header",
                "headers",
                metavar="NAME=VALUE",
                multiple=True,
                callback=checked_headers,
                help="A header for each request, such as api-key=…; may be repeated.",
            ),
        )
    ):
        command = option(command)
    return command


def endpoint_of(base_url: str | None, model: str | None) -> tuple[str, str]:
    """Return URL and model id of the endpoint that the options name, or raise click's UsageError."""
    if base_url is None and not (model and os.environ.get("OPENAI_API_KEY")):
        raise click.UsageError(THREE_WAYS)
    if model is None:
        raise click.UsageError(
            "--base-url needs --model: name the model to ask there; fieldmarks doctor --base-url lists them"
        )
    if base_url is None:
        from fieldmarks.generation.transport import OPENAI

        base_url = OPENAI
    return base_url, model


def completer_of(
    *,
    base_url: str | None,
    model: str | None,
    local: str | None,
    mode: str,
    concurrency: int,
    timeout: float,
    max_wait: float,
    rpm: float | None,
    tpm: float | None,
    tell: Callable[[str], None],
    headers: Sequence[str] = (),
) -> "Completer":
    """Return the completer that the options name, or raise click's UsageError."""
    if local is not None:
        if model is not None:
            raise click.UsageError("--local and --model exclude each other: --local names the model itself")
        if headers:
            raise click.UsageError("--header is for endpoints: --local sends nothing")
        if mode not in LOCAL_MODES:
            raise click.UsageError(f"--mode {mode} is for endpoints: --local knows {', '.join(LOCAL_MODES)}")
        from fieldmarks.generation.local import LocalCompleter

        return LocalCompleter(local, mode=mode, batch_size=concurrency)
    url, name = endpoint_of(base_url, model)
    from fieldmarks.generation.endpoint import EndpointCompleter
    from fieldmarks.generation.limits import RateLimiter, RetryPolicy

    return EndpointCompleter(
        url,
        name,
        os.environ.get("OPENAI_API_KEY"),
        headers=headers_of(headers),
        mode=mode,
        concurrency=concurrency,
        timeout=timeout,
        retry=RetryPolicy(max_wait=max_wait),
        limiter=RateLimiter(rpm, tpm),
        tell=tell,
    )
