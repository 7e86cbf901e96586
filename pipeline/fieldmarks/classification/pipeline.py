"""The pipeline from images to embeddings: decoding, computing and fetching at the same time.

    images ───► decoders ─────────► queue ──────► batches ────► device ────────► embeddings
    paths,      a thread a core,    in order,     those that    computes a pass  fetched when the
    bytes,      each with a         bounded by    no cache      while the next   next pass is under
    pixels      process where       number and    had           one is copied    way: nobody waits
                cores are many      bytes                       or decoded

The caller's thread drives it, one step for each batch: it collects what the decoders have ready, starts a
pass over it, and yields the batch of the pass before. A GPU computes in the meantime; a CPU computes in that
step, while the decoders fill the queue. So neither waits for the other as long as both have work, and what is
in memory depends on the queue and the batch, not on the number of images. When the caller stops, for whatever
reason, threads and processes end before it goes on.

A thread releases Python's lock while it reads, decodes and scales; a small photo of 3 ms needs the lock for
0.2 ms of them. Sixteen threads would wait for it all the time, so on machines of MANY_CORES a thread hands
images to a process beside it; large ones, which hold the lock for a small share, it still decodes itself,
under the memory bound that all threads share.

With `--decode gpu` the threads only read JPEGs, and the device decodes those of a batch while it computes the
pass before; what it cannot decode is decoded here, as without.
"""

import hashlib
import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Lock, local
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from fieldmarks.classification import memory
from fieldmarks.classification.cache import EmbeddingCache, key_of
from fieldmarks.classification.engines import batched
from fieldmarks.classification.preprocess import INFERRED
from fieldmarks.classification.results import Failure, FileVersion
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.sources import Blob, ImageInput, read_stamped
from fieldmarks.classification.threads import cores, has_share
from fieldmarks.classification.worker_process import WorkerDiedError, WorkerProcess
from fieldmarks.errors import ImageError
from fieldmarks.hub import loaded_once

if TYPE_CHECKING:
    from PIL import Image

    from fieldmarks.classification.jpeg import Jpeg

logger = logging.getLogger(__name__)

ROOM: Final = 256 * 2**20  # bytes of prepared images that wait for the device
MANY_CORES: Final = 8  # from so many on, processes decode
_WORTH_A_PROCESS: Final = 48  # images that a thread decodes before it starts its process
# Of what images.py makes of a file: a change of that is a change of this, as it is part of the cache's keys.
PIXELS: Final = "image 2"

In = TypeVar("In")
Out = TypeVar("Out")


class Preprocessing(Protocol):
    """What makes a decoded image ready for a model: an encoder, or what of it can be pickled."""

    @property
    def min_side(self) -> int | None:
        """How short the shorter side of a JPEG may become while it is decoded; None: as it is."""

    def prepare(self, image: "Image.Image") -> Any:
        """Return what the model reads of one RGB image."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image on its way: an embedding from the cache, or what the model will read.

    `depth` is the image's inferred depth where its file does not tell it; see images.py.
    """

    image: str
    key: bytes | None
    vector: Array | None
    inputs: Any  # None with an embedding
    thumbnail: bytes | None
    version: FileVersion | None
    depth: Any = None

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        parts = self.inputs.values() if isinstance(self.inputs, dict) else [self.inputs]
        return sum(getattr(part, "nbytes", 0) for part in parts) + len(self.thumbnail or b"")


@dataclass(frozen=True)
class Preparation:
    """Reads an image, looks its embedding up, and without one decodes and scales it.

    `key` begins the keys of the cache: model and decoding; without it nothing is looked up. With `by_device`
    plain JPEGs are not decoded: `complete` has a device do it, for a whole batch.
    """

    preprocessing: Preprocessing
    cache: EmbeddingCache | None = None
    key: tuple[str, ...] | None = None
    by_device: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Preparation, (self.preprocessing, self.cache, self.key, self.by_device)

    @loaded_once
    def _pillow(self) -> ModuleType:
        from fieldmarks.classification import images  # which loads Pillow

        return images

    def __call__(
        self, name: str, source: ImageInput | Failure, *, small: bool = False, dim: int | None = None
    ) -> Prepared | Failure:
        """Return an image made ready, with a small JPEG of it if asked for; a Failure passes through.

        An embedding in the cache of another length than `dim` is not used.
        """
        if isinstance(source, Failure):
            return source
        try:
            data, stamp = read_stamped(source)
            key = version = vector = None
            if data is not None:
                digest = hashlib.sha256(data)
                version = FileVersion(digest.hexdigest(), stamp)
                if self.cache and self.key:
                    key = key_of(*self.key, digest.digest())
                    vector = self.cache.get([key]).get(key)
                    vector = vector if vector is None or dim in (None, len(vector)) else None
            jpeg = self._plain_jpeg(data) if self.by_device and vector is None and data else None
            prepared = Prepared(name, key, vector, jpeg, None, version)
            if vector is None and jpeg is None:
                prepared = self._decoded(prepared, source, data, small=small)
            if small and prepared.thumbnail is None:
                images = self._pillow
                with images.opened(source, data, min_side=images.THUMBNAIL) as image:
                    prepared = replace(prepared, thumbnail=images.thumbnail(image))
            return prepared
        except memory.BeyondShareError:
            raise
        except ImageError as error:
            return Failure(name, str(error))

    def complete(
        self, batch: list[Prepared | Failure], decode: "Callable[[Sequence[Jpeg]], list[Any]]"
    ) -> None:
        """Have a device `decode` the JPEGs of a batch, and decode here those that it returns None for."""
        from fieldmarks.classification.jpeg import Jpeg

        jpegs = [
            (row, item)
            for row, item in enumerate(batch)
            if isinstance(item, Prepared) and isinstance(item.inputs, Jpeg)
        ]
        decoded = decode([item.inputs for _, item in jpegs])
        for (row, item), pixels in zip(jpegs, decoded, strict=True):
            batch[row] = replace(item, inputs=pixels) if pixels is not None else self._decoded_here(item)

    def _decoded_here(self, item: Prepared) -> Prepared | Failure:
        try:
            return self._decoded(item, None, item.inputs.data, small=False)
        except ImageError as error:
            return Failure(item.image, str(error))

    @loaded_once
    def _plain_jpeg(self) -> "Callable[[bytes], Jpeg | None]":
        from fieldmarks.classification.jpeg import plain_jpeg  # which loads Pillow

        return plain_jpeg

    def _decoded(self, prepared: Prepared, source: object, data: bytes | None, *, small: bool) -> Prepared:
        images, min_side = self._pillow, self.preprocessing.min_side
        with images.opened(source, data, min_side=min_side) as image:
            inputs = self.preprocessing.prepare(image)
            # An embedding does not depend on whether a larger copy is shown.
            large_enough = small and (min_side is None or min_side >= images.THUMBNAIL)
            thumbnail = images.thumbnail(image) if large_enough else None
            thumbnail = thumbnail or prepared.thumbnail
            return replace(prepared, inputs=inputs, thumbnail=thumbnail, depth=image.info.get(INFERRED))


class Decoders:
    """A preparation called from several threads, on machines of many cores with a process beside each.

    `preparation` is asked for with the first image, and `portable`, what a process gets of it, once a thread
    has had `after` images; None is for none yet, or none at all. To be closed.
    """

    def __init__(
        self,
        preparation: Callable[[], Preparation],
        portable: Callable[[], Preparation | None],
        *,
        processes: bool | None = None,
        after: int = _WORTH_A_PROCESS,
    ) -> None:
        self._make = preparation
        self._portable = portable
        self._processes = cores() >= MANY_CORES if processes is None else processes
        self._after = after
        self._thread = local()
        self._started: list[WorkerProcess] = []
        self._lock = Lock()  # of what is started, and whether there will be more

    def __call__(self, name: str, source: ImageInput | Failure, **options: Any) -> Prepared | Failure:
        """Return what the preparation returns; an image that a process dies of is a Failure."""
        if isinstance(source, Failure):
            return source
        worker = self._worker() if isinstance(source, str | os.PathLike | Blob) else None
        if worker is not None:
            try:
                result: Prepared | Failure = worker(name, source, **options)
                return result
            except memory.BeyondShareError:
                pass
            except WorkerDiedError as error:
                self._thread.worker, self._thread.count = None, 0
                return Failure(name, f"cannot be decoded: the process that decoded it {error}")
        return self._preparation(name, source, **options)

    @loaded_once
    def _preparation(self) -> Preparation:
        return self._make()

    def close(self) -> None:
        """End all processes, also those at work."""
        with self._lock:
            self._processes = False
        for worker in self._started:
            worker.close()

    def _worker(self) -> WorkerProcess | None:
        """Return this thread's process, if it has one that is ready; it is started after some images."""
        thread = self._thread
        thread.count = getattr(thread, "count", 0) + 1
        worker: WorkerProcess | None = getattr(thread, "worker", None)
        if worker is None and self._processes and thread.count > self._after:
            preparation = self._portable()
            with self._lock:
                if preparation and self._processes:
                    worker = thread.worker = WorkerProcess(InProcess(preparation, memory.share(cores())))
                    self._started.append(worker)
        try:
            return worker if worker and worker.is_ready else None
        except WorkerDiedError as error:
            logger.debug("decoding in threads only: a process %s as it started", error)
            self._processes, thread.worker = False, None
            return None


@dataclass(frozen=True)
class InProcess:
    """A preparation as a process calls it: silent, and with a share of the memory for decoding."""

    preparation: Preparation
    share: int

    def __call__(self, *args: Any, **options: Any) -> Prepared | Failure:
        """Return what the preparation returns. Raises BeyondShareError for an image that needs more."""
        result = self._preparation(*args, **options)
        if self.preparation.cache and isinstance(result, Prepared) and result.vector is not None:
            self.preparation.cache.save_uses()
        return result

    @loaded_once
    def _preparation(self) -> Preparation:
        warnings.simplefilter("ignore")
        logging.disable()  # what is wrong with the cache, say, the main process says once
        memory.BUDGET.within(self.share)
        return self.preparation


def run(
    items: Iterable[In],
    prepare: Callable[[In], Prepared | Failure],
    start: Callable[[Sequence[Any]], Callable[[], Array]],
    *,
    batch: int,
    under_way: int,
    complete: Callable[[list[Prepared | Failure]], None] = lambda _: None,
    stop: Callable[[], None] = lambda: None,
) -> Generator[tuple[list[Prepared | Failure], Array | None]]:
    """Yield the items in batches with the embeddings (N, D) of those N that had none; None for no such.

    `start` starts a pass and returns what waits for its end; `under_way` passes are not waited for. Before
    its pass, `complete` may change a batch's items in place.
    `stop` is called at the end, before the threads that prepare are waited for.
    """
    workers = 0 if has_share() and cores() == 1 else cores()
    passes: deque[tuple[list[Prepared | Failure], Callable[[], Array] | None]] = deque()
    decoding = ahead(prepare, items, workers=workers, most=2 * batch + workers, size=_size, stop=stop)
    with closing(decoding):
        for part in batched(decoding, batch):
            complete(part)
            inputs = [item.inputs for item in part if isinstance(item, Prepared) and item.vector is None]
            passes.append((part, start(inputs) if inputs else None))
            if len(passes) > under_way:
                yield _finished(passes)
        while passes:
            yield _finished(passes)


def _finished(
    passes: deque[tuple[list[Prepared | Failure], Callable[[], Array] | None]],
) -> tuple[list[Prepared | Failure], Array | None]:
    part, wait = passes.popleft()
    return part, wait() if wait else None


def _size(item: Prepared | Failure) -> int:
    return item.size if isinstance(item, Prepared) else 0


def ahead(
    function: Callable[[In], Out],
    items: Iterable[In],
    *,
    workers: int,
    most: int,
    size: Callable[[Out], int] = lambda _: 0,
    room: int = ROOM,
    stop: Callable[[], None] = lambda: None,
) -> Generator[Out]:
    """Yield function(item) in the items' order, computed in `workers` threads, at most `most` items ahead.

    Without workers, each is computed as it is asked for.
    No more are ahead than fit into `room` bytes, all being as large as the largest so far; a worker has one
    item at least.
    """
    items = iter(items)
    if not workers:
        try:
            yield from map(function, items)
        finally:
            stop()
        return
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="fieldmarks")
    waiting: deque[Future[Out]] = deque()
    window, largest = min(most, 2 * workers), 1
    try:
        while True:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= window:
                    break
            if not waiting:
                return
            result = waiting.popleft().result()
            largest = max(largest, size(result))
            window = max(workers, min(most, room // largest))
            yield result
    finally:
        try:
            stop()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
