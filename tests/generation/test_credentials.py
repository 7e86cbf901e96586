"""Secrets are masked in whatever encoding a server sends them back, and nothing else is."""

import base64
import html
import json
import time
import urllib.parse
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.errors import EndpointError
from fieldmarks.generation.credentials import Address, Redactor, header_problem, without_credentials

KEY = "sk-very-secret-key-0123456789"
PASSWORD = 'pa%ss/w"o\\rd <&+=é'
URL = "https://me:{}@host:81/v1?api-version=2024-02-01&sig=ab%2Fcd%3D99"


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


def test_an_address_is_taken_apart() -> None:
    address = Address.of(URL.format("top-secret"), KEY, {"api-key": "hush-hush"})
    assert address.url == "https://host:81/v1"
    assert address.query == "api-version=2024-02-01&sig=ab%2Fcd%3D99"
    basic = base64.b64encode(b"me:top-secret").decode()
    assert address.headers == {"Authorization": f"Basic {basic}", "api-key": "hush-hush"}
    for secret in (KEY, "top-secret", "hush-hush", "ab%2Fcd%3D99", "me:top-secret"):
        assert secret in address.secrets


def test_a_key_is_sent_only_where_there_is_one_and_a_header_of_ones_own_goes_first() -> None:
    assert Address.of("http://h/v1", None, {}).headers == {}
    assert Address.of("http://h/v1", f" {KEY}\n", {}).headers == {"Authorization": f"Bearer {KEY}"}
    own = {"authorization": "Token abcdefg"}
    assert Address.of("http://h/v1", KEY, own).headers == own


@pytest.mark.parametrize("key", ["sk-secret\nrest", "sk-secrét-key"])
def test_a_key_that_no_header_holds_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(EndpointError, match="OPENAI_API_KEY contains") as refused:
        Address.of("http://h/v1", key, {})
    assert "secr" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("a b", "x"), ("a:", "x"), ("a\n", "x"), ("é", "x"), ("Content-Length", "5")]
    + [("api-key", value) for value in ("a\nb", "a\r", " a", "a ", "clé", "a\x00")],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(name: str, value: str) -> None:
    problem = header_problem(name, value)
    assert problem
    with pytest.raises(EndpointError, match="cannot be sent") as refused:
        Address.of("http://h/v1", None, {name: value + "hush-hush\n"})
    assert "hush" not in str(refused.value)


def test_headers_that_can_be_sent() -> None:
    for name, value in (("api-key", "x"), ("X-Title", "a b=c"), ("Authorization", "Basic ="), ("x", "")):
        assert header_problem(name, value) is None


def _encodings(secret: str) -> dict[str, str]:
    data = secret.encode()
    return {
        "plain": secret,
        "upper case": secret.upper() if secret.isascii() else secret,
        "percent": urllib.parse.quote(secret, safe=""),
        "percent, lower case": urllib.parse.quote(secret, safe="").lower(),
        "percent, every byte": "".join(f"%{byte:02X}" for byte in data),
        "percent twice": urllib.parse.quote(urllib.parse.quote(secret, safe=""), safe=""),
        "form": urllib.parse.quote_plus(secret),
        "JSON": json.dumps(secret)[1:-1],
        "JSON within JSON": json.dumps(json.dumps(secret))[3:-3],
        "JSON, every character": "".join(f"\\u{ord(c):04x}" for c in secret),
        "HTML": html.escape(secret),
        "HTML, every character": "".join(f"&#{ord(c)};" for c in secret),
        "HTML, hexadecimal": "".join(f"&#x{ord(c):X};" for c in secret),
        "Python": repr(data)[2:-1],
        "base64": base64.b64encode(data).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(data).decode(),
        "base64 within more": base64.b64encode(b"Bearer " + data + b" x").decode(),
        "base64 within more, 2": base64.b64encode(b"key: " + data).decode(),
        "hexadecimal": data.hex(),
    }


LOOKING_ENCODED = [
    "sk-a\\nb\\\\c-0123456789",
    "sk&amp;012345678901",
    "sk-&#38;0123456789",
    "sk%2525a%250123456789",
]


@pytest.mark.parametrize("secret", [KEY, PASSWORD, "hush-hush", "a+b/c=d&e", *LOOKING_ENCODED])
@pytest.mark.parametrize("encoding", list(_encodings(KEY)))
def test_a_secret_is_masked_in_every_encoding(secret: str, encoding: str) -> None:
    encoded = _encodings(secret)[encoding]
    redacted = Redactor([secret]).text(f"before {encoded} after")
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert "***" in redacted
    assert len(redacted) <= len("before *** after") + 16, redacted  # base64's digits at the edges


def test_a_percent_encoded_password_is_masked_decoded_and_as_it_was() -> None:
    password = urllib.parse.quote(PASSWORD, safe="")
    redactor = Redactor(Address.of(URL.format(password), None, {}).secrets)
    assert redactor.text(f"{PASSWORD} {password}") == "*** ***"
    assert redactor.text("ab/cd=99") == "***"


def test_a_proxys_credentials_are_secrets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:proxy-secret@127.0.0.1:9")
    assert Redactor(Address.of("http://h/v1", None, {}).secrets).text("x proxy-secret") == "x ***"


def test_what_is_no_secret_stays() -> None:
    redactor = Redactor([KEY, "short", ""])
    text = "- green skin, short & 100% webbed feet\n- \\u00e9 sk-very"
    assert redactor.text(text) == text
    assert Redactor([]).text(text) == text
    assert Redactor([]).reply({"a": text}) == {"a": text}


ANSWER = "- a secretary's green skin, ollama\\n- lm-studios, preview of a secret, Xlm-studio"


def test_an_ordinary_word_is_left_in_answers_and_masked_in_messages() -> None:
    redactor = Redactor(["secret", "ollama", "lm-studio"])
    assert redactor.reply({"choices": [ANSWER], "secret": 1}) == {"choices": [ANSWER], "secret": 1}
    assert redactor.masked == 0
    assert redactor.text(ANSWER).count("***") == 2
    assert redactor.reply(["it is lm-studio, lm-studio%20lm-studio"]) == ["it is ***, ***%20***"]
    assert redactor.masked == 1


def test_what_is_longer_than_a_word_is_masked_within_others_too() -> None:
    assert Redactor([KEY]).reply([f"x{KEY}x"]) == ["x***x"]


def test_of_headers_and_query_only_credentials_are_secrets() -> None:
    headers = {"X-Title": "green skin", "X-Token": "t-123456", "X-Portkey-Config": "pc-0123456789abcd"}
    url = "http://h/v1?api-version=preview&sig=s-123456&code=c-123456"
    address = Address.of(url, None, headers | {"Authorization": "Token a-123456"})
    answer = "green skin preview t-123456 pc-0123456789abcd s-123456 c-123456 a-123456"
    assert Redactor(address.secrets).reply([answer]) == ["green skin preview *** *** *** *** ***"]


@pytest.mark.parametrize("url", ["http://[fe80::1%25lo]:8000/v1", "http://[fe80::1%eth0]/v1"])
def test_a_zone_of_an_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(EndpointError, match="zone"):
        without_credentials(url)


def test_of_two_secrets_the_longer_is_masked_whole() -> None:
    assert Redactor(["secret", "secret-and-more"]).text("secret-and-more secret") == "*** ***"


def test_every_string_of_a_reply_is_masked() -> None:
    escaped = KEY.replace("-", "\\u002d")
    reply = orjson.loads(
        f'{{"choices": [{{"text": "a {escaped} b", "n": 1, "deep": [[["{KEY}"]]]}}], "{KEY}": {{"x": null}}}}'
    )
    assert Redactor([KEY]).reply(reply) == {
        "choices": [{"text": "a *** b", "n": 1, "deep": [[["***"]]]}],
        "***": {"x": None},
    }


def test_a_reply_nested_deeper_than_pythons_stack_is_masked() -> None:
    depth = 1000
    reply: Any = orjson.loads("[" * depth + f'"{KEY}"' + "]" * depth)
    reply = Redactor([KEY]).reply(reply)
    for _ in range(depth):
        (reply,) = reply
    assert reply == "***"


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_reply_without_secrets_is_not_changed(reply: Any) -> None:
    before = orjson.dumps(reply)
    assert orjson.dumps(Redactor([KEY, PASSWORD]).reply(reply)) == before


def test_a_servers_text_becomes_one_short_line() -> None:
    redactor = Redactor([KEY])
    assert redactor.line("a\x1b[2J\r\nb\u202e c\x00") == "a [2J b c"
    assert redactor.line("x" * 999) == "x" * 300 + "…"
    assert redactor.line("x" * 290 + KEY) == "x" * 290 + "***"


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["\\", "\\\\u", "%25", "&#0", "s", "sk-very-secret-key-012345678", "%", "=", "c2st"]
)
def test_no_text_makes_masking_slow(unit: str) -> None:
    text = unit * ((1 << 20) // len(unit))
    start = time.process_time()
    Redactor([KEY, PASSWORD, "\\" * 40, "%" * 40]).text(text)
    assert time.process_time() - start < 5
