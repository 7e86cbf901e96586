"""HTTP exchanges with an OpenAI-compatible endpoint, bounded in time and size, and why they fail.

The client is openai's, on httpx2. A hook takes over as soon as a reply's headers arrive, so neither library
decompresses, decodes or keeps more than the limits allow, and each failure has its own cause.
"""

import asyncio
import codecs
import logging
import math
import os
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urljoin, urlsplit

import httpx2
import orjson
from openai import (
    APIConnectionError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
    Omit,
    OpenAIError,
    RequestOptions,
)

from fieldmarks.errors import EndpointError
from fieldmarks.generation import failures, replies
from fieldmarks.generation.credentials import Address, Redactor, without_credentials
from fieldmarks.generation.dialects import usage_of
from fieldmarks.generation.failures import Failed, OutOfCredit, Refused, Transient
from fieldmarks.generation.retrying import asked_wait

POOL: Final = 4  # connections per client: httpx2 scans its whole pool on every request
CONNECT_TIMEOUT: Final = 10.0  # seconds
ERROR_TIMEOUT: Final = 5.0  # seconds for an error's body, which only explains its status
MOST_REDIRECTS: Final = 5
KEPT_METHOD: Final = (307, 308)  # redirects that repeat a POST unchanged
PORTS: Final = {"http": 80, "https": 443}
LOGGERS: Final = ("httpx2", "httpcore2.connection", "httpcore2.http11", "httpcore2.proxy", "httpcore2.socks")


@dataclass(slots=True)
class _Progress:
    """How far an exchange is: the last step that began, and the peer of the connection it opened."""

    stage: str = ""
    peer: tuple[str, int] | None = None

    async def trace(self, event: str, details: Mapping[str, Any]) -> None:
        """Record one of httpcore2's events."""
        if event.endswith(".started") and "response_closed" not in event:
            self.stage = event
            if "connect_tcp" in event:
                self.peer = (details["host"], details["port"])


_progress: ContextVar[_Progress] = ContextVar("_progress")


class Transport:
    """Exchanges JSON with an endpoint through openai's client. An async context manager.

    As many exchanges may be in progress as there are connections.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float,
        connections: int,
    ) -> None:
        """Set the endpoint, whose URL may contain credentials and a query; `timeout` is in seconds.

        Raises EndpointError for an unusable URL, key, header, certificate or proxy.
        """
        self._address = Address.of(base_url, api_key, headers or {})
        self.shown = self._address.url
        self.redactor = Redactor(self._address.secrets)
        keyless = not any(name.lower() == "authorization" for name in self._address.headers)
        self._options: RequestOptions = {"headers": {"Authorization": Omit()}} if keyless else {}
        self._timeout = timeout
        self._proxy: str | None = None  # the proxy in use, once a connection has shown one
        self._peer = _peer(self.shown)
        self._verify = _certificates()
        self._free: deque[AsyncOpenAI] = deque()  # a client for each connection that is idle
        self._unopened = deque(
            min(POOL, connections - POOL * i) for i in range(math.ceil(connections / POOL))
        )
        self._clients: list[AsyncOpenAI] = []
        self._open_client()

    async def __aenter__(self) -> Self:
        self._filter = _Redacting(self.redactor)
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self._filter)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        async with AsyncExitStack() as closing:
            for name in LOGGERS:
                closing.callback(logging.getLogger(name).removeFilter, self._filter)
            for client in self._clients:
                closing.push_async_callback(client.close)

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Post a body and return the reply's JSON without secrets. Raises Failed."""
        return await self._exchange(
            lambda client: client.post(self._path(path), body=body, cast_to=_REPLY, options=self._options)
        )

    async def get(self, path: str) -> Any:
        """Return the JSON at a path without secrets. Raises Failed."""
        return await self._exchange(
            lambda client: client.get(self._path(path), cast_to=_REPLY, options=self._options)
        )

    async def _exchange(self, send: Callable[[AsyncOpenAI], Awaitable[httpx2.Response]]) -> Any:
        if not self._free:
            self._open_client()
        client = self._free.popleft()
        progress = _Progress()
        _progress.set(progress)
        try:
            async with asyncio.timeout(self._timeout):  # httpx2's is per read: a drip never ends
                response = await send(client)
            return self._json(response.content, response.headers)
        except Failed as error:
            failure = error
        except Exception as error:  # libraries leave some of theirs unwrapped, as for port 99999
            self._see_proxy(progress)
            failure = failures.from_exception(
                (error.__cause__ or error) if isinstance(error, APIConnectionError) else error,
                stage=progress.stage,
                proxy=self._proxy,
                timeout=self._timeout,
                connect_timeout=CONNECT_TIMEOUT,
            )
        finally:
            self._free.append(client)
            self._see_proxy(progress)
        failure.args = (self.redactor.line(str(failure)),)
        failure.advice = self.redactor.line(failure.advice)
        failure.__context__ = None  # its frames would keep the whole reply until it is handled
        raise failure.with_traceback(None)

    def _see_proxy(self, progress: _Progress) -> None:
        """Remember a peer that is not the endpoint itself: a proxy."""
        if progress.peer and progress.peer != self._peer:
            self._proxy = "{}:{}".format(*progress.peer)

    def _path(self, path: str) -> str:
        return f"{path}?{self._address.query}" if self._address.query else path

    def _open_client(self) -> None:
        """Open another client. Raises EndpointError for a bad proxy in the environment, or a bad URL."""
        connections = self._unopened.popleft()
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        try:
            http = DefaultAsyncHttpxClient(
                limits=limits,
                verify=self._verify,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # keeps none: they take up memory
                max_redirects=MOST_REDIRECTS,
                event_hooks={"request": [_watch], "response": [self._receive]},
            )
        except ImportError:
            raise EndpointError(
                f"{_proxy_variables()} names a SOCKS proxy, for which the package socksio is missing: "
                "install it (pip install socksio), or unset the variable"
            ) from None
        except (httpx2.InvalidURL, ValueError):  # its message may contain part of a password
            raise EndpointError(
                f"{_proxy_variables()} does not name a usable proxy: write it like http://host:port, with /, "
                "# and @ in a password as %2F, %23 and %40, or unset the variable"
            ) from None
        try:
            client = AsyncOpenAI(
                base_url=self.shown,
                api_key="none",  # the address's headers decide
                default_headers={"Accept-Encoding": "gzip, deflate", **self._address.headers},
                max_retries=0,
                timeout=httpx2.Timeout(self._timeout, connect=CONNECT_TIMEOUT),
                http_client=http,
            )
        except (httpx2.InvalidURL, OpenAIError, ValueError) as error:
            raise EndpointError(f"{self.shown} cannot be used: {self.redactor.line(str(error))}") from error
        self._clients.append(client)
        self._free.extend([client] * connections)

    async def _receive(self, response: httpx2.Response) -> None:
        """Read a reply as soon as its headers arrive; anything that is not an answer becomes a failure."""
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        if response.has_redirect_location:
            if response.status_code in KEPT_METHOD and self._is_own(response.headers["location"]):
                await replies.read_error(aiter(stream), {})  # so that the connection can be used again
                await self._replace(response, stream, b"")
                return
            raise failures.from_redirect(response.status_code, self._redirected(response))
        headers = _headers(response)
        if not response.is_success:
            raise await self._status_failure(response.status_code, headers, stream)
        most = replies.MAX_LISTING if response.request.method == "GET" else replies.MAX_REPLY
        body = await replies.read(aiter(stream), headers, most)
        replies.check_values(body, most)
        await self._replace(response, stream, body)

    @staticmethod
    async def _replace(response: httpx2.Response, stream: httpx2.AsyncByteStream, body: bytes) -> None:
        await stream.aclose()
        response.stream = httpx2.ByteStream(body)
        if "content-encoding" in response.headers:
            del response.headers["content-encoding"]

    async def _status_failure(
        self, status: int, headers: Mapping[str, str], stream: httpx2.AsyncByteStream
    ) -> Failed:
        try:
            async with asyncio.timeout(min(ERROR_TIMEOUT, self._timeout / 2)):
                body = await replies.read_error(aiter(stream), headers)
        except (TimeoutError, httpx2.TransportError):
            body = b""
        try:
            explanation = self.redactor.reply(orjson.loads(body))
        except orjson.JSONDecodeError:
            explanation = self.redactor.text(body.decode(errors="replace"))
        wait = asked_wait(status, headers, explanation)
        progress = _progress.get()
        self._see_proxy(progress)
        return failures.from_status(status, explanation, wait, self._proxy)

    def _is_own(self, location: str) -> bool:
        """Whether a redirect leads to the same server, which may see what was sent."""
        try:
            goal, own = urlsplit(urljoin(self.shown, location)), urlsplit(self.shown)
        except ValueError:
            return False
        return (goal.scheme, goal.netloc) == (own.scheme, own.netloc)

    def _redirected(self, response: httpx2.Response) -> str | None:
        """Return the base URL that a redirect leads to, without credentials; None if that is not a URL."""
        sent = response.request.url.path.removeprefix(urlsplit(self.shown).path)
        try:
            goal = urljoin(str(response.request.url), response.headers["location"])
            return without_credentials(goal).removesuffix(sent)
        except (EndpointError, ValueError):
            return None

    def _json(self, body: bytes, headers: Mapping[str, str]) -> Any:
        try:
            reply = replies.loads(body.removeprefix(codecs.BOM_UTF8))
        except ValueError:
            if (streamed := replies.joined(body)) is not None:
                return self._json(streamed, headers)
            raise self._no_json(body, headers.get("content-type", "")) from None
        reply = self.redactor.reply(reply)
        if isinstance(reply, dict) and reply.get("error") and not reply.get("choices"):
            failure = _error_within(reply["error"])
            failure.usage = usage_of(reply.get("usage"))
            raise failure
        return reply

    def _no_json(self, body: bytes, content_type: str) -> Failed:
        if not body.strip():
            return Transient("the reply is empty")
        start = self.redactor.text(body[: replies.MAX_ERROR].decode(errors="replace"))
        if "html" in content_type or start.lstrip().lower().startswith(("<!doctype html", "<html")):
            advice = "check --base-url, which often ends in /v1"
            return Refused("the reply is a web page", status=200, advice=advice)
        return Transient(f"the reply is not JSON: {self.redactor.line(start, 60)!r}")


_REPLY: Final = httpx2.Response


def _headers(response: httpx2.Response) -> dict[str, str]:
    """Return a reply's headers by lower-case name."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _watch(request: httpx2.Request) -> None:
    """Record the steps of an exchange as they begin."""
    request.extensions = {**request.extensions, "trace": _progress.get().trace}


def _error_within(error: Any) -> Failed:
    """Return the failure for a reply of status 200 that contains an error."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 600:
        return failures.from_status(code, error, asked_wait(code, {}, error), None)
    cause = f"the reply is an error: {failures.message(error)}"
    if isinstance(failures.from_status(200, error, None, None), OutOfCredit):
        return OutOfCredit(cause, status=200, advice=failures.ADVICE[402])
    return Transient(cause)


def _peer(base_url: str) -> tuple[str, int]:
    """Return the host, as connections name it, and the port of an endpoint. Raises EndpointError."""
    try:
        url = httpx2.URL(base_url)
        return url.raw_host.decode("ascii"), url.port or PORTS[url.scheme]
    except (httpx2.InvalidURL, ValueError) as error:
        raise EndpointError(f"{base_url} cannot be used: {error}") from None


def _certificates() -> ssl.SSLContext:
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        raise EndpointError(
            f"the certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be read ({error.strerror}): "
            "set it to a PEM file, or unset it"
        ) from error


def _proxy_variables() -> str:
    """Return the environment variables that name a proxy."""
    names = [
        name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")
    ]  # as they are spelt
    return " or ".join(sorted(names)) or "the system's proxy setting"


class _Redacting(logging.Filter):
    """Keeps secrets out of libraries' logs, where httpx2 writes each request's URL."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._redactor.text(record.getMessage()), ()
        return True
