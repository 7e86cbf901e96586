"""Data sets read by the `datasets` library: parquet and arrow files, folders it saved, and hf:NAME[:CONFIG].

Columns are found by type, rows stay undecoded, and no untrusted code runs: our own code decides what an image
is. A parquet file is read in place, a few rows at a time, and not copied to a cache first. A row contains an
image's bytes, or only names a file. Such a name comes from whoever made the table, and would be read from the
user's disk, so it may lead only into the data set's own folder or download. The library is imported lazily
and kept quiet, and its errors are shortened to one line.
"""

import gc
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, Protocol

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import MAX_BYTES, Blob, read_bytes
from fieldmarks.data import dataset
from fieldmarks.data.dataset import (
    IMAGE_NAMES,
    LABEL_NAMES,
    DatasetSpec,
    Example,
    choose_column,
    record,
    taken,
)
from fieldmarks.errors import EvaluationError, ImageError
from fieldmarks.extras import install
from fieldmarks.hub import one_line

NO_BYTES: Final = (
    "its row names an image file instead of containing it, which works only for hub data sets that are"
    " downloaded: leave out --streaming, write a table that contains its images (save_to_disk does), or"
    " evaluate the folder that they are in"
)
NOT_THERE: Final = (
    "its row names a file that is not in the data set's folder, {}: move the images there, or list them in a"
    " .csv, which may name any file"
)


class Rows(Protocol):
    """Rows of a table, from a file or a stream."""

    @property
    def features(self) -> Mapping[str, Any]:
        """The features of the columns, as the `datasets` library has them."""

    @property
    def count(self) -> int | None:
        """The number of rows, if it is known before they are read."""

    def read(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield each row's cells in some columns, images undecoded."""


@dataclass(frozen=True, slots=True)
class Table:
    """A data set of rows; see `DataSet`."""

    metadata: Mapping[str, Any]
    notices: Sequence[str]
    rows: Rows
    image: str
    label: str
    name: str  # of the split, used to name images
    limit: int | None
    folder: Path | None = None  # where files that rows name may be
    beside: tuple[Path, ...] = ()  # the folders of the table, to which such names are relative

    @property
    def is_indexed(self) -> bool:
        """Whether the rows are on disk; each pass over a stream downloads it."""
        return self.rows.count is not None

    def labels(self) -> Counter[str]:
        """The number of images under each label; only the label column is read."""
        rows = self._taken([self.label])
        records = (self._record(Blob(f"{self.name}#{number}", b""), row[self.label]) for number, row in rows)
        return Counter(entry.label for entry in records if isinstance(entry, Example))

    def __iter__(self) -> Iterator[Example | Failure]:
        for number, row in self._taken([self.image, self.label]):
            image = self._image(row[self.image], f"{self.name}#{number}")
            yield image if isinstance(image, Failure) else self._record(image, row[self.label])

    def _taken(self, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the numbered rows within the limit: spread evenly, or the first if the count is unknown."""
        count = self.rows.count
        limit = self.limit if self.limit is None or count is None or self.limit < count else None
        for number, row in enumerate(self.rows.read(columns)):
            if count is None and limit is not None and number >= limit:
                return
            if count is None or taken(number, count, limit):
                yield number, row

    def _image(self, value: Any, name: str) -> Blob | Failure:
        """Return a cell's image, named by its row and, if known, its file."""
        cell = value if isinstance(value, Mapping) else {"path" if isinstance(value, str) else "bytes": value}
        path, data = cell.get("path"), cell.get("bytes")
        if isinstance(path, str) and (file := _last(path)):
            name = f"{name}/{file}"
        if isinstance(data, bytes) and len(data) > MAX_BYTES:
            return Failure(name, f"too large: {len(data)} bytes, the limit is {MAX_BYTES}")
        if isinstance(data, bytes):
            return Blob(name, data)
        if not path or not isinstance(path, str):
            return Failure(name, "its row has no image")
        if self.folder and (inside := self._inside(path, self.folder)):
            return _file(inside, name)
        return Failure(name, NOT_THERE.format(self.folder) if self.beside else NO_BYTES)

    def _inside(self, path: str, folder: Path) -> Path | None:
        """Return the file that a row names, if it is in a folder once all links are followed."""
        for place in self.beside or (Path(),):
            for name in dict.fromkeys((path, path.replace("\\", "/"))):
                try:
                    file = (place / name).resolve()
                    if file.is_relative_to(folder.resolve()) and (file.exists() or not self.beside):
                        return file
                except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a symlink loop
                    continue
        return None

    def _record(self, image: Blob, value: Any) -> Example | Failure:
        names = getattr(self.rows.features[self.label], "names", None)  # of a ClassLabel
        if names is not None and isinstance(value, int):
            value = names[value] if 0 <= value < len(names) else None
        return record(image, value, image.name)


def open_table(
    source: DatasetSpec, rows: Rows, split: str, metadata: Mapping[str, Any], notices: list[str]
) -> Table:
    """Find the image and label columns of a table. Raises EvaluationError, listing candidates."""
    columns = list(rows.features)
    image = choose_column("image", source.image_column, _images(rows.features), columns)
    label = choose_column("label", source.label_column, _labels(rows.features), columns)
    feature = rows.features[label]
    if not (_is_named(feature) or _is_text(feature) or _is_whole_number(feature)):
        raise EvaluationError(
            f"the column {label!r} holds {_type(feature)}, not class names: pass a column of strings or"
            " whole numbers with --label-column, or write the labels as ClassLabel"
        )
    if source.limit is not None and rows.count is None:
        notices = [*notices, f"streaming: using the first {source.limit} images, in the order of the stream"]
    chosen = {"split": split, "image_column": image, "label_column": label, "limit": source.limit}
    return Table({**metadata, **chosen}, notices, rows, image, label, split, source.limit)


def _images(features: Mapping[str, Any]) -> list[str]:
    """Return the columns of type Image; if none, those named like images, of bytes or else of paths."""
    typed = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    called = [name for name in features if name.casefold() in IMAGE_NAMES]
    return (
        typed
        or [name for name in called if _is_bytes(features[name])]
        or [name for name in called if _is_text(features[name])]
    )


def _labels(features: Mapping[str, Any]) -> list[str]:
    """Return the columns of type ClassLabel; if none, those named like labels, of text or else any."""
    typed = [name for name, feature in features.items() if _is_named(feature)]
    called = [name for name in features if name.casefold() in LABEL_NAMES]
    return typed or [name for name in called if _is_text(features[name])] or called


def _is_named(feature: Any) -> bool:
    return type(feature).__name__ == "ClassLabel" and bool(feature.names)


def _is_text(feature: Any) -> bool:
    return _type(feature) in {"string", "large_string"}


def _is_whole_number(feature: Any) -> bool:
    return _type(feature).removeprefix("u").startswith("int")


def _is_bytes(feature: Any) -> bool:
    whole = feature.get("bytes") if isinstance(feature, Mapping) else feature
    return _type(whole) in {"binary", "large_binary"}


def _type(feature: Any) -> str:
    return str(getattr(feature, "dtype", type(feature).__name__))


def _file(path: Path, name: str) -> Blob | Failure:
    try:
        return Blob(name, read_bytes(path))
    except ImageError as error:
        return Failure(name, str(error))


def _last(path: str) -> str:
    return PureWindowsPath(PurePosixPath(path).name).name


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of a data set that the library has loaded or streams."""

    spec: str
    dataset: Any
    features: Mapping[str, Any]
    count: int | None

    def read(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield each row's cells in some columns, images undecoded. Raises EvaluationError."""
        datasets = library()
        with errors(self.spec), quiet(datasets):
            rows = iter(_undecoded(self.dataset, columns, datasets))
            try:
                yield from rows
            finally:
                rows.close()
                gc.collect()  # otherwise Arrow's threads abort the process now and then


def _undecoded(dataset: Any, columns: Sequence[str], datasets: Any) -> Any:
    """Return columns of a data set, images undecoded: a stream has one switch, a table one per column."""
    if isinstance(dataset, datasets.IterableDataset):
        return dataset.decode(False).select_columns(list(columns))  # the reverse order would still decode
    chosen = dataset.select_columns(list(columns))
    for name, feature in chosen.features.items():
        if isinstance(feature, datasets.Image):
            chosen = chosen.cast_column(name, datasets.Image(decode=False))
    return chosen


def from_splits(source: DatasetSpec, parts: Mapping[str, Any], metadata: Mapping[str, Any]) -> Table:
    """Return the table of the requested split. Raises EvaluationError."""
    split, notices = choose(source, [str(name) for name in parts])
    chosen = parts[split]
    features = chosen.features
    if features is None:
        raise EvaluationError(f"{source.spec} does not declare its columns: leave out --streaming")
    count = len(chosen) if hasattr(chosen, "__len__") else None
    if metadata.get("fingerprint") is None:
        metadata = {**metadata, "fingerprint": getattr(chosen, "_fingerprint", None)}
    return opened(source, Loaded(source.name, chosen, features, count), split, metadata, notices)


def opened(
    source: DatasetSpec, rows: Rows, split: str, metadata: Mapping[str, Any], notices: list[str]
) -> Table:
    """Open a table with `open_table`. Raises EvaluationError with the data set's name."""
    try:
        return open_table(source, rows, split, {"spec": source.spec, **metadata}, notices)
    except EvaluationError as error:
        raise EvaluationError(f"{source.spec}: {error}") from error


def choose(source: DatasetSpec, names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the split to use and notices about it. Raises EvaluationError."""
    try:
        split = dataset.choose_split(names, source.split)
    except EvaluationError as error:
        raise EvaluationError(f"{source.spec}: {error}") from error
    return split, [] if source.split else dataset.split_notice(split, names)


@contextmanager
def errors(where: object) -> Iterator[None]:
    """Turn any error of the libraries into an EvaluationError."""
    try:
        yield
    except (EvaluationError, GeneratorExit):
        raise
    except Exception as error:
        raise EvaluationError(f"{where} cannot be read as a data set: {one_line(error)}") from error


@contextmanager
def quiet(datasets: Any) -> Iterator[None]:
    """Keep the library's progress bars and advice off stderr while it works."""
    hub = import_module("huggingface_hub.utils")
    bars, hub_bars = datasets.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    levels = [(log, log.get_verbosity()) for log in (datasets.logging, hub.logging)]
    datasets.disable_progress_bars()
    hub.disable_progress_bars()
    for log, _ in levels:
        log.set_verbosity(logging.CRITICAL)  # errors are also raised
    try:
        yield
    finally:
        for log, level in levels:
            log.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
        if hub_bars:
            hub.enable_progress_bars()


def library() -> Any:
    """Import the `datasets` library. Raises EvaluationError if it is not installed."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise EvaluationError(f"this data set needs the library `datasets`: {install('data')}") from error


_SPLIT_IN_NAME: Final = re.compile(rf"(?:^|[^a-z])({'|'.join(sorted(dataset.SPLITS))})(?:[^a-z]|$)")
_BATCH: Final = 16  # rows of a parquet file in memory at once, besides the pages they are in


@dataclass(frozen=True, slots=True)
class Parquet:
    """The rows of parquet files, in file order."""

    files: Sequence[Path]
    features: Mapping[str, Any]
    count: int

    def read(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield each row's cells in some columns. Raises EvaluationError."""
        for path in self.files:
            with errors(path), import_module("pyarrow.parquet").ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH, columns=list(columns), use_threads=False):
                    yield from batch.to_pylist()


def open_saved(source: DatasetSpec) -> Table:
    """Open a folder that the library's `save_to_disk` wrote. Raises EvaluationError."""
    datasets = library()
    with errors(source.spec), quiet(datasets):
        loaded = datasets.load_from_disk(source.spec)
    parts = loaded if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split or "all"): loaded}
    return from_splits(source, parts, {"kind": "saved"})


def open_files(source: DatasetSpec, files: Sequence[Path]) -> Table:
    """Open parquet or arrow files, each in the split that its name or folder says. Raises EvaluationError."""
    if len({path.suffix for path in files}) > 1:
        raise EvaluationError(f"{source.spec} holds parquet and arrow files: pass those of one kind")
    parts: dict[str, list[Path]] = {}
    for path in files:
        parts.setdefault(_split_of(path), []).append(path)
    split, notices = choose(source, list(parts))
    with errors(source.spec):
        rows = _arrow(source.name, parts[split]) if files[0].suffix == ".arrow" else _parquet(parts[split])
        sizes = [path.stat().st_size for path in parts[split]]
    metadata = {"kind": files[0].suffix[1:], "files": [path.name for path in parts[split]], "bytes": sizes}
    table = opened(source, rows, split, metadata, notices)
    beside = tuple(dict.fromkeys(path.parent for path in parts[split]))
    folder = Path(source.name) if Path(source.name).is_dir() else beside[0]
    return replace(table, folder=folder, beside=(*beside, folder))


def _split_of(path: Path) -> str:
    """Return the split in a file's name, else its folder's name if that is a split, else "all"."""
    folder = path.parent.name.casefold()
    match = _SPLIT_IN_NAME.search(path.stem.casefold())
    return match[1] if match else folder if folder in dataset.SPLITS else "all"


def _parquet(files: Sequence[Path]) -> Parquet:
    features = library().Features
    parquet = import_module("pyarrow.parquet")
    count, schemas = 0, []
    for path in files:
        with parquet.ParquetFile(path) as file:
            count += file.metadata.num_rows
            schemas.append(features.from_arrow_schema(file.schema_arrow))
    pairs = zip(files, schemas, strict=True)
    if different := next((path for path, schema in pairs if schema != schemas[0]), None):
        raise EvaluationError(
            f"{different} has different columns from {files[0]}: pass files of one data set"
        )
    return Parquet(files, schemas[0], count)


def _arrow(spec: str, files: Sequence[Path]) -> Loaded:
    datasets = library()
    parts = [datasets.Dataset.from_file(str(path)) for path in files]
    whole = datasets.concatenate_datasets(parts)
    return Loaded(spec, whole, whole.features, len(whole))


_NAME: Final = re.compile(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)


def open_hub(source: DatasetSpec) -> Table:
    """Open `hf:NAME[:CONFIG]`. Raises EvaluationError if it is not available."""
    name, _, config = source.name.removeprefix("hf:").partition(":")
    if not _NAME.fullmatch(name):
        raise EvaluationError(
            f"{source.spec!r} is not a data set on the Hugging Face Hub:"
            " expected hf:OWNER/NAME or hf:NAME[:CONFIG]"
        )
    datasets = library()
    if _is_format(name):
        raise EvaluationError(f"{source.spec}: {name} is a file format: pass the files, or hf:OWNER/NAME")
    with errors(source.spec), quiet(datasets):
        commit = _commit(name)
        parts = datasets.load_dataset(
            f"hf://datasets/{name}",  # so that a local folder of this name is not read
            config or None,
            revision=commit,
            streaming=source.streaming,
        )
    metadata = {"kind": "hub", "config": config or None, "streaming": source.streaming, "fingerprint": commit}
    return replace(from_splits(source, parts, metadata), folder=_download(name))


def _is_format(name: str) -> bool:
    """Whether the library would take a name for one of its file formats and look for such files locally."""
    return name.isidentifier() and find_spec(f"datasets.packaged_modules.{name}") is not None


def _download(name: str) -> Path:
    """Return the folder in which huggingface_hub caches a data set's files."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="dataset")


def _commit(name: str) -> str | None:
    """Ask the hub once for a data set's latest commit; None if HF_HUB_OFFLINE is set.

    Without this request, the library would retry for half a minute if there is no network. Raises
    EvaluationError.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        return HfApi().dataset_info(name, timeout=20).sha
    except RepositoryNotFoundError as error:
        raise EvaluationError(f"hf:{name}: the hub has no such data set, or it is private") from error
    except Exception as error:
        raise EvaluationError(
            f"hf:{name}: the hub does not answer ({one_line(error)}): connect, or set HF_HUB_OFFLINE=1 to use"
            " what was downloaded before"
        ) from error
