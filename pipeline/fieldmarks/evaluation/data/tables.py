"""Tables of pictures and labels as the `datasets` library writes them: columns found by type, rows undecoded.

A picture's bytes stand in the table. A row that only names a file comes from whoever made the table, and
would be read from the user's disk: it is followed into the data set's own download and nowhere else.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, Protocol

from fieldmarks.classification.fetch import MAX_BYTES
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import Blob, read_bytes
from fieldmarks.errors import EvaluationError, ImageError
from fieldmarks.evaluation.data.dataset import (
    IMAGE_NAMES,
    LABEL_NAMES,
    Example,
    Source,
    choose_column,
    record,
    taken,
)

NO_BYTES: Final = (
    "its row names a file and holds no bytes, and such names are followed only into a hub's data set that is"
    " downloaded whole: leave out --streaming, write a table with its pictures (save_to_disk does), or"
    " evaluate the folder that they lie in"
)


class Rows(Protocol):
    """Rows of a table, from a file or a stream."""

    @property
    def features(self) -> Mapping[str, Any]:
        """The features of the `datasets` library by column."""

    @property
    def count(self) -> int | None:
        """The number of rows, where it is known before they are read."""

    def read(self, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows' cells of some columns, pictures undecoded."""


@dataclass(frozen=True, slots=True)
class Table:
    """A data set of rows; see `DataSet`."""

    about: Mapping[str, Any]
    notices: Sequence[str]
    rows: Rows
    image: str
    label: str
    name: str  # of the split, by which pictures are called
    limit: int | None
    downloaded: Path | None = None  # where files lie that rows may name

    def labels(self) -> Counter[str]:
        """The number of pictures under each label; only the labels' column is read."""
        rows = self._taken([self.label])
        made = (self._record(Blob(f"{self.name}#{number}", b""), row[self.label]) for number, row in rows)
        return Counter(one.label for one in made if isinstance(one, Example))

    def __iter__(self) -> Iterator[Example | Failure]:
        for number, row in self._taken([self.image, self.label]):
            picture = _blob(row[self.image], f"{self.name}#{number}", self.downloaded)
            yield picture if isinstance(picture, Failure) else self._record(picture, row[self.label])

    def _taken(self, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the numbered rows within the limit: evenly spread, or the first where none knows how many."""
        count = self.rows.count
        limit = self.limit if self.limit is None or count is None or self.limit < count else None
        for number, row in enumerate(self.rows.read(columns)):
            if count is None and limit is not None and number >= limit:
                return
            if count is None or taken(number, count, limit):
                yield number, row

    def _record(self, picture: Blob, value: Any) -> Example | Failure:
        names = getattr(self.rows.features[self.label], "names", None)  # of a ClassLabel
        if names is not None and isinstance(value, int):
            value = names[value] if 0 <= value < len(names) else None
        return record(picture, value, picture.name)


def open_table(source: Source, rows: Rows, split: str, about: Mapping[str, Any], notices: list[str]) -> Table:
    """Find the columns of a table's pictures and labels. Raises EvaluationError, which lists candidates."""
    columns = list(rows.features)
    image = choose_column("image", source.image_column, _images(rows.features), columns)
    label = choose_column("label", source.label_column, _labels(rows.features), columns)
    feature = rows.features[label]
    if not (_is_named(feature) or _is_text(feature)):
        raise EvaluationError(
            f"the column {label!r} holds {_type(feature)}, not names of classes: name a column of texts with"
            " --label-column, or write the labels as ClassLabel"
        )
    if source.limit is not None and rows.count is None:
        notices = [*notices, f"of a stream the first {source.limit} pictures are taken, in its own order"]
    told = {"split": split, "image_column": image, "label_column": label, "limit": source.limit}
    return Table({**about, **told}, notices, rows, image, label, split, source.limit)


def _images(features: Mapping[str, Any]) -> list[str]:
    """Return the columns of type Image; without any, those of bytes that are called like pictures."""
    found = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    return found or [
        name for name in features if name.casefold() in IMAGE_NAMES and _is_bytes(features[name])
    ]


def _labels(features: Mapping[str, Any]) -> list[str]:
    """Return the columns of type ClassLabel; without any, the texts or else numbers called like labels."""
    found = [name for name, feature in features.items() if _is_named(feature)]
    called = [name for name in features if name.casefold() in LABEL_NAMES]
    return found or [name for name in called if _is_text(features[name])] or called


def _is_named(feature: Any) -> bool:
    return type(feature).__name__ == "ClassLabel" and bool(feature.names)


def _is_text(feature: Any) -> bool:
    return _type(feature) in {"string", "large_string"}


def _is_bytes(feature: Any) -> bool:
    whole = feature.get("bytes") if isinstance(feature, Mapping) else feature
    return _type(whole) in {"binary", "large_binary"}


def _type(feature: Any) -> str:
    return str(getattr(feature, "dtype", type(feature).__name__))


def _blob(value: Any, name: str, downloaded: Path | None) -> Blob | Failure:
    """Return a cell's picture, called by its row and, where it is known, its file."""
    cell = value if isinstance(value, Mapping) else {"bytes": value}
    path, data = cell.get("path"), cell.get("bytes")
    if isinstance(path, str) and (file := _last(path)):
        name = f"{name}/{file}"
    if isinstance(data, bytes) and len(data) > MAX_BYTES:
        return Failure(name, f"too large: {len(data)} bytes, {MAX_BYTES} are the most")
    if isinstance(data, bytes):
        return Blob(name, data)
    if downloaded and isinstance(path, str) and Path(path).resolve().is_relative_to(downloaded.resolve()):
        return _file(Path(path), name)
    return Failure(name, NO_BYTES if path or isinstance(value, str) else "its row holds no picture")


def _file(path: Path, name: str) -> Blob | Failure:
    try:
        return Blob(name, read_bytes(path))
    except ImageError as error:
        return Failure(name, str(error))


def _last(path: str) -> str:
    return PureWindowsPath(PurePosixPath(path).name).name
