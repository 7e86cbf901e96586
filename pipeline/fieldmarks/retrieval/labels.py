"""Labels of a set's images, from a data set or a mapping: by the image's path, or the longest end of one."""

from collections.abc import Mapping
from pathlib import Path

from fieldmarks.data.opening import open_dataset
from fieldmarks.data.precomputed import PathSuffixes, label_pairs


class Lookup:
    """Labels by image."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._suffixes = PathSuffixes(labels.items())

    @classmethod
    def open(cls, labels: str | Path | Mapping[str, str]) -> "Lookup":
        """Return the labels of a data set or a mapping. Raises EvaluationError."""
        if isinstance(labels, Mapping):
            return cls(labels)
        return cls(dict(label_pairs(open_dataset(labels))))

    def label(self, image: str) -> str | None:
        """Return an image's label, None where there is none or where paths of several labels end like it."""
        found = self._suffixes.find(image)
        return next(iter(found)) if len(found) == 1 else None
