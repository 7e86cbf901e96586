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
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import AGGREGATIONS
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import ModelError

FORMAT: Final = "fieldmarks-classifier"
VERSION: Final = "1"
_LISTS: Final = ("classes", "descriptors", "texts")
_OWN_KEYS: Final = {"format", "version", "logit_scale", "aggregate", *_LISTS}


def save_head(head: Head, path: Path) -> None:
    """Write a head as a file; one of an earlier time is replaced, any other file is left alone.

    Raises ModelError if the path cannot be written or holds something else.
    """
    if path.exists():
        try:
            load_head(path)
        except ModelError as error:
            raise ModelError(f"{path} is there and is no classifier: choose another name") from error
    tensors = {"texts": head.embeddings, "owner": head.owner, "class_matrix": head.class_matrix}
    tensors["baseline"] = head.baseline
    texts = head.texts
    lists = {"classes": texts.classes, "descriptors": texts.descriptors, "texts": texts.texts}
    metadata = {
        **head.about,
        "format": FORMAT,
        "version": VERSION,
        "logit_scale": repr(head.logit_scale),
        "aggregate": head.aggregate,
        **{key: json.dumps(value) for key, value in lists.items()},
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        kept = {key: np.ascontiguousarray(value) for key, value in tensors.items() if value is not None}
        save_file(kept, beside, metadata)
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        raise ModelError(f"{path} cannot be written: {error}") from error


def load_head(path: Path) -> Head:
    """Read a head. Raises ModelError for a file that is none, is damaged or of a newer version."""
    try:
        if not path.is_file():
            raise ModelError("no such file")
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        return _head(metadata, tensors)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is no classifier file: {' '.join(str(error).split())}") from error
    except (ModelError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is no classifier file: {_reason(error)}") from error


def _head(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Head:
    if metadata.get("format") != FORMAT:
        raise ModelError(f"its metadata does not say {FORMAT!r}")
    if metadata["version"] != VERSION:
        raise ModelError(f"version {metadata['version'][:20]} is not {VERSION}: use a newer fieldmarks")
    classes, descriptors, texts = (_strings(key, metadata[key]) for key in _LISTS)
    aggregate = metadata["aggregate"]
    logit_scale = float(metadata["logit_scale"])
    if aggregate not in AGGREGATIONS or not 0 < logit_scale < 1e6:
        raise ModelError(f"aggregate {aggregate[:40]!r} with logit_scale {logit_scale}")
    with np.errstate(over="ignore"):  # what overflows is not finite
        numbers = {
            key: value.astype(np.float32, copy=False) for key, value in tensors.items() if key != "owner"
        }
    if not all(np.isfinite(value).all() for value in numbers.values()):
        raise ModelError("a number in it is not finite")
    owner = tensors["owner"]
    if owner.dtype.kind not in "iu":
        raise ModelError(f"owner holds {owner.dtype}: the classes' indices are meant")
    if len(set(classes)) != len(classes) or not len(owner) == len(descriptors) == len(texts):
        raise ModelError("classes, descriptors and texts do not fit together")
    head = Head(
        Texts(classes, tuple(owner.tolist()), descriptors, texts),
        numbers["texts"],
        logit_scale,
        next(one for one in AGGREGATIONS if one == aggregate),
        numbers.get("baseline"),
        {key: value for key, value in metadata.items() if key not in _OWN_KEYS},
    )
    matrix = numbers.get("class_matrix")
    expected = head.class_matrix
    if expected is not None and (matrix is None or not np.allclose(expected, matrix, atol=1e-4)):
        raise ModelError("the class matrix is not that of its texts")
    return head


def _strings(key: str, value: str) -> tuple[str, ...]:
    items: Any = json.loads(value)
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ModelError(f"{key} is not a list of texts")
    return tuple(items)


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
