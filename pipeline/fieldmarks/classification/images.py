"""Decoding images: anything the user passes becomes an upright RGB image, or one clear ImageError."""

import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fieldmarks.classification import depth, memory
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
                bits, lower = depth.declared_bits(file, data), depth.lower_bytes(file, data)
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
        bits = depth.declared_bits(image, b"")  # before it loads
        return _upright(ImageOps.exif_transpose(image), bits)


def _peak(image: Image.Image, data: bytes) -> int:
    return memory.to_decode(image, data, converts=image.mode != "RGB" or _is_transparent(image))


def _upright(image: Image.Image, bits: int | None, lower: Image.Image | None = None) -> Image.Image:
    """Return an image, which is turned in place, as RGB; `bits` and `lower` as depth.py has them."""
    ImageOps.exif_transpose(image, in_place=True)
    scaled = None
    if image.mode.startswith(("I", "F")):
        scaled = depth.grey(image, bits)
    elif lower:
        ImageOps.exif_transpose(lower, in_place=True)
        scaled = depth.colours(image, lower, bits)
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
    for box, strip in depth.strips(image):
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
