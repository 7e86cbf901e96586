"""The misbehaviours of endpoints: a table of what a server does and what a user should read of it.

python -m tests.faults.behaviours serve FOLDER     serves them all; prints {name: port}, ends with stdin
python -m tests.faults.behaviours meet PORTS FOLDER CONCURRENCY     meets them all; a line of JSON for each
"""

import asyncio
import gzip
import itertools
import json
import resource
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.hostile import ANSWER, KEY, Behaviour, HostileServers, Serve, Wire, make_certificates, meet

GOOD = json.dumps(
    {
        "choices": [{"text": " green skin\n- long legs", "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5},
    }
).encode()


TABLE: list[Behaviour] = []


def behaviour(cause: str, **more: Any) -> Callable[[Serve], Serve]:
    """Enter what a function does into the table, under its name."""

    def enter(serve: Serve) -> Serve:
        name = serve.__name__.replace("_", " ").strip()
        TABLE.append(Behaviour(name, cause, serve, **more))
        return serve

    return enter


def reply(body: bytes = GOOD, status: str = "200 OK", *, length: bool = True, **headers: str) -> bytes:
    """Return a reply's bytes; underscores in names of headers stand for hyphens."""
    sent = {
        "content_type": "application/json",
        **({"content_length": str(len(body))} if length else {}),
        **headers,
    }
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in sent.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body


def replies(
    name: str,
    cause: str,
    data: bytes,
    close: bool = False,
    sampled: bool = False,
    **more: Any,
) -> None:
    """Enter a server that answers each request with the same bytes."""

    async def serve(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(data)
            if close:
                return

    TABLE.append(Behaviour(name, cause, serve, sampled=sampled, **more))


def head(**headers: str) -> bytes:
    """Return a reply's beginning without a length."""
    return reply(b"", length=False, **headers)


CHUNKED = head(transfer_encoding="chunked")
SSE = "text/event-stream"
CLOSED = r"the connection was (closed|reset) without a reply"
CUT = r"the connection was (closed|reset) during the reply"
NOT_HTTP = "the reply is not valid HTTP"
LATE = r"no reply within 1 s \(2 attempts\): allow more time with --timeout"
INCOMPLETE = r"the reply was not complete within 1 s"
LARGE = "the reply is larger than any answer can be"
NOT_JSON = "the reply is not JSON"


def packed(data: bytes, *layers: str) -> bytes:
    """Return a reply packed so often."""
    for layer in layers:
        data = gzip.compress(data) if layer == "gzip" else zlib.compress(data)
    return reply(data, content_encoding=", ".join(layers))


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def events(*data: Any, done: bool = True) -> bytes:
    lines = [text if isinstance(text, bytes) else json.dumps(text).encode() for text in data]
    return b"".join(b"data: " + line + b"\n\n" for line in (*lines, *([b"[DONE]"] if done else [])))


def error(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


# ---- no connection, or none for long

TABLE.append(Behaviour("nobody listens", "connection refused.*: start the server", sampled=True))
UMLAUT = "http://bücher.invalid/v1"
TABLE.append(Behaviour("unknown host with an umlaut", "^http://[^ ]*: host name not found", url=UMLAUT))
TABLE.append(
    Behaviour("unknown host", "host name not found", url="http://no-such-host.invalid/v1", sampled=True)
)
TABLE.append(
    Behaviour("host of 64 letters", "host name not found|label", url=f"http://{'a' * 64}.invalid/v1")
)


@behaviour(CLOSED, sampled=True)
async def closed_at_once(wire: Wire) -> None:
    pass


@behaviour(f"{CLOSED}|connection reset by peer")
async def reset_at_once(wire: Wire) -> None:
    wire.reset()


@behaviour(LATE)
async def silent(wire: Wire) -> None:
    await asyncio.sleep(60)


@behaviour(CLOSED)
async def closed_after_the_request(wire: Wire) -> None:
    await wire.request()


@behaviour(CLOSED, sampled=True)
async def reset_after_the_request(wire: Wire) -> None:
    await wire.request()
    wire.reset()


@behaviour(LATE, sampled=True)
async def silent_after_the_request(wire: Wire) -> None:
    await wire.request()
    await asyncio.sleep(60)


# ---- headers

replies("closed within the status line", CLOSED, b"HTTP/1.1 20", close=True)
replies("closed within the headers", CLOSED, b"HTTP/1.1 200 OK\r\nContent-Ty", close=True)


@behaviour(CLOSED)
async def reset_within_the_headers(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    await asyncio.sleep(0.05)
    wire.reset()


@behaviour(LATE, sampled=True)
async def drip_of_headers(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\n")
    await wire.endless(b"x: y\r\n", 0.05)


@behaviour(NOT_HTTP, sampled=True)
async def flood_of_headers(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\n")
    await wire.endless(b"x: y\r\n")


@behaviour(NOT_HTTP)
async def one_endless_header(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nx: ")
    await wire.endless(b"y")


@behaviour(NOT_HTTP)
async def endless_status_line(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 ")
    await wire.endless(b"y")


@behaviour(LATE)
async def flood_of_informational_replies(wire: Wire) -> None:
    await wire.request()
    await wire.endless(b"HTTP/1.1 100 Continue\r\n\r\n")


@behaviour(LATE)
async def processing_and_silence(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 102 Processing\r\n\r\n")
    await asyncio.sleep(60)


replies("early hints and an answer", ANSWER, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + reply())
replies(
    "switching protocols",
    "status 101|not valid HTTP",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
)
replies("no HTTP at all", NOT_HTTP, b"\x00\xff\x00\xff" * 100, close=True, sampled=True)
replies("SSH", NOT_HTTP, b"SSH-2.0-OpenSSH_9.6\r\n\r\n", close=True)
replies("HTTP/0.9", NOT_HTTP, GOOD + b"\r\n\r\n", close=True)
replies(
    "HTTP/2", NOT_HTTP, b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00\x03\x00\x00\x00\x64" * 3, close=True
)
replies("status 999", "status 999|not valid HTTP", reply(status="999 What"))
replies("status without a number", NOT_HTTP, b"HTTP/1.1 OK\r\n\r\n", close=True)
replies("status text that is not ASCII", ANSWER, reply(status="200 \xe9\xe8"))
replies("header with a control character", NOT_HTTP, reply(x="a\x00b"), close=True)
replies(
    "many cookies",
    ANSWER,
    reply(set_cookie="a=" + "x" * 4000 + "\r\n" + "Set-Cookie: b=c\r\n" * 3000 + "X: y"),
)

# ---- a body's length

replies("longer than it says", r"not JSON|not valid HTTP", reply(content_length="10"), close=True)
replies(
    "shorter than it says",
    CUT + ": 1[0-9]+ of 5000 bytes",
    reply(content_length="5000"),
    close=True,
    sampled=True,
)
replies("negative length", NOT_HTTP, reply(content_length="-5"), close=True)
replies("length that is no number", NOT_HTTP, reply(content_length="ten"), close=True)
replies("two lengths", NOT_HTTP, reply(content_length="5\r\nContent-Length: 6"), close=True)
replies("length of 10 GB", LARGE, reply(content_length=str(10 << 30)))
replies("length of 400 digits", "not valid HTTP|larger|closed", reply(content_length="9" * 400), close=True)
replies(
    "length and chunks",
    "closed|not valid HTTP|not JSON|ANSWER",
    CHUNKED + chunk(GOOD) + b"0\r\n\r\n",
    close=True,
)
replies("chunk size that is no number", NOT_HTTP, CHUNKED + b"xyz\r\n" + GOOD, close=True)
replies("chunk of huge size", NOT_HTTP + "|" + CUT, CHUNKED + b"f" * 40 + b"\r\nxx", close=True)
replies("cut between chunks", CUT, CHUNKED + chunk(GOOD), close=True, sampled=True)
replies("chunks", ANSWER, CHUNKED + chunk(GOOD[:9]) + chunk(GOOD[9:]) + b"0\r\n\r\n")
replies("no length, closed at its end", ANSWER, head() + GOOD, close=True)
replies("no length, cut", NOT_JSON, head() + GOOD[:-9], close=True)
replies("answer, and the connection is closed", ANSWER, reply(connection="close"), close=True)


@behaviour(NOT_HTTP)
async def endless_chunk_extension(wire: Wire) -> None:
    await wire.request()
    await wire.send(CHUNKED + b"5;")
    await wire.endless(b"x")


@behaviour(NOT_HTTP + "|" + INCOMPLETE)
async def flood_of_trailers(wire: Wire) -> None:
    await wire.request()
    await wire.send(CHUNKED + chunk(GOOD) + b"0\r\n")
    await wire.endless(b"x: y\r\n")


@behaviour(INCOMPLETE, sampled=True)
async def drip_of_a_body(wire: Wire) -> None:
    await wire.request()
    await wire.send(reply(content_length="100000")[:-1])
    await wire.endless(b" ", 0.02)


@behaviour(LARGE, sampled=True)
async def endless_body(wire: Wire) -> None:
    await wire.request()
    await wire.send(head())
    await wire.endless(b" ")


@behaviour(LARGE + "|" + INCOMPLETE)
async def endless_chunks_of_a_byte(wire: Wire) -> None:
    await wire.request()
    await wire.send(CHUNKED)
    await wire.endless(chunk(b" "))


@behaviour(INCOMPLETE)
async def silent_within_the_body(wire: Wire) -> None:
    await wire.request()
    await wire.send(reply()[:-5])
    await asyncio.sleep(60)


@behaviour(CUT)
async def reset_within_the_body(wire: Wire) -> None:
    await wire.request()
    await wire.send(reply()[:-5])
    await asyncio.sleep(0.05)
    wire.reset()


# ---- compression


def megabytes_of_blanks(count: int) -> bytes:
    """Return raw deflate data of so many MiB, made of one block again and again."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return (packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * count


RAW_BOMB = megabytes_of_blanks(800)
GZIP_BOMB = gzip.compress(b"")[:10] + RAW_BOMB


def bomb(name: str, coding: str, data: bytes, *, sampled: bool = False) -> None:
    """Enter a server whose replies are bombs."""
    replies(name, LARGE, reply(data, content_encoding=coding), sampled=sampled)


bomb("gzip bomb", "gzip", GZIP_BOMB)
bomb("gzip bomb in gzip", "gzip, gzip", gzip.compress(GZIP_BOMB), sampled=True)
bomb("gzip bomb in gzip in gzip", "gzip, gzip, gzip", gzip.compress(gzip.compress(GZIP_BOMB)))
bomb("deflate bomb", "deflate", b"\x78\x9c" + RAW_BOMB)
bomb("raw deflate bomb", "deflate", RAW_BOMB)
replies("gzip", ANSWER, packed(GOOD, "gzip"))
replies(
    "blocks that unpack to nothing",
    f"{LARGE}|damaged",
    reply(
        gzip.compress(gzip.compress(b"\x00\x00\x00\xff\xff" * (1 << 20))),
        content_encoding="deflate, gzip, gzip",
    ),
)
replies("twenty layers", "compressed too many times", packed(GOOD, *["gzip"] * 20))
replies(
    "brotli, which nobody asked for",
    "compressed as 'br', which was not asked for",
    reply(content_encoding="br"),
    sampled=True,
)
replies("unknown coding", "compressed as 'rot13'", reply(content_encoding="rot13"))
replies("gzip in name only", "gzip data is damaged", reply(content_encoding="gzip"), sampled=True)
replies("gzip, cut", "gzip data is damaged", reply(gzip.compress(GOOD)[:-9], content_encoding="gzip"))
replies("gzip with more behind it", ANSWER, reply(gzip.compress(GOOD) + b"more", content_encoding="gzip"))


@behaviour(LARGE)
async def endless_gzip_of_nothing(wire: Wire) -> None:
    await wire.request()
    await wire.send(head(content_encoding="gzip") + gzip.compress(b"")[:10])
    await wire.endless(b"\x00\x00\x00\xff\xff")


# ---- content

replies("empty body", "the reply is empty", reply(b""), sampled=True)
replies("status 204", "the reply is empty", b"HTTP/1.1 204 No Content\r\n\r\n")
replies("status 203", ANSWER, reply(status="203 Non-Authoritative"))
replies(
    "web page",
    "the reply is a web page: check --base-url",
    reply(b"<!doctype html><p>hi", content_type="text/html"),
    sampled=True,
)
replies("web page called JSON", "the reply is a web page: check --base-url", reply(b"\n<html><p>hi"))
replies("plain text", f"{NOT_JSON}: 'It works!'", reply(b"It works!", content_type="text/plain"))
replies("cut JSON", NOT_JSON, reply(GOOD[:-9]), sampled=True)
replies("NaN", "the reply has no text", reply(b'{"choices": [{"text": NaN}]}'))
replies("40,000 brackets", NOT_JSON, reply(b"[" * 40_000 + b"]" * 40_000), sampled=True)
replies("100,000 brackets", "more than 52,428 values", reply(b"[" * 100_000 + b"]" * 100_000))
replies("1,000 brackets", "no choice", reply(b"[" * 1000 + b"]" * 1000))
replies(
    "number of 10,000 digits",
    f"{ANSWER}|{NOT_JSON}",
    reply(GOOD.replace(b": 5,", b": " + b"5" * 10_000 + b",")),
)
replies("number beyond any", f"{ANSWER}|{NOT_JSON}", reply(GOOD.replace(b": 5,", b": 1e999,")))
replies("keys twice", ANSWER, reply(b'{"choices": 5, ' + GOOD[1:]))
replies("invalid UTF-8", ANSWER, reply(GOOD.replace(b"green", b"gr\xff\xfe")))
replies("UTF-16", NOT_JSON, reply(GOOD.decode().encode("utf-16")))
replies("byte order mark", ANSWER, reply(b"\xef\xbb\xbf" + GOOD))
replies("half a surrogate pair", f"{ANSWER}|{NOT_JSON}", reply(GOOD.replace(b"green", b"\\ud83d")))
replies("list", "no choice", reply(b"[1, 2]"))
replies("null", "no choice", reply(b"null"))
replies("text", "no choice", reply(b'"hello"'))
replies("choices of another type", "no choice", reply(b'{"choices": {"text": "a"}}'), sampled=True)
replies("text of another type", "text is not a text|no choice", reply(b'{"choices": [{"text": [5]}]}'))
replies("300,000 empty objects", "more than 52,428 values", reply(b"[" + b"{}," * 300_000 + b"{}]"))
replies(
    "error in a good reply", "the reply is an error: overloaded", reply(error("overloaded")), sampled=True
)
replies("error as a text", "the reply is an error: overloaded", reply(b'{"error": "overloaded"}'))
replies("nonsense as content type", ANSWER, reply(content_type="a/b/c;;=;charset"))

# ---- streams

STREAM = events({"choices": [{"text": " green"}]}, {"choices": [{"text": " skin", "finish_reason": "stop"}]})
replies("stream", ANSWER, reply(STREAM, content_type=SSE), sampled=True)
replies("stream called JSON", ANSWER, reply(STREAM))
replies(
    "stream without an end mark", ANSWER, reply(STREAM.removesuffix(b"data: [DONE]\n\n"), content_type=SSE)
)
replies("stream that goes on after its end", ANSWER, head(content_type=SSE) + STREAM)
replies("JSON called a stream", ANSWER, reply(GOOD, content_type=SSE))
replies(
    "cut stream",
    "ended before the answer did",
    reply(events({"choices": [{"text": "a"}]}, done=False), content_type=SSE),
    sampled=True,
)
replies(
    "error in a stream",
    "the reply is an error: overloaded",
    reply(events({"choices": [{"text": "a"}]}, {"error": {"message": "overloaded"}}), content_type=SSE),
    sampled=True,
)
replies(
    "stream of no JSON",
    "an event of the streamed reply is not JSON",
    reply(events(b"hello"), content_type=SSE),
)


@behaviour(f"{INCOMPLETE}|{LARGE}", sampled=True)
async def endless_pings(wire: Wire) -> None:
    await wire.request()
    await wire.send(head(content_type=SSE))
    await wire.endless(b": ping\n\n")


@behaviour(INCOMPLETE)
async def pings_now_and_then(wire: Wire) -> None:
    await wire.request()
    await wire.send(head(content_type=SSE))
    await wire.endless(b": ping\n\n", 0.1)


@behaviour(f"{INCOMPLETE}|{LARGE}")
async def endless_answer(wire: Wire) -> None:
    await wire.request()
    await wire.send(head(content_type=SSE))
    await wire.endless(events({"choices": [{"text": "- a"}]}, done=False))


@behaviour(LARGE)
async def endless_event(wire: Wire) -> None:
    await wire.request()
    await wire.send(head(content_type=SSE) + b"data: {")
    await wire.endless(b"x")


@behaviour(ANSWER)
async def streams_only(wire: Wire) -> None:
    while body := json.loads(await wire.request()):
        if body.get("stream"):
            await wire.send(reply(STREAM, content_type=SSE))
        else:
            await wire.send(reply(error("Stream must be set to true"), "400 Bad Request"))


# ---- refusals

for status, advice in (
    ("401 Unauthorized", ": check OPENAI_API_KEY"),
    ("402 Payment Required", ": add credit"),
    ("403 Forbidden", ": check that the key may use this model"),
    ("404 Not Found", ": check --model and --base-url"),
    ("405 Method Not Allowed", ": check --base-url"),
    ("418 I'm a teapot", ""),
    ("500 Internal Server Error", ""),
    ("599 What", ""),
):
    replies(
        f"status {status}",
        rf"status {status[:3]}: no, thanks( \(2 attempts\))?{advice}",
        reply(error("no, thanks"), status),
        sampled=status[:3] in ("401", "500"),
    )
replies("status 407 without a proxy", "status 407", reply(b"", "407 Proxy Authentication Required"))
replies(
    "quota used up",
    "status 429: pay.*: add credit",
    reply(error("pay", code="insufficient_quota"), "429 No"),
    sampled=True,
)
for wait, cause in (
    ("0", "slow down"),
    ("-1", "slow down"),
    ("soon", "slow down"),
    ("1e300", "slow down"),
    ("86400", "slow down.*the server asked us to wait 86400 s; --max-wait is 5 s"),
    ("Fri, 31 Dec 9999 23:59:59 GMT", "slow down.*the server asked us to wait"),
    ("Fri, 31 Dec 99999 23:59:59 GMT", "slow down"),
):
    limited = reply(error("slow down"), "429 Too Many Requests", retry_after=wait)
    replies(f"retry after {wait}", f"status 429: {cause}", limited, sampled=wait == "0")
replies("error that explains nothing", "status 500: no reason given", reply(b"", "500 Oops"))
replies(
    "error of 5 MB", "status 500: ", reply(b"<p>oops</p>" * 500_000, "500 Oops", content_type="text/html")
)
replies(
    "error that is a bomb",
    "status 500: ",
    reply(GZIP_BOMB, "500 Oops", content_encoding="gzip"),
    sampled=True,
)
replies(
    "error in a codec that unpacks",
    "status 500: ",
    reply(b"\x78\x9c" + RAW_BOMB, "500 Oops", content_type="text/plain; charset=zlib_codec"),
)
NESTED = b'{"error": ' * 1000 + b'"deep"' + b"}" * 1000
replies("nested error", "status 500: an object nested too deep", reply(NESTED, "500 Oops"), sampled=True)
replies("nested error in a good reply", "an object nested too deep", reply(NESTED))
replies("error of brackets", "status 500: ", reply(b"[" * 60_000, "500 Oops"))
replies(
    "error with our key in it",
    r"status 401: wrong key \*\*\* \*\*\*",
    reply(
        error(f"wrong key {KEY} ").replace(b'"}}', b"".join(b"\\u%04x" % c for c in KEY.encode()) + b'"}}'),
        "401 No",
    ),
    sampled=True,
)
replies("error with terminal codes", r"status 401: a \[2J b:", reply(error("a\x1b[2J\r\nb"), "401 No"))


@behaviour("status 401: no reason given: check OPENAI_API_KEY")
async def error_without_an_end(wire: Wire) -> None:
    await wire.request()
    await wire.send(reply(status="401 No", content_length="100000"))
    await asyncio.sleep(60)


# ---- redirects

replies(
    "redirect to itself",
    "redirects in a loop",
    reply(b"", "308 There", location="/v1/completions"),
    sampled=True,
)
replies(
    "redirect elsewhere",
    r"redirects to http://elsewhere\.invalid/v1: pass --base-url",
    reply(b"", "307 There", location="http://me:secret@elsewhere.invalid/v1/completions?a=b"),
    sampled=True,
)
replies(
    "redirect that drops the body",
    "status 301: redirects to https://127.0.0.1",
    reply(b"", "301 There", location="https://127.0.0.1/v1/completions"),
)
replies(
    "redirect to no URL",
    "redirects to what is not a URL: check --base-url",
    reply(b"", "302 There", location="javascript:alert(1)"),
)
replies("redirect without an address", "status 302", reply(b"", "302 There"))
replies(
    "redirect to a port that is none",
    "redirects to what is not a URL: check --base-url",
    reply(b"", "307 There", location="http://[::1"),
)
replies("status 304", "status 304", b"HTTP/1.1 304 Not Modified\r\n\r\n")


@behaviour("redirects in a loop")
async def redirect_that_grows(wire: Wire) -> None:
    for number in itertools.count(1):
        await wire.request()
        await wire.send(reply(b"x" * 1000, "308 There", location="/v1/" + "a/" * number))


@behaviour(ANSWER)
async def redirect_within_the_server(wire: Wire) -> None:
    while True:
        await wire.request()
        slash = wire.head.split(" ")[1].endswith("/")
        await wire.send(reply() if slash else reply(b"", "307 There", location="/v1/completions/"))


# ---- TLS


async def answers(wire: Wire) -> None:
    """What an endpoint should do."""
    while True:
        await wire.request()
        await wire.send(reply())


async def not_understood(wire: Wire) -> None:
    """What a server without TLS says to the beginning of a handshake."""
    await wire.reader.read(100)
    await wire.send(reply(b"", "400 Bad Request"))


HTTPS = "https://127.0.0.1:{port}/v1"


def tls(name: str, cause: str, certificate: str, *, trusted: bool = True, sampled: bool = False) -> None:
    """Enter a good server behind TLS, whose certificate the client trusts but for its own faults."""
    environment = {"SSL_CERT_FILE": f"{{folder}}/{certificate}.pem"} if trusted else {}
    TABLE.append(Behaviour(name, cause, answers, HTTPS, environment, certificate, sampled=sampled))


UNTRUSTED = "the server's certificate is not trusted: "
tls(
    "self-signed",
    UNTRUSTED + "self-signed certificate: set SSL_CERT_FILE",
    "valid",
    trusted=False,
    sampled=True,
)
tls("trusted certificate", ANSWER, "valid")
tls("expired certificate", UNTRUSTED + "certificate has expired: renew", "expired", sampled=True)
tls("certificate to come", UNTRUSTED + "certificate is not yet valid: check", "future")
tls("certificate of another host", UNTRUSTED + "IP address mismatch.*--base-url", "other", sampled=True)
TABLE += [
    Behaviour("no TLS", "TLS handshake failed.*http://", not_understood, HTTPS, sampled=True),
    Behaviour("TLS unasked", f"{CLOSED}.*https://|{NOT_HTTP}", answers, certificate="valid", sampled=True),
    Behaviour("silence instead of TLS", "no TLS handshake within 1 s", silent, HTTPS),
    Behaviour("closed instead of TLS", "closed during the TLS handshake", closed_at_once, HTTPS),
]

# ---- proxies: the server is one, the endpoint is elsewhere

FAR = "http://endpoint.invalid/v1"
FAR_TLS = "https://endpoint.invalid/v1"
PROXY = {"HTTP_PROXY": "http://127.0.0.1:{port}", "HTTPS_PROXY": "http://127.0.0.1:{port}"}


async def proxy_says(status: str, wire: Wire) -> None:
    """Answer everything with one status."""
    while True:
        await wire.request()
        await wire.send(reply(b"", status))


def proxy(name: str, cause: str, serve: Serve | None, *, far: str = FAR, sampled: bool = False) -> None:
    """Enter a proxy on the way to an endpoint that exists nowhere."""
    TABLE.append(Behaviour(name, cause, serve, far, PROXY, sampled=sampled))


def named(name: str, cause: str, variable: str, url: str, *, sampled: bool = False) -> None:
    """Enter a proxy's URL that cannot be used."""
    TABLE.append(Behaviour(name, cause, None, FAR, {variable: url}, sampled=sampled))


WANTS_PASSWORD = partial(proxy_says, "407 Proxy Authentication Required")
UNREACHED = r"the proxy 127.0.0.1:\d+ cannot be reached: connection refused.*NO_PROXY"
proxy("dead proxy", UNREACHED, None, sampled=True)
proxy("dead proxy for TLS", UNREACHED, None, far=FAR_TLS)
proxy("silent proxy", r"no reply within 1 s \(through the proxy 127.0.0.1:\d+\)", silent)
proxy("proxy that closes", r"closed without a reply \(through the proxy", closed_at_once, far=FAR_TLS)
proxy("proxy with a password", "the proxy .* refuses.*407.*user:password", WANTS_PASSWORD, sampled=True)
proxy("the same for TLS", "the proxy .* refuses.*407.*user:password", WANTS_PASSWORD, far=FAR_TLS)
proxy(
    "proxy that forbids",
    "refuses to connect: 403.*NO_PROXY",
    partial(proxy_says, "403 Forbidden"),
    far=FAR_TLS,
)
proxy("proxy that finds nobody", "status 502.*through the proxy", partial(proxy_says, "502 Bad Gateway"))
proxy(
    "nobody for TLS", "proxy .* refuses to connect: 502", partial(proxy_says, "502 Bad Gateway"), far=FAR_TLS
)
UNUSABLE = "does not name a usable proxy"
SOCKS = "ALL_PROXY names a SOCKS proxy.*socksio is missing: install it"
named("SOCKS proxy without the package", SOCKS, "ALL_PROXY", "socks5://127.0.0.1:{port}", sampled=True)
named(
    "proxy of an unknown kind",
    f"ALL_PROXY {UNUSABLE}",
    "ALL_PROXY",
    "gopher://127.0.0.1:{port}",
    sampled=True,
)
named(
    "proxy with no port",
    "cannot be reached: no connection: .*port must",
    "HTTP_PROXY",
    "http://127.0.0.1:99999",
)
named("broken proxy with a password", f"HTTP_PROXY {UNUSABLE}", "HTTP_PROXY", f"http://me:{KEY}@[::1")


def _serve_all(folder: Path) -> None:
    make_certificates(folder)
    with HostileServers(TABLE, folder) as servers:
        print(json.dumps(servers.ports), flush=True)
        sys.stdin.read()  # until the parent leaves


def _meet_all(ports: dict[str, int], folder: Path, concurrency: int) -> None:
    """Print what came of each, the idle process's and the highest memory so far in MiB among it."""
    meet(
        next(behaviour for behaviour in TABLE if behaviour.name == "gzip"), ports["gzip"], folder
    )  # loads all libraries
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for behaviour in TABLE:
        line, seconds = meet(behaviour, ports[behaviour.name], folder, concurrency)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            json.dumps(
                {"name": behaviour.name, "line": line, "seconds": seconds, "idle": idle, "peak": peak}
            ),
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve_all(Path(sys.argv[2]))
    else:
        _meet_all(json.loads(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
