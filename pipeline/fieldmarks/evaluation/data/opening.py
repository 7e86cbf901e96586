"""Which kind of data set is meant, by what it is called and what lies there."""

from pathlib import Path
from typing import Final

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data import files, hub, manifests, shards
from fieldmarks.evaluation.data.dataset import DataSet, Source
from fieldmarks.evaluation.data.folders import open_folder
from fieldmarks.evaluation.data.manifests import open_manifest
from fieldmarks.evaluation.data.patterns import expand
from fieldmarks.evaluation.data.tars import open_tars

KINDS: Final = (
    "a folder with a folder per class, or with metadata.csv, a .csv, .tsv or .jsonl manifest, .parquet or"
    " .arrow files, .tar files (also a glob or {000..012}), or hf:NAME[:CONFIG]"
)


def open_dataset(source: Source) -> DataSet:
    """Open a data set of any kind. Raises EvaluationError that says what could be meant."""
    try:
        return _open(source)
    except OSError as error:
        raise EvaluationError(f"{source.spec} cannot be read: {error.strerror or error}") from error


def _open(source: Source) -> DataSet:
    path = Path(source.spec)
    name = source.spec.lower()
    if source.limit is not None and source.limit < 1:
        raise EvaluationError(f"a limit of {source.limit} leaves no picture: 1 is the least")
    if name.startswith(hub.HUB):
        return hub.open_hub(source)
    if path.is_dir():
        return _open_folder(source, path)
    if path.suffix.lower() in manifests.SUFFIXES or (
        path.suffix.lower() in manifests.OTHER_TABLES and path.is_file()
    ):
        return open_manifest(source)
    if name.endswith(shards.SUFFIXES):
        return open_tars(source)
    if path.suffix in files.SUFFIXES:
        return files.open_files(source, expand(source.spec, files.SUFFIXES))
    there = "no data set" if path.exists() else "no such file or folder"
    raise EvaluationError(f"{source.spec}: {there}: {KINDS} is meant")


def _open_folder(source: Source, path: Path) -> DataSet:
    if manifest := manifests.open_metadata(source):
        return manifest
    if files.is_saved(path):
        return files.open_saved(source)
    if tables := files.table_files(path):
        return files.open_files(source, tables)
    if any(one.name.lower().endswith(shards.SUFFIXES) for one in path.iterdir()):
        return open_tars(source)
    if named := source.image_column or source.label_column:
        raise EvaluationError(f"{source.spec} is a folder of pictures and has no column {named!r}")
    return open_folder(source)
