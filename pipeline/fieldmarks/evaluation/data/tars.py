"""Image tars: webdataset's layout, or a folder per class.

In webdataset's layout the files of one sample follow each other and share their name up to its first dot:
KEY.jpg with KEY.cls (an index into classes.txt or classnames.txt beside the tars, or the label itself),
KEY.txt (the label) or KEY.json (an object with the label). Without such files the label is the name of the
folder that the picture lies in. The first sample decides. Shards are given as a glob or as {000..012}.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldmarks.classification.results import Failure
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data.dataset import Example, Source, taken
from fieldmarks.evaluation.data.patterns import expand
from fieldmarks.evaluation.data.samples import (
    LABELS,
    ClassLists,
    filed,
    is_picture,
    kind_of,
    paired,
    samples,
)
from fieldmarks.evaluation.data.shards import SUFFIXES, Member


@dataclass(frozen=True, slots=True)
class Tars:
    """A data set in tar files; see `DataSet`. `paired` is webdataset's layout."""

    about: Mapping[str, Any]
    source: Source
    shards: Sequence[Path]
    paired: bool
    notices: Sequence[str] = field(default_factory=tuple)

    def labels(self) -> Counter[str]:
        """The number of pictures under each label; the pictures are passed over. Raises EvaluationError."""
        return Counter(one.label for one in self._taken(read=False) if isinstance(one, Example))

    def __iter__(self) -> Iterator[Example | Failure]:
        return self._taken(read=True)

    def _taken(self, *, read: bool) -> Iterator[Example | Failure]:
        """Yield the records within the limit, which are evenly spread: a first pass counts them."""
        limit = self.source.limit
        count = 0 if limit is None else sum(1 for _ in self._records(read=False))
        limit = limit if limit is not None and limit < count else None
        for number, one in enumerate(self._records(read=read)):
            if taken(number, count, limit):
                yield one

    def _records(self, *, read: bool) -> Iterator[Example | Failure]:
        lists = ClassLists()
        for shard in self.shards:
            for group in samples(shard):
                yield from (
                    paired(group, self.source, lists, read=read) if self.paired else filed(group, read=read)
                )


def open_tars(source: Source) -> Tars:
    """Find the shards and their layout. Raises EvaluationError where they hold no picture."""
    shards = expand(source.spec, SUFFIXES)
    if source.split is not None:
        raise EvaluationError(f"{source.spec}: tar files have no splits: name those of one split")
    paired = _layout(source, shards)
    about: dict[str, Any] = {"spec": source.spec, "kind": "tar", "limit": source.limit}
    about |= {"layout": "webdataset" if paired else "folders"}
    about |= {"image_column": source.image_column, "label_column": source.label_column}
    about |= {"files": [path.name for path in shards], "bytes": [path.stat().st_size for path in shards]}
    return Tars(about, source, shards, paired)


def _layout(source: Source, shards: Sequence[Path]) -> bool:
    """Whether the first sample with a picture has its label in a file beside the picture."""
    failed = ""
    for shard in shards:
        for group in samples(shard):
            kinds = []
            for one in group:
                failed = failed or f" ({one.error})" if isinstance(one, Failure) else failed
                kinds += [kind_of(one)] if isinstance(one, Member) else []
            if any(is_picture(kind) for kind in kinds):
                return source.label_column is not None or any(kind in LABELS for kind in kinds)
    raise EvaluationError(f"{source.spec} holds no picture{failed}: a tar with KEY.jpg and KEY.cls is meant")
