"""The OpenVINO engine, which runs without torch, and the conversion of checkpoints to its format.

A conversion is made once for a machine and kept, and is used only if it gives what torch gives. Its folder
holds texts.xml and images.xml with their weights, tokenizer.json, and, as its metadata, what else is known of
the model: {"facts": {…}}, or {"refused": why} where it is not used.
"""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks import __version__
from fieldmarks.classification.engines import (
    TOKENIZED,
    Engine,
    batched,
    defect_of,
    encoded_by_length,
    model_cache,
)
from fieldmarks.classification.engines.checkpoint import Checkpoint, TextForm, fixed_rows, processor
from fieldmarks.classification.engines.trees import encoded_as_trees, inputs_of, read_tokens, trees
from fieldmarks.classification.preprocess import Recipe
from fieldmarks.classification.scoring import Array
from fieldmarks.errors import ModelError
from fieldmarks.extras import install
from fieldmarks.hub import loaded_once, one_line, quiet

if TYPE_CHECKING:
    from PIL import Image
    from tokenizers import Tokenizer
    from torch import nn


logger = logging.getLogger(__name__)

CONVERTIBLE: Final = {  # model types that the tests convert
    *("clip", "chinese_clip", "metaclip_2", "siglip", "altclip", "tipsv2", "clipseg", "blip", "groupvit"),
}
TOLERANCE: Final = {"float32": 1e-5, "bfloat16": 1e-4}  # cosine error against torch's float32
_FORMAT: Final = "4"
_TEXTS: Final = (
    "fur",
    "a photo of a frog",
    "a long tail with a white tip, which is often held upright",
    "protruding eyes " * 60,  # longer than any model reads
)
_IMAGES: Final = 3
_TOKENS: Final = 1536  # of a pass over texts, padding included; measured on CPUs


# What frameworks say where memory was short, which the next run may have.
_NO_MEMORY: Final = re.compile(r"out of memory|bad_alloc|(cannot|can't|failed to) allocate", re.IGNORECASE)


class _NotConvertedError(Exception):
    """A conversion stopped for a reason that may pass: no verdict to keep."""


class OpenVinoEngine:
    """A converted model run by OpenVINO on the CPU; each tower is compiled on first use."""

    def __init__(
        self,
        folder: Path,
        *,
        dtype: str,
        name: str,
        logit_scale: float,
        max_tokens: int,
        form: TextForm,
        end: int | None,
        pad: int,
        read_at: int | None,
        recipe: Recipe,
    ) -> None:
        self._folder = folder
        self._dtype = dtype
        self._name = name
        self.recipe = recipe
        self.logit_scale = logit_scale
        self.max_tokens = max_tokens
        self._form, self._end, self._pad = form, end, pad
        self._read_at = read_at  # the token at which a tower of trees reads texts; None for other towers
        self.min_side = recipe.min_side
        self._computing = Lock()  # a request computes one thing at a time, on all cores

    def largest_batch(self, most: int) -> int:
        """Return `most`: a CPU's memory holds any batch that may be asked for."""
        return most

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, before any cutting."""
        tokenizer = self._tokenizer()
        tokenizer.no_truncation()
        tokenizer.no_padding()
        fixed = self._form.fixed
        encoded = tokenizer.encode_batch(self._form.read(texts), add_special_tokens=not fixed)
        closing = int(fixed and self._end is not None)
        return [len(encoding.ids) + closing for encoding in encoded]

    def texts(self, texts: Sequence[str]) -> Array:
        """Return the embeddings (M, D) of M texts, in as many passes as they need."""
        if (end := self._read_at) is not None:
            rows = [row for part in batched(texts, TOKENIZED) for row in read_tokens(self._ids(part), end)]
            return encoded_as_trees(rows, _TOKENS, partial(self._computed, self._text_tower))
        if self._form.fixed:
            lengths = [self.max_tokens] * len(texts)
        else:
            lengths = [min(self.max_tokens, count) for count in self.token_counts(texts)]
        return encoded_by_length(texts, lengths, _TOKENS, self._pass)

    def _pass(self, texts: Sequence[str]) -> Array:
        fixed = self._form.fixed
        encoded = self._cutting.encode_batch(self._form.read(texts), add_special_tokens=not fixed)
        ids = [encoding.ids for encoding in encoded]
        if fixed:
            rows = fixed_rows(ids, length=self.max_tokens, end=self._end, pad=self._pad)
            return self._computed(self._text_tower, {"input_ids": rows})
        mask = [encoding.attention_mask for encoding in encoded]
        inputs = {"input_ids": np.array(ids, np.int64), "attention_mask": np.array(mask, np.int64)}
        return self._computed(self._text_tower, inputs)

    def _ids(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the tokens (M, T) of texts, cut and padded."""
        encoded = self._cutting.encode_batch(self._form.read(texts))
        return np.array([encoding.ids for encoding in encoded], np.int64)

    def prepare(self, image: "Image.Image") -> Any:
        """Return an image's pixels (H, W, 3) of 8 bits."""
        return self.recipe.pixels(image)

    def decode(self, jpegs: Sequence[Any]) -> list[Any]:
        """Return None for each: a CPU decodes no faster here."""
        return [None] * len(jpegs)

    def start_images(self, prepared: Sequence[Any]) -> Callable[[], Array]:
        """Compute the embeddings (N, D) of N images, which are there when it returns."""
        embeddings = self._computed(self._image_tower, {"pixels": np.stack(prepared)})
        return lambda: embeddings

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
            raise ModelError(f"{self._name} cannot run on OpenVINO: {one_line(error)}") from error


@cache
def _core() -> Any:
    """Return the one Core of this process, which lasts as long as it.

    With its Core OpenVINO's CPU plugin takes away the stack for signals that it gave to the thread in which
    it was loaded, whichever thread that happens in: Ctrl-C would then be a segmentation fault.
    """
    return openvino().Core()


def openvino() -> Any:
    """Import OpenVINO with its telemetry switched off.

    Importing and converting send statistics where the package openvino-telemetry is found, without asking
    first; without it OpenVINO puts an empty class in its place.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # type: ignore[import-untyped]

    return openvino


def obstacle(checkpoint: Checkpoint, dtype: str, device: str) -> str | None:
    """Return why a model cannot be converted here, without trying; None if it may be.

    Raises ModelError for a model that cannot be downloaded.
    """
    if find_spec("openvino") is None:
        return f"it is not installed: {install('openvino')}"
    if device != "cpu":
        return f"it is for CPUs, not for {device}"
    if dtype not in TOLERANCE:
        return f"it does not support {dtype}"
    if checkpoint.source.folder is None:
        checkpoint.config  # noqa: B018  which downloads the model's first file
    if checkpoint.model_type not in CONVERTIBLE:
        return f"models of type {checkpoint.model_type} cannot be converted"
    return None


def converted(checkpoint: Checkpoint, dtype: str, file_hash: Callable[[Path], str]) -> OpenVinoEngine | str:
    """Return the engine of a model's conversion, or why it is not used; converts the model if needed.

    Another model, OpenVINO or processor has another conversion. Raises ModelError where the model itself
    cannot be used.
    """
    model = checkpoint.fingerprint(file_hash) or ""
    folder = model_cache.folder_of(_FORMAT, model, dtype, version("openvino"), processor())
    model_cache.drop_stale(folder.parent)
    metadata = model_cache.read(folder)
    if metadata is None or not model_cache.is_whole(folder, metadata, file_hash) or _is_outdated(metadata):
        logger.info("converting %s for OpenVINO, once per machine …", checkpoint.name)
        try:
            metadata = model_cache.keep(folder, lambda fresh: _convert(checkpoint, dtype, fresh))
        except OSError as error:
            return f"{folder} cannot be written: {error.strerror or error}"
        except _NotConvertedError as error:
            return f"it cannot be converted: {error}"
    refusal: str | None = metadata.get("refused")
    return refusal or _opened(folder, dtype, metadata)


def _opened(folder: Path, dtype: str, metadata: model_cache.Metadata) -> OpenVinoEngine:
    facts = metadata["facts"]
    built = {"recipe": Recipe.from_dict(facts["recipe"]), "form": TextForm(**facts["form"])}
    return OpenVinoEngine(folder, dtype=dtype, **{**facts, **built})


def _convert(checkpoint: Checkpoint, dtype: str, folder: Path) -> model_cache.Metadata:
    """Convert into a new folder; return what is known of the model, or why it is refused.

    Raises _NotConvertedError where another try may succeed, ModelError.
    """
    from fieldmarks.classification.engines.torch import TorchEngine

    recipe = checkpoint.recipe
    if recipe is None:
        return {"refused": "its image processor has custom steps"}
    torch_engine = TorchEngine(checkpoint, device="cpu", dtype="float32")
    expected = _sampled(torch_engine, recipe)
    for embeddings in expected:
        if (defect := defect_of(embeddings, "float32")) is not None:
            raise ModelError(f"{checkpoint.name} gives embeddings {defect}")
    try:
        with _silence():
            scale = torch_engine.logit_scale
            del torch_engine  # before the network is loaded once more
            metadata = {"facts": _written(scale, checkpoint, recipe, folder)}
            outputs = _sampled(_opened(folder, dtype, metadata), recipe)
    except _NotConvertedError:
        raise
    except Exception as failure:  # conversion meets models of every kind and stumbles in every way
        if _is_transient(failure):
            raise _NotConvertedError(one_line(failure)) from failure
        _empty(folder)
        return {"refused": f"it cannot be converted: {one_line(failure)}", "versions": _versions()}
    error = max(map(cosine_error, outputs, expected))
    if error <= TOLERANCE[dtype]:
        return metadata
    _empty(folder)
    return {"refused": f"its embeddings differ from torch's by {error:.0e} (cosine)"}


def cosine_error(ours: Array, theirs: Array) -> float:
    """Return the largest 1 - cosine between rows of two (N, D); infinite for other shapes or no numbers."""
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(all="ignore"):  # what divides by zero or overflows is no number
        lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)  # (N,)
        errors = np.abs(1 - (ours * theirs).sum(axis=-1) / lengths)
    return float(errors.max(initial=0.0)) if np.isfinite(errors).all() else float("inf")


def _versions() -> dict[str, str]:
    """Return the versions on which it depends whether a conversion fails: another one is worth a try."""
    return {"fieldmarks": __version__} | {name: version(name) for name in ("torch", "transformers")}


def _is_outdated(metadata: model_cache.Metadata) -> bool:
    """Whether a record depends on versions, as that of a failure does, and they are other ones now."""
    return "versions" in metadata and metadata["versions"] != _versions()


def _is_transient(failure: BaseException | None) -> bool:
    """Whether a failure may be the machine's: no memory, a disk error, a package half installed."""
    while failure is not None:
        if isinstance(failure, OSError | MemoryError | ImportError) or _NO_MEMORY.search(str(failure)):
            return True
        failure = failure.__cause__ or failure.__context__
    return False


@contextmanager
def _writing() -> Iterator[None]:
    """Turn every failure to write, which frameworks word in many ways, into one that may pass."""
    try:
        yield
    except Exception as failure:
        raise _NotConvertedError(one_line(failure)) from failure


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _written(scale: float, checkpoint: Checkpoint, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Write the towers and the tokenizer of a checkpoint; return its facts."""
    import torch

    from fieldmarks.classification.engines.towers import ClipTextTower, Towers

    inputs = checkpoint.tokenize(_TEXTS)  # the tokenizer keeps how it cuts and pads here
    tokenizer = checkpoint.tokenizer.backend_tokenizer  # which not every tokenizer has
    with _writing():
        tokenizer.save(str(folder / "tokenizer.json"))
    towers = Towers.of(checkpoint.network(torch.float32), recipe, "cpu", torch.float32)
    read_at = towers.texts.end if isinstance(towers.texts, ClipTextTower) else None
    if read_at is None:
        texts = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
    else:
        rows = read_tokens(inputs["input_ids"].numpy(), read_at)
        texts = {key: torch.from_numpy(each) for key, each in inputs_of(list(trees(rows))).items()}
    _save(towers.texts, texts, folder / "texts.xml")
    _save(towers.images, {"pixels": torch.from_numpy(_sample_images(recipe))}, folder / "images.xml")
    end, pad = checkpoint.end_and_pad
    return {
        "name": checkpoint.name,
        "logit_scale": scale,
        "max_tokens": checkpoint.max_tokens,
        "form": asdict(checkpoint.text_form),
        "end": end,
        "pad": pad,
        "read_at": read_at,
        "recipe": asdict(recipe),
    }


def _save(tower: "nn.Module", example: dict[str, Any], path: Path) -> None:
    """Convert a tower, any number of rows at a time; images keep their size, which lets it plan ahead."""
    import torch

    ov = openvino()
    with torch.no_grad():
        model = ov.convert_model(tower.eval(), example_input=example)
    if "pixels" in example:
        model.reshape([-1, *example["pixels"].shape[1:]])
    with _writing():
        ov.save_model(model, path, compress_to_fp16=False)


def _sampled(engine: Engine, recipe: Recipe) -> list[Array]:
    """Return an engine's embeddings of sample texts and images, of several at once and of one."""
    images = _sample_images(recipe)
    return [
        engine.texts(_TEXTS),
        engine.texts(_TEXTS[1:2]),
        engine.start_images(list(images))(),
        engine.start_images(list(images[:1]))(),
    ]


def _sample_images(recipe: Recipe) -> NDArray[np.uint8]:
    """Return sample pixels (N, H, W, 3): coarse patches of random colours under fine noise."""
    random = np.random.default_rng(0)
    height, width = recipe.crop or (recipe.size if isinstance(recipe.size, tuple) else (recipe.size,) * 2)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    patches = random.integers(0, 224, (_IMAGES, 8, 8, 3))[:, rows][:, :, columns]  # (N, H, W, 3)
    return (patches + random.integers(0, 32, patches.shape)).astype(np.uint8)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep to itself what torch warns of while it traces: the result is compared instead."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
