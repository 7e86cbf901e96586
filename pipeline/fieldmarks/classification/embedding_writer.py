"""Writing embedding sets: only what is new is added, and a set is whole at every moment.

    with SetWriter(folder, encoder.provenance) as writer:
        for result in writer.take(embedder.images(writer.missing(paths))):
            ...
        writer.prune()

Rows are gathered into shards of up to ROWS, and each shard is part of the set once the manifest names it (see
embedding_manifest.py). So a run that ends early, by whatever cause, leaves what it has embedded, and the next
one does the rest. Rows never change in place: shards with rows that are dropped are written anew.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from filelock import FileLock, Timeout

from fieldmarks.classification import arrays
from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_files import READ_ROWS, Table, parts, pyarrow_for
from fieldmarks.classification.embedding_manifest import NAME, Manifest, Shard
from fieldmarks.classification.embedding_shards import recovered, remove, stamps_of, write_shard
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.classification.scoring import Array, normalize
from fieldmarks.classification.sources import ImageInput, digest_of, name_of, named_file, unchanged
from fieldmarks.errors import ImageError
from fieldmarks.hub import model_id
from fieldmarks.text import counted

logger = logging.getLogger(__name__)

ROWS: Final = 10_000  # rows of a shard, which is what writing holds in memory
SMALL: Final = ROWS // 2
MAX_SMALL: Final = 16  # shards of fewer rows; if there are more, they are merged
NAMING: Final = 5.0  # seconds between manifests while blocks come: with many shards it is long
_LOCK: Final = f".{NAME}.lock"


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a set: its image's name, the version of its file where it had one, its embedding (D,)."""

    image: str
    version: FileVersion | None
    vector: np.ndarray[Any, Any]


class SetWriter:
    """An embedding set to append to; a context manager, which one process holds at a time.

    `added`, `present`, `reused`, and `dropped` count images: embedded now, in the set already, embedded
    before under another name, and removed from the set. Raises ImageError for a folder that holds anything
    else, is in use by another process, is damaged, or was made with another model or other settings. A run
    `of_blocks` needs to know no file of the set, which takes memory with their number.
    """

    def __init__(
        self, folder: Path, metadata: Mapping[str, str], *, half: bool = False, of_blocks: bool = False
    ) -> None:
        pyarrow_for("writing metadata")
        self.folder = folder
        self.added = self.present = self.reused = self.dropped = 0
        self._metadata = dict(metadata)
        self._half = half
        self._of_blocks = of_blocks
        self._pending: list[_Row] = []
        self._stale: set[int] = set()  # rows of `_index` to drop
        self._unnamed: list[Shard] = []  # written, and not yet in the manifest
        self._named_at = 0.0  # when the manifest was last written
        self._ended = False

    def __enter__(self) -> Self:
        self._is_new = is_new(self.folder)
        try:
            for place in (self.folder, self.folder / "img_emb", self.folder / "metadata"):
                place.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / _LOCK, timeout=0)
            self._lock.acquire()
        except Timeout as error:
            raise ImageError(
                f"{self.folder} is being written by another process: wait for it to end"
            ) from error
        except OSError as error:
            raise ImageError(f"{self.folder} cannot be written: {error.strerror or error}") from error
        try:
            self._open()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
            self._commit([])
            if kind is None and not self._of_blocks:
                self._compact()
            if kind is None:
                self._ended = True
        finally:
            self._release()

    def missing(self, images: Iterable[ImageInput | Failure]) -> Iterator[ImageInput | Failure]:
        """Yield the images that have no embedding here, or one of an earlier version of their file.

        A file of which the set has the content, under another name, is added at once.
        """
        for image in images:
            if isinstance(image, Failure) or not isinstance(image, str | os.PathLike):
                yield image
                continue
            name = self._name(name_of(image, 0))
            row = self._index.row_of.get(name)
            if name in self._asked or (row is not None and unchanged(image, self._index.version(row))):
                self.present += 1
                self._asked.add(name)
            elif (same := self._same_content(image)) is not None:
                self._keep(_Row(name, *same))
                self.reused += 1
            else:
                self._asked.add(name)
                yield image

    def take(self, rows: Iterable[Embedded | Failure]) -> Iterator[Embedded | Failure]:
        """Add embeddings, yielding everything on. Raises ImageError for one of another length."""
        for row in rows:
            if isinstance(row, Embedded):
                is_file = row.version is not None and row.version.stamp is not None
                name = self._name(row.image) if is_file else row.image
                self._keep(_Row(name, row.version, row.vector))
                self.added += 1
            yield row

    @property
    def blocks(self) -> dict[str, int]:
        """The keys of the blocks that the set has, with the number of their images that could be read."""
        return {shard.block: shard.images for shard in self.manifest.shards if shard.block}

    def add_block(self, key: str, rows: Sequence[Embedded | Failure]) -> None:
        """Write the rows of a block as one shard; a Failure is a row of zeros with its error.

        The manifest names it within some seconds, and a run that ends before that is recovered. Raises
        ImageError for embeddings of another length, or a disk that refuses.
        """
        dims = {len(row.vector) for row in rows if isinstance(row, Embedded)}
        dim = self.manifest.dim or next(iter(dims), 0)
        if dims - {dim}:
            raise ImageError(f"{rows[0].image} has an embedding of a different length from those before it")
        if not dim:
            return  # nothing was ever embedded: a row of zeros has no length
        vectors = np.zeros((len(rows), dim), np.float32)
        for vector, row in zip(vectors, rows, strict=True):
            if isinstance(row, Embedded):
                vector[:] = row.vector
        images = [(row.image, row.version if isinstance(row, Embedded) else None) for row in rows]
        shard = write_shard(
            self.folder,
            self.manifest.next + len(self._unnamed),
            images,
            normalize(vectors).astype(self.manifest.stored),
            self._metadata,
            block=key,
            errors=[row.error if isinstance(row, Failure) else None for row in rows],
        )
        self._unnamed.append(shard)
        self.added += sum(isinstance(row, Embedded) for row in rows)
        if time.monotonic() - self._named_at > NAMING:
            self._commit([])

    def prune(self) -> None:
        """Drop the rows of files that no longer exist. Raises ImageError if that would be all of them."""
        gone = [
            row
            for name, row in self._index.row_of.items()
            if row >= 0
            and name not in self._asked
            and self._index.is_file(row)
            and not os.path.lexists(named_file(os.path.join(self.manifest.root, name)))  # noqa: PTH118
        ]
        if gone and len(gone) == self.manifest.rows:
            raise ImageError(
                f"{self.folder}: none of its {counted(len(gone), 'image')} exists any more, so nothing was"
                f" removed: connect the drive with {self.manifest.root}, or delete the whole set"
            )
        self._stale.update(gone)
        self.dropped += len(gone)

    def _open(self) -> None:
        """Read the manifest, put right what an earlier run left, and learn which images are there."""
        manifest = Manifest.read(self.folder)
        if manifest is None or not manifest.next:  # in which there never were images
            manifest = Manifest(
                model=model_id(self._metadata["model"]),
                fingerprint=self._metadata.get("fingerprint"),
                dtype=self._metadata["dtype"],
                decode=self._metadata["decode"],
                root=str(Path.cwd()),
                stored="float16" if self._half else "float32",
            )
            manifest.write(self.folder)
        elif (difference := manifest.difference(self._metadata)) is not None:
            raise ImageError(f"{self.folder} {difference}")
        elif self._half and manifest.stored != "float16":
            raise ImageError(f"{self.folder} holds float32: leave out --half, or choose a new folder")
        self.manifest = recovered(self.folder, manifest)
        self._asked: set[str] = set()
        if not self._of_blocks:
            self._stale |= self._index.outdated

    @cached_property
    def _index(self) -> "_Index":
        return _Index(self.folder, self.manifest)

    def _name(self, name: str) -> str:
        """Return the name of a file as the set has it: as it was passed, but relative to the set's root."""
        here = str(Path.cwd())
        if here == self.manifest.root or os.path.isabs(name):  # noqa: PTH117
            return name
        path = os.path.normpath(os.path.join(here, name))  # noqa: PTH118
        is_inside = path.startswith(self.manifest.root.rstrip("/") + "/")
        return os.path.relpath(path, self.manifest.root) if is_inside else path

    def _same_content(self, image: str | os.PathLike[str]) -> tuple[FileVersion, Array] | None:
        """Return a file's version and embedding if the set has it under another name."""
        try:
            if Path(image).stat().st_size not in self._index.sizes:
                return None
            version = digest_of(image)
        except (OSError, ValueError, ImageError):  # which the embedder tells
            return None
        row = self._index.row_of_digest.get(version.sha256)
        return None if row is None else (version, self._index.vector(row))

    def _keep(self, row: _Row) -> None:
        """Add a row to the shard that is being gathered; an earlier row of its file is dropped."""
        dim = len(self._pending[0].vector) if self._pending else self.manifest.dim
        if dim and len(row.vector) != dim:
            raise ImageError(f"{row.image} has an embedding of a different length from those before it")
        if row.version is not None and row.version.stamp is not None:
            before = self._index.row_of.get(row.image)
            if before is not None:
                self._stale.add(before)
            self._asked.add(row.image)
        self._pending.append(row)
        if len(self._pending) == ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows gathered so far as a shard of the set."""
        pending, self._pending = self._pending, []  # not written twice where the disk refuses it
        if pending:
            unit = normalize(np.stack([row.vector for row in pending]))  # (rows, D)
            self._commit([self._write([(row.image, row.version) for row in pending], unit)])

    def _write(
        self, images: Sequence[tuple[str, FileVersion | None]], vectors: np.ndarray[Any, Any], offset: int = 0
    ) -> Shard:
        number = self.manifest.next + len(self._unnamed) + offset
        return write_shard(self.folder, number, images, vectors.astype(self.manifest.stored), self._metadata)

    def _commit(self, shards: list[Shard], without: frozenset[Shard] = frozenset()) -> None:
        """Make shards part of the set, in the place of others, with those that wait for it."""
        shards = [*self._unnamed, *shards]
        if not shards and not without:
            return
        self._unnamed, self._named_at = [], time.monotonic()
        left = [shard for shard in self.manifest.shards if shard not in without]
        dim = self.manifest.dim
        if shards and not dim:
            dim = arrays.from_file(self.folder / shards[0].vectors).shape[1]
        self.manifest = self.manifest.with_shards((*left, *shards), dim=dim)
        self.manifest.write(self.folder)
        for shard in without:
            remove(self.folder, shard)

    def _compact(self) -> None:
        """Write shards anew that have rows to drop, and small ones where there are many."""
        small = {shard for shard in self.manifest.shards if shard.rows < SMALL and not shard.block}
        stale = self._index.by_shard(self._stale) if self._stale else {}
        merged = small if len(small) > MAX_SMALL else set()
        old = [shard for shard in self.manifest.shards if shard in stale or shard in merged]
        rows = chain.from_iterable(_rows(self.folder, shard, stale.get(shard, frozenset())) for shard in old)
        new: list[Shard] = []
        while part := list(islice(rows, ROWS)):
            vectors = np.stack([row.vector for row in part])
            new.append(self._write([(row.image, row.version) for row in part], vectors, len(new)))
        if old:
            self._commit(new, frozenset(old))

    def _release(self) -> None:
        """Give the set free; one in which nothing was written before it failed leaves no trace."""
        unused = self._is_new and not self._ended and not getattr(self, "manifest", _NONE).rows
        if unused:
            (self.folder / NAME).unlink(missing_ok=True)
        self._lock.release()
        if unused:
            (self.folder / _LOCK).unlink(missing_ok=True)
            for place in (self.folder / "img_emb", self.folder / "metadata", self.folder):
                with suppress(OSError):
                    place.rmdir()


_NONE: Final = Manifest(model="", fingerprint=None, dtype="", decode="", root="")


class _Index:
    """Which images a set holds, by name and by the digest of their files; about 0.5 KB per image.

    A row is called by its number in the set. Of several rows of one file, the last one counts and the others
    are `outdated`: a run that replaced it was stopped.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._shards = manifest.shards
        self._starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])
        self.row_of: dict[str, int] = {}
        self.row_of_digest: dict[str, int] = {}
        self.outdated: set[int] = set()
        stamps, self._digests = list[np.ndarray[Any, Any]](), list[str | None]()
        for start, part in zip(self._starts.tolist(), parts(folder), strict=False):
            assert part.beside is not None  # as the manifest names it
            with Table(part.beside) as table:
                table.require_rows(part.rows)
                stamps.append(stamps_of(table))
                digests = list(table.texts("sha256"))
            self._digests += digests
            each = zip(part.names(), digests, stamps[-1][:, 0].tolist(), strict=True)
            for row, (name, digest, size) in enumerate(each, start):
                if size >= 0:
                    self.outdated |= {self.row_of[name]} if name in self.row_of else set()
                    self.row_of[name] = row
                if digest is not None:
                    self.row_of_digest[digest] = row
        self._stamps = np.concatenate(stamps) if stamps else np.empty((0, 3), np.int64)  # (N, 3)
        self.sizes = set(self._stamps[:, 0].tolist()) - {-1}

    def is_file(self, row: int) -> bool:
        """Whether a row is that of a file, not of an image in memory."""
        return bool(self._stamps[row, 0] >= 0)

    def version(self, row: int) -> FileVersion:
        """Return the version of a row's file."""
        size, mtime, ctime = self._stamps[row].tolist()
        return FileVersion(self._digests[row] or "", (size, mtime, ctime) if size >= 0 else None)

    def vector(self, row: int) -> Array:
        """Return a row's embedding (D,)."""
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        stored = arrays.from_file(self._folder / self._shards[place].vectors)
        vector: Array = stored.mapped()[row - self._starts[place]].astype(np.float32)
        return vector

    def by_shard(self, rows: set[int]) -> dict[Shard, frozenset[int]]:
        """Return rows by shard, with their numbers in it."""
        shards: dict[Shard, set[int]] = {}
        for row in rows:
            place = int(np.searchsorted(self._starts, row, side="right")) - 1
            shards.setdefault(self._shards[place], set()).add(row - int(self._starts[place]))
        return {shard: frozenset(own) for shard, own in shards.items()}


def is_new(folder: Path) -> bool:
    """Whether a folder is new or empty, not a set to append to. Raises ImageError for anything else."""
    if not os.path.lexists(folder):
        return True
    if not folder.is_dir():
        raise ImageError(f"{folder} already exists and is not a folder; choose a new one")
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries} - {_LOCK}
    except OSError as error:
        raise ImageError(f"{folder} cannot be used: {error.strerror or error}") from error
    if NAME in names:
        return False
    if names & {"img_emb", "metadata"} and any(folder.glob("*/*")):
        raise ImageError(
            f"{folder} holds embeddings without a {NAME}, by clip-retrieval or fieldmarks 0.1, to which none"
            " can be added: choose a new folder"
        )
    if names - {"img_emb", "metadata"}:
        raise ImageError(f"{folder} already exists and is not empty; choose a new folder")
    return True


def _rows(folder: Path, shard: Shard, without: frozenset[int]) -> Iterator[_Row]:
    """Yield a shard's rows but some. Raises ImageError for other vectors than the manifest's."""
    content = (folder / shard.vectors).read_bytes()
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise ImageError(
            f"{folder / shard.vectors} is damaged: restore it, or delete the folder and embed again"
        )
    vectors = arrays.from_file(folder / shard.vectors)
    with Table(folder / shard.metadata) as table:
        names, digests = list(table.texts("image_path")), list(table.texts("sha256"))
        stamps = stamps_of(table).tolist()
    each = zip(names, digests, stamps, chain.from_iterable(vectors.parts(READ_ROWS)), strict=True)
    for row, (name, digest, stamp, vector) in enumerate(each):
        if row not in without:
            stamped = (stamp[0], stamp[1], stamp[2]) if stamp[0] >= 0 else None
            yield _Row(name or "", FileVersion(digest, stamped) if digest else None, vector)
