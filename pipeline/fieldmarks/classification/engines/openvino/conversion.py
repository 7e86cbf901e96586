"""From a checkpoint to files that OpenVINO reads, kept and used only if they give what torch gives."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks import __version__
from fieldmarks.classification.engines.checkpoint import Checkpoint, processor
from fieldmarks.classification.engines.engine import TOLERANCE, Engine, cosine_error
from fieldmarks.classification.engines.openvino import model_cache
from fieldmarks.classification.engines.openvino.engine import Facts, OpenVinoEngine, openvino
from fieldmarks.classification.preprocess import Recipe
from fieldmarks.classification.scoring import Array
from fieldmarks.hub import loaded_once, one_line, quiet

if TYPE_CHECKING:
    from torch import nn


logger = logging.getLogger(__name__)

CONVERTIBLE: Final = {"clip", "chinese_clip", "metaclip_2", "siglip"}  # model types that the tests convert
_FORMAT: Final = "1"
_TEXTS: Final = (
    "fur",
    "a photo of a frog",
    "a long tail with a white tip, which is often held upright",
    "protruding eyes " * 60,  # longer than any model reads
)
_IMAGES: Final = 3


# What frameworks say where memory was short, which the next run may have.
_NO_MEMORY: Final = re.compile(r"out of memory|bad_alloc|(cannot|can't|failed to) allocate", re.IGNORECASE)


class _NotConvertedError(Exception):
    """A conversion stopped for a reason that may pass: no verdict to keep."""


class Conversion:
    """A checkpoint's conversion for one type of numbers, made once for a machine and kept."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: str,
        file_hash: Callable[[Path], str],
    ) -> None:
        self._checkpoint = checkpoint
        self._dtype = dtype
        self._file_hash = file_hash

    def obstacle(self, device: str) -> str | None:
        """Return why the model cannot be converted here, without trying; None if it may be.

        Raises ModelError for a model that cannot be had from the hub.
        """
        if find_spec("openvino") is None:
            return "it is not installed: pip install 'fieldmarks[openvino]'"
        if device != "cpu":
            return f"it is for CPUs, not for {device}"
        if self._dtype not in TOLERANCE:
            return f"it does not compute in {self._dtype}"
        if self._checkpoint.source.folder is None:
            self._checkpoint.config  # noqa: B018  which downloads the model's first file
        if self._checkpoint.model_type not in CONVERTIBLE:
            return f"models of the type {self._checkpoint.model_type} are not converted"
        return None

    @property
    def refusal(self) -> str | None:
        """Why the conversion is not used, None if it is good; where that is unknown, it is made and compared.

        Raises ModelError where the model itself cannot be used.
        """
        reason: str | None = self._metadata.get("refused")
        return reason

    def engine(self) -> OpenVinoEngine:
        """Return the engine of a conversion that is not refused."""
        return self._opened(self._folder, self._metadata)

    @loaded_once
    def _folder(self) -> Path:
        """Where it is kept: another model, OpenVINO or processor has another folder."""
        model = self._checkpoint.fingerprint(self._file_hash) or ""
        return model_cache.folder_of(_FORMAT, model, self._dtype, version("openvino"), processor())

    @loaded_once
    def _metadata(self) -> model_cache.Metadata:
        model_cache.drop_stale(self._folder.parent)
        metadata = model_cache.read(self._folder)
        if (
            metadata is not None
            and model_cache.is_whole(self._folder, metadata, self._file_hash)
            and _still_holds(metadata)
        ):
            return metadata
        logger.info("converting %s for OpenVINO, once per machine …", self._checkpoint.name)
        try:
            return model_cache.keep(self._folder, self._write)
        except OSError as error:
            return {"refused": f"{self._folder} cannot be written: {error.strerror or error}"}
        except _NotConvertedError as error:
            return {"refused": f"it cannot be converted: {error}"}

    def _write(self, folder: Path) -> model_cache.Metadata:
        """Convert into a new folder; return what is known of the model, or why it is refused.

        Raises _NotConvertedError where another try may succeed, ModelError.
        """
        from fieldmarks.classification.engines.torch import TorchEngine

        recipe = self._checkpoint.recipe
        if recipe is None:
            return {"refused": "its image processor has steps of its own"}
        torch_engine = TorchEngine(self._checkpoint, device="cpu", dtype="float32")
        expected = _sampled(torch_engine, recipe)
        try:
            with _silence():
                metadata = {"facts": _convert(torch_engine, self._checkpoint, recipe, folder).to_dict()}
                converted = _sampled(self._opened(folder, metadata), recipe)
        except _NotConvertedError:
            raise
        except Exception as failure:  # conversion meets models of every kind and stumbles in every way
            if _is_transient(failure):
                raise _NotConvertedError(one_line(failure)) from failure
            _empty(folder)
            return {"refused": f"it cannot be converted: {one_line(failure)}", "versions": _versions()}
        error = max(map(cosine_error, converted, expected))
        if error <= TOLERANCE[self._dtype]:
            return metadata
        _empty(folder)
        return {"refused": f"its embeddings differ from torch's by {error:.0e} (cosine)"}

    def _opened(self, folder: Path, metadata: model_cache.Metadata) -> OpenVinoEngine:
        return OpenVinoEngine(folder, Facts.from_dict(metadata["facts"]), dtype=self._dtype)


def _versions() -> dict[str, str]:
    """Return the versions on which it depends whether a conversion fails: another one is worth a try."""
    return {"fieldmarks": __version__} | {name: version(name) for name in ("torch", "transformers")}


def _still_holds(metadata: model_cache.Metadata) -> bool:
    """Whether a record is of these versions, where it depends on them: those of failures do."""
    return "versions" not in metadata or metadata["versions"] == _versions()


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


def _convert(engine: Any, checkpoint: Checkpoint, recipe: Recipe, folder: Path) -> Facts:
    """Write the two towers and the tokenizer of a checkpoint that torch has ready."""
    import torch

    from fieldmarks.classification.engines.torch import ImageTower, TextTower

    inputs = checkpoint.tokenize(list(_TEXTS), "pt")  # the tokenizer keeps how it cuts and pads here
    tokenizer = checkpoint.tokenizer.backend_tokenizer  # which not every tokenizer has
    with _writing():
        tokenizer.save(str(folder / "tokenizer.json"))
    texts = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
    _save(TextTower(engine.network), texts, folder / "texts.xml")
    pixels = {"pixels": torch.from_numpy(_sample_images(recipe))}
    _save(ImageTower(engine.network, recipe), pixels, folder / "images.xml")
    return Facts(
        checkpoint.name, engine.logit_scale, checkpoint.max_tokens, checkpoint.pads_to_full_length, recipe
    )


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
        engine.images(list(images)),
        engine.images(list(images[:1])),
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
