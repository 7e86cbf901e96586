"""`fieldmarks doctor`: checks an endpoint and models before you spend money or time on them."""

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fieldmarks.cli.configuration import CACHE, is_given
from fieldmarks.cli.console import conclude
from fieldmarks.cli.generate import Number, headers_of, model_options
from fieldmarks.cli.root import ENVIRONMENT, FAULT
from fieldmarks.errors import EndpointError, ModelError
from fieldmarks.paths import CONFIGURATION
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from fieldmarks.generation.doctor import Check

SIGNS = {True: "yes", None: "note", False: "NO"}


@click.command(short_help="Check the installation, an endpoint or a model.")
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

    Without options, shows what is installed, where the cache is and which configuration file is in use.

    For an endpoint, sends a handful of tiny requests, reports each result, and remembers the mode for
    `generate`; without --model, lists the models that it offers. For --clip, shows the model's family, how it
    reads texts and images, which backend computes it, how fast it is in a short trial, and how close to torch
    at float32.

    \b
    Examples:
      fieldmarks doctor
      fieldmarks doctor --base-url http://localhost:11434/v1
      fieldmarks doctor --base-url http://localhost:11434/v1 --model llama3.2
      fieldmarks doctor --clip hf-hub:imageomics/bioclip
    """
    from fieldmarks.generation.doctor import Check

    checks: list[Check] = []

    def show(check: "Check") -> None:
        checks.append(check)
        click.echo(f"{SIGNS[check.ok]:5}{check.what:24} {check.detail}")

    named = {"local": local, "model": model, "clip": clip}
    if any(is_given(name) for name in named):  # then ignore defaults
        local, model, clip = (value if is_given(name) else None for name, value in named.items())
    base_url = base_url or os.environ.get("OPENAI_BASE_URL")
    if fault := click.get_current_context().meta.get(FAULT):
        show(Check("configuration", False, printable(fault)))
    elif Path(CONFIGURATION).exists():
        show(Check("configuration", True, str(Path(CONFIGURATION).resolve())))
    if model is None and local is None and clip is None and base_url is None and not headers:
        for check in _installation():
            show(check)
        conclude("Checked the installation; --base-url, --model, --local and --clip check models")
        if fault:
            raise click.exceptions.Exit(1)
        return
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
    broken = sum(check.ok is False and not check.what.startswith("mode ") for check in checks)
    conclude(f"{counted(len(checks), 'result')}; {broken or 'none'} failed")
    if broken:
        raise click.exceptions.Exit(1)


def _installation() -> "Iterator[Check]":
    """Yield the checks that need no model: versions, the environment, the cache folder, the extras."""
    from fieldmarks import __version__
    from fieldmarks.extras import MODULES, install, is_installed
    from fieldmarks.generation.doctor import Check
    from fieldmarks.paths import user_cache

    yield Check("fieldmarks", True, f"{__version__}, Python {platform.python_version()}")
    if not Path(CONFIGURATION).exists():
        yield Check("configuration", None, f"no {CONFIGURATION} in this folder")
    for name, variable in ENVIRONMENT.items():
        if value := os.environ.get(variable):
            yield Check(variable, True, f"--{name} {printable(value)}")
    yield _cache_folder(user_cache())
    for extra in MODULES:
        there = is_installed(extra)
        detail = "installed" if there else f"not installed: {install(extra)}"
        yield Check(f"extra {extra}", there or None, detail)


def _cache_folder(folder: Path) -> "Check":
    """Check whether the cache folder, or its nearest existing parent, can be written."""
    from fieldmarks.generation.doctor import Check

    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Check("cache", True, str(folder))
    return Check("cache", None, f"{folder} cannot be written, so nothing is cached: set {CACHE}")


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
            url, name = endpoint_of(base_url, model, has_key=bool(key))
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
