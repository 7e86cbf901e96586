"""Sets of image embeddings, read: a folder that `embed` or clip-retrieval wrote, or a NumPy archive."""

import logging
import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fieldmarks import choices
from fieldmarks.choices import Device, DType, checks_keywords
from fieldmarks.classification import embedding_files
from fieldmarks.classification.embedder import Clip, Embedded, open_embedder
from fieldmarks.classification.embedding_files import READ_ROWS, Part, Table
from fieldmarks.classification.embedding_manifest import Manifest
from fieldmarks.classification.embedding_shards import MODEL_KEY
from fieldmarks.classification.embedding_writer import SetWriter
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import ImageInput, inputs_of, named_file
from fieldmarks.hub import model_id

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]


class EmbeddingSet:
    """Embeddings of images in a folder or an archive, with the images' names; read as it is iterated over.

        embeddings = fm.embed("photos/", "photos-embedded", clip="openai/clip-vit-base-patch32")
        classifier.score(embeddings)
        embeddings.vectors.shape  # (N, D)

    Everything raises ImageError for a file that cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"<EmbeddingSet {str(self.path)!r}>"

    def __iter__(self) -> Iterator[Embedded | Failure]:
        """Yield the embeddings in order, a Failure for one that is not one.

        Without names, an image is called by its file and row.
        """
        for part in self.parts():
            yield from rows_of(part)

    def labels(self) -> Iterator[str | None]:
        """Yield the label that the file itself gives to each row, in step with them; None for no label."""
        for part in self.parts():
            yield from part.labels()

    def parts(self) -> list[Part]:
        """Return the files' parts, in order."""
        return embedding_files.parts(self.path)

    @property
    def manifest(self) -> Manifest | None:
        """What `embed` wrote about the set; None for clip-retrieval's folders, archives and sets of 0.1."""
        return Manifest.read(self.path)

    @property
    def model(self) -> str | None:
        """The model that made a folder's embeddings, by id or absolute path, if its metadata says so."""
        if (manifest := self.manifest) is not None:
            return manifest.model
        first = next(iter(sorted((self.path / "metadata").glob("*.parquet"))), None)
        if first is None:
            return None
        with Table(first) as table:
            value = table.metadata.get(MODEL_KEY)
        return model_id(value.decode("utf-8", "replace")) if value else None

    @property
    def images(self) -> list[str]:
        """The images' names, in the order of `vectors`."""
        return [row.image for row in self if isinstance(row, Embedded)]

    @property
    def vectors(self) -> Array:
        """The embeddings as one float32 array (N, D), without those that are no numbers or all zeros."""
        rows = [row.vector for row in self if isinstance(row, Embedded)]
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    def file_of(self, image: str) -> Path:
        """Return where an image of the set is expected, as a relative path starts where the set was made."""
        manifest = self.manifest
        path = Path(manifest.root, image) if manifest else Path(image)
        return Path(os.fsdecode(named_file(str(path))))

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row for each image, its name as the index. Raises ImportError."""
        return import_module("pandas").DataFrame(self.vectors, index=self.images)


@checks_keywords
def embed(
    images: str | os.PathLike[str] | Iterable[ImageInput],
    out: str | os.PathLike[str],
    *,
    prune: bool = False,
    half: bool = False,
    clip: Clip | None = None,
    device: Device = "auto",
    dtype: DType = "auto",
    engine: choices.Engine = "auto",
    decode: choices.Decode = "auto",
    batch: int | None = None,
    cache: bool = False,
) -> EmbeddingSet:
    """Embed images into a folder, in the layout of clip-retrieval, and return it as a set.

    images: a folder, a glob, or a list of paths, folders, PIL images, arrays and tensors.
    out: a new or empty folder, or one of an earlier call, to which only what is new is added. An image whose
        file has changed replaces what was there.
    prune: remove the embeddings of files that no longer exist.
    half: store float16 instead of float32. The vectors are of unit length.
    clip, device, dtype, engine, decode, batch, cache: as of a Classifier.

        embeddings = embed("photos/", "photos-embedded", clip="openai/clip-vit-base-patch32")

    Images that cannot be read are logged as warnings and left out. Raises ImageError for a folder that holds
    anything else, was made in another way, is in use or cannot be written; ModelError; UsageError.
    """
    embedder = open_embedder(
        clip, device=device, dtype=dtype, engine=engine, decode=decode, batch=batch, cache=cache
    )
    with SetWriter(Path(out), embedder.encoder.provenance, half=half) as writer:
        for result in writer.take(embedder.images(writer.missing(inputs_of(images)))):
            if isinstance(result, Failure):
                logger.warning("%s: %s", result.image, result.error)
        if prune:
            writer.prune()
    return EmbeddingSet(out)


def rows_of(part: Part) -> Iterator[Embedded | Failure]:
    """Yield the embeddings of a part in order, a Failure for one that is not one.

    Raises ImageError for vectors that are not the manifest's.
    """
    part.require_digest()
    named = zip(part.names(), part.errors(), strict=True)
    for rows in part.vectors.parts(READ_ROWS):
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite
            numbers = rows.astype(np.float32)  # (rows, D)
            finite, marked = np.all(np.isfinite(numbers), axis=1), np.any(numbers, axis=1)  # (rows,) each
        each = zip(islice(named, len(numbers)), numbers, strict=True)
        for row, ((name, error), vector) in enumerate(each):
            if error is not None:
                yield Failure(name, error)
            elif not finite[row]:
                yield Failure(name, "its embedding contains NaN or infinity")
            elif not marked[row]:
                yield Failure(name, "its embedding is all zeros")
            else:
                yield Embedded(name, vector)


def model_for(clip: Clip | None, embeddings: str | os.PathLike[str] | None) -> Clip | None:
    """Return `clip`, or the model that made the embeddings where none is named: texts need the same one.

    It is None where the embeddings do not say. Raises ImageError for embeddings that cannot be read.
    """
    if clip is not None or embeddings is None:
        return clip
    return EmbeddingSet(embeddings).model
