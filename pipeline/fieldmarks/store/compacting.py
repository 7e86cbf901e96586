"""Rewriting a store without what is no longer needed. Lines that stay keep their bytes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from fieldmarks.records import FAILED, GENERATED, Entry
from fieldmarks.store.jsonl import Store, in_force


@dataclass(frozen=True, slots=True)
class Compaction:
    """How many lines a store has and how many stay."""

    before: int
    after: int


def compact(store: Store, *, keep_history: bool = False, dry_run: bool = False) -> Compaction:
    """Rewrite a store to the lines in force and the last answer to every question, so that none is asked
    again.

    With `keep_history` every line stays, and only blank and torn ones go. Raises StoreError; the file is then
    as it was.
    """
    counted = [0, 0]

    def choose(now: Store) -> Iterable[bytes]:
        lines = list(now.lines())
        keep = {id(one) for one in _kept(one for _, one in lines)}
        kept = [line for line, one in lines if keep_history or id(one) in keep]
        counted[:] = [len(lines), len(kept)]
        return kept

    if dry_run:
        choose(store)
    else:
        store.rewrite(choose)
    return Compaction(*counted)


def _kept(entries: Iterable[Entry]) -> list[Entry]:
    by_class: dict[str, list[Entry]] = {}
    for one in entries:
        by_class.setdefault(one.name, []).append(one)
    return [one for history in by_class.values() for one in _needed(history)]


def _needed(history: list[Entry]) -> list[Entry]:
    """Return the line in force of a class and the last answer to each question since its last end."""
    force = in_force(history)
    if force is None and not any(one.origin in (GENERATED, FAILED) for one in history):
        return []
    since = next((at for at in range(len(history), 0, -1) if history[at - 1].removed), 0)
    answers = {
        (one.origin, _question(one)): one for one in history[since:] if one.origin in (GENERATED, FAILED)
    }
    return [*answers.values(), *([] if force is None else [force])]


def _question(entry: Entry) -> Any:
    return orjson.dumps([entry.prompt, entry.model, entry.params], option=orjson.OPT_SORT_KEYS, default=dict)
