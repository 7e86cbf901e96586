"""What the options of a run come to: how answers are drawn, what they cost, the model. Values are checked.

An option that would have no effect is refused. Messages name options as the command line spells them.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fieldmarks.choices import Mode, check_choice
from fieldmarks.errors import UsageError
from fieldmarks.generation.limits import FREE, Prices, RateLimiter, RetryPolicy
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Completer, Params

OPENAI: Final = "https://api.openai.com/v1"
TIMEOUT: Final = 120.0  # seconds for one answer
MAX_WAIT: Final = 600.0  # seconds of tries and waits for one request
WARM: Final = 0.7  # temperature where several answers are to differ
LOCAL_MODES: Final = ("auto", "completions", "continue")
MANY: Final = 1_000_000
NO_MODEL: Final = (
    "no language model is named: pass --local FOLDER_OR_ID, or --base-url URL (or OPENAI_BASE_URL) with "
    "--model ID, or set OPENAI_API_KEY and pass --model ID"
)


def params_of(
    temperature: float | None, max_tokens: int, seed: int | None, samples: int, keep: int
) -> Params:
    """Return how answers are drawn; several are drawn warm unless a temperature is given."""
    _check_number("temperature", temperature, most=2.0)
    check_whole("max_tokens", max_tokens, 1)
    check_whole("samples", samples, 1)
    check_whole("keep", keep, 1)
    if seed is not None:
        check_whole("seed", seed, 0, 2**53)
    if samples > 1 and temperature == 0:
        raise UsageError("--samples needs a --temperature above 0: greedy answers are all the same")
    if keep > samples:
        raise UsageError(f"--keep {keep} is more than --samples {samples}")
    if temperature is None:
        temperature = WARM if samples > 1 else 0.0
    return Params(temperature, max_tokens, seed, samples, keep)


def prices_of(
    price_in: float | None, price_out: float | None, max_cost: float | None, local: str | Path | None
) -> Prices | None:
    """Return the prices that are given; a local model costs nothing, those of an endpoint may be unknown."""
    _check_number("price_in", price_in)
    _check_number("price_out", price_out)
    _check_number("max_cost", max_cost, positive=True)
    if (price_in is None) != (price_out is None):
        raise UsageError("pass both --price-in and --price-out (USD per million tokens)")
    if max_cost is not None and price_in is None:
        raise UsageError("--max-cost needs --price-in and --price-out (USD per million tokens)")
    if local is not None and price_in is not None:
        raise UsageError("--price-in and --price-out are for endpoints: a local model costs nothing")
    if local is not None:
        return FREE
    return None if price_in is None or price_out is None else Prices(price_in, price_out)


def prompt_of(prompt: str | Path | Prompt, values: Mapping[str, str | None]) -> Prompt:
    """Return a prompt by its name, its file, or itself; it must have the placeholders that `values` fill."""
    template = prompt if isinstance(prompt, Prompt) else Prompt.load(prompt)
    for key, value in values.items():
        if value and f"{{{key}}}" not in template.text:
            raise UsageError(f"--{key} has no effect: the prompt {template.name!r} has no {{{key}}}")
    return template


def completer_of(
    *,
    model: str | None,
    base_url: str | None,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    local: str | Path | None,
    mode: Mode,
    concurrency: int,
    rpm: float | None,
    tpm: float | None,
    timeout: float | None,
    max_wait: float | None,
) -> Completer:
    """Return the model that answers. Raises UsageError, and EndpointError for what cannot be an endpoint."""
    check_choice("mode", mode, Mode)
    check_whole("concurrency", concurrency, 1, 1000)
    pace = {"--rpm": rpm, "--tpm": tpm, "--timeout": timeout, "--max-wait": max_wait}
    for option, number in pace.items():
        _check_number(option, number, positive=True)
    if local is not None:
        if model is not None:
            raise UsageError("give either --local or --model: --local names the model itself")
        unused = {"--base-url": base_url, "api_key": api_key, "--header": headers or None, **pace}
        if useless := [option for option, value in unused.items() if value is not None]:
            raise UsageError(f"{useless[0]} is for endpoints: with --local nothing is sent")
        if mode not in LOCAL_MODES:
            raise UsageError(
                f"--mode {mode} is for endpoints; with --local, choose from {', '.join(LOCAL_MODES)}"
            )
        from fieldmarks.generation.local import LocalCompleter  # imports torch

        return LocalCompleter(local, mode=mode, batch_size=concurrency)
    url, name = endpoint_of(base_url, model, api_key)
    from fieldmarks.generation.endpoint import EndpointCompleter  # imports openai

    return EndpointCompleter(
        url,
        name,
        api_key or os.environ.get("OPENAI_API_KEY"),
        headers=headers,
        mode=mode,
        concurrency=concurrency,
        timeout=timeout or TIMEOUT,
        retry=RetryPolicy(max_wait=max_wait or MAX_WAIT),
        limiter=RateLimiter(rpm, tpm),
    )


def endpoint_of(base_url: str | None, model: str | None, api_key: str | None = None) -> tuple[str, str]:
    """Return URL and model of the endpoint that is named, here or in the environment. Raises UsageError."""
    base_url = base_url or os.environ.get("OPENAI_BASE_URL")
    if base_url is None and not (model and (api_key or os.environ.get("OPENAI_API_KEY"))):
        raise UsageError(NO_MODEL)
    if model is None:
        raise UsageError(
            "--base-url needs --model: name the model to ask there; fieldmarks doctor --base-url lists them"
        )
    return base_url or OPENAI, model


def check_whole(option: str, value: object, least: int, most: int = MANY) -> None:
    """Raise UsageError unless a value is an integer in a range."""
    if type(value) is not int or not least <= value <= most:
        raise UsageError(f"{option}: expected an integer from {least:,} to {most:,}, found {value!r}")


def _check_number(option: str, value: object, *, positive: bool = False, most: float = math.inf) -> None:
    """Raise UsageError unless a value is None or a finite number, at least 0 or `positive`."""
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not 0 <= value <= most or (positive and value == 0):  # type: ignore[operator]
        limits = "above 0" if positive else "from 0 on" if most == math.inf else f"from 0 to {most:g}"
        raise UsageError(f"{option}: expected a number {limits}, found {value!r}")
