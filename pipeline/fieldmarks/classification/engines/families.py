"""What families of CLIP-like models do differently, by the model type that a configuration names.

A text has the form in which its family was trained, whatever the checkpoint's tokenizer would do by default.
SigLIP and SigLIP 2 read lower-case text without punctuation, closed by an end token even where it is cut, and
padded on the right to their full length; their text tower attends to the padding too, so it gets no mask.
Source: big_vision's `canonicalize` and its tokenizers with a sticky end token. TIPSv2 and ALIGN divide
cosines by a temperature where CLIP multiplies them by exp(logit_scale).
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_CLIP: Final = "openai/clip-vit-base-patch32"
# Families whose texts are read at the first end token that the configuration names. Of CLIP's own, the number
# 2 is that of old configurations, which stands for the highest token there is.
READ_AT_THE_END: Final = frozenset(("clip", "clipseg", "groupvit"))
ANY_END: Final = 2
_VERSION: Final = 2  # of the forms: texts in the cache that were read in another one are a miss
_NO_PUNCTUATION: Final = str.maketrans("_", " ", string.punctuation.replace("_", ""))


@dataclass(frozen=True, slots=True)
class TextForm:
    """How a family reads texts.

    `length` is the most tokens it was trained on, where its positions would allow more. A `fixed` form is
    always as long as there are positions, without a mask; `offset` positions are before the first token's.
    """

    length: int | None = None
    canonical: bool = False  # lower case, no punctuation
    fixed: bool = False
    offset: int = 0

    @property
    def name(self) -> str:
        """What tells this form from any other, for keys of a cache."""
        return f"form {_VERSION}, {self.length} tokens, canonical {self.canonical}, fixed {self.fixed}"

    def read(self, texts: Sequence[str]) -> list[str]:
        """Return texts as the tokenizer gets them."""
        return [canonical(text) for text in texts] if self.canonical else list(texts)

    def max_tokens(self, positions: int | None, tokenizer: int) -> int:
        """Return the most tokens of a text, of a model's positions and its tokenizer's own limit."""
        room = positions - self.offset if positions else None
        if self.fixed and room:
            return room
        return min(limit for limit in (self.length, room, tokenizer) if limit is not None)


_PADDED: Final = TextForm(canonical=True, fixed=True)
FORMS: Final[Mapping[str, TextForm]] = {
    "siglip": _PADDED,
    "siglip2": _PADDED,
    "chinese_clip": TextForm(length=52),
    "altclip": TextForm(length=77, offset=2),  # XLM-RoBERTa counts positions from its padding's number on
    "flava": TextForm(length=77),
    "align": TextForm(length=64),
    "tipsv2": TextForm(length=64),
}
_CLIP: Final = TextForm()


def form_of(model_type: str | None) -> TextForm:
    """Return the form in which a family reads texts: CLIP's own for one that is not known."""
    return FORMS.get(model_type or "", _CLIP)


def canonical(text: str) -> str:
    """Return a text in lower case, its punctuation out and "_" a blank, single blanks between words."""
    return " ".join(text.translate(_NO_PUNCTUATION).lower().split())


def fixed_rows(rows: Sequence[Sequence[int]], *, length: int, end: int | None, pad: int) -> NDArray[np.int64]:
    """Return token ids (M, length): each row cut to leave room for the end token, and padded on the right."""
    closing = [] if end is None else [end]
    filled = np.full((len(rows), length), pad, np.int64)
    for row, ids in zip(filled, rows, strict=True):
        closed = [*ids[: length - len(closing)], *closing]
        row[: len(closed)] = closed
    return filled


_VIDEOS: Final = "which reads videos, not single images"
_UNSUITABLE: Final[Mapping[str, str]] = {
    "xclip": f"an X-CLIP model, {_VIDEOS}",
    "videoprism": f"a VideoPrism model, {_VIDEOS}",
    "blip-2": "a BLIP-2 model, whose text features are a language model's and not comparable with images",
}


def unsuitable(model_type: str, model: object) -> str | None:
    """Return what a model of a type and class is that has not CLIP's two encoders; None for others."""
    kind = _UNSUITABLE.get(model_type)
    if kind is None and not all(hasattr(model, name) for name in ("get_text_features", "get_image_features")):
        kind = f"a {model_type} model, not one with CLIP's two encoders"
    return kind and f"{kind}: pass a CLIP-like model such as {DEFAULT_CLIP}"


def logit_scale(network: Any) -> float | None:
    """Return the factor of a network's cosines; None if it has neither logit_scale nor temperature."""
    if (scale := getattr(network, "logit_scale", None)) is not None:
        return float(scale.detach().float().exp())
    if (temperature := getattr(network, "temperature", None)) is not None:
        return float(1 / temperature.detach().float())
    return None


def features(output: Any) -> "Tensor":
    """Return the embeddings (N, D) in what a network's `get_text_features` or `get_image_features` returns.

    transformers 5 gives an object instead of a tensor, and for FLAVA every token's: the first is the text's.
    """
    tensor: Tensor = output.pooler_output if hasattr(output, "pooler_output") else output
    return tensor[:, 0] if tensor.ndim == 3 else tensor
