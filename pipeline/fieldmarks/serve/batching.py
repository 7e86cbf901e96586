"""Requests that arrive together are classified together, by threads that share one classifier.

    batcher = Batcher(classifier, {"abstain": True})
    results = await batcher.classify(blobs, top=5, explain=False)   # Prediction or Failure for each
    batcher.close()

A thread takes what is waiting, up to a batch, and never waits for more. Threads that are at work at the same
time share the processor's cores, and the images that are waiting. What an image of a batch breaks is tried
again image by image, so that no request fails for another's.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.results import Failure, Prediction
from fieldmarks.classification.sources import Blob
from fieldmarks.classification.threads import take_share

logger = logging.getLogger(__name__)

THREADS: Final = 2
_WORTH_A_PASS: Final = 4  # images that are not divided among threads
MAX_WAITING: Final = 256  # images; with more, the server is busy


class Busy(Exception):
    """More images are waiting than the server takes."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """An image with what is wanted of it, and where its result goes."""

    image: Blob
    top: int
    explain: bool
    future: "asyncio.Future[Prediction | Failure]"

    def set(self, result: Prediction | Failure | Exception) -> None:
        """Answer the request, in its event loop."""
        if self.future.done():  # the client is gone
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class Batcher:
    """Classifies images for many requests at once; `classify` raises Busy where too many are waiting."""

    def __init__(
        self, classifier: Classifier, labelling: Mapping[str, Any], *, max_waiting: int = MAX_WAITING
    ) -> None:
        self._classifier = classifier
        self._labelling = labelling
        self._max_waiting = max_waiting
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._at_work = 0  # threads
        self.classified = self.failed = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"fieldmarks-serve-{number}", daemon=True)
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    async def classify(
        self, images: Sequence[Blob], *, top: int, explain: bool
    ) -> list[Prediction | Failure]:
        """Return a result for each image, in order."""
        loop = asyncio.get_running_loop()
        jobs = [_Job(image, top, explain, loop.create_future()) for image in images]
        with self._changed:
            if len(self._waiting) + len(jobs) > self._max_waiting:
                raise Busy
            self._waiting += jobs
            self._changed.notify()
        return list(await asyncio.gather(*(job.future for job in jobs)))

    def close(self) -> None:
        """Classify what is waiting, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while jobs := self._take():
            self._work([job for job in jobs if not job.future.cancelled()])
            with self._changed:
                self._at_work -= 1

    def _take(self) -> list[_Job]:
        """Wait for images and return a fair part of those that are waiting; none at the end."""
        size = self._classifier.embedder.batch
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            free = THREADS - self._at_work
            count = min(size, len(self._waiting), max(_WORTH_A_PASS, -(-len(self._waiting) // free)))
            jobs = [self._waiting.popleft() for _ in range(count)]
            if jobs:
                self._at_work += 1
                take_share(self._at_work + bool(self._waiting and free > 1))
            if self._waiting:
                self._changed.notify()
        return jobs

    def _work(self, jobs: Sequence[_Job]) -> None:
        try:
            results = self._results(jobs)
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._work([job])
                return
            logger.exception("an image could not be classified")
            results = [error] * len(jobs)
        if jobs:  # of one event loop, which is woken once
            jobs[0].future.get_loop().call_soon_threadsafe(_answer, jobs, results)

    def _results(self, jobs: Sequence[_Job]) -> "list[Prediction | Failure | Exception]":
        if not jobs:
            return []
        top, explain = max(job.top for job in jobs), any(job.explain for job in jobs)
        images = [job.image for job in jobs]
        results = list(self._classifier.stream(images, top=top, explain=explain, **self._labelling))
        with self._changed:
            failures = sum(isinstance(result, Failure) for result in results)
            self.failed += failures
            self.classified += len(results) - failures
        return [_cut(result, job) for result, job in zip(results, jobs, strict=True)]


def _answer(jobs: Sequence[_Job], results: "Sequence[Prediction | Failure | Exception]") -> None:
    for job, result in zip(jobs, results, strict=True):
        job.set(result)


def _cut(result: Prediction | Failure, job: _Job) -> Prediction | Failure:
    """Return of a result what its request asked for."""
    if isinstance(result, Failure):
        return result
    explanation = result.explanation if job.explain else None
    return replace(result, scores=result.scores[: job.top], explanation=explanation, baseline=None)
