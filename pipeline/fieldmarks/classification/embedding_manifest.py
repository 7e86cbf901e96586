"""The manifest of an embedding set: which files belong to it, and how its embeddings were made.

A set is a folder of shards in clip-retrieval's layout, img_emb/img_emb_N.npy (rows, D) beside
metadata/metadata_N.parquet, and manifest.json:

    {"format": "fieldmarks-embeddings", "version": 1, "model", "fingerprint", "dtype", "decode", "stored",
     "dim", "rows", "root", "next", "shards": [{"vectors", "metadata", "rows", "sha256", "block", "failed"}…]}

`fingerprint` tells the model and its preprocessing from any other, `dtype` and `decode` are as in
`Encoder.metadata`, and `stored` is the type of the numbers in the files, float32 or float16. Relative paths
of images start at `root`. `sha256` is that of the vectors' file.

What the manifest does not name is not part of the set. A shard is written in three steps: its vectors, its
metadata with the digest of the vectors, the manifest. So a shard can be made by any process without the
others, and one that is whole but not named yet can be told from one that is not. Numbers from `next` on are
free; an unnamed shard of a lower number was replaced by others.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from fieldmarks.errors import ImageError, StoreError
from fieldmarks.hub import model_id
from fieldmarks.paths import read_regular
from fieldmarks.store import durable

NAME: Final = "manifest.json"
FORMAT: Final = "fieldmarks-embeddings"
VERSION: Final = 1
REMEDY: Final = "restore the folder, or delete it and run `fieldmarks embed` again"
MAX_BYTES: Final = 2**28  # of a manifest; a shard takes about 200
_MOST_SHARDS: Final = 10**11  # which the names of files have room for
_STORED: Final = ("float32", "float16")
_FILES: Final = re.compile(r"img_emb/img_emb_(\d{4,12})\.npy metadata/metadata_(\d{4,12})\.parquet")


@dataclass(frozen=True, slots=True)
class Shard:
    """Some rows of a set: two files, by their paths inside the set's folder.

    `block` is the key of the archive or part of a table that the rows are of; see scale/blocks.py. `failed`
    is how many of the rows are zeros with an error.
    """

    vectors: str
    metadata: str
    rows: int
    sha256: str
    block: str = ""
    failed: int = 0

    @classmethod
    def numbered(
        cls, number: int, rows: int = 0, sha256: str = "", block: str = "", failed: int = 0
    ) -> "Shard":
        """Return the shard of a number."""
        vectors, metadata = f"img_emb/img_emb_{number:04d}.npy", f"metadata/metadata_{number:04d}.parquet"
        return cls(vectors, metadata, rows, sha256, block, failed)

    @property
    def images(self) -> int:
        """How many of its rows are embeddings."""
        return self.rows - self.failed

    @property
    def number(self) -> int:
        """The number in the names of its files. Raises ImageError for other names."""
        names = _FILES.fullmatch(f"{self.vectors} {self.metadata}")
        if names is None or names[1] != names[2]:
            raise ImageError(
                f"it names files that no shard has: {self.vectors[:80]!r}, {self.metadata[:80]!r}"
            )
        return int(names[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the module's docstring says; frozen, so that a change is a new manifest."""

    model: str
    fingerprint: str | None
    dtype: str
    decode: str
    root: str
    stored: str = "float32"
    format: str = FORMAT
    version: int = VERSION
    dim: int = 0
    rows: int = 0
    next: int = 0
    shards: tuple[Shard, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """Return a folder's manifest, None where there is none. Raises ImageError for one that is damaged."""
        path = folder / NAME
        if not os.path.lexists(path):
            return None
        try:
            header = msgspec.json.decode(read_regular(path, MAX_BYTES), type=dict[str, msgspec.Raw])
            if msgspec.json.decode(header.get("format", b"null")) != FORMAT:
                raise ValueError(f"its format is not {FORMAT!r}")
            version = msgspec.json.decode(header.get("version", b"null"))
            if version != VERSION:
                raise ValueError(f"version {version!r:.20} is not {VERSION}: use a newer fieldmarks")
            manifest = msgspec.json.decode(msgspec.json.encode(header), type=cls)
            manifest._check()
        except (OSError, ValueError, msgspec.MsgspecError, ImageError, RecursionError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            advice = "" if "use a newer" in str(reason) else f": {REMEDY}"
            raise ImageError(f"{path} is not the manifest of an embedding set: {reason}{advice}") from error
        return replace(manifest, model=model_id(manifest.model))

    def _check(self) -> None:
        """Raise ImageError for what no manifest says."""
        numbers = [shard.number for shard in self.shards]
        if len(set(numbers)) < len(numbers) or any(number >= self.next for number in numbers):
            raise ImageError("the numbers of its shards repeat, or reach beyond `next`")
        if self.next > _MOST_SHARDS:
            raise ImageError(f"its next shard has the number {self.next}; the limit is {_MOST_SHARDS:,}")
        if min((shard.rows for shard in self.shards), default=1) < 1:
            raise ImageError("it names a shard without rows")
        if any(not 0 <= shard.failed <= shard.rows for shard in self.shards):
            raise ImageError("it names a shard with more failed rows than rows")
        if self.rows != sum(shard.rows for shard in self.shards) or self.dim < bool(self.rows):
            raise ImageError("its rows are not those of its shards")
        if self.stored not in _STORED:
            raise ImageError(f"stored {self.stored[:20]!r} is not one of {', '.join(_STORED)}")

    @property
    def images(self) -> int:
        """How many of the set's rows are embeddings."""
        return sum(shard.images for shard in self.shards)

    def with_shards(self, shards: tuple[Shard, ...], *, dim: int) -> "Manifest":
        """Return the manifest of these shards."""
        after = max((shard.number + 1 for shard in shards), default=0)
        rows = sum(shard.rows for shard in shards)
        return replace(self, shards=shards, rows=rows, dim=dim if rows else 0, next=max(self.next, after))

    def write(self, folder: Path) -> None:
        """Put this in the place of a folder's manifest, whole or not at all. Raises ImageError."""
        try:
            durable.replace(folder / NAME, [orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2), b"\n"])
        except StoreError as error:
            raise ImageError(str(error)) from error

    def difference(self, metadata: Mapping[str, str]) -> str | None:
        """Return how embeddings made otherwise (see `Encoder.metadata`) differ from these, and what to do."""
        if model_id(metadata["model"]) != self.model:
            return f"was made with the model {self.model}, not {metadata['model']}: pass --clip {self.model}"
        if metadata.get("fingerprint") != self.fingerprint:
            return f"was made with another version of {self.model} or its preprocessing: choose a new folder"
        if metadata["dtype"] != self.dtype:
            return f"was made in {self.dtype}, not {metadata['dtype']}: pass --dtype {self.dtype}"
        if metadata["decode"] != self.decode:
            if "gpu" in (self.decode, metadata["decode"]):
                advice = "pass it again" if self.decode == "gpu" else "leave it out"
                return f"was made {'with' if self.decode == 'gpu' else 'without'} --decode gpu: {advice}"
            return f"was made of images decoded at {self.decode} size: choose a new folder"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return asdict(self)
