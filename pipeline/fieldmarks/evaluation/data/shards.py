"""Tar files, read once from front to back in bounded memory; nothing of them is ever written to disk."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from fieldmarks.classification.fetch import MAX_BYTES
from fieldmarks.classification.results import Failure
from fieldmarks.pretrained import one_line

SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MAGIC: Final = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
_SPOILT: Final = (
    *(tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError),
    *(zlib.error, lzma.LZMAError),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar; it can be read as long as the next one has not been asked for."""

    shard: Path
    name: str  # without a leading ./ or /
    size: int
    refusal: str | None  # why it is no plain file of a bearable size
    _stream: IO[bytes]
    _offset: int

    @property
    def whole_name(self) -> str:
        """The name with the tar's before it."""
        return f"{self.shard}/{self.name}"

    def read(self, most: int = MAX_BYTES) -> bytes | Failure:
        """Return the member's bytes, or why there are none."""
        if self.refusal or self.size > most:
            why = self.refusal or f"too large: {self.size} bytes, {most} are the most"
            return Failure(self.whole_name, why)
        try:
            self._stream.seek(self._offset)
            data = self._stream.read(self.size)
        except _SPOILT as error:
            return Failure(self.whole_name, f"cannot be read: {one_line(error)}")
        return (
            data if len(data) == self.size else Failure(self.whole_name, "cut short: the tar file ends in it")
        )


def members(shard: Path) -> Iterator[Member | Failure]:
    """Yield a tar's members that are no folders; a tar that is torn ends with a failure."""
    try:
        with _open(shard) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            while (one := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else it grows with every member
                if not one.isdir():
                    name = one.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                    name = name.removeprefix("./").lstrip("/")
                    yield Member(shard, name, one.size, _refusal(one), stream, one.offset_data)
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                yield Failure(str(shard), "torn: it has no end mark, so more pictures may be missing")
    except _SPOILT as error:
        yield Failure(str(shard), f"cannot be read to its end as a tar file: {one_line(error)}")


def _refusal(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return "a link inside a tar file, which is not followed"
    if not member.isreg() or member.issparse():
        return "no plain file"
    return None


class _Bounded(io.BufferedReader):
    """A stream that reads no more at once than a picture may have: a header may claim any length."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _open(shard: Path) -> IO[bytes]:
    """Open a tar file, through the decompression that its first bytes ask for. Raises OSError."""
    with shard.open("rb") as file:
        start = file.read(6)
    opener = next((one for magic, one in _MAGIC if start.startswith(magic)), None)
    plain = opener(shard, "rb") if opener else shard.open("rb", buffering=0)
    return _Bounded(plain)
