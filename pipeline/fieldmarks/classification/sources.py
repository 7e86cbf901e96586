"""Which pictures are meant: files, folders, globs, a list on stdin and, where allowed, URLs."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TextIO

from fieldmarks.classification.results import Failure

STDIN: Final = "-"
# In a folder, only what is named like a picture is one; a file named by the user is always tried.
SUFFIXES: Final = frozenset(
    f".{name}"
    for names in ("avif bmp gif ico j2k jp2 jpeg jpg mpo", "pgm png ppm qoi tga tif tiff webp")
    for name in names.split()
)


def find(inputs: Iterable[str], stdin: TextIO | None = None) -> Iterator[str | Failure]:
    """Yield the pictures' paths: of a folder all that lie in it at any depth, of a glob all matches, sorted.

    "-" reads paths from `stdin`, one a line. A path that does not exist is yielded too, so that its reading
    tells; a folder without pictures and a glob without matches are failures.
    """
    for one in inputs:
        if one == STDIN and stdin is not None:
            lines = (line.rstrip("\r\n") for line in stdin)
            yield from find(line for line in lines if line and line != STDIN)
        elif Path(one).is_dir():
            yield from _or_failure(_walk(one), Failure(one, "a folder without pictures"))
        elif glob.has_magic(one) and not os.path.lexists(one):
            matches = sorted(glob.glob(one, recursive=True))  # noqa: PTH207 - a pattern may be absolute
            yield from _or_failure(find(matches), Failure(one, "matches no file"))
        else:
            yield one


def _walk(folder: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield str(Path(place) / name)


def _or_failure(paths: Iterator[str | Failure], failure: Failure) -> Iterator[str | Failure]:
    yield next(paths, failure)
    yield from paths
