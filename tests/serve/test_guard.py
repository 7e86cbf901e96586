"""Who may ask: hosts by name and port, origins, tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("starlette")

from fieldmarks.errors import UsageError
from fieldmarks.serve.guard import Access, parse_host

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:8000", True),
        ("localhost:8000", True),
        ("LOCALHOST:8000", True),
        ("localhost.:8000", True),
        ("[::1]:8000", True),
        ("127.0.0.1", False),
        ("127.0.0.1:80", False),
        ("localhost:8001", False),
        ("evil.example:8000", False),
        ("localhost.evil.example:8000", False),
        ("evil.example#localhost:8000", False),
        ("localhost:8000@evil.example", False),
        ("user@localhost:8000", False),
        ("192.168.0.7:8000", False),
        ("0.0.0.0:8000", False),
        ("127.1:8000", False),
        ("2130706433:8000", False),
        ("localhost:８０００", False),
        ("", False),
        (":8000", False),
        ("localhost:", False),
        ("localhost:8000 ", False),
        ("localhost:008000", False),
    ],
)
def test_a_server_on_loopback(host: str, is_own: bool) -> None:
    assert Access.to(8000, LOOPBACK).is_own(host) == is_own


def test_a_server_behind_a_proxy() -> None:
    access = Access.to(8000, LOOPBACK, ["Photos.example", "other.example:8443"])
    for host in ("photos.example", "photos.example:443", "photos.example:8000", "other.example:8443"):
        assert access.is_own(host), host
    for host in ("photos.example:8443", "other.example", "example", "x.photos.example"):
        assert not access.is_own(host), host
    with pytest.raises(UsageError, match=r"--allow-host 'https://photos\.example' is not a host name"):
        Access.to(8000, LOOPBACK, ["https://photos.example"])


def test_a_server_on_all_interfaces_is_called_by_number() -> None:
    access = Access.to(8000, ("0.0.0.0", *LOOPBACK), any_address=True)
    for host in ("192.168.0.7:8000", "[fe80::1]:8000", "localhost:8000"):
        assert access.is_own(host), host
    for host in ("rebound.example:8000", "192.168.0.7", "192.168.0.7:80", "192.168.0.7.example:8000"):
        assert not access.is_own(host), host


def test_tokens() -> None:
    access = Access.to(8000, LOOPBACK, token="s3cret-s3cret-s3cret")
    assert access.is_token("Bearer s3cret-s3cret-s3cret")
    assert access.is_token("bearer  s3cret-s3cret-s3cret ")
    for wrong in (
        "",
        "Bearer",
        "Bearer s3cret",
        "Basic s3cret-s3cret-s3cret",
        "s3cret-s3cret-s3cret",
        "Bearer é",
    ):
        assert not access.is_token(wrong)
    assert "s3cret" not in repr(access)


@given(st.text(max_size=30))
def test_any_host_is_parsed_or_refused(host: str) -> None:
    parsed = parse_host(host)
    if parsed is not None:
        name, port = parsed
        assert name == name.lower()
        assert port is None or 0 <= port <= 99_999
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-[]:")
