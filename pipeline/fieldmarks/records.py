"""Records shared by the stages: class names, and entries, which are the lines of a store.

A line of a store, format version 1, is one JSON object. The shortest form, as a person would type it:

    {"class": "tree frog", "descriptors": ["protruding eyes", "large mouth"]}

Generation adds `v`, `origin` "generated", `prompt` {name, sha256 of the rendered prompt, style}, `model`,
`endpoint`, `mode`, `params`, `answer`, `finish_reason`, `usage`, `at`; if a class got several answers,
`answers` holds all of them, in order of arrival (`samples` in lines of version 0.1). `origin` "failed" marks
an answer without bullets.

Curation writes `origin` "curated", `rejected`, `note`, `by`, `at`, `removed` (true if the line removes the
class), `change` (one id for all lines of a command), `undo` (true if the line restores what was current
before) and `redo` (true if it restores what an undo reverted). `compacted` is true if compaction has removed
what the line changed. `review` is a person's verdict on the list, "approved" or "unsure", and `reviewed`
{by, at, note, change} who gave it, when and why; a line with another list has neither.

Evaluation adds `measured`, the effect of leaving out each descriptor (see store/descriptor_effects.py),
learning adds `weights` (see store/learned_weights.py).

`ids` are other names by which data sets label the class (a folder, a WordNet id, a number), and
`confused_with` the classes that it is most easily confused with; both are lists of strings. `parent` is the
name of a broader class, such as "dog" for "beagle". `position` is the class's place in the store (see
store/lines.py). Keys that this version does not know are kept and written back.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final, Self

from fieldmarks.errors import ClassNameError, StoreError

FORMAT_VERSION: Final = 1
MAX_LIST: Final = 64 << 20  # bytes of a class list
MAX_POSITION: Final = 1e15
MAX_NAME: Final = 300  # characters; anything longer is pasted text, not a name

GENERATED: Final = "generated"
CURATED: Final = "curated"
IMPORTED: Final = "imported"
FAILED: Final = "failed"

APPROVED: Final = "approved"
UNSURE: Final = "unsure"


def class_name(text: str) -> str:
    """Return the name that identifies a class: in NFC, with outer whitespace trimmed.

    Raises ClassNameError for an empty or over-long name, or one with a line break or other control character.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise ClassNameError("a class name is empty: write at least one letter")
    if len(name) > MAX_NAME:
        raise ClassNameError(
            f"class name {name[:40]!r}… has {len(name):,} characters: expected at most {MAX_NAME}"
        )
    if name.isprintable():  # as nearly all are; others are checked letter by letter
        return name
    if bad := next((c for c in name if unicodedata.category(c) == "Cs"), None):
        raise ClassNameError(
            f"class name {name!r} has {bad!r}, which is not Unicode text: check its encoding"
        )
    if bad := next((c for c in name if unicodedata.category(c) in {"Cc", "Zl", "Zp"}), None):
        raise ClassNameError(f"class name {name!r} has the control character {bad!r}: remove it")
    return name


def now() -> str:
    """Return the current time as lines record it: in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a store: the descriptors of a class and where they came from.

    >>> entry = Entry("tree frog", ("protruding eyes", "large mouth"), by="ada")
    >>> entry.to_dict()
    {'class': 'tree frog', 'descriptors': ['protruding eyes', 'large mouth'], 'by': 'ada'}
    >>> Entry.from_dict(entry.to_dict()) == entry
    True

    The fields are the keys of a line, which the module's docstring explains; `extra` holds other programs'
    keys, which are written back.
    """

    name: str  # "class" on disk
    descriptors: tuple[str, ...] = ()
    v: int | None = None
    origin: str | None = None
    prompt: Mapping[str, Any] | None = None
    model: str | None = None
    endpoint: str | None = None
    mode: str | None = None
    params: Mapping[str, Any] | None = None
    answer: str | None = None
    answers: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    rejected: tuple[str, ...] = ()
    removed: bool = False
    undo: bool = False
    redo: bool = False
    compacted: bool = False
    change: str | None = None
    note: str | None = None
    by: str | None = None
    at: str | None = None
    measured: Mapping[str, Any] | None = None
    ids: tuple[str, ...] = ()
    confused_with: tuple[str, ...] = ()
    parent: str | None = None
    weights: Mapping[str, Any] | None = None
    review: str | None = None
    reviewed: Mapping[str, Any] | None = None
    position: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> Self:
        """Return the entry of a line's object.

        Raises StoreError for a missing or misspelt key, a wrong type or a newer version, ClassNameError for
        an unusable name.
        """
        known = {
            key: value
            for key, value in line.items()
            if key in _TYPES and (key not in _NEW or _TYPES[key](value))  # else another program's key
        }
        for key, value in known.items():
            if not _TYPES[key](value):
                raise StoreError(f"{key!r} has the wrong type: {value!r:.60}")
        for key in ("class", "descriptors"):
            if key not in known and (near := near_miss(line, key)) is not None:
                raise StoreError(f"its key {near!r} is not read: rename it to {key!r}")
        if "class" not in known:
            raise StoreError("'class' is missing")
        if (known.get("v") or FORMAT_VERSION) > FORMAT_VERSION:
            raise StoreError(f"version {known['v']} is newer than {FORMAT_VERSION}: use a newer fieldmarks")
        extra = {key: value for key, value in line.items() if key not in known}
        if "samples" in known:
            answers = known.pop("samples")
            if "answers" in known:
                extra["samples"] = answers
            else:
                known["answers"] = answers
        for key in _LISTS & known.keys():
            known[key] = tuple(known[key])
        return cls(name=class_name(known.pop("class")), extra=extra, **known)

    def to_dict(self) -> dict[str, Any]:
        """Return the line's object; unset keys are left out, except `descriptors`."""
        line: dict[str, Any] = {"class": self.name, "descriptors": list(self.descriptors)}
        for key in (each.name for each in fields(self)):
            value = getattr(self, key)
            if key in _TYPES and key not in line and value not in (None, (), False):
                line[key] = list(value) if isinstance(value, tuple) else value
        return line | dict(self.extra)


def near_miss(line: Mapping[str, Any], key: str) -> str | None:
    """Return the unknown key of a line that, by its name and value, is meant as `key`, or None."""
    for other, value in line.items():
        folded = other.strip().casefold()
        if other in _TYPES or not (
            isinstance(value, str) if key == "class" else isinstance(value, list | str)
        ):
            continue
        if folded == key or folded in _NEAR_MISSES[key] or get_close_matches(folded, [key], 1, 0.8):
            return other
    return None


def is_position(value: Any) -> bool:
    """Return whether a value can be a class's position."""
    return type(value) in (int, float) and abs(value) < MAX_POSITION


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _optional(kind: type) -> Any:
    return lambda value: value is None or isinstance(value, kind)


def _number(most: float) -> Any:
    return lambda value: type(value) in (float, int) and abs(value) <= most


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _has(value: Any, types: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(key in value and fits(value[key]) for key, fits in types.items())


def _measured(value: Any) -> bool:
    return value is None or (
        _has(value, _MEASURED) and all(_has(effect, _EFFECT) for effect in value["effects"])
    )


_EFFECT: Final = {
    "descriptor": lambda value: isinstance(value, str),
    "effect": _number(1),  # a fraction
    "margin": _number(1e9),  # logits
    "pictures": _count,
}
_MEASURED: Final = {
    **dict.fromkeys(("at", "data", "model", "preset"), lambda value: isinstance(value, str)),
    "pictures": _count,
    "effects": lambda value: isinstance(value, list),
}
_WEIGHTS: Final = {
    **dict.fromkeys(("at", "data", "encoder", "template", "change"), lambda value: isinstance(value, str)),
    "offset": _number(1e6),
    "of": lambda value: isinstance(value, dict) and all(map(_number(1e9), value.values())),
}
_REVIEWED: Final = {
    "by": _optional(str),
    **dict.fromkeys(("at", "change"), lambda value: isinstance(value, str)),
}
_NEAR_MISSES: Final = {
    "class": {"classes", "class_name", "classname", "class name", "name", "label", "category", "species"},
    "descriptors": {
        "descriptor",
        "description",
        "descriptions",
        "features",
        "feature",
        "attributes",
        "traits",
    },
    "rejected": {"reject", "rejects", "dropped"},
}
# Keys that lines of version 0.1 may use for something else.
_NEW: Final = {"ids", "confused_with", "parent", "weights", "review", "reviewed", "position", "compacted"}
_LISTS: Final = {"descriptors", "rejected", "answers", "ids", "confused_with"}
_TYPES: Final[dict[str, Any]] = {
    "class": lambda value: isinstance(value, str),
    "descriptors": _texts,
    "v": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
    **dict.fromkeys(("origin", "model", "endpoint", "mode", "answer", "finish_reason"), _optional(str)),
    **dict.fromkeys(("prompt", "params", "usage"), _optional(dict)),
    **dict.fromkeys(("answers", "samples"), _objects),
    "rejected": _texts,
    **dict.fromkeys(("removed", "undo", "redo", "compacted"), lambda value: isinstance(value, bool)),
    **dict.fromkeys(("change", "note", "by", "at"), _optional(str)),
    "measured": _measured,
    **dict.fromkeys(("ids", "confused_with"), _texts),
    "parent": lambda value: value is None or (isinstance(value, str) and bool(value.strip())),
    "weights": lambda value: value is None or _has(value, _WEIGHTS),
    "review": lambda value: value in (APPROVED, UNSURE),
    "reviewed": lambda value: _has(value, _REVIEWED),
    "position": is_position,
}
