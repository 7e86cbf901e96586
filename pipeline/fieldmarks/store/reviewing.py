"""Review marks: what a person says of a class's list, "approved" or "unsure", who says it, and when.

    review(store, ["tree frog"], APPROVED, Stamp(by="ada"))

A mark is a line of its own that repeats the current one with `review` and `reviewed` {by, at, note, change}.
It is otherwise that line: its origin, and so what generation asks and which line is current, stays; so do
`by`, `at` and `note`, which belong to the list. A mark is about one list: a line with another list, whether a
person or a model made it, has none, and neither has the class under another name. `store undo` takes a mark
back, and brings it back with the list that it was about.
"""

from collections.abc import Collection, Mapping
from typing import Any

from fieldmarks.errors import StoreError
from fieldmarks.records import APPROVED, Entry
from fieldmarks.store.edits import Change, Plan, Stamp, apply, current_entry
from fieldmarks.store.file import Store


def reviewed(entry: Entry, mark: str, stamp: Stamp, source: Mapping[str, Any] | None = None) -> Entry | None:
    """Return the line with a mark, or None if the same person has set it already.

    `source` is the `reviewed` of another store's line whose mark it is, which says who set it and when.
    Raises StoreError if another program uses one of the keys for something else.
    """
    if taken := next((key for key in ("review", "reviewed") if key in entry.extra), None):
        value = f"class {entry.name!r} has the key {taken!r} with {entry.extra[taken]!r:.60}"
        raise StoreError(f"{value}, which is not a review mark: rename that key in the file")
    if entry.review == mark and (entry.reviewed or {}).get("by") == stamp.by and stamp.note is None:
        return None
    facts = source or {"by": stamp.by, "at": stamp.at, "note": stamp.note}
    return stamp.annotated(entry, review=mark, reviewed={**facts, "change": stamp.change})


def review(
    store: Store,
    names: Collection[str],
    mark: str,
    stamp: Stamp,
    *,
    dry_run: bool = False,
    plan: Plan | None = None,
) -> list[Change]:
    """Mark classes, in one change; without names, those that have no mark.

    With a `plan` only if it is still the planned one. Raises StoreError if not, or if a class is missing.
    """

    def lines(now: Store) -> list[Entry | None]:
        entries = [current_entry(now, name) for name in dict.fromkeys(names)]
        if not names:
            entries = [entry for entry in now.entries() if entry.review is None]
        return [reviewed(entry, mark, stamp) for entry in entries]

    return apply(store, lines, dry_run=dry_run, plan=plan)


def is_review(entry: Entry) -> bool:
    """Say whether a line does nothing but to set a mark; later lines may carry that on."""
    return bool(entry.reviewed and entry.change and entry.reviewed["change"] == entry.change)


def is_approved(entry: Entry) -> bool:
    """Say whether a person has approved a line's list."""
    return entry.review == APPROVED
