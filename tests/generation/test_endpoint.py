"""The run over HTTP: whatever a server does, answers arrive once and reasons are told."""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fieldmarks.generation.pace import Pace
from fieldmarks.generation.retry import RetryPolicy
from tests.generation.scripted_server import (
    Call,
    Reply,
    Script,
    ScriptedServer,
    completion,
    marks,
    refusal,
)

from fieldmarks.errors import EndpointError
from fieldmarks.generation.completer import Completion, Failure, Outcome, Request
from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.templates import Prompt

PROMPT = Prompt.load("article")
NAMES = [f"class {i}" for i in range(1, 21)]


async def _at_once(seconds: float) -> None:
    await asyncio.sleep(0)


def _completer(server: ScriptedServer, **options: Any) -> EndpointCompleter:
    return EndpointCompleter(server.url, "m", **{"mode": "completions", "sleep": _at_once, **options})


def _ask(completer: EndpointCompleter, names: Sequence[str] = NAMES) -> dict[str, Completion | Failure]:
    async def go() -> dict[str, Completion | Failure]:
        answers: list[Outcome] = []
        async for outcomes in completer.complete(
            Request(name, PROMPT.render(name), PROMPT.stop) for name in names
        ):
            answers += outcomes
        found = {request.name: outcome for request, outcome in answers}
        assert len(found) == len(answers), "a request was answered twice"
        return found

    return asyncio.run(go())


def _once(first: Reply) -> Script:
    """Each prompt is answered so the first time, then well."""
    seen: set[str] = set()

    def script(call: Call) -> Reply:
        if call.text in seen:
            return marks(call)
        seen.add(call.text)
        return first

    return script


def _only(fault: Reply, name: str) -> Script:
    return lambda call: fault if f"a {name} in" in call.text else marks(call)


GOOD = marks(Call(0, "", {}, {}, 0.0))


@pytest.mark.parametrize(
    "reply",
    [
        replace(GOOD, packed=True),
        replace(GOOD, drip=True),
        replace(GOOD, headers={"Content-Type": "text/plain"}),
    ],
    ids=["gzip", "one byte at a time", "wrong content type"],
)
def test_answers_of_any_wrapping_are_read(server: ScriptedServer, reply: Reply) -> None:
    server.script = lambda _: reply
    found = _ask(_completer(server))
    assert found.keys() == set(NAMES)
    assert {one.text for one in found.values() if isinstance(one, Completion)} == {
        "- green skin\n- large round eyes\n- long legs\n"
    }


@pytest.mark.parametrize(
    "fault",
    [
        refusal(408, "timeout"),
        refusal(409, "conflict"),
        refusal(429, "slow down"),
        replace(refusal(429, "slow down"), headers={"Retry-After-Ms": "20"}),
        refusal(500, "oops"),
        Reply(b"", status=502),
        Reply(b"<html>bad gateway</html>", status=503, headers={"Content-Type": "text/html"}),
        refusal(529, "overloaded"),
        replace(GOOD, reset_after=0),
        replace(GOOD, reset_after=30),
        Reply(b'{"choices": [{"text": "- gre'),
        Reply(b"not json"),
        Reply({"choices": []}),
        Reply({"error": {"message": "upstream failed"}}),
        Reply(b""),
    ],
    ids=lambda reply: f"{reply.status} {reply.data()[:20]!r} {reply.reset_after}",
)
def test_what_may_pass_is_asked_again(server: ScriptedServer, fault: Reply) -> None:
    server.script = _once(fault)
    found = _ask(_completer(server, retry=RetryPolicy(first_attempts=8)))
    assert all(isinstance(one, Completion) for one in found.values())
    assert len(server.calls) == 2 * len(NAMES)


def test_a_server_that_hangs_is_left_and_asked_again(server: ScriptedServer) -> None:
    server.script = _once(replace(GOOD, delay=60))
    found = _ask(_completer(server, timeout=0.5), NAMES[:3])
    assert all(isinstance(one, Completion) for one in found.values())


def test_one_poisoned_class_does_not_stop_the_others(server: ScriptedServer) -> None:
    server.script = _only(refusal(500, "model crashed"), "class 7")
    found = _ask(_completer(server, concurrency=2, retry=RetryPolicy(attempts=3)))
    assert found.pop("class 7") == Failure("status 500: model crashed")
    assert all(isinstance(one, Completion) for one in found.values())


def test_the_first_class_may_be_the_refused_one(server: ScriptedServer) -> None:
    server.script = _only(refusal(400, "this prompt is too long"), "class 1")
    found = _ask(_completer(server, concurrency=1))
    assert found.pop("class 1") == Failure("status 400: this prompt is too long")
    assert all(isinstance(one, Completion) for one in found.values())


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_class_is_not_asked_again(server: ScriptedServer, status: int) -> None:
    server.script = _only(refusal(status, "this prompt is too long"), "class 7")
    found = _ask(_completer(server, concurrency=1))
    assert found.pop("class 7") == Failure(f"status {status}: this prompt is too long")
    assert len(server.calls) == len(NAMES)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (refusal(401, "Incorrect API key"), "answers 401 (Incorrect API key): check OPENAI_API_KEY"),
        (refusal(402, "No credit"), "answers 402 (No credit): the account has no money left"),
        (
            refusal(403, "Not yours"),
            "answers 403 (Not yours): the key may not use this model, or not from here",
        ),
        (refusal(404, "No such model"), "refuses: status 404: No such model: check --model and --base-url"),
        (refusal(400, "Bad model"), "refuses: status 400: Bad model: see what the server wants"),
        (refusal(429, "Pay first", code="insufficient_quota"), "answers 429: Pay first"),
        (
            Reply(b"<!doctype html>", headers={"Content-Type": "text/html; charset=utf-8"}),
            "answers with a web page: check --base-url, which often ends in /v1",
        ),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_a_wrong_key_or_model_stops_the_run_at_once(
    server: ScriptedServer, reply: Reply, message: str
) -> None:
    server.script = lambda _: reply
    with pytest.raises(EndpointError) as refused:
        _ask(_completer(server, concurrency=4))
    assert str(refused.value) == f"{server.url} {message}"
    assert len(server.calls) <= 8


def test_a_key_revoked_midway_keeps_what_was_answered(server: ScriptedServer) -> None:
    server.script = lambda call: marks(call) if call.number <= 10 else refusal(401, "revoked")
    answered: list[Outcome] = []

    async def go() -> None:
        requests = (Request(name, PROMPT.render(name)) for name in NAMES)
        async for outcomes in _completer(server, concurrency=3).complete(requests):
            answered.extend(outcomes)

    with pytest.raises(EndpointError, match="revoked"):
        asyncio.run(go())
    assert len(answered) == 10


def test_a_server_that_is_not_there_is_told_soon() -> None:
    with ScriptedServer() as gone:
        url = gone.url
    completer = EndpointCompleter(url, "m", mode="completions", sleep=_at_once)
    with pytest.raises(EndpointError, match=rf"^{url} gives no answer: no connection: "):
        _ask(completer)


def test_a_server_that_goes_down_stops_the_run(server: ScriptedServer) -> None:
    server.script = lambda call: marks(call) if call.number <= 5 else replace(GOOD, reset_after=0)
    with pytest.raises(EndpointError, match="gives no answer: no connection"):
        _ask(_completer(server, concurrency=2, retry=RetryPolicy(attempts=3)))
    assert len(server.calls) < 30


def test_a_wait_longer_than_allowed_ends_the_run(server: ScriptedServer) -> None:
    tomorrow = replace(refusal(429, "come tomorrow"), headers={"Retry-After": "86400"})
    server.script = lambda call: marks(call) if call.number <= 5 else tomorrow
    with pytest.raises(EndpointError) as refused:
        _ask(_completer(server, concurrency=1))
    wait = "asks to wait 86400 s, longer than the 600 s allowed (status 429: come tomorrow)"
    assert str(refused.value) == f"{server.url} {wait}"
    assert len(server.calls) == 6


def test_waits_are_told_but_not_each(server: ScriptedServer) -> None:
    server.script = _once(replace(refusal(429, "slow down"), headers={"Retry-After": "7"}))
    said: list[str] = []
    _ask(_completer(server, tell=said.append))
    assert said == ["told to wait 7 s (status 429: slow down)"]


def test_an_error_of_our_own_is_not_swallowed(server: ScriptedServer) -> None:
    def tell(message: str) -> None:
        raise ZeroDivisionError(message)

    server.script = _once(replace(refusal(429, "slow down"), headers={"Retry-After": "7"}))
    with pytest.raises(ZeroDivisionError):
        _ask(_completer(server, tell=tell))


def test_an_answer_that_drips_forever_is_left(server: ScriptedServer) -> None:
    slow = Reply(b" " * 100_000 + GOOD.data(), drip=True)
    server.script = _once(slow)
    start = time.monotonic()
    assert isinstance(_ask(_completer(server, timeout=0.4), ["fox"])["fox"], Completion)
    assert 0.4 <= time.monotonic() - start < 5


def test_no_more_than_the_allowed_number_is_under_way(server: ScriptedServer) -> None:
    server.script = lambda _: replace(GOOD, delay=0.05)
    pulled = 0

    def requests() -> Any:
        nonlocal pulled
        for name in NAMES:
            pulled += 1
            yield Request(name, PROMPT.render(name))

    async def go() -> int:
        most = dealt_with = 0
        async for outcomes in _completer(server, concurrency=3).complete(requests()):
            most = max(most, pulled - dealt_with)
            dealt_with += len(outcomes)
        return most

    assert asyncio.run(go()) == 3


def test_no_more_connections_than_allowed_where_answers_take_their_time(server: ScriptedServer) -> None:
    server.script = lambda call: replace(GOOD, delay=call.number * 7 % 10 / 100)
    names = [f"class {i}" for i in range(60)]
    assert len(_ask(_completer(server, concurrency=6), names)) == 60
    assert server.connections <= 6


def test_a_replys_size_is_bounded(server: ScriptedServer) -> None:
    server.script = lambda _: completion("- a" * 500_000)
    with pytest.raises(EndpointError, match="the endpoint sends more than any answer can hold"):
        _ask(_completer(server))
    server.script = lambda _: completion("x" * 1_000_000)
    assert isinstance(_ask(_completer(server), ["fox"])["fox"], Completion)


def test_a_compressed_replys_size_is_bounded_harder(server: ScriptedServer) -> None:
    server.script = lambda _: Reply(os.urandom(200_000), packed=True)
    with pytest.raises(EndpointError, match="the endpoint sends more than any answer can hold"):
        _ask(_completer(server), ["fox"])


def test_limits_a_minute_are_kept_for_retries_too(server: ScriptedServer) -> None:
    server.script = _once(refusal(500, "again"))
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        await asyncio.sleep(0)

    pace = Pace(rpm=60, sleep=sleep, clock=lambda: now)
    _ask(_completer(server, pace=pace, concurrency=1), NAMES[:10])
    assert now >= 19.0


def test_hostile_urls_and_keys_are_one_clear_error(server: ScriptedServer) -> None:
    for url in ("nonsense", "ftp://x/v1", "http://", "http://[::1", "http://x:99999/v1", "http://x:0"):
        with pytest.raises(EndpointError, match="write it like http://localhost:8000/v1"):
            _ask(EndpointCompleter(url, "m", mode="completions", sleep=_at_once), ["fox"])
    with pytest.raises(EndpointError, match="OPENAI_API_KEY holds"):
        _ask(EndpointCompleter(server.url, "m", "schlüssel\n", mode="completions", sleep=_at_once), ["fox"])


@pytest.mark.slow
def test_a_server_that_limits_fails_and_resets_is_outlasted(server: ScriptedServer) -> None:
    told: dict[str, float] = {}
    early: list[float] = []

    def script(call: Call) -> Reply:
        if call.text in told:
            early.append(call.at - told.pop(call.text))
        if call.number % 3 == 0:
            told[call.text] = time.monotonic()
            return replace(refusal(429, "slow down"), headers={"Retry-After": "2"})
        if call.number % 7 == 0:
            return refusal(500, "oops")
        return replace(GOOD, reset_after=9) if call.number % 11 == 0 else GOOD

    server.script = script
    found = _ask(_completer(server, concurrency=64, sleep=asyncio.sleep), [f"class {i}" for i in range(200)])
    assert len(found) == 200
    assert all(isinstance(one, Completion) for one in found.values())
    assert len(early) > 50
    assert min(early) >= 2.0
    answered: dict[str, int] = defaultdict(int)
    for call in server.calls:
        answered[call.text] += call.number % 3 != 0 and call.number % 7 != 0 and call.number % 11 != 0
    assert set(answered.values()) == {1}, "an answered class was asked again"
