"""A hub of data sets on the loopback: what the `datasets` library asks of huggingface.co, from a folder.

REPOS/OWNER/NAME holds the files of a repository, all of one commit.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


class _Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repos = Path()

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        repo = self.repos / "/".join(self._parts()[2:4])
        found = [repo / path for path in asked["paths"] if (repo / path).exists()]
        self._send(200, json.dumps([_entry(repo, path) for path in found]).encode())

    def _parts(self) -> list[str]:
        return unquote(urlsplit(self.path).path).strip("/").split("/")

    def _answer(self, *, with_body: bool) -> None:
        parts = self._parts()
        api = parts[0] == "api"
        repo = self.repos / "/".join(parts[2:4] if api else parts[1:3])
        rest = parts[4:] if api else parts[3:]
        if not repo.is_dir():
            self._send(404, b"{}", with_body, {"X-Error-Code": "RepoNotFound"})
        elif api and rest[:1] == ["tree"]:
            below = repo.joinpath(*rest[2:])
            listed = [_entry(repo, path) for path in sorted(below.rglob("*"))]
            self._send(200, json.dumps(listed).encode(), with_body)
        elif api:
            about = {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": [], "tags": [], "private": False}
            self._send(200, json.dumps(about).encode(), with_body)
        elif rest[0] == "resolve" and rest[1] not in ("main", COMMIT):
            self._send(404, b"", with_body, {"X-Error-Code": "RevisionNotFound"})
        elif rest[0] == "resolve" and (file := repo.joinpath(*rest[2:])).is_file():
            self._send_file(file, with_body)
        else:
            self._send(404, b"", with_body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def _send_file(self, file: Path, with_body: bool) -> None:
        data = file.read_bytes()
        headers = {"ETag": f'"{sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            whole, data = len(data), data[int(first) : int(last or len(data) - 1) + 1]
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(data) - 1}/{whole}"
        self._send(206 if asked else 200, data, with_body, headers)

    def _send(
        self, status: int, data: bytes, with_body: bool = True, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _entry(repo: Path, path: Path) -> dict[str, object]:
    kind = "directory" if path.is_dir() else "file"
    entry: dict[str, object] = {"type": kind, "path": str(path.relative_to(repo)), "oid": "0" * 40}
    return entry | ({"size": path.stat().st_size} if path.is_file() else {})


@contextmanager
def serve(repos: Path) -> Iterator[str]:
    """Run the hub and yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"repos": repos}))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
