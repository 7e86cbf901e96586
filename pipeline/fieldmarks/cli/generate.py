"""`fieldmarks generate`: ask a model about classes and fill a store; and the options that name a model."""

import math
import sys
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from fieldmarks.choices import Mode, words
from fieldmarks.cli.configuration import prevailing
from fieldmarks.cli.console import conclude, emit, say
from fieldmarks.errors import ClassNameError, FieldmarksError
from fieldmarks.text import counted, cut_list, printable

if TYPE_CHECKING:
    from fieldmarks.generation.run import Progress, Summary

FIRST_NAMES = 3  # shown by a dry run
MOST_LISTED = 20  # class names in a closing note
INCOMPLETE = 3  # exit code: done, except for classes that are named


class Number(click.FloatRange):
    """A number within a range; refuses "nan", which a comparison would not."""

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
        if problem:  # without a name, all of it may be a secret
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


AT_LEAST_ONE = click.IntRange(1, 1_000_000)
POSITIVE = Number(min=0, min_open=True)


@click.command(short_help="Have a language model describe classes, and fill a store.")
@click.argument("classes", required=False, metavar="[CLASSES|-]")
@click.option("--class", "named", multiple=True, metavar="NAME", help="Class name; repeatable.")
@click.option(
    "--column", metavar="NAME", help="Column of CLASSES that holds the names: its heading or number."
)
@click.option("--store", required=True, metavar="FILE", help="Output store; created if missing.")
@model_options
@click.option(
    "--prompt",
    metavar="NAME|FILE",
    default="article",
    show_default=True,
    help="Built-in prompt, or a prompt file.",
)
@click.option(
    "--concept", metavar="TEXT", help="Value of {concept} in the prompt: what the classes are, such as bird."
)
@click.option(
    "--other", metavar="NAME", help="Value of {other} in the prompt: the class to distinguish them from."
)
@click.option(
    "--temperature",
    metavar="F",
    type=Number(0, 2),
    help="Sampling temperature; 0 is greedy  [default: 0; 0.7 with samples].",
)
@click.option(
    "--max-tokens",
    metavar="N",
    type=AT_LEAST_ONE,
    default=200,
    show_default=True,
    help="Maximum tokens per answer.",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(0, 2**53),
    help="Seed for sampling, where the model supports one.",
)
@click.option(
    "--samples", metavar="N", type=AT_LEAST_ONE, default=1, show_default=True, help="Answers per class."
)
@click.option(
    "--keep",
    metavar="N",
    type=AT_LEAST_ONE,
    default=1,
    help="Keep descriptors found in at least N samples  [default: 1].",
)
@click.option(
    "--retries",
    metavar="N",
    type=click.IntRange(0),
    default=2,
    help="Retries when an answer is empty  [default: 2].",
)
@click.option(
    "--mode",
    type=click.Choice(words(Mode)),
    default="auto",
    help="How the reply is prefilled  [default: auto].",
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Concurrent requests; with --local, the batch size  [default: 16; with --local on a GPU, what its "
    "memory holds].",
)
@click.option("--rpm", metavar="N", type=POSITIVE, help="Maximum requests per minute.")
@click.option("--tpm", metavar="N", type=POSITIVE, help="Maximum tokens per minute (prompt + completion).")
@click.option("--timeout", metavar="SECONDS", type=POSITIVE, help="Timeout per answer  [default: 120].")
@click.option(
    "--max-wait",
    metavar="SECONDS",
    type=POSITIVE,
    help="Give up on a request after this many seconds, including retries and waits  [default: 600].",
)
@click.option("--price-in", metavar="USD", type=Number(0), help="Price in USD per million prompt tokens.")
@click.option(
    "--price-out", metavar="USD", type=Number(0), help="Price in USD per million completion tokens."
)
@click.option(
    "--max-cost",
    metavar="USD",
    type=POSITIVE,
    help="Stop before spending more than this (USD); needs --price-in/--price-out.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show the first classes, one prompt and the estimated cost; send nothing.",
)
@click.option("--refresh", is_flag=True, help="Regenerate classes that already have an answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.pass_context
def generate(
    context: click.Context,
    /,
    classes: str | None,
    named: tuple[str, ...],
    column: str | None,
    store: str,
    as_json: bool,
    **options: Any,  # those of fieldmarks.generate, by its names
) -> None:
    """Ask a language model to describe classes and write the descriptors to a store.

    CLASSES is a list with one name per line, a table (CSV, TSV, or a spreadsheet's export), JSON or YAML; -
    reads it from stdin. The command reports how it read the list, and refuses an ambiguous one before any
    request is sent. Classes that already have an answer in the store are skipped, so running the command
    again continues an interrupted run. Each answer is saved as it arrives; those of unfinished classes are
    kept in FILE.run. Ctrl-C and SIGTERM wait for open requests, for 1.5 times as long as the slowest
    answer so far took; a second signal stops at once. Several processes can fill one store at the same time
    without asking for a class twice.

    Exit codes: 0 all done; 3 done, except for the classes listed; 1 failed; 2 wrong usage; 130 or 143
    interrupted.

    \b
    Examples:
      fieldmarks generate birds.txt --store birds.jsonl --base-url http://localhost:8000/v1 --model qwen3
      fieldmarks generate birds.csv --column "English name" --store birds.jsonl --model qwen3 --dry-run
      fieldmarks generate --class "tree frog" --store frogs.jsonl --local HuggingFaceTB/SmolLM2-360M
    """
    from fieldmarks.cli.console import line, shown
    from fieldmarks.generation import generate as generation
    from fieldmarks.store import Store

    options |= prevailing(context, "local", "model")
    names = class_names(classes, named, column)
    opened = Store(store, create=True)
    warn_of_case(names)
    options["headers"] = headers_of(options["headers"])
    written = 0

    def update(progress: "Progress") -> None:
        nonlocal written
        written = progress.written
        show(progress)

    try:
        with shown(sys.stderr, line) as show:
            summary = generation.generate(names, opened, **options, progress=update)
    except FieldmarksError:
        if written:
            say(f"Wrote {counted(written, 'class')} to {store} before this error")
        raise
    if options["dry_run"]:
        _print_example(names, options, sys.stderr if as_json else sys.stdout)
        _print_forecast(summary, as_json, is_local=options["local"] is not None)
        conclude("Dry run: nothing was sent or written")
    else:
        _report(summary, store, as_json)


def class_names(classes: str | None, named: tuple[str, ...], column: str | None = None) -> list[str]:
    """Return the names in a list (a path, - for stdin) and those of --class; report how the list was read.

    Raises ClassNameError.
    """
    from fieldmarks.class_lists import class_list
    from fieldmarks.records import MAX_LIST, class_name
    from fieldmarks.tables import errors_as, parse_table, read_table

    if classes is None and not named:
        raise click.UsageError("no classes given: pass a class list, -, or --class NAME")
    if classes is None and column is not None:
        raise click.UsageError("--column needs a list of classes")
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


def warn_of_case(names: Sequence[str]) -> None:
    """Warn of classes that differ only in case, as one of them is usually a typo."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        spellings.setdefault(name.casefold(), []).append(name)
    same = [" and ".join(map(repr, some)) for some in spellings.values() if len(some) > 1]
    if same:
        say(f"Warning: classes that differ only in case: {cut_list(same, 5)}")


def _stdin() -> bytes:
    """Return the class list on stdin; it is empty if stdin is closed. Raises ClassNameError."""
    from fieldmarks.records import MAX_LIST

    try:
        data = sys.stdin.buffer.read(MAX_LIST + 1) if sys.stdin else b""
    except OSError as error:
        raise ClassNameError(f"stdin cannot be read: {error.strerror}") from error
    if len(data) > MAX_LIST:
        raise ClassNameError(f"stdin has over {MAX_LIST:,} bytes: expected a class list")
    return data


def _print_example(names: Sequence[str], options: dict[str, Any], file: IO[str]) -> None:
    """Print the first names and the prompt of the first, indented."""
    from fieldmarks.generation.prompt import Prompt

    prompt = Prompt.load(options["prompt"])
    text = prompt.render(names[0], concept=options["concept"], other=options["other"])
    more = f", … {len(names) - FIRST_NAMES:,} more" if len(names) > FIRST_NAMES else ""
    click.echo(f"Classes: {', '.join(map(printable, names[:FIRST_NAMES]))}{more}", file)
    click.echo(f"Prompt for {printable(names[0])}:", file)
    for line in text.split("\n"):
        click.echo(f"    {printable(line)}".rstrip(), file)


def _print_forecast(summary: "Summary", as_json: bool, *, is_local: bool) -> None:
    read, written = summary.usage.prompt_tokens, summary.usage.completion_tokens
    cached = summary.cached + summary.kept
    if as_json:
        emit(
            {
                "classes": len(summary.left) + cached,
                "cached": cached,
                "requests": summary.requests,
                "prompt_tokens": read,
                "completion_tokens": written,
                "cost": summary.cost,
            }
        )
        return
    cost = "cost unknown; pass --price-in and --price-out to see it"
    if is_local:
        cost = "free, as the model runs on this machine"
    elif summary.cost is not None:
        cost = f"at most {summary.cost:.4f} USD without retries"
    classes, requests = counted(len(summary.left), "class"), counted(summary.requests, "request")
    click.echo(f"{classes}, {requests}; {cached:,} already in the store")
    click.echo(f"about {read:,} prompt tokens, at most {written:,} completion tokens: {cost}")


def _report(summary: "Summary", store: str, as_json: bool) -> None:
    """Report what a run did, and exit with its code."""
    from fieldmarks.generation.parse import MAX_DESCRIPTORS

    if as_json:
        emit(summary.to_dict() | {"store": store})
    for name, reason in summary.failed.items():
        say(f"Failed: {printable(name)}: {printable(reason)}")
    if summary.cut:
        why = "by --max-tokens or by a content filter; the last descriptor is dropped"
        say(f"Answers cut off {why}: {_listed(summary.cut)}")
    if summary.too_long:
        most = f"more than {MAX_DESCRIPTORS} descriptors; the first {MAX_DESCRIPTORS} are taken"
        say(f"Answers with {most}: {_listed(summary.too_long)}")
    if summary.lost:
        what = f"{counted(len(summary.lost), 'class')} written earlier and no longer in {store}"
        say(f"Lost: {what}, which was removed or edited since: {_listed(summary.lost)}")
    if summary.pending:
        answers = counted(summary.pending, "answer")
        say(f"{store}.run keeps {answers} of unfinished classes; run the same command again to continue")
    if summary.left and summary.signal is None:
        stopped = f"Stopped at {summary.cost or 0:.4f} USD, because more could exceed --max-cost"
        say(f"{stopped}; {counted(len(summary.left), 'class')} left: {_listed(summary.left)}")
    if summary.signal is not None:
        left = counted(len(summary.left), "class")
        say(f"Interrupted with {left} left; run the same command again to continue")
    conclude(_closing_line(summary, store))
    if summary.signal is not None:
        _leave(128 + summary.signal)
    if summary.left or summary.failed or summary.lost:
        _leave(INCOMPLETE)


def _closing_line(summary: "Summary", store: str) -> str:
    others = f", {summary.others:,} by other processes" if summary.others else ""
    there, failed = summary.cached + summary.kept, len(summary.failed)
    return (
        f"Wrote {counted(summary.done, 'class')} to {store}"
        f" ({there:,} already there{others}, {failed:,} failed)"
    )


def _listed(names: Sequence[str]) -> str:
    more = f", … {len(names) - MOST_LISTED:,} more" if len(names) > MOST_LISTED else ""
    return ", ".join(map(printable, names[:MOST_LISTED])) + more


def _leave(code: int) -> NoReturn:
    raise click.exceptions.Exit(code)
