"""Image files: which formats are read, how their files are called and how they begin.

    format_of(b"\\xff\\xd8\\xff\\xe0…")   "JPEG"
    other_kind(b"%PDF-1.7")             "a PDF; save its pages as images"

The list is explicit, as a suffix decides what is read of a stranger's folder. A test compares it with all
that Pillow registers, so that a new format of Pillow's is either taken in here or left out with a reason.
"""

import re
from collections.abc import Mapping
from typing import Final

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
