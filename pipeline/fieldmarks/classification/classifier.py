"""The classifier: a store's descriptors, a CLIP-like model, and predictions that show their marks.

classifier = Classifier.from_store("frogs.jsonl", clip="openai/clip-vit-base-patch32")
for prediction in classifier.predict(["a.jpg", "b.jpg"]):
    print(prediction.image, prediction.label, prediction.scores[0].probability)
print(classifier.explain("a.jpg").decided)

One run of classification from what the user asks for: the classifier, the pictures, the results.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TextIO, TypedDict, Unpack

import numpy as np

from fieldmarks.choices import Aggregation
from fieldmarks.classification import embedding_set
from fieldmarks.classification.cache import EmbeddingCache
from fieldmarks.classification.classifier_file import load_head, save_head
from fieldmarks.classification.embedder import DEFAULT_CLIP, Embedded, Embedder, Encoder, batched
from fieldmarks.classification.engines.checkpoint import Device, DType
from fieldmarks.classification.engines.engine import EngineChoice
from fieldmarks.classification.head import Head, Usual
from fieldmarks.classification.results import Explanation, Failure, FileVersion, Prediction, Predictions
from fieldmarks.classification.scoring import Array, Pooling
from fieldmarks.classification.sources import FolderContents, Found, Picture, find, name_of, unchanged
from fieldmarks.classification.texts import PRESETS, Texts, descriptor_texts, name_texts
from fieldmarks.errors import ImageError, ModelError
from fieldmarks.store import Store

Clip = str | Path | Encoder | Embedder


class Options(TypedDict, total=False):
    """How descriptors become a head.

    `preset` is "article" (the default) or "paper"; `aggregate` and `text`, a template, replace the
    preset's; `concept` fills {concept}; `with_name` adds the name's prompt to each class's texts;
    `baseline` also scores the names alone.
    """

    preset: str
    aggregate: Aggregation | None
    text: str | None
    concept: str | None
    with_name: bool
    baseline: bool


class Classifier:
    """A head, and the embedder of the pictures that it scores."""

    def __init__(self, head: Head, clip: Clip) -> None:
        self.head = head
        self.embedder = _embedder(clip)

    @classmethod
    def from_store(
        cls, store: Store | str | Path, *, clip: Clip = DEFAULT_CLIP, **options: Unpack[Options]
    ) -> "Classifier":
        """Build a classifier from a store's lines in force. Raises StoreError, and as `from_descriptors`."""
        opened = store if isinstance(store, Store) else Store(store)
        classes = {entry.name: entry.descriptors for entry in opened.entries()}
        about = {"store_sha256": hashlib.sha256(opened.path.read_bytes()).hexdigest()}
        return cls._from_texts(*_texts(classes, options), clip, options, about)

    @classmethod
    def from_descriptors(
        cls, classes: Mapping[str, Sequence[str]], *, clip: Clip = DEFAULT_CLIP, **options: Unpack[Options]
    ) -> "Classifier":
        """Build a classifier from each class's descriptors; a class without any is read by its name's prompt.

        Raises ModelError for a model that cannot be loaded, StoreError for no class at all, PromptError for
        a template with an unknown field.
        """
        return cls._from_texts(*_texts(classes, options), clip, options, {})

    @classmethod
    def from_names(cls, classes: Sequence[str], *, clip: Clip = DEFAULT_CLIP) -> "Classifier":
        """Build the plain baseline, "a photo of a {class}" for each class. Raises ModelError."""
        return cls._from_texts(name_texts(classes), "mean-embedding", clip, {"preset": "name"}, {})

    @classmethod
    def _from_texts(
        cls, texts: Texts, aggregate: Aggregation, clip: Clip, options: Options, about: Mapping[str, str]
    ) -> "Classifier":
        embedder = _embedder(clip)
        names = name_texts(texts.classes).texts if options.get("baseline") else ()
        embeddings = embedder.texts([*texts.texts, *names])  # (M, D), then (C, D)
        head = Head(
            texts,
            embeddings[: len(texts.texts)],
            embedder.logit_scale,
            Pooling.named(aggregate),
            embeddings[len(texts.texts) :] if names else None,
            {**embedder.encoder.about, "preset": options.get("preset", "article"), **about},
        )
        return cls(head, embedder)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.head.classes

    def predict(self, images: Iterable[Picture], *, top: int | None = None) -> Predictions:
        """Return the predictions of pictures (paths, PIL images, arrays, tensors), all classes or the `top`.

        Raises ImageError for the first one that cannot be read; `stream` goes on instead.
        """
        return Predictions(map(_raised, self.stream(images, top=top)), self.classes)

    def stream(
        self, images: Iterable[Picture | Failure], *, top: int | None = None, explain: bool = False
    ) -> Iterator[Prediction | Failure]:
        """Yield a prediction for each picture, or a Failure for an unreadable one, in constant memory."""
        return self.score(self.embedder.images(images), top=top, explain=explain)

    def score(
        self,
        embedded: Iterable[Embedded | Failure],
        *,
        top: int | None = None,
        explain: bool = False,
        min_probability: float = 0.0,
        usual: Usual | None = None,
        batch: int | None = None,
    ) -> Iterator[Prediction | Failure]:
        """Yield a prediction for each embedded picture, in order; failures pass through.

        The label is None where the best probability is under `min_probability`. `usual` relates the marks
        of an explanation to other pictures. `batch` pictures are scored at once, by default as many as are
        encoded at once. Raises ModelError if the embeddings are of another model.
        """
        needed = None if top is None else max(top, 2 if explain else 1)
        for part in batched(embedded, batch or self.embedder.batch):
            whole = [one for one in part if isinstance(one, Embedded)]
            vectors = self._stacked(whole)
            ranked, baselines = self.head.scores(vectors, needed), self.head.baseline_scores(vectors)
            predictions = (
                Prediction(
                    one.image,
                    scores[0].name if scores[0].probability >= min_probability else None,
                    scores[:top],
                    baseline,
                    self.head.explain(one.vector, scores, usual) if explain else None,
                    one.thumbnail,
                    one.version,
                )
                for one, scores, baseline in zip(whole, ranked, baselines, strict=True)
            )
            yield from (one if isinstance(one, Failure) else next(predictions) for one in part)

    def _stacked(self, embedded: Sequence[Embedded]) -> Array:
        if other := next((one for one in embedded if len(one.vector) != self.head.dim), None):
            raise ModelError(
                f"{other.image} has an embedding of {len(other.vector)} numbers and the classifier's texts"
                f" have {self.head.dim}: they come from different models"
            )
        vectors = [one.vector for one in embedded]
        return np.stack(vectors) if vectors else np.empty((0, self.head.dim), np.float32)

    def relative(self, embedded: Iterable[Embedded | Failure]) -> tuple[list[Embedded | Failure], Usual]:
        """Return the pictures, each D numbers in memory, and the usual scores of the texts on them."""
        held = list(embedded)
        whole = [one for one in held if isinstance(one, Embedded)]
        return held, self.head.usual(self._stacked(part) for part in batched(whole, 1024))

    def save(self, path: str | Path) -> None:
        """Write the classifier as a file, without the model's weights. Raises ModelError."""
        save_head(self.head, Path(path))

    @classmethod
    def load(cls, path: str | Path, *, clip: Clip | None = None) -> "Classifier":
        """Read a saved classifier; `clip` embeds the pictures, by default the model it was made with.

        Raises ModelError.
        """
        head = load_head(Path(path))
        return cls(head, head.about.get("model", "") if clip is None else clip)

    def explain(self, image: Picture) -> Explanation:
        """Return one picture's marks, of the predicted class and the runner-up. Raises ImageError."""
        explanation = _raised(next(self.stream([image], explain=True))).explanation
        assert explanation is not None
        return explanation


def _texts(classes: Mapping[str, Sequence[str]], options: Options) -> tuple[Texts, Aggregation]:
    """Return the texts that the options ask for, and how they are put together."""
    preset = PRESETS[options.get("preset", "article")]
    texts = descriptor_texts(
        classes,
        options.get("text") or preset.template,
        concept=options.get("concept"),
        with_name=options.get("with_name", False),
    )
    return texts, options.get("aggregate") or preset.aggregate


def _embedder(clip: Clip) -> Embedder:
    if isinstance(clip, Embedder):
        return clip
    return Embedder(clip if isinstance(clip, Encoder) else Encoder(clip))


def _raised(result: Prediction | Failure) -> Prediction:
    if isinstance(result, Failure):
        raise ImageError(f"{result.image}: {result.error}")
    return result


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
        for row in embedding_set.read(embeddings):
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
    texts = asdict(head.texts) | {"aggregate": head.pooling.name}
    computed = pictures.embeddings is None
    made_by = None if pictures.embeddings is None else embedding_set.model_of(pictures.embeddings)
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
        used = embedding_set.model_of(pictures.embeddings) or made_with or ""
    told = classifier.embedder.notices
    if made_with and used != made_with:
        told = [*told, f"the classifier was made with {made_with}, the pictures are embedded with {used}"]
    left_out = pictures.contents.notice()
    return [*told, left_out] if left_out else told
