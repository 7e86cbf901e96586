"""Read a reply: decompress and bound it as it arrives, and join a stream's deltas. No sockets.

Memory and work are bounded whatever a server sends: no layer of compression may expand beyond the bound, and
other tasks run between pieces.
"""

import asyncio
import json
import math
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import orjson

from fieldmarks.generation.failures import Refused, Transient

MAX_REPLY: Final = 1 << 20  # bytes; for a stream, of its joined texts and of each event
MAX_LISTING: Final = 8 << 20  # bytes of a list of models: some routers have hundreds, with descriptions
MAX_STREAM: Final = 8 << 20  # bytes: each token is wrapped in about 300
MAX_ERROR: Final = 64 << 10  # bytes of an error's body that are read
PIECE: Final = 64 << 10  # bytes decompressed at a time
MOST_CODINGS: Final = 3  # layers of compression
BYTES_PER_VALUE: Final = 20  # at least, of JSON: an empty object of 3 bytes takes 64 in memory
TURN: Final = 256  # chunks after which other tasks run: a read may hold ten thousand

_TOO_LARGE: Final = "the reply is larger than any answer can be"
_TOO_LARGE_ADVICE: Final = "check that --base-url is the URL of a language model"


async def read(chunks: AsyncIterator[bytes], headers: Mapping[str, str], most: int = MAX_REPLY) -> bytes:
    """Return a reply's JSON, of at most `most` bytes; a stream's events are joined into one reply.

    `chunks` is the body as it arrives on the wire. Raises Refused if it is too large, Transient if it is
    damaged.
    """
    streamed = "event-stream" in headers.get("content-type", "").lower()
    limit = MAX_STREAM if streamed else most
    length = headers.get("content-length", "")
    if length.isdigit() and len(length) < 20 and int(length) > limit:
        raise _too_large()
    unpacked = bounded(chunks, headers, limit)
    async with aclosing(unpacked):
        return await (_joined(unpacked) if streamed else _collected(unpacked))


async def read_error(chunks: AsyncIterator[bytes], headers: Mapping[str, str]) -> bytes:
    """Return the beginning of an error's body; damage and length do not matter, as it only explains."""
    body = bytearray()
    try:
        async with aclosing(bounded(chunks, headers, MAX_ERROR)) as unpacked:
            async for piece in unpacked:
                body += piece
    except (Refused, Transient):
        pass
    return bytes(body)


async def bounded(
    chunks: AsyncIterator[bytes], headers: Mapping[str, str], limit: int
) -> AsyncGenerator[bytes, None]:
    """Yield a body's decompressed pieces. Raises Refused beyond `limit` bytes, compressed or not."""
    names = [name.strip().lower() for name in headers.get("content-encoding", "").split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if len(codings) > MOST_CODINGS:
        raise Refused("the reply is compressed too many times", status=200)
    layers = [_Unpacked(coding, limit) for coding in reversed(codings)]
    size = count = 0
    async for chunk in chunks:
        size, count = size + len(chunk), count + 1
        if size > limit:
            raise _too_large()
        if count % TURN == 0:
            await asyncio.sleep(0)
        for piece in _through(layers, chunk):
            yield piece
            if layers:
                await asyncio.sleep(0)
    for layer in layers:
        layer.check_end()


def _through(layers: list["_Unpacked"], chunk: bytes) -> Iterator[bytes]:
    if not layers:
        yield chunk
        return
    for piece in layers[0].feed(chunk):
        yield from _through(layers[1:], piece)


class _Unpacked:
    """One layer of compression, with bounded output."""

    def __init__(self, coding: str, limit: int) -> None:
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise Refused(f"the reply is compressed as {coding[:20]!r}, which was not asked for", status=200)
        self._coding = coding
        self._decompressor: Any = None
        self._left = limit

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress some bytes and yield at most `PIECE` bytes at a time."""
        if self._decompressor is None:
            if not data:
                return
            raw = self._coding == "deflate" and data[0] & 0x0F != 8  # without zlib's header, as some send it
            self._decompressor = zlib.decompressobj(
                -zlib.MAX_WBITS if raw else zlib.MAX_WBITS | (0 if self._coding == "deflate" else 16)
            )
        while True:
            try:
                piece = self._decompressor.decompress(data, PIECE)
            except zlib.error:
                raise self._damaged() from None
            data = self._decompressor.unconsumed_tail
            self._left -= len(piece)
            if self._left < 0:
                raise _too_large()
            if piece:
                yield piece
            elif not data:
                return

    def check_end(self) -> None:
        """Raise Transient if the compressed data ended too soon."""
        if self._decompressor is not None and not self._decompressor.eof:
            raise self._damaged()

    def _damaged(self) -> Transient:
        return Transient(f"the reply's {self._coding} data is damaged")


async def _collected(pieces: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
    return bytes(body)


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    """Join a stream's events; a reply that is not a stream despite its content type stays as it is."""
    events = EventStream()
    async for piece in pieces:
        for data in events.feed(piece):
            if events.take(data):
                return events.joined()
        await asyncio.sleep(0)
    for data in events.end():
        if events.take(data):
            break
    return events.joined()


def loads(data: bytes) -> Any:
    """Parse JSON, tolerating single wrong characters: the answer is paid for whatever it contains.

    Half an escaped emoji, as at the end of a cut-off answer, and bytes that are not UTF-8 become U+FFFD; NaN,
    infinity and numbers beyond a float's range become null. Raises ValueError for anything else.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    text = data.decode("utf-8", "replace")
    try:
        value = json.loads(text, strict=False, parse_constant=lambda _: None, parse_float=_finite)
        plain = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    whole = plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return orjson.loads(whole)


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def check_values(body: bytes, most: int = MAX_REPLY) -> None:
    """Raise Refused for JSON with more values than `most` bytes should hold, before they take up memory."""
    values = most // BYTES_PER_VALUE
    if body.count(b",") + body.count(b"[") + body.count(b"{") > values:
        raise Refused(f"the reply has more than {values:,} values", status=200, advice=_TOO_LARGE_ADVICE)


def joined(body: bytes) -> bytes | None:
    """Return a body of events joined as JSON, or None if it is not one; its content type may not say so."""
    if not body.lstrip().startswith((b"data:", b"event:", b":", b"id:", b"retry:")):
        return None
    events = EventStream()
    for data in (*events.feed(body), *events.end()):
        if events.take(data):
            break
    return events.joined()


class EventStream:
    """Joins server-sent events, line by line, into the reply of which they are the deltas."""

    def __init__(self) -> None:
        self._line = bytearray()  # the unfinished line
        self._data: list[bytes] = []  # of the unfinished event
        self._size = 0  # bytes of those
        self._plain = bytearray()  # lines that do not belong to a stream
        self._texts: dict[str, list[str]] = {"text": [], "content": [], "reasoning_content": []}
        self._left = MAX_REPLY  # characters that may still be joined
        self._finish_reason: str | None = None
        self._usage: Any = None
        self._error: Any = None
        self._ended = False
        self._events = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that a chunk completes."""
        first, *others = chunk.split(b"\n")
        self._line += first
        if len(self._line) > MAX_REPLY:
            raise _too_large()
        if others:
            lines, self._line = [bytes(self._line), *others[:-1]], bytearray(others[-1])
            for line in lines:
                line = line.removesuffix(b"\r")
                if (line or self._data) and not line.startswith(b":"):  # comments keep connections alive
                    yield from self._take_line(line)

    def end(self) -> Iterator[bytes]:
        """Yield the data of the last lines, which may lack an empty line after them."""
        yield from self._take_line(bytes(self._line).removesuffix(b"\r"))
        yield from self._take_line(b"")

    def take(self, data: bytes) -> bool:
        """Take in one event's data; return whether it was the last."""
        self._events += 1
        if data.strip() == b"[DONE]":
            self._ended = True
            return True
        try:
            event = loads(data)
        except ValueError:
            raise Transient("an event of the streamed reply is not JSON") from None
        if not isinstance(event, dict):
            return False
        if event.get("error"):
            self._error = event["error"]
            return True
        self._usage = event.get("usage") or self._usage
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict) and choice.get("index") in (0, None):
                self._take_choice(choice)
        return False

    def joined(self) -> bytes:
        """Return the whole reply as JSON. Raises Transient if the stream was cut off."""
        if self._error is not None:
            return orjson.dumps({"error": self._error})
        if not self._events:
            return bytes(self._plain)
        if not self._ended and self._finish_reason is None:
            raise Transient("the streamed reply ended before the answer did")
        texts = {key: "".join(parts) for key, parts in self._texts.items()}
        message = {"role": "assistant", "content": texts["content"]}
        if texts["reasoning_content"]:
            message["reasoning_content"] = texts["reasoning_content"]
        choice = {"text": texts["text"], "message": message, "finish_reason": self._finish_reason}
        return orjson.dumps({"choices": [choice], "usage": self._usage})

    def _take_line(self, line: bytes) -> list[bytes]:
        """Take in a line; return the data of the events that it ends."""
        if not line:
            data, self._data, self._size = self._data, [], 0
            if len(data) > 1 and all(part.startswith((b"{", b"[DONE]")) for part in data):
                return data  # some servers leave out the empty lines between events
            return [b"\n".join(data)] if data else []
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._size += len(line)
            if self._size > MAX_REPLY:
                raise _too_large()
        elif not self._events and not line.startswith((b"event:", b":", b"id:", b"retry:")):
            self._plain += line + b"\n"
            if len(self._plain) > MAX_REPLY:
                raise _too_large()
        return []

    def _take_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if delta is None and not self._texts["content"]:  # else a last event that repeats the whole reply
            delta = choice.get("message")
        message = delta if isinstance(delta, dict) else {}
        for key, text in (
            ("text", choice.get("text")),
            ("content", message.get("content")),
            ("reasoning_content", message.get("reasoning_content") or message.get("reasoning")),
        ):
            if isinstance(text, str):
                self._texts[key].append(text)
                self._left -= len(text)
        if self._left < 0:
            raise _too_large()
        if isinstance(choice.get("finish_reason"), str):
            self._finish_reason = choice["finish_reason"]


def _too_large() -> Refused:
    return Refused(_TOO_LARGE, status=200, advice=_TOO_LARGE_ADVICE, paid=True)
