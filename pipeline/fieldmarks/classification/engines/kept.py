"""Converted models kept for later runs, and the verdict on each: one folder each in the user's cache.

A folder is written whole under another name and then renamed. Its about.json holds what is known of the
model, the SHA-256 of every other file and one of itself, so that damage is found and the model converted
again. Together they stay under LIMIT bytes: those that were used last stay.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.cache import CacheInfo, key_of
from fieldmarks.paths import user_cache

LIMIT: Final = 8 * 2**30  # bytes; a ViT-B/32 takes 0.6 GB, a ViT-L/14 1.7 GB
_ABOUT: Final = "about.json"

About = Mapping[str, Any]


def folder_of(*parts: str) -> Path:
    """Return the folder for what depends on all of `parts`, which may not exist."""
    return user_cache() / "engines" / key_of(*parts).hex()[:32]


def read(folder: Path) -> About | None:
    """Return what a folder tells of its model; None if it is not there or damaged."""
    try:
        kept = json.loads((folder / _ABOUT).read_bytes())
        about: About = kept["about"]
        return about if kept["sha256"] == _digest(about) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def is_whole(folder: Path, about: About, file_hash: Callable[[Path], str]) -> bool:
    """Whether every file is as it was written; the folder then counts as used now."""
    with suppress(OSError):  # of another user, or read-only: as good to read
        os.utime(folder)
    try:
        return all(file_hash(folder / name) == digest for name, digest in about["files"].items())
    except OSError:
        return False


def keep(folder: Path, write: Callable[[Path], About]) -> About:
    """Make a folder: `write` fills a new one and returns what to tell of it.

    Raises OSError, and what `write` raises.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".", ignore_cleanup_errors=True) as scratch:
        fresh = Path(scratch) / "model"
        fresh.mkdir()
        about = dict(write(fresh))
        about["files"] = {path.name: _file_digest(path) for path in sorted(fresh.iterdir())}
        (fresh / _ABOUT).write_text(json.dumps({"sha256": _digest(about), "about": about}), "utf-8")
        with suppress(OSError):  # there is none; another process that reads one misses it for a moment only
            folder.rename(Path(scratch) / "old")
        with suppress(OSError):  # another process was first
            fresh.rename(folder)
    with suppress(OSError):  # another process removes files
        _evict(folder)
    return about


def drop(folder: Path) -> None:
    """Remove a folder, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def info() -> CacheInfo:
    """Return where the models are kept, how many, and the bytes they take of those they may take."""
    root = user_cache() / "engines"
    return CacheInfo(root, sum(1 for _ in root.glob(f"*/{_ABOUT}")), _size(root), LIMIT)


def clear() -> int:
    """Remove all kept models and return the bytes that became free."""
    before = info()
    drop(before.path)
    return before.size - info().size


def _evict(newest: Path) -> None:
    """Drop those that were used longest ago while all of them take more than LIMIT; the newest stays."""
    others = [path for path in newest.parent.iterdir() if path != newest]
    for path in sorted(others, key=lambda path: path.stat().st_mtime):
        if _size(newest.parent) > LIMIT:
            drop(path)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _digest(about: About) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
