"""Options that name a language model, and a number as options take it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import click


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
                "--local",
                metavar="MODEL",
                help="Causal LM to run in this process: a folder or a Hugging Face id.",
            ),
            click.option("--model", metavar="ID", help="Model name at the endpoint."),
            click.option(
                "--base-url",
                metavar="URL",
                help="Endpoint URL, usually ending in /v1 (default: $OPENAI_BASE_URL). The key is read from "
                "$OPENAI_API_KEY.",
            ),
            click.option(
                "--header",
                "headers",
                metavar="NAME=VALUE",
                multiple=True,
                callback=checked_headers,
                help="Extra header for each request, such as api-key=…; repeatable.",
            ),
        )
    ):
        command = option(command)
    return command
