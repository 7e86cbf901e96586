"""The classifier: a store's descriptors, a CLIP-like model, and predictions that show their marks.

classifier = Classifier.from_store("frogs.jsonl", clip="openai/clip-vit-base-patch32")
for prediction in classifier.predict(["a.jpg", "b.jpg"]):
    print(prediction.image, prediction.label, prediction.scores[0].probability)
print(classifier.explain("a.jpg").decided)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from fieldmarks.classification.embeddings import Embedded, Embedder, batched
from fieldmarks.classification.encoder import DEFAULT_CLIP, Encoder
from fieldmarks.classification.head import Head
from fieldmarks.classification.images import Picture
from fieldmarks.classification.results import Explanation, Failure, Prediction, Predictions
from fieldmarks.classification.scoring import Aggregation
from fieldmarks.classification.texts import PRESETS, Texts, descriptor_texts, name_texts
from fieldmarks.errors import ImageError
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
        return cls.from_descriptors(classes, clip=clip, **options)

    @classmethod
    def from_descriptors(
        cls, classes: Mapping[str, Sequence[str]], *, clip: Clip = DEFAULT_CLIP, **options: Unpack[Options]
    ) -> "Classifier":
        """Build a classifier from each class's descriptors; a class without any is read by its name's prompt.

        Raises ModelError for a model that cannot be loaded, StoreError for no class at all, PromptError for
        a template with an unknown field.
        """
        preset = PRESETS[options.get("preset", "article")]
        texts = descriptor_texts(
            classes,
            options.get("text") or preset.template,
            concept=options.get("concept"),
            with_name=options.get("with_name", False),
        )
        aggregate = options.get("aggregate") or preset.aggregate
        return cls._from_texts(texts, aggregate, clip, baseline=options.get("baseline", False))

    @classmethod
    def from_names(cls, classes: Sequence[str], *, clip: Clip = DEFAULT_CLIP) -> "Classifier":
        """Build the plain baseline, "a photo of a {class}" for each class. Raises ModelError."""
        return cls._from_texts(name_texts(classes), "mean-embedding", clip, baseline=False)

    @classmethod
    def _from_texts(cls, texts: Texts, aggregate: Aggregation, clip: Clip, *, baseline: bool) -> "Classifier":
        embedder = _embedder(clip)
        names = name_texts(texts.classes).texts if baseline else ()
        embeddings = embedder.texts([*texts.texts, *names])  # (M, D), then (C, D)
        head = Head(
            texts,
            embeddings[: len(texts.texts)],
            embedder.encoder.logit_scale,
            aggregate,
            embeddings[len(texts.texts) :] if baseline else None,
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
        others: Tensor | None = None,
    ) -> Iterator[Prediction | Failure]:
        """Yield a prediction for each embedded picture, in order; failures pass through.

        The label is None where the best probability is under `min_probability`. `others` (K, D) are
        pictures to which the marks of an explanation are related.
        """
        for batch in batched(embedded, self.embedder.batch):
            whole = [one for one in batch if isinstance(one, Embedded)]
            vectors = torch.stack([one.vector for one in whole]) if whole else torch.empty(0, self.head.dim)
            scored = zip(whole, self.head.scores(vectors), self.head.baseline_scores(vectors), strict=True)
            predictions = (
                Prediction(
                    one.image,
                    scores[0].name if scores[0].probability >= min_probability else None,
                    scores[:top],
                    baseline,
                    self.head.explain(one.vector, scores, others) if explain else None,
                )
                for one, scores, baseline in scored
            )
            yield from (one if isinstance(one, Failure) else next(predictions) for one in batch)

    def explain(self, image: Picture) -> Explanation:
        """Return one picture's marks, of the predicted class and the runner-up. Raises ImageError."""
        explanation = _raised(next(self.stream([image], explain=True))).explanation
        assert explanation is not None
        return explanation


def _embedder(clip: Clip) -> Embedder:
    if isinstance(clip, Embedder):
        return clip
    return Embedder(clip if isinstance(clip, Encoder) else Encoder(clip))


def _raised(result: Prediction | Failure) -> Prediction:
    if isinstance(result, Failure):
        raise ImageError(f"{result.image}: {result.error}")
    return result
