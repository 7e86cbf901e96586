"""`fieldmarks.generate`, which checks its arguments and starts the run that they describe.

An option that would have no effect is refused. Messages name options as the command line spells them.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from fieldmarks.choices import Mode, check_choice
from fieldmarks.errors import UsageError
from fieldmarks.generation.ledger import Budget
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Completer, Questions
from fieldmarks.generation.retrying import RateLimiter, RetryPolicy
from fieldmarks.generation.run import RETRIES, Progress, Summary, fill, forecast
from fieldmarks.records import class_name
from fieldmarks.store import Store

OPENAI: Final = "https://api.openai.com/v1"
CONCURRENCY: Final = 16
TIMEOUT: Final = 120.0  # seconds for one answer
MAX_WAIT: Final = 600.0  # seconds of attempts and waits for one request
WARM: Final = 0.7  # temperature for several samples, which should differ
LOCAL_MODES: Final = ("auto", "completions", "continue")
MANY: Final = 1_000_000
NO_MODEL: Final = (
    "no language model given: pass --local FOLDER_OR_ID, or --base-url URL (or OPENAI_BASE_URL) with "
    "--model ID, or set OPENAI_API_KEY and pass --model ID"
)
NO_KEY: Final = (
    "no API key for {model}: OPENAI_API_KEY is not set; set it, or pass --base-url URL (or OPENAI_BASE_URL) "
    "of another endpoint, or --local FOLDER_OR_ID"
)


def generate(
    classes: Iterable[str],
    store: Store,
    *,
    model: str | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    local: str | Path | None = None,
    prompt: str | Path | Prompt = "article",
    concept: str | None = None,
    other: str | None = None,
    mode: Mode = "auto",
    samples: int = 1,
    keep: int = 1,
    temperature: float | None = None,
    max_tokens: int = 200,
    seed: int | None = None,
    retries: int = RETRIES,
    refresh: bool = False,
    concurrency: int | None = None,
    rpm: float | None = None,
    tpm: float | None = None,
    timeout: float | None = None,
    max_wait: float | None = None,
    price_in: float | None = None,
    price_out: float | None = None,
    max_cost: float | None = None,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Ask a language model for the descriptors of classes and put them into a store.

    After `fieldmarks demo --out creatures`:

    >>> import fieldmarks as fm
    >>> store = fm.Store("mine.jsonl", create=True)
    >>> fm.generate(["zorblat", "vontle"], store, local="creatures/models/lm")
    Summary(2 done, 0 already there, 0 failed, 2 requests)

    Classes that the store already answers are not asked again, so rerun an interrupted run to continue it.
    Each answer is saved as it arrives. Several processes may fill one store at a time; none asks what another
    is asking. Works inside a running event loop, too, as in a notebook.

    model, base_url   the model and its OpenAI-compatible endpoint, by default OPENAI_BASE_URL or OpenAI's
    api_key           by default OPENAI_API_KEY
    headers           extra headers for each request
    local             a causal LM to run in this process instead: a folder or a Hugging Face id
    prompt            the name of a shipped prompt, a file, or a Prompt
    concept, other    values for the prompt's {concept} and {other}
    mode              how the reply is prefilled
    samples, keep     answers per class, and how many of them must contain a descriptor
    temperature       0 is greedy; by default 0, or 0.7 with several samples
    max_tokens        maximum tokens per answer
    seed              makes sampled answers repeatable if the model allows it
    retries           how often to ask again after an empty answer
    refresh           also ask for classes that have an answer
    concurrency       requests at once (16); with `local`, the batch size (16; on a GPU, what fits)
    rpm, tpm          maximum requests and tokens per minute
    timeout           seconds for one answer (120)
    max_wait          seconds of attempts and waits after which to give up a request (600)
    price_in, price_out   USD per million prompt and completion tokens
    max_cost          spend no more than this (USD)
    dry_run           send nothing; return what a run would ask and its estimated cost
    progress          called after each group of answers is saved, and every second while waiting

    Ctrl-C or SIGTERM stops sending, waits for open requests (1.5 times as long as the slowest answer so far,
    at least 5 s; `timeout` before the first), and returns with `signal` set; a second one waits only for the
    disk. Raises UsageError for arguments that cannot be used or have no effect; ClassNameError, PromptError,
    ModelError, GenerationError and StoreError otherwise. Answers that arrived before an error stay on disk.
    """
    if not isinstance(store, Store):
        raise UsageError(
            f"store: expected a Store, found {type(store).__name__}: pass fieldmarks.Store(PATH, create=True)"
        )
    names = _names(classes)
    temperature = _temperature(temperature, samples, keep)
    _check_whole("max_tokens", max_tokens, 1)
    if seed is not None:
        _check_whole("seed", seed, 0, 2**53)
    _check_whole("retries", retries, 0)
    budget = _budget(price_in, price_out, max_cost, local)
    completer = _completer(
        model=model,
        base_url=base_url,
        api_key=api_key,
        headers=headers,
        local=local,
        mode=mode,
        concurrency=concurrency,
        rpm=rpm,
        tpm=tpm,
        timeout=timeout,
        max_wait=max_wait,
        needs_key=not dry_run,
    )
    values = {"concept": concept, "other": other}
    template = _prompt(prompt, values)
    questions = Questions(template, completer.model, temperature, max_tokens, seed, samples, keep, values)
    if dry_run:
        return forecast(names, store, questions, refresh=refresh, retries=retries, budget=budget)
    return fill(
        names,
        store,
        questions,
        completer,
        refresh=refresh,
        retries=retries,
        budget=budget,
        progress=progress,
    )


def _names(classes: Iterable[str]) -> list[str]:
    """Return the class names without duplicates. Raises UsageError, ClassNameError."""
    if isinstance(classes, str | bytes):
        raise UsageError(f"classes: expected a list of class names, found {classes!r:.60}: pass [NAME]")
    names = list(classes)
    if odd := [name for name in names if not isinstance(name, str)][:1]:
        raise UsageError(f"classes: expected class names (strings), found {odd[0]!r:.60}")
    return list(dict.fromkeys(map(class_name, names)))


def _temperature(temperature: float | None, samples: int, keep: int) -> float:
    """Return the sampling temperature; by default 0, or `WARM` for several samples. Raises UsageError."""
    _check_number("temperature", temperature, most=2.0)
    _check_whole("samples", samples, 1)
    _check_whole("keep", keep, 1)
    if samples > 1 and temperature == 0:
        raise UsageError("--samples needs a --temperature above 0: greedy answers are all the same")
    if keep > samples:
        raise UsageError(f"--keep {keep} is more than --samples {samples}")
    if temperature is None:
        return WARM if samples > 1 else 0.0
    return temperature


def _budget(
    price_in: float | None, price_out: float | None, max_cost: float | None, local: str | Path | None
) -> Budget:
    """Return the budget for the given prices; a local model costs nothing. Raises UsageError."""
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
        return Budget(0.0, 0.0)
    return Budget(price_in, price_out, math.inf if max_cost is None else max_cost)


def _prompt(prompt: str | Path | Prompt, values: Mapping[str, str | None]) -> Prompt:
    """Return the named or given prompt; it must have the placeholders that `values` fills."""
    template = prompt if isinstance(prompt, Prompt) else Prompt.load(prompt)
    for key, value in values.items():
        if value and f"{{{key}}}" not in template.text:
            raise UsageError(f"--{key} has no effect: the prompt {template.name!r} has no {{{key}}}")
    return template


def _completer(
    *,
    model: str | None,
    base_url: str | None,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    local: str | Path | None,
    mode: Mode,
    concurrency: int | None,
    rpm: float | None,
    tpm: float | None,
    timeout: float | None,
    max_wait: float | None,
    needs_key: bool,
) -> Completer:
    """Return the completer for these arguments. Raises UsageError, and EndpointError for a bad endpoint."""
    check_choice("mode", mode, Mode)
    if concurrency is not None:
        _check_whole("concurrency", concurrency, 1, 1000)
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
    key = api_key or os.environ.get("OPENAI_API_KEY")
    url, name = endpoint_of(base_url, model, has_key=bool(key) or not needs_key)
    from fieldmarks.generation.endpoint import EndpointCompleter  # imports openai

    return EndpointCompleter(
        url,
        name,
        key,
        headers=headers,
        mode=mode,
        concurrency=concurrency or CONCURRENCY,
        timeout=timeout or TIMEOUT,
        retry=RetryPolicy(max_wait=max_wait or MAX_WAIT),
        limiter=RateLimiter(rpm, tpm),
    )


def endpoint_of(base_url: str | None, model: str | None, *, has_key: bool) -> tuple[str, str]:
    """Return the endpoint's URL and model, as given here or in the environment. Raises UsageError."""
    base_url = base_url or os.environ.get("OPENAI_BASE_URL")
    if base_url is None and model is None:
        raise UsageError(NO_MODEL)
    if base_url is None and not has_key:
        raise UsageError(NO_KEY.format(model=model))
    if model is None:
        raise UsageError(
            "--base-url needs --model: name the model to ask there; fieldmarks doctor --base-url lists them"
        )
    return base_url or OPENAI, model


def _check_whole(option: str, value: object, least: int, most: int = MANY) -> None:
    """Raise UsageError unless a value is an integer in a range."""
    if type(value) is not int or not least <= value <= most:
        raise UsageError(f"{option}: expected an integer from {least:,} to {most:,}, found {value!r}")


def _check_number(option: str, value: object, *, positive: bool = False, most: float = math.inf) -> None:
    """Raise UsageError unless a value is None or a number from 0 to `most`; above 0 if `positive`."""
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not 0 <= value <= most or (positive and value == 0):  # type: ignore[operator]
        limits = "above 0" if positive else "from 0 on" if most == math.inf else f"from 0 to {most:g}"
        raise UsageError(f"{option}: expected a number {limits}, found {value!r}")
