"""The results journal of `classify --resume`: it grows line by line and records where to continue.

The first line says whose the file is; H is a hash of the settings, which are all that a result depends on but
the image. Every other line is a result (see classification/results.py), with "file" beside it: what tells the
image from a later version.

    {"fieldmarks": "results", "version": 1, "identity": H, "settings": {…}}
    {"image": "a.png", "label": "owl", "scores": […], "file": {"size", "mtime_ns", "ctime_ns", "sha256"}}
    {"image": "b.png", "error": "cannot be read: …"}

The last line of an image is the current one; a failure that it tells already gets no other. Lines are
handed to the operating system one by one, so that a killed process loses none; they are on disk (fsync) when
the journal is closed. A line that was cut short by a crash is removed. Nothing else is ever removed: a file
that is not a journal is refused as it is.
"""

import codecs
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import orjson

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.classification.sources import name_of, unchanged
from fieldmarks.errors import ReportError
from fieldmarks.paths import open_regular

KIND: Final = "results"
VERSION: Final = 1
LONGEST: Final = 2**26  # bytes of a line; one of 20,000 classes takes 2 MB
_BEGINNING: Final = b'{"image":'  # of every result, as orjson writes it


class Journal:
    """Results in a file; `done` are the images that have a result, with the versions of their files.

    Use it as a context manager, and `start` it before the first `append`:

        with Journal(Path("out.jsonl")) as journal:
            journal.start({"model": "…", "options": {"top": 5}})
            journal.append('{"image":"a.png","label":"owl"}')
    """

    def __init__(self, path: Path) -> None:
        """Read what is there and lock the file. Raises ReportError for a file that is not a journal."""
        self.path = path
        self.done: dict[str, FileVersion] = {}
        self._errors: dict[str, str] = {}  # of the images whose last line is a failure
        self.skipped = 0  # images that `left` and `has` found to have a result
        self._header: Mapping[str, Any] | None = None
        self._is_new = not os.path.lexists(path)
        try:
            self._fd = self._opened()
        except OSError as error:
            raise self._error("cannot be used", error) from error
        try:
            self._lock()
            self._size = self._read()
        except BaseException:
            self._close()
            raise

    def start(self, settings: Mapping[str, Any]) -> None:
        """Record what the results depend on. Raises ReportError if the file has results of another run."""
        header = header_of(settings)
        if self._header is None:
            self._write(orjson.dumps(header) + b"\n")
        elif self._header["identity"] != header["identity"]:
            other = differing(self._header.get("settings"), settings)
            raise ReportError(
                f"{self.path} holds results of another run{other}; use the same options, or pass another"
                " file with --resume"
            )

    def left(self, images: Iterable[str | Failure]) -> Iterator[str | Failure]:
        """Yield the images that have no result here, or one of an earlier version of their file."""
        for image in images:
            version = None if isinstance(image, Failure) else self.done.get(name_of(image, 0))
            if version is None or isinstance(image, Failure) or not unchanged(image, version):
                yield image
            else:
                self.skipped += 1

    def has(self, row: Embedded | Failure) -> bool:
        """Whether there is a result for this version of an embedded image."""
        done = self.done.get(row.image)
        known = isinstance(row, Embedded) and done is not None and done.sha256 == _version(row).sha256
        self.skipped += known
        return known

    def has_error(self, failure: Failure) -> bool:
        """Whether the last line of an image says just this, so that another would add nothing."""
        return self._errors.get(failure.image) == failure.error

    def append(self, line: str) -> None:
        """Write one result, a JSON object without a line end. Raises ReportError if the disk refuses."""
        self._write(line.encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._size:
                os.fsync(self._fd)
        except OSError as error:
            raise self._error("cannot be written", error) from error
        finally:
            self._close()

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_APPEND
        if self._is_new:
            with suppress(FileExistsError):  # another process was first
                return os.open(self.path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            self._is_new = False
        fd = open_regular(self.path, flags)
        if os.fstat(fd).st_mode & 0o222:
            return fd
        os.close(fd)
        raise PermissionError(13, "it is read-only")

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ReportError(
                f"{self.path} is in use by another fieldmarks process; wait for it to end, or pass another"
                " file with --resume"
            ) from error
        except OSError as error:
            raise self._error("cannot be locked", error) from error

    def _read(self) -> int:
        """Take in what the file holds, make it end after a whole line, and return its size."""
        try:
            with os.fdopen(os.dup(self._fd), "rb") as file:
                size = os.fstat(self._fd).st_size
                whole = self._read_lines(file, size)
                if whole < size:
                    os.ftruncate(self._fd, whole)
                if whole > size:  # the last line is a result without its line end
                    os.write(self._fd, b"\n")
        except OSError as error:
            raise self._error("cannot be used", error) from error
        return whole

    def _read_lines(self, file: BinaryIO, size: int) -> int:
        """Take in the header and the results, and return where the last of them ends.

        This is one byte past the file's end if the last result lacks its line end.
        """
        file.seek(0)
        whole = 0
        for number, line in enumerate(_lines(file), 1):
            if number == 1:
                self._header = self._parsed_header(line)
            elif line.endswith(b"\n"):
                self._take(line, number)
            elif _is_cut_short(line) and whole + len(line) == size:
                break
            else:
                self._take(line, number)
                whole += 1
            whole += len(line)
        return whole

    def _parsed_header(self, line: bytes) -> dict[str, Any]:
        other = f"{self.path} already exists and is not a results journal of fieldmarks; pass another file"
        try:
            header: Any = orjson.loads(line) if line.endswith(b"\n") else None
        except orjson.JSONDecodeError as error:
            raise ReportError(f"{other} with --resume") from error
        match header:
            case {"fieldmarks": "results", "version": int(version), "identity": str()} if version == VERSION:
                return {**header}
            case {"fieldmarks": "results", "version": int(version)} if version > VERSION:
                raise ReportError(
                    f"{self.path} is a results journal of a newer fieldmarks (version {version}): use that"
                    " one, or pass another file with --resume"
                )
            case {"image": str()} if "label" in header or "error" in header:
                raise ReportError(
                    f"{self.path} was written with -o (or by version 0.1), not with --resume, so it does not"
                    " say which run made it; pass another file with --resume"
                )
        raise ReportError(f"{other} with --resume")

    def _take(self, line: bytes, number: int) -> None:
        """Note what a result says of its image. Raises ReportError for what is not a result."""
        try:
            result: Any = orjson.loads(line)
        except orjson.JSONDecodeError:
            result = None
        match result:
            case {"image": str(image), "error": str(error)}:
                self.done.pop(image, None)
                self._errors[image] = error
            case {"image": str(image), "label": str() | None}:
                self.done.pop(image, None)
                self._errors.pop(image, None)
                if version := FileVersion.from_dict(result.get("file")):
                    self.done[image] = version
            case _:
                raise ReportError(
                    f"{self.path}, line {number}, is not a result of classify; fix the line, or name another"
                    " file with --resume"
                )

    def _write(self, data: bytes) -> None:
        """Append bytes whole, or leave the file as it was. Raises ReportError."""
        status = os.fstat(self._fd)
        if status.st_nlink == 0 or status.st_size != self._size:
            change = "removed or replaced" if status.st_nlink == 0 else "changed by another program"
            raise ReportError(f"{self.path} was {change} during the run; classify again to continue")
        view = memoryview(data)
        try:
            while view:  # a full disk takes a part first and refuses the rest
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise self._error("cannot be written", error) from error
        self._size += len(data)

    def _close(self) -> None:
        """Let go of the file, and remove one that was made for nothing."""
        if self._is_new and not os.fstat(self._fd).st_size:
            with suppress(OSError):
                if os.path.samestat(self.path.lstat(), os.fstat(self._fd)):
                    self.path.unlink()
        os.close(self._fd)

    def _error(self, what: str, error: OSError) -> ReportError:
        reason = error.strerror or error
        if self.path.is_symlink() and not self.path.exists():
            reason = "it is a symlink to a file that does not exist"
        return ReportError(f"{self.path} {what}: {reason}; pass another file with --resume")


def with_version(row: Embedded | Failure) -> Embedded | Failure:
    """Return an embedded image with a version, which is the embedding's own where no file was read."""
    return row if isinstance(row, Failure) else replace(row, version=_version(row))


def _version(row: Embedded) -> FileVersion:
    return row.version or FileVersion(hashlib.sha256(row.vector.tobytes()).hexdigest())


def header_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what says whose results are: the settings that they depend on, with their hash."""
    identity = identity_of(settings)
    return {"fieldmarks": KIND, "version": VERSION, "identity": identity, "settings": settings}


def identity_of(settings: Mapping[str, Any]) -> str:
    """Return the hash that tells these settings from any other."""
    return hashlib.sha256(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS)).hexdigest()


def differing(earlier: object, now: Mapping[str, Any]) -> str:
    """Return in words which settings differ, as far as the file says."""
    if not isinstance(earlier, dict):
        return ""
    earlier, now = (dict(_flat(settings)) for settings in (earlier, now))
    names = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
    return f" (other {', '.join(sorted(names)).replace('_', '-')})" if names else ""


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        yield from _flat(value) if isinstance(value, dict) else [(key, value)]


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file with their ends, the last perhaps without; one of LONGEST bytes is cut."""
    while line := file.readline(LONGEST):
        yield line


def _is_cut_short(line: bytes) -> bool:
    """Whether a last line is the beginning of a result, and only the rest is missing."""
    if line != _BEGINNING[: len(line)] and not line.startswith(_BEGINNING):
        return False
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(line)  # which leaves out a character cut short
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return error.pos >= len(text)
    except UnicodeDecodeError:
        return False
    return False
