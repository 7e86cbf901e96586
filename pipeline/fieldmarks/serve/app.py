"""The application: images in, results out as `classify --format jsonl` prints them, and a page to try it.

    POST /classify   one image as the body, or several as multipart/form-data; ?top=5&explain=true
    GET /classes     {"classes": […]}
    GET /health      {"status": "ok", …}
    GET /            the page

An answer of /classify has a line of JSON for each image, in order. What is sent is bounded: the bytes of a
body, the bytes of all bodies under way, the images waiting, and the seconds that a body may take.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from fieldmarks import __version__
from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.results import Failure, Prediction
from fieldmarks.classification.sources import Blob
from fieldmarks.report.document import PALETTE
from fieldmarks.serve.batching import Batcher, Busy
from fieldmarks.serve.guard import Access, Guard

HERE: Final = Path(__file__).parent
MAX_BODY: Final = 32 * 2**20  # bytes of a request
MAX_UNDER_WAY: Final = 8 * MAX_BODY  # bytes of all requests that are being read or classified
MAX_IMAGES: Final = 64  # of a request
BODY_SECONDS: Final = 30.0  # for a body to arrive
DISCARD_SECONDS: Final = 5.0
RETRY_AFTER: Final = "1"  # seconds
LONGEST_NAME: Final = 255


class Refused(Exception):
    """A request that is answered with an error: the status, and a message for a person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """A classifier with its queue, and the application that serves it.

    `labelling` holds the options of `Classifier.predict` that decide on the label, such as `abstain`.
    """

    def __init__(
        self,
        classifier: Classifier,
        access: Access,
        labelling: Mapping[str, Any],
        *,
        max_body: int = MAX_BODY,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._classifier = classifier
        self._max_body = max_body
        self._body_seconds = body_seconds
        self._under_way = 0  # bytes
        self.batcher = Batcher(classifier, labelling)
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/page.js", self._page),
                Route("/page.css", self._page),
                Route("/palette.css", self._palette),
                Route("/icon.svg", self._page),
                Route("/health", self._health),
                Route("/classes", self._classes),
                Route("/classify", self._classify, methods=["POST"]),
            ],
            middleware=[Middleware(Guard, access=access)],
            exception_handlers={Refused: _answer, 404: _missing, 405: _missing, Exception: _broken},
        )
        self.app.router.redirect_slashes = False

    async def _page(self, request: Request) -> Response:
        name = request.url.path.removeprefix("/") or "page.html"
        return FileResponse(HERE / name)

    async def _palette(self, request: Request) -> Response:
        return FileResponse(PALETTE)

    async def _health(self, request: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "version": __version__, "classes": len(self._classifier.classes)}
        )

    async def _classes(self, request: Request) -> Response:
        return JSONResponse({"classes": list(self._classifier.classes)})

    async def _classify(self, request: Request) -> Response:
        length = _length(request)
        if length is not None and length > self._max_body:
            await _discard(request)
            raise Refused(413, f"the request has over {self._max_body:,} bytes, the limit")
        reserved = self._max_body if length is None else length
        if self._under_way + reserved > MAX_UNDER_WAY:
            raise Refused(503, "the server is busy: try again in a moment")
        self._under_way += reserved
        try:
            body = await self._body(request)
            top, explain = _number(request, "top", 5), _flag(request, "explain")
            images = await _images(request, body)
            results = await self.batcher.classify(images, top=top, explain=explain)
        except Busy as error:
            raise Refused(503, "the server is busy: try again in a moment") from error
        finally:
            self._under_way -= reserved
        return _results(results)

    async def _body(self, request: Request) -> bytes:
        """Read a body of any declared or undeclared length."""
        data = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                async for part in request.stream():
                    data += part
                    if len(data) > self._max_body:
                        data.clear()
                        await _discard(request)
                        raise Refused(
                            413, f"the request is too large: at most {self._max_body:,} bytes are read"
                        )
        except TimeoutError as error:
            raise Refused(408, f"the request took longer than {self._body_seconds:g} s to arrive") from error
        except ClientDisconnect as error:
            raise Refused(400, "the request ended early") from error
        return bytes(data)


async def _discard(request: Request) -> None:
    """Read on for a moment, as a client that is still sending does not see an answer."""
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while (await request.receive()).get("more_body"):
                pass


async def _images(request: Request, body: bytes) -> list[Blob]:
    """Return the images of a request with their names."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _parts(request, body)
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise Refused(
            415, f"{kind[:100]!r} is not an image type: send image/*, application/octet-stream or a form"
        )
    if not body:
        raise Refused(400, "the request has no image: send its bytes as the body")
    return [Blob("image 1", body)]


async def _parts(request: Request, body: bytes) -> list[Blob]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=MAX_IMAGES, max_fields=MAX_IMAGES)
    parser.spool_max_size = len(body) + 1  # it is in memory anyway
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        reason = getattr(error, "message", None) or error
        raise Refused(400, f"the form cannot be read: {reason}"[:300]) from error
    try:
        files: list[Any] = [value for _, value in form.multi_items() if not isinstance(value, str)]
        if not files:
            raise Refused(400, "the form has no files: send each image as a file")
        return [
            Blob((file.filename or f"image {number}")[:LONGEST_NAME], await file.read())
            for number, file in enumerate(files, 1)
        ]
    finally:
        await form.close()


def _results(results: list[Prediction | Failure]) -> Response:
    """Return a line for each result; 422 where no image could be read."""
    status = 422 if all(isinstance(result, Failure) for result in results) else 200
    lines = b"".join(orjson.dumps(result.to_dict()) + b"\n" for result in results)
    return Response(lines, status, media_type="application/x-ndjson")


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, str(default))
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value)):
        raise Refused(400, f"{name}: expected a whole number from 1, found {value!r:.40}")
    return int(value)


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise Refused(400, f"{name}: expected true or false, found {value!r:.40}")
    return value in ("true", "1")


def _length(request: Request) -> int | None:
    value = request.headers.get("content-length")
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    headers = {"Retry-After": RETRY_AFTER} if error.status == 503 else {}
    if error.status in (408, 413, 503):  # the rest of the body is not read
        headers["Connection"] = "close"
    return JSONResponse({"error": str(error)}, error.status, headers)


async def _missing(request: Request, error: Exception) -> Response:
    await _discard(request)
    status = getattr(error, "status_code", 404)
    return JSONResponse({"error": "see / for what there is"}, status, getattr(error, "headers", None))


async def _broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the image could not be classified; the server's log says why"}, 500)
