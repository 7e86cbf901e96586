"""How often and how fast: waiting is obeyed, patience has an end, no minute holds more than its limit."""

import asyncio
import email.utils
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.generation.failures import Transient
from fieldmarks.generation.retrying import SPREAD, RateLimiter, RetryPolicy, asked_wait, seconds_of


class Clock:
    """Records the waits instead of waiting."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> Awaitable[None]:
        self.waits.append(seconds)
        return asyncio.sleep(0)


def _run(
    errors: list[Transient], policy: RetryPolicy, *, answered: bool = True
) -> tuple[int, list[float], str]:
    """Return how often a request is sent, the waits, and the outcome, where the errors precede an answer."""
    clock, sent = Clock(), 0

    async def send() -> str:
        nonlocal sent
        sent += 1
        if sent <= len(errors):
            raise errors[sent - 1]
        return "answer"

    async def run() -> str:
        try:
            return await policy.run(send, clock.sleep, lambda: answered)
        except Transient as error:
            return f"failed: {error}"

    outcome = asyncio.run(run())
    return sent, clock.waits, outcome


def _limited(seconds: float | None) -> Transient:
    return Transient("429", seconds, status=429)


def test_an_answer_at_once_waits_for_nothing() -> None:
    assert _run([], RetryPolicy()) == (1, [], "answer")


def test_failures_are_waited_out_ever_longer() -> None:
    _, waits, outcome = _run([Transient("500")] * 5, RetryPolicy(first_wait=1, longest_wait=6))
    assert outcome == "answer"
    assert len(waits) == 5
    assert all(base <= wait <= base + 1 for base, wait in zip([1, 2, 4, 6, 6], waits, strict=True))


def test_patience_with_failures_ends() -> None:
    assert _run([Transient("500")] * 99, RetryPolicy(attempts=3))[0] == 3
    assert _run([Transient("500")] * 99, RetryPolicy(attempts=9, first_attempts=2), answered=False)[0] == 2


def test_a_rate_limit_is_waited_out_from_the_first_request_on() -> None:
    policy = RetryPolicy(attempts=9, first_attempts=2)
    assert _run([_limited(None)] * 5, policy, answered=False)[2] == "answer"
    assert _run([_limited(None)] * 99, policy, answered=False)[0] == 9
    _, waits, outcome = _run([_limited(20.0)] * 9, policy, answered=False)
    assert outcome == "answer"
    assert all(20 <= wait <= 20 + SPREAD for wait in waits)


def test_being_asked_to_wait_is_obeyed_and_no_failure() -> None:
    _, waits, outcome = _run([_limited(90.0)] * 6, RetryPolicy(attempts=2))
    assert outcome == "answer"
    assert all(90 <= wait <= 90 + SPREAD for wait in waits)


def test_being_asked_to_wait_longer_than_allowed_ends_it() -> None:
    assert _run([_limited(601.0)], RetryPolicy(max_wait=600)) == (1, [], "failed: 429")
    assert _run([_limited(250.0)] * 9, RetryPolicy(max_wait=600))[0] == 3


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.49])
def test_being_asked_to_wait_for_nothing_counts_as_a_failure(seconds: float) -> None:
    sent, waits, outcome = _run([_limited(seconds)] * 9999, RetryPolicy())
    assert (sent, outcome) == (8, "failed: 429")
    assert sum(waits) > 30, "it was sent again and again without a pause"


def test_being_asked_to_wait_a_little_ends_too() -> None:
    sent, waits, outcome = _run([_limited(1.0)] * 9999, RetryPolicy())
    assert (sent, outcome) == (100, "failed: 429")
    assert sum(waits) <= 600


def test_the_time_of_the_tries_counts() -> None:
    slow = Transient("no reply", status=None)
    slow.seconds = 120.0
    sent, waits, _ = _run([slow] * 99, RetryPolicy(max_wait=600))
    assert sent == 5
    assert 120 * sent + sum(waits) < 600 + 120


@pytest.mark.slow
@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1e9)), min_size=200, max_size=200),
    st.floats(0, 200),
    st.booleans(),
)
def test_tries_and_seconds_are_bounded_whatever_a_server_says(
    asked: list[float | None], seconds: float, answered: bool
) -> None:
    errors = [_limited(wait) for wait in asked]
    for error in errors:
        error.seconds = seconds
    policy = RetryPolicy()
    sent, waits, _ = _run(errors, policy, answered=answered)
    assert sent <= policy.attempts + policy.most_waits
    assert sum(waits) + sent * seconds <= policy.max_wait + seconds


def test_the_last_failure_knows_the_tries() -> None:
    error = Transient("500")
    _run([error] * 99, RetryPolicy(attempts=4))
    assert error.explained() == "500 (4 attempts)"


def test_other_errors_pass_through() -> None:
    async def send() -> str:
        raise ValueError("not ours")

    with pytest.raises(ValueError, match="not ours"):
        asyncio.run(RetryPolicy().run(send, Clock().sleep, lambda: True))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 99999999999 07:28:00 GMT"}, None),
        # OpenAI, Groq: the limit that is used up decides
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1.0),
        (
            {
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360.0,
        ),
        ({"x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "2m59.56s"}, 179.56),
        ({"x-ratelimit-reset-requests": "7"}, 7.0),
        ({"x-ratelimit-reset-requests": "soon"}, None),
        ({"ratelimit-reset": "30"}, 30.0),
        ({"x-rate-limit-reset": "30"}, 30.0),
        ({"retry-after": "3", "x-ratelimit-reset-requests": "1h"}, 3.0),
        ({"x-ratelimit-remaining-requests": "0"}, None),
    ],
)
def test_headers_of_a_rate_limit(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(429, headers, None) == (seconds if seconds is None else pytest.approx(seconds))


def test_a_limits_reset_says_nothing_about_other_failures() -> None:
    assert asked_wait(500, {"x-ratelimit-reset-requests": "60s"}, None) is None
    assert asked_wait(500, {"retry-after": "60"}, None) == 60.0


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"message": "Rate limit reached for m. Please try again in 1.2s. Visit https://x"}}, 1.2),
        ({"error": {"message": "Limit 100000. Please try again in 6m0s."}}, 360.0),
        ({"error": {"message": "please try again in 120ms"}}, 0.12),
        ({"error": {"message": "Please retry after 20 seconds."}}, 20.0),
        ({"error": {"message": "Please retry in 34.07s.", "details": []}}, 34.07),
        ({"error": {"message": "Quota", "details": [{"@type": "RetryInfo", "retryDelay": "34s"}]}}, 34.0),
        ({"error": {"message": "try again in 2 minutes"}}, 120.0),
        ({"error": {"message": "slow down"}}, None),
        ("try again in a while", None),
        ("retry " * 100_000, None),
        ("try again in " + "1" * 100_000, None),
    ],
)
def test_the_text_of_a_rate_limit(body: Any, seconds: float | None) -> None:
    start = time.process_time()
    assert asked_wait(429, {}, body) == seconds
    assert time.process_time() - start < 0.5


def test_points_in_time() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=100)
    for value in (
        email.utils.formatdate(time.time() + 100, usegmt=True),
        soon.isoformat(),
        soon.strftime("%Y-%m-%dT%H:%M:%SZ"),
        soon.replace(tzinfo=None).isoformat(),
        str(time.time() + 100),
        str(round((time.time() + 100) * 1000)),
    ):
        seconds = seconds_of(value)
        assert seconds is not None, value
        assert 90 < seconds < 100.1, value


@given(st.text(max_size=80))
def test_no_value_is_an_error_or_a_time_without_sense(value: str) -> None:
    seconds = seconds_of(value)
    assert seconds is None or seconds >= 0


def _starts(tokens: list[int], rpm: float | None, tpm: float | None) -> list[float]:
    """Return when requests of so many tokens start that are made one after another."""
    limiter, now, starts = RateLimiter(rpm, tpm), 1000.0, []
    for count in tokens:
        now += limiter.delay(count, now)
        starts.append(now)
    return starts


def test_without_limits_nothing_waits() -> None:
    assert _starts([1000] * 5, None, None) == [1000.0] * 5


def test_requests_are_spread_evenly() -> None:
    assert _starts([1] * 4, 30, None) == [1000.0, 1002.0, 1004.0, 1006.0]


def test_tokens_are_spread_by_their_number() -> None:
    assert _starts([100, 50, 50], None, 600) == [1000.0, 1010.0, 1015.0]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 100), st.integers(500, 5000))
def test_no_minute_holds_more_than_its_share(tokens: list[int], rpm: int, tpm: int) -> None:
    starts = _starts(tokens, rpm, tpm)
    for i, start in enumerate(starts):
        minute = [j for j, at in enumerate(starts) if start <= at < start + 60 - 1e-6 and j >= i]
        assert len(minute) <= rpm
        assert sum(tokens[j] for j in minute[:-1]) <= tpm


def test_tokens_that_were_not_needed_are_given_back() -> None:
    limiter = RateLimiter(None, 60)
    assert limiter.delay(60, 1000.0) == 0.0
    limiter.correct(60, 10)
    assert limiter.delay(1, 1000.0) == pytest.approx(10.0)
