"""One run of classification from what the user asks for: the classifier, the pictures, the results."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from fieldmarks.classification import interchange
from fieldmarks.classification.cache import EmbeddingCache
from fieldmarks.classification.classifier import Classifier, Options
from fieldmarks.classification.embeddings import Embedded, Embedder
from fieldmarks.classification.encoder import DEFAULT_CLIP, Encoder
from fieldmarks.classification.engines.engine import EngineChoice
from fieldmarks.classification.engines.precision import Device, DType
from fieldmarks.classification.head_file import load_head
from fieldmarks.classification.results import Failure, FileVersion, Prediction
from fieldmarks.classification.sources import FolderContents, Found, find, name_of, unchanged
from fieldmarks.store import Store

KEPT_BATCH: Final = 1024  # pictures scored at once where their embeddings are kept: there is no forward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model computes, and how; `clip` None is the model of a saved classifier, else the default one.

    `tell` hears of work that lets a person wait.
    """

    clip: str | None = None
    device: Device = "auto"
    dtype: DType = "auto"
    engine: EngineChoice = "auto"
    batch: int | None = None
    cache: bool = True
    tell: Callable[[str], None] = lambda _: None

    def embedder(self, otherwise: str = DEFAULT_CLIP) -> Embedder:
        """Return the embedder, of the model `otherwise` if none is named. Raises ModelError."""
        name = otherwise if self.clip is None else self.clip
        encoder = Encoder(name, device=self.device, dtype=self.dtype, engine=self.engine, tell=self.tell)
        return Embedder(encoder, cache=EmbeddingCache() if self.cache else None, batch=self.batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Which pictures are meant: inputs as `sources.find` reads them, or embeddings in a file or folder.

    `done` are images that have a result already, by name; None where nobody asks which version was read.
    """

    inputs: tuple[str, ...] = ()
    embeddings: Path | None = None
    allow_url: bool = False
    stdin: TextIO | None = None
    done: Mapping[str, FileVersion] | None = None
    contents: FolderContents = field(default_factory=FolderContents)  # of folders, as far as they are read

    def embedded(self, embedder: Embedder, *, thumbnails: int = 0) -> Iterator[Embedded | Failure]:
        """Yield the embeddings in order, without those of images that are done and have not changed.

        Raises ImageError, ModelError.
        """
        if self.embeddings is not None:
            yield from (row for row in self._rows(self.embeddings) if not self.is_done(row))
            return
        found = find(self.inputs, self.stdin, allow_url=self.allow_url, contents=self.contents)
        yield from embedder.images(self._left(found), thumbnails=thumbnails)

    def _rows(self, embeddings: Path) -> Iterator[Embedded | Failure]:
        for row in interchange.read(embeddings):
            if self.done is None or isinstance(row, Failure):
                yield row
            else:
                yield replace(row, version=FileVersion(hashlib.sha256(row.vector.tobytes()).hexdigest()))

    def is_done(self, row: Embedded | Failure) -> bool:
        """Whether an embedding is of the version of its image that is done."""
        version = row.version if isinstance(row, Embedded) else None
        done = self.done.get(row.image) if self.done else None
        return version is not None and done is not None and version.sha256 == done.sha256

    def _left(self, found: Iterable[Found]) -> Iterator[Found]:
        for one in found:
            version = self.done.get(name_of(one, 0)) if self.done else None
            if version is None or isinstance(one, Failure) or not unchanged(one, version):
                yield one


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """What a result shows."""

    top: int | None = None
    explain: bool = False
    relative: bool = False
    min_probability: float = 0.0


def open_classifier(source: Store | Path, model: Model, options: Options) -> Classifier:
    """Return a classifier from a store, or from a saved classifier's file. Raises StoreError, ModelError."""
    if isinstance(source, Store):
        return Classifier.from_store(source, clip=model.embedder(), **options)
    head = load_head(source)
    return Classifier(head, model.embedder(head.about.get("model", "")))


def classify(
    classifier: Classifier, pictures: Pictures, showing: Showing, *, thumbnails: int = 0
) -> Iterator[Prediction | Failure]:
    """Yield a result for each picture, as ready; with `relative`, after all of them are embedded.

    Those that are done have no result, but with `relative` the others are related to them too.
    """
    usual = None
    if showing.relative:
        every = replace(pictures, done=None if pictures.done is None else {})
        held, usual = classifier.relative(every.embedded(classifier.embedder, thumbnails=thumbnails))
        embedded = iter([row for row in held if not pictures.is_done(row)])
    else:
        embedded = pictures.embedded(classifier.embedder, thumbnails=thumbnails)
    return classifier.score(
        embedded,
        top=showing.top,
        explain=showing.explain or showing.relative,
        min_probability=showing.min_probability,
        usual=usual,
        batch=None if pictures.embeddings is None else KEPT_BATCH,
    )


def settings(
    classifier: Classifier, file: Path | None, pictures: Pictures, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all that a result depends on but its image, as plain data, for a results journal.

    Texts and model stand for what they are embedded to, which rounding may vary; of a classifier from a
    `file`, the embeddings in it are hashed. Raises ModelError.
    """
    head, encoder = classifier.head, classifier.embedder.encoder
    texts = asdict(head.texts) | {"aggregate": head.aggregate}
    computed = pictures.embeddings is None
    made_by = None if pictures.embeddings is None else interchange.model_of(pictures.embeddings)
    content = hashlib.sha256(json.dumps(texts).encode())
    if file is not None:
        for array in (head.embeddings, head.baseline, np.array(head.logit_scale)):
            content.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return {
        "classifier": content.hexdigest(),
        "model": encoder.identity if computed or file is None else None,
        "decoding": encoder.decoding if computed else None,
        "embeddings": None if computed else made_by or "of an unknown model",
        "options": dict(options),
    }


def notices(classifier: Classifier, pictures: Pictures) -> list[str]:
    """Return what the user should be told of a run: long texts, the cache, models that do not match."""
    made_with = classifier.head.about.get("model")
    used = classifier.embedder.encoder.name
    if pictures.embeddings is not None:
        used = interchange.model_of(pictures.embeddings) or made_with or ""
    told = classifier.embedder.notices
    if made_with and used != made_with:
        told = [*told, f"the classifier was made with {made_with}, the pictures are embedded with {used}"]
    left_out = pictures.contents.notice()
    return [*told, left_out] if left_out else told
