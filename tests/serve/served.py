"""A real server process on loopback, and how the tests talk to it: whole requests, or bytes as they like."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Answer:
    """What came back: the status, the headers in lower case, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Served:
    """A running server."""

    process: "subprocess.Popen[str]"
    port: int
    host: str = "127.0.0.1"

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            read = response.read()
            return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, read)
        finally:
            connection.close()

    def classify(self, image: Path, query: str = "") -> Answer:
        return self.ask("POST", f"/classify{query}", image.read_bytes(), {"Content-Type": "image/png"})

    def raw(self, data: bytes, seconds: float = 20.0) -> bytes:
        """Send bytes as they are and return all that comes back; b"" where the server just closes."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as connection:
            try:
                connection.sendall(data)
                parts = []
                while part := connection.recv(65536):
                    parts.append(part)
            except (ConnectionError, TimeoutError):
                pass
            return b"".join(parts)

    def memory(self) -> int:
        """Return the resident memory of the process in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def stop(self) -> tuple[int, str]:
        """End the server as systemd does; return its exit code and what it printed last."""
        self.process.send_signal(signal.SIGTERM)
        _, shown = self.process.communicate(timeout=60)
        return self.process.returncode, shown


@contextmanager
def serving(
    *arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Run `fieldmarks serve` with these arguments on a free port until the block ends."""
    command = [sys.executable, "-m", "fieldmarks", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
    )
    assert process.stderr
    shown = ""
    try:
        while (match := re.search(r"Serving .* at http://\S+:(\d+)/", shown)) is None:
            line = process.stderr.readline()
            assert line, shown
            shown += line
        yield Served(process, int(match[1]))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def form(files: Sequence[tuple[str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body with these files, and its headers."""
    boundary = "----of-a-test"
    parts = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    )
    return parts + f"--{boundary}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={boundary}"
    }
