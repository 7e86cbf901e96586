"""Where files live, and how to open a path at which anything may be."""

import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from fieldmarks.errors import FieldmarksError

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
    """Return the folder for what can be computed again; `FIELDMARKS_CACHE` moves it (not created here).

    Raises FieldmarksError where it would lie in a home folder that there is not.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("FIELDMARKS_CACHE") or Path(base) / "fieldmarks")
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise FieldmarksError(
            f"{folder}: there is no such home folder, set FIELDMARKS_CACHE to one for the cache"
        ) from error


def make_private(folder: Path) -> None:
    """Make a cache folder that only its user can enter (mode 0700).

    The mode of a folder that exists is changed only if it is the user's and holds nothing but caches of
    fieldmarks, as FIELDMARKS_CACHE may name a folder that serves others too. Raises OSError.
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
    """Return a descriptor of a regular file; what would block (a pipe, a device) is never opened.

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
    """Return the content of a regular file of at most so many bytes. Raises OSError."""
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
    return data


def obstacle(path: Path, what: str, is_ours: Callable[[BinaryIO], bool]) -> str | None:
    """Return why no file may be written at a path, None if it may.

    It may where nothing is, and where a file is that `is_ours` recognises, which is then replaced; a symlink
    to such a file counts as the file. Nothing else is ever replaced. `what` names a file of ours, as in "a
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
    """Whether a file begins and ends so, as one that fieldmarks wrote whole does."""
    if file.read(len(beginning)) != beginning:
        return False
    file.seek(max(0, file.seek(0, os.SEEK_END) - len(ending)))
    return file.read() == ending


def unwritable(path: Path, folder: Path | None = None) -> str | None:
    """Return why no file can be made in a folder, the path's own by default; None if it can.

    The reason is a clause that follows the path.
    """
    folder = folder or path.resolve().parent
    if not folder.is_dir():
        return "cannot be written: its folder is not there"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written: {error.strerror or error}"


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "it is a folder", str(path))
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "it is a symlink", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
