"""Secrets stay here, whatever a server sends back."""

import asyncio
from pathlib import Path

import pytest
from tests.generation.scripted_server import ScriptedServer, completion, refusal

from fieldmarks.errors import EndpointError
from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.generate import generate
from fieldmarks.generation.templates import Prompt
from fieldmarks.generation.transport import Transport, without_credentials
from fieldmarks.store import Store

KEY = "sk-very-secret-key-0123456789"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("https://user:secret@host/v1?key=secret#secret", "https://host/v1"),
        ("https://user:se@cret@host:81/v1", "https://host:81/v1"),
        (" https://[::1]:81/v1 ", "https://[::1]:81/v1"),
    ],
)
def test_urls_are_shown_without_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_a_key_that_is_sent_back_reaches_neither_store_nor_error(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script = lambda call: completion(f" {call.headers['authorization']}\n- x {KEY} y")
    store = Store.open(tmp_path / "s.jsonl", create=True)
    generate(["fox"], store, Prompt.load("article"), EndpointCompleter(server.url, "m", KEY))
    assert store.entries().__next__().descriptors == ("Bearer ***", "x *** y")
    server.script = lambda call: refusal(401, f"wrong key {call.headers['authorization']}\x1b[31m\r\nnext")
    with pytest.raises(EndpointError) as refused:
        generate(["owl"], store, Prompt.load("article"), EndpointCompleter(server.url, "m", KEY))
    assert str(refused.value) == (
        f"{server.url} answers 401 (wrong key Bearer *** [31m next): check OPENAI_API_KEY"
    )
    kept = [*tmp_path.rglob("*"), *Path(store.path).parent.iterdir()]
    assert all(KEY.encode() not in path.read_bytes() for path in kept if path.is_file())


def test_credentials_in_the_url_are_sent_and_not_shown(server: ScriptedServer, tmp_path: Path) -> None:
    url = server.url.replace("http://", "http://me:top-secret@")
    server.script = lambda call: refusal(403, f"top-secret {call.headers['authorization']}")
    with pytest.raises(EndpointError) as refused:
        generate(
            ["owl"],
            Store.open(tmp_path / "s", create=True),
            Prompt.load("article"),
            EndpointCompleter(url, "m"),
        )
    assert "top-secret" not in str(refused.value)
    assert server.calls[0].headers["authorization"].startswith("Basic ")


def test_a_strangers_text_becomes_one_short_line() -> None:
    transport = Transport("http://localhost:1/v1", None, timeout=1, connections=1)
    assert transport.scrub("a\x1b[2J\r\nb\u202e c\x00") == "a [2J b c"
    assert transport.scrub("x" * 999) == "x" * 300 + "…"
    asyncio.run(transport.__aexit__(None, None, None))


@pytest.mark.parametrize("key", ["sk-secret\nrest", "sk-secrét-key"])
def test_a_key_that_no_header_holds_is_told_and_not_shown(server: ScriptedServer, key: str) -> None:
    with pytest.raises(EndpointError) as refused:
        Transport(server.url, key, timeout=5, connections=1)
    assert "secr" not in str(refused.value)


def test_certificates_that_are_not_there_are_told(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    with pytest.raises(EndpointError, match="SSL_CERT_FILE"):
        Transport(server.url, None, timeout=5, connections=1)
