"""Running the application: the socket, the time that a connection may idle, and the end."""

import asyncio
import socket
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fieldmarks.classification.sources import quiet_pillow
from fieldmarks.errors import FieldmarksError
from fieldmarks.serve.app import Service

HEADER_SECONDS: Final = 10.0  # for the head of a request to arrive
KEEP_ALIVE_SECONDS: Final = 10
STOP_SECONDS: Final = 60  # for requests under way to be answered
MAX_CONNECTIONS: Final = 512
CROWDED: Final = MAX_CONNECTIONS - 32  # connections, from which on idle ones are closed
BACKLOG: Final = 512
_AT_ONCE: Final = 2**14  # bytes that are parsed before what they were is judged
MOST_HEAD: Final = 2**16  # bytes
MOST_PIPELINED: Final = 32  # requests that wait for the answer to the one before
MOST_FRAMING: Final = 2**15  # bytes of a body that are not content, beyond as many as are


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 with more limits than uvicorn's.

    A request's head has to arrive in time, and to be of moderate length. A body in chunks of next to nothing
    ends the connection, as to parse them takes all the time of the server; so does a body that goes on after
    the answer, and a client that sends many requests before it has read an answer. Where connections are
    many, the one that has idled longest makes room for a new one.
    """

    _late: asyncio.TimerHandle | None = None
    _since = 0.0  # when it was last the client's turn, or the connection made
    _in_head = True  # of a request that arrives, or may arrive next
    _head = 0  # bytes of it so far
    _framing = 0  # bytes of an arriving body that are not content, less those that are

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > CROWDED:
            others = (other for other in self.connections if isinstance(other, _Protocol))
            idle = [other for other in others if other._idles() and not other.transport.is_closing()]
            min(idle, key=lambda other: other._since, default=self).transport.close()

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), _AT_ONCE):
            self._parse(data[at : at + _AT_ONCE])
            if self._framing > MOST_FRAMING or len(self.pipeline) > MOST_PIPELINED:
                self.transport.abort()
            elif self._head > MOST_HEAD:
                self.send_400_response("The head of the request is too long.")
            if self.transport.is_closing():
                return
        if not self._idles():
            self._unwatch()
        elif self._late is None:
            self._watch()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def _parse(self, data: bytes) -> None:
        was_in_head, cycle = self._in_head, self.cycle
        held = len(cycle.body) if cycle else 0
        super().data_received(data)
        if self.cycle is not cycle:
            self._head = self._framing = 0
        elif was_in_head:
            self._head += len(data)
        else:
            self._framing = max(0, self._framing + len(data) - 2 * (len(cycle.body) - held))

    def _idles(self) -> bool:
        """Whether it is the client's turn, and a whole head of a request has not arrived yet."""
        return self._in_head and (self.cycle is None or self.cycle.response_complete)

    def _watch(self) -> None:
        self._since = self._since or self.loop.time()
        self._late = self.loop.call_later(HEADER_SECONDS, self._close_late)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close_late(self) -> None:
        self._late = None
        if self._idles():
            self.transport.close()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address. Raises FieldmarksError if it cannot."""
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = infos[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise FieldmarksError(
            f"--host {host} cannot be used: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise FieldmarksError(
            f"port {port} on {host} cannot be used: {error.strerror or error}: pass another one with --port"
        ) from error
    return listening


def run(service: Service, listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, which is raised again once requests under way are answered."""
    config = uvicorn.Config(
        service.app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    try:
        with quiet_pillow():
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        service.batcher.close()
        listening.close()
