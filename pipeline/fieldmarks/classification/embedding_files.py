"""Files of image embeddings, read: folders in clip-retrieval's layout and NumPy archives.

A folder holds img_emb/img_emb_N.npy, each (rows, D), and metadata/metadata_N.parquet with a column
image_path in step; a manifest (see embedding_manifest.py) says which of them count. An archive (.npz) holds
one array (N, D) under "embeddings", or only one array of numbers, and names (N,) under "images" if there are.
True classes, where they are known, stand in a column "label" of the metadata, or in an array "labels" (N,)
of the archive: texts, or indices into an array "classes".

Files are untrusted: what a file declares is checked first, and rows are read a part at a time.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import numpy as np

from fieldmarks.classification import arrays
from fieldmarks.classification.arrays import Stored
from fieldmarks.classification.embedding_manifest import REMEDY, Manifest, Shard
from fieldmarks.errors import ImageError
from fieldmarks.extras import install
from fieldmarks.paths import open_regular
from fieldmarks.text import printable

READ_ROWS: Final = 1024  # rows read at once
MAX_DIM: Final = 65_536  # numbers of an embedding; a CLIP has 512 to 1,280
MAX_NAME: Final = 4_096  # characters of an image's name or label; Linux has no longer path
MAX_CLASSES: Final = 1_000_000

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a set: their vectors (rows, D), and the parquet file or archive with the rest."""

    vectors: Stored
    beside: Path | None
    source: Path
    sha256: str = ""  # of the vectors' file, where a manifest says it

    @property
    def rows(self) -> int:
        """How many embeddings it has."""
        return self.vectors.shape[0]

    def require_digest(self) -> None:
        """Raise ImageError where the vectors' file is not the one that the manifest names."""
        if self.sha256:
            with self.source.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
                    raise ImageError(f"{self.source} is damaged: {REMEDY}")

    def names(self) -> Iterator[str]:
        """Yield the images' names; without one, an image is called by its file and row."""
        for row, name in enumerate(self._texts("image_path", "images")):
            yield name or f"{self.source}#{row}"

    def names_at(self, rows: Sequence[int]) -> list[str]:
        """Return the images' names of some rows."""
        if self.beside is None or self.beside == self.source:
            names = list(self.names())
            return [names[row] for row in rows]
        with Table(self.beside) as table:
            table.require_rows(self.rows)
            chosen = table.texts_at("image_path", rows)
        return [name or f"{self.source}#{row}" for row, name in zip(rows, chosen, strict=True)]

    def digests(self) -> Iterator[str | None]:
        """Yield the SHA-256 of each image's file, None where it is not known."""
        return self._texts("sha256", "sha256")

    def errors(self) -> Iterator[str | None]:
        """Yield why a row is no embedding, None where it is one, or the file does not say."""
        return self._texts("error", "errors")

    def labels(self) -> Iterator[str | None]:
        """Yield the label that the file itself gives to each row, None for no label."""
        return self._texts("label", "labels")

    def _texts(self, column: str, array: str) -> Iterator[str | None]:
        if self.beside is None:
            yield from repeat(None, self.rows)
        elif self.beside == self.source:
            yield from _of_archive(self.source, array, self.rows)
        else:
            with Table(self.beside) as table:
                table.require_rows(self.rows)
                is_needed = column == "image_path"
                present = is_needed or column in table.columns
                yield from table.texts(column) if present else repeat(None, self.rows)


def parts(path: Path) -> list[Part]:
    """Return the parts of a folder or archive, in order; only their headers are read. Raises ImageError."""
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _archive(path)
    raise missing(path)


def missing(path: Path) -> ImageError:
    """Return the error for a path that is neither a file nor a folder."""
    return ImageError(
        f"{path}: no such file or folder of embeddings; check the path, or write a set with"
        " `fieldmarks embed IMAGES --out SET`"
    )


def _check_vectors(vectors: Stored, source: Path) -> None:
    shape = vectors.shape
    if len(shape) != 2 or vectors.dtype.kind != "f":
        raise ImageError(f"{source} holds {shape} of {vectors.dtype}; expected a float array (N, D)")
    if shape[0] and not 0 < shape[1] <= MAX_DIM:
        raise ImageError(f"{source} holds embeddings of {shape[1]:,} numbers; expected 1 to {MAX_DIM:,}")


def _folder(folder: Path) -> list[Part]:
    manifest = Manifest.read(folder)
    if manifest is not None:
        return [shard_part(folder, shard, manifest.dim) for shard in manifest.shards]
    files = sorted((folder / "img_emb").glob("*.npy"), key=_number)
    if not files:
        raise ImageError(f"{folder} has no img_emb/*.npy; expected a folder written by `fieldmarks embed`")
    return [_unlisted(file) for file in files]


def shard_part(folder: Path, shard: Shard, dim: int) -> Part:
    """Return a part that the manifest names. Raises ImageError where its files are not as it says."""
    vectors, metadata = folder / shard.vectors, folder / shard.metadata
    for file in (vectors, metadata):
        if not file.exists():
            raise ImageError(f"{folder} is incomplete: {file.name} is missing: {REMEDY}")
    try:
        part = _unlisted(vectors)
    except ImageError as error:
        raise ImageError(f"{error}: {REMEDY}") from error
    if part.vectors.shape != (shard.rows, dim):
        raise ImageError(
            f"{vectors} holds {part.vectors.shape}, and the manifest says ({shard.rows}, {dim}): {REMEDY}"
        )
    return replace(part, sha256=shard.sha256)


def _unlisted(file: Path) -> Part:
    metadata = file.parents[1] / "metadata" / f"metadata_{file.stem.rpartition('_')[2]}.parquet"
    vectors = arrays.from_file(file)
    _check_vectors(vectors, file)
    return Part(vectors, metadata if metadata.exists() else None, file)


class Table:
    """A parquet file, a context manager; everything raises ImageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrow, self._library = pyarrow_for(f"reading {path}")
        try:
            self._file = os.fdopen(open_regular(path), "rb")
        except OSError as error:
            raise self._error(error) from error
        try:
            self._parquet = self._library.ParquetFile(self._file, page_checksum_verification=True)
            self._schema = self._parquet.schema_arrow
        except Exception as error:  # damage makes the library stumble in every way
            self._file.close()
            raise self._error(error) from error

    def __enter__(self) -> "Table":
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
                for values in self._columns(name):
                    yield from (None if value is None else str(value) for value in values.to_pylist())
                return
            self._check_dictionaries(name)
            for values in self._columns(name):
                if types.is_dictionary(values.type):
                    values = values.dictionary_decode()
                self._check_lengths(values, name)
                yield from values.to_pylist()
        except ImageError:
            raise
        except Exception as error:  # as above
            raise self._error(error) from error

    def _columns(self, name: str) -> Iterator[Any]:
        """Yield a column's values in parts. Raises ImageError for fewer or more than the table has rows."""
        rows, expected = 0, self._parquet.metadata.num_rows
        for batch in self._parquet.iter_batches(READ_ROWS, columns=[name]):
            rows += len(batch)
            if rows <= expected:
                yield batch.column(0)
        if rows != expected:
            raise ImageError(f"{self._path} has {rows:,} values of {name}; expected {expected:,}: {REMEDY}")

    def texts_at(self, name: str, rows: Sequence[int]) -> list[str | None]:
        """Return a column's values in some rows as texts; other groups of rows are not read."""
        kind = self._schema.field(name).type if name in self.columns else None
        if not (self._arrow.types.is_string(kind) or self._arrow.types.is_large_string(kind)):
            values = list(self.texts(name))
            return [values[row] for row in rows]
        try:
            reader, texts = self._dictionary_reader(name), dict[int, str | None]()
            stop = 0
            for group in range(reader.num_row_groups):
                start, stop = stop, stop + reader.metadata.row_group(group).num_rows
                own = sorted({row for row in rows if start <= row < stop})
                if own:
                    column = reader.read_row_group(group, columns=[name], use_threads=False).column(0)
                    for chunk in column.chunks:
                        self._check_lengths(chunk.dictionary, name)
                    values = column.take([row - start for row in own]).to_pylist()
                    texts.update(zip(own, values, strict=True))
            return [texts[row] for row in rows]
        except ImageError:
            raise
        except Exception as error:  # as above
            raise self._error(error) from error

    def integers(self, name: str) -> Array:
        """Return a column's values as int64 (rows,), -1 for null."""
        try:
            column = self._parquet.read(columns=[name]).column(0)
            if not self._arrow.types.is_integer(column.type):
                raise ImageError(f"{self._path} has a column {name} of {column.type}; expected integers")
            filled: Array = self._arrow.compute.fill_null(column, -1).to_numpy().astype(np.int64)
            return filled
        except ImageError:
            raise
        except Exception as error:  # as above
            raise self._error(error) from error

    def _check_dictionaries(self, name: str) -> None:
        """Raise ImageError for a long text that a column may repeat without limit, from its dictionaries."""
        reader = self._dictionary_reader(name)
        for group in range(reader.num_row_groups):
            for batch in reader.iter_batches(1, row_groups=[group], columns=[name]):
                self._check_lengths(batch.column(0).dictionary, name)
                break

    def _dictionary_reader(self, name: str) -> Any:
        """Return a reader that leaves a column's dictionary as it is, and does not write out repetitions."""
        return self._library.ParquetFile(
            self._file,
            metadata=self._parquet.metadata,
            read_dictionary=[name],
            page_checksum_verification=True,
        )

    def _check_lengths(self, values: Any, name: str) -> None:
        longest = self._arrow.compute.max(self._arrow.compute.utf8_length(values)).as_py() or 0
        if longest > MAX_NAME:
            raise ImageError(f"{self._path} has a string of {longest:,} characters in {name}")

    def _error(self, error: Exception) -> ImageError:
        return ImageError(f"{self._path} cannot be read: {reason_of(error).removesuffix('.')}: {REMEDY}")


def _archive(path: Path) -> list[Part]:
    with arrays.Archive(path) as archive:
        vectors = _vectors(archive, path)
        names = archive.get("images")
        if names is not None and names.shape != vectors.shape[:1]:
            raise ImageError(
                f"{path} holds {vectors.shape} of {vectors.dtype} with names {names.shape};"
                f" expected {vectors.shape[0]:,} names"
            )
        return [Part(vectors, path, path)]


def _of_archive(path: Path, name: str, rows: int) -> Iterator[str | None]:
    with arrays.Archive(path) as archive:
        stored = archive.get(name)
        if stored is None:
            yield from repeat(None, rows)
        elif name == "images":
            yield from _texts(stored, path)
        else:
            yield from _archive_labels(archive, stored, path, rows)


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


def _archive_labels(archive: arrays.Archive, stored: Stored, path: Path, rows: int) -> Iterator[str]:
    if stored.shape != (rows,) or stored.dtype.kind not in "iuU":
        raise ImageError(
            f"{path} holds labels {stored.shape} of {stored.dtype}; expected {rows:,} strings or integers"
        )
    classes = archive.get("classes") if stored.dtype.kind in "iu" else None
    if classes is None:
        yield from _texts(stored, path)
        return
    if len(classes.shape) != 1 or classes.shape[0] > MAX_CLASSES or classes.dtype.kind not in "iuU":
        raise ImageError(f"{path} holds classes {classes.shape} of {classes.dtype}; expected strings (C,)")
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


def reason_of(error: Exception) -> str:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return printable(" ".join(str(reason).split())[:300]) or type(error).__name__


def pyarrow_for(purpose: str) -> tuple[Any, Any]:
    """Import what the metadata needs. Raises ImageError where it is not installed."""
    try:
        import_module("pyarrow.compute")
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImageError(f"{purpose} needs pyarrow: {install('embed')}") from error
