"""Recognises the kind of a data set from its name and its files, and opens it."""

from pathlib import Path
from typing import Final

from fieldmarks.data import hf, manifest, tar
from fieldmarks.data.dataset import DataSet, DatasetSpec, expand
from fieldmarks.data.folder import open_folder
from fieldmarks.errors import EvaluationError, UsageError

TABLE_SUFFIXES: Final = (".parquet", ".arrow")
SAVED: Final = ("dataset_info.json", "dataset_dict.json")  # what `save_to_disk` writes to a folder
KINDS: Final = (
    "a folder with a folder per class, or with metadata.csv, a .csv, .tsv or .jsonl manifest, .parquet or"
    " .arrow files, .tar files (also a glob or {000..012}), or hf:NAME[:CONFIG]"
)


def open_dataset(
    dataset: str | Path,
    *,
    split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
    streaming: bool = False,
) -> DataSet:
    """Open labelled images of any kind, as `fieldmarks evaluate` reads them.

    `dataset` is a folder with a folder per class, a manifest (.csv, .tsv, .jsonl), .parquet or .arrow files,
    .tar files, or hf:NAME[:CONFIG]. With `limit`, at most that many images are used, spread evenly.
    `labels()` counts the images under each label; iterating yields an `Example` for each image, or a
    `Failure` that says what is wrong with it:

        for example in fm.open_dataset("photos", split="test"):
            print(example.label)

    Raises EvaluationError for anything that is not a data set, UsageError for an option that has no effect.
    """
    return open_spec(DatasetSpec(str(dataset), split, image_column, label_column, limit, streaming))


def open_spec(source: DatasetSpec) -> DataSet:
    """Open a data set of any kind. Raises UsageError, and EvaluationError, listing the kinds."""
    try:
        return _open(source)
    except OSError as error:
        raise EvaluationError(f"{source.spec} cannot be read: {error.strerror or error}") from error


def _open(source: DatasetSpec) -> DataSet:
    path = Path(source.name)
    name = source.name.lower()
    if source.limit is not None and source.limit < 1:
        raise EvaluationError(f"a limit of {source.limit} leaves no images: the minimum is 1")
    if name.startswith("hf:"):
        return hf.open_hub(source)
    if source.streaming:
        raise UsageError(f"streaming is for data sets on the hub, hf:NAME; {source.spec} is read from disk")
    if path.is_dir():
        return _open_folder(source, path)
    if path.suffix.lower() in manifest.MANIFEST_SUFFIXES or (
        path.suffix.lower() in manifest.OTHER_TABLES and path.is_file()
    ):
        return manifest.open_manifest(source)
    if name.endswith(tar.TAR_SUFFIXES):
        return tar.open_tars(source)
    if path.suffix in TABLE_SUFFIXES:
        return hf.open_files(source, expand(source.name, TABLE_SUFFIXES))
    there = "no data set" if path.exists() else "no such file or folder"
    raise EvaluationError(f"{source.spec}: {there}: expected {KINDS}")


def _open_folder(source: DatasetSpec, path: Path) -> DataSet:
    if listed := manifest.open_metadata(source):
        return listed
    if any((path / name).is_file() for name in SAVED):
        return hf.open_saved(source)
    deep = ("*", "*/*")
    if tables := sorted(file for form in deep for file in path.glob(form) if file.suffix in TABLE_SUFFIXES):
        return hf.open_files(source, tables)
    if any(entry.name.lower().endswith(tar.TAR_SUFFIXES) for entry in path.iterdir()):
        return tar.open_tars(source)
    if named := source.image_column or source.label_column:
        raise EvaluationError(f"{source.spec} is a folder of images and has no column {named!r}")
    return open_folder(source)
