"""Servers that misbehave over raw loopback sockets, and a client that meets them."""

import asyncio
import os
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

ANSWER = "ANSWER"
TIMEOUT = 1.0  # seconds the client allows for one exchange
BOUND = 4.0  # seconds for a request: two tries of a second, short waits, and room for a busy machine
KEY = "sk-hostile-secret-0123456789"


class Wire:
    """One connection, as the server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = ""  # of the last request

    async def request(self) -> bytes:
        """Read one request; return its body."""
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"(?i)content-length: (\d+)", self.head)
        return await self.reader.readexactly(int(length[1]) if length else 0)

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def endless(self, unit: bytes, pause: float = 0.0) -> None:
        """Send the same again and again until the client leaves."""
        block = unit if pause else unit * max(1, 65536 // len(unit))
        while True:
            await self.send(block)
            await asyncio.sleep(pause)

    def reset(self) -> None:
        """End the connection with RST rather than FIN."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Serve = Callable[[Wire], Awaitable[None]]


@dataclass(frozen=True)
class Behaviour:
    """What an endpoint does to each connection, and what a user should read of it.

    `cause` is a regular expression for that, or ANSWER where the reply is odd but holds an answer.
    """

    name: str
    cause: str
    serve: Serve | None = None  # None: nobody listens
    url: str = "http://127.0.0.1:{port}/v1"
    environment: Mapping[str, str] = field(default_factory=dict)  # of the client, with {port} and {folder}
    certificate: str | None = None  # the server speaks TLS with it
    mode: str = "completions"
    sampled: bool = False  # runs in the normal suite, too


def make_certificates(folder: Path) -> None:
    """Make the self-signed certificates of the table with the openssl program."""
    dates = {
        "valid": ("20200101000000Z", "20991231000000Z", "127.0.0.1"),
        "expired": ("20200101000000Z", "20210101000000Z", "127.0.0.1"),
        "future": ("20980101000000Z", "20991231000000Z", "127.0.0.1"),
        "other": ("20200101000000Z", "20991231000000Z", "127.9.9.9"),
    }
    for name, (start, end, address) in dates.items():
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text("01\n")
        (folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=here\n[here]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n"
            "default_md=sha256\npolicy=any\nx509_extensions=names\n[any]\ncommonName=supplied\n"
            f"[names]\nsubjectAltName=IP:{address}\nbasicConstraints=CA:TRUE\n"
        )
        _openssl(
            folder,
            f"req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out r.pem"
            " -subj /CN=fieldmarks",
        )
        _openssl(
            folder,
            f"ca -config ca.cnf -selfsign -keyfile {name}.key -in r.pem -out {name}.pem -batch -notext"
            f" -startdate {start} -enddate {end}",
        )


def _openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True, cwd=folder)


class HostileServers:
    """Serves behaviours on a port each, in a thread of its own; `ports` are by name. A context manager."""

    def __init__(self, behaviours: list[Behaviour], folder: Path) -> None:
        self.ports: dict[str, int] = {}
        self._behaviours = behaviours
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        servers = []
        for behaviour in self._behaviours:
            if behaviour.serve is None:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    self.ports[behaviour.name] = free.getsockname()[1]
                continue
            context = None
            if behaviour.certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                file = self._folder / f"{behaviour.certificate}.pem"
                context.load_cert_chain(file, file.with_suffix(".key"))
            server = await asyncio.start_server(
                partial(self._converse, behaviour.serve), "127.0.0.1", 0, ssl=context
            )
            self.ports[behaviour.name] = server.sockets[0].getsockname()[1]
            servers.append(server)
        self._loop.set_exception_handler(
            lambda *_: None
        )  # clients that leave in the middle are what is meant
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        conversations = asyncio.all_tasks() - {asyncio.current_task()}
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    @staticmethod
    async def _converse(serve: Serve, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(
            OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError
        ):
            await serve(Wire(reader, writer))
        with suppress(OSError):
            writer.close()


@contextmanager
def environment(behaviour: Behaviour, port: int, folder: Path) -> Iterator[None]:
    """Set a behaviour's environment, without any proxy of the machine's."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(
        {name: value.format(port=port, folder=folder) for name, value in behaviour.environment.items()}
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def meet(behaviour: Behaviour, port: int, folder: Path, concurrency: int = 1) -> tuple[str, float]:
    """Ask an endpoint; return ANSWER or the behaviour line that a user reads, and the seconds it took."""
    from fieldmarks.errors import EndpointError
    from fieldmarks.generation.endpoint import EndpointCompleter
    from fieldmarks.generation.question import Failure, Question
    from fieldmarks.generation.retrying import RetryPolicy

    policy = RetryPolicy(2, 2, 3, first_wait=0.01, longest_wait=0.05, max_wait=5)

    async def ask() -> str:
        completer = EndpointCompleter(
            behaviour.url.format(port=port),
            "m",
            KEY,
            mode=behaviour.mode,
            timeout=TIMEOUT,
            retry=policy,
            concurrency=concurrency,
        )
        requests = (Question(f"class {i}", "Q: What?\nA: Marks:\n-", ("\n\n",)) for i in range(concurrency))
        lines = []
        async for outcomes in completer.complete(requests):
            lines += [outcome.reason if isinstance(outcome, Failure) else ANSWER for _, outcome in outcomes]
        return lines[-1]

    start = time.perf_counter()
    with environment(behaviour, port, folder):
        try:
            line = asyncio.run(ask())
        except EndpointError as error:
            line = str(error)
    return line, time.perf_counter() - start


def problem(behaviour: Behaviour, line: str, seconds: float, bound: float = BOUND) -> str | None:
    """Return what is wrong with the way a behaviour was met, or None."""
    if seconds > bound:
        return f"it took {seconds:.1f} s"
    if not re.search(behaviour.cause, line):
        return f"expected {behaviour.cause!r}, found {line!r}"
    if "\n" in line or len(line) > 700 or KEY in line or "event loop" in line or not line.isprintable():
        return f"not behaviour clean line: {line!r}"
    return None
