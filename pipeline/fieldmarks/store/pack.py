"""A pack: a folder that publishes the current lists, with a card and a machine-readable description.

    DIR/descriptors.jsonl     the current line of each class, in order: what `hf:NAME` and `store import` read
    DIR/descriptors.parquet   the same as a table, which the hub shows
    DIR/README.md             the card
    DIR/croissant.json        Croissant 1.1 (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html)

What belongs to the machine rather than the lists is left out: endpoint addresses and the folders of models
and data sets, which reveal a private network or disk layout (only a folder's last name stays), the history,
and the keys that undo relies on. People's names and the models' raw answers are included unless excluded.
"""

import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from fieldmarks.errors import StoreError
from fieldmarks.paths import last_name, read_text
from fieldmarks.records import IMPORTED, Entry
from fieldmarks.store import durable
from fieldmarks.store.card import TAGS, About, card, language_of, licence_of, title_of
from fieldmarks.store.exchange import current_entries
from fieldmarks.store.file import Store
from fieldmarks.store.lines import encode
from fieldmarks.store.remote import CARD, DATA, MAX_CARD
from fieldmarks.text import cut_list

TABLE: Final = "descriptors.parquet"
CROISSANT: Final = "croissant.json"
PLACES: Final = "Addresses of endpoints and folders of the machine, which may be private."
ANSWERS: Final = "The raw answers of the models."
AUTHORS: Final = "The names of those who wrote, edited or reviewed the lists."
# The columns of the table: whether each holds a list, and its description.
COLUMNS: Final[Mapping[str, tuple[bool, str]]] = {
    "class": (False, "The class."),
    "descriptors": (True, "The visible features by which the class can be recognised, one text each."),
    "ids": (True, "Other names of the class in data sets: a folder, a WordNet id, a number."),
    "confused_with": (True, "The classes that it is most easily confused with."),
    "parent": (False, "A broader class that it belongs to."),
    "rejected": (True, "Descriptors that a person has removed."),
    "origin": (False, "How the list came about: generated, curated, imported, or empty if it was typed."),
    "model": (False, "The language model that was asked."),
    "prompt": (False, "The name of the prompt."),
    "review": (False, "A person's mark of the list: approved or unsure."),
    "note": (False, "Why the list was changed."),
    "by": (False, "Who changed it."),
    "at": (False, "When it was made, in UTC."),
}
_BRACES: Final = str.maketrans("{}", "()")
_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    **{
        term: f"cr:{term}"
        for term in (
            *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field"),
            *("fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset"),
            *(
                "jsonPath",
                "key",
                "md5",
                "parentField",
                "path",
                "recordSet",
                "references",
                "regex",
                "repeated",
            ),
            *("replace", "samplingRate", "separator", "source", "subField", "transform"),
        )
    },
}


def published(entry: Entry, *, authors: bool, answers: bool) -> Entry:
    """Return a line as a pack holds it; see the module's docstring."""
    measured = entry.measured and {
        **entry.measured,
        **{key: last_name(entry.measured[key]) for key in ("data", "model")},
    }
    weights = entry.weights and {**entry.weights, "data": last_name(entry.weights["data"])}
    bare = replace(
        entry,
        weights=weights,
        endpoint=None,
        model=last_name(entry.model) if entry.model else None,
        measured=measured,
        undo=False,
        redo=False,
        compacted=False,
        change=None,
        position=None,
    )
    if not answers:
        bare = replace(bare, answer=None, answers=())
    if not authors:
        reviewed = {**entry.reviewed, "by": None} if entry.reviewed else None
        bare = replace(bare, by=None, reviewed=reviewed)
    return bare


def pack(
    store: Store, folder: Path, about: About, *, authors: bool = True, answers: bool = True
) -> list[Path]:
    """Write a pack of a store atomically and return its files.

    Raises StoreError if the folder exists, the store has no classes or has imported lists but no licence is
    given, or pyarrow is not installed.
    """
    check_new(folder)
    entries = current_entries(store)
    if about.licence is None:
        imported = [
            repr(entry.name)
            for entry in entries
            if any(line.origin == IMPORTED for line in store.history(entry.name))
        ]
        if imported:
            remedy = "find out the licence of their source and pass --licence ID, such as cc-by-4.0"
            raise StoreError(f"{store.name} has imported lists ({cut_list(imported, 3)}): {remedy}")
    lines = [published(entry, authors=authors, answers=answers) for entry in entries]
    reasons = (
        (PLACES, any(_has_places(*pair) for pair in zip(entries, lines, strict=True))),
        (ANSWERS, not answers and any(entry.answer is not None or entry.answers for entry in entries)),
        (AUTHORS, not authors),
    )
    about = replace(about, left_out=[sentence for sentence, applies in reasons if applies])
    contents = {DATA: b"".join(map(encode, lines)), TABLE: _parquet(lines)}
    contents[CROISSANT] = _json(croissant(lines, about, contents))
    contents[CARD] = card(lines, about, data=TABLE).encode()
    _write_folder(folder, contents)
    return [folder / name for name in contents]


def licence_of_pack(store: Store) -> str | None:
    """Return the licence named in the card of a pack whose file is this store, or None."""
    if store.path.name != DATA:
        return None
    try:
        return licence_of(read_text(store.path.with_name(CARD), MAX_CARD, StoreError))
    except StoreError:
        return None


def _has_places(entry: Entry, line: Entry) -> bool:
    """Whether a line has addresses or folders that the published line does not."""
    return bool(entry.endpoint) or (entry.model, entry.measured) != (line.model, line.measured)


def check_new(folder: Path) -> None:
    """Raise StoreError if the folder exists: a pack never overwrites."""
    if os.path.lexists(folder):
        raise StoreError(f"{folder} already exists: choose another name")


def croissant(entries: Sequence[Entry], about: About, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the description of a pack's files and its table's columns, in Croissant 1.1."""
    title = title_of(entries, about)
    forms = {DATA: "application/jsonlines", TABLE: "application/x-parquet"}
    facts = {
        "license": about.licence,
        "creator": [{"@type": "Person", "name": name} for name in about.authors] or None,
        "inLanguage": language_of(entries, about),
        "isBasedOn": about.source,
    }
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": title,
        "description": f"The visible features by which {len(entries):,} classes can be told apart in photos.",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        **{key: value for key, value in facts.items() if value},
        "citeAs": _citation(title, about.authors),
        "keywords": list(TAGS),
        "datePublished": f"{datetime.now(UTC):%Y-%m-%d}",
        "version": "1.0.0",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "contentSize": f"{len(content)} B",
                "encodingFormat": forms[name],
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in contents.items()
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "classes",
                "name": "classes",
                "description": "One record per class.",
                "key": {"@id": "classes/class"},
                "field": [_field(name, is_list, text) for name, (is_list, text) in COLUMNS.items()],
            }
        ],
    }


def _citation(title: str, authors: Sequence[str]) -> str:
    """Return a BibTeX entry for the pack."""
    fields = {"title": title, "author": " and ".join(authors), "year": f"{datetime.now(UTC):%Y}"}
    shown = (f"{key} = {{{value.translate(_BRACES)}}}" for key, value in fields.items() if value)
    return f"@misc{{descriptors, {', '.join(shown)}}}"


def _field(name: str, is_list: bool, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"classes/{name}",
        "name": name,
        "description": description,
        "dataType": "sc:Text",
        **({"isArray": True, "arrayShape": "-1"} if is_list else {}),
        "source": {"fileObject": {"@id": TABLE}, "extract": {"column": name}},
    }


def _parquet(entries: Sequence[Entry]) -> bytes:
    """Return the lines as a Parquet file. Raises StoreError if pyarrow is not installed."""
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise StoreError("store pack needs the library pyarrow: pip install 'fieldmarks[embed]'") from error
    text = arrow.string()
    kinds = {name: arrow.list_(text) if is_list else text for name, (is_list, _) in COLUMNS.items()}
    rows = []
    for entry in entries:
        line = entry.to_dict()
        row = {name: line.get(name, [] if is_list else None) for name, (is_list, _) in COLUMNS.items()}
        prompt = (entry.prompt or {}).get("name")
        rows.append(row | {"prompt": None if prompt is None else str(prompt)})
    file = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows, arrow.schema(list(kinds.items()))), file)
    return file.getvalue()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a new folder atomically. Raises StoreError."""
    draft = folder.with_name(f".{folder.name[:200]}.{secrets.token_hex(8)}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        for name, content in contents.items():
            with (draft / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        check_new(folder)
        draft.rename(folder)
    except (OSError, ValueError) as error:
        raise durable.unwritable(folder, error) from error
    finally:
        with suppress(OSError, ValueError):
            shutil.rmtree(draft)
    durable.sync_folder(folder.parent)
