"""Tables on this disk: parquet and arrow files, and folders of the `datasets` library.

A parquet file is read where it lies, a few rows at a time, and not copied to a cache first.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data import splits
from fieldmarks.evaluation.data.dataset import Source
from fieldmarks.evaluation.data.library import Loaded, choose, errors, from_splits, library, opened, quiet
from fieldmarks.evaluation.data.tables import Table

SUFFIXES: Final = (".parquet", ".arrow")
_SAVED: Final = ("dataset_info.json", "dataset_dict.json")  # what save_to_disk leaves in a folder
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
            with errors(path), import_module("pyarrow.parquet").ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH, columns=list(columns), use_threads=False):
                    yield from batch.to_pylist()


def open_saved(source: Source) -> Table:
    """Open a folder that the library's `save_to_disk` wrote. Raises EvaluationError."""
    datasets = library()
    with errors(source.spec), quiet(datasets):
        found = datasets.load_from_disk(source.spec)
    parts = found if isinstance(found, datasets.DatasetDict) else {str(found.split or "all"): found}
    return from_splits(source, parts, {"kind": "saved"})


def open_files(source: Source, files: Sequence[Path]) -> Table:
    """Open parquet or arrow files, each of the split in its name or folder. Raises EvaluationError."""
    if len({path.suffix for path in files}) > 1:
        raise EvaluationError(f"{source.spec} holds parquet and arrow files: name those of one kind")
    parts: dict[str, list[Path]] = {}
    for path in files:
        parts.setdefault(_split_of(path), []).append(path)
    split, notices = choose(source, list(parts))
    with errors(source.spec):
        rows = _arrow(source.spec, parts[split]) if files[0].suffix == ".arrow" else _parquet(parts[split])
        sizes = [path.stat().st_size for path in parts[split]]
    about = {"kind": files[0].suffix[1:], "files": [path.name for path in parts[split]], "bytes": sizes}
    table = opened(source, rows, split, about, notices)
    beside = tuple(dict.fromkeys(path.parent for path in parts[split]))
    folder = Path(source.spec) if Path(source.spec).is_dir() else beside[0]
    return replace(table, folder=folder, beside=(*beside, folder))


def table_files(folder: Path) -> list[Path]:
    """Return the parquet and arrow files in a folder or one below, sorted."""
    return sorted(path for deep in ("*", "*/*") for path in folder.glob(deep) if path.suffix in SUFFIXES)


def is_saved(folder: Path) -> bool:
    """Whether a folder is one that `save_to_disk` wrote."""
    return any((folder / name).is_file() for name in _SAVED)


def _split_of(path: Path) -> str:
    """Return the split that a file's name has in it, or that its folder is called."""
    folder = path.parent.name.casefold()
    found = _SPLIT_IN_NAME.search(path.stem.casefold())
    return found[1] if found else folder if folder in splits.NAMES else "all"


def _parquet(files: Sequence[Path]) -> Parquet:
    features = library().Features
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
    datasets = library()
    parts = [datasets.Dataset.from_file(str(path)) for path in files]
    whole = datasets.concatenate_datasets(parts)
    return Loaded(spec, whole, whole.features, len(whole))
