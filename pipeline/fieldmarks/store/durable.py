"""Durable writes: locking, appending with one write and one fsync, and replacing a whole file.

The lock is a hidden file beside the store, `.NAME.lock`; it is empty, stays beside the store, and may be
deleted when no process uses the store. If no store is created, as when a command is refused, neither the lock
nor a folder made for it remains. Symlinks are followed, so that a file and its symlinks share one lock and a
rewrite replaces the file, not the link.
"""

import errno
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from filelock import BaseFileLock, FileLock, Timeout

from fieldmarks.errors import StoreError

logger = logging.getLogger(__name__)

LOCK_SECONDS: Final = 60  # longer than rewriting a million lines takes
_POLL_SECONDS: Final = 0.002
_TRIES: Final = 50  # attempts to make a folder and a lock in it
_SETTLE_SECONDS: Final = 0.25  # far longer than the kernel takes to write a line that spans pages
_NEW_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def locked(path: Path) -> Iterator[Path]:
    """Hold a file's lock, creating its folder if it is missing; yields the file's real path.

    Raises StoreError if the lock is not available.
    """
    try:
        real = Path(os.path.realpath(path))
        lock = _lock(real)
        _acquire(lock, real.parent)
    except Timeout as error:
        used = f"{path} has been in use by another process for {LOCK_SECONDS} s"
        raise StoreError(f"{used}: wait for it to end, or end it") from error
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    try:
        yield real
    finally:
        # filelock notices that a lock's file is gone, and a process that waits for it then makes a new one.
        # Folders are removed while the lock is held, so that the next process makes them itself and may
        # remove them.
        if lock.lock_counter == 1 and not os.path.lexists(real):
            with suppress(OSError):
                os.unlink(lock.lock_file)  # noqa: PTH108
            _remove_made(real.parent)
        lock.release()


_made: Final[set[Path]] = set()  # folders made by this process


def _acquire(lock: BaseFileLock, folder: Path) -> None:
    """Acquire a lock, making its folder if it is missing. Raises Timeout, OSError."""
    for tries_left in reversed(range(_TRIES)):
        try:
            _make(folder)
            lock.acquire()
            return
        except FileNotFoundError:  # another process has removed the folder that it made
            if not tries_left:
                raise
            time.sleep(_POLL_SECONDS)


def _make(folder: Path) -> None:
    """Make a folder and its parents, and remember which; checking first would race with other processes."""
    try:
        try:
            folder.mkdir()
        except FileNotFoundError:
            _make(folder.parent)
            folder.mkdir()
        _made.add(folder)
    except (FileExistsError, NotADirectoryError):
        if file := next((place for place in (folder, *folder.parents) if place.is_file()), None):
            raise NotADirectoryError(errno.ENOTDIR, f"{file} is not a folder") from None


def _remove_made(folder: Path) -> None:
    """Remove the empty folders that this process made, innermost first."""
    for place in (folder, *folder.parents):
        if place not in _made:
            return
        try:
            place.rmdir()
        except OSError:  # it is in use
            return
        _made.discard(place)


@lru_cache(maxsize=64)
def _lock(real: Path) -> BaseFileLock:
    """Return the lock of a file; cached, because making one takes as long as a short append."""
    hidden = real.with_name(f".{real.name}.lock")
    return FileLock(hidden, timeout=LOCK_SECONDS, poll_interval=_POLL_SECONDS)


def open_to_read(path: Path, hint: str = "") -> int:
    """Open a store for reading and return its file descriptor.

    Raises StoreError if it is missing (the message includes `hint`), unreadable or not a regular file.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise StoreError(f"{path} is a folder without descriptors.jsonl, so no pack: pass a .jsonl file")
        if not stat.S_ISREG(mode):
            raise StoreError(f"{path} is not a regular file: copy it to a .jsonl file first")
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # no waiting if it is now a pipe
    except FileNotFoundError as error:
        message = f"{path} does not exist{hint}: check the name, or create it with `fieldmarks generate`"
        raise StoreError(message) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def append(
    real: Path,
    whole: int,
    data: bytes,
    *,
    sync: bool = True,
    torn: Path | None = None,
    seen: tuple[int, ...] = (),
) -> os.stat_result:
    """Truncate a file to `whole` bytes and append with one write and one fsync; return its status.

    What is cut off is appended to the file `torn` if given, and dropped otherwise. Without `sync` there is no
    fsync. The caller holds the lock. Raises OSError, and appends nothing, if the write fails, or, with EBUSY,
    if truncating would remove complete lines or a line that another program is writing, or if the file's
    identity is no longer `seen`: try again.
    """
    fd = os.open(real, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        status = os.fstat(fd)
        if status.st_size > whole:
            _cut_off(fd, whole, torn)
        elif seen and identity(status) != seen:
            raise _changed()
        written = 0
        try:
            while written < len(data):  # a full disk accepts a part and then refuses the rest
                written += os.write(fd, data[written:])
            status = _stamped(fd)
            if sync:
                os.fsync(fd)
        except OSError:
            end = os.lseek(fd, 0, os.SEEK_CUR)
            if written and os.fstat(fd).st_size == end:  # nobody else has appended
                os.ftruncate(fd, end - written)
            raise
        return status
    finally:
        os.close(fd)


def _stamped(fd: int) -> os.stat_result:
    """Set a file's time to the nanosecond and return its status.

    The kernel's own clock for files advances every few milliseconds, so an edit right after an append could
    leave the file's identity as it was.
    """
    now = time.time_ns()
    with suppress(OSError):  # only a file's owner may
        os.utime(fd, ns=(now, now))
    return os.fstat(fd)


def _cut_off(fd: int, whole: int, torn: Path | None) -> None:
    """Truncate a file to `whole` bytes, unless another program is still writing what follows."""
    tail = _tail(fd, whole)
    if b"\n" not in tail:
        time.sleep(_SETTLE_SECONDS)  # a file grows page by page while a line is being written to it
    if b"\n" in tail or _tail(fd, whole) != tail:
        raise _changed()
    if torn is not None:
        set_aside(torn, tail)
        if _tail(fd, whole) != tail:
            raise _changed()
    os.ftruncate(fd, whole)


def _tail(fd: int, whole: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size - whole, whole)


def _changed() -> OSError:
    return OSError(errno.EBUSY, "it was changed by another program; try again")


def set_aside(torn: Path, tail: bytes) -> None:
    """Append `tail`, an incomplete last line, to the file `torn`, as a line of its own. Raises OSError."""
    try:
        fd = os.open(torn, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | _NEW_FLAGS, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            _write(fd, tail + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        reason = f"its incomplete last line cannot be moved to {torn}: {error.strerror}"
        raise OSError(error.errno, reason) from error
    sync_folder(torn.parent)


def ends_open(fd: int, whole: int) -> bool:
    """Whether the first `whole` bytes of a file end without a newline, as after an edit by hand."""
    return whole > 0 and os.pread(fd, 1, whole - 1) != b"\n"


def identity(status: os.stat_result) -> tuple[int, ...]:
    """Return values that change when a file is replaced or written to."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def replace(real: Path, chunks: Iterable[bytes], *, seen: tuple[int, ...] | None = None) -> None:
    """Atomically replace a file's content, keeping its owner, group and mode.

    `seen` is the identity of the file that the content was made from: if it has been written to since, it is
    not replaced. Logs a warning if owner or group cannot be kept, or if other hard links keep the old
    content. Raises StoreError; the file is then unchanged.
    """
    # Named before it is made, so that a signal in between cannot leave it behind.
    beginning = os.fsdecode(os.fsencode(real.name)[:200])
    draft = real.with_name(f".{beginning}.{secrets.token_hex(8)}.tmp")
    handle = -1
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        for chunk in chunks:
            _write(handle, chunk)
        loss = _take_over(handle, real)
        os.fsync(handle)
        if seen is not None and identity(real.stat()) != seen:
            raise _changed()
        draft.replace(real)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError):
            raise unwritable(real, error) from error
        raise
    finally:
        if handle >= 0:
            os.close(handle)
    sync_folder(real.parent)
    if loss is not None:
        logger.warning("%s", loss)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable, where the file system supports it."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def unreadable(path: object, error: Exception) -> StoreError:
    """Return the error for a file that cannot be read or is not text."""
    return StoreError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def unwritable(path: Path, error: OSError | ValueError) -> StoreError:
    """Return the error for a file that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = ": free some space and run it again" if is_full else ""
    return StoreError(f"{path} cannot be written: {reason}; nothing was changed{remedy}")


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a full disk accepts a part and then refuses the rest
        view = view[os.write(fd, view) :]


def _take_over(handle: int, real: Path) -> str | None:
    """Give a new file the owner, group and mode of the one it replaces; return a warning about any loss."""
    try:
        before = real.stat()
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(handle, 0o666 & ~mask)
        return None
    for owner, group in ((before.st_uid, before.st_gid), (-1, before.st_gid)):  # only root can change owners
        with suppress(PermissionError):
            os.fchown(handle, owner, group)
            break
    os.fchmod(handle, stat.S_IMODE(before.st_mode))  # after chown, which clears mode bits
    after = os.fstat(handle)
    if (after.st_uid, after.st_gid) != (before.st_uid, before.st_gid):
        was, now = (f"{file.st_uid}:{file.st_gid}" for file in (before, after))
        return f"{real} now belongs to {now}, as only root could keep its owner {was} (user:group)"
    if before.st_nlink > 1:
        return f"{real} had {before.st_nlink} hard links: its other names keep the old content"
    return None
