"""Decide when to send requests: retries, waits after an error or Retry-After, and rate limits.

No side effects except sleeping, which is passed in.
"""

import email.utils
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_exponential, wait_random

from fieldmarks.generation.failures import Transient, message, shown

MINUTE: Final = 60.0  # seconds
SPREAD: Final = 0.25  # seconds at most, so that requests with the same wait do not all arrive at once
EPOCH: Final = 1e9  # a larger number of seconds is a point in time
EPOCH_MS: Final = 1e12  # and an even larger one is in milliseconds
LIMITED_STATUS: Final = frozenset(
    {429, 503, 529}
)  # with these, a server's rate-limit headers say when to try again

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often to retry a request, and how long to wait in between.

    Attempts end at the first of three limits: failures, attempts answered with a wait, total seconds.
    """

    attempts: int = 8  # failures
    first_attempts: int = 3  # the same until the endpoint first answers: the URL may be wrong
    most_waits: int = 100  # attempts after which the server asks to wait; they do not count as failures
    first_wait: float = 0.5  # seconds, doubled after each failure
    longest_wait: float = 30.0  # seconds, unless the server asks for another wait
    max_wait: float = 600.0  # seconds of attempts and waits together, after which no attempt begins

    async def run(self, send: Callable[[], Awaitable[T]], sleep: Sleep, answered: Callable[[], bool]) -> T:
        """Call `send` until it answers; `answered` says whether the endpoint ever did.

        Raises the last Transient, with `tries` set, once a limit is reached.
        """
        failures = waits = 0
        spent = 0.0  # seconds

        def wait(state: RetryCallState) -> float:
            nonlocal failures, waits
            asked = self._asked(state)
            if asked is not None:
                waits += 1
                return asked + random.uniform(0, SPREAD)
            failures += 1
            doubling = wait_exponential(self.first_wait, self.longest_wait) + wait_random(0, self.first_wait)
            return doubling(state)

        def stop(state: RetryCallState) -> bool:
            nonlocal spent
            error = _error(state)
            error.tries = state.attempt_number
            spent += error.seconds + state.upcoming_sleep
            patient = answered() or error.status == 429  # a rate limit: the endpoint is right and working
            most = self.attempts if patient else self.first_attempts
            return failures >= most or waits >= self.most_waits or spent > self.max_wait

        async def attempt() -> T:
            return await send()

        again = retry_if_exception_type(Transient)
        return await AsyncRetrying(stop=stop, wait=wait, retry=again, sleep=sleep, reraise=True)(attempt)

    def _asked(self, state: RetryCallState) -> float | None:
        """Return the wait asked for; one below `first_wait` is ignored, or retries might never end."""
        asked = _error(state).retry_after
        return asked if asked is not None and asked >= self.first_wait else None


PATIENT: Final = RetryPolicy()


def _error(state: RetryCallState) -> Transient:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, Transient), "only these are retried"
    return error


class RateLimiter:
    """Spaces requests evenly, so that no minute has more requests or tokens than allowed."""

    def __init__(self, rpm: float | None = None, tpm: float | None = None) -> None:
        """Set the limits of requests and tokens per minute; None means no limit."""
        self._rpm = rpm
        self._tpm = tpm
        self._free = 0.0  # when the next request may start

    def delay(self, tokens: int, now: float) -> float:
        """Reserve the next slot, for a request of about `tokens` tokens; return the seconds until then."""
        if self._rpm is None and self._tpm is None:
            return 0.0
        start = max(now, self._free)
        by_requests = MINUTE / self._rpm if self._rpm else 0.0
        by_tokens = tokens * MINUTE / self._tpm if self._tpm else 0.0
        self._free = start + max(by_requests, by_tokens)
        return start - now

    def correct(self, expected: int, actual: int) -> None:
        """Give back the time for tokens that a request was expected to need but did not."""
        if self._tpm is not None:
            self._free -= (expected - actual) * MINUTE / self._tpm


def asked_wait(status: int, headers: Mapping[str, str], body: Any) -> float | None:
    """Return how many seconds an error's headers or text ask to wait, or None.

    Retry-After comes first. If a limit was reached, the resets of the limits that are used up come next, then
    the text ("try again in 1.2s"), then the nearest reset of all limits.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0), ("x-ratelimit-retry-after", 1.0)):
        seconds = seconds_of(headers.get(name, ""))
        if seconds is not None:
            return seconds * unit
    if status not in LIMITED_STATUS:
        return None
    resets = {
        name: seconds
        for name, value in headers.items()
        if re.search(r"rate-?limit.*reset", name.lower()) and (seconds := seconds_of(value)) is not None
    }
    used_up = [
        s for name, s in resets.items() if headers.get(name.lower().replace("reset", "remaining")) == "0"
    ]
    if used_up:
        return max(used_up)
    if (hint := _hint(body)) is not None:
        return hint
    return min(resets.values(), default=None)


_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|us|µs|ns|[dhms])")
_UNITS: Final = {
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_HINT: Final = re.compile(
    r"(?:try again|retry|retryDelay)\W{1,6}(?:in|after)?\s{0,3}((?:\d[\d.]{0,15}(?:ms|[dhms])(?![a-z]))+"
    r"|\d[\d.]{0,15}\s?(?:seconds?|secs?|minutes?|mins?)\b)",
    re.IGNORECASE,
)


def seconds_of(value: str) -> float | None:
    """Return the seconds from now that a header's value stands for, or None if it is not a time.

    It may be a number of seconds, a duration ("6m0s", "120ms"), or a point in time: an HTTP or ISO 8601 date,
    or seconds or milliseconds since 1970. A time in the past is 0.
    """
    value = value.strip()
    if not value or len(value) > 64:
        return None
    try:
        number = float(value)
    except ValueError:
        return _from_text(value)
    if not math.isfinite(number) or number < 0 or number >= 100 * EPOCH_MS:
        return None
    if number < EPOCH:
        return number
    return max(0.0, (number / 1000 if number >= EPOCH_MS else number) - time.time())


def _from_text(value: str) -> float | None:
    parts = _DURATION.findall(value)
    if parts and "".join(number + unit for number, unit in parts) == value:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        if (date := email.utils.parsedate_tz(value)) is not None:
            return max(0.0, email.utils.mktime_tz(date) - time.time())
        point = datetime.fromisoformat(value)
    except (OverflowError, ValueError):  # an impossible year
        return None
    return max(0.0, (point if point.tzinfo else point.replace(tzinfo=UTC)).timestamp() - time.time())


def _hint(body: Any) -> float | None:
    """Return the seconds in a text like "try again in 1.2s", or None."""
    hint = _HINT.search(message(body)[:2000]) or _HINT.search(shown(body)[:5000])
    if hint is None:
        return None
    text = re.sub(r"\s", "", hint[1].lower())
    return seconds_of(re.sub(r"(?<=\d)(min|sec)[a-z]*", lambda unit: unit[0][0], text))
