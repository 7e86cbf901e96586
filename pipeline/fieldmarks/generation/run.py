"""The state of a run between its answers: what to send next, what is complete, what it has cost."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fieldmarks.generation.answers import line, parsed, record
from fieldmarks.generation.budget import Budget
from fieldmarks.generation.completer import Failure, Outcome, Request, Usage
from fieldmarks.generation.plan import Ask
from fieldmarks.records import Entry


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; `total` counts the classes to ask, `done` those answered, by whatever process."""

    total: int
    done: int
    failed: int
    written: int  # classes that this run put into the store
    waiting: int  # classes that other processes are asking now
    retrying: int  # requests that wait to be sent again
    requests: int
    usage: Usage
    cost: float | None  # USD; None where the prices are unknown
    seconds: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. `failed` holds the reason for each class without descriptors."""

    done: int  # classes that this run wrote and that are in the store at its end
    cached: int
    kept: int
    others: int  # classes that other processes wrote meanwhile
    failed: Mapping[str, str]
    lost: tuple[str, ...]  # classes that were written, and are not in the store any more
    cut: tuple[str, ...]  # classes whose answer ended for its length: its last descriptor is dropped
    too_long: tuple[str, ...]  # classes with more descriptors in an answer than are taken of one
    left: tuple[str, ...]  # not asked: interrupted, or the money could run out
    pending: int  # answers that the run file keeps, of classes that are not complete
    requests: int
    usage: Usage
    cost: float | None  # USD; None where the prices are unknown
    seconds: float
    signal: int | None = None  # which interrupted the run

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as one JSON object."""
        numbers = {
            key: getattr(self, key)
            for key in ("done", "cached", "kept", "others", "pending", "requests", "cost", "seconds")
        }
        names = {key: list(getattr(self, key)) for key in ("lost", "cut", "too_long", "left")}
        return {
            **numbers,
            **self.usage.to_dict(),
            "failed": dict(self.failed),
            **names,
            "interrupted": self.signal is not None,
        }


@dataclass(slots=True, eq=False)
class Work:
    """A class that this run is asking, with all of its answers so far."""

    name: str
    key: Mapping[str, Any]
    question: str
    answers: list[dict[str, Any]]
    mode: str = ""
    saved: int = 0  # how many of the answers are in the run file
    open: int = 0  # requests that are queued or under way
    failure: str | None = None

    def unsaved(self) -> list[dict[str, Any]]:
        """Return the run file's lines for the answers that it does not have yet."""
        about = {"key": self.question, "class": self.name, "mode": self.mode}
        return [about | answer for answer in self.answers[self.saved :]]

    def entry(self, endpoint: str | None, rejected: Sequence[str]) -> Entry:
        """Return the store's line for the class."""
        return line(self.name, self.answers, self.key, endpoint=endpoint, mode=self.mode, rejected=rejected)


@dataclass(slots=True)
class Run:
    """Turns classes into requests, and answers into settled classes; an iterator of what to send.

    The iterator ends for now when nothing is queued, when the run is stopped or when the money could run out,
    and goes on once there is more.
    """

    ask: Ask
    budget: Budget
    retries: int
    working: dict[str, Work] = field(default_factory=dict)  # by class
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    sent: int = 0
    in_flight: int = 0
    started: float = field(default_factory=time.monotonic)
    settled: list[Work] = field(default_factory=list)  # nothing more is asked: a failure, or all answers
    _queue: deque[Request] = field(default_factory=deque)
    _cut: dict[str, None] = field(default_factory=dict)  # in order
    _too_long: dict[str, None] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        if not self.can_send():
            raise StopIteration
        request = self._queue.popleft()
        self.budget.reserve(request)
        self.sent += 1
        self.in_flight += 1
        return request

    @property
    def queued(self) -> int:
        """How many requests wait to be sent."""
        return len(self._queue)

    @property
    def cut(self) -> tuple[str, ...]:
        """The classes whose answer ended for its length."""
        return tuple(self._cut)

    @property
    def too_long(self) -> tuple[str, ...]:
        """The classes whose answer has more descriptors than are taken."""
        return tuple(self._too_long)

    def can_send(self) -> bool:
        """Whether there is something to send, and money for it."""
        return bool(self._queue) and not self.stopped and self.budget.allows(self._queue[0])

    def begin(self, work: Work) -> None:
        """Queue what is left to ask of a class, which may have some answers on disk."""
        requests = self.ask.requests(work.name, work.answers, self.retries)
        work.open, work.saved = len(requests), len(work.answers)
        self.working[work.name] = work
        self._queue.extend(requests)
        if not requests:
            self.settled.append(work)

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Take in answers. An empty one is asked again, before all else that is queued; a refusal is not."""
        for request, outcome in outcomes:
            self.in_flight -= 1
            work = self.working[request.name]
            if isinstance(outcome, Failure):
                self.budget.release(request)
                if outcome.unaffordable:
                    self._queue.appendleft(request)  # it is sent where others turn out to cost less
                    continue
                work.failure = outcome.reason
                work.open -= 1
            else:
                self.budget.settle(request, outcome.usage)
                work.mode = outcome.mode
                answer = record(request, outcome)
                work.answers.append(answer)
                result = parsed(answer, self.ask.prompt.style)
                if not result.descriptors and not result.refused and request.attempt < self.retries:
                    self._queue.appendleft(
                        self.ask.request(request.name, request.sample, request.attempt + 1)
                    )
                else:
                    work.open -= 1
                    if result.cut is not None:
                        self._cut[request.name] = None
                    if result.left_out:
                        self._too_long[request.name] = None
            if work.open == 0:
                self.settled.append(work)

    def finish(self, work: Work, failure: str | None) -> None:
        """Count a settled class, once its answers are on disk."""
        del self.working[work.name]
        self.settled.remove(work)
        if failure is not None:
            self.failed[work.name] = failure
