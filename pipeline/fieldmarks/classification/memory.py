"""Memory for decoding: what an image takes by what its file declares, of one budget for all threads.

A small file may declare a large image, and a dozen threads may each meet one. So nothing is decoded before
its bytes are reserved: `BUDGET` is shared by the whole process, and an image above it waits until it is the
only one. The figures are bytes per pixel at the peak, measured with Pillow 13 on files of each format.
"""

import ctypes
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any, Final

from fieldmarks.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

MAX_DECODING: Final = 512 * 2**20  # bytes that one image may take while it is decoded
MAX_SCANS: Final = 100  # of a progressive JPEG, each of which is a pass over the whole image; 10 are usual
_BUDGET: Final = 384 * 2**20
_LARGE: Final = 64 * 2**20  # from so many bytes on, an image's memory goes back to the system
_COPY: Final = 4  # bytes of a pixel as RGB, as Pillow has it
# Beside the image itself: what decoders hold, which is the image once or twice more and planes of colour.
_EXTRA: Final = {"AVIF": 14, "HEIF": 6, "SGI": 3, "QOI": 4, "ICO": 8}
_DEEP_HEIF: Final = 14  # of more than 8 bits, or with alpha
_WEBP: Final = 17  # in all: two canvases, a frame, the image and its copy
_JPEG2000: Final = 7  # in all, of each component
_RESIZING: Final = 1024  # of each row, or column: what a resize holds between its two passes
_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # else 4
_ORIENTATION: Final = 0x0112  # EXIF's tag
# What ends a JPEG's compressed data: any marker but a stuffed zero, a fill byte and a restart.
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOS, _EOI = 0xDA, 0xD9


class BeyondShareError(ImageError):
    """An image takes more memory than this process may use for one; another decodes it."""


def share(processes: int) -> int:
    """Return the bytes that each of several processes may use, all of them half of this one's budget."""
    return _BUDGET // 2 // processes


class Budget:
    """Bytes that threads share: `reserve` waits until there is room, in the order of arrival."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._most: int | None = None
        self._used = 0
        self._changed = Condition()
        self._turn = Lock()  # held by the thread that waits, so that small images do not overtake a large one

    def within(self, share: int) -> None:
        """Make an amount beyond `share` an error from now on, instead of waiting until it is alone."""
        self._most = share

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Hold `amount` bytes; one thread alone may hold more than the limit. Not to be nested.

        Raises BeyondShareError where `within` was called and `amount` is more.
        """
        if self._most is not None and amount > self._most:
            raise BeyondShareError("too large for a share of the memory")
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + amount <= self.limit)
            self._used += amount
        try:
            yield
        finally:
            if amount >= _LARGE:
                _return_freed()
            with self._changed:
                self._used -= amount
                self._changed.notify_all()


def _return_freed() -> None:
    """Give what was freed back to the system: glibc may keep it, for each thread apart."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


BUDGET: Final = Budget(_BUDGET)


def check(amount: int) -> int:
    """Return the bytes that decoding takes. Raises ImageError for more than one image may have."""
    if amount > MAX_DECODING:
        raise ImageError(
            f"too large: decoding it takes about {amount // 2**20:,} MiB of memory;"
            f" the limit is {MAX_DECODING // 2**20} MiB, so scale it down first"
        )
    return amount


def before_opening(data: bytes) -> int:
    """Return the bytes of a file that takes its memory as soon as it is opened, 0 for all other formats."""
    if data[:4] == b"RIFF" and (pixels := _webp_pixels(data)):
        return check(_WEBP * pixels + len(data))
    if data[:4] == b"\0\0\1\0":
        return check((_EXTRA["ICO"] + _COPY) * _icon_pixels(data) + len(data))
    return 0


def to_decode(image: "Image.Image", data: bytes, *, converts: bool) -> int:
    """Return the bytes that an opened image takes until it is upright RGB, a draft's reduction included.

    `converts` says that it is not RGB yet, or has transparency. Raises ImageError for more than allowed.
    """
    width, height = image.size
    pixels = width * height
    own = _BYTES.get(image.mode, 4)
    turned = own if _is_turned(image, data) else 0
    # The decoders of other formats hold their memory as long as the image, which is copied.
    copied = _COPY if converts or image.format not in ("JPEG", "MPO", "PNG") else 0
    if image.mode.startswith(("I", "F")):
        copied += 1  # as L, on the way
    elif any(";16" in str(tile.args) for tile in getattr(image, "tile", ())):
        copied += 2 * own  # the samples' lower bytes, and both put together
    amount = (own + max(turned, copied)) * pixels + _RESIZING * max(width, height) + len(data)
    return check(amount + int(_decoder(image, data, pixels)))


def _is_turned(image: "Image.Image", data: bytes) -> bool:
    if image.format == "PNG":  # whose chunks Pillow reads to the end to find it, which decodes the image
        return b"eXIf" in data or b"tiff:Orientation" in data
    return bool(image.getexif().get(_ORIENTATION, 1) != 1)


def _decoder(image: "Image.Image", data: bytes, pixels: int) -> float:
    """Return the bytes that a format's decoder holds beside the image."""
    if not data:
        return 0  # an image in memory, decoded already as a rule
    opened: Any = image  # of the class of its format
    match image.format:
        case "JPEG" | "MPO":
            if scans(data) < 2:
                return 0
            # The coefficients of all of it, at full size whatever the draft.
            full = _jpeg_pixels(data) or pixels
            parts = [across * down for _, across, down, _ in opened.layer]
            return float(2 * full * sum(parts) / max(parts, default=1))
        case "JPEG2000":
            components, _ = components_of(data) or (4, 8)
            return _JPEG2000 * max(components, len(image.getbands())) * pixels
        case "TIFF":
            tags = opened.tag_v2
            sizes = tags.get(258, (8,))  # BitsPerSample
            sample = max(sizes) / 8 * max(tags.get(277, 1), len(sizes), 1)  # SamplesPerPixel
            tile = tags.get(322, 0) * tags.get(323, 0)
            return float(sample * (tile or image.width * min(tags.get(278, image.height), image.height)))
        case "HEIF" if image.mode != "RGB" or image.info.get("bit_depth", 8) > 8:
            return _DEEP_HEIF * pixels
    return _EXTRA.get(image.format or "", 0) * pixels


def scans(data: bytes) -> int:
    """Return how many scans a JPEG has, without decoding it. Raises ImageError for more than MAX_SCANS."""
    if data.count(b"\xff\xda") < 2:  # so it is with most files: this takes microseconds
        return 1
    count, at = 0, 2
    while marker := _MARKER.search(data, at):
        kind, at = data[marker.start() + 1], marker.end()
        if kind == _EOI:
            break  # what follows is the next image of an MPO
        at += int.from_bytes(data[at : at + 2], "big")
        count += kind == _SOS
        if count > MAX_SCANS:
            raise ImageError(f"a progressive JPEG of more than {MAX_SCANS} scans; save it again")
    return count


def components_of(data: bytes) -> tuple[int, int] | None:
    """Return the number of a JPEG 2000's components and the bits of the first, None if it has no header."""
    header = data.find(b"\xff\x4f\xff\x51")
    if header < 0 or len(data) < header + 43:
        return None
    return int.from_bytes(data[header + 40 : header + 42], "big"), (data[header + 42] & 0x7F) + 1


def _jpeg_pixels(data: bytes) -> int | None:
    """Return the pixels that a JPEG's frame header declares."""
    at = 2
    while marker := _MARKER.search(data, at):
        kind, at = data[marker.start() + 1], marker.end()
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 3)
            return int(height * width)
        at += int.from_bytes(data[at : at + 2], "big")
    return None


def _webp_pixels(data: bytes) -> int:
    """Return the pixels of a WebP's canvas; 0 where its header is not one that Pillow opens."""
    if len(data) < 30:
        return 0
    match data[12:16]:
        case b"VP8X":
            width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
        case _:
            return 0
    return width * height


def _icon_pixels(data: bytes) -> int:
    """Return the most pixels that an image in a Windows icon declares, which its directory need not say."""
    most = 256 * 256
    for entry in range(6, min(len(data) - 15, 6 + 16 * int.from_bytes(data[4:6], "little")), 16):
        at = int.from_bytes(data[entry + 12 : entry + 16], "little")
        png = data[at : at + 4] == b"\x89PNG"
        start, order = (at + 16, ">II") if png else (at + 4, "<II")
        if start + 8 <= len(data):
            width, height = struct.unpack_from(order, data, start)
            most = max(most, width * height)
    return most
