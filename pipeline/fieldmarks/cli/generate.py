"""`fieldmarks generate`: class names in, descriptors into a store."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fieldmarks.cli.classes import class_names
from fieldmarks.cli.console import emit, open_store, say
from fieldmarks.cli.models import Number, completer_of, model_options

if TYPE_CHECKING:
    from fieldmarks.generation.budget import Prices
    from fieldmarks.generation.completer import Completer
    from fieldmarks.generation.generate import Forecast
    from fieldmarks.generation.plan import Ask
    from fieldmarks.generation.run import Summary
    from fieldmarks.store import Store

MODES = ("auto", "completions", "continue", "prefix", "trailing", "instruct")
MOST_LISTED = 20  # names of classes that a closing note lists
WARM = 0.7  # temperature where several answers are to differ
INTERRUPTED = 130

Command = Callable[..., Any]


def drawing_options(command: Command) -> Command:
    """Add the options that say what is asked and how answers are drawn."""
    at_least_one = click.IntRange(1, 1_000_000)
    for option in reversed(
        (
            click.option(
                "--prompt", metavar="NAME|FILE", default="article", show_default=True, help="The prompt."
            ),
            click.option(
                "--concept", metavar="TEXT", help="What the classes are, for a prompt with {concept}: bird."
            ),
            click.option(
                "--other", metavar="NAME", help="The class to tell them from, for a prompt with {other}."
            ),
            click.option(
                "--temperature",
                metavar="F",
                type=Number(0, 2),
                help="0 is greedy  [default: 0; 0.7 with samples].",
            ),
            click.option(
                "--max-tokens",
                metavar="N",
                type=at_least_one,
                default=200,
                show_default=True,
                help="Longest answer.",
            ),
            click.option(
                "--seed",
                metavar="N",
                type=click.IntRange(0, 2**53),
                help="Makes sampled answers repeatable where the model allows it.",
            ),
            click.option(
                "--samples",
                metavar="N",
                type=at_least_one,
                default=1,
                show_default=True,
                help="Answers for each class.",
            ),
            click.option(
                "--keep",
                metavar="N",
                type=at_least_one,
                default=1,
                help="Keep what so many samples have  [default: 1].",
            ),
            click.option(
                "--retries",
                metavar="N",
                type=click.IntRange(0),
                default=2,
                help="New tries for an empty answer  [default: 2].",
            ),
        )
    ):
        command = option(command)
    return command


def sending_options(command: Command) -> Command:
    """Add the options that say how fast, how patiently and for how much money is asked."""
    positive = Number(min=0, min_open=True)
    for option in reversed(
        (
            click.option(
                "--mode",
                type=click.Choice(MODES),
                default="auto",
                help="How the list is forced  [default: auto].",
            ),
            click.option(
                "--concurrency",
                metavar="N",
                type=click.IntRange(1, 1000),
                default=16,
                show_default=True,
                help="Requests under way at once; with --local the batch.",
            ),
            click.option("--rpm", metavar="N", type=positive, help="Most requests a minute."),
            click.option("--tpm", metavar="N", type=positive, help="Most tokens a minute, read and written."),
            click.option(
                "--timeout",
                metavar="SECONDS",
                type=positive,
                default=120.0,
                show_default=True,
                help="Seconds for one answer.",
            ),
            click.option(
                "--max-wait",
                metavar="SECONDS",
                type=positive,
                default=600.0,
                show_default=True,
                help="Most seconds a server may make us wait.",
            ),
            click.option(
                "--price-in",
                metavar="USD",
                type=Number(0),
                default=0.0,
                help="USD per million tokens read.",
            ),
            click.option(
                "--price-out",
                metavar="USD",
                type=Number(0),
                default=0.0,
                help="USD per million tokens written.",
            ),
            click.option(
                "--max-cost",
                metavar="USD",
                type=positive,
                help="Stop before so many USD are passed; needs a price.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("classes", required=False, metavar="[CLASSES.txt|-]")
@click.option("--class", "named", multiple=True, metavar="NAME", help="A class; may be repeated.")
@click.option("--store", required=True, metavar="FILE", help="The store to fill; made if it is missing.")
@model_options
@drawing_options
@sending_options
@click.option(
    "--dry-run", is_flag=True, help="Say what would be sent and what it would cost, and send nothing."
)
@click.option("--refresh", is_flag=True, help="Ask all classes, those with an answer too.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def generate(classes: str | None, named: tuple[str, ...], store: str, **given: Any) -> None:
    """Ask a language model for the descriptors of classes and put them into a store.

    CLASSES.txt holds one class name a line; - reads them from stdin. Classes that the store already has an
    answer for are not asked again, so an interrupted run is continued by running it again. Ctrl-C and SIGTERM
    keep what is answered, wait up to 5 s for what is under way, and end with exit code 130.

    \b
    Examples:
      fieldmarks generate birds.txt --store birds.jsonl --base-url http://localhost:8000/v1 --model qwen3
      fieldmarks generate --class "tree frog" --store frogs.jsonl --local HuggingFaceTB/SmolLM2-360M
    """
    from fieldmarks.generation.generate import forecast

    names = class_names(classes, named)
    _check(given)
    keys = ("base_url", "model", "local", "mode", "concurrency", "timeout", "max_wait", "rpm", "tpm")
    completer = completer_of(**{key: given[key] for key in keys}, tell=say)
    ask = _question(completer.model, given)
    filled = open_store(store, create=True)
    if given["dry_run"]:
        _foretell(
            forecast(names, filled, ask, refresh=given["refresh"], prices=_prices(given)), given["as_json"]
        )
    else:
        _report(_run(names, filled, completer, ask, given), store, given["as_json"])


def _run(
    names: list[str], store: "Store", completer: "Completer", ask: "Ask", given: dict[str, Any]
) -> "Summary":
    from fieldmarks.cli.progress import line, shown
    from fieldmarks.generation.generate import generate

    with shown(sys.stderr, line) as progress:
        return generate(
            names,
            store,
            ask.prompt,
            completer,
            ask.params,
            values=ask.values,
            refresh=given["refresh"],
            retries=given["retries"],
            prices=_prices(given),
            max_cost=given["max_cost"] or float("inf"),
            progress=progress,
        )


def _question(model: str, given: dict[str, Any]) -> "Ask":
    from fieldmarks.generation.completer import Params
    from fieldmarks.generation.plan import Ask
    from fieldmarks.generation.templates import Prompt

    temperature = given["temperature"]
    if temperature is None:
        temperature = WARM if given["samples"] > 1 else 0.0
    params = Params(temperature, given["max_tokens"], given["seed"], given["samples"], given["keep"])
    values = {"concept": given["concept"], "other": given["other"]}
    return Ask(Prompt.load(given["prompt"]), model, params, values)


def _prices(given: dict[str, Any]) -> "Prices":
    from fieldmarks.generation.budget import Prices

    return Prices(given["price_in"], given["price_out"])


def _check(given: dict[str, Any]) -> None:
    if given["samples"] > 1 and given["temperature"] == 0:
        raise click.UsageError("--samples needs a --temperature above 0: greedy answers are all the same")
    if given["keep"] > given["samples"]:
        raise click.UsageError(f"--keep {given['keep']} is more than --samples {given['samples']}")
    if given["max_cost"] is not None and not (given["price_in"] or given["price_out"]):
        raise click.UsageError("--max-cost needs --price-in and --price-out: what a million tokens cost")


def _foretell(told: "Forecast", as_json: bool) -> None:
    if as_json:
        emit(
            {
                "classes": told.classes + told.cached,
                "cached": told.cached,
                "requests": told.requests,
                "prompt_tokens": told.usage.prompt_tokens,
                "completion_tokens": told.usage.completion_tokens,
                "cost": told.cost,
            }
        )
        return
    click.echo(f"{told.classes} to ask in {told.requests} requests, {told.cached} answered already")
    read, written = told.usage.prompt_tokens, told.usage.completion_tokens
    click.echo(f"about {read} tokens to read, at most {written} to write: at most {told.cost:.4f} USD")


def _report(summary: "Summary", store: str, as_json: bool) -> None:
    """Tell what a run did, and leave with its exit code."""
    if as_json:
        emit(summary.to_dict() | {"store": store})
    for name, reason in summary.failed.items():
        say(f"Failed: {name}: {reason}")
    if summary.cut:
        names = ", ".join(summary.cut[:MOST_LISTED]) + (", …" if len(summary.cut) > MOST_LISTED else "")
        say(f"Cut off, last descriptor dropped (more room with --max-tokens): {names}")
    there = summary.cached + summary.kept
    say(f"{summary.done} done, {there} there already, {len(summary.failed)} failed: {store}")
    if summary.interrupted:
        say(f"Interrupted with {summary.left} classes to go: run the same command again to go on")
        _leave(INTERRUPTED)
    if summary.left:
        say(f"Stopped at {summary.cost:.4f} USD, before --max-cost is passed: {summary.left} classes to go")
    if summary.left or summary.failed:
        _leave(1)


def _leave(code: int) -> NoReturn:
    raise click.exceptions.Exit(code)
