"""A run's ledger: claims before requests, answers as they arrive, finished classes, and the cost.

One `step` saves the answers that the run has taken in and claims the classes to ask next. It holds the
store's lock, so it is atomic for all processes that share the store:

1. A class with all of its answers becomes a line of the store. Answers of other classes go into the run file.
   Each is one write and one fsync.
2. What other processes have written meanwhile is read.
3. As many classes are claimed as will be asked before the next step. A class answered meanwhile is not asked,
   and one that another process has claimed is checked again later: it may have been answered by then, or the
   claim may have expired.

If the store cannot be written (a full disk, a line that an editor broke), answers go into the run file; if
that fails, too, they stay in memory until `close` tries again and, as a last resort, writes them to a
temporary folder.
"""

import math
import os
import shlex
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from fieldmarks.errors import StoreError
from fieldmarks.generation.question import (
    NOTHING,
    Failure,
    Outcome,
    Question,
    Questions,
    Sample,
    Usage,
    samples_of,
    samples_so_far,
    why_empty,
)
from fieldmarks.generation.run_file import FAILED, STORED, RunFile, answer, claim, end
from fieldmarks.records import FAILED as FAILED_ANSWER
from fieldmarks.records import GENERATED, Entry
from fieldmarks.store import Store
from fieldmarks.store.lines import Outline, positions_of
from fieldmarks.text import counted

LOOK_AGAIN: Final = 0.25  # seconds between checks of what other processes are asking
RENEWALS: Final = 4  # of a claim before it would expire
PER_MILLION: Final = 1_000_000
WORST: Final = 2  # factor by which a prompt's tokens can exceed their estimate


def class_status(
    question: Question, store: Store, *, refresh: bool = False
) -> Literal["ask", "cached", "kept"] | Entry:
    """Return what to do with a class, given its lines in the store; with `refresh` it is asked again.

    It is "cached" if it is answered already, "kept" if its current line is a person's, which an answer would
    not replace. A returned line is an earlier answer, to be made current again.
    """
    name = question.name
    current = None if refresh else store.outline(name)
    if current is not None and current.origin != GENERATED:
        return "kept"
    if current is not None and _is_answer(current, question):
        return "cached"
    answers = [] if refresh else [entry for entry in store.history(name) if _is_answer(entry, question)]
    # It is paid for, current or not. No command made it, so there is nothing to undo.
    return replace(answers[-1], undo=False, redo=False, compacted=False, change=None) if answers else "ask"


def _is_answer(entry: Entry | Outline, question: Question) -> bool:
    """Whether a line has an answer that did not end in an error; version 0.1 also stored those that did."""
    return entry.origin == GENERATED and question.is_answered_by(entry) and entry.finish_reason != "error"


@dataclass(slots=True)
class Budget:
    """Keeps the money spent, plus the most that open requests can cost, within a limit.

    Prices are in USD per million tokens; without them there is no limit. Requests are given as estimates:
    approximate prompt tokens and maximum completion tokens.
    """

    price_in: float | None = None
    price_out: float | None = None
    limit: float = math.inf  # USD
    usage: Usage = NOTHING
    _reserved: float = field(default=0.0, init=False)
    # Guards `usage`, which both `charge` and `settle` change.
    _counting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def cost(self, usage: Usage) -> float | None:
        """Return the cost of a usage in USD, or None if the prices are unknown."""
        if self.price_in is None or self.price_out is None:
            return None
        return (usage.prompt_tokens * self.price_in + usage.completion_tokens * self.price_out) / PER_MILLION

    @property
    def spent(self) -> float | None:
        """Cost of the answers so far in USD, or None if the prices are unknown."""
        return self.cost(self.usage)

    def allows(self, estimate: Usage) -> bool:
        """Whether a request cannot exceed the limit, whatever the open ones turn out to cost."""
        return (self.spent or 0.0) + self._reserved + self._most(estimate) <= self.limit

    def reserve(self, estimate: Usage) -> None:
        """Set aside what a request can cost."""
        self._reserved += self._most(estimate)

    def settle(self, estimate: Usage, usage: Usage | None) -> None:
        """Replace what was set aside with the actual usage; an answer without one counts as estimated."""
        self.release(estimate)
        with self._counting:
            self.usage += estimate if usage is None else usage

    def charge(self, usage: Usage) -> bool:
        """Count an attempt that cost money without an answer; return whether the budget allows another.

        The money for that one remains set aside.
        """
        with self._counting:
            self.usage += usage
            return (self.spent or 0.0) + self._reserved <= self.limit

    def release(self, estimate: Usage) -> None:
        """Give back what was set aside for a request that brought no answer."""
        self._reserved = max(0.0, self._reserved - self._most(estimate))

    def _most(self, estimate: Usage) -> float:
        return self.cost(Usage(WORST * estimate.prompt_tokens, estimate.completion_tokens)) or 0.0


@dataclass(slots=True, eq=False)
class Work:
    """A class that this run is asking, with all of its answers so far."""

    question: Question
    samples: list[Sample]
    saved: int = 0  # how many of the answers are in the run file
    open: int = 0  # requests that are queued or in flight
    failure: str | None = None

    def unsaved(self) -> list[dict[str, Any]]:
        """Return the run file's lines for the answers that it does not have yet."""
        return [
            answer(self.question.key, self.question.name, sample) for sample in self.samples[self.saved :]
        ]


@dataclass(slots=True)
class Run:
    """Turns classes into requests, and answers into settled classes; an iterator over what to send.

    The iterator stops when nothing is queued, the run is stopped or the money could run out, and resumes when
    there is more. Requests may be taken from it while a ledger's step runs in another thread: a step only
    adds to the queue, and answers are taken in between steps.
    """

    questions: Questions
    budget: Budget
    retries: int
    working: dict[str, Work] = field(default_factory=dict)  # by class
    failed: dict[str, str] = field(default_factory=dict)
    cut: dict[str, None] = field(default_factory=dict)  # classes with an answer that was cut off, in order
    too_long: dict[str, None] = field(default_factory=dict)  # classes with more descriptors than are kept
    stopped: bool = False
    sent: int = 0
    in_flight: int = 0
    started: float = field(default_factory=time.monotonic)
    settled: list[Work] = field(default_factory=list)  # nothing left to ask: failed, or all answers are in
    _begun: list[Question] = field(default_factory=list)
    _queue: deque[Question] = field(default_factory=deque)

    def __iter__(self) -> Iterator[Question]:
        return self

    def __next__(self) -> Question:
        if not self.can_send():
            raise StopIteration
        question = self._queue.popleft()
        self.budget.reserve(question.estimate())
        self.sent += 1
        self.in_flight += 1
        return question

    @property
    def queued(self) -> int:
        """How many requests are waiting to be sent."""
        return len(self._queue) + len(self._begun)

    def can_send(self) -> bool:
        """Whether there is something to send, and money for it."""
        return bool(self._queue) and not self.stopped and self.budget.allows(self._queue[0].estimate())

    def begin(self, question: Question, samples: list[Sample]) -> None:
        """Prepare the remaining requests for a class, which may have some answers on disk."""
        left = question.unanswered(samples, self.retries)
        work = Work(question, samples, saved=len(samples), open=len(left))
        self.working[question.name] = work
        self._begun += left
        if not left:
            self.settled.append(work)

    def release(self) -> None:
        """Queue the requests that `begin` prepared, once their claims are on disk."""
        self._queue.extend(self._begun)
        self._begun.clear()

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Take in answers. An empty one is asked again, ahead of the queue; a refusal is not."""
        for question, outcome in outcomes:
            self.in_flight -= 1
            work = self.working[question.name]
            if isinstance(outcome, Failure):
                self.budget.release(question.estimate())
                if outcome.unaffordable:
                    self._queue.appendleft(question)  # sent later if others turn out to cost less
                    continue
                work.failure = outcome.reason
                work.open -= 1
            else:
                self.budget.settle(question.estimate(), outcome.usage)
                work.samples.append(outcome)
                result = outcome.parsed(question.style)
                if not result.descriptors and not result.refused and question.attempt < self.retries:
                    self._queue.appendleft(work.question.drawn(question.sample, question.attempt + 1))
                else:
                    work.open -= 1
                    if result.cut is not None:
                        self.cut[question.name] = None
                    if result.left_out:
                        self.too_long[question.name] = None
            if work.open == 0:
                self.settled.append(work)

    def finish(self, work: Work, failure: str | None) -> None:
        """Count a settled class, once its answers are on disk."""
        del self.working[work.question.name]
        self.settled.remove(work)
        if failure is not None:
            self.failed[work.question.name] = failure


class Ledger:
    """Keeps a run's answers and claims on disk. Its methods may be called from several threads."""

    def __init__(
        self,
        run: Run,
        names: Sequence[str],
        store: Store,
        *,
        endpoint: str | None,
        lifetime: float,
        refresh: bool,
    ) -> None:
        """Sort a run's classes by what the store already holds. Raises PromptError.

        `lifetime` is the number of seconds after which the run's claims expire for other hosts.
        """
        self.done: set[str] = set()  # classes that this run has written
        self.others: list[str] = []  # meanwhile written by other processes
        self.refusal: StoreError | None = None  # the error with which to end the run
        self._run = run
        self._store = store
        self._endpoint = endpoint
        self._refresh = refresh
        known = store.positions()
        self._positions = positions_of(names, known)  # of new classes only
        for name in tuple(known):
            self._positions.pop(name, None)
        self.cached: list[str] = []
        self.kept: list[str] = []
        self._pending: deque[str] = deque()  # those already paid for come first
        ask: list[str] = []
        for name in names:
            status = class_status(run.questions.of(name), store, refresh=refresh)
            by_status = {"cached": self.cached, "kept": self.kept, "ask": ask}
            (self._pending if isinstance(status, Entry) else by_status[status]).append(name)
        self._pending += ask
        self.total = len(self._pending)  # classes to settle
        self._run_file = RunFile(store.path, lifetime)
        self._elsewhere: list[str] = []  # claimed by other processes
        counts = ((name, store.count(name)) for name in self._pending)
        self._lines_before = {name: count for name, count in counts if count}  # 0 for most classes
        self._news: list[Mapping[str, Any]] = []  # claims and their ends, not yet in the run file
        self._renew_every = lifetime / RENEWALS
        self._renewed = self._looked = time.monotonic()
        self._turn = threading.Lock()

    @property
    def run_path(self) -> Path:
        """The path of the run file."""
        return self._run_file.path

    @property
    def waiting(self) -> int:
        """How many classes other processes are asking now."""
        return len(self._elsewhere)

    def claimants(self) -> str:
        """Return who is asking the classes that this run waits for, as a phrase."""
        keys = [self._run.questions.of(name).key for name in list(self._elsewhere)]
        return "; ".join(dict.fromkeys(filter(None, map(self._run_file.claimant, keys))))

    @property
    def left(self) -> tuple[str, ...]:
        """The classes that are not settled."""
        return (*self._run.working, *self._pending, *self._elsewhere)

    @property
    def unsettled(self) -> int:
        """How many classes are left."""
        return len(self._run.working) + len(self._pending) + len(self._elsewhere)

    def is_needed(self) -> bool:
        """Whether there is anything to write: classes to ask, or a run file that an earlier run left."""
        return bool(self._pending) or self._run_file.exists()

    def step(self, most: int) -> None:
        """Save what the run has taken in; claim classes until `most` requests are queued or in flight."""
        with self._turn:
            try:
                with self._store.locked():
                    self._run_file.refresh()
                    self._keep()
                    if not self._run.stopped and not self.refusal:
                        self._claim(most)
                    self._write_news()
                    self._run.release()
            except StoreError as error:
                self.refusal = self.refusal or error

    def renew(self) -> None:
        """Renew the claims of classes being asked, so that they do not expire for other hosts."""
        with self._turn:
            if time.monotonic() - self._renewed < self._renew_every or self.refusal:
                return
            self._renewed = time.monotonic()
            try:
                with self._store.locked():
                    self._run_file.refresh()
                    self._news += [self._claimed(work.question) for work in self._run.working.values()]
                    self._write_news()
            except StoreError as error:
                self.refusal = self.refusal or error

    def close(self, outcomes: Sequence[Outcome] = ()) -> int:
        """Save all remaining answers, including the last outcomes, and release all claims.

        Returns how many answers the run file keeps for later. Raises StoreError if it cannot be written;
        answers then go to a temporary folder if possible.
        """
        with self._turn:
            self._run.take(outcomes)
            try:
                with self._store.locked():
                    self._run_file.refresh()
                    self._keep()
                    self._news += self._stored_already()
                    self._write_news()
                    return self._run_file.close()
            except StoreError as error:
                unsaved = [line for work in self._run.working.values() for line in work.unsaved()]
                if not unsaved:
                    raise
                raise StoreError(f"{error}; {_rescue(unsaved, self._run_file.path)}") from error

    def lost(self) -> tuple[str, ...]:
        """Return the classes that were written or already there but are no longer in the store."""
        store = self._store
        store.refresh()  # as it is now, whoever changed it
        written = (
            name
            for name in sorted(self.done)
            if not any(map(self._run.questions.of(name).is_answered_by, store.history(name)))
        )
        before = chain(self.cached, self.kept, self.others)
        return (*written, *(name for name in before if not store.count(name)))

    def _keep(self) -> None:
        """Put complete classes into the store, and all other answers into the run file."""
        run = self._run
        complete = [work for work in run.settled if work.failure is None]
        failed = [work for work in run.settled if work.failure is not None]
        try:
            entries = [self._entry(work) for work in complete]
            self._store.append(*entries)  # even if empty: also reads what others wrote
        except StoreError as error:
            self.refusal = self.refusal or error
        else:
            for work, entry in zip(complete, entries, strict=True):
                run.finish(work, None if entry.origin == GENERATED else why_empty(entry))
                self._news.append(end(work.question.key, STORED))
                if entry.origin == GENERATED:
                    self.done.add(entry.name)
        unsaved = [line for work in run.working.values() for line in work.unsaved()]
        if unsaved:
            self._run_file.append(unsaved)
            for work in run.working.values():
                work.saved = len(work.samples)
        for work in failed:
            self._news.append(end(work.question.key, FAILED, work.failure))
            run.finish(work, work.failure)

    def _entry(self, work: Work) -> Entry:
        current = self._store.get(work.question.name)
        line = work.question.line(work.samples, self._endpoint, current.rejected if current else ())
        position = self._positions.get(line.name, self._store.positions().get(line.name))
        return replace(line, position=position)

    def _claim(self, most: int) -> None:
        """Claim classes until `most` requests are queued or in flight; settle those that need none."""
        run, now = self._run, time.monotonic()
        if not self._pending and now - self._looked >= LOOK_AGAIN:
            self._looked = now
            self._pending, self._elsewhere = deque(self._elsewhere), []
        restored: list[Entry] = []
        while self._pending and run.queued < most - run.in_flight:
            name = self._pending.popleft()
            question = run.questions.of(name)
            history = self._store.history(name)
            if self._is_settled(question, history):
                continue
            if self._run_file.is_claimed(question.key):
                self._elsewhere.append(name)
                continue
            status = class_status(question, self._store, refresh=self._refresh)
            if status == "ask":
                run.begin(question, samples_so_far(question, history, self._run_file.samples(question.key)))
                self._news.append(self._claimed(question))
            elif status == "kept":
                self.kept.append(name)
            else:
                self.cached.append(name)
                restored += [status] if isinstance(status, Entry) else []
        if restored:
            self._store.append(*restored)

    def _claimed(self, question: Question) -> Mapping[str, Any]:
        return claim(question.key, question.name, self._run_file.owner)

    def _write_news(self) -> None:
        self._run_file.append(self._news, sync=False)
        self._news.clear()

    def _is_settled(self, question: Question, history: Sequence[Entry]) -> bool:
        """Whether another process has answered a class since this run began, or failed to."""
        news = history[self._lines_before.get(question.name, 0) :]
        answered = {entry.origin: entry for entry in news if question.is_answered_by(entry)}
        empty = answered.get(FAILED_ANSWER)
        failure = why_empty(empty) if empty else self._run_file.failure(question.key)
        if GENERATED in answered:
            self.others.append(question.name)
        elif failure is not None:
            self._run.failed[question.name] = f"{failure} (asked by another process)"
        return GENERATED in answered or failure is not None

    def _stored_already(self) -> list[Mapping[str, Any]]:
        """Return end lines for questions whose answers are in the store, but whose run died before ending."""
        return [
            end(key, STORED)
            for key, name, texts in self._run_file.pending()
            if any(
                texts <= {sample.text for sample in samples_of(entry)} for entry in self._store.history(name)
            )
        ]


def _rescue(lines: Sequence[Mapping[str, Any]], run_path: Path) -> str:
    """Write answers that cannot be saved elsewhere to a temporary file, and return what to do with it."""
    try:
        handle, name = tempfile.mkstemp(prefix="fieldmarks-", suffix=".run")
        with os.fdopen(handle, "wb") as file:
            file.writelines(orjson.dumps(line) + b"\n" for line in lines)
    except OSError as error:
        where = f"{tempfile.gettempdir()} cannot be written either ({error})"
        return f"{counted(len(lines), 'answer')} lost: {where}"
    command = f"cat {shlex.quote(name)} >> {shlex.quote(str(run_path))}"
    add = f"add it to {run_path} ({command}) and run the same command again"
    return f"{counted(len(lines), 'answer')} saved in {name}: {add}"
