"""What an encoder is and how fast it computes here, found out by a trial of a few seconds."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.engines.checkpoint import Checkpoint
from fieldmarks.classification.engines.openvino import cosine_error
from fieldmarks.classification.scoring import Array

if TYPE_CHECKING:
    from PIL import Image

SECONDS: Final = 2.0  # of repeating one kind of pass
_BATCH: Final = 16
_SIDES: Final = (480, 640)  # of the images that are drawn
_TEXTS: Final = tuple(
    f"a photo of {noun}, which has {mark}"
    for noun in ("a tench", "a church", "an owl", "a gas pump")
    for mark in ("a golden sheen", "a round disc", "two long legs", "a tall, pointed roof")
)


def trial(encoder: Encoder) -> Iterator[tuple[str, str]]:
    """Yield what was found out, as pairs of a subject and a phrase. Raises ModelError.

    The speed is that of encoding alone: images are in memory, and are scaled and cropped in one thread.
    """
    checkpoint = encoder.checkpoint
    layout = ", in open_clip's layout" if checkpoint.open_clip else ""
    encoder.engine.logit_scale  # noqa: B018  which loads the model
    yield "CLIP", f"{encoder.name} loads: {checkpoint.model_type or 'unknown'} model{layout}"
    yield "text form", text_form(checkpoint)
    yield "preprocessing", preprocessing(checkpoint)
    how = f"{encoder.engine_name} in {encoder.dtype} on {encoder.device}"
    yield "computes", f"{how}; logit scale {encoder.logit_scale:.1f}"
    images = _drawn()
    texts, text_rate = _timed(lambda: encoder.encode_texts(_TEXTS))
    vectors, image_rate = _timed(lambda: encoder.encode_images(list(map(encoder.prepare, images))))
    yield "speed", f"{image_rate:.0f} images/s, {text_rate:.0f} texts/s in {vectors.shape[1]} dimensions"
    if (encoder.engine_name, encoder.dtype) == ("torch", "float32"):
        yield "checked", "embeddings are finite and not all zeros"
        return
    exact = Encoder(encoder.name, device="cpu", dtype="float32", engine="torch")
    errors = (
        cosine_error(texts, exact.encode_texts(_TEXTS)),
        cosine_error(vectors, exact.encode_images(list(map(exact.prepare, images)))),
    )
    yield "checked", "cosine error against torch at float32: texts {:.0e}, images {:.0e}".format(*errors)


def text_form(checkpoint: Checkpoint) -> str:
    """Return the form in which a model reads texts, as a phrase."""
    form, most = checkpoint.text_form, checkpoint.max_tokens
    wording = "lower case without punctuation" if form.canonical else "as written"
    return f"{wording}, {'padded to' if form.fixed else 'at most'} {most} tokens"


def preprocessing(checkpoint: Checkpoint) -> str:
    """Return what happens to an image before a model reads it, as a phrase."""
    recipe = checkpoint.recipe
    if recipe is None:
        return f"by transformers' {type(checkpoint.image_processor).__name__}"
    if isinstance(recipe.size, int):
        scaled = f"shorter side to {recipe.size} pixels"
    else:
        scaled = "scaled to {1} × {0} pixels, whatever its shape".format(*recipe.size)
    return scaled + (", cropped to the middle {1} × {0}".format(*recipe.crop) if recipe.crop else "")


def _drawn() -> list["Image.Image"]:
    from PIL import Image

    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (*_SIDES, 3), np.uint8)) for _ in range(_BATCH)]


def _timed(encode: Callable[[], Array]) -> tuple[Array, float]:
    """Return embeddings (N, D), and how many a second were made once the model was warm."""
    embeddings = encode()
    start, passes = time.perf_counter(), 0
    while not passes or time.perf_counter() - start < SECONDS:
        encode()
        passes += 1
    return embeddings, passes * len(embeddings) / (time.perf_counter() - start)
