"""Pictures: from whatever the user hands over to an upright RGB image, or one clear ImageError."""

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fieldmarks.errors import ImageError

Picture = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor

MAX_BYTES: Final = 256 * 2**20
MAX_PIXELS: Final = Image.MAX_IMAGE_PIXELS or 89_478_485  # Pillow's own limit, 270 MB as RGB
THUMBNAIL: Final = 384  # pixels of the longer side
TOO_MANY_PIXELS: Final = f"too large: {MAX_PIXELS} pixels are the most"
# The models scale the shorter side to a fixed length, so a thread of pixels would swell without bound.
MAX_ASPECT: Final = 200
# What Pillow decodes by itself. Left out are formats that start other programs (EPS) or hold no photos.
FORMATS: Final = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's remarks on odd files off stderr, in the whole process while it lasts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        yield


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a picture's file. Raises ImageError if it is no regular file or too large."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"too large: {status.st_size} bytes, {MAX_BYTES} are the most")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null byte in the name
        raise ImageError(f"cannot be read: {error}") from error


def decode(data: bytes) -> Image.Image:
    """Return the picture in a file's bytes, upright and RGB; of an animation, the first frame.

    Transparency is dropped, as CLIP's own preprocessing does. Raises ImageError.
    """
    if not data:
        raise ImageError("empty: it has zero bytes")
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            return to_rgb(image)
    except UnidentifiedImageError as error:
        raise ImageError(f"not a picture in a known format ({', '.join(_formats())})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(TOO_MANY_PIXELS) from error
    except ImageError:
        raise
    except Exception as error:  # decoders meet hostile bytes and raise whatever they stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"cannot be decoded: {reason}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image upright (EXIF) and RGB, greys of more than 8 bits scaled down. Raises ImageError."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(TOO_MANY_PIXELS)
    if max(width, height) > MAX_ASPECT * max(1, min(width, height)):
        raise ImageError(f"too narrow: {width} x {height} pixels, {MAX_ASPECT} to 1 is the most")
    image = ImageOps.exif_transpose(image)
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # straight to RGB, Pillow warns
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    return image.convert("RGB")


def from_array(array: np.ndarray[Any, Any] | Tensor) -> Image.Image:
    """Return an array (H, W) or (H, W, 1|3|4), or a tensor (H, W) or (1|3|4, H, W), as an RGB image.

    Values are 0 to 255 in integers or 0 to 1 in floats. Raises ImageError for other shapes and types.
    """
    if isinstance(array, Tensor):
        array = array.detach().cpu().float().numpy() if array.is_floating_point() else array.cpu().numpy()
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        shape = array.shape
        raise ImageError(f"the shape {shape} is none of a picture: (height, width) with 1, 3 or 4 channels")
    if array.dtype.kind not in "uif":
        raise ImageError(f"{array.dtype} values: integers 0 to 255 or floats 0 to 1 are meant")
    if array.dtype.kind == "f":
        array = array * 255.0
    low, high = float(array.min()), float(array.max())
    if not (low >= -0.5 and high <= 255.5):  # written so that NaN fails too
        raise ImageError("values out of range: integers 0 to 255 or floats 0 to 1 are meant")
    return to_rgb(Image.fromarray(np.clip(np.rint(array), 0, 255).astype(np.uint8)))


def thumbnail(image: Image.Image, side: int = THUMBNAIL) -> bytes:
    """Return a small JPEG of an RGB image, encoded anew: nothing of the file but its look is in it."""
    small = image.copy()
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82, optimize=True)
    return file.getvalue()


def _to_8_bits(grey: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Scale a grey picture of 16 or 32 bits, or of floats, to 0..255."""
    values = np.nan_to_num(grey.astype(np.float32))
    high = float(values.max())
    if high <= 1 and grey.dtype.kind == "f":
        values = values * 255
    elif high > 255:
        values = values / 257  # 65535 becomes 255
    scaled: np.ndarray[Any, Any] = np.clip(values, 0, 255).astype(np.uint8)
    return scaled


@cache
def _formats() -> tuple[str, ...]:
    """Return those of FORMATS that this build of Pillow has (JPEG brings the phones' MPO with it)."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
