"""Where files live: the folders shipped with the package and the user's cache."""

import os
from pathlib import Path


def shipped(folder: str) -> Path:
    """Return a shipped data folder: inside the wheel's package, else at the checkout's root."""
    package = Path(__file__).resolve().parent
    inside = package / folder
    return inside if inside.is_dir() else package.parents[1] / folder


def user_cache() -> Path:
    """Return the folder for what can be computed again; `FIELDMARKS_CACHE` moves it (not created here)."""
    chosen = os.environ.get("FIELDMARKS_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fieldmarks"
