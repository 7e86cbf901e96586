"""When a request is sent again, and how long is waited before: the policy, in one place."""

import email.utils
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_exponential, wait_random

RETRIED_STATUS: Final = frozenset({408, 409, 429, *range(500, 600)})
SPREAD: Final = 0.25  # seconds at most, so that those who were told the same time do not come at once

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


class Transient(Exception):
    """A request failed in a way that may pass.

    `retry_after` holds the seconds the server asked to wait; `status` is None where none answered at all.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, status: int | None = 200) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.status = status


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently one request is sent again."""

    attempts: int = 8  # failures after which to give up; being told to wait is not counted
    first_attempts: int = 3  # the same while the endpoint never answered: rather a wrong URL than a fault
    first_wait: float = 0.5  # seconds, doubled each time
    longest_wait: float = 30.0  # seconds, unless the server tells a time
    max_wait: float = 600.0  # seconds that one request waits in all as told by the server

    async def run(self, send: Callable[[], Awaitable[T]], sleep: Sleep, met: Callable[[], bool]) -> T:
        """Call `send` until it answers; `met` says whether the endpoint ever did.

        Raises the last Transient once patience is at its end.
        """
        backoff = wait_exponential(self.first_wait, self.longest_wait) + wait_random(0, self.first_wait)
        failures = 0
        told = 0.0  # seconds

        def stop(state: RetryCallState) -> bool:
            nonlocal failures, told
            after = _retry_after(state)
            failures += after is None
            told += after or 0.0
            return failures >= (self.attempts if met() else self.first_attempts) or told > self.max_wait

        def wait(state: RetryCallState) -> float:
            after = _retry_after(state)
            return backoff(state) if after is None else after + random.uniform(0, SPREAD)

        async def attempt() -> T:
            return await send()

        again = retry_if_exception_type(Transient)
        return await AsyncRetrying(stop=stop, wait=wait, retry=again, sleep=sleep, reraise=True)(attempt)


PATIENT: Final = RetryPolicy()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that a response's headers name, or None."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (value := headers.get(header)) is not None:
            seconds = _number(value, unit)
            if seconds is not None:
                return seconds
    return None


def _number(value: str, unit: float) -> float | None:
    try:
        seconds = float(value) * unit
    except ValueError:
        if unit != 1.0 or (date := email.utils.parsedate_tz(value)) is None:
            return None
        try:
            seconds = max(0.0, email.utils.mktime_tz(date) - time.time())
        except (OverflowError, ValueError):  # a year that no calendar has
            return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _retry_after(state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after if isinstance(error, Transient) else None
