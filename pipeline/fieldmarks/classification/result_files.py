"""Results as text and as files: CSV, JSON lines, Parquet, and tasks of Label Studio.

CSV has a row for each image, `image,label,probability,runner_up,runner_up_probability,marks,labels,reason`,
and with a baseline two columns more. `label` is the class, "(unsure)", "(none of these)" or, of an image that
could not be read, "(unreadable)"; `probability` is the best class's, also where there is no label; `marks`
are as in

    tree frog: protruding eyes 25.5; a wide mouth 23.0 | owl: big eyes 24.1

`labels` is the conformal set, as in "owl; newt"; `reason` is why a calibrated threshold left no label, or why
the image could not be read.

Parquet has these columns with nulls and lists, and beside them the classes' `scores`, `abstained` and
`error`. JSON lines hold what `Prediction.to_dict` returns. Label Studio's tasks are of its basic JSON format:
the label is a prediction of its <Choices name="label" toName="image">; an image without a label has none.
Source: https://labelstud.io/guide/predictions and https://labelstud.io/guide/storage_local.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

import orjson

from fieldmarks.choices import ResultFormat
from fieldmarks.classification.engines import batched
from fieldmarks.classification.results import Failure, Mark, Prediction
from fieldmarks.errors import FieldmarksError, ReportError, StoreError, UsageError
from fieldmarks.extras import install
from fieldmarks.paths import unwritable
from fieldmarks.store import exchange
from fieldmarks.tables.writing import BOM, csv_row

COLUMNS: Final = (
    "image",
    "label",
    "probability",
    "runner_up",
    "runner_up_probability",
    "marks",
    "labels",
    "reason",
)
BASELINE_COLUMNS: Final = ("baseline", "baseline_probability")
UNREADABLE: Final = "(unreadable)"
LOCAL_FILES: Final = "/data/local-files/?d="  # where Label Studio serves files below its document root
SUFFIXES: Final[Mapping[ResultFormat, str]] = {
    "csv": ".csv",
    "jsonl": ".jsonl",
    "parquet": ".parquet",
    "label-studio": ".json",
}
_GROUP: Final = 1000  # rows of a row group, which is what writing Parquet holds in memory
_PART: Final = 1 << 20

Result = Prediction | Failure


def form_of(path: Path, asked: ResultFormat | None) -> ResultFormat:
    """Return the format of a file by its suffix. Raises UsageError for one that does not say it."""
    suffix = path.suffix.lower()
    if asked is not None:
        if asked not in SUFFIXES:
            raise UsageError(f"the format {asked} is for the terminal only: leave it out, or write no file")
        if suffix != SUFFIXES[asked]:
            raise UsageError(f"{path}: expected a name that ends in {SUFFIXES[asked]} for the format {asked}")
        return asked
    if suffix == SUFFIXES["label-studio"]:
        raise UsageError(
            f"{path}: pass --format label-studio for tasks of Label Studio, or a .jsonl file for JSON lines"
        )
    form = next((form for form, own in SUFFIXES.items() if own == suffix), None)
    if form is None:
        raise UsageError(f"{path}: expected a name that ends in .csv, .jsonl or .parquet")
    return form


def text_of(
    form: ResultFormat, results: Iterable[Result], *, baseline: bool = False, model: str = ""
) -> Iterator[str]:
    """Yield the text of some results piece by piece, with line ends; `model` made them, for Label Studio."""
    if form == "csv":
        yield BOM + csv_row((*COLUMNS, *(BASELINE_COLUMNS if baseline else ())))
        for result in results:
            yield csv_row((*csv_cells(result), *(_baseline(result) if baseline else ())))
    elif form == "jsonl":
        for result in results:
            yield jsonl(result) + "\n"
    else:
        yield "["
        for number, result in enumerate(results):
            yield (",\n" if number else "\n") + orjson.dumps(_task(result, number, model)).decode()
        yield "\n]\n"


def jsonl(result: Result) -> str:
    """Return a result as one JSON object."""
    return orjson.dumps(result.to_dict()).decode()


def journal_line(result: Result) -> str:
    """Return a result as one JSON object that also says which version of the image's file was read."""
    version = None if isinstance(result, Failure) else result.version
    return orjson.dumps(result.to_dict() | ({"file": version.to_dict()} if version else {})).decode()


def csv_cells(result: Result) -> tuple[object, ...]:
    """Return a result's cells, in the order of COLUMNS."""
    if isinstance(result, Failure):
        return result.image, UNREADABLE, *(None,) * 5, result.error
    second = result.runner_up
    return (
        result.image,
        result.shown_label,
        f"{result.best.probability:.6g}",
        second and second.name,
        second and f"{second.probability:.6g}",
        marks_text(result) or None,
        None if result.labels is None else labels_text(result.labels),
        result.reason,
    )


def marks_text(prediction: Prediction) -> str:
    """Return the marks that a prediction holds as one line, by class, strongest first."""
    by_class = prediction.explanation.by_class if prediction.explanation else ()
    return " | ".join(f"{own[0].name}: {'; '.join(map(_mark, own))}" for own in by_class)


def labels_text(labels: Iterable[str]) -> str:
    """Return a conformal set as one cell."""
    return "; ".join(labels)


def _mark(mark: Mark) -> str:
    return f"{mark.descriptor} " + (f"{mark.logit:z.1f}" if mark.z is None else f"{mark.z:+z.2f}")


def _baseline(result: Result) -> tuple[object, ...]:
    if isinstance(result, Failure) or result.baseline is None:
        return None, None
    return result.baseline.name, f"{result.baseline.probability:.6g}"


def _task(result: Result, number: int, model: str) -> dict[str, Any]:
    """Return a task of Label Studio; an image that could not be read is one without a prediction."""
    data = {"image": LOCAL_FILES + quote(result.image)}
    if isinstance(result, Failure):
        return {"data": data | {"label": UNREADABLE, "error": result.error}, "predictions": []}
    data |= {"label": result.shown_label, "marks": marks_text(result)}
    data |= {} if result.labels is None else {"labels": labels_text(result.labels)}
    data |= {"reason": result.reason} if result.reason else {}
    if result.label is None:
        return {"data": data, "predictions": []}
    choice = {
        "id": f"fieldmarks-{number}",
        "from_name": "label",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [result.label]},
    }
    prediction = {"model_version": model, "score": result.best.probability, "result": [choice]}
    return {"data": data, "predictions": [prediction]}


def write_parquet(results: Iterable[Result], sink: IO[bytes]) -> None:
    """Write results as one Parquet file. Raises ReportError without pyarrow, OSError."""
    arrow, parquet = _pyarrow()
    schema = _schema(arrow)
    with parquet.ParquetWriter(sink, schema) as writer:
        for part in batched(results, _GROUP):
            writer.write_table(arrow.Table.from_pylist([_parquet_row(row) for row in part], schema))


class ResultsFile:
    """A file that results are written to, whole or not at all; its format is its suffix's.

        file = ResultsFile(Path("out.csv"))
        file.write(classifier.stream(paths, top=2, explain=True))

    What could not be written at the end is refused when it is made: UsageError for a suffix that is no
    format's, ReportError for a file that exists (unless `force`), a folder that is missing or read-only, and
    Parquet without pyarrow.
    """

    def __init__(self, path: Path, form: ResultFormat | None = None, *, force: bool = False) -> None:
        self.path = path
        self.form = form_of(path, form)
        self.written = 0  # results in the file; none until all are
        self._force = force
        with self._refusing():
            exchange.check_new(path, force=force, remedy="choose another name, or pass --force")
        if reason := unwritable(path):
            raise ReportError(f"{path} {reason}")
        self._is_new = not path.exists()
        if self.form == "parquet":
            _pyarrow()

    def write(self, results: Iterable[Result], *, baseline: bool = False, model: str = "") -> None:
        """Write results as they come, and put the file in its place when all are there.

        Where their source ends with an error or an interruption, a new file holds those before it; a file
        that is to be replaced stays as it is. That error is then raised. Raises ReportError for a disk that
        refuses.
        """
        source = _Source(results)
        with tempfile.TemporaryFile(dir=self.path.resolve().parent) as spool:
            if self.form == "parquet":
                with self._refusing():
                    write_parquet(source, spool)
            else:
                for piece in text_of(self.form, source, baseline=baseline, model=model):
                    with self._refusing():
                        spool.write(piece.encode("utf-8", "backslashreplace"))
            if source.error is None or (self._is_new and source.count):
                with self._refusing():
                    spool.seek(0)
                    chunks = iter(lambda: spool.read(_PART), b"")
                    exchange.write_new(self.path, chunks, force=self._force)
                self.written = source.count
        if source.error is not None:
            raise source.error

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            raise ReportError(str(error)) from error
        except OSError as error:
            raise ReportError(f"{self.path} cannot be written: {error.strerror or error}") from error


class _Source:
    """Counts results, and ends where their source fails or is interrupted, with the reason as `error`."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._results = results
        self.count = 0
        self.error: KeyboardInterrupt | FieldmarksError | None = None

    def __iter__(self) -> Iterator[Result]:
        results = iter(self._results)
        while True:
            try:
                result = next(results)
            except StopIteration:
                return
            except (KeyboardInterrupt, FieldmarksError) as error:
                self.error = error
                return
            self.count += 1
            yield result


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ReportError(f"writing Parquet needs pyarrow: {install('embed')}") from error


def _schema(arrow: Any) -> Any:
    text, number = arrow.string(), arrow.float32()
    of_class: Callable[..., Any] = lambda **fields: arrow.list_(arrow.struct({"class": text, **fields}))  # noqa: E731
    return arrow.schema(
        {
            **dict(zip(COLUMNS[:5], (text, text, number, text, number), strict=True)),
            "marks": of_class(descriptor=text, logit=number, z=number),
            "scores": of_class(probability=number, logit=number),
            "abstained": text,
            "labels": arrow.list_(text),
            "reason": text,
            **dict(zip(BASELINE_COLUMNS, (text, number), strict=True)),
            "error": text,
        }
    )


def _parquet_row(result: Result) -> dict[str, Any]:
    """Return a row; what is left out of it is null."""
    if isinstance(result, Failure):
        return {"image": result.image, "error": result.error}
    row: dict[str, Any] = {"image": result.image, "label": result.label}
    row |= {"probability": result.best.probability}
    if second := result.runner_up:
        row |= {"runner_up": second.name, "runner_up_probability": second.probability}
    if result.explanation:
        row["marks"] = [mark.to_dict() for own in result.explanation.by_class for mark in own]
    if result.baseline:
        row |= zip(BASELINE_COLUMNS, (result.baseline.name, result.baseline.probability), strict=True)
    row |= {"labels": None if result.labels is None else list(result.labels), "reason": result.reason}
    return row | {"scores": [score.to_dict() for score in result.scores], "abstained": result.abstained}
