"""Pictures from the web, over a loopback server that behaves well and badly."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fieldmarks.classification.images import MAX_BYTES, Url, fetch, is_url
from fieldmarks.errors import ImageError


class Pages(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self._head(302, Location="/picture")
        elif self.path == "/moved-to-file":
            self._head(302, Location="file:///etc/passwd")
        elif self.path == "/round":
            self._head(302, Location="/round")
        elif self.path == "/picture":
            self._head(200)
            self.wfile.write(f"bytes for {self.headers['User-Agent']}".encode())
        elif self.path == "/endless":
            self._head(200)
            self._drip(b"x" * 2**20, pause=0)
        elif self.path == "/slow":
            self._head(200)
            self._drip(b"x", pause=0.05)
        elif self.path == "/cut":
            self._head(200, **{"Content-Length": "1000"})
            self.wfile.write(b"short")
        else:
            self._head(404)

    def _head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _drip(self, chunk: bytes, pause: float) -> None:
        try:
            for _ in range(1000):
                self.wfile.write(chunk)
                time.sleep(pause)
        except OSError:
            pass  # the reader has had enough, as it should

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """The address of the server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_bytes_of_a_picture(host: str) -> None:
    assert fetch(Url(f"{host}/picture")).startswith(b"bytes for fieldmarks/")
    assert fetch(Url(f"{host}/moved")).startswith(b"bytes for fieldmarks/")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none", "cannot be fetched: the server answered 404"),
        ("/moved-to-file", "cannot be fetched: the server answered 302"),
        ("/round", "cannot be fetched: the server answered 302"),
        ("/endless", f"too large: over {MAX_BYTES} bytes"),
    ],
)
def test_what_cannot_be_fetched(host: str, path: str, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        fetch(Url(host + path))
    assert str(caught.value) == message


@pytest.mark.slow
def test_a_picture_that_never_ends_coming(host: str) -> None:
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"^cannot be fetched: not done after 0\.3 seconds$"):
        fetch(Url(f"{host}/slow"), patience=0.3)
    assert time.monotonic() - started < 5


def test_no_server_and_no_address() -> None:
    with pytest.raises(ImageError, match=r"^cannot be fetched: .*refused"):
        fetch(Url("http://127.0.0.1:9/a.png"))
    for address in ("http://", "http://[", "http://127.0.0.1:x/", "http://ex ample/", "file:///etc/passwd"):
        with pytest.raises(ImageError, match=r"^cannot be fetched"):
            fetch(Url(address))


def test_a_password_is_neither_sent_nor_shown(host: str) -> None:
    url = Url(host.replace("//", "//user:secret@") + "/picture")
    assert url.name == f"{host}/picture"
    with pytest.raises(ImageError) as caught:
        fetch(url)
    assert str(caught.value) == "cannot be fetched: an address with a user name or password is not sent"


def test_what_is_an_address() -> None:
    assert [is_url(one) for one in ("http://a", "HTTPS://a", "ftp://a", "file:///a", "a.png", "http:a")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
