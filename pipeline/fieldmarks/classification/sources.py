"""Which images are meant: files, folders, globs, a list on stdin, addresses; their names and bytes.

In a folder, files are read that are named like an image or begin like one. Hidden files and what systems
and programs leave behind are passed over; all else is counted, by suffix, for one line to the user.
"""

import glob
import hashlib
import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, Union

import numpy as np

from fieldmarks.classification.images import (
    HEAD,
    MAX_BYTES,
    SUFFIXES,
    Url,
    fetch,
    format_of,
    is_url,
    may_be_image,
    suffix_of,
)
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.errors import ImageError
from fieldmarks.paths import open_regular
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Blob:
    """A picture's file as bytes, out of an archive or a table, and the name by which it is called."""

    name: str
    data: bytes


Picture = Union[str, os.PathLike[str], Blob, "Image.Image", np.ndarray[Any, Any], "Tensor"]

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

Found = str | Url | Failure
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
    inputs: Iterable[str],
    stdin: TextIO | None = None,
    *,
    allow_url: bool = False,
    contents: FolderContents | None = None,
) -> Iterator[Found]:
    """Yield the images' paths: of a folder all that lie in it at any depth, of a glob all matches, sorted.

    "-" reads paths from `stdin`, one a line. A path that does not exist is yielded too, so that its reading
    tells; a folder without images and a glob without matches are failures, and so is a URL not allowed.
    `contents` learns what the folders hold.
    """
    contents = contents or FolderContents()
    for one in inputs:
        if one == STDIN and stdin is not None:
            lines = (line.rstrip("\r\n") for line in stdin)
            listed = (line for line in lines if line and line != STDIN)
            yield from find(listed, allow_url=allow_url, contents=contents)
        elif is_url(one):
            yield Url(one) if allow_url else Failure(Url(one).name, "an address: allow it with --allow-url")
        elif not one:
            yield Failure(one, "an empty path")
        elif Path(one).is_dir():
            yield from _folder(one, contents)
        elif glob.has_magic(one) and not os.path.lexists(one):
            matches = sorted(glob.glob(one, recursive=True))  # noqa: PTH207 - a pattern may be absolute
            if not matches:
                yield Failure(one, "matches no file")
            yield from find(matches, contents=contents)
        else:
            yield one


def name_of(picture: Picture | Url | Failure, number: int) -> str:
    """Return a picture's name: its path or address, or its place in the run for one that comes without."""
    if isinstance(picture, Url | Blob):
        return picture.name
    if isinstance(picture, str | os.PathLike):
        return os.fsencode(picture).decode("utf-8", "backslashreplace")
    return f"picture {number}"


def unchanged(picture: Picture | Url, version: FileVersion) -> bool:
    """Whether a picture's file is still the version that was read; of an address it is taken to be.

    A file of the same size and times counts as the same; of other times, its content decides.
    """
    if version.stamp is None or not isinstance(picture, str | os.PathLike):
        return version.stamp is None and isinstance(picture, Url)
    try:
        stamp = _stamp(os.stat(picture))  # noqa: PTH116 - a Path takes as long as the call
        if stamp == version.stamp or stamp[0] != version.stamp[0]:
            return stamp == version.stamp
        return hashlib.sha256(read_bytes(picture)).hexdigest() == version.sha256
    except (OSError, ValueError, ImageError):
        return False


def read(picture: Picture | Url) -> bytes | None:
    """Return the bytes of a file or address, None for a picture decoded already. Raises ImageError."""
    return read_stamped(picture)[0]


def read_stamped(picture: Picture | Url) -> tuple[bytes | None, Stamp | None]:
    """Return as `read`, and what tells a file from a later version of it; see FileVersion."""
    if isinstance(picture, Url):
        return fetch(picture), None
    if isinstance(picture, Blob):
        return picture.data, None
    return _read_file(picture) if isinstance(picture, str | os.PathLike) else (None, None)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's remarks on odd files off stderr, in the whole process while it lasts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        yield


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a picture's file. Raises ImageError if it is no regular file or too large."""
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
            raise ImageError(f"too large: {status.st_size} bytes, {MAX_BYTES} are the most")
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
