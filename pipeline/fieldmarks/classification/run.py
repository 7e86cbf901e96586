"""One run of classification from what the user asks for: the classifier, the pictures, the results."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from fieldmarks.classification import interchange
from fieldmarks.classification.cache import EmbeddingCache
from fieldmarks.classification.classifier import Classifier, Options
from fieldmarks.classification.embeddings import Embedded, Embedder
from fieldmarks.classification.encoder import DEFAULT_CLIP, Encoder
from fieldmarks.classification.engines.engine import EngineChoice
from fieldmarks.classification.engines.precision import Device, DType
from fieldmarks.classification.head_file import load_head
from fieldmarks.classification.results import Failure, Prediction
from fieldmarks.classification.sources import Found, find, name_of
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
    """Which pictures are meant: inputs as `sources.find` reads them, or embeddings in a file or folder."""

    inputs: tuple[str, ...] = ()
    embeddings: Path | None = None
    allow_url: bool = False
    stdin: TextIO | None = None
    skip: Container[str] = field(default_factory=frozenset)  # names that are done already

    def embedded(self, embedder: Embedder, *, thumbnails: int = 0) -> Iterator[Embedded | Failure]:
        """Yield the pictures' embeddings in order, without those to skip. Raises ImageError, ModelError."""
        if self.embeddings is not None:
            yield from (one for one in interchange.read(self.embeddings) if one.image not in self.skip)
            return
        found = find(self.inputs, self.stdin, allow_url=self.allow_url)
        yield from embedder.images(self._left(found), thumbnails=thumbnails)

    def _left(self, found: Iterable[Found]) -> Iterator[Found]:
        for one in found:
            if (one.image if isinstance(one, Failure) else name_of(one, 0)) not in self.skip:
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
    """Yield a result for each picture, as ready; with `relative`, after all of them are embedded."""
    embedded = pictures.embedded(classifier.embedder, thumbnails=thumbnails)
    usual = None
    if showing.relative:
        held, usual = classifier.relative(embedded)
        embedded = iter(held)
    return classifier.score(
        embedded,
        top=showing.top,
        explain=showing.explain or showing.relative,
        min_probability=showing.min_probability,
        usual=usual,
        batch=None if pictures.embeddings is None else KEPT_BATCH,
    )


def notices(classifier: Classifier, pictures: Pictures) -> list[str]:
    """Return what the user should be told of a run: long texts, the cache, models that do not match."""
    made_with = classifier.head.about.get("model")
    used = classifier.embedder.encoder.name
    if pictures.embeddings is not None:
        used = interchange.model_of(pictures.embeddings) or made_with or ""
    told = classifier.embedder.notices
    if made_with and used != made_with:
        told = [*told, f"the classifier was made with {made_with}, the pictures are embedded with {used}"]
    return told
