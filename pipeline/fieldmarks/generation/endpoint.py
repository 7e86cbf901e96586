"""A language model behind an OpenAI-compatible endpoint: bounded concurrency, retries, limits per minute."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from itertools import islice
from typing import Final

from fieldmarks.errors import EndpointError
from fieldmarks.generation.completer import Failure, Outcome, Request
from fieldmarks.generation.link import Link
from fieldmarks.generation.pace import Pace
from fieldmarks.generation.probe import Manner, find_manner, forget, remember, remembered
from fieldmarks.generation.retry import PATIENT, RetryPolicy, Sleep, Transient
from fieldmarks.generation.transport import Refused, Transport, hint, without_credentials

TIMEOUT: Final = 120.0  # seconds for one answer
LAST_ANSWERS: Final = 5.0  # seconds for what is under way when the endpoint refuses for good
FRUITLESS: Final = 3  # requests in a row without an answer: the endpoint, not the class, is at fault


class EndpointCompleter:
    """Answers requests over HTTP, at most `concurrency` at a time."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        mode: str = "auto",
        concurrency: int = 16,
        timeout: float = TIMEOUT,
        retry: RetryPolicy = PATIENT,
        pace: Pace | None = None,
        sleep: Sleep = asyncio.sleep,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Name endpoint and model; `mode` "auto" probes once, `timeout` is in seconds, `tell` hears news."""
        self.model = model
        self.shown = without_credentials(base_url)
        self._base_url = base_url
        self._api_key = api_key
        self._manner = None if mode == "auto" else Manner(mode)
        self._concurrency = concurrency
        self._timeout = timeout
        self._retry = retry
        self._pace = pace or Pace(sleep=sleep)
        self._sleep = sleep
        self._tell = tell
        self._answers = 0
        self._fruitless = 0
        self.window = concurrency
        self.timeout = timeout
        self.slowest = 0.0
        self.retrying = 0
        self._draining = False

    def drain(self) -> None:
        self._draining = True

    @property
    def endpoint(self) -> str:
        """The endpoint's URL without credentials."""
        return self.shown

    async def complete(self, requests: Iterable[Request]) -> AsyncGenerator[list[Outcome], None]:
        """Yield answers as they come; a further request starts only when those yielded are dealt with.

        Raises EndpointError where the endpoint refuses for good or is down, once what is under way is in.
        """
        async with self.transport() as transport:
            link = self.link(transport)
            manner = self._manner = self._manner or await self._found(link)
            link.quirks = manner.quirks
            link.answers += self._answers
            async with aclosing(self._work(iter(requests), link, manner.mode)) as answers:
                async for outcomes in answers:
                    yield outcomes
            self._manner = Manner(manner.mode, link.quirks, manner.thinks)

    def transport(self) -> Transport:
        """Open the endpoint's transport. Raises EndpointError for a URL or key that cannot be sent."""
        return Transport(self._base_url, self._api_key, timeout=self._timeout, connections=self._concurrency)

    def link(self, transport: Transport) -> Link:
        """Return what speaks to this model over a transport."""
        return Link(transport, self.model, self._retry, self._pace, self._sleep, self._tell)

    async def _found(self, link: Link) -> Manner:
        manner = remembered(self.endpoint, self.model)
        if manner is None:
            manner = await find_manner(link)
            remember(self.endpoint, self.model, manner)
            self._tell(
                f"{self.model} at {self.endpoint}: mode {manner.mode!r}, found by probing and remembered"
            )
        if manner.thinks:
            self._tell(f"{self.model} thinks before it answers: give it room with --max-tokens, say 2000")
        return manner

    async def _work(
        self, pending: Iterator[Request], link: Link, mode: str
    ) -> AsyncGenerator[list[Outcome], None]:
        done: asyncio.Queue[asyncio.Task[Outcome]] = asyncio.Queue()
        running: set[asyncio.Task[Outcome]] = set()
        fatal: BaseException | None = None
        try:
            while True:
                if fatal is None and not self._draining:
                    for request in islice(pending, self._concurrency - len(running)):
                        task = asyncio.create_task(self._ask(link, mode, request))
                        task.add_done_callback(done.put_nowait)
                        running.add(task)
                if not running:
                    break
                ready = await _drain(done, LAST_ANSWERS if fatal else None)
                if not ready:
                    break
                running.difference_update(ready)
                errors = [task.exception() for task in ready]
                fatal = next(filter(None, errors), fatal)
                if outcomes := [task.result() for task in ready if task.exception() is None]:
                    yield outcomes
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if fatal:
            raise fatal

    async def _ask(self, link: Link, mode: str, request: Request) -> Outcome:
        began = asyncio.get_running_loop().time()
        try:
            answer = await link.send(mode, request)
            self.slowest = max(self.slowest, asyncio.get_running_loop().time() - began)
        except Transient as error:
            most = self._retry.max_wait
            if error.retry_after is not None and error.retry_after > most:
                wait = f"asks to wait {error.retry_after:.0f} s, longer than the {most:.0f} s allowed"
                raise EndpointError(f"{self.endpoint} {wait} ({error})") from error
            self._fruitless += 1
            if not link.answers or self._fruitless >= FRUITLESS:
                raise EndpointError(f"{self.endpoint} gives no answer: {error}") from error
            return request, Failure(str(error))
        except Refused as error:
            self._fruitless += 1
            if error.status == 404 or (not self._answers and self._fruitless >= FRUITLESS):
                forget(self.endpoint, self.model)
                raise EndpointError(f"{self.endpoint} refuses: {error}: {hint(error.status)}") from error
            return request, Failure(str(error))
        self._answers += 1
        self._fruitless = 0
        return request, answer


async def _drain(
    done: asyncio.Queue[asyncio.Task[Outcome]], timeout: float | None
) -> list[asyncio.Task[Outcome]]:
    """Return all tasks that are done, at least one; none once `timeout` seconds are over."""
    try:
        ready = [await done.get() if timeout is None else await asyncio.wait_for(done.get(), timeout)]
    except TimeoutError:
        return []
    while not done.empty():
        ready.append(done.get_nowait())
    return ready
