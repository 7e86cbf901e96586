"""The state of a run between its answers: what to send next, what is complete, what it has cost.

What a run has on disk: answers as they arrive, claims before requests, classes as they are complete.

One `step` takes in what has arrived and claims what is asked next, under the store's lock and so in one piece
for all processes that share the store:

1. A class with all of its answers becomes a line of the store. An answer of any other class goes into the run
   file. Each is one write and one fsync.
2. What other processes wrote meanwhile is read.
3. As many classes are claimed as can be asked now. A class that is answered by now is not asked, and one that
   another process has claimed is looked at again later: it may be answered then, or its claim void.

Where the store refuses (a full disk, a line that an editor broke), answers go into the run file; where that
refuses too they stay in memory, and `close` tries again, and writes them to a temporary folder rather than
lose them.
"""

import os
import shlex
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from fieldmarks.errors import StoreError
from fieldmarks.generation.plan import (
    Ask,
    Plan,
    answers_so_far,
    has_key,
    line,
    make_plan,
    parsed,
    record,
    why_empty,
)
from fieldmarks.generation.request import Budget, Failure, Outcome, Request, Usage
from fieldmarks.generation.run_file import FAILED, STORED, RunFile, claim, end, question
from fieldmarks.records import FAILED as FAILED_ANSWER
from fieldmarks.records import GENERATED, Entry
from fieldmarks.store import Store
from fieldmarks.text import counted


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


LOOK_AGAIN: Final = 0.25  # seconds between looks at what other processes are asking
RENEWALS: Final = 4  # of a claim before it is void


class Ledger:
    """Keeps a run's answers and claims on disk. Its methods may be called from several threads."""

    def __init__(
        self, run: Run, plan: Plan, store: Store, *, endpoint: str | None, lifetime: float, refresh: bool
    ) -> None:
        """Name the run and its plan, and the seconds after which its claims are void for other hosts."""
        self.done: dict[str, Mapping[str, Any]] = {}  # class: key of its question; written by this run
        self.cached, self.kept = list(plan.cached), list(plan.kept)
        self.others: list[str] = []  # written by other processes meanwhile
        self.refusal: StoreError | None = None  # the store's, with which the run is to be ended
        self._run = run
        self._store = store
        self._endpoint = endpoint
        self._refresh = refresh
        self._run_file = RunFile(store.path, lifetime)
        self._pending = deque([*(entry.name for entry in plan.restore), *plan.ask])
        self._elsewhere: list[str] = []  # claimed by other processes
        self._lines_before = {name: len(store.history(name)) for name in self._pending}
        self._renew_every = lifetime / RENEWALS
        self._renewed = self._looked = time.monotonic()
        self._turn = threading.Lock()

    @property
    def run_path(self) -> Path:
        """Where the run file is."""
        return self._run_file.path

    @property
    def waiting(self) -> int:
        """How many classes other processes are asking now."""
        return len(self._elsewhere)

    def claimants(self) -> str:
        """Return who is asking the classes that this run waits for, as a clause."""
        keys = [question(name, self._run.ask.key(name)) for name in list(self._elsewhere)]
        return "; ".join(dict.fromkeys(filter(None, map(self._run_file.claimant, keys))))

    @property
    def left(self) -> tuple[str, ...]:
        """The classes that are not settled."""
        return (*self._run.working, *self._pending, *self._elsewhere)

    def is_needed(self) -> bool:
        """Whether there is anything to write: classes to ask, or a run file that an earlier run left."""
        return bool(self._pending) or self._run_file.exists()

    def step(self, outcomes: Sequence[Outcome], window: int) -> None:
        """Keep what has arrived, and claim classes until `window` requests are queued or under way."""
        with self._turn:
            self._run.take(outcomes)
            try:
                with self._store.locked():
                    self._run_file.refresh()
                    self._keep()
                    if not self._run.stopped and not self.refusal:
                        self._claim(window)
            except StoreError as error:
                self.refusal = self.refusal or error

    def renew(self) -> None:
        """Claim anew what is being asked, so that other hosts do not take its claims for void."""
        with self._turn:
            if time.monotonic() - self._renewed < self._renew_every or self.refusal:
                return
            self._renewed = time.monotonic()
            try:
                with self._store.locked():
                    self._run_file.refresh()
                    owner = self._run_file.owner
                    works = self._run.working.values()
                    self._run_file.append(
                        [claim(work.question, work.name, owner) for work in works], sync=False
                    )
            except StoreError as error:
                self.refusal = self.refusal or error

    def close(self, outcomes: Sequence[Outcome] = ()) -> int:
        """Keep what is left, and the last outcomes, and give up all claims.

        Returns how many answers the run file keeps for later.

        Raises StoreError where answers can be kept in a temporary folder only, or not at all.
        """
        with self._turn:
            self._run.take(outcomes)
            try:
                with self._store.locked():
                    self._run_file.refresh()
                    self._keep()
                    self._run_file.append(self._stored_already(), sync=False)
                    return self._run_file.close()
            except StoreError as error:
                unsaved = [line for work in self._run.working.values() for line in work.unsaved()]
                if not unsaved:
                    raise
                raise StoreError(f"{error}; {_rescue(unsaved, self._run_file.path)}") from error

    def lost(self) -> tuple[str, ...]:
        """Return the classes that were written, or there before, and are in the store no more."""
        store = Store(self._store.path, create=True)  # as it is now, whoever changed it
        written = (
            name
            for name, key in self.done.items()
            if not any(has_key(entry, key) for entry in store.history(name))
        )
        there = set(store.all_names())
        return (*written, *(name for name in (*self.cached, *self.kept, *self.others) if name not in there))

    def _keep(self) -> None:
        """Put complete classes into the store, and all other answers into the run file."""
        run = self._run
        complete = [work for work in run.settled if work.failure is None]
        failed = [work for work in run.settled if work.failure is not None]
        ends = []
        try:
            entries = [self._entry(work) for work in complete]
            self._store.append(*entries)  # even of nothing: takes in what others wrote
        except StoreError as error:
            self.refusal = self.refusal or error
        else:
            for work, entry in zip(complete, entries, strict=True):
                run.finish(work, None if entry.origin == GENERATED else why_empty(entry))
                ends.append(end(work.question, STORED))
                if entry.origin == GENERATED:
                    self.done[work.name] = work.key
        unsaved = [line for work in run.working.values() for line in work.unsaved()]
        ends += [end(work.question, FAILED, work.failure) for work in failed]
        self._run_file.append([*unsaved, *ends], sync=bool(unsaved))
        for work in run.working.values():
            work.saved = len(work.answers)
        for work in failed:
            run.finish(work, work.failure)

    def _entry(self, work: Work) -> Entry:
        current = self._store.get(work.name)
        return work.entry(self._endpoint, current.rejected if current else ())

    def _claim(self, window: int) -> None:
        """Claim classes until enough requests are queued; settle those that need none."""
        run, now = self._run, time.monotonic()
        if not self._pending and now - self._looked >= LOOK_AGAIN:
            self._looked = now
            self._pending, self._elsewhere = deque(self._elsewhere), []
        claims: list[Mapping[str, Any]] = []
        restored: list[Entry] = []
        while self._pending and run.queued < window - run.in_flight:
            name = self._pending.popleft()
            key = run.ask.key(name)
            asked = question(name, key)
            history = self._store.history(name)
            if self._is_settled(name, key, asked, history):
                continue
            if self._run_file.is_claimed(asked):
                self._elsewhere.append(name)
                continue
            plan = make_plan([name], self._store, run.ask, refresh=self._refresh) if history else None
            if plan is not None and not plan.ask:
                restored += plan.restore
                self.cached += [*plan.cached, *(entry.name for entry in plan.restore)]
                self.kept += plan.kept
                continue
            pending = self._run_file.answers(asked)
            mode = str(pending[-1].get("mode", "")) if pending else ""
            run.begin(Work(name, key, asked, answers_so_far(history, key, pending), mode))
            claims.append(claim(asked, name, self._run_file.owner))
        if restored:
            self._store.append(*restored)
        self._run_file.append(claims, sync=False)

    def _is_settled(self, name: str, key: Mapping[str, Any], asked: str, history: Sequence[Entry]) -> bool:
        """Whether another process has answered a class since this run began, or failed to."""
        news = history[self._lines_before[name] :]
        answered = {entry.origin: entry for entry in news if has_key(entry, key)}
        empty = answered.get(FAILED_ANSWER)
        failure = why_empty(empty) if empty else self._run_file.failure(asked)
        if GENERATED in answered:
            self.others.append(name)
        elif failure is not None:
            self._run.failed[name] = f"{failure} (asked by another process)"
        return GENERATED in answered or failure is not None

    def _stored_already(self) -> list[Mapping[str, Any]]:
        """Return the ends of questions whose answers are in the store: their run died in between."""
        return [
            end(asked, STORED)
            for asked, name in self._run_file.pending().items()
            if any(
                {answer["answer"] for answer in self._run_file.answers(asked)} <= _answers_of(entry)
                for entry in self._store.history(name)
            )
        ]


def _answers_of(entry: Entry) -> set[Any]:
    return {entry.answer, *(answer.get("answer") for answer in entry.answers)}


def _rescue(lines: Sequence[Mapping[str, Any]], run_path: Path) -> str:
    """Write answers that can be kept nowhere else to a temporary file, and return what to do with it."""
    try:
        handle, name = tempfile.mkstemp(prefix="fieldmarks-", suffix=".run")
        with os.fdopen(handle, "wb") as file:
            file.writelines(orjson.dumps(line) + b"\n" for line in lines)
    except OSError as error:
        where = f"{tempfile.gettempdir()} cannot be written either ({error})"
        return f"{counted(len(lines), 'answer')} lost, as {where}"
    command = f"cat {shlex.quote(name)} >> {shlex.quote(str(run_path))}"
    add = f"add it to {run_path} ({command}) and run the same command again"
    return f"{counted(len(lines), 'answer')} kept in {name}: {add}"
