"""Queries that show what a store holds, for `store list`, `show`, `history` and `stats`."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from fieldmarks.class_lists import class_list
from fieldmarks.errors import StoreError
from fieldmarks.paths import shipped_names, shipped_store
from fieldmarks.records import FAILED, MAX_LIST, Entry
from fieldmarks.store.bulk import finder
from fieldmarks.store.descriptor_effects import Measurement
from fieldmarks.store.edits import current_entry, find
from fieldmarks.store.file import Store
from fieldmarks.store.lint import Finding, by_class, counts, lint
from fieldmarks.store.lint_rules import Config
from fieldmarks.store.reviewing import is_approved
from fieldmarks.tables import errors_as, read_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """A class in brief."""

    name: str
    count: int
    origin: str
    flags: tuple[str, ...]  # rule codes
    effect: float | None = None  # of the descriptor that helps least
    review: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as a JSON object."""
        return {
            "class": self.name,
            "descriptors": self.count,
            "origin": self.origin,
            "flags": list(self.flags),
            "effect": self.effect,
            "review": self.review,
        }


def rows(
    store: Store,
    config: Config,
    *,
    flagged: bool = False,
    unreviewed: bool = False,
    grep: str | None = None,
) -> list[Row]:
    """Return the classes in brief: all, or those that are flagged, not approved, or match `grep`.

    Raises StoreError if `grep` is not a regular expression.
    """
    search = finder(grep or "")
    entries = list(store.entries())
    flags = by_class(lint(entries, config))
    return [
        Row(entry.name, len(entry.descriptors), origin(entry), codes, _worst(entry), entry.review)
        for entry in entries
        if any(map(search, (entry.name, *entry.descriptors)))
        and ((codes := _codes(flags.get(entry.name, ()))) or not flagged)
        and not (unreviewed and is_approved(entry))
    ]


def shipped() -> list[dict[str, Any]]:
    """Return the stores that ship with the package: name, numbers of classes and descriptors, origin."""
    stores = []
    for name in shipped_names():
        entries = list(Store(shipped_store(name) or name).entries())  # never a local file of that name
        count = sum(len(entry.descriptors) for entry in entries)
        note = entries[0].note or origin(entries[0])
        stores.append({"store": name, "classes": len(entries), "descriptors": count, "note": note})
    return stores


def sorted_rows(key: str, rows: Iterable[Row]) -> list[Row]:
    """Sort rows by "name", "count" (fewest first) or "effect" (worst first, unmeasured last)."""
    return sorted(rows, key=_ORDERS[key])


def missing(store: Store, path: Path) -> list[str]:
    """Return the classes of a list, in any format, that are not current; logs how it was read.

    Raises StoreError, ClassNameError.
    """
    table = read_table(path, MAX_LIST, StoreError)
    with errors_as(StoreError):
        listed = class_list(table)
    logger.info("%s", listed.report)
    return [name for name in listed.names if name not in store]


def show(store: Store, name: str, config: Config) -> tuple[Entry, list[Finding]]:
    """Return the current line of a class and its findings, some of which depend on all classes."""
    entry = current_entry(store, name)
    return entry, lint(store.entries(), config, only=entry.name)


def history(store: Store, name: str) -> list[Entry]:
    """Return every line of a class, oldest first. Raises StoreError, suggesting the closest names."""
    return store.history(find(store.all_names(), name, store.name))


def stats(store: Store, config: Config) -> dict[str, Any]:
    """Return a store's statistics; tokens are those of every answer ever paid for."""
    entries = list(store.entries())
    sizes = [len(entry.descriptors) for entry in entries]
    every = [line for name in store.all_names() for line in store.history(name)]
    origins = Counter(map(origin, entries))
    models = Counter(entry.model for entry in entries if entry.model)
    prompts = Counter(
        str(entry.prompt["name"]) for entry in entries if entry.prompt and "name" in entry.prompt
    )
    answers = {(line.name, line.origin, line.at, line.answer): _tokens(line) for line in every}
    return {
        "classes": len(entries),
        "descriptors": sum(sizes),
        "per_class": {"min": min(sizes), "median": median(sizes), "max": max(sizes)} if sizes else {},
        "lines": len(every),
        "failed": sum(line.origin == FAILED for line in every),
        "ended": len(store.all_names()) - len(entries),
        "rejected": sum(len(entry.rejected) for entry in entries),
        "tokens": sum(answers.values()),
        "review": dict(Counter(entry.review or "none" for entry in entries).most_common()),
        "origins": dict(origins.most_common()),
        "models": dict(models.most_common()),
        "prompts": dict(prompts.most_common()),
        "flags": counts(lint(entries, config)),
    }


def origin(entry: Entry) -> str:
    """Return where a line comes from, in one word."""
    return entry.origin or "typed"


def _worst(entry: Entry) -> float | None:
    measurement = Measurement.of(entry)
    return None if measurement is None else measurement.worst


_ORDERS: Final[dict[str, Callable[[Row], Any]]] = {
    "name": lambda row: row.name.casefold(),
    "count": lambda row: row.count,
    "effect": lambda row: math.inf if row.effect is None else row.effect,
}


def _tokens(entry: Entry) -> int:
    usage = entry.usage or {}
    counts = [usage.get(key) for key in ("prompt_tokens", "completion_tokens")]
    return sum(count for count in counts if isinstance(count, int))


def _codes(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.rule.code for finding in findings))
