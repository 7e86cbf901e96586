"""Review marks: a person's verdict on a class's list, "approved" or "unsure", with who gave it and when.

    review(store, ["tree frog"], APPROVED, Stamp(by="ada"))

A mark is a line of its own that repeats the current one with `review` and `reviewed` {by, at, note, change}.
Its origin stays, so that it changes neither what generation asks nor which line is current; `by`, `at` and
`note` stay too, as they belong to the list. A mark is about one list: a line with another list, whether a
person or a model made it, has none, and neither has a renamed class. `store undo` reverts a mark, and when it
restores an earlier list, restores that list's mark too.
"""

from collections.abc import Collection, Mapping
from typing import Any

from fieldmarks.errors import StoreError
from fieldmarks.records import APPROVED, Entry
from fieldmarks.store.edits import Change, Plan, Stamp, apply, current_entry
from fieldmarks.store.file import Store


def reviewed(entry: Entry, mark: str, stamp: Stamp, source: Mapping[str, Any] | None = None) -> Entry | None:
    """Return the line with a mark, or None if the same person has already set it and adds no note.

    `source` is the `reviewed` of the mark in another store, which says who set it and when. Raises StoreError
    if another program uses one of the keys for something else.
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
    """Mark classes in one change; without names, those that have no mark.

    Raises StoreError if a class is missing or, with a `plan`, if the change is no longer the planned one.
    """

    def lines(now: Store) -> list[Entry | None]:
        entries = [current_entry(now, name) for name in dict.fromkeys(names)]
        if not names:
            entries = [entry for entry in now.entries() if entry.review is None]
        return [reviewed(entry, mark, stamp) for entry in entries]

    return apply(store, lines, dry_run=dry_run, plan=plan)


def is_review(entry: Entry) -> bool:
    """Return whether a line only sets a mark, which later lines may carry on."""
    return bool(entry.reviewed and entry.change and entry.reviewed["change"] == entry.change)


def is_approved(entry: Entry) -> bool:
    """Return whether a person has approved a line's list."""
    return entry.review == APPROVED
