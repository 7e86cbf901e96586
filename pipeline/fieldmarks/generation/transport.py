"""One HTTP exchange with an OpenAI-compatible endpoint: sizes bounded, secrets scrubbed, errors sorted."""

import asyncio
import math
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

import httpx2
import openai
import orjson
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from fieldmarks.errors import EndpointError
from fieldmarks.generation.retry import RETRIED_STATUS, Transient, retry_after

OPENAI: Final = "https://api.openai.com/v1"
MAX_REPLY: Final = 1 << 20  # bytes
MAX_PACKED_REPLY: Final = 128 << 10  # bytes of a compressed one, which can unpack to a thousand times as much
POOL: Final = 4  # connections a client: httpx2 looks at every one of its pool at every request
CONNECT_TIMEOUT: Final = 10.0  # seconds
SHORTEST_SECRET: Final = 6  # a shorter key stands in ordinary text by chance

_HINTS: Final = {
    401: "check OPENAI_API_KEY",
    402: "the account has no money left",
    403: "the key may not use this model, or not from here",
    404: "check --model and --base-url",
}


class Refused(Exception):
    """A server understood a request and refuses it (400, 404, 422…); the next may be welcome."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Transport:
    """Posts JSON to an endpoint through openai's client. An async context manager.

    As many exchanges may be under way as there are connections.
    """

    def __init__(self, base_url: str, api_key: str | None, *, timeout: float, connections: int) -> None:
        """Name the endpoint, whose URL may hold credentials; `timeout` in seconds. Raises EndpointError."""
        self.shown = without_credentials(base_url)
        api_key = _sendable(api_key)
        self._timeout = timeout
        self._secrets = _secrets(base_url, api_key)
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        try:
            verify = httpx2.create_ssl_context()
            self._clients = [
                AsyncOpenAI(
                    base_url=base_url,
                    api_key=api_key or "none",
                    max_retries=0,
                    timeout=httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT),
                    http_client=DefaultAsyncHttpxClient(
                        limits=limits, verify=verify, event_hooks={"response": [_bound]}
                    ),
                )
                for _ in range(math.ceil(connections / POOL))
            ]
        except (httpx2.InvalidURL, openai.OpenAIError, ValueError) as error:
            raise EndpointError(f"{self.shown} cannot be used: {self.scrub(str(error))}") from error
        except OSError as error:
            raise EndpointError(
                f"the certificates of SSL_CERT_FILE cannot be read: {error.strerror}"
            ) from error
        self._free = deque((POOL * self._clients)[:connections])  # a client for each connection not in use

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for client in self._clients:
            await client.close()

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the reply's JSON. Raises Transient, Refused, or EndpointError where nothing can succeed."""
        return await self._exchange(lambda one: one.post(path, body=body, cast_to=httpx2.Response))

    async def get(self, path: str) -> Any:
        """Return the JSON at a path. Raises what `post` does."""
        return await self._exchange(lambda one: one.get(path, cast_to=httpx2.Response))

    async def _exchange(self, send: Callable[[AsyncOpenAI], Awaitable[httpx2.Response]]) -> Any:
        client = self._free.popleft()
        try:
            async with asyncio.timeout(self._timeout):  # httpx2's own is for each read, so a drip never ends
                response = await send(client)
        except openai.APIStatusError as error:
            raise self._sorted(error) from None
        except (openai.APITimeoutError, TimeoutError):
            raise Transient("no answer in time", status=None) from None
        except openai.APIConnectionError as error:
            reason = self.scrub(f"no connection: {_root(error)}")
            raise Transient(reason, status=None) from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, ValueError, openai.OpenAIError) as error:
            raise EndpointError(f"{self.shown} cannot be used: {self.scrub(str(error))}") from None
        finally:
            self._free.append(client)
        return self._json(response)

    def scrub(self, text: str) -> str:
        """Return a stranger's text as one short line without control characters and our secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= 300 else f"{line[:300]}…"

    def _json(self, response: httpx2.Response) -> Any:
        data = response.content
        for secret in self._secrets:
            data = data.replace(secret.encode(), b"***")
        try:
            reply = orjson.loads(data)
        except orjson.JSONDecodeError:
            if "html" in response.headers.get("content-type", ""):
                what = "answers with a web page: check --base-url, which often ends in /v1"
                raise EndpointError(f"{self.shown} {what}") from None
            start = self.scrub(data[:60].decode(errors="replace"))
            raise Transient(f"the reply is not JSON: {start!r}") from None
        if isinstance(reply, dict) and reply.get("error") and not reply.get("choices"):
            raise Transient(f"the reply is an error: {self.scrub(_message(reply))}")
        return reply

    def _sorted(self, error: openai.APIStatusError) -> Exception:
        status = error.status_code
        reason = self.scrub(_message(error.body))
        if status == 429 and "insufficient_quota" in str(error.body):
            return EndpointError(f"{self.shown} answers 429: {reason}")
        if status in RETRIED_STATUS:
            return Transient(f"status {status}: {reason}", retry_after(error.response.headers), status=status)
        if status in (400, 404, 405, 413, 415, 422):
            return Refused(status, f"status {status}: {reason}")
        hint = f": {_HINTS[status]}" if status in _HINTS else ""
        return EndpointError(f"{self.shown} answers {status} ({reason}){hint}")


def hint(status: int) -> str:
    """Return what a user can do about a refusal."""
    return _HINTS.get(status, "see what the server wants")


def without_credentials(url: str) -> str:
    """Return a URL without user, password, query and fragment, as it may be shown and stored.

    Raises EndpointError for what is no http URL.
    """
    try:
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise EndpointError(
            "--base-url is no URL of an endpoint: write it like http://localhost:8000/v1"
        ) from None
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")).rstrip("/")


def _sendable(api_key: str | None) -> str | None:
    """Return a key without outer space. Raises EndpointError, without the key, for what no header holds."""
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EndpointError("OPENAI_API_KEY holds a line break or a letter that no key has: copy it again")
    return key or None


def _secrets(base_url: str, api_key: str | None) -> list[str]:
    parts = urlsplit(base_url)
    every = [api_key, parts.password, parts.query, os.environ.get("OPENAI_API_KEY")]
    return [one for one in every if one and len(one) >= SHORTEST_SECRET]


def _root(error: BaseException) -> str:
    """Return what was at the bottom of an error: the system's word rather than a library's."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else str(error)


def _message(body: Any) -> str:
    """Return what a server says of an error, in whatever form it does."""
    for _ in range(3):
        if isinstance(body, dict):
            body = body.get("error") or body.get("message") or body.get("detail") or body
    text = body if isinstance(body, str) else repr(body)
    return re.sub(r"<[^<>]*>", " ", text[:2000]) or "no reason given"


async def _bound(response: httpx2.Response) -> None:
    """Make reading a reply fail where it is larger than any answer."""
    limit = MAX_PACKED_REPLY if "content-encoding" in response.headers else MAX_REPLY
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(stream, limit)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._left = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._left -= len(chunk)
            if self._left < 0:
                raise EndpointError(
                    "the endpoint sends more than any answer can hold: is it a language model's?"
                )
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
