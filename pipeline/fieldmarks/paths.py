"""Where files live: the folders shipped with the package and the user's cache."""

import os
from pathlib import Path

from fieldmarks.errors import FieldmarksError


def shipped(folder: str) -> Path:
    """Return a shipped data folder: inside the wheel's package, else at the checkout's root."""
    package = Path(__file__).resolve().parent
    inside = package / folder
    return inside if inside.is_dir() else package.parents[1] / folder


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
