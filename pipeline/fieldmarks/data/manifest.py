"""Manifests: tables of images and labels, as .csv, .tsv or .jsonl, or as spreadsheets write them.

    image,label                               {"image": "frogs/1.jpg", "label": "tree frog"}
    frogs/1.jpg,tree frog

Paths are relative to the manifest's folder; they may point anywhere, because the user chose the manifest. A
column `split` is respected, ignoring the case of its name and values. Other columns are ignored.
"""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any, Final

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import SUFFIXES as SUFFIXES_OF_IMAGES
from fieldmarks.classification.sources import is_url, name_of, suffix_of, without_credentials
from fieldmarks.data import dataset
from fieldmarks.data.dataset import (
    IMAGE_NAMES,
    LABEL_NAMES,
    DatasetSpec,
    Example,
    Listed,
    choose_column,
    record,
    spread,
)
from fieldmarks.errors import EvaluationError
from fieldmarks.paths import read_bytes
from fieldmarks.tables import Row, Table, errors_as, parse_table
from fieldmarks.tables.table import Role, folded, role
from fieldmarks.text import counted, printable

logger = logging.getLogger(__name__)

MANIFEST_SUFFIXES: Final = frozenset({".csv", ".tsv", ".tab", ".jsonl", ".ndjson"})
OTHER_TABLES: Final = frozenset(
    {".json", ".txt", ".xlsx", ".xls", ".ods", ".numbers"}
)  # decoded, or refused with advice
MAX_BYTES: Final = 2**30  # of a manifest
_LOOKED_FOR: Final = 100  # images to look for before giving up
_MOST_FOLDERS: Final = 20
IN_FOLDER: Final = ("metadata.csv", "metadata.jsonl")  # in image folders of the `datasets` library
FILE_NAME: Final = "file_name"  # the column that such a file has


def open_manifest(source: DatasetSpec) -> Listed:
    """Read a manifest. Raises EvaluationError, with the line number, if it is not one."""
    return _open(source, Path(source.name), None)


def image_paths(path: Path) -> list[str]:
    """Return the images that a manifest lists, with or without labels, as paths that lead to them from here.

    Logs which column it took, and where images are if none is where it says. Raises EvaluationError.
    """
    table, _ = _read(path)
    columns = _columns(table, path)
    images = _called(columns, IMAGE_NAMES) or _of_role(columns, Role.IMAGE)
    if len(images) != 1:
        several = "several columns" if images else "no column"
        raise EvaluationError(f"{path}: {several} of images: call one of {dataset.listed(columns)} 'image'")
    place = columns.index(images[0])
    paths = []
    for row in table.rows:
        cell = row.cells[place]
        if not isinstance(cell, str) or not cell.strip():
            raise EvaluationError(
                f"{path}, line {row.number}: it has no image: fill it in or remove the line"
            )
        paths.append(_path_of(path, cell))
    if not paths:
        raise EvaluationError(f"{path} lists no images: write one per line")
    logger.info("%s: %s from column %r", path, counted(len(paths), "image"), images[0])
    for notice in _elsewhere(path, paths):
        logger.warning("%s: %s", path, notice)
    return paths


def open_metadata(source: DatasetSpec) -> Listed | None:
    """Read the manifest in a folder, or in the folder of one of its splits; None if there is none.

    A table without a label column, such as one beside class folders, does not count. Raises EvaluationError.
    """
    folder = Path(source.name)
    if (path := _metadata(folder, source)) is not None:
        return _open(source, path, None)
    parts = (part for part in sorted(folder.iterdir()) if part.name.casefold() in dataset.SPLITS)
    paths = {part.name: path for part in parts if (path := _metadata(part, source)) is not None}
    if not paths:
        return None
    try:
        chosen = dataset.choose_split(paths, source.split)
    except EvaluationError as error:
        raise EvaluationError(f"{folder}: {error}") from error
    notices = [] if source.split else dataset.split_notice(chosen, paths)
    return _open(replace(source, split=None), paths[chosen], chosen, notices)


def _metadata(folder: Path, source: DatasetSpec) -> Path | None:
    path = next((folder / name for name in IN_FOLDER if (folder / name).is_file()), None)
    if path is None:
        return None
    columns = _read(path)[0].columns or ()
    labelled = source.label_column in columns or bool(_called(columns, LABEL_NAMES))
    return path if labelled and _called(columns, (FILE_NAME,)) else None


def _open(source: DatasetSpec, path: Path, part: str | None, notices: Sequence[str] = ()) -> Listed:
    """Return the images of a manifest, all of which are in the split `part` unless that is None."""
    table, fingerprint = _read(path)
    columns = _columns(table, path)
    try:
        images = _called(columns, IMAGE_NAMES) or _of_role(columns, Role.IMAGE)
        labels = _called(columns, LABEL_NAMES) or _of_role(columns, Role.CLASS)
        image = choose_column("image", source.image_column, images, columns)
        label = choose_column("label", source.label_column, labels, columns)
        rows, split, others = _of_split(table, columns, source.split)
    except EvaluationError as error:
        raise EvaluationError(f"{path}: {error}") from error
    places = [columns.index(image), columns.index(label)]
    if rows and _is_image(rows[0].cells[places[1]]) and not _is_image(rows[0].cells[places[0]]):
        raise EvaluationError(
            f"{path}, line {rows[0].number}: the label {rows[0].cells[places[1]]!r:.80} is an image: if the"
            f" columns are swapped, pass --image-column {label} --label-column {image}"
        )
    records = [_record(path, row.number, *(row.cells[place] for place in places)) for row in rows]
    if not records:
        raise EvaluationError(f"{path} lists no images: write one per line")
    metadata: dict[str, Any] = {"spec": source.spec, "kind": "manifest", "split": part or split}
    metadata |= {"limit": source.limit, "image_column": image, "label_column": label}
    metadata |= {"pictures": len(records), "fingerprint": fingerprint}
    report = f"{path}: {counted(len(records), 'image')} from {table.names(places)}{table.separated()}"
    images_of_records = (
        example.image
        for example in records[:_LOOKED_FOR]
        if isinstance(example, Example) and isinstance(example.image, str)
    )
    elsewhere = _elsewhere(path, list(images_of_records))
    return Listed(metadata, spread(records, source.limit), [report, *notices, *others, *elsewhere])


def _columns(table: Table, path: Path) -> list[str]:
    """Return the names of a manifest's columns. Raises EvaluationError for what is no heading of one."""
    if table.columns is None:
        raise EvaluationError(
            f"{path}: empty: write a heading such as image,label, or JSON lines with these keys"
        )
    if any(_is_image(word) for cell in table.columns for word in str(cell).split()):
        mark = table.delimiter or ","
        raise EvaluationError(
            f"{path}, line 1: expected a heading, found an image: write image{mark}label as the first line"
        )
    columns = [column.strip() for column in table.columns]
    if twice := next((name for name, count in Counter(columns).items() if count > 1 and name), None):
        raise EvaluationError(f"{path}, line 1: two columns are called {printable(twice)!r}: rename one")
    return columns


def _elsewhere(manifest: Path, images: Sequence[str]) -> list[str]:
    """Return a notice if none of the first images exists where the manifest says, but one does elsewhere."""
    paths = [Path(image) for image in images[:_LOOKED_FOR]]
    if not paths or any(map(os.path.exists, paths)):
        return []
    first = paths[0]
    folders = [manifest.parent, *(folder for folder in sorted(manifest.parent.iterdir()) if folder.is_dir())]
    for folder in folders[:_MOST_FOLDERS]:
        for suffix in ("", *sorted(SUFFIXES_OF_IMAGES)):
            name = f"{PureWindowsPath(first.name).name}{suffix}"
            if (folder / name).is_file():
                there = (folder / name).relative_to(manifest.parent).as_posix()
                return [
                    f"none of the images exists, such as {str(first)!r}, but {there!r} does:"
                    f" write the paths relative to {manifest.parent}"
                ]
    return []


def _is_image(cell: Any) -> bool:
    """Whether a cell is a path or URL of an image."""
    return isinstance(cell, str) and suffix_of(cell.strip()) in SUFFIXES_OF_IMAGES


def _of_role(columns: Sequence[str], wanted: Role) -> list[str]:
    return [column for column in columns if role(column) is wanted]


def _read(path: Path) -> tuple[Table, str]:
    """Return the table in a file, with a heading, and the hash of its bytes. Raises EvaluationError."""
    if not path.exists():
        raise EvaluationError(f"{path}: no such file")
    data = read_bytes(path, MAX_BYTES, EvaluationError)
    with errors_as(EvaluationError):
        table = parse_table(data, str(path), path.suffix).with_heading()
    if table.rows and (table.columns is None or table.is_map):
        raise EvaluationError(f"{path}: expected objects with the keys image and label, one per line")
    return table, hashlib.sha256(data).hexdigest()


def _called(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the columns named like one of `names`, ignoring case and punctuation."""
    wanted = set(map(folded, names))
    return [column for column in columns if folded(column) in wanted]


def _of_split(
    table: Table, columns: Sequence[str], asked: str | None
) -> tuple[Sequence[Row], str | None, list[str]]:
    """Return the rows of a split, its name as first written, and a notice about the others."""
    named = _called(columns, ("split",))
    place = columns.index(named[0]) if named else None
    cells = ["" if place is None else str(row.cells[place] or "").strip() for row in table.rows]
    names: dict[str, str] = {}
    for cell in filter(None, cells):
        names.setdefault(cell.casefold(), cell)
    if asked is None and not names:
        return table.rows, None, []
    chosen = dataset.choose_split(names.values(), asked)
    rows = [row for row, cell in zip(table.rows, cells, strict=True) if cell.casefold() == chosen.casefold()]
    return rows, chosen, [] if asked else dataset.split_notice(chosen, names.values())


def _record(manifest: Path, number: int, image: Any, label: Any) -> Example | Failure:
    if not isinstance(image, str) or not image.strip():
        return Failure(f"{manifest}, line {number}", "it has no image")
    if is_url(image):
        return Failure(
            without_credentials(image),
            f"{manifest}, line {number}: an address: download it and pass the file",
        )
    path = _path_of(manifest, image)
    return record(path, label, name_of(path, number))


def _path_of(manifest: Path, image: str) -> str:
    """Return the path of an image that a manifest names; an address stays as it is."""
    image = image.strip()
    return image if is_url(image) else str(manifest.parent / _as_path(manifest.parent, image))


def _as_path(folder: Path, image: str) -> str:
    """Return a relative path with Windows backslashes turned into slashes, unless such a file exists."""
    if "\\" not in image or PureWindowsPath(image).is_absolute():
        return image
    try:
        return image if (folder / image).exists() else image.replace("\\", "/")
    except (OSError, ValueError):  # reading it later reports the error
        return image
