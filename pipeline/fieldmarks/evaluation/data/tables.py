"""Tables of pictures and labels as the `datasets` library writes them: columns found by type, rows undecoded.

An image's bytes stand in the table. A row that only names a file comes from whoever made the table, and
would be read from the user's disk: it is followed into the data set's own folder or download, nowhere else.
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
    " downloaded whole: leave out --streaming, write a table with its images (save_to_disk does), or"
    " evaluate the folder that they lie in"
)
NOT_THERE: Final = (
    "its row names a file that is not in the data set's folder, {}: move the images there, or list them in a"
    " .csv, which may name any file"
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
    folder: Path | None = None  # where files lie that rows may name
    beside: tuple[Path, ...] = ()  # the folders of the table, to which such names are relative

    def labels(self) -> Counter[str]:
        """The number of pictures under each label; only the labels' column is read."""
        rows = self._taken([self.label])
        made = (self._record(Blob(f"{self.name}#{number}", b""), row[self.label]) for number, row in rows)
        return Counter(one.label for one in made if isinstance(one, Example))

    def __iter__(self) -> Iterator[Example | Failure]:
        for number, row in self._taken([self.image, self.label]):
            picture = self._picture(row[self.image], f"{self.name}#{number}")
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

    def _picture(self, value: Any, name: str) -> Blob | Failure:
        """Return a cell's image, called by its row and, where it is known, its file."""
        cell = value if isinstance(value, Mapping) else {"path" if isinstance(value, str) else "bytes": value}
        path, data = cell.get("path"), cell.get("bytes")
        if isinstance(path, str) and (file := _last(path)):
            name = f"{name}/{file}"
        if isinstance(data, bytes) and len(data) > MAX_BYTES:
            return Failure(name, f"too large: {len(data)} bytes, {MAX_BYTES} are the most")
        if isinstance(data, bytes):
            return Blob(name, data)
        if not path or not isinstance(path, str):
            return Failure(name, "its row holds no image")
        if self.folder and (inside := self._inside(path, self.folder)):
            return _file(inside, name)
        return Failure(name, NOT_THERE.format(self.folder) if self.beside else NO_BYTES)

    def _inside(self, path: str, folder: Path) -> Path | None:
        """Return the file that a row names, if it lies in a folder once all links are followed."""
        for place in self.beside or (Path(),):
            for name in dict.fromkeys((path, path.replace("\\", "/"))):
                try:
                    file = (place / name).resolve()
                    if file.is_relative_to(folder.resolve()) and (file.exists() or not self.beside):
                        return file
                except (OSError, ValueError, RuntimeError):  # too long, a null byte, a circle of links
                    continue
        return None

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
    if not (_is_named(feature) or _is_text(feature) or _is_whole_number(feature)):
        raise EvaluationError(
            f"the column {label!r} holds {_type(feature)}, not class names: name a column of strings or"
            " whole numbers with --label-column, or write the labels as ClassLabel"
        )
    if source.limit is not None and rows.count is None:
        notices = [*notices, f"of a stream the first {source.limit} pictures are taken, in its own order"]
    told = {"split": split, "image_column": image, "label_column": label, "limit": source.limit}
    return Table({**about, **told}, notices, rows, image, label, split, source.limit)


def _images(features: Mapping[str, Any]) -> list[str]:
    """Return the columns of type Image; without any, those called like images, of bytes or else of paths."""
    found = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    called = [name for name in features if name.casefold() in IMAGE_NAMES]
    return (
        found
        or [name for name in called if _is_bytes(features[name])]
        or [name for name in called if _is_text(features[name])]
    )


def _labels(features: Mapping[str, Any]) -> list[str]:
    """Return the columns of type ClassLabel; without any, the texts or else numbers called like labels."""
    found = [name for name, feature in features.items() if _is_named(feature)]
    called = [name for name in features if name.casefold() in LABEL_NAMES]
    return found or [name for name in called if _is_text(features[name])] or called


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
