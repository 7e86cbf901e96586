"""A run: ask a model for every class that its store does not answer, and store each answer as it comes."""

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
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
    `retries` times. `progress` is called after each group of answers is on disk. Ctrl-C gives what is under
    way `grace` seconds, then returns with `interrupted` set.
    Raises PromptError, ModelError, GenerationError and StoreError; what was answered before stays stored.
    """
    ask = Ask(prompt, completer.model, params, values or {})
    plan = make_plan(names, store, ask, refresh=refresh)
    run = Run(plan, store, ask, completer.endpoint, Budget(prices, max_cost), retries)
    with _collecting_little():
        return asyncio.run(_go(run, plan, store, completer, grace, progress))


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
    grace: float,
    progress: Callable[[Progress], None] | None,
) -> Summary:
    if plan.restore:
        store.append(*plan.restore)
    try:
        async with _interruptible(run, grace):
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


@asynccontextmanager
async def _interruptible(run: Run, grace: float) -> AsyncIterator[None]:
    """Let SIGINT stop further requests at once, and cancel those under way after `grace` seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)

    def interrupt(*_: Any) -> None:
        limit.reschedule(loop.time() + (0 if run.interrupted else grace))
        run.interrupt()

    before = signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(interrupt))
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
    finally:
        signal.signal(signal.SIGINT, before)
