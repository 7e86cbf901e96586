"""The run over HTTP: whatever a server does, answers arrive once and reasons are limited."""

import asyncio
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.generation.scripted_server import (
    Call,
    Reply,
    Script,
    ScriptedServer,
    completion,
    like_vllm,
    marks,
    refusal,
)

from fieldmarks.errors import EndpointError
from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Failure, Outcome, Question, Sample, Usage
from fieldmarks.generation.retrying import RateLimiter, RetryPolicy

PROMPT = Prompt.load("article")
NAMES = [f"class {i}" for i in range(1, 21)]


async def _at_once(seconds: float) -> None:
    await asyncio.sleep(0)


def _completer(server: ScriptedServer, **options: Any) -> EndpointCompleter:
    return EndpointCompleter(server.url, "m", **{"mode": "completions", "sleep": _at_once, **options})


def _ask(completer: EndpointCompleter, names: Sequence[str] = NAMES) -> dict[str, Sample | Failure]:
    async def go() -> dict[str, Sample | Failure]:
        answers: list[Outcome] = []
        async for group in completer.complete(
            Question(name, PROMPT.render(name), PROMPT.stop) for name in names
        ):
            answers += group
        outcomes = {question.name: outcome for question, outcome in answers}
        assert len(outcomes) == len(answers), "a request was answered twice"
        return outcomes

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


@pytest.mark.slow
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
    outcomes = _ask(_completer(server))
    assert outcomes.keys() == set(NAMES)
    assert {outcome.text for outcome in outcomes.values() if isinstance(outcome, Sample)} == {
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
    outcomes = _ask(_completer(server, retry=RetryPolicy(first_attempts=8)))
    assert all(isinstance(outcome, Sample) for outcome in outcomes.values())
    assert len(server.calls) == 2 * len(NAMES)


@pytest.mark.parametrize(
    ("text", "rest", "expected"),
    [
        (rb" red coat\n- smile \ud83d", b"", " red coat\n- smile \ufffd"),
        (rb" red coat \ud83d\ude00", b', "logprobs": NaN', " red coat \U0001f600"),
        (b" caf\xe9 brown", b"", " caf\ufffd brown"),
        (b" red\tcoat", b', "logprobs": [-Infinity, 1e999]', " red\tcoat"),
    ],
    ids=["half an emoji", "NaN", "not UTF-8", "infinity"],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_one_odd_character_costs_no_answer(
    server: ScriptedServer, text: bytes, rest: bytes, expected: str, streamed: bool
) -> None:
    data = b'{"choices": [{"index": 0, "text": "' + text + b'", "finish_reason": "length"' + rest + b"}]}"
    body = b"data: " + data + b"\n\ndata: [DONE]\n\n" if streamed else data
    server.script = lambda _: Reply(body)
    answer = _ask(_completer(server), ["fox"])["fox"]
    assert isinstance(answer, Sample)
    assert answer.text == f"-{expected}"
    assert len(server.calls) == 1


@pytest.mark.parametrize("body", [b"[" * 100_000 + b"NaN", b'{"a":' * 100_000 + b"NaN", b'{"choices": NaN'])
def test_what_is_no_json_in_spite_of_all_leniency_is_told(server: ScriptedServer, body: bytes) -> None:
    server.script = lambda _: Reply(body)
    with pytest.raises(EndpointError, match=r"not JSON|more than"):
        _ask(_completer(server), ["fox"])


@pytest.mark.slow
def test_a_server_that_hangs_is_left_and_asked_again(server: ScriptedServer) -> None:
    server.script = _once(replace(GOOD, delay=60))
    outcomes = _ask(_completer(server, timeout=0.5), NAMES[:3])
    assert all(isinstance(outcome, Sample) for outcome in outcomes.values())


def test_one_poisoned_class_does_not_stop_the_others(server: ScriptedServer) -> None:
    server.script = _only(refusal(500, "model crashed"), "class 7")
    outcomes = _ask(_completer(server, concurrency=2, retry=RetryPolicy(attempts=3)))
    assert outcomes.pop("class 7") == Failure("status 500: model crashed (3 attempts)")
    assert all(isinstance(outcome, Sample) for outcome in outcomes.values())


def test_the_first_class_may_be_the_refused_one(server: ScriptedServer) -> None:
    server.script = _only(refusal(400, "this prompt is too long"), "class 1")
    outcomes = _ask(_completer(server, concurrency=1))
    assert outcomes.pop("class 1") == Failure("status 400: this prompt is too long")
    assert all(isinstance(outcome, Sample) for outcome in outcomes.values())


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_class_is_not_asked_again(server: ScriptedServer, status: int) -> None:
    server.script = _only(refusal(status, "this prompt is too long"), "class 7")
    outcomes = _ask(_completer(server, concurrency=1))
    assert outcomes.pop("class 7") == Failure(f"status {status}: this prompt is too long")
    assert len(server.calls) == len(NAMES)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            refusal(401, "Incorrect API key"),
            "status 401: Incorrect API key: check OPENAI_API_KEY or --header",
        ),
        (refusal(402, "No credit"), "status 402: No credit: add credit to the account"),
        (
            refusal(403, "Not yours"),
            "status 403: Not yours: check that the key may use this model from your location",
        ),
        (refusal(404, "No such model"), "status 404: No such model: check --model and --base-url"),
        (refusal(400, "Bad model"), "status 400: Bad model"),
        (
            refusal(429, "Pay first", code="insufficient_quota"),
            "status 429: Pay first: add credit to the account",
        ),
        (
            Reply(b"<!doctype html>", headers={"Content-Type": "text/html; charset=utf-8"}),
            "the reply is a web page: check --base-url, which often ends in /v1",
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
    assert str(refused.value) == f"{server.url}: {message}"
    assert len(server.calls) <= 8


def _answers_before(completer: EndpointCompleter, names: Sequence[str] = NAMES) -> tuple[list[Outcome], str]:
    """Return the outcomes that come before an endpoint is given up, and why it is."""
    outcomes: list[Outcome] = []

    async def go() -> None:
        async for group in completer.complete(Question(name, PROMPT.render(name)) for name in names):
            outcomes.extend(group)

    with pytest.raises(EndpointError) as refused:
        asyncio.run(go())
    return outcomes, str(refused.value)


REFUSALS = [
    refusal(401, "revoked"),
    refusal(403, "not this one"),
    refusal(404, "gone"),
    refusal(405, "no"),
    Reply(b"", 302, {"Location": "http://elsewhere/v1"}),
    Reply(b"<html>log in</html>", headers={"Content-Type": "text/html"}),
    Reply(gzip.compress(b" " * (9 << 20)), headers={"Content-Encoding": "gzip"}),
]


@pytest.mark.parametrize("fault", REFUSALS, ids=lambda reply: str(reply.status))
def test_a_single_refusal_after_good_answers_fails_one_request(server: ScriptedServer, fault: Reply) -> None:
    server.script = lambda call: fault if call.number == 10 else marks(call)
    outcomes = _ask(_completer(server, concurrency=3))
    assert len(server.calls) == len(NAMES), "a refusal was asked again"
    assert sum(isinstance(outcome, Failure) for outcome in outcomes.values()) == 1


def test_refusals_among_answers_do_not_add_up(server: ScriptedServer) -> None:
    server.script = lambda call: refusal(404, "no") if call.number % 3 != 1 else marks(call)
    outcomes = _ask(_completer(server, concurrency=1), [f"class {i}" for i in range(60)])
    assert sum(isinstance(outcome, Sample) for outcome in outcomes.values()) == 20


@pytest.mark.parametrize(("concurrency", "failures"), [(1, 2), (3, 2), (8, 7)])
def test_a_key_revoked_midway_ends_the_run_and_keeps_what_was_answered(
    server: ScriptedServer, concurrency: int, failures: int
) -> None:
    revoked = replace(refusal(401, "revoked"), delay=0.2)  # after the answers that are under way
    server.script = lambda call: marks(call) if call.number <= 10 else revoked
    outcomes, reason = _answers_before(_completer(server, concurrency=concurrency))
    answers = [outcome for _, outcome in outcomes if isinstance(outcome, Sample)]
    assert len(answers) == 10
    assert len(outcomes) <= 10 + failures
    assert reason == (
        f"{server.url}: {failures + 1} requests in a row got no answer; the last: status 401: revoked: "
        "check OPENAI_API_KEY or --header"
    )


@pytest.mark.parametrize(
    "fault",
    [
        refusal(402, "Pay"),
        refusal(429, "Pay", code="insufficient_quota"),
        refusal(400, "Your credit balance is too low to access the API."),
        Reply({"error": {"message": "Pay", "code": "insufficient_quota"}}),
        Reply({"error": {"message": "Pay", "code": 402}}),
    ],
)
def test_without_credit_the_run_ends_at_once(server: ScriptedServer, fault: Reply) -> None:
    server.script = lambda call: marks(call) if call.number <= 5 else fault
    outcomes, reason = _answers_before(_completer(server, concurrency=1))
    assert len(outcomes) == 5
    assert len(server.calls) == 6
    assert reason.endswith("add credit to the account")


@pytest.mark.slow
def test_what_is_on_the_wire_is_waited_for_when_the_run_ends(server: ScriptedServer) -> None:
    """The last answers take longer than any before."""

    def script(call: Call) -> Reply:
        if call.number <= 5:
            return GOOD
        return refusal(402, "Pay") if call.number == 9 else replace(GOOD, delay=1.0)

    server.script = script
    outcomes, reason = _answers_before(_completer(server, concurrency=4))
    assert len(outcomes) == len(server.calls) - 1
    assert len(outcomes) >= 8
    assert "status 402: Pay" in reason


def test_what_waits_for_a_retry_is_not_waited_for_when_the_run_ends(server: ScriptedServer) -> None:
    def script(call: Call) -> Reply:
        if call.number == 2:
            return replace(refusal(429, "slow down"), headers={"Retry-After": "300"})
        return refusal(402, "Pay") if call.number == 6 else GOOD

    server.script = script
    start = time.monotonic()
    outcomes, _ = _answers_before(_completer(server, concurrency=2, sleep=asyncio.sleep))
    assert time.monotonic() - start < 30
    assert len(outcomes) == len(server.calls) - 2


def test_a_server_that_is_not_there_is_told_soon() -> None:
    with ScriptedServer() as gone:
        url = gone.url
    completer = EndpointCompleter(url, "m", mode="completions", sleep=_at_once)
    with pytest.raises(EndpointError) as refused:
        _ask(completer)
    advice = "start the server, or check host and port in --base-url"
    assert str(refused.value) == f"{url}: connection refused (3 attempts): {advice}"


def test_a_server_that_goes_down_stops_the_run(server: ScriptedServer) -> None:
    server.script = lambda call: marks(call) if call.number <= 5 else replace(GOOD, reset_after=0)
    with pytest.raises(
        EndpointError, match="3 requests in a row got no answer; the last: the connection was"
    ):
        _ask(_completer(server, concurrency=2, retry=RetryPolicy(attempts=3)))
    assert len(server.calls) < 30


def test_a_wait_longer_than_allowed_ends_the_run(server: ScriptedServer) -> None:
    tomorrow = replace(refusal(429, "come tomorrow"), headers={"Retry-After": "86400"})
    server.script = lambda call: marks(call) if call.number <= 5 else tomorrow
    with pytest.raises(EndpointError) as refused:
        _ask(_completer(server, concurrency=1))
    wait = "status 429: come tomorrow: the server asked us to wait 86400 s; --max-wait is 600 s"
    assert str(refused.value) == f"{server.url}: {wait}"
    assert len(server.calls) == 6


def test_waits_are_told_but_not_each(server: ScriptedServer, news: list[str]) -> None:
    server.script = _once(replace(refusal(429, "slow down"), headers={"Retry-After": "7"}))
    _ask(_completer(server))
    assert news == ["server asked us to wait 7 s (status 429: slow down)"]


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "40"}, {"X-RateLimit-Reset-Requests": "40s"}, {"X-RateLimit-Reset-Tokens": "0m40s"}],
)
@pytest.mark.parametrize("mode", ["completions", "auto"])
def test_a_rate_limit_on_the_first_request_is_waited_out(
    server: ScriptedServer, headers: dict[str, str], mode: str
) -> None:
    """While probing, too."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    limited = replace(refusal(429, "slow down"), headers=headers)
    server.script = lambda call: limited if call.number <= 4 else like_vllm(call)
    outcomes = _ask(_completer(server, mode=mode, sleep=sleep, concurrency=1), ["fox"])
    assert isinstance(outcomes["fox"], Sample)
    assert len(waits) == 4
    assert all(40 <= wait <= 41 for wait in waits)


@pytest.mark.slow
@pytest.mark.parametrize("wait", ["0", "-5", "0.001", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_rate_limit_that_asks_for_no_wait_ends(server: ScriptedServer, wait: str) -> None:
    limited = replace(refusal(429, "slow down"), headers={"Retry-After": wait})
    server.script = lambda call: limited if "a class 7 in" in call.text else marks(call)
    outcomes = _ask(_completer(server, concurrency=1))
    assert outcomes.pop("class 7") == Failure("status 429: slow down (8 attempts)")
    assert len(server.calls) == len(NAMES) - 1 + 8


@pytest.mark.slow
def test_requests_that_wait_to_be_sent_again_are_counted(server: ScriptedServer) -> None:
    server.script = _once(refusal(500, "again"))
    counts: list[int] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0.05)
        counts.append(completer.retrying)

    completer = _completer(server, concurrency=4, sleep=sleep)
    _ask(completer)
    assert max(counts) > 1
    assert max(counts) <= 4
    assert completer.retrying == 0


@pytest.mark.slow
def test_the_slowest_answer_is_measured_without_waits(server: ScriptedServer) -> None:
    def script(call: Call) -> Reply:
        if call.number <= 3:
            return replace(refusal(429, "no"), headers={"Retry-After": "0.6"}, delay=0.01)
        return replace(GOOD, delay=0.3 if call.number == 10 else 0.0)

    server.script = script
    completer = _completer(server, concurrency=1, sleep=asyncio.sleep)
    assert (completer.slowest, completer.window, completer.timeout) == (0.0, 1, 120.0)
    _ask(completer)
    assert 0.3 <= completer.slowest < 0.55


def _drained(
    completer: EndpointCompleter, when: Callable[[int], bool], names: Sequence[str] = NAMES
) -> list[Outcome]:
    """Return the outcomes where the completer is drained, twice, once `when` says so of their number."""

    async def go() -> list[Outcome]:
        outcomes: list[Outcome] = []

        async def watch() -> None:
            while not when(len(outcomes)):
                await asyncio.sleep(0.01)
            completer.drain()
            completer.drain()

        watching = asyncio.create_task(watch())
        async for group in completer.complete(Question(name, PROMPT.render(name)) for name in names):
            outcomes.extend(group)
        await watching
        async for group in completer.complete(Question(name, PROMPT.render(name)) for name in names):
            pytest.fail(f"sent after draining: {group}")
        return outcomes

    return asyncio.run(go())


@pytest.mark.slow
def test_draining_yields_what_is_on_the_wire_and_sends_nothing_more(server: ScriptedServer) -> None:
    server.script = lambda _: replace(GOOD, delay=0.3)
    outcomes = _drained(_completer(server, concurrency=4), lambda count: len(server.calls) >= 6)
    assert len(outcomes) == len(server.calls) < len(NAMES)
    assert all(isinstance(outcome, Sample) for _, outcome in outcomes)


@pytest.mark.slow
def test_draining_drops_what_waits_for_a_retry(server: ScriptedServer) -> None:
    limited = replace(refusal(429, "slow down"), headers={"Retry-After": "300"})
    server.script = lambda call: limited if call.number % 2 else replace(GOOD, delay=0.2)
    completer = _completer(server, concurrency=4, sleep=asyncio.sleep)
    start = time.monotonic()
    outcomes = _drained(completer, lambda _: completer.retrying == 4)
    assert time.monotonic() - start < 30
    assert completer.retrying == 0
    assert all(isinstance(outcome, Sample) for _, outcome in outcomes)
    assert len(outcomes) == sum(call.number % 2 == 0 for call in server.calls)


def test_draining_drops_what_waits_for_the_rate_limit(server: ScriptedServer) -> None:
    completer = _completer(server, limiter=RateLimiter(rpm=1), sleep=asyncio.sleep)
    outcomes = _drained(completer, lambda count: count == 1)
    assert (len(outcomes), len(server.calls)) == (1, 1)


@pytest.mark.slow
def test_draining_drops_a_failure_that_would_have_been_tried_again(server: ScriptedServer) -> None:
    server.script = lambda _: replace(refusal(500, "oops"), delay=0.3)
    assert _drained(_completer(server, concurrency=2), lambda _: len(server.calls) == 2) == []
    assert len(server.calls) == 2


def test_draining_abandons_probing(server: ScriptedServer) -> None:
    server.script = lambda _: replace(GOOD, delay=60)
    start = time.monotonic()
    assert _drained(_completer(server, mode="auto"), lambda _: len(server.calls) == 1) == []
    assert time.monotonic() - start < 30


def test_a_drained_completer_serves_a_later_run(server: ScriptedServer) -> None:
    completer = _completer(server)
    _drained(completer, lambda count: count > 0)
    assert len(_ask(completer)) == len(NAMES)


def test_rounds_share_what_was_learned(server: ScriptedServer) -> None:
    def script(call: Call) -> Reply:
        return marks(call) if "temperature" not in call.body else refusal(400, "temperature is not supported")

    server.script = script
    completer = _completer(server, concurrency=1)

    async def go() -> None:
        for name in ("fox", "owl"):
            async for _ in completer.complete([Question(name, PROMPT.render(name))]):
                pass

    asyncio.run(go())
    assert ["temperature" in call.body for call in server.calls] == [True, False, False]


def test_requests_that_come_later_are_sent(server: ScriptedServer) -> None:
    """An iterator may run dry while answers are under way, and go on once they are in."""
    ready = [Question("fox", PROMPT.render("fox"))]

    class Requests:
        def __iter__(self) -> "Requests":
            return self

        def __next__(self) -> Question:
            if not ready:
                raise StopIteration
            return ready.pop()

    async def go() -> list[str]:
        names = []
        async for group in _completer(server).complete(Requests()):
            names += [question.name for question, _ in group]
            if len(names) < 3:
                ready.append(Question(f"class {len(names)}", PROMPT.render("owl")))
        return names

    assert asyncio.run(go()) == ["fox", "class 1", "class 2"]


def test_an_error_of_our_own_is_not_swallowed(server: ScriptedServer) -> None:
    async def sleep(seconds: float) -> None:
        raise ZeroDivisionError(seconds)

    server.script = _once(replace(refusal(429, "slow down"), headers={"Retry-After": "7"}))
    with pytest.raises(ZeroDivisionError):
        _ask(_completer(server, sleep=sleep))


@pytest.mark.slow
def test_an_answer_that_drips_forever_is_left(server: ScriptedServer) -> None:
    slow = Reply(b" " * 100_000 + GOOD.data(), drip=True)
    server.script = _once(slow)
    start = time.monotonic()
    assert isinstance(_ask(_completer(server, timeout=0.4), ["fox"])["fox"], Sample)
    assert 0.4 <= time.monotonic() - start < 30


@pytest.mark.slow
def test_no_more_than_the_allowed_number_is_under_way(server: ScriptedServer) -> None:
    server.script = lambda _: replace(GOOD, delay=0.05)
    pulled = 0

    def requests() -> Any:
        nonlocal pulled
        for name in NAMES:
            pulled += 1
            yield Question(name, PROMPT.render(name))

    async def go() -> int:
        most = dealt_with = 0
        async for outcomes in _completer(server, concurrency=3).complete(requests()):
            await asyncio.sleep(0.3)  # time for several answers of every lane
            most = max(most, pulled - dealt_with)
            dealt_with += len(outcomes)
        return most

    assert 3 < asyncio.run(go()) <= 4 * 3, "lanes go on while answers are dealt with, and stop in time"
    assert server.connections <= 3


@pytest.mark.slow
def test_no_more_connections_than_allowed_where_answers_take_their_time(server: ScriptedServer) -> None:
    server.script = lambda call: replace(GOOD, delay=call.number * 7 % 10 / 100)
    names = [f"class {i}" for i in range(60)]
    assert len(_ask(_completer(server, concurrency=6), names)) == 60
    assert server.connections <= 6


@pytest.mark.slow
@pytest.mark.parametrize(
    "reply",
    [
        completion("- a" * 500_000),
        Reply(gzip.compress(gzip.compress(b" " * (50 << 20))), headers={"Content-Encoding": "gzip, gzip"}),
        Reply(gzip.compress(b" " * (50 << 20)), headers={"Content-Encoding": "gzip"}),
    ],
    ids=["plain", "gzip in gzip", "gzip"],
)
def test_a_replys_size_is_bounded(server: ScriptedServer, reply: Reply) -> None:
    server.script = lambda _: reply
    with pytest.raises(EndpointError, match="the reply is larger than any answer can be"):
        _ask(_completer(server))


def test_a_long_answer_is_read(server: ScriptedServer) -> None:
    server.script = lambda _: completion("x" * 1_000_000)
    assert isinstance(_ask(_completer(server), ["fox"])["fox"], Sample)


def _events(text: str) -> bytes:
    """A stream of the text's letters, as a server of raw completions and of chats sends it."""
    events: list[dict[str, Any]] = [{"choices": [{"text": c, "delta": {"content": c}}]} for c in text]
    events.append({"choices": [{"text": "", "delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    return (
        b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    )


@pytest.mark.parametrize("mode", ["completions", "instruct"])
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_a_server_that_streams_unasked_is_read(server: ScriptedServer, mode: str, kind: str) -> None:
    server.script = lambda _: Reply(_events("- green skin\n"), headers={"Content-Type": kind})
    answer = _ask(_completer(server, mode=mode), ["fox"])["fox"]
    assert isinstance(answer, Sample)
    assert (answer.text, answer.finish_reason) == ("- green skin\n", "stop")
    assert answer.usage == Usage(7, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "This model only support stream mode, please enable the stream parameter to access the model.",
        "Stream must be set to true",
    ],
)
@pytest.mark.parametrize("options", [True, False], ids=["with usage", "without stream_options"])
def test_a_server_that_only_streams_is_asked_to(server: ScriptedServer, words: str, options: bool) -> None:
    def script(call: Call) -> Reply:
        if call.body.get("stream") is not True:
            return refusal(400, words)
        if "stream_options" in call.body and not options:
            return refusal(400, "Unrecognized request argument supplied: stream_options")
        return Reply(_events("- green skin\n"), headers={"Content-Type": "text/event-stream"})

    server.script = script
    outcomes = _ask(_completer(server, concurrency=1))
    assert {outcome.text for outcome in outcomes.values() if isinstance(outcome, Sample)} == {
        "- green skin\n"
    }
    assert len(outcomes) == len(NAMES)
    assert len(server.calls) == len(NAMES) + (1 if options else 2)


def test_limits_a_minute_are_kept_for_retries_too(server: ScriptedServer) -> None:
    server.script = _once(refusal(500, "again"))
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    _ask(_completer(server, limiter=RateLimiter(rpm=6), sleep=sleep, concurrency=1), NAMES[:5])
    assert len(server.calls) == 10
    assert sum(wait > 5 for wait in waits) == 9


def test_hostile_urls_and_keys_are_one_clear_error(server: ScriptedServer) -> None:
    for url in ("nonsense", "ftp://x/v1", "http://", "http://[::1", "http://x:99999/v1", "http://x:0"):
        with pytest.raises(EndpointError, match="write it like http://localhost:8000/v1"):
            _ask(EndpointCompleter(url, "m", mode="completions", sleep=_at_once), ["fox"])
    with pytest.raises(EndpointError, match="OPENAI_API_KEY contains"):
        _ask(EndpointCompleter(server.url, "m", "schlüssel\n", mode="completions", sleep=_at_once), ["fox"])


@pytest.mark.slow
def test_a_server_that_limits_fails_and_resets_is_outlasted(server: ScriptedServer) -> None:
    limited: dict[str, float] = {}
    early: list[float] = []

    def script(call: Call) -> Reply:
        if call.text in limited:
            early.append(call.at - limited.pop(call.text))
        if call.number % 3 == 0:
            limited[call.text] = time.monotonic()
            return replace(refusal(429, "slow down"), headers={"Retry-After": "1"})
        if call.number % 7 == 0:
            return refusal(500, "oops")
        return replace(GOOD, reset_after=9) if call.number % 11 == 0 else GOOD

    server.script = script
    outcomes = _ask(
        _completer(server, concurrency=64, sleep=asyncio.sleep), [f"class {i}" for i in range(200)]
    )
    assert len(outcomes) == 200
    assert all(isinstance(outcome, Sample) for outcome in outcomes.values())
    assert len(early) > 50
    assert min(early) >= 1.0
    answered: dict[str, int] = defaultdict(int)
    for call in server.calls:
        answered[call.text] += call.number % 3 != 0 and call.number % 7 != 0 and call.number % 11 != 0
    assert set(answered.values()) == {1}, "an answered class was asked again"
