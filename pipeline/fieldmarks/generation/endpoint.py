"""A language model behind an OpenAI-compatible endpoint: bounded concurrency, retries, limits per minute.

Each of `window` lanes asks one question after another, and retries each until it is answered or the retry
policy gives up. Lanes keep working while the caller stores the answers it took, until as many answers wait as
there are lanes, so the number of questions asked but not yet handled stays bounded.
`drain`, or a failure that ends the run, stops sending: requests that wait for their turn or for a retry end
without an outcome; those on the wire are awaited, and their answers yielded.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from fieldmarks.errors import EndpointError
from fieldmarks.generation.credentials import without_credentials
from fieldmarks.generation.dialects import (
    USUAL,
    BadReply,
    EndpointProfile,
    Quirks,
    adapted,
    body,
    completion,
    find_mode,
    forget,
    path,
    remember,
    remembered,
    usage_of,
)
from fieldmarks.generation.failures import ABOUT_THE_REQUEST, Failed, OutOfCredit, Refused, Transient
from fieldmarks.generation.question import Charge, Failure, Outcome, Question, Sample, unlimited
from fieldmarks.generation.retrying import PATIENT, RateLimiter, RetryPolicy, Sleep
from fieldmarks.generation.transport import Transport

FRUITLESS: Final = 3  # after at least this many requests in a row without an answer, blame the endpoint
NEWS_EVERY: Final = 30.0  # seconds between messages that the server asked us to wait
MOST_QUIRKS: Final = 7  # adaptations to a server's refusals before giving up

T = TypeVar("T")
logger = logging.getLogger(__name__)


class EndpointCompleter:
    """Answers requests over HTTP, at most `concurrency` at a time."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        mode: str = "auto",
        concurrency: int = 16,
        timeout: float = 120.0,
        retry: RetryPolicy = PATIENT,
        limiter: RateLimiter | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Set the endpoint and the model.

        `headers` go with every request, mode "auto" probes once, `timeout` is in seconds.
        Raises EndpointError for anything but an http or https URL.
        """
        self.model = model
        self.endpoint = without_credentials(base_url)
        self.window = concurrency
        self.timeout = timeout
        self.slowest = 0.0  # seconds that the slowest answer took over HTTP, without waits
        self.retrying = 0  # requests waiting to be sent again
        self._open = partial(Transport, base_url, api_key, headers, timeout=timeout, connections=concurrency)
        self._transport: Transport | None = None  # while open
        self._mode = None if mode == "auto" else mode
        self._quirks = USUAL  # grows with the server's refusals
        self._retry = retry
        self._limiter = limiter or RateLimiter()
        self._sleep = sleep
        self._quiet_until = 0.0  # the loop's time until which waits are not logged
        self._masks = False  # whether the server has echoed credentials
        self._answers = 0
        self._fruitless = 0  # requests in a row without an answer
        self._drained: asyncio.AbstractEventLoop | None = None
        self._stopped = False  # send nothing more
        self._interruptible: set[asyncio.Future[Any]] = set()  # what `_stop` cancels: waits and probing
        self._leftovers: list[Outcome] = []
        self._charge: Charge = unlimited

    async def complete(
        self, questions: Iterable[Question], charge: Charge = unlimited
    ) -> AsyncGenerator[list[Outcome], None]:
        """Yield answers as they arrive; more questions are sent while the caller handles those yielded.

        Raises EndpointError if the endpoint refuses for good or is down, once open requests have ended.
        """
        self._charge = charge
        self._stopped = self._drained is asyncio.get_running_loop()
        if self._stopped:
            return
        async with self.connected():
            try:
                if self._mode is None:
                    self._mode = await self._interruptibly(self._find_mode)
            except _Stopped:
                return
            async with aclosing(self._work(iter(questions), self._mode)) as answers:
                async for outcomes in answers:
                    yield outcomes

    def drain(self) -> None:
        """Stop sending, on this event loop only; `complete` yields the answers on the wire and ends."""
        self._drained = asyncio.get_running_loop()
        self._stop()

    def leftovers(self) -> list[Outcome]:
        """Return, once, the answers that had arrived but were not yielded when `complete` was closed."""
        leftovers, self._leftovers = self._leftovers, []
        return leftovers

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Transport]:
        """Hold open the connections that `send` needs. Raises EndpointError for unusable settings."""
        async with self._open() as transport:
            self._transport = transport
            try:
                yield transport
            finally:
                self._transport = None

    async def send(self, mode: str, question: Question, *, probing: bool = False) -> Sample:
        """Send a question, retrying as the policy allows, and return the answer. Raises Failed.

        When `probing`, a failure is probably due to the mode, so there are as few retries as for a new
        endpoint.
        """

        async def attempt() -> Sample:
            try:
                return await self._adapting(mode, question, probing)
            except Failed as error:
                if error.paid and not probing and not self._charge(error.usage or question.estimate()):
                    raise _Unaffordable(str(error)) from error
                if not isinstance(error, Transient):
                    raise
                if error.retry_after is not None and error.retry_after >= self._retry.first_wait:
                    self._log_wait(error.retry_after, error)
                raise

        return await self._retry.run(attempt, self._before_retry, lambda: self._answers > 0 and not probing)

    def remember(self, mode: str, thinks: bool) -> EndpointProfile:
        """Save and return a profile of this model: the mode to use, and what was learned about the server."""
        profile = EndpointProfile(mode, self._quirks, thinks)
        remember(self.endpoint, self.model, profile)
        return profile

    async def _find_mode(self) -> str:
        profile = remembered(self.endpoint, self.model)
        if profile is None:
            mode, thinks = await find_mode(partial(self.send, probing=True), self.endpoint)
            profile = self.remember(mode, thinks)
            logger.info("%s at %s: mode %r, chosen by probing once", self.model, self.endpoint, mode)
        self._quirks = profile.quirks
        if profile.thinks:
            logger.info("%s thinks before it answers: allow for it with --max-tokens, say 2000", self.model)
        return profile.mode

    async def _work(self, pending: Iterator[Question], mode: str) -> AsyncGenerator[list[Outcome], None]:
        arrived: list[Outcome] = []
        yielded: list[Outcome] = []  # the caller is saving them; until then, they count as open
        lanes: set[asyncio.Task[None]] = set()
        news = asyncio.Event()
        errors: list[BaseException] = []

        async def lane(question: Question | None) -> None:
            while question is not None:
                if (outcome := await self._ask(mode, question)) is not None:
                    arrived.append(outcome)
                    news.set()
                more = len(arrived) + len(yielded) < self.window and not self._stopped
                question = next(pending, None) if more else None

        def ended(task: asyncio.Task[None]) -> None:
            lanes.discard(task)
            news.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                errors.append(error)
                self._stop()

        try:
            while True:
                for question in islice(pending, 0 if self._stopped else self.window - len(lanes)):
                    task = asyncio.create_task(lane(question))
                    task.add_done_callback(ended)
                    lanes.add(task)
                if not lanes and not arrived:
                    break
                await news.wait()
                news.clear()
                if arrived:
                    yielded, arrived[:] = arrived.copy(), []
                    yield yielded
                    yielded = []
        finally:
            for task in lanes:
                task.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            self._leftovers += arrived
        if errors:
            raise errors[0]

    async def _ask(self, mode: str, question: Question) -> Outcome | None:
        """Return a question's outcome, or None if sending stopped before there was one."""
        try:
            answer = await self.send(mode, question)
        except _Stopped:
            return None
        except _Unaffordable as error:
            logger.info("%s: %s; another attempt could exceed the cost limit", question.name, error)
            return question, Failure(str(error), unaffordable=True)
        except Failed as failure:
            if self._stopped and not _about_the_request(failure):
                return None  # the run ends anyway; a later one asks again
            return question, self._failed(failure)
        self._fruitless = 0
        return question, answer

    def _failed(self, failure: Failed) -> Failure:
        """Return one request's failure. Raises EndpointError if the endpoint is at fault, not the request."""
        self._fruitless += 1
        words = failure.explained()
        most = self._retry.max_wait
        if isinstance(failure, Transient) and failure.retry_after is not None and failure.retry_after > most:
            advice = f"the server asked us to wait {failure.retry_after:.0f} s; --max-wait is {most:.0f} s"
            raise EndpointError(f"{self.endpoint}: {failure}: {advice}") from failure
        if isinstance(failure, OutOfCredit):
            raise EndpointError(f"{self.endpoint}: {words}") from failure
        in_a_row = max(FRUITLESS, self.window)
        if self._fruitless < in_a_row and (self._answers or _about_the_request(failure)):
            return Failure(words)
        if isinstance(failure, Refused):
            forget(self.endpoint, self.model)
        several = f"{self._fruitless} requests in a row got no answer; the last: " if self._answers else ""
        raise EndpointError(f"{self.endpoint}: {several}{words}") from failure

    async def _adapting(self, mode: str, question: Question, probing: bool) -> Sample:
        """Send a question, and resend it adapted if a refusal says what the server wants instead."""
        for _ in range(MOST_QUIRKS):
            quirks = self._quirks
            try:
                return await self._exchange(mode, question, quirks, probing)
            except Refused as error:
                self._learn(mode, question, quirks, error)
        return await self._exchange(mode, question, self._quirks, probing)

    async def _exchange(self, mode: str, question: Question, quirks: Quirks, probing: bool) -> Sample:
        tokens = question.estimate()
        expected = tokens.prompt_tokens + tokens.completion_tokens
        clock = asyncio.get_running_loop().time
        if (delay := self._limiter.delay(expected, clock())) > 0:
            await self._interruptibly(lambda: self._sleep(delay))
        if self._stopped:
            raise _Stopped
        assert self._transport is not None, "within `connected`"
        start = clock()
        try:
            answer = await self._answer(self._transport, mode, question, quirks)
        except Transient as error:
            error.seconds = clock() - start
            raise
        self._answers += 1
        if self._transport.redactor.masked and not self._masks:
            self._masks = True
            logger.info("the server sends credentials back: they are masked as ***")
        if not probing:
            self.slowest = max(self.slowest, clock() - start)
        if answer.usage is not None:
            self._limiter.correct(expected, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        return answer

    async def _answer(self, transport: Transport, mode: str, question: Question, quirks: Quirks) -> Sample:
        reply = await transport.post(path(mode), body(mode, self.model, question, quirks))
        try:
            return completion(mode, question, reply)
        except BadReply as error:
            failure = Transient(str(error))
            failure.usage = usage_of(reply.get("usage")) if isinstance(reply, dict) else None
            raise failure from None

    def _learn(self, mode: str, question: Question, sent: Quirks, error: Refused) -> None:
        """Learn quirks from a refusal, unless another request just did; raise it if it teaches nothing."""
        if self._quirks != sent:
            return
        learned = None
        if _about_the_request(error):
            learned = adapted(sent, body(mode, self.model, question, sent), str(error))
        if learned is None:
            raise error
        self._quirks = learned
        for key in set(learned.left_out) - set(sent.left_out):
            logger.info("the endpoint rejects %r: sending requests without it", key)

    async def _before_retry(self, seconds: float) -> None:
        self.retrying += 1
        try:
            await self._interruptibly(lambda: self._sleep(seconds))
        finally:
            self.retrying -= 1

    async def _interruptibly(self, begin: Callable[[], Awaitable[T]]) -> T:
        """Await what `begin` returns. Raises _Stopped once sending has stopped."""
        if self._stopped:
            raise _Stopped
        work = asyncio.ensure_future(begin())
        self._interruptible.add(work)
        try:
            return await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopped and not (task and task.cancelling()):
                raise _Stopped from None
            raise
        finally:
            self._interruptible.discard(work)

    def _stop(self) -> None:
        self._stopped = True
        for wait in self._interruptible:
            wait.cancel()

    def _log_wait(self, seconds: float, reason: Failed) -> None:
        """Log that the server asked us to wait, unless that was logged recently."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + max(seconds, NEWS_EVERY)
            logger.info("server asked us to wait %.0f s (%s)", seconds, reason)


def _about_the_request(failure: Failed) -> bool:
    """Whether a refusal is about this request only, so others may succeed."""
    return isinstance(failure, Refused) and failure.status in ABOUT_THE_REQUEST


class _Unaffordable(Exception):
    """An attempt cost money but brought no answer, and the budget does not allow another."""


class _Stopped(Exception):
    """Sending has stopped, so a request ends without an outcome."""
