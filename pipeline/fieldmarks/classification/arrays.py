"""Untrusted NumPy arrays, read a part at a time: .npy files, and .npz archives of them.

An array's header is checked before anything of the size that it declares is read: no pickles, no shape
beyond the file's own size, and no archive that unpacks to hundreds of times its size.
"""

import lzma
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np

from fieldmarks.errors import ImageError
from fieldmarks.paths import open_regular
from fieldmarks.text import printable

_MAX_HEADER: Final = 10_000  # bytes of a .npy's header, as in NumPy
_MAX_MEMBERS: Final = 1_000  # arrays of an archive
_PLAUSIBLE: Final = 256 * 2**20  # bytes that an array may unpack to in any case
_MAX_RATIO: Final = 50  # unpacked to packed bytes; numbers of a model hardly shrink at all
_MAX_COLUMNWISE: Final = 2**30  # bytes of an array stored column by column, which is read whole
_PART_BYTES: Final = 2**25  # of rows that are read at once
# A header is a Python literal; these are the values that are understood.
_DESCR: Final = re.compile(r"""["']descr["']: *["']([<>=|]?(?:[?]|[biufcSU]\d{1,9}|O\d?))["']""")
_ORDER: Final = re.compile(r"""["']fortran_order["']: *(True|False)""")
_SHAPE: Final = re.compile(r"""["']shape["']: *\((\d{1,15}(?: *, *\d{1,15}){0,8},?|)\)""")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """An array in a file: its shape, its dtype, and a reader of its bytes."""

    where: str  # for messages
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool
    offset: int
    open: Callable[[], AbstractContextManager[BinaryIO]]
    file: Path | None = None  # which holds nothing else, so that it can be mapped into memory

    def parts(self, rows: int) -> Iterator[Array]:
        """Yield the array, at most so many rows at a time. Raises ImageError for a file that is damaged."""
        row = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)  # bytes
        rows = max(1, min(rows, _PART_BYTES // row))
        try:
            with self.open() as file:
                file.seek(self.offset)
                if self.by_columns and len(self.shape) > 1:
                    whole = self._read(file, self.shape[0])
                    yield from (whole[at : at + rows] for at in range(0, self.shape[0], rows))
                else:
                    for at in range(0, self.shape[0], rows):
                        yield self._read(file, min(rows, self.shape[0] - at))
        except _DAMAGE as error:
            raise _unreadable(self.where, error) from error

    def mapped(self) -> Array:
        """Return the whole array, mapped from its file, which has to be a .npy. Raises ImageError."""
        if self.file is None:
            raise ImageError(f"{self.where} lies in an archive, which cannot be mapped into memory")
        if not math.prod(self.shape):
            return np.empty(self.shape, self.dtype)
        try:
            with os.fdopen(open_regular(self.file), "rb") as file:
                order: Any = "F" if self.by_columns else "C"
                return np.memmap(file, self.dtype, "r", self.offset, self.shape, order)
        except (OSError, ValueError) as error:
            raise _unreadable(self.where, error) from error

    def _read(self, file: BinaryIO, rows: int) -> Array:
        shape = (rows, *self.shape[1:])
        size = math.prod(shape) * self.dtype.itemsize
        data = file.read(size)
        if len(data) < size:
            raise EOFError("it is truncated")
        order: Any = "F" if self.by_columns else "C"
        return np.frombuffer(data, self.dtype).reshape(shape, order=order)


class Archive:
    """The arrays of a .npz by name; a context manager. Everything raises ImageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.fdopen(open_regular(path), "rb")
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            self._zip = zipfile.ZipFile(self._file)
            members = self._zip.infolist()
        except _DAMAGE as error:
            self._file.close()
            raise _unreadable(path, error) from error
        if len(members) > _MAX_MEMBERS:
            self.__exit__()
            raise ImageError(f"{path} has {len(members):,} arrays; expected at most {_MAX_MEMBERS:,}")
        self._members = {member.filename.removesuffix(".npy"): member for member in members}

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> list[str]:
        """The arrays' names."""
        return list(self._members)

    def get(self, name: str) -> Stored | None:
        """Return an array, None if there is not one of that name."""
        member = self._members.get(name)
        if member is None:
            return None
        size, packed = member.file_size, member.compress_size
        if size > _PLAUSIBLE and size > _MAX_RATIO * packed:
            growth = f"unpacks from {packed:,} bytes to {size:,}"
            raise ImageError(f"{self._path} cannot be read: {printable(name)!r:.40} {growth}")

        def opened() -> AbstractContextManager[BinaryIO]:
            return cast(BinaryIO, self._zip.open(member))  # which reads and seeks as one

        @contextmanager
        def reopened() -> Iterator[BinaryIO]:  # this archive may be closed by then
            with Archive(self._path) as archive, archive._zip.open(member) as file:
                yield cast(BinaryIO, file)

        stored = _stored(f"{self._path}, {printable(name)!r:.40}", opened, size)
        return replace(stored, open=reopened)


def from_file(path: Path) -> Stored:
    """Return the array in a .npy file. Raises ImageError."""
    try:
        fd = open_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    size = os.fstat(fd).st_size
    os.close(fd)
    return _stored(str(path), lambda: os.fdopen(open_regular(path), "rb"), size, path)


def _stored(
    where: str, opened: Callable[[], AbstractContextManager[BinaryIO]], size: int, file: Path | None = None
) -> Stored:
    """Return the array that a file of `size` bytes announces, once it can be true. Raises ImageError."""
    try:
        with opened() as start:
            shape, dtype, by_columns, offset = _header(start)
    except _DAMAGE as error:
        raise _unreadable(where, error) from error
    if dtype.hasobject:
        raise ImageError(f"{where} cannot be read: it holds Python objects, which are not loaded")
    if offset + math.prod(shape) * dtype.itemsize > size:
        raise ImageError(f"{where} cannot be read: it declares {shape} of {dtype} but is shorter")
    if by_columns and math.prod(shape) * dtype.itemsize > _MAX_COLUMNWISE:
        raise ImageError(f"{where} cannot be read: it is stored in Fortran order and too large for that")
    return Stored(where, shape, dtype, by_columns, offset, opened, file)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any], bool, int]:
    """Return shape, type, whether it is stored by columns, and where the numbers begin.

    See numpy.lib.format; its own reader has no public form for all versions, and warns. Raises ValueError.
    """
    start = file.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:7] not in (b"\x01", b"\x02", b"\x03"):
        raise ValueError("it is not a .npy file")
    form = "<H" if start[6] == 1 else "<I"
    (length,) = struct.unpack(form, file.read(struct.calcsize(form)))
    if length > _MAX_HEADER:
        raise ValueError(f"its header has {length:,} bytes")
    text = file.read(length).decode("latin-1")
    values = [pattern.search(text) for pattern in (_DESCR, _ORDER, _SHAPE)]
    if None in values:
        raise ValueError("its header is damaged, or it is not an array of numbers or strings")
    descr, order, sides = (value[1] for value in values if value)
    shape = tuple(map(int, re.findall(r"\d+", sides)))
    if not 0 < len(shape) <= 8:
        raise ValueError(f"it has {len(shape)} dimensions")
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise ValueError(f"it holds values of an unknown type, {descr!r}") from error
    return shape, dtype, order == "True", len(start) + struct.calcsize(form) + length


def _unreadable(where: object, error: Exception) -> ImageError:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return ImageError(f"{where} cannot be read: {printable(' '.join(str(reason).split())[:300])}")


# What zipfile and zlib raise for what is damaged, encrypted, or packed in a way that is not known.
_DAMAGE: Final = (
    *(OSError, ValueError, EOFError, RuntimeError, NotImplementedError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, KeyError, IndexError),
)
