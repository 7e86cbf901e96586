"""Options that name a language model, and the completer they come to."""

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fieldmarks.generation.completer import Completer

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
        )
    ):
        command = option(command)
    return command


def endpoint_of(base_url: str | None, model: str | None) -> tuple[str, str]:
    """Return URL and model id of the endpoint that the options name, or raise click's UsageError."""
    if base_url is None and not (model and os.environ.get("OPENAI_API_KEY")):
        raise click.UsageError(THREE_WAYS)
    if model is None:
        raise click.UsageError("--base-url needs --model: name the model to ask there")
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
) -> "Completer":
    """Return the completer that the options name, or raise click's UsageError."""
    if local is not None:
        if model is not None:
            raise click.UsageError("--local and --model exclude each other: --local names the model itself")
        if mode not in LOCAL_MODES:
            raise click.UsageError(f"--mode {mode} is for endpoints: --local knows {', '.join(LOCAL_MODES)}")
        from fieldmarks.generation.local import LocalCompleter

        return LocalCompleter(local, mode=mode, batch_size=concurrency)
    url, name = endpoint_of(base_url, model)
    from fieldmarks.generation.endpoint import EndpointCompleter
    from fieldmarks.generation.pace import Pace
    from fieldmarks.generation.retry import RetryPolicy

    return EndpointCompleter(
        url,
        name,
        os.environ.get("OPENAI_API_KEY"),
        mode=mode,
        concurrency=concurrency,
        timeout=timeout,
        retry=RetryPolicy(max_wait=max_wait),
        pace=Pace(rpm, tpm),
        tell=tell,
    )
