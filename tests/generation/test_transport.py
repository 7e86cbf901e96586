"""One exchange over the wire: what is sent, what comes back without secrets, why it failed."""

import asyncio
import base64
import gzip
import json
import logging
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.generation.scripted_server import Reply, ScriptedServer, chat, completion, marks, refusal

from fieldmarks.errors import EndpointError
from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.failures import Failed, OutOfCredit, Refused, Transient, message
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Questions
from fieldmarks.generation.run import fill
from fieldmarks.generation.transport import Transport
from fieldmarks.paths import user_cache
from fieldmarks.store import Store

ARTICLE = Questions(Prompt.load("article"), "m")
KEY = "sk-very-secret-key-0123456789"
PASSWORD = "pass/word&50%"
HEADER = "hush-hush-header"
SIGNATURE = "sig/na+ture=99"


def _exchange(
    url: str,
    do: Callable[[Transport], Awaitable[Any]] = lambda transport: transport.post("/completions", {}),
    **options: Any,
) -> Any:
    async def go() -> Any:
        async with Transport(url, options.pop("key", None), timeout=5, connections=1, **options) as transport:
            return await do(transport)

    return asyncio.run(go())


def _failure(url: str, **options: Any) -> Failed:
    with pytest.raises(Failed) as failed:
        _exchange(url, **options)
    return failed.value


@pytest.mark.slow
def test_a_key_that_is_sent_back_reaches_neither_store_nor_error(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script = lambda call: completion(f" {call.headers['authorization']}\n- x {KEY} y")
    store = Store(tmp_path / "s.jsonl", create=True)
    fill(["fox"], store, ARTICLE, EndpointCompleter(server.url, "m", KEY))
    assert store.entries().__next__().descriptors == ("Bearer ***", "x *** y")
    server.script = lambda call: refusal(401, f"wrong key {call.headers['authorization']}\x1b[31m\r\nnext")
    with pytest.raises(EndpointError) as refused:
        fill(["owl"], store, ARTICLE, EndpointCompleter(server.url, "m", KEY))
    assert str(refused.value) == (
        f"{server.url}: status 401: wrong key Bearer *** [31m next: check OPENAI_API_KEY or --header"
    )
    written = [*tmp_path.rglob("*"), *Path(store.path).parent.iterdir(), *user_cache().rglob("*")]
    assert all(KEY.encode() not in path.read_bytes() for path in written if path.is_file())


def _echoes(call: Any) -> list[str]:
    """Everything that was sent, in the encodings that servers and frameworks use, as JSON's characters."""
    sent = [call.path, *call.headers.values(), KEY, PASSWORD, HEADER, SIGNATURE]
    forms: list[Callable[[str], str]] = [
        str,
        urllib.parse.quote,
        urllib.parse.unquote,
        urllib.parse.quote_plus,
        lambda text: json.dumps(text)[1:-1],
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: text.encode().hex(),
    ]
    texts = [form(text) for text in sent for form in forms]
    return [f"\\u{ord(c):04x}" if c.isalnum() else json.dumps(c)[1:-1] for c in " | ".join(texts)]


@pytest.mark.parametrize("way", ["answer", "stream", "refusal", "reason"])
def test_what_is_echoed_in_any_encoding_is_masked(
    server: ScriptedServer, tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture, news: list[str]
) -> None:
    """The encodings are then escaped once more, character by character, by JSON."""
    user = urllib.parse.quote(PASSWORD, safe="")
    url = server.url.replace("http://", f"http://me:{user}@") + f"?sig={urllib.parse.quote(SIGNATURE)}"

    def script(call: Any) -> Reply:
        characters = _echoes(call)
        text = "".join(characters)
        if way == "answer":
            return Reply(f'{{"choices": [{{"text": "- a\\n- {text}", "finish_reason": "stop"}}]}}'.encode())
        if way == "reason":
            return Reply(f'{{"choices": [{{"text": "- a", "finish_reason": "{text}"}}]}}'.encode())
        if way == "stream":
            events = [f'data: {{"choices": [{{"text": "{c}"}}]}}\n\n' for c in characters]
            data = "".join([*events, "data: [DONE]\n\n"]).encode()
            return Reply(data, headers={"Content-Type": "text/event-stream"})
        return Reply(f'{{"error": {{"message": "{text}"}}}}'.encode(), 400)

    server.script = script
    caplog.set_level(logging.DEBUG)
    store = Store(tmp_path / "s.jsonl", create=True)
    completer = EndpointCompleter(url, "m", KEY, mode="completions", headers={"api-key": HEADER})
    try:
        summary = fill(["fox"], store, ARTICLE, completer)
        reasons = list(summary.failed.values())
    except EndpointError as error:
        reasons = [str(error)]
    seen = "\n".join(
        [*reasons, *news, caplog.text, *(p.read_text() for p in tmp_path.rglob("*") if p.is_file())]
    )
    seen += urllib.parse.unquote(seen)
    for secret in (KEY, PASSWORD, HEADER, SIGNATURE):
        assert secret not in seen
        for offset in range(3):  # the digits of base64 that hold nothing but the secret
            encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode()
            assert encoded[4 : len(encoded) - 4] not in seen
        assert secret.encode().hex() not in seen
    assert "***" in seen


def test_the_query_goes_on_every_request_after_the_path(server: ScriptedServer) -> None:
    server.script = lambda _: Reply({"data": []})
    _exchange(f"{server.url}/?api-version=1&x=a%2Fb", lambda transport: transport.get("/models"))
    _exchange(f"{server.url}?api-version=1&x=a%2Fb&x=2")
    assert [call.path for call in server.calls] == [
        "/v1/models?api-version=1&x=a%2Fb",
        "/v1/completions?api-version=1&x=a%2Fb&x=2",
    ]


def test_credentials_of_the_url_go_into_a_header(server: ScriptedServer) -> None:
    url = server.url.replace("http://", "http://me:top%2Fsecret@")
    _exchange(url, key=KEY)
    basic = base64.b64encode(b"me:top/secret").decode()
    assert server.calls[0].headers["authorization"] == f"Basic {basic}"
    assert "secret" not in server.calls[0].path


def test_headers_are_sent_and_a_key_only_where_there_is_one(server: ScriptedServer) -> None:
    _exchange(server.url, headers={"api-key": HEADER, "User-Agent": "mine"})
    _exchange(server.url, key=KEY, headers={"authorization": "Token mine"})
    first, second = (call.headers for call in server.calls)
    assert (first["api-key"], first["user-agent"], first.get("authorization")) == (HEADER, "mine", None)
    assert second["authorization"] == "Token mine"


def test_cookies_are_not_kept(server: ScriptedServer) -> None:
    server.script = lambda call: Reply({"choices": []}, headers={"Set-Cookie": "a=b; Path=/"})

    async def twice(transport: Transport) -> None:
        await transport.post("/completions", {})
        await transport.post("/completions", {})

    _exchange(server.url, twice)
    assert "cookie" not in server.calls[1].headers


def test_a_connection_serves_one_exchange_after_another(server: ScriptedServer) -> None:
    async def several(transport: Transport) -> None:
        for script in (marks, lambda _: refusal(400, "no"), lambda _: refusal(500, "no"), marks):
            server.script = script
            try:
                await transport.post("/completions", {})
            except Failed:
                continue

    _exchange(server.url, several)
    assert (len(server.calls), server.connections) == (4, 1)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (refusal(404, "no model m"), Refused, "status 404: no model m"),
        (refusal(429, "slow"), Transient, "status 429: slow"),
        (refusal(402, "pay"), OutOfCredit, "status 402: pay"),
        (refusal(403, "x", type="insufficient_quota"), OutOfCredit, "status 403: x"),
        (Reply({"error": {"message": "slow", "code": 429}}), Transient, "status 429: slow"),
        (Reply({"error": {"message": "no", "code": 404}}), Refused, "status 404: no"),
        (Reply({"error": "odd"}), Transient, "the reply is an error: odd"),
        (Reply({"detail": [{"msg": "bad"}]}, 422), Refused, "status 422: [{'msg': 'bad'}]"),
        (Reply({"message": "gone"}, 410), Refused, "status 410: gone"),
        (Reply({"error": {"message": ""}}, 500), Transient, "status 500: {'message': ''}"),
        (
            Reply(b"<html><style>p{}</style><h1>Bad  gateway</h1></html>", 502),
            Transient,
            "status 502: Bad gateway",
        ),
        (
            Reply(gzip.compress(b'{"error": "x"}'), 500, {"Content-Encoding": "gzip"}),
            Transient,
            "status 500: x",
        ),
    ],
)
def test_a_failure_is_of_its_kind_with_the_servers_own_reason(
    server: ScriptedServer, reply: Reply, kind: type[Failed], words: str
) -> None:
    server.script = lambda _: reply
    failure = _failure(server.url)
    assert (type(failure), str(failure)) == (kind, words)


def test_a_wait_that_is_asked_for_comes_with_the_failure(server: ScriptedServer) -> None:
    server.script = lambda _: Reply({"error": "slow"}, 429, {"X-RateLimit-Reset-Tokens": "6m0s"})
    failure = _failure(server.url)
    assert isinstance(failure, Transient)
    assert failure.retry_after == 360.0


def test_a_large_list_of_models_is_read(server: ScriptedServer) -> None:
    """OpenRouter's has several hundred, each with a page of text."""
    listing = {"data": [{"id": f"m{i}", "description": "x" * 3000, "n": list(range(99))} for i in range(800)]}
    server.script = lambda _: Reply(listing)
    assert _exchange(server.url, lambda transport: transport.get("/models")) == listing
    assert "larger than any answer" in str(_failure(server.url))


def test_a_chats_text_is_scrubbed_after_parsing(server: ScriptedServer) -> None:
    server.script = lambda _: chat(f"a {KEY} b")
    reply = _exchange(server.url, key=KEY)
    assert reply["choices"][0]["message"]["content"] == "a *** b"


@pytest.mark.parametrize("password", ["hunter2xyz/abc", "hunter2xyz#abc", "hunter2xyz?abc"])
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{password}@127.0.0.1:1")
    with pytest.raises(EndpointError, match="HTTP_PROXY does not name a usable proxy") as refused:
        _failure(server.url)
    assert "hunter" not in str(refused.value)


@pytest.mark.parametrize("code", ["insufficient_quota", "other"])
def test_an_error_with_status_200_is_not_given_a_status(server: ScriptedServer, code: str) -> None:
    server.script = lambda _: Reply({"error": {"message": "no quota", "code": code}})
    failure = _failure(server.url)
    assert str(failure) == "the reply is an error: no quota"
    assert isinstance(failure, OutOfCredit) == (code == "insufficient_quota")


def test_certificates_that_are_not_there_are_told(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    with pytest.raises(EndpointError, match="SSL_CERT_FILE"):
        Transport(server.url, None, timeout=5, connections=1)
    (tmp_path / "no.pem").write_text("this is no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "no.pem"))
    with pytest.raises(EndpointError, match="SSL_CERT_FILE"):
        Transport(server.url, None, timeout=5, connections=1)


@pytest.mark.slow
def test_a_hostile_reply_does_not_hold_the_loop(server: ScriptedServer) -> None:
    bomb = gzip.compress(gzip.compress(b" " * (100 << 20)))
    server.script = lambda _: Reply(bomb, headers={"Content-Encoding": "gzip, gzip"})
    lags: list[float] = []

    async def go(transport: Transport) -> None:
        async def beat() -> None:
            while True:
                before = time.process_time()
                await asyncio.sleep(0.01)
                lags.append(time.process_time() - before)

        beating = asyncio.create_task(beat())
        for _ in range(10):
            with pytest.raises(Refused, match="larger than any answer"):
                await transport.post("/completions", {})
        beating.cancel()

    _exchange(server.url, go)
    assert max(lags) < 0.5


def test_a_failure_does_not_hold_the_reply(server: ScriptedServer) -> None:
    server.script = lambda _: Reply(b"x" * 1_000_000)
    failure = _failure(server.url)
    assert failure.__context__ is None
    assert failure.__cause__ is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"error": {"error": {"message": "m"}}}, "m"),
        ({"error": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({}, "no reason given"),
        (None, "no reason given"),
        ("", "no reason given"),
        ([1], "[1]"),
        ("<p>m</p><script>x()</script>", "m"),
        ("<script>" * 5000, "no reason given"),
        ("<" * 20_000, "<" * 20_000),
    ],
)
def test_a_reason_is_found_in_every_form(body: Any, reason: str) -> None:
    start = time.process_time()
    assert message(body) == reason
    assert time.process_time() - start < 1
