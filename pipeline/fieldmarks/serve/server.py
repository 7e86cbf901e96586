"""Running the application: the socket, the time that a connection may idle, and the end."""

import asyncio
import socket
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fieldmarks.errors import FieldmarksError
from fieldmarks.serve.app import Service

HEADER_SECONDS: Final = 10.0  # for the head of a request to arrive
KEEP_ALIVE_SECONDS: Final = 10
STOP_SECONDS: Final = 60  # for requests under way to be answered
MAX_CONNECTIONS: Final = 512
BACKLOG: Final = 512
_AT_ONCE: Final = 2**14  # bytes that are parsed before what they were is judged
MOST_FRAMING: Final = 2**15  # bytes of a body that are not content, beyond as many as are


class _Protocol(H11Protocol):
    """HTTP/1.1 with two more limits than uvicorn's.

    A request's head has to arrive in time. And a body in chunks of next to nothing ends the connection: to
    parse them takes all the time of the server, seconds for a megabyte. So does a body that goes on after the
    answer.
    """

    _late: asyncio.TimerHandle | None = None
    _framing = 0  # bytes of an arriving body that are not content, less those that are

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), _AT_ONCE):
            self._parse(data[at : at + _AT_ONCE])
            if self._framing > MOST_FRAMING:
                self.transport.abort()
                return
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._late is None:
            self._watch()

    def _parse(self, data: bytes) -> None:
        is_body, cycle = self.conn.their_state is h11.SEND_BODY, self.cycle
        held = len(cycle.body) if cycle else 0
        super().data_received(data)
        if not is_body or self.cycle is not cycle:
            self._framing = 0
            return
        self._framing = max(0, self._framing + len(data) - 2 * (len(cycle.body) - held))

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._late = self.loop.call_later(HEADER_SECONDS, self._close_late)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close_late(self) -> None:
        self._late = None
        if self.conn.their_state is h11.IDLE:
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
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        service.batcher.close()
        listening.close()
