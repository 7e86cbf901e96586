"""The `datasets` library: imported when it is needed, kept quiet, its errors in one line.

Nothing of a stranger's code runs, and no picture is decoded by the library: ours decides what a picture is.
"""

import gc
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data import splits
from fieldmarks.evaluation.data.dataset import Source
from fieldmarks.evaluation.data.tables import Rows, Table, open_table
from fieldmarks.pretrained import one_line


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of a data set that the library has loaded or streams."""

    spec: str
    dataset: Any
    features: Mapping[str, Any]
    count: int | None

    def read(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows' cells of some columns, pictures undecoded. Raises EvaluationError."""
        datasets = library()
        with errors(self.spec), quiet(datasets):
            rows = iter(_undecoded(self.dataset, columns, datasets))
            try:
                yield from rows
            finally:
                rows.close()
                gc.collect()  # else Arrow's threads end the process with an abort, now and then


def _undecoded(dataset: Any, columns: Sequence[str], datasets: Any) -> Any:
    """Return columns of a data set, pictures as they are: a stream has a switch for all, else each column."""
    if isinstance(dataset, datasets.IterableDataset):
        return dataset.decode(False).select_columns(list(columns))  # the other way round decodes all the same
    chosen = dataset.select_columns(list(columns))
    for name, feature in chosen.features.items():
        if isinstance(feature, datasets.Image):
            chosen = chosen.cast_column(name, datasets.Image(decode=False))
    return chosen


def from_splits(source: Source, parts: Mapping[str, Any], about: Mapping[str, Any]) -> Table:
    """Return the table of the split that is meant. Raises EvaluationError."""
    split, notices = choose(source, [str(name) for name in parts])
    chosen = parts[split]
    features = chosen.features
    if features is None:
        raise EvaluationError(f"{source.spec} does not tell its columns: leave out --streaming")
    count = len(chosen) if hasattr(chosen, "__len__") else None
    if about.get("fingerprint") is None:
        about = {**about, "fingerprint": getattr(chosen, "_fingerprint", None)}
    return opened(source, Loaded(source.spec, chosen, features, count), split, about, notices)


def opened(source: Source, rows: Rows, split: str, about: Mapping[str, Any], notices: list[str]) -> Table:
    """Return the table of some rows, its columns found. Raises EvaluationError with the data set's name."""
    try:
        return open_table(source, rows, split, {"spec": source.spec, **about}, notices)
    except EvaluationError as error:
        raise EvaluationError(f"{source.spec}: {error}") from error


def choose(source: Source, names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the split that is meant and what to tell of it. Raises EvaluationError."""
    try:
        split = splits.choose(names, source.split)
    except EvaluationError as error:
        raise EvaluationError(f"{source.spec}: {error}") from error
    return split, [] if source.split else splits.told(split, names)


@contextmanager
def errors(where: object) -> Iterator[None]:
    """Turn whatever the libraries stumble over into EvaluationError."""
    try:
        yield
    except (EvaluationError, GeneratorExit):
        raise
    except Exception as error:
        raise EvaluationError(f"{where} cannot be read as a data set: {one_line(error)}") from error


@contextmanager
def quiet(datasets: Any) -> Iterator[None]:
    """Keep the library's bars and advice off stderr while it works."""
    hub = import_module("huggingface_hub.utils")
    bars, hub_bars = datasets.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    levels = [(one, one.get_verbosity()) for one in (datasets.logging, hub.logging)]
    datasets.disable_progress_bars()
    hub.disable_progress_bars()
    for one, _ in levels:
        one.set_verbosity(logging.CRITICAL)  # what is wrong is raised as well
    try:
        yield
    finally:
        for one, level in levels:
            one.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
        if hub_bars:
            hub.enable_progress_bars()


def library() -> Any:
    """Import the `datasets` library. Raises EvaluationError where it is not installed."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise EvaluationError(
            "this data set needs the library `datasets`: pip install 'fieldmarks[data]'"
        ) from error
