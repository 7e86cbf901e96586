"""One model behind one endpoint: sends a request in a mode, and learns what the server wants otherwise."""

import asyncio
from collections.abc import Callable
from typing import Final

from fieldmarks.generation.budget import estimate
from fieldmarks.generation.completer import Completion, Request
from fieldmarks.generation.modes import USUAL, BadReply, Quirks, adapted, body, completion, path
from fieldmarks.generation.pace import Pace
from fieldmarks.generation.retry import RetryPolicy, Sleep, Transient
from fieldmarks.generation.transport import Refused, Transport

TELL_EVERY: Final = 30.0  # seconds
MOST_QUIRKS: Final = 5  # a server that refuses more than this cannot be pleased


class Link:
    """Sends requests over a transport; `quirks` grows with the server's refusals, `answers` counts."""

    def __init__(
        self,
        transport: Transport,
        model: str,
        retry: RetryPolicy,
        pace: Pace,
        sleep: Sleep,
        tell: Callable[[str], None],
    ) -> None:
        self.shown = transport.shown
        self.quirks = USUAL
        self.answers = 0
        self._transport = transport
        self._model = model
        self._retry = retry
        self._pace = pace
        self._sleep = sleep
        self._tell = tell
        self._told_until = 0.0

    async def send(self, mode: str, request: Request, *, probing: bool = False) -> Completion:
        """Return the answer, retried as the policy allows. Raises Transient, Refused or EndpointError.

        When `probing`, a failure is likely to be the mode's and patience is as short as with a new endpoint.
        """

        async def once() -> Completion:
            try:
                return await self._once(mode, request)
            except Transient as error:
                if error.retry_after is not None:
                    self._tell_of_wait(error.retry_after, str(error))
                raise

        return await self._retry.run(once, self._sleep, lambda: self.answers > 0 and not probing)

    def _tell_of_wait(self, seconds: float, reason: str) -> None:
        """Tell that the server makes us wait, unless that was just told."""
        now = asyncio.get_running_loop().time()
        if now >= self._told_until:
            self._told_until = now + max(seconds, TELL_EVERY)
            self._tell(f"told to wait {seconds:.0f} s ({reason})")

    async def _once(self, mode: str, request: Request) -> Completion:
        for _ in range(MOST_QUIRKS):
            quirks = self.quirks
            try:
                return await self._exchange(mode, request, quirks)
            except Refused as error:
                self._learn(mode, request, quirks, error)
        return await self._exchange(mode, request, self.quirks)

    async def _exchange(self, mode: str, request: Request, quirks: Quirks) -> Completion:
        about = estimate(request)
        expected = about.prompt_tokens + about.completion_tokens
        await self._pace.take(expected)
        reply = await self._transport.post(path(mode), body(mode, self._model, request, quirks))
        try:
            answer = completion(mode, request, reply)
        except BadReply as error:
            raise Transient(str(error)) from error
        self.answers += 1
        if answer.usage is not None:
            self._pace.correct(expected, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        return answer

    def _learn(self, mode: str, request: Request, sent: Quirks, error: Refused) -> None:
        """Change the quirks by a refusal, unless another request's refusal just did; else raise it."""
        if self.quirks != sent:
            return
        learned = adapted(sent, body(mode, self._model, request, sent), str(error))
        if learned is None:
            raise error
        self.quirks = learned
        for key in set(learned.left_out) - set(sent.left_out):
            self._tell(f"the endpoint refuses {key!r}: sent without")
