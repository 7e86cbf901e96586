"""A run: ask a model about every class that the store has no answer for, and store each answer as it arrives.

Ctrl-C, SIGTERM or a full disk ends it early. Open requests are awaited, as they are paid for.
"""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, fields
from typing import Any, Final

from fieldmarks.errors import StoreError
from fieldmarks.generation.ledger import LOOK_AGAIN, Budget, Ledger, Run, class_status
from fieldmarks.generation.question import NOTHING, Completer, Questions, Usage, samples_so_far
from fieldmarks.generation.run_file import RunFile
from fieldmarks.store import Store
from fieldmarks.text import counted

RETRIES: Final = 2  # how often an empty answer is asked again
SILENT_LOOKS: Final = 4  # checks of what other processes are asking before a run says that it waits
TICK: Final = 1.0  # seconds between signs of life while a run only waits
GRACE: Final = 5.0  # seconds at least for open requests when a run is interrupted
PATIENCE: Final = 1.5  # times the slowest answer so far; the next may be a little slower

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; `total` counts the classes to ask, `done` those answered by any process."""

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
    """What a run did, or what a dry run would do, with tokens and cost for answers of maximum length.

    `failed` holds the reason for each class without descriptors.
    """

    done: int  # classes that this run wrote and that are in the store at its end
    cached: int
    kept: int  # classes whose current line is a person's
    others: int  # classes that other processes wrote meanwhile
    failed: Mapping[str, str]
    lost: tuple[str, ...]  # classes that were written or already there but are no longer in the store
    cut: tuple[str, ...]  # classes with an answer that was cut off: its last descriptor is dropped
    too_long: tuple[str, ...]  # classes with more descriptors in an answer than are kept
    left: tuple[str, ...]  # not asked: interrupted, a dry run, or the money could run out
    pending: int  # answers of incomplete classes, which the run file keeps
    requests: int
    usage: Usage
    cost: float | None  # USD; None where the prices are unknown
    seconds: float
    signal: int | None = None  # that interrupted the run

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


def fill(
    names: Sequence[str],
    store: Store,
    questions: Questions,
    completer: Completer,
    *,
    refresh: bool = False,
    retries: int = RETRIES,
    budget: Budget | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Fill a store with a completer's answers; the questions name its model. See `generate`."""
    run = Run(questions, budget or Budget(), retries)
    lifetime = 2 * completer.timeout
    ledger = Ledger(run, names, store, endpoint=completer.endpoint, lifetime=lifetime, refresh=refresh)
    stop = Shutdown(run, completer)
    pending = 0
    if ledger.is_needed():
        with stop.at_signals():
            report = _reporter(run, ledger, completer, progress)
            pending = _to_its_end(_go(run, ledger, completer, stop, report))
    return _summary(run, ledger, pending, stop.signal)


def forecast(
    names: Sequence[str],
    store: Store,
    questions: Questions,
    *,
    refresh: bool = False,
    retries: int = RETRIES,
    budget: Budget | None = None,
) -> Summary:
    """Return what a run would send and its cost for answers of maximum length. Nothing is sent."""
    run_file = RunFile(store.path, 0.0)
    run_file.refresh()
    ask: list[str] = []
    kept, requests, usage = 0, 0, NOTHING
    for name in names:
        question = questions.of(name)
        status = class_status(question, store, refresh=refresh)
        kept += status == "kept"
        if status != "ask":
            continue
        ask.append(name)
        samples = samples_so_far(question, store.history(name), run_file.samples(question.key))
        left = question.unanswered(samples, retries)
        requests += len(left)
        usage = sum((drawn.estimate() for drawn in left), usage)
    return Summary(
        done=0,
        cached=len(names) - len(ask) - kept,
        kept=kept,
        others=0,
        failed={},
        lost=(),
        cut=(),
        too_long=(),
        left=tuple(ask),
        pending=0,
        requests=requests,
        usage=usage,
        cost=(budget or Budget()).cost(usage),
        seconds=0.0,
    )


class Shutdown:
    """Stops new requests at once, and open ones after a grace period or on a second signal."""

    def __init__(self, run: Run, completer: Completer) -> None:
        self.signal: int | None = None
        self._run = run
        self._completer = completer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limit: asyncio.Timeout | None = None  # while requests may be open
        self._paused = False
        self._grace: float | None = None  # seconds left when `waiting`, which pauses the grace period, ends

    @contextmanager
    def at_signals(self) -> Iterator[None]:
        """Stop at Ctrl-C or SIGTERM, which only the main thread can handle."""
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
        """Cancel the block's work once the grace period is over."""
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
        """Pause the grace period within the block, where answers are written to disk."""
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
        """Stop sending; called on the event loop's thread."""
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
            logger.info(
                "Stopping: waiting up to %.0f s for open requests; interrupt again to stop now", grace
            )
        self._grace = grace
        if again or not self._paused:
            self._limit.reschedule(asyncio.get_running_loop().time() + grace)


async def _go(
    run: Run,
    ledger: Ledger,
    completer: Completer,
    stop: Shutdown,
    report: Callable[[], None],
) -> int:
    """Ask until nothing is left; return how many answers the run file keeps for a later run."""

    async def step(outcomes: Sequence[Any] = ()) -> None:
        with stop.waiting():
            run.take(outcomes)  # in this thread: a busy second thread would stall the requests
            # Lanes keep working during the step: twice as many answers may arrive before the next one.
            most = completer.window + 2 * len(outcomes)
            await _undisturbed(asyncio.to_thread(ledger.step, most))
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
    """Await work to its end even if this task is cancelled meanwhile; then let the cancellation through."""
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
    run: Run,
    ledger: Ledger,
    completer: Completer,
    progress: Callable[[Progress], None] | None,
) -> Callable[[], None]:
    def report() -> None:
        if progress is not None:
            progress(
                Progress(
                    total=ledger.total,
                    done=ledger.total - ledger.unsettled - len(run.failed),
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


def _summary(run: Run, ledger: Ledger, pending: int, interrupted: int | None) -> Summary:
    """Count what is in the store, not what was answered: another program may have changed it meanwhile."""
    lost = ledger.lost()
    gone = set(lost)
    return Summary(
        done=len(ledger.done - gone),
        cached=sum(name not in gone for name in ledger.cached),
        kept=sum(name not in gone for name in ledger.kept),
        others=len(set(ledger.others) - gone),
        failed=dict(run.failed),
        lost=lost,
        cut=tuple(run.cut),
        too_long=tuple(run.too_long),
        left=ledger.left,
        pending=pending,
        requests=run.sent,
        usage=run.budget.usage,
        cost=run.budget.spent,
        seconds=time.monotonic() - run.started,
        signal=interrupted,
    )


def _to_its_end(work: Coroutine[Any, Any, int]) -> int:
    """Run work to its end, in another thread if an event loop is already running, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
