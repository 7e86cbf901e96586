"""One shard of an embedding set on disk: written, recognised after a stopped run, removed.

A shard is two files, vectors and metadata; see embedding_manifest.py. The metadata are written last and hold
the digest of the vectors, so a shard that is whole can be told from one that is not.
"""

import hashlib
import io
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from fieldmarks.classification import arrays
from fieldmarks.classification.embedding_files import Table, pyarrow_for
from fieldmarks.classification.embedding_manifest import REMEDY, Manifest, Shard
from fieldmarks.classification.results import FileVersion
from fieldmarks.errors import ImageError, StoreError
from fieldmarks.hub import model_id
from fieldmarks.store import durable
from fieldmarks.text import counted

logger = logging.getLogger(__name__)

MODEL_KEY: Final = b"fieldmarks.model"  # beside it, dtype, engine, decode, fingerprint
DIGEST_KEY: Final = b"fieldmarks.vectors_sha256"  # which says that the vectors were written before, and whole
BLOCK_KEY: Final = b"fieldmarks.block"
_SHARD_FILE: Final = re.compile(r"(?:img_emb|metadata)_(\d{4,12})\.(?:npy|parquet)")
_DRAFT: Final = re.compile(r"\.(img_emb|metadata)_\d+\.(npy|parquet)\.[0-9a-f]{16}\.tmp")
_STAMP: Final = ("size", "mtime_ns", "ctime_ns")  # columns that are null for an image in memory


def write_shard(
    folder: Path,
    number: int,
    images: Sequence[tuple[str, FileVersion | None]],
    vectors: np.ndarray[Any, Any],
    metadata: Mapping[str, str],
    *,
    block: str = "",
    errors: Sequence[str | None] | None = None,
) -> Shard:
    """Write the two files of a shard and return it; to be part of the set, the manifest has to name it.

    `images` are the names, and versions of the files, of the rows of `vectors` (rows, D); `errors` say why a
    row is none. Raises ImageError.
    """
    arrow, parquet = pyarrow_for("writing metadata")
    content, table_content = io.BytesIO(), io.BytesIO()
    np.save(content, vectors)
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    failed = sum(error is not None for error in errors or ())
    shard = Shard.numbered(number, len(vectors), digest, block, failed)
    versions = [version for _, version in images]
    stamps = [(version and version.stamp) or (None, None, None) for version in versions]
    columns = {
        "image_path": arrow.array([image for image, _ in images], arrow.string()),
        "sha256": arrow.array([version and version.sha256 for version in versions], arrow.string()),
    }
    for place, name in enumerate(_STAMP):
        columns[name] = arrow.array([stamp[place] for stamp in stamps], arrow.int64())
    if errors is not None:
        columns["error"] = arrow.array(errors, arrow.string())
    keys = {f"fieldmarks.{key}": value for key, value in metadata.items()}
    keys |= {BLOCK_KEY.decode(): block} if block else {}
    table = arrow.table(columns).replace_schema_metadata(keys | {DIGEST_KEY.decode(): shard.sha256})
    parquet.write_table(table, table_content, write_page_checksum=True)
    try:
        durable.replace(folder / shard.vectors, [content.getvalue()])
        durable.replace(folder / shard.metadata, [table_content.getvalue()])
    except StoreError as error:
        raise ImageError(str(error)) from error
    return shard


def stamps_of(table: Table) -> np.ndarray[Any, Any]:
    """Return the stamps of a shard's files (rows, 3), -1 for an image in memory."""
    return np.stack([table.integers(name) for name in _STAMP], axis=1)


def recovered(folder: Path, manifest: Manifest) -> Manifest:
    """Return a manifest with the shards that a stopped run had finished, and remove what it had not.

    Raises ImageError for files that are not of such a run, and where files of the set are missing.
    """
    there = {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")}
    every = (name for shard in manifest.shards for name in (shard.vectors, shard.metadata))
    if (missing := next((name for name in every if name not in there), None)) is not None:
        raise ImageError(f"{folder} is incomplete: {Path(missing).name} is missing: {REMEDY}")
    for place in ("img_emb", "metadata"):
        for path in (folder / place).iterdir():
            if _DRAFT.fullmatch(path.name):
                path.unlink()
    named = {shard.number for shard in manifest.shards}
    files = (_SHARD_FILE.fullmatch(path.name) for path in folder.glob("*/*"))
    found: list[Shard] = []
    for number in sorted({int(file[1]) for file in files if file} - named):
        shard = Shard.numbered(number)
        if number < manifest.next or not (folder / shard.metadata).exists():
            remove(folder, shard)
        elif (whole := _whole(folder, shard, manifest)) is not None:
            found.append(whole)
        else:
            raise ImageError(
                f"{folder} holds {shard.vectors}, which is not part of the set: move it and"
                f" {shard.metadata} away"
            )
    if not found:
        return manifest
    logger.warning("%s: recovered %s of a run that was stopped", folder, counted(len(found), "shard"))
    dim = manifest.dim or arrays.from_file(folder / found[0].vectors).shape[1]
    manifest = manifest.with_shards((*manifest.shards, *found), dim=dim)
    manifest.write(folder)
    return manifest


def _whole(folder: Path, shard: Shard, manifest: Manifest) -> Shard | None:
    """Return a shard that is not named yet with its rows and digest, None where it is not of this set."""
    try:
        with Table(folder / shard.metadata) as table:
            keys = {key.decode(): value.decode() for key, value in table.metadata.items()}
            stored = arrays.from_file(folder / shard.vectors)
            table.require_rows(stored.shape[0])
            errors = table.texts("error") if "error" in table.columns else iter(())
            failed = sum(error is not None for error in errors)
        digest = hashlib.sha256((folder / shard.vectors).read_bytes()).hexdigest()
    except (ImageError, OSError, UnicodeDecodeError):
        return None
    fits = (
        keys.get(DIGEST_KEY.decode()) == digest
        and model_id(keys.get("fieldmarks.model", "")) == manifest.model
        and keys.get("fieldmarks.fingerprint") == manifest.fingerprint
        and stored.dtype == np.dtype(manifest.stored)
        and manifest.dim in (0, stored.shape[-1])
    )
    block = keys.get(BLOCK_KEY.decode(), "")
    return Shard.numbered(shard.number, stored.shape[0], digest, block, failed) if fits else None


def remove(folder: Path, shard: Shard) -> None:
    """Remove a shard's files, the metadata first."""
    for name in (shard.metadata, shard.vectors):
        (folder / name).unlink(missing_ok=True)
