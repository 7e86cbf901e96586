"""Where files live, and how to open and read an untrusted path safely.

Files that users name are read with limits on size and time, whether they are regular files, pipes such as the
shell's `<(command)`, or devices: neither an endless file nor a pipe that nobody writes to can hang a command.
Their text must be UTF-8; other encodings are refused with a remedy.
"""

import codecs
import errno
import os
import re
import select
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, Final

from fieldmarks.errors import FieldmarksError

CONFIGURATION: Final = "fieldmarks.toml"  # a project's configuration file, in its folder
PIPE_SECONDS: Final = 60.0  # of silence, after which a pipe's writer counts as stuck
_NO_WRITER_SECONDS: Final = 0.3  # to wait for a writer if a pipe has none
_PART: Final = 1 << 20

# Longer byte order marks first: UTF-32's begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
# Without a mark: which of the first bytes are not zero if the text begins with ASCII.
_SHAPES: Final[dict[tuple[bool, ...], str]] = {
    (True, False, True, False): "UTF-16",
    (False, True, False, True): "UTF-16",
    (True, False, False, False): "UTF-32",
    (False, False, False, True): "UTF-32",
}
# What fieldmarks, this version or another, may leave in the user's cache folder.
_CACHED: Final = re.compile(
    r"embeddings(-\d+)?\.sqlite3(-wal|-shm|-journal)?|engines|converted-\d+|endpoints"
)


def shipped(folder: str) -> Path:
    """Return a shipped data folder: inside the wheel's package, else at the checkout's root."""
    package = Path(__file__).resolve().parent
    inside = package / folder
    return inside if inside.is_dir() else package.parents[1] / folder


def shipped_names() -> list[str]:
    """Return the names of the stores that come with the package, sorted."""
    return sorted(path.stem for path in shipped("cache").glob("*.jsonl"))


def shipped_store(name: str | Path) -> Path | None:
    """Return the file of a shipped store, or None if no store of that bare name is shipped."""
    return shipped("cache") / f"{name}.jsonl" if str(name) in shipped_names() else None


def user_cache() -> Path:
    """Return the cache folder; `FIELDMARKS_CACHE` moves it (not created here).

    Raises FieldmarksError if it would be in a home folder that does not exist.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("FIELDMARKS_CACHE") or Path(base) / "fieldmarks")
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise FieldmarksError(
            f"{folder}: no such home folder: set FIELDMARKS_CACHE to a folder for the cache"
        ) from error


def make_private(folder: Path) -> None:
    """Make a cache folder that only its user can enter (mode 0700).

    The mode of an existing folder is changed only if it belongs to the user and contains only fieldmarks'
    caches, because FIELDMARKS_CACHE may name a shared folder. Raises OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise
        if status.st_mode & 0o077 and status.st_uid == os.geteuid() and _holds_caches_only(folder):
            folder.chmod(0o700)


def _holds_caches_only(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return all(_CACHED.fullmatch(entry.name) for entry in entries)


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow: bool = True) -> int:
    """Open a regular file and return its descriptor; what would block (a pipe, a device) is never opened.

    Raises OSError, also for anything that is not a regular file.
    """
    _require_regular(path, path.stat(follow_symlinks=follow))
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        _require_regular(path, os.fstat(fd))  # another process may have put something else there
    except OSError:
        os.close(fd)
        raise
    return fd


def read_regular(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes. Raises OSError."""
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
    return data


def obstacle(path: Path, what: str, is_ours: Callable[[BinaryIO], bool]) -> str | None:
    """Return why a file may not be written at a path, or None if it may.

    It may if nothing exists there, or a file that `is_ours` recognises, which is then replaced; a symlink to
    such a file counts as the file. Nothing else is ever replaced. `what` names such a file, as in "a
    fieldmarks report". The reason is a clause that follows the path.
    """
    if not os.path.lexists(path):
        return None
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            if not is_ours(file):
                return f"already exists and is not {what}; choose another name"
            if not os.fstat(file.fileno()).st_mode & 0o222:
                return "already exists and is read-only; choose another name"
            return None
    except FileNotFoundError:
        return "is a symlink to a file that does not exist; choose another name"
    except OSError as error:
        return f"already exists and cannot be replaced ({error.strerror}); choose another name"


def has_ends(file: BinaryIO, beginning: bytes, ending: bytes) -> bool:
    """Whether a file begins and ends in this way, as one that fieldmarks wrote completely does."""
    if file.read(len(beginning)) != beginning:
        return False
    file.seek(max(0, file.seek(0, os.SEEK_END) - len(ending)))
    return file.read() == ending


def unwritable(path: Path, folder: Path | None = None) -> str | None:
    """Return why no file can be created in a folder, by default the path's own; None if it can.

    The reason is a clause that follows the path.
    """
    folder = folder or path.resolve().parent
    if not folder.is_dir():
        return "cannot be written: its folder does not exist"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written: {error.strerror or error}"


def unusable_folder(folder: Path) -> str | None:
    """Return why nothing can be written to a folder, existing or to be created; None if it can.

    The reason is a clause that follows the path.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        return f"cannot be used as a folder: {there} is not one"
    return unwritable(folder, there)


# Windows devices, and system and program folders, which are skipped when looking for images.
_RESERVED: Final = re.compile(
    r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"
    r"|lost\+found|__macosx|__pycache__|recycler|system volume information",
    re.IGNORECASE,
)
_UNSAFE: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')
_LONGEST_NAME: Final = 120  # bytes; half of what file systems allow leaves room for additions


def last_name(place: str) -> str:
    """Return the last name of a folder's absolute path; anything else, such as a model id, unchanged."""
    for kind in (PurePosixPath, PureWindowsPath):
        if (path := kind(place)).is_absolute():
            return path.name
    return place


def folder_names(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return a folder name for each name, valid on every file system, all distinct and none in `taken`.

    Characters that a file system refuses become "_", as do a leading dot, which hides a folder, and a leading
    character that a shell or a spreadsheet would interpret. Folders that would differ only in case are
    numbered, in the order of the names.

    >>> folder_names(["owl", "Owl", "and/or", "..", "con"])
    {'owl': 'owl', 'Owl': 'Owl-2', 'and/or': 'and_or', '..': '_', 'con': '_con'}
    """
    folders: dict[str, str] = {}
    taken = set(taken)
    for name in names:
        first = folder = _folder_name(name)
        number = 1
        while folder.casefold() in taken:
            number += 1
            folder = f"{first}-{number}"
        taken.add(folder.casefold())
        folders[name] = folder
    return folders


def _folder_name(name: str) -> str:
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", name)).strip()
    name = re.sub(r"^[.~=+\-@#$'＝＋－＠＃\s]+", "_", name)
    name = name.encode()[:_LONGEST_NAME].decode(errors="ignore").rstrip(". ") or "_"
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "it is a folder", str(path))
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "it is a symlink", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_text(path: str | Path, most: int, error: type[FieldmarksError]) -> str:
    """Return a file's text without a byte order mark. Raises `error` as `read_bytes` and `decode_utf8` do."""
    return decode_utf8(read_bytes(path, most, error), path, error)


def read_bytes(path: str | Path, most: int, error: type[FieldmarksError]) -> bytes:
    """Return the bytes of a file, pipe or device.

    Raises `error`, with the path, if it cannot be read, has over `most` bytes, or is a pipe whose writer is
    missing or silent.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise error(f"{path} is a folder: pass a file")
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
        except BlockingIOError:  # a pipe has a writer but no data yet
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

    Raises `error`, with `source`, for another encoding or for NUL bytes, which text never has.
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
            f"{source}, line {line}: a NUL byte, which text files never have: check that it is the right file"
        )
    return text


def wide_encoding(head: bytes) -> str | None:
    """Return "UTF-16" or "UTF-32" if a file's first bytes look like it, else None."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    return _SHAPES.get(tuple(map(bool, head[:4])))


def utf8_remedy(name: str) -> str:
    """Return what to do with a file in the encoding `name`."""
    return f"save it as UTF-8 (`iconv -f {name} -t UTF-8`)"
