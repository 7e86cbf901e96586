"""`fieldmarks doctor`: checks an endpoint and models before you spend money or time on them."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from fieldmarks.cli.generate import Number, headers_of, model_options
from fieldmarks.errors import EndpointError, ModelError, UsageError

if TYPE_CHECKING:
    from fieldmarks.generation.doctor import Check

SIGNS = {True: "yes", None: "note", False: "NO"}


@click.command()
@model_options
@click.option("--clip", metavar="MODEL", help="CLIP-like model to load: a folder or a Hugging Face id.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Number(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Timeout per answer.",
)
def doctor(
    local: str | None,
    model: str | None,
    base_url: str | None,
    headers: tuple[str, ...],
    clip: str | None,
    timeout: float,
) -> None:
    """Check an endpoint (key, model, prefilled replies), or whether a local model loads.

    Sends a handful of tiny requests, reports each result, and remembers the mode for `generate`. Without
    --model, lists the models that the endpoint offers. Of --clip it shows the model's family, how it reads
    texts and images, what computes it, how fast in a short trial, and how close to torch at float32.

    \b
    Examples:
      fieldmarks doctor --base-url http://localhost:11434/v1
      fieldmarks doctor --base-url http://localhost:11434/v1 --model llama3.2
      fieldmarks doctor --clip hf-hub:imageomics/bioclip
    """
    checks: list[Check] = []

    def show(check: "Check") -> None:
        checks.append(check)
        click.echo(f"{SIGNS[check.ok]:5}{check.what:24} {check.detail}")

    base_url = base_url or os.environ.get("OPENAI_BASE_URL")
    if model is None and local is None and clip is None and base_url is None:
        from fieldmarks.generation.generate import NO_MODEL

        raise UsageError(NO_MODEL)
    local_only = model is None and (local is not None or clip is not None)
    if local_only and headers:
        raise click.UsageError("--header is for endpoints: name one with --base-url and --model")
    if not local_only:
        _endpoint(base_url, model, headers, timeout, show)
    if local is not None:
        show(_local(local))
    if clip is not None:
        for check in _clip(clip):
            show(check)
    if any(check.ok is False and not check.what.startswith("mode ") for check in checks):
        raise click.exceptions.Exit(1)


def _endpoint(
    base_url: str | None,
    model: str | None,
    headers: tuple[str, ...],
    timeout: float,
    show: Callable[["Check"], None],
) -> None:
    from fieldmarks.generation.doctor import Check, examine, list_models
    from fieldmarks.generation.endpoint import EndpointCompleter
    from fieldmarks.generation.generate import endpoint_of

    key, sent = os.environ.get("OPENAI_API_KEY"), headers_of(headers)
    try:
        if base_url is not None and model is None:
            list_models(base_url, key, sent, timeout, show)
        else:
            url, name = endpoint_of(base_url, model)
            completer = EndpointCompleter(url, name, key, headers=sent, timeout=timeout)
            examine(completer, show)
    except EndpointError as error:
        show(Check("endpoint", False, str(error)))


def _local(model: str) -> "Check":
    from fieldmarks.generation.doctor import Check, examine_local
    from fieldmarks.generation.local import LocalCompleter

    try:
        return examine_local(LocalCompleter(model))
    except ModelError as error:
        return Check("local model", False, str(error))


def _clip(model: str) -> "Iterator[Check]":
    from fieldmarks.classification.embedder import Encoder
    from fieldmarks.classification.trial import trial
    from fieldmarks.generation.doctor import Check

    try:
        for subject, phrase in trial(Encoder(model)):
            yield Check(subject, True, phrase)
    except ModelError as error:
        yield Check("CLIP", False, str(error))
