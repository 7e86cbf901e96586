"""A classifier as a file, which scores without the text encoder and without the store.

It is safetensors with
    class_matrix (C, D)   unit(image) @ class_matrix.T · logit_scale are the class logits; left out with
                          max-similarity, which no matrix of one row a class expresses
    texts (M, D)          the embedding of each text, not of unit length
    owner (M,)            the class index of each text
    baseline (C, D)       the embedding of each name's prompt, if there is a baseline
and metadata: "format" is "fieldmarks-classifier", "version" is "1", "logit_scale" and "aggregate" are
theirs, "classes", "descriptors" and "texts" are JSON lists, and the rest ("model", "preset",
"store_sha256", …) says where it came from.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fieldmarks.choices import Aggregation, words
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Pooling
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import ModelError, StoreError
from fieldmarks.paths import obstacle, open_regular
from fieldmarks.store import durable
from fieldmarks.text import printable

FORMAT: Final = "fieldmarks-classifier"
VERSION: Final = "1"
MAX_HEADER: Final = 100_000_000  # bytes, as in safetensors
MAX_STRINGS: Final = 1_000  # in a header; a classifier's has about 50
_LISTS: Final = ("classes", "descriptors", "texts")
_OWN_KEYS: Final = {"format", "version", "logit_scale", "aggregate", *_LISTS}
_NUMBERS: Final = ("texts", "class_matrix", "baseline")
_FLOATS: Final = ("F16", "F32", "F64")
_INTEGERS: Final = ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
_LONGEST_SHAPE: Final = 100  # characters


class _Tensor(msgspec.Struct):
    """What a safetensors header says of a tensor; lists are left as text, as they may be of any length."""

    dtype: str
    shape: msgspec.Raw
    data_offsets: msgspec.Raw


def save_head(head: Head, path: Path) -> None:
    """Write a head as a file; a classifier is replaced, any other file is left alone.

    Raises ModelError if the path cannot be written or holds something else.
    """
    check_place(path)
    tensors = {"texts": head.embeddings, "owner": head.owner, "class_matrix": head.class_weights}
    tensors["baseline"] = head.baseline
    texts = head.texts
    lists = {"classes": texts.classes, "descriptors": texts.descriptors, "texts": texts.texts}
    metadata = {
        **head.about,
        "format": FORMAT,
        "version": VERSION,
        "logit_scale": repr(head.logit_scale),
        "aggregate": head.pooling.name,
        **{key: json.dumps(value) for key, value in lists.items()},
    }
    arrays = {key: np.ascontiguousarray(value) for key, value in tensors.items() if value is not None}
    try:
        durable.replace(path.resolve(), [save(arrays, metadata)])
    except (StoreError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be written: {error}") from error


def check_place(path: Path) -> None:
    """Raise ModelError where `save_head` would refuse: a classifier is replaced, no other file is."""

    def is_classifier(_: BinaryIO) -> bool:
        try:
            load_head(path)
        except ModelError:
            return False
        return True

    if reason := obstacle(path, "a fieldmarks classifier", is_classifier):
        raise ModelError(f"{path} {reason}")
    if not path.resolve().parent.is_dir():
        raise ModelError(f"{path} cannot be written: its folder does not exist")


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
    except (
        *(OSError, SafetensorError, ModelError, KeyError, TypeError, ValueError, RuntimeError, MemoryError),
        msgspec.MsgspecError,
    ) as error:
        raise ModelError(f"{path} is not a classifier file: {_reason(error)}") from error


def _checked(file: BinaryIO) -> tuple[Mapping[str, str], list[str]]:
    """Return a file's metadata, and the names of its tensors that are a classifier's.

    What the header announces is checked before anything of its size is read. Raises ModelError and what
    msgspec raises.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ModelError("it does not begin as a safetensors file")
    raw = file.read(length)
    if _strings_in(raw) > MAX_STRINGS:
        raise ModelError("its header is not that of a classifier")
    header = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    metadata = msgspec.json.decode(header.pop("__metadata__", b"{}"), type=dict[str, str])
    if metadata.get("format") != FORMAT:
        raise ModelError(f"its metadata does not say {FORMAT!r}")
    if metadata["version"] != VERSION:
        raise ModelError(f"version {metadata['version']:.20} is not {VERSION}: use a newer fieldmarks")
    names: list[str] = [name for name in (*_NUMBERS, "owner") if name in header]
    shapes = {name: _shape(name, msgspec.json.decode(header[name], type=_Tensor)) for name in names}
    texts = shapes["texts"][0] if shapes["texts"] else 0
    for key in _LISTS:  # a text takes bytes in the tensor too, so that the lists are not larger than the file
        if _strings_in(metadata[key].encode("utf-8", "surrogatepass")) > texts:
            raise ModelError("classes, descriptors and texts do not fit together")
    return metadata, names


def _strings_in(data: bytes) -> int:
    """Return about how many strings JSON has: one with a backslash at its end may count as half of one."""
    return (data.count(b'"') - data.count(b'\\"')) // 2


def _shape(name: str, tensor: _Tensor) -> list[int]:
    """Return the shape of one of a classifier's tensors. Raises ModelError for another type of numbers."""
    dtypes = _INTEGERS if name == "owner" else _FLOATS
    if tensor.dtype not in dtypes:
        raise ModelError(f"{name} holds {tensor.dtype:.20}; expected one of {', '.join(dtypes)}")
    shape = bytes(tensor.shape)
    if len(shape) > _LONGEST_SHAPE or len(bytes(tensor.data_offsets)) > _LONGEST_SHAPE:
        raise ModelError(f"{name} has a shape of too many dimensions")
    sizes = msgspec.json.decode(shape, type=list[int])
    if len(sizes) > 1 and min(sizes) < 1:
        raise ModelError(f"{name} is empty: {tuple(sizes)}")
    return sizes


def _head(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Head:
    classes, descriptors, texts = (_strings(key, metadata[key]) for key in _LISTS)
    aggregate = next((name for name in words(Aggregation) if name == metadata["aggregate"]), None)
    logit_scale = float(metadata["logit_scale"])
    if aggregate is None or not 0 < logit_scale < 1e6:
        raise ModelError(f"aggregate {metadata['aggregate'][:40]!r} with logit_scale {logit_scale}")
    with np.errstate(over="ignore"):  # what overflows is not finite
        numbers = {key: tensors[key].astype(np.float32, copy=False) for key in _NUMBERS if key in tensors}
    if not all(np.isfinite(value).all() for value in numbers.values()):
        raise ModelError("a number in it is not finite")
    owner = tensors["owner"]
    if len(set(classes)) != len(classes) or not len(owner) == len(descriptors) == len(texts):
        raise ModelError("classes, descriptors and texts do not fit together")
    head = Head(
        Texts(classes, tuple(owner.tolist()), descriptors, texts),
        numbers["texts"],
        logit_scale,
        Pooling.named(aggregate),
        numbers.get("baseline"),
        {key: value for key, value in metadata.items() if key not in _OWN_KEYS},
    )
    matrix = numbers.get("class_matrix")
    with np.errstate(all="ignore"):  # numbers that are too large to add up are not those of the matrix
        expected = head.class_weights
        if expected is not None and (matrix is None or not np.allclose(expected, matrix, atol=1e-4)):
            raise ModelError("the class matrix is not that of its texts")
    return head


def _strings(key: str, value: str) -> tuple[str, ...]:
    try:
        return tuple(msgspec.json.decode(value.encode("utf-8", "surrogatepass"), type=list[str]))
    except msgspec.ValidationError as error:
        raise ModelError(f"{key} is not a list of texts") from error


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    text = f"{error} is missing" if isinstance(error, KeyError) else str(reason) or type(error).__name__
    return printable(" ".join(text.split())[:300])
