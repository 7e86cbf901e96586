"""Bit depth: images of more than 8 bits a sample, scaled to 8 by the bits that are in use.

Cameras and scanners write 10, 12 or 14 bits into files of 16, which look black if they are read as 16. The
depth is what the file says: BitsPerSample or MaxSampleValue of a TIFF, sBIT of a PNG, the maxval of a PGM and
the precision of a JPEG 2000, by which Pillow scales. A file that says 16 only names its container: its
depth is the smallest usual one that holds the largest value. Samples lose their lowest bits, as in Pillow.
"""

import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmarks.classification import memory

BYTES: Final = "fieldmarks.bytes"  # under this name an image's `info` has how its lower bytes are read
_FOUR_BYTES: Final = "RGBA"  # of grey and alpha: both bytes of both, as there is no LA;16L
USUAL: Final = (8, 10, 12, 14, 16)
_CONTAINER: Final = 16
_DARK: Final = 64  # high bytes below this may be of 14 bits or fewer
_TILE_PIXELS: Final = 2**20  # of the strips in which an image is converted
_COLOURS: Final = re.compile(r"(RGB|RGBA|RGBX|LA);16([BLN])")
_NATIVE: Final = "L" if sys.byteorder == "little" else "B"


@dataclass(frozen=True, slots=True)
class Depth:
    """The bits of an image's samples, and whether they were inferred from the largest value."""

    bits: int
    high: float
    is_inferred: bool

    @classmethod
    def of(cls, high: float, declared: int | None) -> "Depth":
        """Return the depth of samples up to `high`, in a file that declares some bits or none."""
        if declared:  # PNG's sBIT may be of samples that were scaled up to 16 bits, as its standard asks
            return cls(declared if high < 2**declared else max(_CONTAINER, _bits(high)), high, False)
        usual = next((bits for bits in USUAL if high < 2**bits), _bits(high))
        return cls(usual, high, 8 < usual != _CONTAINER)


def _bits(high: float) -> int:
    return int(high).bit_length()


def strips(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """Yield an image in strips of whole rows, each with its box: conversions then need little memory."""
    rows = max(1, _TILE_PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        yield box, image.crop(box)


def declared_bits(image: Image.Image, data: bytes) -> int | None:
    """Return the bits a sample has by an opened file's own word, None where it only names its container."""
    opened: Any = image
    match image.format:
        case "TIFF":
            sizes, most = opened.tag_v2.get(258, (8,)), opened.tag_v2.get(281)
            if max(sizes) in range(9, _CONTAINER):
                return int(max(sizes))
            top = max(most) if isinstance(most, tuple) else most
            return _bits(top) if isinstance(top, int) and 255 < top < 2**_CONTAINER - 1 else None
        case "PNG":
            return _significant_bits(data)
        case "PPM":  # Pillow scales what is not of 16 bits
            arguments = [tile.args for tile in getattr(image, "tile", ())]
            return next((_CONTAINER for _, most in _pairs(arguments) if most != 2**_CONTAINER - 1), None)
        case "JPEG2000":
            _, precision = memory.components_of(data) or (0, _CONTAINER)
            return _CONTAINER if precision < _CONTAINER else None
    return None


def _pairs(arguments: list[Any]) -> list[tuple[str, int]]:
    return [pair for pair in arguments if isinstance(pair, tuple) and len(pair) == 2]


def _significant_bits(data: bytes) -> int | None:
    """Return the most of the bits in a PNG's chunk sBIT, which is before its pixels."""
    at = 8
    while (kind := data[at + 4 : at + 8]) not in (b"", b"IDAT"):
        length = int.from_bytes(data[at : at + 4], "big")
        if kind == b"sBIT":
            bits = max(data[at + 8 : at + 8 + min(length, 3)], default=0)
            return bits if 8 < bits <= _CONTAINER else None
        at += length + 12
    return None


def grey(image: Image.Image, declared: int | None) -> tuple[Image.Image, Depth]:
    """Return an image of the modes I;16, I or F as L, and the depth by which it was scaled.

    The one value that a PNG declares to be transparent comes out white.
    """
    depth = Depth.of(max(_high(np.asarray(strip)) for _, strip in strips(image)), declared)
    is_fraction = image.mode == "F" and depth.high <= 1
    factor = 255.0 if is_fraction else 2.0 ** (8 - depth.bits)
    is_inverted = image.format == "TIFF" and _white_is_zero(image)
    clear = image.info.get("transparency")
    result = Image.new("L", image.size)
    for box, strip in strips(image):
        values = np.nan_to_num(np.asarray(strip).astype(np.float64), copy=False, posinf=2.0**63)
        scaled = np.clip(values * factor, 0, 255).astype(np.uint8)
        if is_inverted:
            scaled = 255 - scaled
        if isinstance(clear, int):
            scaled[values == clear] = 255
        result.paste(Image.fromarray(scaled), box[:2])
    return result, depth


def _high(values: NDArray[Any]) -> float:
    return float(np.max(values, where=np.isfinite(values), initial=0))


def _white_is_zero(image: Image.Image) -> bool:
    """Whether 0 is white, which Pillow heeds up to 8 bits only."""
    opened: Any = image
    return image.mode.startswith("I;16") and opened.tag_v2.get(262) == 0


def lower_bytes(image: Image.Image, data: bytes) -> Image.Image | None:
    """Return an opened file of 16-bit colours once more, such that it loads the samples' lower bytes.

    Pillow keeps the upper bytes of colours. None for files of 8 bits, and where the lower cannot be had.
    """
    file: Any = image
    modes = [_COLOURS.fullmatch(_rawmode(tile.args)) for tile in file.tile]
    if not modes or not all(modes):
        return None
    lower = Image.open(io.BytesIO(data), formats=[image.format or ""])
    lower.tile = [
        tile._replace(args=_with_rawmode(tile.args, _lower_rawmode(*mode.groups())))
        for tile, mode in zip(lower.tile, modes, strict=True)
        if mode
    ]
    lower.info[BYTES] = _rawmode(lower.tile[0].args)
    return lower


def colours(image: Image.Image, lower: Image.Image, declared: int | None) -> tuple[Image.Image, Depth] | None:
    """Return an image of 16-bit colours scaled to 8 by the bits in use, and its depth.

    None where the upper bytes, which `image` has, are right already: nearly always.
    """
    clear = image.info.get("transparency")
    top = max(high for _, high in image.getextrema()[:3])  # type: ignore[misc]  # of several bands
    if top >= (2**declared >> 8 if declared else _DARK) and clear is None:
        return None
    high = np.zeros(2)  # of the colours, and of alpha, which may be of another depth
    for values in _samples(image, lower):
        high = np.maximum(high, [values[..., :3].max(), values[..., 3:].max(initial=0)])
    depth, alpha = (Depth.of(float(value), declared) for value in high)
    shifts = np.array([depth.bits - 8] * 3 + [alpha.bits - 8] * (len(image.getbands()) - 3), np.uint16)
    result = Image.new(image.mode, image.size)
    for (box, _), values in zip(strips(image), _samples(image, lower), strict=True):
        scaled = (values >> shifts).astype(np.uint8)
        if isinstance(clear, tuple):
            scaled[(values[..., :3] == clear).all(axis=-1)] = 255
        result.paste(Image.fromarray(scaled), box[:2])
    return result, depth


def _samples(image: Image.Image, lower: Image.Image) -> Iterator[NDArray[Any]]:
    """Yield the 16-bit samples (H, W, 3 or 4) of both halves, in strips."""
    is_grey_and_alpha = lower.info.get(BYTES) == _FOUR_BYTES
    for (_, strip), (_, other) in zip(strips(image), strips(lower), strict=True):
        upper, low = np.asarray(strip).astype(np.uint16), np.asarray(other).astype(np.uint16)
        if is_grey_and_alpha:
            grey_and_alpha = low[..., ::2] << 8 | low[..., 1::2]  # (H, W, 2)
            yield grey_and_alpha[..., [0, 0, 0, 1]]
        else:
            yield upper << 8 | low


def _rawmode(arguments: Any) -> str:
    return str(arguments[0]) if isinstance(arguments, tuple) else str(arguments)


def _with_rawmode(arguments: Any, rawmode: str) -> Any:
    return (rawmode, *arguments[1:]) if isinstance(arguments, tuple) else rawmode


def _lower_rawmode(bands: str, order: str) -> str:
    """Return the raw mode that reads the lower byte of each sample: that of the other byte order."""
    if bands == "LA":
        return _FOUR_BYTES
    native = _NATIVE if order == "N" else order
    return f"{bands};16{'L' if native == 'B' else 'B'}"
