"""Tables through the `datasets` library: `hf:NAME[:CONFIG]`, and parquet and arrow files on this disk.

Nothing of a stranger's code runs, no picture is decoded by the library, and a local parquet file is read
where it lies, not copied to a cache first.
"""

import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data import splits
from fieldmarks.evaluation.data.dataset import Source
from fieldmarks.evaluation.data.tables import Table, open_table
from fieldmarks.pretrained import one_line

HUB: Final = "hf:"
SUFFIXES: Final = (".parquet", ".arrow")
_SAVED: Final = ("dataset_info.json", "dataset_dict.json")  # what save_to_disk leaves in a folder
_NAME: Final = re.compile(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)
_SPLIT_IN_NAME: Final = re.compile(rf"(?:^|[^a-z])({'|'.join(sorted(splits.NAMES))})(?:[^a-z]|$)")
_BATCH: Final = 16  # rows of a parquet file in memory at once, beside the pages they are in


@dataclass(frozen=True, slots=True)
class Parquet:
    """The rows of parquet files, in the files' order."""

    files: Sequence[Path]
    features: Mapping[str, Any]
    count: int

    def read(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows' cells of some columns. Raises EvaluationError."""
        for path in self.files:
            with _errors(path), import_module("pyarrow.parquet").ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH, columns=list(columns), use_threads=False):
                    yield from batch.to_pylist()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of a data set that the library has loaded or streams."""

    spec: str
    dataset: Any
    features: Mapping[str, Any]
    count: int | None

    def read(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows' cells of some columns, pictures undecoded. Raises EvaluationError."""
        datasets = _library()
        with _errors(self.spec), _quiet(datasets):
            chosen = self.dataset.select_columns(list(columns))
            for name in columns:
                if isinstance(self.features[name], datasets.Image):
                    chosen = chosen.cast_column(name, datasets.Image(decode=False))
            rows = iter(chosen)
            try:
                yield from rows
            finally:
                rows.close()
                gc.collect()  # else Arrow's threads end the process with an abort, now and then


def open_hub(source: Source) -> Table:
    """Open `hf:NAME[:CONFIG]`. Raises EvaluationError where it cannot be had."""
    name, _, config = source.spec.removeprefix(HUB).partition(":")
    if not _NAME.fullmatch(name):
        raise EvaluationError(
            f"{source.spec!r} is no data set of the hub: hf:OWNER/NAME or hf:NAME[:CONFIG] is meant"
        )
    datasets = _library()
    with _errors(source.spec), _quiet(datasets):
        commit = _commit(name)
        found = datasets.load_dataset(
            f"hf://datasets/{name}",  # so that a folder of this name here is not taken for it
            config or None,
            revision=commit,
            streaming=source.streaming,
        )
    about = {"kind": "hub", "config": config or None, "streaming": source.streaming, "fingerprint": commit}
    return _from_splits(source, found, about)


def open_saved(source: Source) -> Table:
    """Open a folder that the library's `save_to_disk` wrote. Raises EvaluationError."""
    datasets = _library()
    with _errors(source.spec), _quiet(datasets):
        found = datasets.load_from_disk(source.spec)
    parts = found if isinstance(found, datasets.DatasetDict) else {str(found.split or "all"): found}
    return _from_splits(source, parts, {"kind": "saved"})


def open_files(source: Source, files: Sequence[Path]) -> Table:
    """Open parquet or arrow files, each of the split in its name or folder. Raises EvaluationError."""
    if len({path.suffix for path in files}) > 1:
        raise EvaluationError(f"{source.spec} holds parquet and arrow files: name those of one kind")
    parts: dict[str, list[Path]] = {}
    for path in files:
        parts.setdefault(_split_of(path), []).append(path)
    split, notices = _choose(source, list(parts))
    with _errors(source.spec):
        rows = _arrow(source.spec, parts[split]) if files[0].suffix == ".arrow" else _parquet(parts[split])
        sizes = [path.stat().st_size for path in parts[split]]
    about = {"kind": files[0].suffix[1:], "files": [path.name for path in parts[split]], "bytes": sizes}
    return _told(source, rows, split, about, notices)


def table_files(folder: Path) -> list[Path]:
    """Return the parquet and arrow files in a folder or one below, sorted."""
    return sorted(path for deep in ("*", "*/*") for path in folder.glob(deep) if path.suffix in SUFFIXES)


def is_saved(folder: Path) -> bool:
    """Whether a folder is one that `save_to_disk` wrote."""
    return any((folder / name).is_file() for name in _SAVED)


def _from_splits(source: Source, parts: Mapping[str, Any], about: Mapping[str, Any]) -> Table:
    split, notices = _choose(source, [str(name) for name in parts])
    chosen = parts[split]
    features = chosen.features
    if features is None:
        raise EvaluationError(f"{source.spec} does not tell its columns: leave out --streaming")
    count = len(chosen) if hasattr(chosen, "__len__") else None
    if about.get("fingerprint") is None:
        about = {**about, "fingerprint": getattr(chosen, "_fingerprint", None)}
    return _told(source, Loaded(source.spec, chosen, features, count), split, about, notices)


def _told(
    source: Source, rows: Parquet | Loaded, split: str, about: Mapping[str, Any], notices: list[str]
) -> Table:
    try:
        return open_table(source, rows, split, {"spec": source.spec, **about}, notices)
    except EvaluationError as error:
        raise EvaluationError(f"{source.spec}: {error}") from error


def _choose(source: Source, names: Sequence[str]) -> tuple[str, list[str]]:
    try:
        split = splits.choose(names, source.split)
    except EvaluationError as error:
        raise EvaluationError(f"{source.spec}: {error}") from error
    return split, [] if source.split else splits.told(split, names)


def _split_of(path: Path) -> str:
    for part in (path.stem, path.parent.name):
        if found := _SPLIT_IN_NAME.search(part.casefold()):
            return found[1]
    return "all"


def _parquet(files: Sequence[Path]) -> Parquet:
    features = _library().Features
    parquet = import_module("pyarrow.parquet")
    count, schemas = 0, []
    for path in files:
        with parquet.ParquetFile(path) as file:
            count += file.metadata.num_rows
            schemas.append(features.from_arrow_schema(file.schema_arrow))
    if different := next((path for path, one in zip(files, schemas, strict=True) if one != schemas[0]), None):
        raise EvaluationError(f"{different} has other columns than {files[0]}: name files of one data set")
    return Parquet(files, schemas[0], count)


def _arrow(spec: str, files: Sequence[Path]) -> Loaded:
    datasets = _library()
    parts = [datasets.Dataset.from_file(str(path)) for path in files]
    whole = datasets.concatenate_datasets(parts)
    return Loaded(spec, whole, whole.features, len(whole))


def _commit(name: str) -> str | None:
    """Ask the hub once for a data set's newest commit; None where it may not be asked. Raises its errors.

    Without this question the library would retry for half a minute where there is no network.
    """
    from huggingface_hub import HfApi, constants

    return None if constants.HF_HUB_OFFLINE else HfApi().dataset_info(name, timeout=20).sha


@contextmanager
def _errors(where: object) -> Iterator[None]:
    """Turn whatever the libraries stumble over into EvaluationError."""
    try:
        yield
    except (EvaluationError, GeneratorExit):
        raise
    except Exception as error:
        raise EvaluationError(f"{where} cannot be read as a data set: {one_line(error)}") from error


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Keep the library's bars and advice off stderr while it works."""
    hub = import_module("huggingface_hub.utils")
    bars, hub_bars = datasets.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    levels = [(one, one.get_verbosity()) for one in (datasets.logging, hub.logging)]
    datasets.disable_progress_bars()
    hub.disable_progress_bars()
    for one, _ in levels:
        one.set_verbosity_error()
    try:
        yield
    finally:
        for one, level in levels:
            one.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
        if hub_bars:
            hub.enable_progress_bars()


def _library() -> Any:
    """Import the `datasets` library. Raises EvaluationError where it is not installed."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise EvaluationError(
            "this data set needs the library `datasets`: pip install 'fieldmarks[data]'"
        ) from error
