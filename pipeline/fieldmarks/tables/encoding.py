"""Decodes the text of a table or list; for any other file, says what it is and what to do.

It reads UTF-8, UTF-16, UTF-32 and Windows-1252; the error for a file that is not text names its kind.
"""

import re
from typing import Final

from fieldmarks.errors import TableError
from fieldmarks.paths import decode_utf8, wide_encoding

UTF_8: Final = "UTF-8"
WESTERN: Final = "Windows-1252"

_MARK: Final = "\ufeff"  # byte order mark; files written by two programs have two

_EXPORT: Final = "export the sheet as CSV (in Excel: “CSV UTF-8”)"
# What is inside a zip archive, by a name near its beginning or in the directory at its end.
_ZIPPED: Final = (
    (b"xl/", "an Excel workbook", _EXPORT),
    (b"word/", "a Word document", "save it as plain text, one name per line, or its table as CSV"),
    (b"opendocument.spreadsheet", "an OpenDocument workbook", "save the sheet as “Text CSV”"),
    (b"opendocument.text", "an OpenDocument text", "save it as plain text, one name per line"),
    (b"Index/", "an Apple Numbers or Pages document", "export it (File, Export To) as CSV or plain text"),
)
_SIGNATURES: Final = (
    (b"PK\x03\x04", "a zip archive", "unpack it and pass the file inside"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook or Word document", _EXPORT),
    (b"%PDF", "a PDF document", "copy the names into a text file, one per line"),
    (b"{\\rtf", "a document in rich text", "save it as plain text"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"BZh", "compressed with bzip2", "unpack it first"),
    (b"\x89PNG", "a PNG image", "pass the list of classes"),
    (b"\xff\xd8\xff", "a JPEG image", "pass the list of classes"),
    (b"PAR1", "a parquet file", "write its column of names to a text file"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
)
_HTML: Final = re.compile(rb"\s*<(!doctype|html|head|body|table|div|ul|ol|p\b|\?xml)", re.IGNORECASE)

# Of Windows-1252, only the characters of Western European words: other 8-bit encodings, read as this one,
# give other characters, or these in places where no word has them.
_LETTERS: Final = "À-ÅÆÇ-ÏÑ-ÖØ-Üß-ïñ-öø-üŒœÿ"
_SIGNS: Final = "\u00a0’‘“”„–—…°€£§«»·½¼²©®™´•"
_FOREIGN: Final = re.compile(
    rf"[^\x00-\x7f{_LETTERS}{_SIGNS}]"
    rf"|[a-z{_LETTERS}][“”„…€£§«»½¼²©®•][a-z{_LETTERS}]"  # inside a word
    r"|[a-zß-ÿ][À-ÞŒ][a-zß-ÿ]"  # a capital inside a word
    rf"|[{_LETTERS}]{{3}}"
)
_MOST_ACCENTS: Final = 0.3  # as a fraction of the letters


def decode(data: bytes, source: str, *, western: bool = True) -> tuple[str, str]:
    """Return a file's text without a byte order mark, and the name of its encoding.

    Windows-1252 is read only if it is certain and `western` is true. Raises TableError for anything else.
    """
    for signature, what, remedy in _SIGNATURES:
        if data.startswith(signature):
            if what == "a zip archive":
                names = data[:4096] + data[-65536:]
                what, remedy = next((kind[1:] for kind in _ZIPPED if kind[0] in names), (what, remedy))
            raise TableError(f"{source} is {what}: {remedy}")
    if _HTML.match(data):
        raise TableError(f"{source} is a web page or XML: {_EXPORT}, or write one name per line")
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
        raise TableError(
            f"{source}, line {line}: a NUL character, which text never has: save the file as UTF-8"
        )
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
