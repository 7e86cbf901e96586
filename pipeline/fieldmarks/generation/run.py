"""The state of a run between its answers: what to send next, what is complete, what it has cost."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldmarks.generation.answers import line, parsed, sample
from fieldmarks.generation.budget import Budget
from fieldmarks.generation.completer import Completion, Failure, Outcome, Request, Usage
from fieldmarks.generation.plan import Ask, Plan, retry, samples_so_far
from fieldmarks.records import GENERATED, Entry
from fieldmarks.store import Store


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; `total` counts the classes to ask."""

    total: int
    done: int
    failed: int
    requests: int
    usage: Usage
    cost: float  # USD
    seconds: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. `failed` holds the reason for each class without descriptors."""

    done: int
    cached: int
    kept: int
    failed: Mapping[str, str]
    cut: tuple[str, ...]  # classes whose answer ended for its length: its last descriptor is dropped
    left: int  # not asked: interrupted, or the money could run out
    requests: int
    usage: Usage
    cost: float  # USD
    seconds: float
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as one JSON object."""
        numbers = {
            key: getattr(self, key)
            for key in ("done", "cached", "kept", "left", "requests", "cost", "seconds")
        }
        return {
            **numbers,
            **self.usage.to_dict(),
            "failed": dict(self.failed),
            "cut": list(self.cut),
            "interrupted": self.interrupted,
        }


class Run:
    """Turns a plan into requests and answers into lines; all effects are left to its caller."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        ask: Ask,
        endpoint: str | None,
        budget: Budget,
        retries: int,
    ) -> None:
        self.interrupted = False
        self._plan = plan
        self._store = store
        self._ask = ask
        self._endpoint = endpoint
        self._budget = budget
        self._retries = retries
        self._again: deque[Request] = deque()
        self._held: Request | None = None
        self._fresh = self._fresh_requests()
        self._samples: dict[str, list[dict[str, Any]]] = {}  # classes with some of their answers
        self._grown: set[str] = set()  # those of which this run got one
        self._mode = ""
        self._done = 0
        self._failed: dict[str, str] = {}
        self._cut: dict[str, None] = {}  # in order
        self._sent = 0
        self._sent_before_round = -1
        self._start = time.monotonic()

    def begin_round(self) -> bool:
        """Whether another round of requests can bring the run further."""
        if self.interrupted or self._sent == self._sent_before_round:
            return False
        self._sent_before_round = self._sent
        self._held = self._held or self._next()
        return self._held is not None

    def requests(self) -> Iterator[Request]:
        """Yield what to send until it is all sent, the run is interrupted or the money could run out."""
        while not self.interrupted and (request := self._held or self._next()):
            self._held = None
            if not self._budget.reserve(request):
                self._held = request
                return
            self._sent += 1
            yield request

    def take(self, outcomes: Sequence[Outcome]) -> list[Entry]:
        """Take in answers; return the lines of the classes that are thereby complete."""
        return [entry for request, outcome in outcomes for entry in self._take(request, outcome)]

    def unfinished(self) -> list[Entry]:
        """Return failed lines that keep the answers of classes of which the run got only some."""
        wanted = self._ask.params.samples
        return [
            self._line(name, samples, note=f"{len(samples)} of {wanted} answers: run again for the others")
            for name, samples in self._samples.items()
            if name in self._grown
        ]

    def interrupt(self) -> None:
        """Send nothing more."""
        self.interrupted = True

    def progress(self) -> Progress:
        """Return how far the run is."""
        budget = self._budget
        seconds = time.monotonic() - self._start
        done, failed = self._done, len(self._failed)
        return Progress(len(self._plan.ask), done, failed, self._sent, budget.usage, budget.spent, seconds)

    def summary(self) -> Summary:
        """Return what the run did."""
        now = self.progress()
        return Summary(
            done=now.done,
            cached=len(self._plan.cached) + len(self._plan.restore),
            kept=len(self._plan.kept),
            failed=dict(self._failed),
            cut=tuple(self._cut),
            left=now.total - now.done - now.failed,
            requests=now.requests,
            usage=now.usage,
            cost=now.cost,
            seconds=now.seconds,
            interrupted=self.interrupted,
        )

    def _next(self) -> Request | None:
        return self._again.popleft() if self._again else next(self._fresh, None)

    def _fresh_requests(self) -> Iterator[Request]:
        for name in self._plan.ask:
            have: Sequence[Mapping[str, Any]] = ()
            if self._ask.params.samples > 1:
                paid = samples_so_far(self._store.history(name), self._ask.key(name))
                have = self._samples.setdefault(name, [dict(one) for one in paid])
            yield from self._ask.requests(name, {one["sample"] for one in have})

    def _take(self, request: Request, outcome: Completion | Failure) -> Iterator[Entry]:
        if isinstance(outcome, Failure):
            self._budget.release(request)
            self._failed[request.name] = outcome.reason
            return
        self._budget.settle(request, outcome.usage)
        self._mode = outcome.mode
        one = sample(request, outcome)
        result = parsed(one, self._ask.prompt.style)
        if not result.descriptors and request.attempt < self._retries:
            self._again.append(retry(request))
            return
        if result.cut is not None:
            self._cut[request.name] = None
        samples = self._samples.setdefault(request.name, [])
        samples.append(one)
        self._grown.add(request.name)
        if len(samples) == self._ask.params.samples:
            self._grown.discard(request.name)
            yield self._complete(request.name, self._samples.pop(request.name))

    def _complete(self, name: str, samples: Sequence[Mapping[str, Any]]) -> Entry:
        entry = self._line(name, samples)
        if entry.origin == GENERATED:
            self._done += 1
        else:
            self._failed[name] = "no descriptor in the answer"
        return entry

    def _line(self, name: str, samples: Sequence[Mapping[str, Any]], note: str | None = None) -> Entry:
        force = self._store.get(name)
        return line(
            name,
            samples,
            self._ask.key(name),
            endpoint=self._endpoint,
            mode=self._mode,
            rejected=force.rejected if force else (),
            note=note,
        )
