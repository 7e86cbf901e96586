"""Sets of image embeddings in files: the layout of clip-retrieval, written and read; NumPy archives, read.

clip-retrieval's folder holds img_emb/img_emb_N.npy, each (rows, D), and metadata/metadata_N.parquet with
a column image_path in step. Vectors are written as float32 of unit length. An archive (.npz) holds one
array (N, D) under "embeddings", or only one array of numbers, and names (N,) under "images" if there are.
True classes, where they are known, stand in a column "label" of the metadata, or in an array "labels" (N,)
of the archive: texts, or indices into an array "classes".

Files are untrusted: what a file declares is checked first, and rows are read a part at a time.
"""

import io
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Final

import numpy as np

from fieldmarks import choices
from fieldmarks.choices import Device, DType, checks_keywords
from fieldmarks.classification import arrays
from fieldmarks.classification.arrays import Stored
from fieldmarks.classification.embedder import Clip, Embedded, open_embedder
from fieldmarks.classification.results import Failure
from fieldmarks.classification.scoring import normalize
from fieldmarks.classification.sources import ImageInput, inputs_of
from fieldmarks.errors import ImageError, StoreError
from fieldmarks.extras import install
from fieldmarks.hub import model_id
from fieldmarks.paths import open_regular
from fieldmarks.store import durable
from fieldmarks.text import printable

logger = logging.getLogger(__name__)

ROWS: Final = 10_000  # rows of a part, which is what writing holds in memory
READ_ROWS: Final = 1024  # rows read at once
MAX_DIM: Final = 65_536  # numbers of an embedding; a CLIP has 512 to 1,280
MAX_NAME: Final = 4_096  # characters of an image's name or label; Linux has no longer path
MAX_CLASSES: Final = 1_000_000
MODEL_KEY: Final = b"fieldmarks.model"  # beside it, fieldmarks.dtype and fieldmarks.engine

Array = np.ndarray[Any, Any]
Part = tuple[Stored, Iterator[str | None] | None, Path]  # vectors (rows, D), names in step, the file


class EmbeddingSet:
    """Embeddings of images in a folder or an archive, with the images' names; read as it is iterated over.

        embeddings = fm.embed("photos/", "photos-embedded", clip="openai/clip-vit-base-patch32")
        classifier.score(embeddings)
        embeddings.vectors.shape  # (N, D)

    Everything raises ImageError for a file that cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> "EmbeddingSet":
        """Return a set to write to: a new or empty folder."""
        _pyarrow("writing metadata")
        _check_new(Path(path))
        return cls(path)

    def __repr__(self) -> str:
        return f"<EmbeddingSet {str(self.path)!r}>"

    def __iter__(self) -> Iterator[Embedded | Failure]:
        """Yield the embeddings in order, a Failure for one that is not one.

        Without names, an image is called by its file and row.
        """
        for vectors, names, source in _parts(self.path):
            yield from _rows(vectors, names, source)

    def labels(self) -> Iterator[str | None]:
        """Yield the label that the file itself gives to each row, in step with them; None for no label."""
        yield from _folder_labels(self.path) if self.path.is_dir() else _archive_labels(self.path)

    @property
    def model(self) -> str | None:
        """The model that made a folder's embeddings, by id or absolute path, if its metadata says so."""
        first = next(iter(sorted((self.path / "metadata").glob("*.parquet"))), None)
        if first is None:
            return None
        with _Table(first) as table:
            value = table.metadata.get(MODEL_KEY)
        return model_id(value.decode("utf-8", "replace")) if value else None

    @property
    def images(self) -> list[str]:
        """The images' names, in the order of `vectors`."""
        return [row.image for row in self if isinstance(row, Embedded)]

    @property
    def vectors(self) -> Array:
        """The embeddings as one float32 array (N, D), without those that are no numbers or all zeros."""
        rows = [row.vector for row in self if isinstance(row, Embedded)]
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row for each image, its name as the index. Raises ImportError."""
        return import_module("pandas").DataFrame(self.vectors, index=self.images)

    def write(
        self, rows: Iterable[Embedded | Failure], metadata: Mapping[str, str]
    ) -> Iterator[Embedded | Failure]:
        """Write embeddings to a new folder part by part, and yield everything on as it comes.

        `metadata` is how they were made, as `Encoder.metadata` has it. A run that ends early, by whatever
        cause, leaves what it has embedded so far as whole parts. Raises ImageError as `create`, if the folder
        cannot be written or the embeddings are not of one length.
        """
        folder = self.create(self.path).path
        places = [folder / "img_emb", folder / "metadata", folder]
        is_new = not folder.exists()
        try:
            for place in places:
                place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"{folder} cannot be written: {error.strerror or error}") from error
        number, part, ended = 0, list[Embedded](), False
        try:
            for result in rows:
                if isinstance(result, Embedded):
                    if part and len(result.vector) != len(part[0].vector):
                        raise ImageError(
                            f"{result.image} has an embedding of a different length from those before it"
                        )
                    part.append(result)
                yield result
                if len(part) == ROWS:
                    full, part = part, []  # not written twice where the disk refuses it
                    number += 1
                    _write_part(full, number - 1, folder, metadata)
            ended = True
        finally:
            if part or (ended and not number):
                _write_part(part, number, folder, metadata)
            elif not number:  # it failed before there was anything: the next try finds the place as it was
                for place in places if is_new else places[:2]:
                    with suppress(OSError):
                        place.rmdir()


@checks_keywords
def embed(
    images: str | os.PathLike[str] | Iterable[ImageInput],
    out: str | os.PathLike[str],
    *,
    clip: Clip | None = None,
    device: Device = "auto",
    dtype: DType = "auto",
    engine: choices.Engine = "auto",
    batch: int | None = None,
    cache: bool = False,
) -> EmbeddingSet:
    """Embed images into a new folder, in the layout of clip-retrieval, and return it as a set.

    images: a folder, a glob, or a list of paths, folders, PIL images, arrays and tensors.
    out: a new or empty folder. The vectors are float32 of unit length.
    clip, device, dtype, engine, batch, cache: as of a Classifier.

        embeddings = embed("photos/", "photos-embedded", clip="openai/clip-vit-base-patch32")

    Images that cannot be read are logged as warnings and left out. Raises ImageError for a folder that is
    not new or cannot be written, ModelError, UsageError.
    """
    target = EmbeddingSet.create(out)
    embedder = open_embedder(clip, device=device, dtype=dtype, engine=engine, batch=batch, cache=cache)
    for result in target.write(embedder.images(inputs_of(images)), embedder.encoder.metadata):
        if isinstance(result, Failure):
            logger.warning("%s: %s", result.image, result.error)
    return target


def _check_new(folder: Path) -> None:
    """Raise ImageError unless a folder is new or empty."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ImageError(f"{folder} already exists and is not a folder; choose a new one")
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except OSError as error:
        raise ImageError(f"{folder} cannot be used: {error.strerror or error}") from error
    if names & {"img_emb", "metadata"}:
        raise ImageError(f"{folder} already holds embeddings; choose a new folder")
    if names:
        raise ImageError(f"{folder} already exists and is not empty; choose a new folder")


def _write_part(part: list[Embedded], number: int, folder: Path, metadata: Mapping[str, str]) -> None:
    """Write a part's names first: a part without vectors is no part."""
    arrow, parquet = _pyarrow("writing metadata")
    rows = normalize(np.stack([row.vector for row in part])) if part else np.empty((0, 0), np.float32)
    table = arrow.table({"image_path": arrow.array([row.image for row in part], arrow.string())})
    table = table.replace_schema_metadata({f"fieldmarks.{key}": value for key, value in metadata.items()})
    names, vectors = io.BytesIO(), io.BytesIO()
    parquet.write_table(table, names)
    np.save(vectors, rows)  # (rows, D)
    try:
        durable.replace(folder / "metadata" / f"metadata_{number:04d}.parquet", [names.getvalue()])
        durable.replace(folder / "img_emb" / f"img_emb_{number:04d}.npy", [vectors.getvalue()])
    except StoreError as error:
        raise ImageError(str(error)) from error


def _parts(path: Path) -> Iterator[Part]:
    if path.is_dir():
        yield from _folder(path)
    elif path.is_file():
        yield from _archive(path)
    else:
        raise ImageError(f"{path}: no such file or folder of embeddings")


def _rows(vectors: Stored, names: Iterator[str | None] | None, source: Path) -> Iterator[Embedded | Failure]:
    at = 0
    for part in vectors.parts(READ_ROWS):
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite
            numbers = part.astype(np.float32)  # (rows, D)
            finite, marked = np.all(np.isfinite(numbers), axis=1), np.any(numbers, axis=1)  # (rows,) each
        own = [*islice(names, len(numbers))] if names else []
        for row, vector in enumerate(numbers):
            name = (own[row] if row < len(own) else None) or f"{source}#{at + row}"
            if not finite[row]:
                yield Failure(name, "its embedding contains NaN or infinity")
            elif not marked[row]:
                yield Failure(name, "its embedding is all zeros")
            else:
                yield Embedded(name, vector)
        at += len(numbers)


def _check_vectors(vectors: Stored, source: Path) -> None:
    shape = vectors.shape
    if len(shape) != 2 or vectors.dtype.kind != "f":
        raise ImageError(f"{source} holds {shape} of {vectors.dtype}; expected a float array (N, D)")
    if shape[0] and not 0 < shape[1] <= MAX_DIM:
        raise ImageError(f"{source} holds embeddings of {shape[1]:,} numbers; expected 1 to {MAX_DIM:,}")


def _folder(folder: Path) -> Iterator[Part]:
    for file in _files(folder):
        metadata = _metadata(file)
        vectors = arrays.from_file(file)
        _check_vectors(vectors, file)
        yield vectors, _names(metadata, vectors.shape[0]) if metadata.exists() else None, file


def _files(folder: Path) -> list[Path]:
    files = sorted((folder / "img_emb").glob("*.npy"), key=_number)
    if not files:
        raise ImageError(f"{folder} has no img_emb/*.npy; expected a folder written by `fieldmarks embed`")
    return files


def _metadata(part: Path) -> Path:
    return part.parents[1] / "metadata" / f"metadata_{part.stem.rpartition('_')[2]}.parquet"


def _names(metadata: Path, rows: int) -> Iterator[str | None]:
    with _Table(metadata) as table:
        table.require_rows(rows)
        yield from table.texts("image_path")


def _folder_labels(folder: Path) -> Iterator[str | None]:
    for file in _files(folder):
        metadata, rows = _metadata(file), arrays.from_file(file).shape[0]
        if not metadata.exists():
            yield from repeat(None, rows)
            continue
        with _Table(metadata) as table:
            table.require_rows(rows)
            yield from table.texts("label") if "label" in table.columns else repeat(None, rows)


class _Table:
    """A parquet file, a context manager; everything raises ImageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrow, self._library = _pyarrow(f"reading {path}")
        try:
            self._file = os.fdopen(open_regular(path), "rb")
        except OSError as error:
            raise self._error(error) from error
        try:
            self._parquet = self._library.ParquetFile(self._file)
            self._schema = self._parquet.schema_arrow
        except Exception as error:  # damage makes the library stumble in every way
            self._file.close()
            raise self._error(error) from error

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._parquet.close()
        self._file.close()

    @property
    def metadata(self) -> Mapping[bytes, bytes]:
        """What the file says of itself."""
        return self._schema.metadata or {}

    @property
    def columns(self) -> Sequence[str]:
        """The columns' names."""
        names: list[str] = self._schema.names
        return names

    def require_rows(self, rows: int) -> None:
        """Raise ImageError where the file does not have so many rows."""
        if self._parquet.metadata.num_rows != rows:
            raise ImageError(f"{self._path} has {self._parquet.metadata.num_rows:,} rows; expected {rows:,}")

    def texts(self, name: str) -> Iterator[str | None]:
        """Yield a column's values as texts, None for null, a part of them in memory."""
        if name not in self.columns:
            raise ImageError(f"{self._path} has no column {name}")
        types = self._arrow.types
        kind = self._schema.field(name).type
        if types.is_dictionary(kind):
            kind = kind.value_type
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)):
            raise ImageError(f"{self._path} has a column {name} of {kind}; expected strings")
        try:
            if types.is_integer(kind):
                for batch in self._parquet.iter_batches(READ_ROWS, columns=[name]):
                    yield from (
                        None if value is None else str(value) for value in batch.column(0).to_pylist()
                    )
                return
            self._check_dictionaries(name)
            for batch in self._parquet.iter_batches(READ_ROWS, columns=[name]):
                values = batch.column(0)
                if types.is_dictionary(values.type):
                    values = values.dictionary_decode()
                self._check_lengths(values, name)
                yield from values.to_pylist()
        except ImageError:
            raise
        except Exception as error:  # as above
            raise self._error(error) from error

    def _check_dictionaries(self, name: str) -> None:
        """Raise ImageError for a long text that a column may repeat without limit, from its dictionaries."""
        probe = self._library.ParquetFile(
            self._file, metadata=self._parquet.metadata, read_dictionary=[name]
        )  # which leaves a dictionary as it is, where reading it would write out each repetition
        for group in range(probe.num_row_groups):
            for batch in probe.iter_batches(1, row_groups=[group], columns=[name]):
                self._check_lengths(batch.column(0).dictionary, name)
                break

    def _check_lengths(self, values: Any, name: str) -> None:
        longest = self._arrow.compute.max(self._arrow.compute.utf8_length(values)).as_py() or 0
        if longest > MAX_NAME:
            raise ImageError(f"{self._path} has a string of {longest:,} characters in {name}")

    def _error(self, error: Exception) -> ImageError:
        return ImageError(f"{self._path} cannot be read: {_reason(error)}")


def _archive(path: Path) -> Iterator[Part]:
    with arrays.Archive(path) as archive:
        vectors = _vectors(archive, path)
        rows = vectors.shape[0]
        names = archive.get("images")
        if names is not None and names.shape != (rows,):
            raise ImageError(
                f"{path} holds {vectors.shape} of {vectors.dtype} with names {names.shape};"
                f" expected {rows:,} names"
            )
        yield vectors, None if names is None else _texts(names, path), path


def _vectors(archive: arrays.Archive, path: Path) -> Stored:
    """Return the embeddings of an archive, by their name or as the only array that may be some."""
    stored = archive.get("embeddings")
    if stored is None:
        stored_arrays = [array for name in archive.names if (array := archive.get(name)) is not None]
        floats = [array for array in stored_arrays if len(array.shape) == 2 and array.dtype.kind == "f"]
        if len(floats) != 1:
            raise ImageError(
                f"{path} has {len(floats)} arrays of embeddings; name the right one 'embeddings'"
            )
        (stored,) = floats
    _check_vectors(stored, path)
    return stored


def _archive_labels(path: Path) -> Iterator[str | None]:
    with arrays.Archive(path) as archive:
        rows = _vectors(archive, path).shape[0]
        stored = archive.get("labels")
        if stored is None:
            yield from repeat(None, rows)
            return
        if stored.shape != (rows,) or stored.dtype.kind not in "iuU":
            raise ImageError(
                f"{path} holds labels {stored.shape} of {stored.dtype}; expected {rows:,} strings or integers"
            )
        classes = archive.get("classes") if stored.dtype.kind in "iu" else None
        if classes is None:
            yield from _texts(stored, path)
            return
        if len(classes.shape) != 1 or classes.shape[0] > MAX_CLASSES or classes.dtype.kind not in "iuU":
            raise ImageError(
                f"{path} holds classes {classes.shape} of {classes.dtype}; expected strings (C,)"
            )
        names = [*_texts(classes, path)]
        for part in stored.parts(READ_ROWS):
            if not ((part >= 0) & (part < len(names))).all():
                raise ImageError(f"{path} holds labels outside its {len(names):,} classes")
            yield from (names[index] for index in part.tolist())


def _texts(stored: Stored, path: Path) -> Iterator[str]:
    """Yield the values of an array (N,) as texts. Raises ImageError for texts without bound."""
    if stored.dtype.itemsize > 4 * MAX_NAME or stored.dtype.kind not in "iufSU":
        raise ImageError(f"{path} holds {stored.dtype}; expected strings of at most {MAX_NAME:,} characters")
    for part in stored.parts(READ_ROWS):
        if stored.dtype.kind == "U":
            yield from part.tolist()
        elif stored.dtype.kind == "S":
            yield from (value.decode("utf-8", "backslashreplace") for value in part.tolist())
        else:
            yield from map(str, part.tolist())


def _number(file: Path) -> tuple[int, str]:
    number = re.search(r"(\d{1,18})$", file.stem)
    return int(number[1]) if number else 0, file.name


def _reason(error: Exception) -> str:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return printable(" ".join(str(reason).split())[:300]) or type(error).__name__


def _pyarrow(purpose: str) -> tuple[Any, Any]:
    """Import what the metadata needs. Raises ImageError where it is not installed."""
    try:
        import_module("pyarrow.compute")
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImageError(f"{purpose} needs pyarrow: {install('embed')}") from error
