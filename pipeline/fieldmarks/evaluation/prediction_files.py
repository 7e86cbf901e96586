"""Predictions of an evaluation as a Parquet file: a row for each image, beside the JSON of the figures.

    image            label      photo      photo rank   descriptors   descriptors rank
    frogs/1.jpg      tree frog  wood frog  1            tree frog     0

`label` is the true class; under an arm's name stands the class that it predicted, and its rank is the number
of classes that scored above the true one. An arm of several random draws has such columns for each, as in
"waffle 0" and "waffle 0 rank". The JSON then says "predictions": the file's name, and holds neither images,
labels, predictions nor ranks; it is read together with the file beside it.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.errors import EvaluationError, StoreError
from fieldmarks.extras import install
from fieldmarks.store import exchange

Indices = NDArray[np.int32]

SUFFIX: Final = ".parquet"
MAX_ROWS: Final = 2**25  # that are read again
_GROUP: Final = 2**16  # rows of a row group, which is what writing holds in memory
_PART: Final = 1 << 20


def write_predictions(
    path: Path,
    images: Iterable[str],
    labels: Indices,
    classes: Sequence[str],
    runs: Mapping[str, tuple[Indices, Indices]],
    *,
    force: bool = False,
) -> None:
    """Write predictions, whole or not at all. Raises EvaluationError.

    `labels` (N,) are the class indices of the images; `runs` are, by `column_of`, the predicted classes (N,)
    and the ranks of the true ones (N,).
    """
    arrow, parquet = packages("writing predictions")
    names, of_class = iter(images), arrow.array(classes, arrow.string())
    fields: list[tuple[str, Any]] = [("image", arrow.string()), ("label", arrow.string())]
    for column in runs:
        fields += [(column, arrow.string()), (f"{column} rank", arrow.int32())]
    schema = arrow.schema(fields)

    def table(part: slice) -> Any:
        columns = [arrow.array(islice(names, len(labels[part])), arrow.string())]
        columns.append(of_class.take(arrow.array(labels[part])))
        for predicted, rank in runs.values():
            columns += [of_class.take(arrow.array(predicted[part])), arrow.array(rank[part])]
        return arrow.Table.from_arrays(columns, schema=schema)

    try:
        with tempfile.TemporaryFile(dir=path.resolve().parent) as spool:
            with parquet.ParquetWriter(spool, schema) as writer:
                for at in range(0, len(labels), _GROUP):
                    writer.write_table(table(slice(at, at + _GROUP)))
            spool.seek(0)
            exchange.write_new(path, iter(lambda: spool.read(_PART), b""), force=force)
    except StoreError as error:
        raise EvaluationError(str(error)) from error
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written: {error.strerror or error}") from error


def with_predictions(plain: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return an evaluation's plain object with what its file of predictions holds. Raises EvaluationError."""
    name = plain["predictions"]
    if not isinstance(name, str) or Path(name).name != name:
        raise EvaluationError(f"predictions {name!r:.80} is not the name of a file beside it")
    path = folder / name
    arrow, parquet = packages(f"reading {path}")
    index = {name: number for number, name in enumerate(plain["classes"])}
    try:
        file = parquet.ParquetFile(path)
        if file.metadata.num_rows > MAX_ROWS:
            raise ValueError(f"it has {file.metadata.num_rows:,} rows; {MAX_ROWS:,} can be read")
        table = file.read()
        columns = {column: table.column(column).to_pylist() for column in table.column_names}
        arms = [dict(arm, runs=list(_runs(arm, columns, index))) for arm in plain["arms"]]
        labels = [index[label] for label in columns["label"]]
    except FileNotFoundError as error:
        raise EvaluationError(
            f"{path}: no such file; it has the predictions of this evaluation and belongs beside it"
        ) from error
    except (OSError, KeyError, TypeError, ValueError, arrow.ArrowException) as error:
        raise EvaluationError(f"{path} does not hold the predictions of this evaluation: {error}") from error
    rest = {key: value for key, value in plain.items() if key != "predictions"}
    return rest | {"images": columns["image"], "labels": labels, "arms": arms}


def _runs(
    arm: Mapping[str, Any], columns: Mapping[str, list[Any]], index: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    for number, run in enumerate(arm["runs"]):
        column = column_of(arm["name"], number, len(arm["runs"]))
        predicted = [index[name] for name in columns[column]]
        yield run | {"predicted": predicted, "rank": columns[f"{column} rank"]}


def column_of(arm: str, number: int, runs: int) -> str:
    """Return the column of an arm's run, by its number of so many."""
    return arm if runs == 1 else f"{arm} {number}"


def packages(purpose: str) -> tuple[Any, Any]:
    """Return pyarrow and its module for Parquet. Raises EvaluationError where they are not installed."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise EvaluationError(f"{purpose} needs pyarrow: {install('embed')}") from error
