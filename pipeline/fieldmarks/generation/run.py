"""A run: ask a model for every class that its store does not answer, and store each answer as it comes."""

import asyncio
import gc
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from fieldmarks.errors import GenerationError, StoreError
from fieldmarks.generation.ledger import LOOK_AGAIN, Ledger, Progress, Run, Summary
from fieldmarks.generation.plan import Ask, Plan, answers_so_far, make_plan
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.request import GREEDY, NOTHING, Budget, Completer, Params, Prices, Usage, estimate
from fieldmarks.generation.run_file import RunFile, question
from fieldmarks.store import Store
from fieldmarks.text import counted

GRACE: Final = 5.0  # seconds, the least for what is under way when a run is interrupted
PATIENCE: Final = 1.5  # times the slowest answer so far; the next may be a little slower
RETRIES: Final = 2  # how often an empty answer is asked again
LOOKS_UNTOLD: Final = 4  # at what other processes are asking, after which a run says that it waits
TICK: Final = 1.0  # seconds between signs of life while a run only waits


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would send: tokens as estimated, written ones and so the cost at their most."""

    classes: int
    cached: int
    requests: int
    usage: Usage
    cost: float | None  # USD; None where the prices are unknown


def generate(
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
    max_cost: float = float("inf"),
    progress: Callable[[Progress], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Fill a store with the descriptors of classes; what it already answers is not asked again.

    `values` fills the prompt's `{concept}` and `{other}`. An answer without descriptors is asked again up to
    `retries` times. `progress` is called after each group of answers is on disk, `tell` with news. Several
    processes may fill one store at a time: each asks what no other is asking, and waits for the others.

    Ctrl-C or SIGTERM stops sending, waits for what is under way as long as the slowest answer so far took (at
    least 5 s), and returns with `signal` set; a second one waits for the disk alone. Where an event loop
    already runs, as in a notebook, the run gets a thread of its own.
    Raises PromptError, ModelError, GenerationError and StoreError; what was answered before stays on disk.
    """
    if prices is None and max_cost != float("inf"):
        raise GenerationError("max_cost needs prices: pass prices=Prices(...), in USD per million tokens")
    ask = Ask(prompt, completer.model, params, values or {})
    plan = make_plan(names, store, ask, refresh=refresh)
    run = Run(ask, Budget(prices, max_cost), retries)
    lifetime = 2 * completer.timeout
    ledger = Ledger(run, plan, store, endpoint=completer.endpoint, lifetime=lifetime, refresh=refresh)
    stop = _Stop(run, completer, tell)
    pending = 0
    if ledger.is_needed():
        with _collecting_little(), stop.at_signals():
            report = _reporter(plan, run, ledger, completer, progress)
            pending = _to_its_end(_go(run, ledger, completer, stop, report, tell))
    return _summary(plan, run, ledger, pending, stop.signal)


def forecast(
    names: Sequence[str],
    store: Store,
    ask: Ask,
    *,
    refresh: bool = False,
    retries: int = RETRIES,
    prices: Prices | None = None,
) -> Forecast:
    """Return what a run would send and about what it would cost. Nothing is sent."""
    plan = make_plan(names, store, ask, refresh=refresh)
    run_file = RunFile(store.path, 0.0)
    run_file.refresh()
    requests = []
    for name in plan.ask:
        key = ask.key(name)
        pending = run_file.answers(question(name, key))
        requests += ask.requests(name, answers_so_far(store.history(name), key, pending), retries)
    usage = sum(map(estimate, requests), NOTHING)
    answered = len(plan.cached) + len(plan.restore) + len(plan.kept)
    cost = None if prices is None else prices.cost(usage)
    return Forecast(len(plan.ask), answered, len(requests), usage, cost)


async def _go(
    run: Run,
    ledger: Ledger,
    completer: Completer,
    stop: "_Stop",
    report: Callable[[], None],
    tell: Callable[[str], None],
) -> int:
    """Ask until nothing is left; return how many answers the run file keeps for a later run."""

    async def step(outcomes: Sequence[Any] = ()) -> None:
        with stop.waiting():
            await _undisturbed(asyncio.to_thread(ledger.step, outcomes, completer.window))
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
                    if looks == LOOKS_UNTOLD and (who := ledger.claimants()):
                        tell(f"Waiting for {counted(ledger.waiting, 'class')}, asked by {who}")
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
        done=len(ledger.done.keys() - gone),
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


@contextmanager
def _collecting_little() -> Iterator[None]:
    """Keep garbage collections from looking through all that is loaded, which stops a run for 0.1 s each."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _to_its_end(work: Coroutine[Any, Any, int]) -> int:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class _Stop:
    """Stops further requests at once, and what is under way after a time of grace or at a second signal."""

    def __init__(self, run: Run, completer: Completer, tell: Callable[[str], None]) -> None:
        self.signal: int | None = None
        self._run = run
        self._completer = completer
        self._tell = tell
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limit: asyncio.Timeout | None = None  # while there is something under way
        self._paused = False
        self._grace: float | None = None  # seconds from the end of `waiting`, when no time of grace passes

    @contextmanager
    def at_signals(self) -> Iterator[None]:
        """Stop at Ctrl-C or SIGTERM, which only the main thread hears."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._heard) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancel what runs within once the time is over."""
        limit = self._limit = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            self._limit = self._loop = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let no time of grace pass within, where answers that arrived wait for the disk."""
        limit, clock = self._limit, asyncio.get_running_loop().time
        assert limit is not None, "within `watched`"
        if (until := limit.when()) is not None and not limit.expired():
            self._grace = until - clock()
            limit.reschedule(None)
        self._paused = True
        try:
            yield
        finally:
            self._paused = False
            if self._grace is not None and not limit.expired():
                limit.reschedule(clock() + self._grace)

    def now(self) -> None:
        """Send nothing more; called on the event loop's thread."""
        self._run.stopped = True
        self._completer.drain()

    def _heard(self, number: int, _: Any) -> None:
        again = self.signal is not None
        self.signal = self.signal or number
        if self._loop is None:
            self._run.stopped = True
        else:
            self._loop.call_soon_threadsafe(self._interrupt, again)

    def _interrupt(self, again: bool) -> None:
        if self._limit is None or self._limit.expired():
            return
        self.now()
        slowest = self._completer.slowest
        grace = 0.0 if again else max(GRACE, PATIENCE * slowest) if slowest else self._completer.timeout
        if grace and self._run.in_flight:
            self._tell(
                f"Stopping: waiting up to {grace:.0f} s for what is under way; interrupt again to stop now"
            )
        self._grace = grace
        if again or not self._paused:
            self._limit.reschedule(asyncio.get_running_loop().time() + grace)
