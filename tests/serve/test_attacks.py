"""Attacks over real connections: none gets an answer that it should not, and the server stays up."""

import itertools
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.classification.hostile_images import FILES
from tests.serve.served import Answer, Served, form

CONNECTIONS = 512  # that a server has at most

pytestmark = pytest.mark.slow

FOREIGN = (
    *(
        "evil.example",
        "evil.example:{port}",
        "localhost.evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
    ),
    *(
        "127.0.0.1",
        "localhost",
        "127.0.0.1:80",
        "localhost:443",
        "127.0.0.1:1",
        "192.168.1.1:{port}",
        "[::2]:{port}",
    ),
    *(
        "0.0.0.0:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "0x7f000001:{port}",
        "localhost:{port}@evil.example",
    ),
    *("user@localhost:{port}", "localhost:{port}/x", "localhost:{port}?x", "localhost:{port}#x", "", " "),
    *("localhost:{port}:{port}", "rebound.example:{port}", "xn--lcalhost-54a:{port}", "localhost%00:{port}"),
)
ORIGINS = (
    *(
        "https://evil.example",
        "http://evil.example:{port}",
        "null",
        "file://",
        "http://127.0.0.1",
        "http://localhost",
    ),
    *("http://127.0.0.1:1", "https://127.0.0.1:{port}.evil.example", "http://localhost:{port}.evil.example"),
    *(
        "chrome-extension://abc",
        "http://127.0.0.1:{port}@evil.example",
        "http://user@127.0.0.1:{port}",
        "data:,x",
    ),
)
PATHS = (
    *(
        "/../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/page.html",
        "/page.py",
        "/app.py",
    ),
    *("//etc/passwd", "/page.js/../app.py", "/page.js%00.py", "/page.css/", "/page.js/", "/static/page.js"),
    *("/classify/..", "/classify/", "/classes/", "/health/", "/./page.html", "/....//....//etc/passwd"),
    *(
        "/%252e%252e/etc/passwd",
        "/\\..\\..\\etc\\passwd",
        "/page.js;/../app.py",
        "/C:/windows/win.ini",
        "/.git/config",
    ),
    *("/__init__.py", "/guard.py", "/~root", "/server-status", "/%2fetc%2fpasswd", "/page.js/..%2fapp.py"),
)


def _request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    head = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "Connection: close", "", ""]).encode("latin-1") + body


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def _healthy(served: Served, zoo: Path) -> bool:
    answer = served.classify(zoo / "zorblat-0.png")
    return (answer.status, json.loads(answer.body)["label"]) == (200, "zorblat")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_foreign_hosts(served: Served, zoo: Path, method: str) -> None:
    """DNS rebinding: a page's own name, which leads here by now."""
    path, image = (
        ("/classes", b"") if method == "GET" else ("/classify", (zoo / "zorblat-0.png").read_bytes())
    )
    for host in FOREIGN:
        answer = served.raw(_request(method, path, {"Host": host.format(port=served.port)}, image))
        assert _status(answer) in (400, 403), (host, answer[:200])
        assert b"zorblat" not in answer
    twice = f"GET /classes HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nHost: evil.example\r\n\r\n"
    assert _status(served.raw(twice.encode())) in (400, 403)
    assert _status(served.raw(b"GET /classes HTTP/1.0\r\n\r\n")) in (400, 403)
    absolute = "GET http://evil.example/classes HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert _status(served.raw(absolute.encode())) in (400, 403)
    assert _healthy(served, zoo)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_foreign_origins(served: Served, zoo: Path, method: str) -> None:
    image = (zoo / "zorblat-0.png").read_bytes() if method == "POST" else b""
    path = "/classes" if method == "GET" else "/classify"
    for origin in ORIGINS:
        headers = {"Host": f"127.0.0.1:{served.port}", "Origin": origin.format(port=served.port)}
        answer = served.raw(_request(method, path, headers, image))
        assert _status(answer) == 403, (origin, answer[:200])
        assert b"zorblat" not in answer
        assert b"access-control-allow" not in answer.lower()
    for site in ("cross-site", "same-site"):
        headers = {"Host": f"127.0.0.1:{served.port}", "Sec-Fetch-Site": site}
        assert _status(served.raw(_request("POST", "/classify", headers, image or b"x"))) == 403
    own = {
        "Origin": f"http://127.0.0.1:{served.port}",
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "image/png",
    }
    assert served.ask("POST", "/classify", (zoo / "zorblat-0.png").read_bytes(), own).status == 200


def test_paths(served: Served, zoo: Path) -> None:
    for path in PATHS:
        for method in ("GET", "POST"):
            answer = served.raw(_request(method, path, {"Host": f"127.0.0.1:{served.port}"}))
            assert _status(answer) in (400, 404, 405), (path, answer[:200])
            for secret in (b"root:", b"import ", b"<html"):
                assert secret not in answer
    assert _healthy(served, zoo)


def _broken_requests(port: int) -> Iterator[bytes]:
    host = f"Host: 127.0.0.1:{port}\r\n".encode()
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)  # TLS
    yield b"\x00" * 1000
    yield b"GET\r\n\r\n"
    yield b"GET / HTTP/9.9\r\n" + host + b"\r\n"
    yield b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + host + b"\r\n"
    yield b"GET / HTTP/1.1\r\n" + host + b"X: " + b"a" * 100_000 + b"\r\n\r\n"
    yield b"GET / HTTP/1.1\r\n" + host + b"X: y\r\n" * 20_000 + b"\r\n"
    yield b"POST /classify HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\n"
    yield b"POST /classify HTTP/1.1\r\n" + host + b"Content-Length: 99999999999999999999\r\n\r\n"
    yield b"POST /classify HTTP/1.1\r\n" + host + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
    yield (
        b"POST /classify HTTP/1.1\r\n"
        + host
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    yield b"POST /classify HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"
    yield b"POST /classify HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n"
    yield b"POST /classify HTTP/1.1\r\n" + host + b"Transfer-Encoding: gzip\r\n\r\nhello"
    yield b"GET / HTTP/1.1\r\n" + host + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    yield b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"
    yield b"TRACE / HTTP/1.1\r\n" + host + b"\r\n"
    yield b"PUT /page.js HTTP/1.1\r\n" + host + b"Content-Length: 3\r\n\r\nbad"
    yield b"DELETE /classify HTTP/1.1\r\n" + host + b"\r\n"


def test_requests_that_are_none(served: Served, zoo: Path) -> None:
    """All at once, as the server waits for the rest of some until it has waited long enough."""
    requests = list(_broken_requests(served.port))
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(served.raw, requests))
    for answer in answers:
        assert _status(answer) in (0, 200, 400, 403, 404, 405, 413), answer[:200]
        assert _status(answer) != 200 or b"<html" in answer  # the page itself, at most
        assert b"Traceback" not in answer
    assert _healthy(served, zoo)


def _forms() -> Iterator[tuple[bytes, str]]:
    kind = "multipart/form-data; boundary="
    yield b"", kind + "x"
    yield b"--x\r\n", kind + "x"
    yield b"--x\r\nContent-Disposition: form-data\r\n\r\nhi\r\n--x--", kind + "x"
    yield b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nhi\r\n--x--', kind + "x"
    yield b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n', kind + "x"
    yield b"--x\r\n" + b"A: b\r\n" * 10_000 + b"\r\n--x--", kind + "x"
    yield b"--x\r\nContent-Disposition: form-data; name=" + b"a" * 100_000 + b"\r\n\r\n\r\n--x--", kind + "x"
    yield b"\xff" * 1000, kind + "x"
    yield b"x", kind + "a" * 5000
    yield b"x", kind
    yield b"--x\r\n" * 10_000, kind + "x"
    many = (f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\nv\r\n'.encode() for n in range(1000))
    yield b"".join(many) + b"--x--", kind + "x"


def test_forms_that_are_none(served: Served, zoo: Path) -> None:
    for body, kind in _forms():
        answer = served.ask("POST", "/classify", body, {"Content-Type": kind})
        assert answer.status == 400, (body[:80], answer)
        assert "error" in json.loads(answer.body)
    assert _healthy(served, zoo)


def test_markup_and_tricks_in_names(served: Served, zoo: Path) -> None:
    image = (zoo / "zorblat-0.png").read_bytes()
    names = [
        "<script>alert(1)</script>.png",
        "../../etc/passwd",
        "a\\b.png",
        "‮gnp.exe",
        "x" * 1000,
        "=1+1",
        "%00.png",
    ]
    for name in names:
        answer = served.ask("POST", "/classify", *form([(name, image)]))
        line = json.loads(answer.body)
        assert (answer.status, line["label"]) == (200, "zorblat")
        assert len(line["image"]) <= 255
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_bodies_of_100_mb(served: Served, zoo: Path) -> None:
    before = served.memory()
    for chunked in (False, True):
        head = f"POST /classify HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: image/png\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {100 * 2**20}\r\n\r\n"
        part = bytes(2**20)
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
            connection.sendall(head.encode())
            try:
                for _ in range(100):
                    connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
                connection.sendall(b"0\r\n\r\n" if chunked else b"")
                answer = connection.recv(65536)
            except ConnectionError:
                answer = b""
        assert _status(answer) in (0, 413)
    assert served.memory() - before < 64 * 2**20
    assert _healthy(served, zoo)


@pytest.mark.parametrize("path", ["/classify", "/classify?top=x", "/elsewhere", "/health"])
def test_chunks_of_next_to_nothing_do_not_hold_up_others(served: Served, zoo: Path, path: str) -> None:
    """A megabyte in chunks of a byte takes seconds to parse."""
    method = "GET" if path == "/health" else "POST"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(head.encode())
        with pytest.raises(ConnectionError):
            connection.sendall(b"1\r\nx\r\n" * 1_000_000)
    assert _healthy(served, zoo)


@pytest.mark.parametrize(
    "endless",
    [
        b"a",
        b"\r\n",
        b"GET /",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_heads_and_requests_without_end(served: Served, zoo: Path, endless: bytes) -> None:
    """What has no end is cut off: a method, blank lines, a path, a header, requests that await no answer."""
    before = served.memory()
    head, rest = (endless, b"a") if endless[-1:] in b"/ " else (b"", endless)
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(head)
        with pytest.raises(ConnectionError):
            connection.sendall(rest * (2**26 // len(rest)))
    assert _healthy(served, zoo)
    assert served.memory() - before < 32 * 2**20


@pytest.mark.parametrize("tail", [b"5;" + b"x" * 100, b"0\r\n" + b"X: y\r\n" * 20])
def test_chunks_with_endless_extensions_or_trailers(served: Served, zoo: Path, tail: bytes) -> None:
    head = f"POST /classify HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(head.encode() + tail)
        with pytest.raises(ConnectionError):
            connection.sendall(tail[-6:] * 10_000_000)
    assert _healthy(served, zoo)


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked, identity",
        "Content-Length: +4",
        "Content-Length: 4, 4",
        "Content-Length: 0x4",
        "Content-Length: 4\r\nContent-Length: 0",
        "X: a\x00b",
    ],
)
def test_no_request_is_smuggled_in_a_body(served: Served, zoo: Path, framing: str) -> None:
    """Where a proxy in front could see another end of the body, there is one answer and no second one."""
    host = f"Host: 127.0.0.1:{served.port}\r\n"
    inner = f"GET /classes HTTP/1.1\r\n{host}\r\n"
    answer = served.raw(
        f"POST /classify HTTP/1.1\r\n{host}{framing}\r\n\r\n0\r\n\r\n{inner}".encode("latin-1")
    )
    assert _status(answer) in (0, 400, 415, 422), answer[:200]
    assert b"zorblat" not in answer
    assert _healthy(served, zoo)


def test_pipelined_requests_are_answered_in_order(served: Served, zoo: Path) -> None:
    host, image = f"Host: 127.0.0.1:{served.port}\r\n", (zoo / "zorblat-0.png").read_bytes()
    post = f"POST /classify HTTP/1.1\r\n{host}Content-Type: image/png\r\nContent-Length: {len(image)}\r\n\r\n"
    last = f"GET /classes HTTP/1.1\r\n{host}Connection: close\r\n\r\n"
    answer = served.raw(
        post.encode() + image + f"GET /health HTTP/1.1\r\n{host}\r\n".encode() + last.encode()
    )
    places = [answer.index(part) for part in (b'"image"', b'"status"', b'"classes":[')]
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert places == sorted(places)


def test_idle_connections_make_room(served: Served, zoo: Path) -> None:
    """With as many idle connections as there may be at all, a client is answered at once."""
    idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(CONNECTIONS + 50)]
    try:
        began = time.monotonic()
        assert _healthy(served, zoo)
        assert time.monotonic() - began < 8
    finally:
        for connection in idle:
            connection.close()


def test_large_bodies_that_go_astray_are_answered(served: Served, zoo: Path) -> None:
    body = bytes(3 * 2**20)
    assert served.ask("POST", "/elsewhere", body).status == 404
    assert served.ask("POST", "/classes", body).status == 405
    assert served.ask("POST", "/classify?top=x", body).status == 400
    chunks = (bytes(4096) for _ in range(500))
    assert served.ask("POST", "/classify", chunks, {"Content-Type": "image/png"}).status == 422


def test_hostile_images(served: Served, zoo: Path) -> None:
    for name, make in FILES.items():
        answer = served.ask("POST", "/classify", make(), {"Content-Type": "image/png"})
        assert answer.status in (200, 413, 422), (name, answer.status)
        assert b"Traceback" not in answer.body
    assert _healthy(served, zoo)


def test_slow_clients_do_not_keep_others_out(served: Served, zoo: Path) -> None:
    """Sixty connections that send a byte now and then, in the head or in the body, and read nothing."""
    head = (
        f"POST /classify HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: 1000\r\n\r\n".encode()
    )
    slow = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(60)]
    try:
        for connection, beginning in zip(slow, itertools.cycle([b"", b"GET / HT", head]), strict=False):
            connection.sendall(beginning)
        began = time.monotonic()
        assert _healthy(served, zoo)
        assert time.monotonic() - began < 8, "the slow ones were waited for"
        deadline, open_heads = time.monotonic() + 25, slow[0::3] + slow[1::3]
        while open_heads and time.monotonic() < deadline:
            time.sleep(0.5)
            for connection in list(open_heads):
                connection.setblocking(False)
                try:
                    connection.send(b"x")
                    if connection.recv(1000) == b"":
                        open_heads.remove(connection)
                except BlockingIOError:
                    pass
                except OSError:
                    open_heads.remove(connection)
        assert open_heads == []
    finally:
        for connection in slow:
            connection.close()
    assert _healthy(served, zoo)


def test_how_many_attacks_there_are(served: Served) -> None:
    hosts, origins = 2 * (len(FOREIGN) + 3), 3 * (len(ORIGINS) + 2)
    others = len(list(_broken_requests(1))) + len(list(_forms())) + 7 + 2 + 60
    assert hosts + origins + 2 * len(PATHS) + others >= 200
    assert isinstance(served.ask("GET", "/health"), Answer)
