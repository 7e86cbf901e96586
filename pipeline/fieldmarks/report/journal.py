"""A file of results that grows line by line and tells where a stopped run has to go on.

Each line is a JSON object with "image". A torn last line, which a crash can leave, is dropped.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from fieldmarks.errors import ImageError


class Journal:
    """Results appended to a file; `done` are the pictures that have a line. A context manager."""

    def __init__(self, path: Path) -> None:
        """Read what is there. Raises ImageError for a file that holds anything but results."""
        self.path = path
        self.done: set[str] = set()
        try:
            if path.exists() and not path.is_file():
                raise ImageError(f"{path} cannot be opened: it is a folder or a device, not a file")
            self._file = path.open("ab+")
        except OSError as error:
            raise ImageError(f"{path} cannot be opened: {error.strerror or error}") from error
        try:
            self._file.truncate(self._read())
        except (OSError, ImageError):
            self._file.close()
            raise

    def _read(self) -> int:
        """Note the pictures that have a line, and return where the last whole line ends."""
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            self.done.add(_image(line, f"{self.path}, line {number}"))
            whole += len(line)
        return whole

    def append(self, line: str) -> None:
        """Write one line, at once. Raises ImageError if the disk refuses."""
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise ImageError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _image(line: bytes, where: str) -> str:
    try:
        image = orjson.loads(line)["image"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ImageError(f"{where} is no result of classify: name another file to resume") from error
    if not isinstance(image, str):
        raise ImageError(f"{where} is no result of classify: name another file to resume")
    return image
