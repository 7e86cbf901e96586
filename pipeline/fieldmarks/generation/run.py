"""A run: ask a model for every class that its store does not answer, and store each answer as it comes."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from fieldmarks.choices import Mode
from fieldmarks.errors import GenerationError, StoreError, UsageError
from fieldmarks.generation import options
from fieldmarks.generation.ledger import LOOK_AGAIN, Ledger, Plan, Run, make_plan, samples_so_far
from fieldmarks.generation.limits import Budget, Prices
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import GREEDY, NOTHING, Completer, Params, Questions, Usage
from fieldmarks.generation.run_file import RunFile
from fieldmarks.generation.stopping import Stop
from fieldmarks.records import class_name
from fieldmarks.store import Store
from fieldmarks.text import counted

RETRIES: Final = 2  # how often an empty answer is asked again
SILENT_LOOKS: Final = 4  # at what other processes are asking, after which a run says that it waits
TICK: Final = 1.0  # seconds between signs of life while a run only waits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; `total` counts the classes to ask, `done` those answered, by whatever process."""

    total: int
    done: int
    failed: int
    written: int  # classes that this run put into the store
    waiting: int  # classes that other processes are asking now
    retrying: int  # requests that wait to be sent again
    requests: int
    usage: Usage
    cost: float | None  # USD; None where the prices are unknown
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """What a run did; of a dry run, what it would do, with tokens and cost at their most.

    `failed` holds the reason for each class without descriptors.
    """

    done: int  # classes that this run wrote and that are in the store at its end
    cached: int
    kept: int  # classes whose current line is a person's
    others: int  # classes that other processes wrote meanwhile
    failed: Mapping[str, str]
    lost: tuple[str, ...]  # classes that were written, and are not in the store any more
    cut: tuple[str, ...]  # classes whose answer ended for its length: its last descriptor is dropped
    too_long: tuple[str, ...]  # classes with more descriptors in an answer than are taken of one
    left: tuple[str, ...]  # not asked: interrupted, a dry run, or the money could run out
    pending: int  # answers that the run file keeps, of classes that are not complete
    requests: int
    usage: Usage
    cost: float | None  # USD; None where the prices are unknown
    seconds: float
    signal: int | None = None  # which interrupted the run

    def __repr__(self) -> str:
        parts = [
            f"{self.done:,} done",
            f"{self.cached + self.kept:,} already there",
            f"{len(self.failed):,} failed",
        ]
        parts += [f"{len(self.left):,} left"] if self.left else []
        cost = [f"{self.cost:.4f} USD"] if self.cost else []
        return f"Summary({', '.join([*parts, counted(self.requests, 'request'), *cost])})"

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as one JSON object."""
        numbers = {
            key: getattr(self, key)
            for key in ("done", "cached", "kept", "others", "pending", "requests", "cost", "seconds")
        }
        names = {key: list(getattr(self, key)) for key in ("lost", "cut", "too_long", "left")}
        return {
            **numbers,
            **self.usage.to_dict(),
            "failed": dict(self.failed),
            **names,
            "interrupted": self.signal is not None,
            **({} if self.signal is None else {"signal": self.signal}),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Summary":
        """Read what `to_dict` returns."""
        known = {field.name: value[field.name] for field in fields(cls) if field.name in value}
        names = {key: tuple(value[key]) for key in ("lost", "cut", "too_long", "left")}
        usage = Usage(value["prompt_tokens"], value["completion_tokens"])
        return cls(**{**known, **names, "usage": usage})


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
    concurrency: int = 16,
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

    What the store already answers is not asked again, so an interrupted run is continued by repeating it.
    Each answer is on disk as it arrives. Several processes may fill one store at a time; none asks what
    another is asking. It also works where an event loop runs, as in a notebook.

    model, base_url   the model and its OpenAI-compatible endpoint, by default OPENAI_BASE_URL or OpenAI's
    api_key           by default OPENAI_API_KEY
    headers           further headers of each request
    local             a causal LM to run in this process instead: a folder or a Hugging Face id
    prompt            the name of a prompt that ships, a file, or a Prompt
    concept, other    what fills the prompt's {concept} and {other}
    mode              how the reply is prefilled
    samples, keep     answers a class, and in how many of them a descriptor must be
    temperature       0 is greedy; by default 0, and 0.7 with several samples
    max_tokens        the longest answer
    seed              makes sampled answers repeatable where the model allows it
    retries           how often an empty answer is asked again
    refresh           ask for classes that have an answer, too
    concurrency       requests at once; with `local`, the batch
    rpm, tpm          the most requests and tokens a minute
    timeout           seconds for one answer (120)
    max_wait          seconds of tries and waits after which a request is given up (600)
    price_in, price_out   USD per million tokens read and written
    max_cost          USD, of which no more is spent
    dry_run           send nothing, and return what a run would ask and cost at most
    progress          called after each group of answers is on disk

    Ctrl-C or SIGTERM stops sending, waits for what is under way as long as the slowest answer so far took (at
    least 5 s), and returns with `signal` set; a second one waits for the disk alone.
    Raises UsageError for arguments that cannot be used or have no effect; ClassNameError, PromptError,
    ModelError, GenerationError and StoreError otherwise. What was answered before stays on disk.
    """
    if not isinstance(store, Store):
        raise UsageError(
            f"store: expected a Store, found {type(store).__name__}: pass fieldmarks.Store(PATH, create=True)"
        )
    names = _names(classes)
    params = options.params_of(temperature, max_tokens, seed, samples, keep)
    options.check_whole("retries", retries, 0)
    prices = options.prices_of(price_in, price_out, max_cost, local)
    completer = options.completer_of(
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
    )
    values = {"concept": concept, "other": other}
    template = options.prompt_of(prompt, values)
    if dry_run:
        questions = Questions(template, completer.model, params, values)
        return forecast(names, store, questions, refresh=refresh, retries=retries, prices=prices)
    return fill(
        names,
        store,
        template,
        completer,
        params,
        values=values,
        refresh=refresh,
        retries=retries,
        prices=prices,
        max_cost=math.inf if max_cost is None else max_cost,
        progress=progress,
    )


def _names(classes: Iterable[str]) -> list[str]:
    """Return the names of classes, each once. Raises UsageError, ClassNameError."""
    if isinstance(classes, str | bytes):
        raise UsageError(f"classes: expected a list of class names, found {classes!r:.60}: pass [NAME]")
    names = list(classes)
    if odd := [name for name in names if not isinstance(name, str)][:1]:
        raise UsageError(f"classes: expected class names (strings), found {odd[0]!r:.60}")
    return list(dict.fromkeys(map(class_name, names)))


def fill(
    names: Sequence[str],
    store: Store,
    prompt: Prompt,
    completer: Completer,
    params: Params = GREEDY,
    *,
    values: Mapping[str, str | None] | None = None,
    refresh: bool = False,
    retries: int = RETRIES,
    prices: Prices | None = None,
    max_cost: float = math.inf,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Fill a store with the answers of any completer; see `generate`."""
    if prices is None and max_cost != math.inf:
        raise GenerationError("max_cost needs prices: pass prices=Prices(...), in USD per million tokens")
    questions = Questions(prompt, completer.model, params, values or {})
    plan = make_plan(names, store, questions, refresh=refresh)
    run = Run(questions, Budget(prices, max_cost), retries)
    lifetime = 2 * completer.timeout
    ledger = Ledger(run, plan, store, endpoint=completer.endpoint, lifetime=lifetime, refresh=refresh)
    stop = Stop(run, completer)
    pending = 0
    if ledger.is_needed():
        with stop.at_signals():
            report = _reporter(plan, run, ledger, completer, progress)
            pending = _to_its_end(_go(run, ledger, completer, stop, report))
    return _summary(plan, run, ledger, pending, stop.signal)


def forecast(
    names: Sequence[str],
    store: Store,
    questions: Questions,
    *,
    refresh: bool = False,
    retries: int = RETRIES,
    prices: Prices | None = None,
) -> Summary:
    """Return what a run would send and about what it would cost, at most. Nothing is sent."""
    plan = make_plan(names, store, questions, refresh=refresh)
    run_file = RunFile(store.path, 0.0)
    run_file.refresh()
    requests, usage = 0, NOTHING
    for name in plan.ask:
        question = questions.of(name)
        samples = samples_so_far(question, store.history(name), run_file.samples(question.key))
        left = question.unanswered(samples, retries)
        requests += len(left)
        usage = sum((drawn.estimate() for drawn in left), usage)
    return Summary(
        done=0,
        cached=len(plan.cached) + len(plan.restore),
        kept=len(plan.kept),
        others=0,
        failed={},
        lost=(),
        cut=(),
        too_long=(),
        left=plan.ask,
        pending=0,
        requests=requests,
        usage=usage,
        cost=None if prices is None else prices.cost(usage),
        seconds=0.0,
    )


async def _go(
    run: Run,
    ledger: Ledger,
    completer: Completer,
    stop: Stop,
    report: Callable[[], None],
) -> int:
    """Ask until nothing is left; return how many answers the run file keeps for a later run."""

    async def step(outcomes: Sequence[Any] = ()) -> None:
        with stop.waiting():
            run.take(outcomes)  # in this thread: beside one that computes, the requests would stand still
            await _undisturbed(asyncio.to_thread(ledger.step, completer.window))
        if ledger.refusal:
            stop.now()
        if outcomes:
            report()

    try:
        async with stop.watched(), _signs_of_life(ledger, completer, report):
            looks = 0
            await step()
            while not run.stopped:
                if run.can_send():
                    async with aclosing(completer.complete(run, run.budget.charge)) as groups:
                        async for outcomes in groups:
                            await step(outcomes)
                elif ledger.waiting:
                    looks += 1
                    if looks == SILENT_LOOKS and (who := ledger.claimants()):
                        logger.info("Waiting for %s, asked by %s", counted(ledger.waiting, "class"), who)
                    await asyncio.sleep(LOOK_AGAIN)
                elif not run.settled:
                    break
                await step()
    finally:
        pending = ledger.close(completer.leftovers())
    if ledger.refusal:
        where = (
            f"; {pending} answers are kept in {ledger.run_path}: run the same command again"
            if pending
            else ""
        )
        raise StoreError(f"{ledger.refusal}{where}") from ledger.refusal
    return pending


async def _undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Await work to its end, also where the awaiting task is cancelled meanwhile, as it then is after it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


@asynccontextmanager
async def _signs_of_life(
    ledger: Ledger, completer: Completer, report: Callable[[], None]
) -> AsyncIterator[None]:
    """Renew claims while the run goes on, and report while it only waits."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK)
            await asyncio.to_thread(ledger.renew)
            if completer.retrying or ledger.waiting:
                report()

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking


def _reporter(
    plan: Plan,
    run: Run,
    ledger: Ledger,
    completer: Completer,
    progress: Callable[[Progress], None] | None,
) -> Callable[[], None]:
    total = len(plan.ask) + len(plan.restore)

    def report() -> None:
        if progress is not None:
            progress(
                Progress(
                    total=total,
                    done=total - len(ledger.left) - len(run.failed),
                    failed=len(run.failed),
                    written=len(ledger.done),
                    waiting=ledger.waiting,
                    retrying=completer.retrying,
                    requests=run.sent,
                    usage=run.budget.usage,
                    cost=run.budget.spent,
                    seconds=time.monotonic() - run.started,
                )
            )

    return report


def _summary(plan: Plan, run: Run, ledger: Ledger, pending: int, interrupted: int | None) -> Summary:
    """Count what is in the store, not what was answered: another program may have changed it meanwhile."""
    lost = ledger.lost()
    gone = set(lost)
    return Summary(
        done=len(ledger.done - gone),
        cached=len(set(ledger.cached) - gone),
        kept=len(set(ledger.kept) - gone),
        others=len(set(ledger.others) - gone),
        failed=dict(run.failed),
        lost=lost,
        cut=run.cut,
        too_long=run.too_long,
        left=ledger.left,
        pending=pending,
        requests=run.sent,
        usage=run.budget.usage,
        cost=run.budget.spent,
        seconds=time.monotonic() - run.started,
        signal=interrupted,
    )


def _to_its_end(work: Coroutine[Any, Any, int]) -> int:
    """Run to the end, on a thread of its own where an event loop already runs, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
