"""The stores that come with the package: read by name, never written."""

from pathlib import Path

from fieldmarks.paths import shipped


def shipped_names() -> list[str]:
    """Return the names of the stores that come with the package, sorted."""
    return sorted(path.stem for path in shipped("cache").glob("*.jsonl"))


def shipped_store(name: str | Path) -> Path | None:
    """Return the file of a shipped store, or None if no store of that bare name is shipped."""
    return shipped("cache") / f"{name}.jsonl" if str(name) in shipped_names() else None
