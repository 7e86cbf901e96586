"""Several files under one name: globs, and ranges such as data-{000..012}.tar."""

import glob
import re
from pathlib import Path
from typing import Final

from fieldmarks.errors import EvaluationError

MAX_SHARDS: Final = 100_000
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand(spec: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files that a path, a glob, a range {000..012} or a folder means, in their order.

    Of a folder they are those with one of `suffixes`. Raises EvaluationError for one that is not there.
    """
    names = [spec] if Path(spec).exists() else _braces(spec)
    if len(names) == 1 and Path(spec).is_dir():
        return sorted(path for path in Path(spec).iterdir() if path.name.lower().endswith(suffixes))
    paths = [Path(one) for name in names for one in ([name] if Path(name).exists() else _glob(name))]
    if absent := next((path for path in paths if not path.is_file()), None):
        raise EvaluationError(f"{absent}: no such file")
    return paths


def _glob(pattern: str) -> list[str]:
    found = sorted(glob.glob(pattern))  # noqa: PTH207 - a pattern may be absolute
    return found or [pattern]


def _braces(spec: str) -> list[str]:
    """Return the names that ranges like {000..012} stand for, in their order."""
    found = _RANGE.search(spec)
    if not found:
        return [spec]
    first, last, width = int(found[1]), int(found[2]), len(found[1])
    if not 0 <= last - first < MAX_SHARDS:
        raise EvaluationError(f"{found[0]} in {spec!r} is no range of at most {MAX_SHARDS} shards")
    starts = (f"{spec[: found.start()]}{number:0{width}}" for number in range(first, last + 1))
    return [start + rest for start in starts for rest in _braces(spec[found.end() :])]
