"""Saved classifiers: files that score images without the text encoder and the store.

It is safetensors with
    texts (M, D)          the embedding of each text, not of unit length
    owner (M,)            the class index of each text
    baseline (C, D)       the embedding of each name's prompt, if there is a baseline
    weights (C, M)        what replaces a mean's 1 / M_c, optional
    bias (C,)             added to the classes' pooled cosines, optional
    thresholds (C,)       the least pooled cosine, bias included, of each class's label, optional
    digests (n, 16)       what identifies the images that it was learned or calibrated on, optional
and metadata, all of it text: "format" is "fieldmarks-classifier", "version" is "2"; "pooling" is the name of
an aggregation, "logit_scale" the factor of the cosines, "temperature" (optional) what replaces it by its
inverse, "conformal_quantile" (optional) what a label's probability may lack of 1 in a set of labels;
"classes", "descriptors" and "texts" are JSON lists. The rest says where it came from: "model" (an id, or a
folder's absolute path) and its "fingerprint", "dtype", "engine", "preset", "text", "concept", "with_name",
"store_sha256", "created", and "store" for one on the hub, with its commit; "parents" are the classes'
broader ones, {class: parent} as JSON; "learned" and "calibrated" are JSON, see learning/learn.py and
learning/calibrate.py.

Version 1 is still read. It says "aggregate" instead of "pooling", and holds class_matrix (C, D) unless that
is max-similarity: unit(image) @ class_matrix.T · logit_scale are the class logits.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final, cast

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fieldmarks.choices import Aggregation, words
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array, Pooling
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import ModelError, StoreError
from fieldmarks.hub import model_id
from fieldmarks.paths import obstacle, open_regular
from fieldmarks.store import durable
from fieldmarks.text import printable

FORMAT: Final = "fieldmarks-classifier"
VERSION: Final = "2"
READABLE: Final = ("1", VERSION)
MAX_HEADER: Final = 100_000_000  # bytes, as in safetensors
MAX_STRINGS: Final = 1_000  # in a header; a classifier's has about 50
_LISTS: Final = ("classes", "descriptors", "texts")
_OWN_KEYS: Final = {
    "format",
    "version",
    "logit_scale",
    "temperature",
    "pooling",
    "aggregate",
    "conformal_quantile",
    *_LISTS,
}
_NUMBERS: Final = {
    "1": ("texts", "class_matrix", "baseline"),
    "2": ("texts", "baseline", "weights", "bias", "thresholds"),
}
_FLOATS: Final = ("F16", "F32", "F64")
_BYTES: Final = ("owner", "digests")  # tensors of integers
_INTEGERS: Final = ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
_LONGEST_SHAPE: Final = 100  # characters
MAX_SCALE: Final = 1_000_000  # a CLIP's logit scale is about 100
# What a damaged or malicious file raises.
_DAMAGE: Final = (
    *(OSError, SafetensorError, ModelError, KeyError, TypeError, ValueError, RuntimeError, MemoryError),
    msgspec.MsgspecError,
)


class _Tensor(msgspec.Struct):
    """What a safetensors header says of a tensor; lists are left as text, as they may be of any length."""

    dtype: str
    shape: msgspec.Raw
    data_offsets: msgspec.Raw


class ClassifierFile:
    """A path for a classifier: free, or an existing classifier to replace; no other file is ever replaced.

    Raises ModelError, when it is made and when it is written, if the place cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if reason := obstacle(path, "a fieldmarks classifier", self._is_classifier):
            raise ModelError(f"{path} {reason}")
        if not path.resolve().parent.is_dir():
            raise ModelError(f"{path} cannot be written: its folder does not exist")

    def write(self, head: Head, metadata: Mapping[str, str] = MappingProxyType({})) -> None:
        """Write a head, with `metadata` beside its own."""
        ClassifierFile(self._path)  # what lies there may have changed meanwhile
        texts = head.texts
        tensors = {
            "texts": head.embeddings,
            "owner": head.owner,
            "baseline": head.baseline,
            "weights": head.pooling.weights,
            "bias": head.bias,
            "digests": head.digests,
            "thresholds": head.thresholds,
        }
        lists = {"classes": texts.classes, "descriptors": texts.descriptors, "texts": texts.texts}
        strings = {
            **metadata,
            **head.metadata,
            "format": FORMAT,
            "version": VERSION,
            "logit_scale": repr(head.logit_scale),
            "pooling": head.pooling.name,
            **({} if head.temperature is None else {"temperature": repr(head.temperature)}),
            **(
                {}
                if head.conformal_quantile is None
                else {"conformal_quantile": repr(head.conformal_quantile)}
            ),
            **{key: json.dumps(value) for key, value in lists.items()},
        }
        arrays = {key: np.ascontiguousarray(value) for key, value in tensors.items() if value is not None}
        try:
            durable.replace(self._path.resolve(), [save(arrays, strings)])
        except (StoreError, SafetensorError) as error:
            raise ModelError(f"{self._path} cannot be written: {error}") from error

    def _is_classifier(self, _: BinaryIO) -> bool:
        try:
            load_head(self._path)
        except ModelError:
            return False
        return True


def load_head(path: Path) -> Head:
    """Read a head. Raises ModelError for a file that is none, is damaged or of a newer version."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            metadata, rows = _checked(file)
        with safe_open(path, "np") as tensors:
            arrays = {key: tensors.get_tensor(key) for key in rows}
        return _head(metadata, arrays)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is not a classifier file: no such file") from error
    except _DAMAGE as error:
        raise ModelError(f"{path} is not a classifier file: {_reason(error)}") from error


def _checked(file: BinaryIO) -> tuple[Mapping[str, str], list[str]]:
    """Return a file's metadata, and the names of its tensors that are a classifier's.

    What the header announces is checked before anything of its size is read. Raises ModelError and what
    msgspec raises.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ModelError("it is not a safetensors file")
    raw = file.read(length)
    if _strings_in(raw) > MAX_STRINGS:
        raise ModelError("its header is not that of a classifier")
    header = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    metadata = msgspec.json.decode(header.pop("__metadata__", b"{}"), type=dict[str, str])
    if metadata.get("format") != FORMAT:
        raise ModelError(f"its metadata does not say {FORMAT!r}")
    version = metadata["version"]
    if version not in READABLE:
        raise ModelError(f"version {version:.20} is not {' or '.join(READABLE)}: use a newer fieldmarks")
    names: list[str] = [name for name in (*_NUMBERS[version], *_BYTES) if name in header]
    shapes = {name: _shape(name, msgspec.json.decode(header[name], type=_Tensor)) for name in names}
    texts = shapes["texts"][0] if shapes["texts"] else 0
    for key in _LISTS:  # a text takes bytes in the tensor too, so that the lists are not larger than the file
        if _strings_in(metadata[key].encode("utf-8", "surrogatepass")) > texts:
            raise ModelError("classes, descriptors and texts do not match")
    return metadata, names


def _strings_in(data: bytes) -> int:
    """Return about how many strings JSON has: one with a backslash at its end may count as half of one."""
    return (data.count(b'"') - data.count(b'\\"')) // 2


def _shape(name: str, tensor: _Tensor) -> list[int]:
    """Return the shape of one of a classifier's tensors. Raises ModelError for another type of numbers."""
    dtypes = {"owner": _INTEGERS, "digests": ("U8",)}.get(name, _FLOATS)
    if tensor.dtype not in dtypes:
        raise ModelError(f"{name} holds {tensor.dtype:.20}; expected one of {', '.join(dtypes)}")
    shape = bytes(tensor.shape)
    if len(shape) > _LONGEST_SHAPE or len(bytes(tensor.data_offsets)) > _LONGEST_SHAPE:
        raise ModelError(f"{name} has too many dimensions")
    sizes = msgspec.json.decode(shape, type=list[int])
    if len(sizes) > 1 and min(sizes) < 1:
        raise ModelError(f"{name} is empty: {tuple(sizes)}")
    return sizes


def _head(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Head:
    classes, descriptors, texts = (_strings(key, metadata[key]) for key in _LISTS)
    is_old = metadata["version"] == "1"
    name = metadata["aggregate" if is_old else "pooling"]
    if name not in words(Aggregation):
        raise ModelError(f"pooling {name[:40]!r} is not one of {', '.join(words(Aggregation))}")
    logit_scale = float(metadata["logit_scale"])
    temperature = float(metadata["temperature"]) if "temperature" in metadata else None
    if not 0 < logit_scale < MAX_SCALE:
        raise ModelError(f"logit_scale {logit_scale} is not between 0 and {MAX_SCALE:,}")
    with np.errstate(over="ignore"):  # what overflows is not finite
        numbers = {
            key: value.astype(np.float32, copy=False) for key, value in tensors.items() if key not in _BYTES
        }
    if not all(np.isfinite(value).all() for value in numbers.values()):
        raise ModelError("a number in it is not finite")
    owner = tensors["owner"]
    if len(set(classes)) != len(classes) or not len(owner) == len(descriptors) == len(texts):
        raise ModelError("classes, descriptors and texts do not match")
    try:
        pooling = Pooling.named(cast(Aggregation, name), numbers.get("weights"))
    except ValueError as error:
        raise ModelError(f"{error}") from error
    model = {"model": model_id(metadata["model"])} if "model" in metadata else {}  # 0.1 kept it as named
    head = Head(
        Texts(classes, tuple(owner.tolist()), descriptors, texts),
        numbers["texts"],
        logit_scale,
        pooling,
        numbers.get("baseline"),
        {key: value for key, value in metadata.items() if key not in _OWN_KEYS} | model,
        numbers.get("bias"),
        temperature,
        tensors.get("digests"),
        numbers.get("thresholds"),
        float(metadata["conformal_quantile"]) if "conformal_quantile" in metadata else None,
    )
    _ = head.parents  # read now, so that damage is found with the file's
    if is_old:
        _check_matrix(head, numbers.get("class_matrix"))
    return head


def _check_matrix(head: Head, matrix: Array | None) -> None:
    with np.errstate(all="ignore"):  # numbers that are too large to add up are not those of the matrix
        expected = head.class_weights
        if expected is not None and (matrix is None or not np.allclose(expected, matrix, atol=1e-4)):
            raise ModelError("the class matrix does not match its texts")


def _strings(key: str, value: str) -> tuple[str, ...]:
    try:
        return tuple(msgspec.json.decode(value.encode("utf-8", "surrogatepass"), type=list[str]))
    except msgspec.ValidationError as error:
        raise ModelError(f"{key} is not a list of strings") from error


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    text = f"{error} is missing" if isinstance(error, KeyError) else str(reason) or type(error).__name__
    return printable(" ".join(text.split())[:300])
