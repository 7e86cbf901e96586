"""Labels for image embeddings in files: from a data set, from the files themselves, or from folder names."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import name_of
from fieldmarks.data.dataset import DataSet, Example
from fieldmarks.errors import ClassNameError
from fieldmarks.records import class_name

Labelled = tuple[Embedded | Failure, str | None]

_UNNAMED: Final = re.compile(r".*\.np[yz]#\d+", re.DOTALL)  # what an EmbeddingSet calls a row without a name
_LAST: Final = "\U0010ffff"


def labelled(path: Path, dataset: DataSet | None = None) -> Iterator[Labelled]:
    """Yield the embeddings in files with their labels, None for those without one.

    With a data set, the label is that of its image with the same path, or else with the longest common path
    tail; without such an image, there is none. Without a data set, it is the label that the file has for the
    row, or else the name of the image's folder. Raises ImageError and EvaluationError.
    """
    embeddings = EmbeddingSet(path)
    if dataset is not None:
        names = PathSuffixes(label_pairs(dataset))
        yield from (_from_names(row, names) for row in embeddings)
    else:
        for row, label in zip(embeddings, embeddings.labels(), strict=True):
            yield row, _usable(label if label is not None else _folder(row.image))


class PathSuffixes:
    """Labels of images, looked up by path or by the end of a path."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._exact = dict(pairs)
        # Reversed, paths with a common tail sort next to each other.
        self._sorted = sorted((_backwards(name), label) for name, label in self._exact.items())

    def find(self, name: str) -> set[str]:
        """Return the label of the path, or the labels of all paths that share the longest tail with it.

        Of more than two labels, only two are returned.
        """
        if name in self._exact:
            return {self._exact[name]}
        wanted = _backwards(name)
        at = bisect_left(self._sorted, (wanted, ""))
        beside = (_common(wanted, other) for other, _ in self._sorted[max(0, at - 1) : at + 1])
        common = max(beside, key=len, default="")
        return self._under(common) if common else set()

    def _under(self, start: str) -> set[str]:
        labels: set[str] = set()
        first, end = (bisect_left(self._sorted, (bound, "")) for bound in (start, start + _LAST))
        for at in range(first, end):
            labels.add(self._sorted[at][1])
            if len(labels) > 1:
                break
        return labels


def _from_names(row: Embedded | Failure, names: PathSuffixes) -> Labelled:
    labels = names.find(row.image)
    if len(labels) > 1 and isinstance(row, Embedded):
        error = "several images of the data set have paths that end like this, with different labels"
        return Failure(row.image, error), None
    return row, next(iter(labels), None)


def label_pairs(dataset: DataSet) -> Iterator[tuple[str, str]]:
    """Yield the name and label of each image in a data set."""
    for number, example in enumerate(dataset, 1):
        if isinstance(example, Example):
            yield name_of(example.image, number), example.label


def _parts(name: str) -> Sequence[str]:
    return [part for part in name.split("/") if part not in {"", "."}]


def _backwards(name: str) -> str:
    return "".join(f"{part}/" for part in reversed(_parts(name)))


def _common(name: str, other: str) -> str:
    """Return the parts that two reversed names both begin with."""
    pairs = zip(_parts(name), _parts(other), strict=False)
    return "".join(f"{part}/" for part, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _folder(name: str) -> str | None:
    parts = _parts(name)
    return parts[-2] if len(parts) > 1 and not _UNNAMED.fullmatch(name) else None


def _usable(label: str | None) -> str | None:
    try:
        return None if label is None else class_name(label)
    except ClassNameError:
        return None
