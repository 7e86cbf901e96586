"""Image embeddings in files: the layout of clip-retrieval, written and read, and NumPy archives, read.

clip-retrieval's folder holds img_emb/img_emb_N.npy, each (rows, D), and metadata/metadata_N.parquet with
a column image_path in step. Vectors are written as float32 of unit length. An archive (.npz) holds one
array (N, D) under "embeddings", or only one array of numbers, and names (N,) under "images" if there are.
True classes, where they are known, stand in a column "label" of the metadata, or in an array "labels" (N,)
of the archive: texts, or indices into an array "classes".
"""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import numpy as np

from fieldmarks.classification.embeddings import Embedded
from fieldmarks.classification.results import Failure
from fieldmarks.classification.scoring import normalize
from fieldmarks.errors import ImageError

ROWS: Final = 10_000  # rows of a part, which is what writing holds in memory
READ_ROWS: Final = 1024  # rows read at once
MAX_ARCHIVE: Final = 16 * 2**30  # bytes of an archive once unpacked
MODEL_KEY: Final = b"fieldmarks.model"  # beside it, fieldmarks.dtype and fieldmarks.engine

Array = np.ndarray[Any, Any]
Part = tuple[Array, list[str] | None, Path]  # vectors (rows, D), names, the file


def write(
    embedded: Iterable[Embedded | Failure], folder: Path, about: Mapping[str, str]
) -> Iterator[Embedded | Failure]:
    """Write embeddings to a new folder part by part, and yield everything on as it comes.

    `about` is how they were made, as `Encoder.about` tells it.
    Raises ImageError if the folder holds embeddings already, cannot be written, or pyarrow is missing.
    """
    _pyarrow("writing metadata")
    if (folder / "img_emb").exists() or (folder / "metadata").exists():
        raise ImageError(f"{folder} holds embeddings already: name a new folder")
    number, part = 0, list[Embedded]()
    try:
        for name in ("img_emb", "metadata"):
            (folder / name).mkdir(parents=True)
        for one in embedded:
            yield one
            part += [one] if isinstance(one, Embedded) else []
            if len(part) == ROWS:
                _write_part(part, number, folder, about)
                number, part = number + 1, []
        if part or not number:
            _write_part(part, number, folder, about)
    except OSError as error:
        raise ImageError(f"{folder} cannot be written: {error.strerror or error}") from error


def _write_part(part: list[Embedded], number: int, folder: Path, about: Mapping[str, str]) -> None:
    arrow, parquet = _pyarrow("writing metadata")
    rows = normalize(np.stack([one.vector for one in part])) if part else np.empty((0, 0), np.float32)
    np.save(folder / "img_emb" / f"img_emb_{number:04d}.npy", rows)  # (rows, D)
    table = arrow.table({"image_path": arrow.array([one.image for one in part], arrow.string())})
    table = table.replace_schema_metadata({f"fieldmarks.{key}": value for key, value in about.items()})
    parquet.write_table(table, folder / "metadata" / f"metadata_{number:04d}.parquet")


def read(path: Path) -> Iterator[Embedded | Failure]:
    """Yield the embeddings of a folder or an archive, with their pictures' names.

    Without names, a picture is called by its file and row. Raises ImageError for anything else.
    """
    if not (path.is_dir() or path.is_file()):
        raise ImageError(f"{path}: no such file or folder of embeddings")
    try:
        parts = _folder(path) if path.is_dir() else _archive(path)
        for vectors, names, source in parts:
            yield from _rows(vectors, names, source)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ImageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def labels(path: Path) -> Iterator[str | None]:
    """Yield the label that the file itself gives to each row, in step with `read`; None where it has none.

    Raises ImageError for labels that are not one a row.
    """
    try:
        yield from _folder_labels(path) if path.is_dir() else _archive_labels(path)
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise ImageError(f"the labels of {path} cannot be read: {' '.join(str(error).split())}") from error


def model_of(path: Path) -> str | None:
    """Return the model that made a folder's embeddings, if its metadata tells. Raises ImageError."""
    first = next(iter(sorted((path / "metadata").glob("*.parquet"))), None)
    if first is None:
        return None
    _, parquet = _pyarrow(f"reading {first}")
    try:
        value = (parquet.read_schema(first).metadata or {}).get(MODEL_KEY)
    except (OSError, ValueError) as error:
        raise ImageError(f"{first} cannot be read: {' '.join(str(error).split())}") from error
    return value.decode("utf-8", "replace") if value else None


def _rows(vectors: Array, names: list[str] | None, source: Path) -> Iterator[Embedded | Failure]:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or (names is not None and len(names) != len(vectors)):
        told = "" if names is None else f" with {len(names)} names"
        raise ImageError(f"{source} holds {vectors.shape} of {vectors.dtype}{told}: floats (N, D) are meant")
    for at in range(0, len(vectors), READ_ROWS):
        with np.errstate(over="ignore"):  # what overflows is not finite
            numbers = np.array(vectors[at : at + READ_ROWS], dtype=np.float32)  # (rows, D)
        finite, marked = np.all(np.isfinite(numbers), axis=1), np.any(numbers, axis=1)  # (rows,) each
        for row, vector in enumerate(numbers):
            name = f"{source}#{at + row}" if names is None else names[at + row]
            if not finite[row]:
                yield Failure(name, "its embedding holds NaN or infinity")
            elif not marked[row]:
                yield Failure(name, "its embedding is all noughts")
            else:
                yield Embedded(name, vector)


def _folder(folder: Path) -> Iterator[Part]:
    for file in _parts(folder):
        metadata = _metadata(file)
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
        yield vectors, _names(metadata) if metadata.exists() else None, file


def _parts(folder: Path) -> list[Path]:
    files = sorted((folder / "img_emb").glob("*.npy"), key=_number)
    if not files:
        raise ImageError(f"{folder} has no img_emb/*.npy: a folder as `fieldmarks embed` writes is meant")
    return files


def _metadata(part: Path) -> Path:
    return part.parents[1] / "metadata" / f"metadata_{part.stem.rpartition('_')[2]}.parquet"


def _names(metadata: Path) -> list[str]:
    return [str(name) for name in _column(metadata, "image_path")]


def _column(metadata: Path, name: str) -> list[Any]:
    _, parquet = _pyarrow(f"reading {metadata}")
    with parquet.ParquetFile(metadata) as file:  # `read_table` would load pandas where it is installed
        values: list[Any] = file.read(columns=[name]).column(name).to_pylist()
    return values


def _folder_labels(folder: Path) -> Iterator[str | None]:
    for file in _parts(folder):
        metadata, rows = _metadata(file), len(np.load(file, mmap_mode="r", allow_pickle=False))
        _, parquet = _pyarrow(f"reading {metadata}") if metadata.exists() else (None, None)
        if parquet is None or "label" not in parquet.read_schema(metadata).names:
            yield from repeat(None, rows)
        else:
            yield from (None if one is None else str(one) for one in _column(metadata, "label"))


def _archive_labels(path: Path) -> Iterator[str | None]:
    rows = len(next(_archive(path))[0])
    with np.load(path, allow_pickle=False) as archive:
        if "labels" not in archive.files:
            yield from repeat(None, rows)
            return
        told = archive["labels"]
        classes = archive["classes"] if "classes" in archive.files and told.dtype.kind in "iu" else None
    if told.shape != (rows,) or told.dtype.kind not in "iuU":
        raise ImageError(
            f"{path} holds labels {told.shape} of {told.dtype}: {rows} texts or integers are meant"
        )
    if classes is not None and not ((told >= 0) & (told < len(classes))).all():
        raise ImageError(f"{path} holds labels outside of its {len(classes)} classes")
    yield from (str(one if classes is None else classes[one]) for one in told)


def _archive(path: Path) -> Iterator[Part]:
    with zipfile.ZipFile(path) as packed:
        if sum(one.file_size for one in packed.infolist()) > MAX_ARCHIVE:
            raise ImageError(f"{path} is too large: {MAX_ARCHIVE} bytes unpacked are the most")
    with np.load(path, allow_pickle=False) as archive:
        arrays = [key for key in archive.files if key == "embeddings"] or [
            key for key in archive.files if archive[key].ndim == 2 and archive[key].dtype.kind == "f"
        ]
        if len(arrays) != 1:
            raise ImageError(
                f"{path} has {len(arrays)} arrays of embeddings: call the one meant 'embeddings'"
            )
        names = [str(name) for name in archive["images"]] if "images" in archive.files else None
        yield archive[arrays[0]], names, path


def _number(file: Path) -> tuple[int, str]:
    found = re.search(r"(\d+)$", file.stem)
    return int(found[1]) if found else 0, file.name


def _pyarrow(purpose: str) -> tuple[Any, Any]:
    """Import what the metadata needs. Raises ImageError where it is not installed."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImageError(f"{purpose} needs pyarrow: pip install 'fieldmarks[embed]'") from error
