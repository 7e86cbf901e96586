"""Limits per minute: requests and tokens are spread evenly, so that no minute holds more than its share."""

import asyncio
from collections.abc import Callable

from fieldmarks.generation.retry import Sleep

MINUTE = 60.0  # seconds


class Pace:
    """Gives each request its place in time, so that requests and tokens a minute stay within limits."""

    def __init__(
        self,
        rpm: float | None = None,
        tpm: float | None = None,
        *,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Name the limits of requests and tokens a minute; None is no limit."""
        self._rpm = rpm
        self._tpm = tpm
        self._sleep = sleep
        self._clock = clock
        self._free = 0.0  # when the next request may start

    async def take(self, tokens: int) -> None:
        """Wait until a request of about so many tokens may start."""
        if self._rpm is None and self._tpm is None:
            return
        now = self._now()
        start = max(now, self._free)
        self._free = start + self._length(1, tokens)
        if start > now:
            await self._sleep(start - now)

    def correct(self, expected: int, true: int) -> None:
        """Give back the time of the tokens that a request was expected to need and did not."""
        if self._tpm is not None:
            self._free -= (expected - true) * MINUTE / self._tpm

    def _length(self, requests: int, tokens: int) -> float:
        by_requests = requests * MINUTE / self._rpm if self._rpm else 0.0
        by_tokens = tokens * MINUTE / self._tpm if self._tpm else 0.0
        return max(by_requests, by_tokens)

    def _now(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()
