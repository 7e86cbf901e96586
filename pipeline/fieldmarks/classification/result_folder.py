"""Results of a whole embedding set: a folder with one Parquet file for each shard of the set.

    RESULTS/_results.json                             what the results depend on, as in a results journal
    RESULTS/results_0003_9f86d081884c7d65.parquet     those of shard 3, by the digest of its vectors

A file's name says which shard it is of, and it appears whole or not at all, so the names alone tell what is
missing. A shard never changes, so its results are computed once; those of a shard that the set no longer has
are removed at the end of a run.

    with ResultFolder(Path("results"), EmbeddingSet("photos.emb")) as folder:
        folder.start(classifier.provenance(embeddings, options))
        for shard in folder.missing():
            folder.add(shard, shard_results(classifier, scoring, folder.source(shard)).content)
        folder.tidy()
"""

import io
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson
from filelock import FileLock, Timeout

from fieldmarks.classification.classifier import EMBEDDED_BATCH, Classifier
from fieldmarks.classification.embedding_files import missing, pyarrow_for, shard_part
from fieldmarks.classification.embedding_manifest import Manifest, Shard
from fieldmarks.classification.embedding_set import EmbeddingSet, rows_of
from fieldmarks.classification.journal import differing, header_of
from fieldmarks.classification.result_files import Result, write_parquet
from fieldmarks.classification.results import Failure
from fieldmarks.errors import ImageError, ReportError, StoreError
from fieldmarks.paths import read_regular, unusable_folder
from fieldmarks.store import durable
from fieldmarks.text import counted

logger = logging.getLogger(__name__)

NAME: Final = "_results.json"  # readers of folders of Parquet files pass over names with an underscore
MAX_BYTES: Final = 2**24  # of it
_LOCK: Final = f".{NAME}.lock"
_RESULTS: Final = re.compile(r"results_(\d{4,12})_([0-9a-f]{16})\.parquet")
_DRAFT: Final = re.compile(r"\._?results.*\.[0-9a-f]{16}\.tmp")


@dataclass(frozen=True, slots=True)
class ShardSource:
    """A shard where any process that sees the set's folder can read it."""

    folder: str
    shard: Shard
    dim: int


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a shard is scored: the keywords of `Classifier.score`, and what is kept of each result."""

    options: Mapping[str, Any]
    kept: Callable[[Result], Result]


@dataclass(frozen=True, slots=True)
class ShardResults:
    """A shard's results as the content of a Parquet file, and what a closing line says of them."""

    content: bytes
    rows: int
    failures: tuple[Failure, ...]
    abstained: Mapping[str, int]  # why there is no label, and how often


def shard_results(classifier: Classifier, scoring: Scoring, source: ShardSource) -> ShardResults:
    """Classify the images of a shard. Raises ImageError for a shard that cannot be read, ModelError."""
    failures: list[Failure] = []
    abstained: Counter[str] = Counter()
    rows = 0

    def noted(results: Iterator[Result]) -> Iterator[Result]:
        nonlocal rows
        for result in results:
            rows += 1
            if isinstance(result, Failure):
                failures.append(result)
            elif result.abstained:
                abstained[result.abstained] += 1
            yield scoring.kept(result)

    part = shard_part(Path(source.folder), source.shard, source.dim)
    embedded = rows_of(part)
    content = io.BytesIO()
    write_parquet(noted(classifier.score(embedded, **scoring.options, batch=EMBEDDED_BATCH)), content)
    return ShardResults(content.getvalue(), rows, tuple(failures), dict(abstained))


class ResultFolder:
    """A folder of results of one embedding set; a context manager, which one process holds at a time.

    Raises ImageError for embeddings that `fieldmarks embed` has not written, which are not in shards, and
    ReportError for a folder that holds anything else or is in use.
    """

    def __init__(self, path: Path, embeddings: EmbeddingSet) -> None:
        pyarrow_for("writing results")
        self.path = path
        self._set = embeddings.path
        if not os.path.lexists(self._set):
            raise missing(self._set)
        manifest = embeddings.manifest if self._set.is_dir() else None
        if manifest is None:
            raise ImageError(
                f"{self._set} is not in shards of `fieldmarks embed`: to classify it, pass -o FILE.parquet"
                " instead of a folder"
            )
        self._manifest: Manifest = manifest
        if reason := unusable_folder(path):
            raise ReportError(f"{path} {reason}")
        if path.is_dir() and not (path / NAME).is_file():
            with os.scandir(path) as entries:
                if any(entry.name != _LOCK for entry in entries):
                    raise ReportError(
                        f"{path} already exists and is not a folder of results; choose a new folder"
                    )

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / _LOCK, timeout=0)
            self._lock.acquire()
        except Timeout as error:
            raise ReportError(
                f"{self.path} is being written by another process: wait for it to end"
            ) from error
        except OSError as error:
            raise ReportError(f"{self.path} cannot be written: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def start(self, settings: Mapping[str, Any]) -> None:
        """Record what the results depend on. Raises ReportError if the folder has results of another run."""
        header = header_of({**settings, "set": os.path.realpath(self._set)})
        try:
            there = orjson.loads(read_regular(self.path / NAME, MAX_BYTES))
        except FileNotFoundError:
            self._write(NAME, orjson.dumps(header, option=orjson.OPT_INDENT_2) + b"\n")
            there = header
        except (OSError, orjson.JSONDecodeError) as error:
            raise ReportError(
                f"{self.path / NAME} cannot be read: {error}: delete the folder and classify again"
            ) from error
        if not isinstance(there, dict) or there.get("identity") != header["identity"]:
            earlier = there.get("settings") if isinstance(there, dict) else None
            raise ReportError(
                f"{self.path} holds results of another run{differing(earlier, header['settings'])}; use the"
                " same options, or pass another folder with -o"
            )
        for path in self.path.iterdir():
            if _DRAFT.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def missing(self) -> list[Shard]:
        """Return the shards of the set that have no results here."""
        present = {path.name for path in self.path.iterdir()}
        return [shard for shard in self._manifest.shards if _name_of(shard) not in present]

    @property
    def rows(self) -> int:
        """How many images the set has."""
        return self._manifest.rows

    def source(self, shard: Shard) -> ShardSource:
        """Return where a shard is read."""
        return ShardSource(str(self._set.absolute()), shard, self._manifest.dim)

    def add(self, shard: Shard, content: bytes) -> None:
        """Write the results of a shard. Raises ReportError if the disk refuses."""
        self._write(_name_of(shard), content)

    def tidy(self) -> None:
        """Remove the results of shards that the set no longer has, and log how many."""
        current = set(map(_name_of, self._manifest.shards))
        every = (path for path in self.path.iterdir() if _RESULTS.fullmatch(path.name))
        stale = [path for path in every if path.name not in current]
        for path in stale:
            path.unlink(missing_ok=True)
        if stale:
            shards = counted(len(stale), "shard")
            logger.warning(
                "%s: removed the results of %s that %s no longer has", self.path, shards, self._set
            )

    def _write(self, name: str, content: bytes) -> None:
        try:
            durable.replace(self.path / name, [content])
        except StoreError as error:
            raise ReportError(str(error)) from error


def _name_of(shard: Shard) -> str:
    return f"results_{shard.number:04d}_{shard.sha256[:16]}.parquet"
