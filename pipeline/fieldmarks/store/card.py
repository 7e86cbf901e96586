"""A folder as Hugging Face's hub holds data sets: the current lines and a card that tells their origin."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fieldmarks.bounds import read_text
from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.lines import encode

CARD: Final = "README.md"
DATA: Final = "descriptors.jsonl"
MAX_CARD: Final = 1 << 20  # bytes
_TITLE: Final = "Visual descriptors of"


def files(folder: Path, entries: Sequence[Entry], license_id: str) -> dict[Path, bytes]:
    """Return what the files of a folder are to hold."""
    return {folder / DATA: b"".join(map(encode, entries)), folder / CARD: card(entries, license_id).encode()}


def is_card(file: Path) -> bool:
    """Say whether a file is a card as `card` makes it."""
    try:
        lines = read_text(file, MAX_CARD, StoreError).split("\n")
    except StoreError:
        return False
    return lines[0] == "---" and any(line.startswith(f'pretty_name: "{_TITLE}') for line in lines)


def card(entries: Sequence[Entry], license_id: str) -> str:
    """Return the card: the hub's header, then counts, models and prompts.

    `license_id` is as the hub lists them.
    """
    header: dict[str, Any] = {
        "license": license_id,
        "pretty_name": f"{_TITLE} {len(entries)} classes",
        "tags": ["image-classification", "zero-shot-image-classification", "descriptors"],
        "configs": [{"config_name": "default", "data_files": DATA}],
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in header.items()), "---", ""]
    lines += [f"# {header['pretty_name']}", ""]
    lines += ["One line of JSON a class: `class`, `descriptors`, and where they come from.", ""]
    lines += ["| | |", "| --- | --- |", *(f"| {key} | {_cell(value)} |" for key, value in _facts(entries))]
    use = "fieldmarks store import mine.jsonl FOLDER"
    return "\n".join([*lines, "", "Use them with fieldmarks:", "", f"    {use}", ""])


def _facts(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    prompts = [one.prompt or {} for one in entries]
    return [
        ("classes", str(len(entries))),
        ("descriptors", str(sum(len(one.descriptors) for one in entries))),
        ("origin", _counted(one.origin or "typed" for one in entries)),
        ("model", _counted(one.model or "none" for one in entries)),
        ("prompt", _counted(str(one.get("name", "none")) for one in prompts)),
    ]


def _counted(values: Any) -> str:
    return ", ".join(f"{value} ({count})" for value, count in Counter(values).most_common())


def _cell(text: str) -> str:
    """Return a text that cannot end its cell, nor be read as markup."""
    text = " ".join(text.split())
    return "".join(f"\\{one}" if one in r"\`*_{}[]<>|#!" else one for one in text)
