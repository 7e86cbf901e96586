"""Cached conversions of models, and whether each passed its check: one folder per model in the user's cache.

They lie in a folder with a marker file; a folder of this name without it is not ours and is left alone. A
model's folder is written whole under another name and then renamed. Its about.json holds what is known of
the model, the SHA-256 of every other file and one of itself, so that damage is found and the model converted
again. Together they stay under LIMIT bytes: those that were used last stay.

What a conversion writes while it runs is in a scratch folder, whose owner holds a lock on a file in it; a
scratch folder without an owner, as SIGKILL leaves it, is removed by the next conversion.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.cache import CacheInfo, key_of
from fieldmarks.paths import make_private, open_regular, read_regular, user_cache

LIMIT: Final = 8 * 2**30  # bytes; a ViT-B/32 takes 0.6 GB, a ViT-L/14 1.7 GB
FOLDER: Final = "converted-2"
OLD_FOLDER: Final = "engines"  # of version 0.1, without a marker
MARKER: Final = "fieldmarks-converted-models"
SCRATCH: Final = ".converting-"
_ABOUT: Final = "about.json"
_OWNER: Final = "owner"
_MODEL: Final = re.compile(r"[0-9a-f]{32}")
_OWN_FILES: Final = re.compile(r"(about|tokenizer)\.json|(texts|images)\.(xml|bin)")  # of a damaged folder
_LARGEST_ABOUT: Final = 2**20  # bytes
_OLD_ENOUGH: Final = 3600  # seconds after which a scratch folder that is still empty has no owner

Metadata = Mapping[str, Any]


def folder_of(*parts: str) -> Path:
    """Return the folder for what depends on all of `parts`, which may not exist."""
    return user_cache() / FOLDER / key_of(*parts).hex()[:32]


def read(folder: Path) -> Metadata | None:
    """Return a folder's record of its model; None if missing or damaged."""
    try:
        record = json.loads(read_regular(folder / _ABOUT, _LARGEST_ABOUT))
        metadata: Metadata = record["about"]
        return metadata if record["sha256"] == _digest(metadata) and _names(metadata) is not None else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def is_whole(folder: Path, metadata: Metadata, file_hash: Callable[[Path], str]) -> bool:
    """Whether every file is as it was written; the folder then counts as used now."""
    with suppress(OSError):  # of another user, or read-only: as good to read
        os.utime(folder)
    try:
        return all(file_hash(folder / name) == digest for name, digest in metadata["files"].items())
    except OSError:
        return False


def keep(folder: Path, write: Callable[[Path], Metadata], *, limit: int = LIMIT) -> Metadata:
    """Make a folder: `write` fills a new one and returns what to record of it.

    Of the others, those used longest ago are dropped while all of them take more than `limit` bytes.
    Raises OSError, also where the place is taken by what is not ours, and what `write` raises.
    """
    _claim(folder.parent)
    with _scratch(folder.parent) as fresh:
        metadata = dict(write(fresh))
        metadata["files"] = {path.name: _file_digest(path) for path in sorted(fresh.iterdir())}
        (fresh / _ABOUT).write_text(json.dumps({"sha256": _digest(metadata), "about": metadata}), "utf-8")
        for path in fresh.iterdir():
            path.chmod(0o600)
        drop(folder)  # another process that reads one misses it for a moment only
        try:
            fresh.rename(folder)
        except OSError as error:
            if read(folder) is None:  # else another process was first
                raise OSError(error.errno, f"{error.strerror}, and it is not a converted model") from error
    with suppress(OSError):  # another process removes files
        _evict(folder, limit)
    return metadata


def drop(folder: Path) -> None:
    """Remove a model's or a scratch folder, if it is there: only files that fieldmarks put into it."""
    if folder.is_symlink() or not folder.is_dir():
        return
    if folder.name.startswith(SCRATCH):
        shutil.rmtree(folder, ignore_errors=True)
        return
    metadata = read(folder)
    names = [] if metadata is None else _names(metadata) or []
    for path in folder.iterdir():
        known = path.name in (_ABOUT, *names) if metadata is not None else _OWN_FILES.fullmatch(path.name)
        if known and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        folder.rmdir()


def drop_root(root: Path) -> None:
    """Remove the folder of all models, once it is empty."""
    with suppress(OSError):
        if [path.name for path in root.iterdir()] == [MARKER]:
            (root / MARKER).unlink()
        root.rmdir()


def drop_stale(root: Path) -> None:
    """Remove scratch folders whose owner ended without doing so."""
    for folder in root.glob(f"{SCRATCH}*"):
        if _is_abandoned(folder):
            drop(folder)


def models(root: Path) -> list[Path]:
    """Return the folders below `root` that are provably ours, abandoned scratch folders among them."""
    marked = _is_marked(root)
    return [
        folder
        for folder in sorted(root.iterdir())
        if not folder.is_symlink()
        and folder.is_dir()
        and (
            _is_abandoned(folder)
            if folder.name.startswith(SCRATCH)
            else _MODEL.fullmatch(folder.name) and (marked or read(folder) is not None)
        )
    ]


def info() -> CacheInfo:
    """Return the path, number, size in bytes and size limit of the cached models."""
    root = user_cache() / FOLDER
    return CacheInfo(root, sum(1 for _ in root.glob(f"*/{_ABOUT}")), size_of(root), LIMIT)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _claim(root: Path) -> None:
    """Make the folder of all models and mark it. Raises OSError if one is there that is not ours."""
    make_private(root.parent)
    root.mkdir(mode=0o700, exist_ok=True)
    if _is_marked(root):
        return
    if any(root.iterdir()):
        raise OSError(errno.EEXIST, "it already exists, and fieldmarks did not create it", str(root))
    with suppress(FileExistsError):  # another process was first
        os.close(os.open(root / MARKER, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _is_marked(root: Path) -> bool:
    return (root / MARKER).is_file() and not (root / MARKER).is_symlink()


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """Give a new folder that is gone afterwards, and at the next conversion if this process is killed."""
    drop_stale(root)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=root))
    try:
        owner = os.open(scratch / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(owner, fcntl.LOCK_EX)
            fresh = scratch / "model"
            fresh.mkdir(mode=0o700)
            yield fresh
        finally:
            os.close(owner)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Whether a scratch folder's owner holds its lock no more."""
    try:
        owner = open_regular(folder / _OWNER, os.O_RDWR, follow=False)
    except FileNotFoundError:  # between the folder's making and its owner's
        with suppress(OSError):
            return not any(folder.iterdir()) and time.time() - folder.stat().st_mtime > _OLD_ENOUGH
        return False
    except OSError:
        return False
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(owner)


def _evict(newest: Path, limit: int) -> None:
    """Drop those that were used longest ago while all of them take more than `limit`; the newest stays."""
    root = newest.parent
    others = [path for path in models(root) if path != newest and _MODEL.fullmatch(path.name)]
    for path in sorted(others, key=lambda path: path.stat().st_mtime):
        if size_of(root) > limit:
            drop(path)


def _names(metadata: Metadata) -> list[str] | None:
    """Return the names of a model's files; None if they are not plain names, as damage makes them."""
    files = metadata.get("files") if isinstance(metadata, dict) else None
    if not isinstance(files, dict) or any(Path(name).name != name for name in files):
        return None
    return list(files)


def _digest(metadata: Metadata) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
