"""The classifier: a store's descriptors, a CLIP-like model, and predictions that show their marks.

classifier = Classifier.from_store("frogs.jsonl", clip="openai/clip-vit-base-patch32")
for prediction in classifier.predict(["a.jpg", "b.jpg"]):
    print(prediction.image, prediction.label, prediction.scores[0].probability)
print(classifier.explain("a.jpg").decided)
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from fieldmarks.classification.embeddings import Embedded, Embedder, batched
from fieldmarks.classification.encoder import DEFAULT_CLIP, Encoder
from fieldmarks.classification.head import Head, Usual
from fieldmarks.classification.head_file import load_head, save_head
from fieldmarks.classification.results import Explanation, Failure, Prediction, Predictions
from fieldmarks.classification.scoring import Aggregation, Array
from fieldmarks.classification.sources import Picture
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
        opened = store if isinstance(store, Store) else Store.open(store)
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
            aggregate,
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
