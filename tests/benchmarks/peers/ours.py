"""This product's side of each comparison, through what it offers to everybody; each runs in a worker."""

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np
from tests.benchmarks.peers.work import Job, Result, keep, once, seconds

BATCH = 32  # pictures a forward pass, the product's own default


def labels(job: Job) -> Result:
    """Files to labels at each number of labels, with the defaults: seconds a picture, and of the texts."""
    from fieldmarks.classification.classifier import Classifier

    embedder = _embedder(job)
    template = job["template"].replace("{}", "{descriptor}")  # the pipeline's texts exactly
    answers: dict[str, list[str | None]] = {}
    pictures: dict[str, float] = {}
    texts: dict[str, float] = {}
    for count in job["counts"]:
        names = job["labels"][: int(count)]
        began = time.perf_counter()
        classifier = Classifier({name: [name] for name in names}, clip=embedder, text=template)
        texts[count] = time.perf_counter() - began
        if not answers:
            classifier.predict(job["pictures"][:BATCH])  # loads what the first picture needs
        began = time.perf_counter()
        predictions = classifier.predict(list(job["pictures"]), top=1)
        pictures[count] = (time.perf_counter() - began) / len(job["pictures"])
        answers[count] = [prediction.label for prediction in predictions]
    return {"a picture": pictures, "texts": texts, "answers": answers}


def embed(job: Job) -> Result:
    """Files to embeddings and classes, then texts to embeddings, then the image tower alone: seconds."""
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.embedder import Embedded

    embedder = _embedder(job)
    described = {f"class {number}": own for number, own in enumerate(job["classes"])}
    began = time.perf_counter()
    classifier = Classifier(described, clip=embedder)
    classifier.predict(job["pictures"][:BATCH])
    ready = time.perf_counter() - began

    def remembered(images: Iterable[Any]) -> Iterable[Any]:
        for image in images:
            assert isinstance(image, Embedded), image
            vectors.append(image.vector)
            yield image

    vectors: list[Any] = []
    began = time.perf_counter()
    results = list(classifier.score(remembered(embedder.images(job["pictures"])), top=1))
    taken = time.perf_counter() - began
    began = time.perf_counter()
    texts = embedder.texts(job["texts"])
    return {
        "texts": time.perf_counter() - began,
        "ready": ready,
        "seconds": taken,
        "tower": _tower(embedder, job["pictures"][:BATCH]) / BATCH,
        "answers": [classifier.classes.index(result.to_dict()["label"]) for result in results],
        "embeddings": keep(np.stack(vectors)),
        "text embeddings": keep(texts),
    }


def scores(job: Job) -> Result:
    """Embeddings to classes, as the peer does it from texts that are ready: seconds.

    "results" is with probabilities and results as objects, "anew" with a head that is new each time as well.
    """
    with np.load(job["vectors"], allow_pickle=False) as kept:
        images, texts = kept["images"], kept["texts"]  # (N, D), (C, P, D)
    parts = _described(texts)
    head = _head(*parts)
    answers = [best.name for (best,) in head.scores(images, 1)]
    return {
        "seconds": seconds(lambda: head.logits(images).argmax(axis=1)),
        "results": seconds(lambda: head.scores(images, 1)),
        "anew": seconds(lambda: _head(*parts).scores(images, 1)),
        "answers": [int(name.split()[1]) for name in answers],
    }


def large_photos(job: Job) -> Result:
    """Files of 12 megapixels to pixels, in turn: for each kind of file our and transformers' times, twice."""
    from pathlib import Path

    from tests.benchmarks import preprocessing

    photos = [Path(path).read_bytes() for path in job["pictures"]]
    found: Result = {}
    for kind, grain in (("smooth", 0), ("grainy", 3)):
        large = [preprocessing.as_by_a_camera(photo, grain=grain) for photo in photos]
        found[kind] = {
            "clock": preprocessing.by_the_clock(large, job["runs"]),  # seconds
            "processor": preprocessing.pairs(large, job["runs"]),  # milliseconds
        }
    return found


def growth(job: Job) -> Result:
    """The same work at several sizes of each kind, in turn: {kind: {size: seconds}} as "times"."""
    from fieldmarks.classification.classifier import Classifier

    embedder = _embedder(job)
    classifier = Classifier({"class 0": ["a"], "class 1": ["b"]}, clip=embedder)
    rows = np.random.default_rng(0).standard_normal((1000, 512), np.float32)

    def of_size(kind: str, size: int) -> Callable[[], Any]:
        if kind == "pictures":
            return lambda: classifier.predict(job["pictures"][:size], top=1)
        if kind == "texts":
            return lambda: embedder.texts(job["texts"][:size])
        shape = (size, 6, 512) if kind == "classes" else (1000, size, 512)
        parts = _described(np.random.default_rng(1).standard_normal(shape, np.float32))
        return lambda: _head(*parts).scores(rows, 5)

    work = {(kind, size): of_size(kind, size) for kind, sizes in job["sizes"].items() for size in sizes}
    rounds = [{key: once(call) for key, call in work.items()} for _ in range(job["runs"] + 1)]
    times: dict[str, dict[int, float]] = {kind: {} for kind, _ in work}
    for kind, size in work:
        times[kind][size] = median(
            times_of[kind, size] for times_of in rounds[1:]
        )  # the first loads and compiles
    return {"times": times}


def _embedder(job: Job) -> Any:
    from fieldmarks.classification.embedder import Embedder, Encoder
    from fieldmarks.hub import own_process

    own_process()  # as the command line does
    return Embedder(Encoder(job["clip"], device="cpu", dtype=job["dtype"], engine=job["engine"]), batch=BATCH)


def _tower(embedder: Any, pictures: Sequence[str]) -> float:
    from pathlib import Path

    from fieldmarks.classification.images import decode

    prepared = [embedder.encoder.prepare(decode(Path(path).read_bytes())) for path in pictures]
    return seconds(lambda: embedder.encoder.encode_images(prepared))


def _described(texts: Any) -> tuple[Any, Any]:
    """Return names for texts (C, P, D), and them as (M, D)."""
    from fieldmarks.classification.texts import Texts

    classes, each, dim = texts.shape
    marks = {f"class {number}": [(f"mark {row}",) * 2 for row in range(each)] for number in range(classes)}
    return Texts.collect(marks), texts.reshape(-1, dim)


def _head(texts: Any, embeddings: Any) -> Any:
    from fieldmarks.classification.head import Head
    from fieldmarks.classification.scoring import Pooling

    return Head(texts, embeddings, 100.0, Pooling.named("mean-similarity"))
