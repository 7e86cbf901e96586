"""The classifier: a store's descriptors and a CLIP-like model, with predictions that show their marks.

import fieldmarks as fm

classifier = fm.Classifier(fm.Store("frogs.jsonl"), clip="openai/clip-vit-base-patch32")
for prediction in classifier.predict("photos/"):
    print(prediction.image, prediction.label, prediction.scores[0].probability)
print(classifier.explain("photos/a.jpg").decided)
classifier.save("frogs.safetensors")
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np

from fieldmarks import choices
from fieldmarks.choices import Aggregation, Device, DType, check_choice, checks_keywords
from fieldmarks.classification import broader
from fieldmarks.classification.broader import groups_of, other_than, parent_of
from fieldmarks.classification.classifier_file import ClassifierFile, load_head
from fieldmarks.classification.embedder import Clip, Embedded, Embedder, open_embedder
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.engines import batched
from fieldmarks.classification.head import Head, Statistics
from fieldmarks.classification.results import (
    NONE_OF_THESE,
    Explanation,
    Failure,
    Prediction,
    Predictions,
    Score,
)
from fieldmarks.classification.scoring import Array, Pooling
from fieldmarks.classification.sources import ImageInput, inputs_of, is_single
from fieldmarks.classification.texts import (
    PRESETS,
    Texts,
    descriptor_texts,
    lists_of,
    name_texts,
    with_catch_all,
    zero_shot_texts,
)
from fieldmarks.errors import ImageError, ModelError, UsageError
from fieldmarks.hub import model_id
from fieldmarks.store import Store
from fieldmarks.store.learned_weights import ClassWeights, of_store

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

logger = logging.getLogger(__name__)

EMBEDDED_BATCH: Final = 1024  # images scored at once where their embeddings are given


class Classifier:
    """Classes with their descriptors, and the model that embeds texts and images.

    store: a Store, a store's path, or a mapping of class names to descriptors. A class with no descriptors
        falls back to the prompt "a photo of a {class}", in preset "paper" to "{class}, which has ". A list of
        class names is zero-shot classification: each is read as "a photo of a {class}", or as in `text`.
    clip: a CLIP-like model, by folder or Hugging Face id, or an Encoder that is loaded already.
    preset: "article" (bare descriptors, mean embedding) or "paper" ("{class}, which has …", mean similarity).
    aggregate, text: how a class's texts are pooled, and their template; they replace the preset's.
    concept: what {concept} stands for in `text`.
    with_name: add "a photo of a {class}" to each class's texts.
    baseline: also score the class names alone.
    classes: of a store, the classes to choose from; all of them by default.
    none: texts of what is none of the classes, such as "an empty meadow". They are one more class, whose win
        is no label: the prediction's `label` is None.
    use_weights: use the weights that `fieldmarks learn --write-weights` has kept in the store.
    device, dtype, engine, batch: where the model computes, its precision, by what, images per forward pass.
    decode: "gpu" has an NVIDIA GPU decode JPEGs too, which is faster and approximate.
    cache: keep embeddings in the user's cache folder for later runs.

        classifier = Classifier({"owl": ["big eyes"], "newt": ["a long tail"]}, clip="models/clip")
        classifier.predict("owl.jpg").label
        Classifier(["owl", "newt"], none="a photo of something else").predict("fox.jpg").shown_label

    Raises UsageError for an option that is unknown, out of range or without effect, StoreError for no class
    at all, PromptError for a template with an unknown field, ModelError for a model that cannot be loaded. A
    classifier may be used from several threads.
    """

    @checks_keywords
    def __init__(
        self,
        store: Store | str | Path | Mapping[str, Sequence[str]] | Sequence[str],
        *,
        clip: Clip | None = None,
        preset: choices.Preset = "article",
        aggregate: Aggregation | None = None,
        text: str | None = None,
        concept: str | None = None,
        with_name: bool = False,
        baseline: bool = False,
        classes: Sequence[str] = (),
        none: str | Sequence[str] = (),
        use_weights: bool = False,
        device: Device = "auto",
        dtype: DType = "auto",
        engine: choices.Engine = "auto",
        decode: choices.Decode = "auto",
        batch: int | None = None,
        cache: bool = False,
    ) -> None:
        check_choice("preset", preset, choices.Preset)
        catch_all = [none] if isinstance(none, str) else list(none)
        if use_weights and (
            not isinstance(store, Store | str | os.PathLike) or aggregate or with_name or catch_all
        ):
            raise UsageError("use_weights goes with a store, without aggregate, with_name and none")
        if classes and not isinstance(store, Store | str | os.PathLike):
            raise UsageError("classes goes with a store: pass the others without what is not to choose")
        metadata = dict[str, str]()
        if isinstance(store, Store | str | os.PathLike | Mapping):
            if isinstance(store, Mapping):
                lists = dict(store)
            else:
                lists, metadata = lists_of(store, classes, is_alone=not catch_all)
            template = PRESETS[preset].template if text is None else text
            texts = descriptor_texts(lists, template, concept=concept, with_name=with_name)
            metadata |= {"preset": preset}
        else:
            given = {"preset": preset != "article", "with_name": with_name, "baseline": baseline}
            given["aggregate"] = aggregate is not None and len(catch_all) < 2
            if idle := next((option for option, is_given in given.items() if is_given), None):
                raise UsageError(f"{idle} has no effect: there are class names only, and no descriptors")
            texts = zero_shot_texts(store, text, concept)
            metadata |= {"preset": "name"}
        if catch_all:
            texts = with_catch_all(texts, catch_all)
        wording = {"text": text, "concept": concept, "with_name": "yes" if with_name else None}
        metadata |= {key: value for key, value in wording.items() if value}
        embedder = open_embedder(
            clip, device=device, dtype=dtype, engine=engine, decode=decode, batch=batch, cache=cache
        )
        pooling = Pooling.named(aggregate or PRESETS[preset].aggregate)
        learned = None
        if use_weights and isinstance(store, Store | str | os.PathLike):
            opened = store if isinstance(store, Store) else Store(store)
            learned = of_store(opened, embedder.encoder.model_identity, template, concept)
        self._embed(texts, pooling, embedder, metadata, baseline=baseline, learned=learned)

    def _embed(
        self,
        texts: Texts,
        pooling: Pooling,
        embedder: Embedder,
        metadata: Mapping[str, str],
        *,
        baseline: bool,
        learned: Mapping[str, ClassWeights] | None,
    ) -> None:
        named = [name for name in texts.classes if name != NONE_OF_THESE]
        names = name_texts(named).texts if baseline else ()
        every = embedder.texts([*texts.texts, *names])  # (M, D), then (C, D) without the catch-all
        embeddings, baselines = every[: len(texts.texts)], every[len(texts.texts) :]
        if baseline and len(named) < len(texts.classes):  # the catch-all has no name: its texts stand for it
            own = np.array(texts.owner) == texts.classes.index(NONE_OF_THESE)
            baselines = np.concatenate([baselines, embeddings[own].mean(axis=0, keepdims=True)])
        head = Head(
            texts,
            embeddings,
            embedder.logit_scale,
            pooling,
            baselines if baseline else None,
            {**embedder.encoder.metadata, **metadata},
        )
        self.head = head if learned is None else head.weighed(learned)
        self.embedder = embedder
        self._is_from_file = False

    @classmethod
    @checks_keywords
    def load(
        cls,
        path: str | Path,
        *,
        clip: Clip | None = None,
        device: Device = "auto",
        dtype: DType = "auto",
        engine: choices.Engine = "auto",
        decode: choices.Decode = "auto",
        batch: int | None = None,
        cache: bool = False,
    ) -> "Classifier":
        """Read a saved classifier; `clip` embeds the images, by default the model it was made with.

        Raises ModelError for a file that is not a classifier's, UsageError as the constructor.
        """
        head = load_head(Path(path))
        embedder = open_embedder(
            clip,
            default=head.metadata.get("model", ""),
            device=device,
            dtype=dtype,
            engine=engine,
            decode=decode,
            batch=batch,
            cache=cache,
        )
        classifier = cls.of_head(head, embedder)
        if clip is not None:
            classifier.report_other_model(classifier.embedder.encoder.name)
        return classifier

    @classmethod
    def of_head(cls, head: Head, embedder: Embedder) -> "Classifier":
        """Return the classifier of a head whose metadata is complete, and of what embeds images for it."""
        classifier = cls.__new__(cls)
        classifier.head, classifier.embedder, classifier._is_from_file = head, embedder, True
        return classifier

    def __repr__(self) -> str:
        model, head = self.head.metadata.get("model", "?"), self.head
        counts = f"{len(head.classes)} classes, {len(head.texts.texts)} texts"
        return f"<Classifier of {counts}, {head.pooling.name}, {model}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.head.classes

    @overload
    def predict(  # type: ignore[overload-overlap]  # a path and an array can be iterated over too
        self,
        images: "str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor",
        *,
        top: int | None = None,
        explain: bool = False,
        explain_top: int | None = None,
        min_probability: float = 0.0,
        abstain: bool = False,
        sets: bool = False,
        back_off: bool = False,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        images: Iterable[ImageInput],
        *,
        top: int | None = None,
        explain: bool = False,
        explain_top: int | None = None,
        min_probability: float = 0.0,
        abstain: bool = False,
        sets: bool = False,
        back_off: bool = False,
    ) -> Predictions: ...

    @checks_keywords
    def predict(
        self,
        images: Any,
        *,
        top: int | None = None,
        explain: bool = False,
        explain_top: int | None = None,
        min_probability: float = 0.0,
        abstain: bool = False,
        sets: bool = False,
        back_off: bool = False,
    ) -> Prediction | Predictions:
        """Return the prediction of one image, or a list of predictions for a list or a folder.

        images: a path, PIL image, array (H, W, 3) or tensor (3, H, W); or a list of these, folders and globs.
        top: how many classes to list per image; all of them by default.
        explain: also give the marks of the predicted class and of the runner-up.
        explain_top: also give the marks of so many classes, the best ones; `explain` is explain_top=2.
        min_probability: the label is None where the best probability is lower.
        abstain: the label is None, with a reason, where a calibrated classifier says "none of these".
        sets: also give the set of labels that a calibrated classifier's coverage asks for.
        back_off: the label is a broader class, the `parent` of a store's classes, where these cannot be told
            apart.

        Raises ImageError for the first image that cannot be read; `stream` goes on instead.
        """
        results = self.stream(
            inputs_of(images),
            top=top,
            explain=explain,
            explain_top=explain_top,
            min_probability=min_probability,
            abstain=abstain,
            sets=sets,
            back_off=back_off,
        )
        predictions = Predictions(map(_raised, results), self.classes)
        return predictions[0] if is_single(images) else predictions

    def stream(
        self,
        images: Iterable[ImageInput | Failure],
        *,
        top: int | None = None,
        explain: bool = False,
        explain_top: int | None = None,
        min_probability: float = 0.0,
        abstain: bool = False,
        sets: bool = False,
        back_off: bool = False,
        thumbnails: int = 0,
    ) -> Iterator[Prediction | Failure]:
        """Yield a prediction for each image, or a Failure for an unreadable one, in constant memory.

        Paths are those of images, not of folders. The first `thumbnails` predictions have a small JPEG.
        """
        embedded = self.embedder.images(images, thumbnails=thumbnails)
        return self.score(
            embedded,
            top=top,
            explain=explain,
            explain_top=explain_top,
            min_probability=min_probability,
            abstain=abstain,
            sets=sets,
            back_off=back_off,
        )

    def score(
        self,
        embedded: Iterable[Embedded | Failure],
        *,
        top: int | None = None,
        explain: bool = False,
        explain_top: int | None = None,
        min_probability: float = 0.0,
        abstain: bool = False,
        sets: bool = False,
        back_off: bool = False,
        statistics: Statistics | None = None,
        batch: int | None = None,
    ) -> Iterator[Prediction | Failure]:
        """Yield a prediction for each embedded image, in order; failures pass through.

        The label is None where the best probability is under `min_probability`, or with `abstain` its score
        under the class's threshold. `statistics` relate the marks
        of an explanation to other images. `batch` images are scored at once, by default as many as are
        encoded at once. Raises ModelError if the embeddings are of another model.
        """
        for option, value in (("top", top), ("explain_top", explain_top)):
            if value is not None and value < 1:
                raise UsageError(f"{option}: expected at least 1, found {value}")
        if not 0 <= min_probability <= 1:
            raise UsageError(f"min_probability: expected 0 to 1, found {min_probability}")
        for option, missing in (
            ("abstain", abstain and self.head.thresholds is None),
            ("sets", sets and self.head.conformal_quantile is None),
        ):
            if missing:
                raise UsageError(f"{option} needs a classifier that `fieldmarks calibrate` has written")
        if isinstance(embedded, EmbeddingSet):
            self.report_other_model(embedded.model)
            batch = batch or EMBEDDED_BATCH
        if back_off and groups_of(self.classes, self.head.parents) == list(self.classes):
            raise UsageError("back_off has no effect: no class has a parent: leave it out")
        explained = explain_top or (2 if explain else 0)
        needed = None if top is None or sets or back_off else max(top, explained)
        predicted = partial(
            self._prediction,
            top=top,
            explained=explained,
            min_probability=min_probability,
            abstain=abstain,
            sets=sets,
            back_off=back_off,
            statistics=statistics,
        )
        return self._scored(embedded, needed, predicted, batch)

    def _scored(
        self,
        embedded: Iterable[Embedded | Failure],
        needed: int | None,
        predicted: Callable[[Embedded, tuple[Score, ...], Score | None], Prediction],
        batch: int | None,
    ) -> Iterator[Prediction | Failure]:
        for part in batched(embedded, batch or self.embedder.batch):
            rows = [row for row in part if isinstance(row, Embedded)]
            vectors = self._stacked(rows)
            ranked, baselines = self.head.scores(vectors, needed), self.head.baseline_scores(vectors)
            predictions = map(predicted, rows, ranked, baselines)
            yield from (row if isinstance(row, Failure) else next(predictions) for row in part)

    def _prediction(
        self,
        row: Embedded,
        scores: tuple[Score, ...],
        baseline: Score | None,
        *,
        top: int | None,
        explained: int,
        min_probability: float,
        abstain: bool,
        sets: bool,
        back_off: bool,
        statistics: Statistics | None,
    ) -> Prediction:
        reason = self.head.rejection(scores[0]) if abstain else None
        parent = parent_of(scores, self.head.parents) if back_off and reason is None else None
        label = _label(parent or scores[0], min_probability) if reason is None else None
        return Prediction(
            row.image,
            label,
            scores[:top],
            baseline,
            self.head.explain(row.vector, scores, statistics, explained) if explained else None,
            row.thumbnail,
            row.version,
            reason,
            self.head.label_set(scores) if sets else None,
            *((parent, other_than(parent, scores, self.head.parents)) if parent and label else (None, None)),
        )

    def _stacked(self, rows: Sequence[Embedded]) -> Array:
        if other := next((row for row in rows if len(row.vector) != self.head.dim), None):
            raise ModelError(
                f"{other.image} has an embedding of {len(other.vector)} numbers and the classifier's texts"
                f" have {self.head.dim}: they come from different models"
            )
        vectors = [row.vector for row in rows]
        return np.stack(vectors) if vectors else np.empty((0, self.head.dim), np.float32)

    def statistics(self, embedded: Iterable[Embedded | Failure]) -> Statistics:
        """Return the mean and the standard deviation (M,) of each text's score on these images."""
        rows = (row for row in embedded if isinstance(row, Embedded))
        return self.head.statistics(self._stacked(part) for part in batched(rows, 1024))

    def explain(self, image: ImageInput) -> Explanation:
        """Return one image's marks, of the predicted class and the runner-up. Raises ImageError."""
        explanation = _raised(next(self.stream([image], explain=True))).explanation
        assert explanation is not None
        return explanation

    def save(self, path: str | Path) -> None:
        """Write the classifier as a file, without the model's weights. Raises ModelError."""
        self.save_to(ClassifierFile(Path(path)))

    def save_to(self, file: ClassifierFile) -> None:
        """Write the classifier to a path that was checked before. Raises ModelError."""
        metadata = {"created": datetime.now(UTC).isoformat(timespec="seconds")}
        if not self._is_from_file:
            metadata["fingerprint"] = self.embedder.encoder.identity
        file.write(self.head, metadata)

    def report_other_model(self, model: str | None) -> None:
        """Log a warning if images are embedded with a different model from the classifier's texts."""
        made_with = self.head.metadata.get("model")
        if made_with and model and model_id(made_with) != model_id(model):
            logger.warning(
                "the classifier was built with %s, but the images are embedded with %s", made_with, model
            )

    def provenance(self, embeddings: EmbeddingSet | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all that a result depends on but its image, as plain data, for a results journal.

        `embeddings` are the images' where they are given. Texts and model stand for what they are embedded
        to, which rounding may vary; of a classifier from a file, the embeddings in it are hashed. Raises
        ModelError.
        """
        head, encoder = self.head, self.embedder.encoder
        told = asdict(head.texts) | {"aggregate": head.pooling.name}
        told |= {broader.KEY: head.parents} if head.parents else {}
        content = hashlib.sha256(json.dumps(told).encode())
        if self._is_from_file or head.is_learned:
            scale = np.array(head.scale)
            arrays = (head.embeddings, head.baseline, scale, head.pooling.weights, head.bias)
            for array in (*arrays, head.thresholds):
                content.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        computed = embeddings is None
        return {
            "classifier": content.hexdigest(),
            "model": encoder.identity if computed or not self._is_from_file else None,
            "decoding": encoder.decoding if computed else None,
            "embeddings": None if embeddings is None else embeddings.model or "of an unknown model",
            "options": dict(options),
        }


def _label(best: Score, min_probability: float) -> str | None:
    return best.name if best.probability >= min_probability and best.name != NONE_OF_THESE else None


def _raised(result: Prediction | Failure) -> Prediction:
    if isinstance(result, Failure):
        raise ImageError(f"{result.image}: {result.error}")
    return result
