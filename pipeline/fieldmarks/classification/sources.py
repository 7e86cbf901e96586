"""Where images come from: files, folders, globs and lists on stdin; which formats are read; names and bytes.

    format_of(b"\xff\xd8\xff\xe0…")   "JPEG"
    other_kind(b"%PDF-1.7")             "a PDF; save its pages as images"

In a folder, files are read that are named like an image or begin like one. Hidden files and what systems
and programs leave behind are passed over; all else is counted, by suffix, for one line to the user. The list
of formats is explicit, as a suffix decides what is read of an untrusted folder; a test has the reason for
each that Pillow registers and that is not among them.
"""

import glob
import hashlib
import logging
import os
import re
import stat
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, Union

import numpy as np

from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.errors import ImageError
from fieldmarks.paths import open_regular
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


logger = logging.getLogger(__name__)

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
    return known or (
        "text; if it lists images, pass its lines (on the command line: - < FILE)" if _is_text(head) else None
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if error.start > len(head) - 4 else "\0"  # cut in a character
    return all(character.isprintable() or character in "\t\r\n" for character in text)


MAX_BYTES: Final = 256 * 2**20  # of an image's file, wherever it comes from


@dataclass(frozen=True, slots=True)
class Blob:
    """An image file's bytes from an archive or a table, and its name for messages."""

    name: str
    data: bytes


# An image as it is handed over: a file by its path or as bytes, or pixels in memory.
ImageInput = Union[str, os.PathLike[str], Blob, "Image.Image", np.ndarray[Any, Any], "Tensor"]

STDIN: Final = "-"
# What systems and programs leave in a folder of photos: copies, thumbnails, deleted files. In lower case.
_HELPER_FOLDERS: Final = frozenset(
    (
        *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "__macosx"),
        *("__pycache__", "lost+found", "recycler", "system volume information"),
    )
)
_HELPER_FILES: Final = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
_SUFFIXES_SHOWN: Final = 6

Found = str | Failure
Stamp = tuple[int, int, int]  # of FileVersion


@dataclass(slots=True)
class FolderContents:
    """What the folders of a run hold: images, and by suffix the files that are left out.

    Images and files are counted as `find` yields them, so `notice` is complete once all are read.
    """

    folders: list[str] = field(default_factory=list)
    images: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def notice(self) -> str | None:
        """Return what was left out, such as "photos: 120 images; left out: 2 .txt, 1 .mov", or None."""
        if not self.left_out:
            return None
        more = f" and {len(self.folders) - 1:,} more" if len(self.folders) > 1 else ""
        where = printable(self.folders[0]) + more
        return f"{where}: {counted(self.images, 'image')}; left out: {by_suffix(self.left_out)}"


def by_suffix(files: Counter[str]) -> str:
    """Return how many files there are of each suffix, the most frequent first."""
    ordered = sorted(files.items(), key=lambda entry: (-entry[1], entry[0]))
    words = [f"{count:,} {printable(suffix) or 'without a suffix'}" for suffix, count in ordered]
    rest = sum(count for _, count in ordered[_SUFFIXES_SHOWN:])
    return ", ".join(words[:_SUFFIXES_SHOWN] + ([f"{rest:,} more"] if rest else []))


def find(
    inputs: Iterable[str | Path | Failure],
    stdin: TextIO | None = None,
    *,
    contents: FolderContents | None = None,
) -> Iterator[Found]:
    """Yield image paths, sorted: for a folder, all images in it at any depth; for a glob, all matches.

    "-" reads paths from `stdin`, one a line. A Path is a single image, whatever its name looks like. A path
    that does not exist is yielded too, so that its reading tells; a folder without images, a glob without
    matches and a web address are failures.
    `contents` learns what the folders hold; without it, what they hold besides images is logged at the end.
    """
    totals = contents or FolderContents()
    for path in inputs:
        if isinstance(path, Failure):
            yield path
        elif isinstance(path, Path):
            yield str(path)
        elif path == STDIN and stdin is not None:
            lines = (line.rstrip("\r\n") for line in stdin)
            listed = (line for line in lines if line and line != STDIN)
            yield from find(listed, contents=totals)
        elif is_url(path):
            yield Failure(without_credentials(path), "a web address; download the image and pass the file")
        elif not path:
            yield Failure(path, "an empty path")
        elif Path(path).is_dir():
            yield from _folder(path, totals)
        elif glob.has_magic(path) and not os.path.lexists(path):
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - a pattern may be absolute
            if not matches:
                yield Failure(path, "matches no files")
            yield from find(matches, contents=totals)
        else:
            yield path
    if contents is None and (notice := totals.notice()):
        logger.warning("%s", notice)


def inputs_of(images: Any) -> Iterator[ImageInput | Failure]:
    """Yield the images that a path, a folder, a glob, an object of pixels or a list of these stands for."""
    for image in [images] if is_single(images) or isinstance(images, str | os.PathLike) else images:
        if isinstance(image, str | os.PathLike):
            yield from find([os.fspath(image)])
        else:
            yield image


def is_single(images: object) -> bool:
    """Whether an argument is one image (a file, an array, a tensor, a PIL image), not a list or a folder."""
    if isinstance(images, str | os.PathLike):
        path = os.fspath(images)
        return not Path(path).is_dir() and (not glob.has_magic(path) or os.path.lexists(path))
    of_bytes = isinstance(images, bytes | bytearray | memoryview) or hasattr(images, "read")
    return (
        of_bytes
        or not isinstance(images, Iterable)
        or hasattr(images, "shape")
        or hasattr(images, "getbands")
    )


def is_url(text: str) -> bool:
    """Whether an input is a web address."""
    return text.lower().startswith(("http://", "https://"))


def without_credentials(address: str) -> str:
    """Return a URL without its user name and password."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", address)


def name_of(image: ImageInput | Failure, number: int) -> str:
    """Return an image's name: its path, or its place in the run for one that comes without."""
    if isinstance(image, Blob):
        return image.name
    if isinstance(image, str | os.PathLike):
        return os.fsencode(image).decode("utf-8", "backslashreplace")
    return f"image {number}"


def unchanged(image: ImageInput, version: FileVersion) -> bool:
    """Whether an image's file is still the version that was read.

    A file of the same size and times counts as the same; of other times, its content decides.
    """
    if version.stamp is None or not isinstance(image, str | os.PathLike):
        return False
    try:
        stamp = _stamp(os.stat(image))  # noqa: PTH116 - a Path takes as long as the call
        if stamp == version.stamp or stamp[0] != version.stamp[0]:
            return stamp == version.stamp
        return hashlib.sha256(read_bytes(image)).hexdigest() == version.sha256
    except (OSError, ValueError, ImageError):
        return False


def digest_of(path: str | os.PathLike[str]) -> FileVersion:
    """Read a file and return its version. Raises ImageError."""
    data, stamp = _read_file(path)
    return FileVersion(hashlib.sha256(data).hexdigest(), stamp)


def named_file(name: str) -> bytes:
    """Return the path of a file that `name_of` gave this name; bytes, as a path need not be Unicode."""
    path = os.fsencode(name)
    if os.path.lexists(path):
        return path
    return re.sub(rb"\\x([89a-f][0-9a-f])", lambda match: bytes.fromhex(match[1].decode()), path)


def read_stamped(image: ImageInput) -> tuple[bytes | None, Stamp | None]:
    """Return the bytes of a file, and what tells it from a later version of it; see FileVersion.

    Both are None for an image decoded already. Raises ImageError.
    """
    if isinstance(image, Blob):
        return image.data, None
    return _read_file(image) if isinstance(image, str | os.PathLike) else (None, None)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's remarks on odd files off stderr, in the whole process while it lasts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        yield


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an image's file. Raises ImageError if it is no regular file or too large."""
    return _read_file(path)[0]


def _read_file(path: str | os.PathLike[str]) -> tuple[bytes, Stamp]:
    """Return a file's bytes and its stamp from before it was read, so that a later change is seen."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path takes as long as the call
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"too large: {status.st_size} bytes, the limit is {MAX_BYTES}")
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return file.read(), _stamp(status)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null byte in the name
        raise ImageError(f"cannot be read: {error}") from error


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _folder(folder: str, contents: FolderContents) -> Iterator[Found]:
    contents.folders.append(folder)
    before, left_out = contents.images, Counter(contents.left_out)
    failed = False
    for path in _walk(folder, contents):
        failed |= isinstance(path, Failure)
        yield path
    if contents.images == before and not failed:
        others = contents.left_out - left_out
        contents.left_out = left_out  # the failure says it
        yield Failure(folder, "a folder without images" + (f": it has {by_suffix(others)}" if others else ""))


def _walk(folder: str, contents: FolderContents) -> Iterator[Found]:
    """Yield the images in a folder: those directly in it, then those of its subfolders.

    A link to a folder is followed once, and only out of the folder: what lies in it is read anyway.
    """
    root = os.path.realpath(folder)
    followed: set[str] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            yield Failure(place, f"cannot be read: {error.strerror}")
            continue
        subfolders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = os.path.normpath(entry.path) if place == os.curdir else entry.path
            if _is_folder(entry):
                if is_helper(entry.name) or (entry.is_symlink() and not _leads_out(path, root, followed)):
                    continue
                subfolders.append(path)
            elif _is_image(path, suffix_of(entry.name)):
                contents.images += 1
                yield path
            elif entry.name.lower() not in _HELPER_FILES:
                contents.left_out[suffix_of(entry.name)] += 1
        waiting += reversed(subfolders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round to itself
        return False


def is_helper(folder: str) -> bool:
    """Whether a folder of this name is hidden, or left by a system or program and holds no photos."""
    return folder.startswith(".") or folder.lower() in _HELPER_FOLDERS


def leads_into(path: str, folder: str) -> bool:
    """Whether a path leads to a folder, into it, or to one that holds it; `folder` is free of links."""
    target = os.path.realpath(path)
    return os.path.commonpath((target, folder)) in (target, folder)


def _leads_out(link: str, root: str, followed: set[str]) -> bool:
    target = os.path.realpath(link)
    if leads_into(target, root) or any(leads_into(target, other) for other in followed):
        return False
    followed.add(target)
    return True


def _is_image(path: str, suffix: str) -> bool:
    """Whether a file is named like an image, or begins like one."""
    if suffix in SUFFIXES:
        return True
    if not may_be_image(suffix):
        return False
    try:
        with os.fdopen(open_regular(Path(path)), "rb", buffering=0) as file:
            return format_of(file.read(HEAD)) is not None
    except OSError:
        return False
