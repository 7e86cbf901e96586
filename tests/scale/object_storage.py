"""A server on this machine that speaks as much of S3 as its clients need to list and to read.

Objects are held in memory: ListObjectsV2 with prefix, delimiter and pages, HEAD, and GET with ranges, all as
the AWS documentation of the S3 API describes them. Credentials can expire, a key can be unknown, and the
server can fail for a while; what it then answers is what S3 answers, which for HEAD is a status and no word.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 3  # keys of a listing's page, so that a few objects already need several
REGION = "us-east-1"


@dataclass
class ObjectStorage:
    """One bucket: its objects by key, and the refusal that every request gets while it is set."""

    bucket: str
    objects: dict[str, bytes] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None  # status and S3's code of it
    requests: list[str] = field(default_factory=list)  # "GET key", in order
    secrets: list[str] = field(default_factory=list)  # the Authorization headers seen
    endpoint: str = ""
    refuse_after: int | None = None  # so many more objects are read before the refusal
    then: tuple[int, str] = (400, "ExpiredToken")

    def about_to_read(self) -> None:
        """Count the reading of an object."""
        if self.refuse_after is not None:
            self.refuse_after -= 1
            if self.refuse_after < 0:
                self.refusal = self.then


@contextmanager
def object_storage(bucket: str = "bucket") -> Iterator[ObjectStorage]:
    """Serve a bucket on a free port until the block ends."""
    storage = ObjectStorage(bucket)
    handler = type("Handler", (_Handler,), {"storage": storage})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        storage.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield storage
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    storage: ObjectStorage
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        storage, url = self.storage, urlsplit(self.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        storage.requests.append(f"{self.command} {key}")
        storage.secrets.append(self.headers.get("Authorization", ""))
        if with_body and key:
            storage.about_to_read()
        if storage.refusal is not None:
            self._error(*storage.refusal, with_body=with_body)
        elif bucket != storage.bucket:
            self._error(404, "NoSuchBucket", with_body=with_body)
        elif not key:
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            self._send(200, _listing(storage, query).encode() if with_body else b"")
        elif key not in storage.objects:
            self._error(404, "NoSuchKey", with_body=with_body)
        else:
            self._object(storage.objects[key], with_body=with_body)

    def _object(self, content: bytes, *, with_body: bool) -> None:
        status, part, more = 200, content, {}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            if first > last:
                self._error(416, "InvalidRange", with_body=with_body)
                return
            status, part = 206, content[first : last + 1]
            more = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        self._send(status, part, with_body=with_body, ETag=f'"{_etag(content)}"', **more)

    def _error(self, status: int, code: str, *, with_body: bool) -> None:
        told = {"ExpiredToken": "The provided token has expired.", "AccessDenied": "Access Denied"}
        body = f"<Error><Code>{code}</Code><Message>{told.get(code, code)}</Message></Error>"
        self._send(status, body.encode() if with_body else b"")

    def _send(self, status: int, body: bytes, *, with_body: bool = True, **headers: str) -> None:
        self.send_response(status)
        kind = "application/xml" if body.startswith(b"<") else "binary/octet-stream"
        told: dict[str, Any] = {
            "Content-Type": kind,
            "Content-Length": len(body),
            "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT",
        }
        for name, value in (told | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _listing(storage: ObjectStorage, query: dict[str, str]) -> str:
    """Return a page of ListObjectsV2."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    size = min(PAGE, int(query.get("max-keys", PAGE)))
    keys, folders = [], []
    for key in sorted(storage.objects):
        if not key.startswith(prefix):
            continue
        head, separator, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if separator and prefix + head + separator not in folders:
            folders.append(prefix + head + separator)
        elif not separator:
            keys.append(key)
    after = query.get("continuation-token", "")
    rest = [name for name in sorted({*keys, *folders}) if name > after]
    entries = "".join(
        f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        if name in folders
        else f"<Contents><Key>{escape(name)}</Key><Size>{len(storage.objects[name])}</Size>"
        f"<LastModified>2026-11-02T10:00:00.000Z</LastModified>"
        f"<ETag>&quot;{_etag(storage.objects[name])}&quot;</ETag><StorageClass>STANDARD</StorageClass>"
        "</Contents>"
        for name in rest[:size]
    )
    more = len(rest) > size
    token = f"<NextContinuationToken>{escape(rest[size - 1])}</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><Name>{storage.bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
        f"<KeyCount>{len(rest[:size])}</KeyCount><MaxKeys>{size}</MaxKeys>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
    )


def _etag(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
