"""Image files: which formats are read, how their files are called and how they begin.

    format_of(b"\xff\xd8\xff\xe0…")   "JPEG"
    other_kind(b"%PDF-1.7")             "a PDF; save its pages as images"

The list is explicit, as a suffix decides what is read of a stranger's folder. A test compares it with all
that Pillow registers, so that a new format of Pillow's is either taken in here or left out with a reason.

Pictures from the web, only where the user allows it: one request, bounded in bytes and in time.

Pictures: from whatever the user hands over to an upright RGB image, or one clear ImageError.
"""

import io
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fieldmarks import __version__
from fieldmarks.classification.preprocess import EXTENT, Box
from fieldmarks.errors import ImageError
from fieldmarks.hub import one_line

if TYPE_CHECKING:
    from torch import Tensor


# The formats by Pillow's names, each with its suffixes. HEIF needs pillow-heif.
SUFFIXES_OF: Final[Mapping[str, str]] = {
    "AVIF": "avif avifs",
    "BMP": "bmp",
    "DIB": "dib",
    "GIF": "gif",
    "HEIF": "heic heics heif heifs hif",
    "ICO": "ico",
    "JPEG": "jfif jpe jpeg jpg mpo",  # phones' MPO is a JPEG with more JPEGs behind it
    "JPEG2000": "j2c j2k jp2 jpc jpf jpx",
    "PCX": "pcx",
    "PNG": "apng png",
    "PPM": "pbm pfm pgm pnm ppm",
    "PSD": "psd",  # the flattened image
    "QOI": "qoi",
    "SGI": "bw rgb rgba sgi",
    "SUN": "ras",
    "TGA": "icb tga vda vst",
    "TIFF": "dng tif tiff",  # of a DNG the preview, where that is its first image
    "WEBP": "webp",
}
HEIF: Final = "HEIF"
SUFFIXES: Final = frozenset(f".{suffix}" for names in SUFFIXES_OF.values() for suffix in names.split())

# What else Pillow registers.
LEFT_OUT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("EPS", "WMF"), "drawn by another program or by the system, not decoded"),
    **dict.fromkeys(("BUFR", "FITS", "GRIB", "HDF5", "MCIDAS", "SPIDER"), "measurements, not photos"),
    **dict.fromkeys(("DCX", "FLI", "MPEG"), "several pages or a film"),
    **dict.fromkeys(("BLP", "DDS", "FTEX", "GBR"), "textures and brushes"),
    **dict.fromkeys(("CUR", "ICNS", "XBM", "XPM", "XVTHUMB"), "cursors, icons and thumbnails"),
    **dict.fromkeys(("IM", "IMT", "IPTC", "MSP", "PCD", "PIXAR"), "no longer in use, and hardly tested"),
}

# In folders, files of other suffixes are read if they begin like an image. These are not even opened: they
# are something else, and camera raw begins like TIFF, whose first image is then a tiny thumbnail.
_NOT_IMAGES: Final = frozenset(
    f".{suffix}"
    for names in (
        "csv doc docx html htm json jsonl log md ndjson pdf rst rtf tex toml tsv txt xls xlsx xml yaml yml",
        "3gp aac avi flac m4a m4v mkv mov mp3 mp4 mpeg mpg ogg wav webm wmv",
        "7z arrow bin bz2 db gz h5 hdf5 lmdb mat npy npz parquet pickle pkl pt pth rar safetensors sqlite",
        "tar tgz xz zip zst c cpp h ipynb js py sh svg eps ps ai",
        "3fr arw cr2 cr3 crw dcr erf kdc mef mos mrw nef nrw orf pef raf raw rw2 sr2 srf srw x3f aae xmp",
    )
    for suffix in names.split()
)
HEAD: Final = 32  # bytes that tell a format
_SIGNATURES: Final = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"II[*+]\x00|MM\x00[*+]"), "TIFF"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb"....ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL), HEIF),
    (re.compile(rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), "JPEG2000"),
    (re.compile(rb"BM....\x00\x00\x00\x00....[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", re.DOTALL), "BMP"),
    (re.compile(rb"qoif"), "QOI"),
    (re.compile(rb"8BPS\x00\x01"), "PSD"),
    (re.compile(rb"\x59\xa6\x6a\x95"), "SUN"),
)
_OTHER_KINDS: Final = (
    (re.compile(rb"%PDF-"), "a PDF; save its pages as images"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript; save it as PNG"),
    (re.compile(rb"\s*<(?:\?xml[^>]*>\s*<)?svg\b"), "an SVG drawing; save it as PNG"),
    (re.compile(rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ"), "an archive; unpack it"),
    (
        re.compile(rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3|OggS", re.DOTALL),
        "a video; save its frames as images",
    ),
    (re.compile(rb"PAR1|ARROW1"), "a table; `fieldmarks evaluate` reads it"),
    (re.compile(rb"\x93NUMPY"), "an array; save it as PNG, or pass it with --image-embeddings"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer; run `git lfs pull`"),
    (re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE), "a web page, not the image it shows"),
)


def suffix_of(name: str) -> str:
    """Return a file name's suffix in lower case with its dot, or "" for none."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def may_be_image(suffix: str) -> bool:
    """Whether a file of another suffix than an image's is worth opening to see how it begins."""
    return suffix not in _NOT_IMAGES


def format_of(head: bytes) -> str | None:
    """Return the format of which a file's first HEAD bytes are, None if they are of no image's.

    Formats without an unmistakable beginning (ICO, PCX, PPM, SGI, TGA) are known by their suffix only.
    """
    return next((name for pattern, name in _SIGNATURES if pattern.match(head)), None)


def other_kind(head: bytes) -> str | None:
    """Return what a file is that is not an image, and what to do, as far as its beginning tells."""
    known = next((kind for pattern, kind in _OTHER_KINDS if pattern.match(head)), None)
    return known or ("text; if it lists images, pass the list on stdin: - < FILE" if _is_text(head) else None)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if error.start > len(head) - 4 else "\0"  # cut in a character
    return all(character.isprintable() or character in "\t\r\n" for character in text)


MAX_BYTES: Final = 256 * 2**20  # of a picture's file, wherever it comes from
SILENCE: Final = 20.0  # seconds that a server may stay silent
PATIENCE: Final = 120.0  # seconds that a picture may take in all
_CHUNK: Final = 2**16


@dataclass(frozen=True, slots=True)
class Url:
    """A picture's address, http or https."""

    address: str

    @property
    def name(self) -> str:
        """The address without a user name and password, which are nobody else's."""
        return re.sub(r"^(\w+://)[^/?#]*@", r"\1", self.address)


def is_url(text: str) -> bool:
    """Whether an input is meant as an address of the web."""
    return text.lower().startswith(("http://", "https://"))


def fetch(url: Url, *, patience: float = PATIENCE) -> bytes:
    """Return the bytes at an address. Raises ImageError for a refusal, silence, too much or too long."""
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    if url.name != url.address:
        raise ImageError("cannot be fetched: an address with a user name or password is not sent")
    if not is_url(url.address):
        raise ImageError("cannot be fetched: not an http or https address")
    until = time.monotonic() + patience
    data = bytearray()
    try:
        request = urllib.request.Request(url.address, headers={"User-Agent": f"fieldmarks/{__version__}"})
        with urllib.request.urlopen(request, timeout=min(SILENCE, patience)) as response:
            while chunk := response.read1(_CHUNK):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise ImageError(f"too large: over {MAX_BYTES} bytes")
                if time.monotonic() > until:
                    raise ImageError(f"cannot be fetched: not done after {patience:g} seconds")
    except urllib.error.HTTPError as error:
        error.close()
        raise ImageError(f"cannot be fetched: the server answered {error.code}") from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: an address that is none
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise ImageError(f"cannot be fetched: {reason}") from error
    return bytes(data)


MAX_PIXELS: Final = Image.MAX_IMAGE_PIXELS or 89_478_485  # Pillow's own limit, 270 MB as RGB
THUMBNAIL: Final = 384  # pixels of the longer side
TOO_MANY_PIXELS: Final = f"too large: {MAX_PIXELS} pixels are the most"
# The models scale the shorter side to a fixed length, so a thread of pixels would swell without bound.
MAX_ASPECT: Final = 200
# EXIF's orientations, by what makes such a picture upright: width and height exchanged, then mirrored.
_EXCHANGED, _LEFT_TO_RIGHT, _TOP_TO_BOTTOM = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)
NO_HEIF: Final = "HEIC needs pillow-heif: pip install 'fieldmarks[heic]'"
_REGISTERING: Final = Lock()  # images are decoded in several threads


def decode(data: bytes, *, least: int | None = None) -> Image.Image:
    """Return the picture in a file's bytes, upright and RGB; of an animation, the first frame.

    With `least`, a JPEG comes out at 1/2, 1/4 or 1/8 of its size where its shorter side keeps that many
    pixels, which takes a fraction of the time; EXTENT in its `info` tells which of them it covers.

    Transparency is dropped, as CLIP's own preprocessing does. Raises ImageError.
    """
    if not data:
        raise ImageError("empty: it has zero bytes")
    try:
        with Image.open(io.BytesIO(data), formats=_formats(data[:HEAD])) as image:
            _check_size(image)  # before a draft makes it smaller
            extent = _draft(image, least) if least else None
            upright = to_rgb(image)
            if extent:
                upright.info[EXTENT] = extent
            return upright
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
    """Return an image upright (EXIF) and RGB, greys of more than 8 bits scaled down. Raises ImageError."""
    _check_size(image)
    image = _rgb(ImageOps.exif_transpose(image))
    image.info.pop(EXTENT, None)  # a file may hold a text of this name
    return image


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(TOO_MANY_PIXELS)
    if max(width, height) > MAX_ASPECT * max(1, min(width, height)):
        raise ImageError(f"too narrow: {width} x {height} pixels, {MAX_ASPECT} to 1 is the most")


def _draft(image: Image.Image, least: int) -> Box | None:
    """Have a JPEG scaled while it is decoded; return the box of its pixels that it covers once upright."""
    # Of a HEIC a draft would be its thumbnail, which the camera made in its own way.
    draft = image.draft("RGB", (least, least)) if image.format in ("JPEG", "MPO") else None
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


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # straight to RGB, Pillow warns
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    return image.convert("RGB")


def from_memory(picture: object) -> Image.Image:
    """Return a PIL image, an array or a tensor as an upright RGB image. Raises ImageError."""
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if isinstance(picture, np.ndarray) or _is_tensor(picture):
        return from_array(picture)
    raise ImageError(f"a {type(picture).__name__} is no picture: a path, PIL image, array or tensor is meant")


def from_array(array: "np.ndarray[Any, Any] | Tensor") -> Image.Image:
    """Return an array (H, W) or (H, W, 1|3|4), or a tensor (H, W) or (1|3|4, H, W), as an RGB image.

    Values are 0 to 255 in integers or 0 to 1 in floats. Raises ImageError for other shapes and types.
    """
    array = _channels_last(array)
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


def _is_tensor(value: object) -> "TypeGuard[Tensor]":
    """Whether a value is a tensor, without loading torch: where torch is not loaded, there is none."""
    kind = getattr(sys.modules.get("torch"), "Tensor", ())  # another thread may be half way in loading it
    return isinstance(value, kind)


def _channels_last(array: "np.ndarray[Any, Any] | Tensor") -> np.ndarray[Any, Any]:
    """Return a tensor (C, H, W) as an array (H, W, C), and an array as it is."""
    if not _is_tensor(array):
        return np.asarray(array)
    values = (array.float() if array.is_floating_point() else array).detach().cpu().numpy()
    return np.moveaxis(values, 0, -1) if values.ndim == 3 else values


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
                raise ImageError(NO_HEIF) from error
            register_heif_opener()


def _named() -> str:
    return ", ".join(sorted({*_built_in(), HEIF}))
