"""A run: ask a model for every class that its store does not answer, and store each answer as it comes."""

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from fieldmarks.generation.budget import FREE, Budget, Prices, estimate
from fieldmarks.generation.completer import GREEDY, NOTHING, Completer, Params, Usage
from fieldmarks.generation.plan import Ask, Plan, make_plan
from fieldmarks.generation.run import Progress, Run, Summary
from fieldmarks.generation.templates import Prompt
from fieldmarks.store import Store

GRACE: Final = 5.0  # seconds for what is under way when a run is interrupted
RETRIES: Final = 2  # how often an empty answer is asked again


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would send: tokens as estimated, written ones and so the cost at their most."""

    classes: int
    cached: int
    requests: int
    usage: Usage
    cost: float  # USD


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
    prices: Prices = FREE,
    max_cost: float = float("inf"),
    grace: float = GRACE,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Fill a store with the descriptors of classes; what it already answers is not asked again.

    `values` fills the prompt's `{concept}` and `{other}`. An answer without descriptors is asked again up to
    `retries` times. `progress` is called after each group of answers is on disk. Ctrl-C or SIGTERM gives what
    is under way `grace` seconds, then returns with `interrupted` set. Where an event loop already runs, as in
    a notebook, the run gets a thread of its own.
    Raises PromptError, ModelError, GenerationError and StoreError; what was answered before stays stored.
    """
    ask = Ask(prompt, completer.model, params, values or {})
    plan = make_plan(names, store, ask, refresh=refresh)
    run = Run(plan, store, ask, completer.endpoint, Budget(prices, max_cost), retries)
    stop = _Stop(run, grace)
    with _collecting_little(), stop.at_signals():
        return _to_its_end(_go(run, plan, store, completer, stop, progress))


def forecast(
    names: Sequence[str], store: Store, ask: Ask, *, refresh: bool = False, prices: Prices = FREE
) -> Forecast:
    """Return what a run would send and about what it would cost. Nothing is sent."""
    plan = make_plan(names, store, ask, refresh=refresh)
    every = [estimate(request) for name in plan.ask for request in ask.requests(name)]
    usage = sum(every, NOTHING)
    answered = len(plan.cached) + len(plan.restore) + len(plan.kept)
    return Forecast(len(plan.ask), answered, len(every), usage, prices.cost(usage))


async def _go(
    run: Run,
    plan: Plan,
    store: Store,
    completer: Completer,
    stop: "_Stop",
    progress: Callable[[Progress], None] | None,
) -> Summary:
    if plan.restore or plan.ask:
        store.append(*plan.restore)  # even of nothing: shows a bad place before money is spent
    try:
        async with stop.watched():
            while run.begin_round():
                async with aclosing(completer.complete(run.requests())) as answers:
                    async for outcomes in answers:
                        if entries := run.take(outcomes):
                            await asyncio.to_thread(store.append, *entries)
                        if progress:
                            progress(run.progress())
    finally:
        if left := run.unfinished():
            store.append(*left)
    return run.summary()


@contextmanager
def _collecting_little() -> Iterator[None]:
    """Keep garbage collections from looking through all that is loaded, which stops a run for 0.1 s each."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _to_its_end(work: Coroutine[Any, Any, Summary]) -> Summary:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class _Stop:
    """Stops further requests at once, and those under way after `grace` seconds or when told again."""

    def __init__(self, run: Run, grace: float) -> None:
        self._run = run
        self._grace = grace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limit: asyncio.Timeout | None = None  # while there is something under way

    @contextmanager
    def at_signals(self) -> Iterator[None]:
        """Stop at Ctrl-C or SIGTERM, which only the main thread hears."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self._told) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

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

    def _told(self, *_: Any) -> None:
        if self._loop is None:
            self._run.interrupt()
        else:
            self._loop.call_soon_threadsafe(self._interrupt)

    def _interrupt(self) -> None:
        if self._limit is not None:
            wait = 0 if self._run.interrupted else self._grace
            self._limit.reschedule(asyncio.get_running_loop().time() + wait)
        self._run.interrupt()
