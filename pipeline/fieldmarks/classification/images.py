"""Decoding images: anything the user passes becomes an upright RGB image, or one clear ImageError.

Images of more than 8 bits a sample are scaled to 8 by the bits that are in use. Cameras and scanners write
10, 12 or 14 bits into files of 16, which look black if they are read as 16. The depth is what the file says:
BitsPerSample or MaxSampleValue of a TIFF, sBIT of a PNG, the maxval of a PGM and the precision of a JPEG
2000, by which Pillow scales. A file that says 16 only names its container: its depth is the smallest usual
one that holds the largest value. Samples lose their lowest bits, as in Pillow.
"""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fieldmarks.classification import memory
from fieldmarks.classification.preprocess import EXTENT, INFERRED, Box
from fieldmarks.classification.sources import HEAD, HEIF, SUFFIXES_OF, format_of, other_kind
from fieldmarks.errors import ImageError
from fieldmarks.extras import install
from fieldmarks.hub import one_line

if TYPE_CHECKING:
    from torch import Tensor


MAX_PIXELS: Final = Image.MAX_IMAGE_PIXELS or 89_478_485  # Pillow's own limit, 270 MB as RGB
THUMBNAIL: Final = 384  # pixels of the longer side
TOO_MANY_PIXELS: Final = f"too large: the limit is {MAX_PIXELS} pixels"
# The models scale the shorter side to a fixed length, so a thread of pixels would swell without bound.
MAX_ASPECT: Final = 200
# EXIF's orientations, by what makes such an image upright: width and height exchanged, then mirrored.
_EXCHANGED, _LEFT_TO_RIGHT, _TOP_TO_BOTTOM = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
_STRAIGHT: Final = {"La": "LA", "RGBa": "RGBA"}  # by modes whose colours are multiplied by alpha
BYTES: Final = "fieldmarks.bytes"  # under this name an image's `info` has how its lower bytes are read
_FOUR_BYTES: Final = "RGBA"  # of grey and alpha: both bytes of both, as there is no LA;16L
USUAL: Final = (8, 10, 12, 14, 16)
_CONTAINER: Final = 16
_DARK: Final = 64  # high bytes below this may be of 14 bits or fewer
_TILE_PIXELS: Final = 2**20  # of the strips in which an image is converted
_COLOURS: Final = re.compile(r"(RGB|RGBA|RGBX|LA);16([BLN])")
_NATIVE: Final = "L" if sys.byteorder == "little" else "B"
_REGISTERING: Final = Lock()  # images are decoded in several threads


def decode(data: bytes, *, min_side: int | None = None) -> Image.Image:
    """Return the image in a file's bytes, upright and RGB; of an animation, the first frame.

    With `min_side`, a JPEG comes out at 1/2, 1/4 or 1/8 of its size where its shorter side keeps that many
    pixels, which takes a fraction of the time; EXTENT in its `info` tells which of them it covers.

    Transparency is laid on white, as transformers does; more than 8 bits are scaled by those in use, and
    INFERRED in `info` says it where the file does not. Raises ImageError.
    """
    with ExitStack() as held:
        return _decode(data, min_side, held)


@contextmanager
def decoded(data: bytes, *, min_side: int | None = None) -> Iterator[Image.Image]:
    """Yield what `decode` returns, which is closed at the end; till then its memory is reserved."""
    with ExitStack() as held:
        image = _decode(data, min_side, held)
        held.callback(image.close)  # before others use its memory
        yield image


def _decode(data: bytes, min_side: int | None, held: ExitStack) -> Image.Image:
    """Return what `decode` does; `held` holds the memory that is reserved for it, as memory.py counts it."""
    if not data:
        raise ImageError("empty: it has zero bytes")
    with _clear_errors(data):
        formats = _formats(data[:HEAD])
        early = memory.before_opening(data)
        if early:
            held.enter_context(memory.BUDGET.reserve(early))
        with Image.open(io.BytesIO(data), formats=formats) as file:
            try:
                _check_size(file)  # before a draft makes it smaller
                extent = _draft(file, min_side) if min_side else None
                if not early:
                    held.enter_context(memory.BUDGET.reserve(_peak(file, data)))
                # Both have to be asked before it loads.
                bits, lower = declared_bits(file, data), lower_bytes(file, data)
                image = _upright(file, bits, lower)
            except BaseException:
                file.close()  # the error refers to it as long as it is passed on
                raise
        if extent:
            image.info[EXTENT] = extent
        return image


@contextmanager
def opened(source: object, data: bytes | None, *, min_side: int | None = None) -> Iterator[Image.Image]:
    """Yield the image of a file's bytes, or without bytes of a PIL image, an array or a tensor."""
    if data is None:
        yield from_memory(source)
    else:
        with decoded(data, min_side=min_side) as image:
            yield image


@contextmanager
def _clear_errors(data: bytes) -> Iterator[None]:
    """Turn whatever goes wrong in decoding into an ImageError."""
    try:
        yield
    except UnidentifiedImageError as error:
        kind = other_kind(data[:HEAD])
        reason = f"not an image but {kind}" if kind else f"not an image in a known format ({_named()})"
        raise ImageError(reason) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(TOO_MANY_PIXELS) from error
    except ImageError:
        raise
    except Exception as error:  # decoders meet hostile bytes and raise whatever they stumble over
        raise ImageError(f"cannot be decoded: {one_line(error)}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a PIL image upright and RGB, as `decode` does; it is left as it is. Raises ImageError."""
    _check_size(image)
    with _clear_errors(b""), memory.BUDGET.reserve(_peak(image, b"")):
        bits = declared_bits(image, b"")  # before it loads
        return _upright(ImageOps.exif_transpose(image), bits)


def _peak(image: Image.Image, data: bytes) -> int:
    return memory.to_decode(image, data, converts=image.mode != "RGB" or _is_transparent(image))


def _upright(image: Image.Image, bits: int | None, lower: Image.Image | None = None) -> Image.Image:
    """Return an image, which is turned in place, as RGB; `lower` are its lower bytes."""
    ImageOps.exif_transpose(image, in_place=True)
    scaled = None
    if image.mode.startswith(("I", "F")):
        scaled = grey(image, bits)
    elif lower:
        ImageOps.exif_transpose(lower, in_place=True)
        scaled = colours(image, lower, bits)
    result = _on_white(scaled[0] if scaled else image)
    for name in (EXTENT, INFERRED):  # a file may hold a text of this name
        result.info.pop(name, None)
    if scaled and scaled[1].is_inferred:
        result.info[INFERRED] = scaled[1]
    return result


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image as RGB, what is transparent laid on white."""
    if not _is_transparent(image):
        # The decoders of other formats hold memory as long as their images are used.
        is_light = image.mode == "RGB" and image.format in ("JPEG", "MPO", "PNG")
        return image if is_light else image.convert("RGB")
    result = Image.new("RGB", image.size)
    for box, strip in strips(image):
        straight = strip.convert(_STRAIGHT[strip.mode]) if strip.mode in _STRAIGHT else strip
        white = Image.new("RGBA", strip.size, "white")
        result.paste(Image.alpha_composite(white, straight.convert("RGBA")).convert("RGB"), box[:2])
    return result


def _is_transparent(image: Image.Image) -> bool:
    # A PNG may have a text of this name.
    return image.mode.endswith(("A", "a")) or isinstance(image.info.get("transparency"), int | bytes | tuple)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if not width * height:
        raise ImageError(f"empty: {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageError(TOO_MANY_PIXELS)
    if max(width, height) > MAX_ASPECT * max(1, min(width, height)):
        raise ImageError(f"too narrow: {width} x {height} pixels, the limit is {MAX_ASPECT} to 1")


def _draft(image: Image.Image, min_side: int) -> Box | None:
    """Have a JPEG scaled while it is decoded; return the box of its pixels that it covers once upright."""
    # Of a HEIC a draft would be its thumbnail, which the camera made in its own way.
    draft = image.draft("RGB", (min_side, min_side)) if image.format in ("JPEG", "MPO") else None
    if draft is None:
        return None
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    across, down = zip(draft[1][2:], image.size, strict=True)  # pixels covered, and all
    if orientation in _EXCHANGED:
        across, down = down, across
    left, right = _span(*across, mirrored=orientation in _LEFT_TO_RIGHT)
    top, bottom = _span(*down, mirrored=orientation in _TOP_TO_BOTTOM)
    return left, top, right, bottom


def _span(covered: float, pixels: int, *, mirrored: bool) -> tuple[float, float]:
    """Return where a row or column of pixels is covered, which as a file has it is from its start."""
    return (pixels - covered, pixels) if mirrored else (0.0, covered)


def from_memory(image: object) -> Image.Image:
    """Return a PIL image, an array or a tensor as an upright RGB image. Raises ImageError."""
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, np.ndarray) or _is_tensor(image):
        return from_array(image)
    raise ImageError(f"expected a path, PIL image, array or tensor, found {type(image).__name__}")


def from_array(array: "np.ndarray[Any, Any] | Tensor") -> Image.Image:
    """Return an array (H, W) or (H, W, 1|3|4), or a tensor (H, W) or (1|3|4, H, W), as an RGB image.

    Values are 0 to 255 in integers or 0 to 1 in floats; a fourth channel is alpha. Raises ImageError for
    other shapes and types.
    """
    given = tuple(array.shape)
    array = _channels_last(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(
            f"expected (height, width) with 1, 3 or 4 channels, found the shape {given}{_ordered(array)}"
        )
    if array.dtype.kind not in "uif":
        raise ImageError(f"expected integers 0 to 255 or floats 0 to 1, found {array.dtype}")
    if array.dtype.kind == "f":
        array = array * 255.0
    low, high = float(array.min()), float(array.max())
    if not (low >= -0.5 and high <= 255.5):  # written so that NaN fails too
        raise ImageError("values out of range: expected integers 0 to 255 or floats 0 to 1")
    return to_rgb(Image.fromarray(np.clip(np.rint(array), 0, 255).astype(np.uint8)))


def thumbnail(image: Image.Image, side: int = THUMBNAIL) -> bytes:
    """Return a small JPEG of an RGB image, re-encoded, so that it carries no metadata of the file."""
    small = image.copy()
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82, optimize=True)
    return file.getvalue()


def _is_tensor(value: object) -> "TypeGuard[Tensor]":
    """Whether a value is a tensor, without loading torch: where torch is not loaded, there is none."""
    kind = getattr(sys.modules.get("torch"), "Tensor", ())  # another thread may be half way in loading it
    return isinstance(value, kind)


def _channels_last(array: "np.ndarray[Any, Any] | Tensor") -> np.ndarray[Any, Any]:
    """Return a tensor (C, H, W) as an array (H, W, C), and an array as it is."""
    if not _is_tensor(array):
        return np.asarray(array)
    try:
        values = (array.float() if array.is_floating_point() else array).detach().cpu().numpy()
    except (RuntimeError, TypeError) as error:  # a sparse tensor, one of the device meta
        raise ImageError(f"this tensor cannot be read as an array: {one_line(error)}") from error
    return np.moveaxis(values, 0, -1) if values.ndim == 3 else values


def _ordered(array: "np.ndarray[Any, Any]") -> str:
    """Return a hint for an array that has its channels where the other kind has them, or several images."""
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return ": an array has its channels last"
    if array.ndim == 3 and array.shape[1] in (1, 3, 4):  # of a tensor, whose first is last by now
        return ": a tensor has its channels first"
    return ": pass several images as a list" if array.ndim == 4 else ""


def _formats(head: bytes) -> tuple[str, ...]:
    """Return the formats that a file of this beginning is tried as. Raises ImageError for lack of HEIF."""
    if format_of(head) != HEIF:
        return _built_in()
    _register_heif()
    return (*_built_in(), HEIF)  # an AVIF may begin the same way


@cache
def _built_in() -> tuple[str, ...]:
    """Return those formats that this build of Pillow decodes by itself."""
    with _REGISTERING:
        Image.init()
    return tuple(name for name in SUFFIXES_OF if name in Image.OPEN and name != HEIF)


def _register_heif() -> None:
    """Register pillow-heif the first time that a HEIC is read. Raises ImageError if it is not installed."""
    with _REGISTERING:
        if HEIF not in Image.OPEN:
            try:
                from pillow_heif import register_heif_opener
            except ImportError as error:
                raise ImageError(f"HEIC needs pillow-heif: {install('heic')}") from error
            register_heif_opener()


def _named() -> str:
    return ", ".join(sorted({*_built_in(), HEIF}))


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
