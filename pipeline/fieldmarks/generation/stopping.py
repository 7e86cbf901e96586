"""How a run ends early: by Ctrl-C, SIGTERM, or a disk that takes no more. What was paid for is waited for."""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from fieldmarks.generation.ledger import Run
from fieldmarks.generation.question import Completer

GRACE: Final = 5.0  # seconds, the least for what is under way when a run is interrupted
PATIENCE: Final = 1.5  # times the slowest answer so far; the next may be a little slower

logger = logging.getLogger(__name__)


class Stop:
    """Stops further requests at once, and what is under way after a time of grace or at a second signal."""

    def __init__(self, run: Run, completer: Completer) -> None:
        self.signal: int | None = None
        self._run = run
        self._completer = completer
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
            logger.info(
                "Stopping: waiting up to %.0f s for what is under way; interrupt again to stop now", grace
            )
        self._grace = grace
        if again or not self._paused:
            self._limit.reschedule(asyncio.get_running_loop().time() + grace)
