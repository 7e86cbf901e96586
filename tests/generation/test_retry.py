"""Waiting is obeyed, patience has an end."""

import asyncio
import email.utils
import time
from collections.abc import Awaitable

import pytest

from fieldmarks.generation.retry import SPREAD, RetryPolicy, Transient, retry_after


class Clock:
    """Records the waits instead of waiting."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> Awaitable[None]:
        self.waits.append(seconds)
        return asyncio.sleep(0)


def _run(errors: list[Transient], policy: RetryPolicy, *, met: bool = True) -> tuple[int, list[float], str]:
    """Return how often was sent, the waits, and what came of it, where the errors come before an answer."""
    clock, sent = Clock(), 0

    async def send() -> str:
        nonlocal sent
        sent += 1
        if sent <= len(errors):
            raise errors[sent - 1]
        return "answer"

    async def go() -> str:
        try:
            return await policy.run(send, clock.sleep, lambda: met)
        except Transient as error:
            return f"failed: {error}"

    outcome = asyncio.run(go())
    return sent, clock.waits, outcome


def test_an_answer_at_once_waits_for_nothing() -> None:
    assert _run([], RetryPolicy())[2] == "answer"


def test_faults_are_waited_out_ever_longer() -> None:
    _, waits, outcome = _run([Transient("500")] * 5, RetryPolicy(first_wait=1, longest_wait=6))
    assert outcome == "answer"
    assert len(waits) == 5
    assert all(base <= wait <= base + 1 for base, wait in zip([1, 2, 4, 6, 6], waits, strict=True))


def test_patience_with_faults_ends() -> None:
    assert _run([Transient("500")] * 99, RetryPolicy(attempts=3))[0] == 3
    assert _run([Transient("500")] * 99, RetryPolicy(attempts=9, first_attempts=2), met=False)[0] == 2


def test_being_told_to_wait_is_obeyed_and_no_fault() -> None:
    _, waits, outcome = _run([Transient("429", 90.0)] * 6, RetryPolicy(attempts=2))
    assert outcome == "answer"
    assert all(90 <= wait <= 90 + SPREAD for wait in waits)


def test_being_told_to_wait_longer_than_allowed_ends_it() -> None:
    assert _run([Transient("429", 601.0)], RetryPolicy(max_wait=600)) == (1, [], "failed: 429")
    assert _run([Transient("429", 250.0)] * 9, RetryPolicy(max_wait=600))[0] == 3


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
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
    ],
)
def test_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_to_come_back_at() -> None:
    seconds = retry_after({"retry-after": email.utils.formatdate(time.time() + 100, usegmt=True)})
    assert seconds is not None
    assert 97 < seconds <= 100


def test_a_date_that_no_calendar_has_is_no_time_to_wait() -> None:
    assert retry_after({"retry-after": "Wed, 21 Oct 99999999999 07:28:00 GMT"}) is None
