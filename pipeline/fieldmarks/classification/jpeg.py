"""What a JPEG's header says, for decoding it on a GPU: its size, its orientation, and whether a GPU should.

Decoders agree to a few levels on a baseline JPEG of one scan that is grey or YCbCr. Progressive files, CMYK,
RGB kept as such, samples of 12 bits, files that end early, and whatever else is rare are left to the CPU,
which also says what is wrong with them.
"""

from dataclasses import dataclass
from typing import Final

from PIL import ExifTags, Image

from fieldmarks.classification.images import MAX_ASPECT, MAX_PIXELS

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _SCAN, _METADATA, _ADOBE = 0xC0, 0xDA, 0xE1, 0xEE
_EXIF: Final = b"Exif\0\0"
_NO_FRAME: Final = frozenset((0xC4, 0xC8, 0xCC))  # tables and an extension, among the numbers of frames
_BITS: Final = 8
_SAMPLING: Final = frozenset((0x11, 0x21, 0x12, 0x22, 0x41))  # of luma, to chroma of 1 x 1
_TAIL: Final = 16  # bytes in which most files end
_NOT_YCBCR: Final = 0  # Adobe's transform
_XMP_ORIENTATION: Final = b"tiff:Orientation"


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A file's bytes, the width and height of its pixels as stored, and EXIF's orientation, 1 to 8."""

    data: bytes
    width: int
    height: int
    orientation: int = 1

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return len(self.data)

    @property
    def pixels(self) -> int:
        """How many pixels it has once decoded."""
        return self.width * self.height


def plain_jpeg(data: bytes) -> Jpeg | None:
    """Return a JPEG that any decoder reads alike, and is not too large; None for any other file."""
    if data[:2] != _START:
        return None
    at, size, components = 2, (0, 0), 0
    metadata: list[bytes] = []
    while data[at : at + 1] == b"\xff":
        kind = data[at + 1] if at + 1 < len(data) else 0
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if kind == _BASELINE:
            if (components := _components(body)) == 0:
                return None
            size = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
        elif 0xC0 < kind <= 0xCF and kind not in _NO_FRAME:
            return None
        elif kind == _METADATA:
            metadata.append(body)
        elif kind == _ADOBE and body[:5] == b"Adobe" and body[11:12] == bytes([_NOT_YCBCR]):
            return None
        elif kind == _SCAN:
            is_in_one = body[:1] == bytes([components])
            is_whole = _END in data[-_TAIL:] or data.find(_END, at) > 0
            orientation = _orientation(metadata)
            is_plain = is_in_one and is_whole and _is_in_bounds(*size) and orientation
            return Jpeg(data, *size, orientation) if is_plain else None
        at += 2 + length
    return None


def _components(frame: bytes) -> int:
    """Return how many components a frame has; 0 where they are not grey or YCbCr in a usual sampling."""
    count = frame[5] if len(frame) > 5 else 0
    if frame[0] != _BITS or len(frame) != 6 + 3 * count:
        return 0
    if count == 1:
        return 1
    names, sampling = frame[6::3], frame[7::3]
    is_usual = count == 3 and names != b"RGB" and sampling[0] in _SAMPLING and sampling[1:] == b"\x11\x11"
    return 3 if is_usual else 0


def _orientation(metadata: list[bytes]) -> int:
    """Return the orientation that APP1 segments give, 1 where they give none, 0 where that is not clear."""
    exif = [body for body in metadata if body.startswith(_EXIF)]
    value = None
    if exif:
        try:
            tags = Image.Exif()
            tags.load(exif[0])
            value = tags.get(ExifTags.Base.Orientation)
        except Exception:  # it is untrusted, and Pillow raises whatever it stumbles over
            return 0
    if len(exif) > 1 or (value is None and any(_XMP_ORIENTATION in body for body in metadata)):
        return 0
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _is_in_bounds(width: int, height: int) -> bool:
    shorter, longer = sorted((width, height))
    return shorter > 0 and width * height <= MAX_PIXELS and longer <= MAX_ASPECT * shorter
