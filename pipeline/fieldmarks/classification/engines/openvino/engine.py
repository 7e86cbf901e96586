"""The engine that computes by OpenVINO, from files that were converted before: torch is not needed.

The folder holds texts.xml and images.xml with their weights, tokenizer.json, and what Facts has.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmarks.classification.preprocess import Recipe
from fieldmarks.classification.scoring import Array
from fieldmarks.errors import ModelError
from fieldmarks.hub import loaded_once, one_line

if TYPE_CHECKING:
    from PIL import Image
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model besides its weights and its tokenizer."""

    name: str
    logit_scale: float
    max_tokens: int
    pads_to_full_length: bool
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as they are kept."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Facts":
        """Return the facts that `to_dict` recorded."""
        recipe: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record["recipe"].items()
        }
        return cls(**{**record, "recipe": Recipe(**recipe)})


class OpenVinoEngine:
    """A converted model computed by OpenVINO on the CPU; each tower is compiled when it is first used."""

    def __init__(self, folder: Path, facts: Facts, *, dtype: str) -> None:
        self._folder = folder
        self._facts = facts
        self._dtype = dtype
        self.logit_scale = facts.logit_scale
        self.max_tokens = facts.max_tokens
        self.pads_to_full_length = facts.pads_to_full_length
        self.least = facts.recipe.least
        self._computing = Lock()  # a request computes one thing at a time, on all cores

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, before any cutting."""
        tokenizer = self._tokenizer()
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]

    def texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts."""
        encoded = self._cutting.encode_batch(list(texts))
        rows = {
            "input_ids": [encoding.ids for encoding in encoded],
            "attention_mask": [encoding.attention_mask for encoding in encoded],
        }
        return self._computed(self._text_tower, {key: np.array(ids, np.int64) for key, ids in rows.items()})

    def prepare(self, image: "Image.Image") -> Any:
        """Return an image's pixels (H, W, 3) of 8 bits."""
        return self._facts.recipe.pixels(image)

    def images(self, prepared: Sequence[Any]) -> Array:
        """Return the embeddings (N, D) of N images."""
        return self._computed(self._image_tower, {"pixels": np.stack(prepared)})

    @loaded_once
    def _cutting(self) -> "Tokenizer":
        return self._tokenizer()  # which cuts and pads as it did when it was kept

    @loaded_once
    def _text_tower(self) -> Any:
        return self._compiled("texts.xml")

    @loaded_once
    def _image_tower(self) -> Any:
        return self._compiled("images.xml")

    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        tokenizer: Tokenizer = self._tried(lambda: Tokenizer.from_file(str(self._folder / "tokenizer.json")))
        return tokenizer

    def _compiled(self, file: str) -> Any:
        precision = {"float32": "f32", "bfloat16": "bf16"}[self._dtype]
        hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        return self._tried(
            lambda: _core().compile_model(self._folder / file, "CPU", hints).create_infer_request()
        )

    def _computed(self, request: Any, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Array:
        names = {name for node in request.model_inputs for name in node.names}
        expected = {name: array for name, array in inputs.items() if name in names}
        with self._computing:
            embeddings: Array = self._tried(lambda: request.infer(expected)[0].copy())  # memory is reused
        return embeddings

    def _tried(self, compute: Callable[[], Any]) -> Any:
        try:
            return compute()
        except Exception as error:  # tokenizers raises no narrower one, as where another process drops files
            raise ModelError(f"{self._facts.name} cannot compute by openvino: {one_line(error)}") from error


@cache
def _core() -> Any:
    """Return the one Core of this process, which lasts as long as it.

    With its Core OpenVINO's CPU plugin takes away the stack for signals that it gave to the thread in which
    it was loaded, whichever thread that happens in: Ctrl-C would then be a segmentation fault.
    """
    return openvino().Core()


def openvino() -> Any:
    """Import OpenVINO so that it sends nothing to anybody, of its use or of the models it converts.

    Importing and converting send statistics where the package openvino-telemetry is found, without asking
    first; without it OpenVINO puts an empty class in its place.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # type: ignore[import-untyped]

    return openvino
