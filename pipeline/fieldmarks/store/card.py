"""The card of published lists: a README with the header that the Hugging Face Hub reads.

Facts about the lists (counts, models, prompts, language) come from their lines; what only the publisher knows
(title, source, licence, authors) and what was measured with the lists come from `About`.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from fieldmarks.records import Entry
from fieldmarks.store.languages import language

TITLE: Final = "Visual descriptors of"
TAGS: Final = ("image-classification", "zero-shot-image-classification", "descriptors", "clip", "fieldmarks")
# https://huggingface.co/docs/hub/repositories-licenses
_LISTED: Final = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
    cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c
    ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa
    unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3
    llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other
"""
LICENCES: Final = frozenset(_LISTED.split())
_SIZES: Final = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """Accuracy with and without the lists: where it was measured, and a row of cells for each arm."""

    where: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class About:
    """What a card says beyond the lines themselves; None if not stated."""

    title: str | None = None
    licence: str | None = None  # as the hub spells it, such as cc-by-4.0
    source: str | None = None
    authors: Sequence[str] = ()
    language: str | None = None  # ISO 639 code, such as en
    lint: Mapping[str, int] | None = None  # findings by rule
    measured: AccuracyTable | None = None
    left_out: Sequence[str] = field(default_factory=tuple)  # sentences


def title_of(entries: Sequence[Entry], about: About) -> str:
    """Return the title, by default one with the number of classes."""
    return about.title or f"{TITLE} {len(entries):,} classes"


def language_of(entries: Sequence[Entry], about: About) -> str | None:
    """Return the language, by default detected from the texts; None if it cannot be."""
    return about.language or language(chain.from_iterable(entry.descriptors for entry in entries))


def authors_of(entries: Iterable[Entry]) -> list[str]:
    """Return who wrote, edited or reviewed the lists, as the lines name them."""
    named = chain.from_iterable((entry.by, (entry.reviewed or {}).get("by")) for entry in entries)
    return sorted({name for name in named if name})


def card(entries: Sequence[Entry], about: About, *, data: str) -> str:
    """Return the card of a folder; the hub shows the lists from its file `data`."""
    title = title_of(entries, about)
    header = {
        "license": about.licence,
        "pretty_name": title,
        "language": [code] if (code := language_of(entries, about)) else None,
        "tags": list(TAGS),
        "task_categories": ["zero-shot-image-classification"],
        "size_categories": [_size(len(entries))],
        "configs": [{"config_name": "default", "data_files": data}],
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in header.items() if value), "---", ""]
    lines += [f"# {_cell(title)}", ""]
    lines += [
        "The visible features by which each class can be told apart in a photo: one line of JSON per class,"
    ]
    lines += ["with `class`, `descriptors`, and where they come from.", ""]
    lines += _table(("", ""), _facts(entries, about))
    if about.measured:
        lines += ["## Measured", "", _cell(about.measured.where), ""]
        lines += _table(about.measured.columns, about.measured.rows)
    if about.lint is not None:
        found = sorted(about.lint.items())
        lines += ["## Lint", "", "What `fieldmarks store lint` finds in the lists.", ""]
        lines += _table(("rule", "findings"), found) if found else ["Nothing.", ""]
    if about.left_out:
        lines += ["## Left out", "", *(f"- {_cell(sentence)}" for sentence in about.left_out), ""]
    lines += ["## Use", "", "With [fieldmarks](https://pypi.org/project/fieldmarks/), in this folder:", ""]
    return "\n".join([*lines, "    fieldmarks store import mine.jsonl .", ""])


def licence_of(text: str) -> str | None:
    """Return the licence named in a card's header, or None."""
    match = re.match(r"---\n(?:(?!---).*\n)*?license: (\"?)([A-Za-z0-9][\w.+-]*)\1\n", text)
    return match and match[2]


def _facts(entries: Sequence[Entry], about: About) -> list[tuple[str, object]]:
    prompts = [(entry.prompt or {}).get("name") for entry in entries]
    facts: list[tuple[str, object]] = [
        ("classes", f"{len(entries):,}"),
        ("descriptors", f"{sum(len(entry.descriptors) for entry in entries):,}"),
        ("origin", _counted(entry.origin or "typed" for entry in entries)),
    ]
    some = {
        "model": (entry.model for entry in entries),
        "prompt": (None if name is None else str(name) for name in prompts),
        "review": (entry.review for entry in entries),
    }
    absent = {"model": "no model", "prompt": "no prompt", "review": "not reviewed"}
    for term, values in some.items():
        named = [value or absent[term] for value in values]
        if set(named) - {absent[term]}:
            facts.append((term, _counted(named)))
    code = language_of(entries, about)
    own = {"language": code, "authors": ", ".join(about.authors), "source": about.source}
    licence = about.licence or "not set: ask the publisher before you use the lists"
    return [*facts, *((key, value) for key, value in own.items() if value), ("licence", licence)]


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    shown = [columns, ["---"] * len(columns), *([_cell(str(cell)) for cell in row] for row in rows)]
    return [*(f"| {' | '.join(map(str, row))} |" for row in shown), ""]


def _size(count: int) -> str:
    return next((name for most, name in _SIZES if count < most), "1M<n<10M")


def _counted(values: Any) -> str:
    return ", ".join(f"{value} ({count:,})" for value, count in Counter(values).most_common())


def _cell(text: str) -> str:
    """Return a text escaped so that it can neither end its cell nor be read as markup."""
    text = " ".join(text.split())
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>|#!" else c for c in text)
