"""The files that users name: read within bounds of size and time, and decoded, or refused with a remedy.

Regular files, pipes such as the shell's `<(command)`, and devices are all read up to a limit, so that neither
an endless file nor a pipe that nobody writes to can hold a command. Text is UTF-8; tables may be UTF-16,
UTF-32 or Windows-1252 too, and what is no text is named for what it is.
"""

import codecs
import os
import re
import select
import stat
from pathlib import Path
from typing import Final

from fieldmarks.errors import FieldmarksError, TableError

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
    return decode_utf8(read_bytes(path, most, error), path, error)


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


def decode_utf8(data: bytes, source: object, error: type[FieldmarksError]) -> str:
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


UTF_8: Final = "UTF-8"
WESTERN: Final = "Windows-1252"

_MARK: Final = "\ufeff"  # of the byte order; files that two programs wrote have two

_EXPORT: Final = "export the sheet as CSV (in Excel: “CSV UTF-8”)"
# What is inside a zip archive, by a name that stands near its beginning or in its list at the end.
_ZIPPED: Final = (
    (b"xl/", "an Excel workbook", _EXPORT),
    (b"word/", "a Word document", "save it as plain text, one name a line, or its table as CSV"),
    (b"opendocument.spreadsheet", "an OpenDocument workbook", "save the sheet as “Text CSV”"),
    (b"opendocument.text", "an OpenDocument text", "save it as plain text, one name a line"),
    (b"Index/", "an Apple Numbers or Pages document", "export it (File, Export To) as CSV or plain text"),
)
_SIGNATURES: Final = (
    (b"PK\x03\x04", "a zip archive", "unpack it and name the file inside"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook or Word document", _EXPORT),
    (b"%PDF", "a PDF document", "copy the names into a text file, one a line"),
    (b"{\\rtf", "a document in rich text", "save it as plain text"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"BZh", "compressed with bzip2", "unpack it first"),
    (b"\x89PNG", "a PNG image", "name the list of classes"),
    (b"\xff\xd8\xff", "a JPEG image", "name the list of classes"),
    (b"PAR1", "a parquet file", "write its column of names to a text file"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
)
_HTML: Final = re.compile(rb"\s*<(!doctype|html|head|body|table|div|ul|ol|p\b|\?xml)", re.IGNORECASE)

# Of Windows-1252 only what Western European words are written with: other 8-bit encodings, read as this one,
# give other signs, or these in places where no word has them.
_LETTERS: Final = "À-ÅÆÇ-ÏÑ-ÖØ-Üß-ïñ-öø-üŒœÿ"
_SIGNS: Final = "\u00a0’‘“”„–—…°€£§«»·½¼²©®™´•"
_FOREIGN: Final = re.compile(
    rf"[^\x00-\x7f{_LETTERS}{_SIGNS}]"
    rf"|[a-z{_LETTERS}][“”„…€£§«»½¼²©®•][a-z{_LETTERS}]"  # inside a word
    r"|[a-zß-ÿ][À-ÞŒ][a-zß-ÿ]"  # a capital inside a word
    rf"|[{_LETTERS}]{{3}}"
)
_MOST_ACCENTS: Final = 0.3  # of the letters


def decode(data: bytes, source: str, *, western: bool = True) -> tuple[str, str]:
    """Return a file's text without a byte order mark, and the name of its encoding.

    Windows-1252 is read where it is certain, and `western` allows it. Raises TableError for anything else.
    """
    for signature, what, remedy in _SIGNATURES:
        if data.startswith(signature):
            if what == "a zip archive":
                names = data[:4096] + data[-65536:]
                what, remedy = next((kind[1:] for kind in _ZIPPED if kind[0] in names), (what, remedy))
            raise TableError(f"{source} is {what}: {remedy}")
    if _HTML.match(data):
        raise TableError(f"{source} is a web page or XML: {_EXPORT}, or write one name a line")
    if wide := wide_encoding(data):
        return _decode_wide(data, wide, source).lstrip(_MARK), wide
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        if western and (text := _western(data)) is not None:
            return text, WESTERN
    return decode_utf8(data, source, TableError).lstrip(_MARK), UTF_8


def _decode_wide(data: bytes, name: str, source: str) -> str:
    codec = name.lower()
    if not data.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        codec += "-be" if data[0] == 0 else "-le"
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as reason:
        raise TableError(f"{source} is cut off or damaged {name} text: save it again as UTF-8") from reason
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TableError(f"{source}, line {line}: a NUL character, which no text has: save the file as UTF-8")
    return text


def _western(data: bytes) -> str | None:
    """Return the text if the bytes can hardly be anything but Windows-1252."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    letters = sum(map(str.isalpha, text))
    accents = sum(1 for character in text if character > "\x7f" and character.isalpha())
    if "\0" in text or _FOREIGN.search(text) or accents > _MOST_ACCENTS * letters:
        return None
    return text
