"""Reading the files that users name: bounded in size and time, and decoded with a remedy where that fails.

Regular files, pipes such as the shell's `<(command)`, and devices are all read up to a limit, so that neither
an endless file nor a pipe that nobody writes to can hold a command.
"""

import codecs
import os
import select
import stat
from pathlib import Path
from typing import Final

from fieldmarks.errors import FieldmarksError

PIPE_SECONDS: Final = 60.0  # of silence, after which the writer of a pipe is taken for stuck
_NO_WRITER_SECONDS: Final = 0.3  # for a writer to come, where a pipe has none
_PART: Final = 1 << 20

# The longer marks first: UTF-32's begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
# Without a mark, where the bytes of the first character, which is ASCII, are not zero.
_SHAPES: Final[dict[tuple[bool, ...], str]] = {
    (True, False, True, False): "UTF-16",
    (False, True, False, True): "UTF-16",
    (True, False, False, False): "UTF-32",
    (False, False, False, True): "UTF-32",
}


def read_text(path: str | Path, most: int, error: type[FieldmarksError]) -> str:
    """Return a file's text without a byte order mark. Raises `error` as `read_bytes` and `decode` do."""
    return decode(read_bytes(path, most, error), path, error)


def read_bytes(path: str | Path, most: int, error: type[FieldmarksError]) -> bytes:
    """Return the bytes of a file, pipe or device.

    Raises `error`, with the path, for what cannot be read, has over `most` bytes, or is a pipe whose writer
    is missing or silent.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise error(f"{path} is a folder: name a file")
            data = _read(fd, most)
        finally:
            os.close(fd)
    except TimeoutError as reason:
        raise error(f"nothing came from {path}: check the command that writes it") from reason
    except (OSError, ValueError) as reason:
        raise error(f"{path} cannot be read: {getattr(reason, 'strerror', None) or reason}") from reason
    if len(data) > most:
        raise error(f"{path} has over {most:,} bytes: expected a smaller file")
    return data


def _read(fd: int, most: int) -> bytes:
    """Return at most `most` + 1 bytes. Raises TimeoutError for a pipe whose writer is missing or silent."""
    data = bytearray()
    wait = _NO_WRITER_SECONDS
    while len(data) <= most:
        ready = select.select([fd], [], [], wait)[0]
        try:
            part = os.read(fd, min(_PART, most + 1 - len(data)))
        except BlockingIOError:  # a pipe has a writer, and nothing yet
            if not ready and wait == PIPE_SECONDS:
                raise TimeoutError from None
        else:
            if not part and not ready:  # a pipe has no writer
                raise TimeoutError
            if not part:
                break
            data += part
        wait = PIPE_SECONDS
    return bytes(data)


def decode(data: bytes, source: object, error: type[FieldmarksError]) -> str:
    """Return UTF-8 text without a byte order mark.

    Raises `error`, with `source`, for another encoding or for NUL bytes, which no text has.
    """
    if name := wide_encoding(data):
        raise error(f"{source} is {name} text: {utf8_remedy(name)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        line = data.count(b"\n", 0, reason.start) + 1
        byte = data[reason.start]
        raise error(
            f"{source}, line {line}: byte 0x{byte:02X} is not UTF-8: save the file as UTF-8"
        ) from reason
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise error(
            f"{source}, line {line}: a NUL byte, which no text file has: check that it is the right file"
        )
    return text


def wide_encoding(head: bytes) -> str | None:
    """Return "UTF-16" or "UTF-32" if a file's first bytes are such text, else None."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    return _SHAPES.get(tuple(map(bool, head[:4])))


def utf8_remedy(name: str) -> str:
    """Return what to do with a file in the encoding `name`."""
    return f"save it as UTF-8 (`iconv -f {name} -t UTF-8`)"
