"""Which pictures are meant: files, folders, globs, a list on stdin, addresses; their names and bytes."""

import glob
import hashlib
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, Union

import numpy as np

from fieldmarks.classification.fetch import MAX_BYTES, Url, fetch, is_url
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.errors import ImageError

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
# In a folder, only what is named like a picture is one; a file named by the user is always tried.
SUFFIXES: Final = frozenset(
    f".{name}"
    for names in ("avif bmp gif ico j2k jp2 jpeg jpg mpo", "pgm png ppm qoi tga tif tiff webp")
    for name in names.split()
)

Found = str | Url | Failure
Stamp = tuple[int, int, int]  # of FileVersion


def find(inputs: Iterable[str], stdin: TextIO | None = None, *, allow_url: bool = False) -> Iterator[Found]:
    """Yield the pictures' paths: of a folder all that lie in it at any depth, of a glob all matches, sorted.

    "-" reads paths from `stdin`, one a line. A path that does not exist is yielded too, so that its reading
    tells; a folder without pictures and a glob without matches are failures, and so is a URL not allowed.
    """
    for one in inputs:
        if one == STDIN and stdin is not None:
            lines = (line.rstrip("\r\n") for line in stdin)
            yield from find((line for line in lines if line and line != STDIN), allow_url=allow_url)
        elif is_url(one):
            yield Url(one) if allow_url else Failure(Url(one).name, "an address: allow it with --allow-url")
        elif not one:
            yield Failure(one, "an empty path")
        elif Path(one).is_dir():
            yield from _or_failure(_walk(one), Failure(one, "a folder without pictures"))
        elif glob.has_magic(one) and not os.path.lexists(one):
            matches = sorted(glob.glob(one, recursive=True))  # noqa: PTH207 - a pattern may be absolute
            yield from _or_failure(find(matches), Failure(one, "matches no file"))
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
            raise ImageError("a folder, not a picture")
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


def _walk(folder: str) -> Iterator[Found]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield str(Path(place) / name)


def _or_failure(paths: Iterator[Found], failure: Failure) -> Iterator[Found]:
    yield next(paths, failure)
    yield from paths
