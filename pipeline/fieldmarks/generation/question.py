"""The question for a class, a model's answers to it, and the store line made from them.

A `Question` holds everything that determines an answer; run files identify it by its `key`. Each answer is a
`Sample`. A line with one answer holds it as `answer`; with several, `answers` holds all of them in the order
in which they arrived: those of every sample, including those without a descriptor, which were asked again.
The last one of each sample counts. No side effects.
"""

import hashlib
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Protocol

import orjson

from fieldmarks.generation.parse import Parsed, distinct, parse
from fieldmarks.generation.prompt import BULLETS, Prompt, forced_beginning
from fieldmarks.records import FAILED, FORMAT_VERSION, GENERATED, Entry, now
from fieldmarks.store import Store
from fieldmarks.store.edits import Stamp
from fieldmarks.store.lines import Outline
from fieldmarks.text import comparable

REPARSED: Final = "parsed again"
NONE_LEFT: Final = "no descriptor is left: its answers do not agree, or all are rejected"
BYTES_PER_TOKEN: Final = 4  # English prose, rounded down
OVERHEAD: Final = 16  # tokens that a chat's turns add
RETRY_TEMPERATURE: Final = 0.7  # at least, after an empty answer: greedily, the model repeats itself
RETRY_SEED_STEP: Final = 1000  # more than the usual number of samples


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of prompt and completion tokens, which can be added."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens
        )

    def to_dict(self) -> dict[str, int]:
        """Return the JSON object stored in a line."""
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}


NOTHING: Final = Usage()


@dataclass(frozen=True, slots=True)
class Sample:
    """A model's answer, as stored in run files and in the `answers` of a line.

    `text` includes the forced beginning, unless the model ignored it. `retried` says how the answer was
    sampled if it followed an empty one.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None
    mode: str = ""
    number: int = 0  # its index among the class's samples
    retried: Mapping[str, Any] | None = None
    at: str | None = None
    continued: bool = True  # false if the model started over after a forced beginning
    thinking: bool = False  # the model thought before it answered, within `max_tokens`

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Sample | None":
        """Read an answer, or return None if it is not one: people edit files, so it may be anything."""
        usage, ended = value.get("usage"), value.get("finish_reason")
        if (
            type(value.get("sample")) is not int
            or not isinstance(value.get("answer"), str)
            or not isinstance(ended, str | None)
            or not isinstance(usage, dict | None)
            or not (usage or {}).keys() <= {"prompt_tokens", "completion_tokens"}
            or not all(type(count) is int for count in (usage or {}).values())
        ):
            return None
        return cls(
            text=value["answer"],
            finish_reason=ended,
            usage=None if usage is None else Usage(**usage),
            mode=str(value.get("mode", "")),
            number=value["sample"],
            retried=value.get("retried"),
            at=value.get("at"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the object in a line's `answers`; mode and time are stored in the line itself."""
        answer: dict[str, Any] = {
            "sample": self.number,
            "answer": self.text,
            "finish_reason": self.finish_reason,
        }
        if self.usage is not None:
            answer["usage"] = self.usage.to_dict()
        if self.retried is not None:
            answer["retried"] = self.retried
        return answer

    def parsed(self, style: str) -> Parsed:
        """Return the descriptors in it, or why there are none."""
        return parse(self.text, style=style, finish_reason=self.finish_reason)


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a model about one class, and how to sample its answer."""

    name: str  # the class
    prompt: str  # rendered; the model continues a bare bullet mark at its end
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 200
    seed: int | None = None
    style: str = BULLETS
    sample: int = 0  # its index among the class's samples
    attempt: int = 0  # how often this one came back empty
    key: str = ""  # the same for all samples and attempts
    provenance: Mapping[str, Any] = field(default_factory=dict, hash=False)  # prompt, model, params as stored

    @property
    def forced(self) -> str:
        """The bullet mark that forces a list, or an empty string."""
        return forced_beginning(self.prompt)

    def drawn(self, sample: int, attempt: int = 0) -> "Question":
        """Return the question for a sample; after an empty answer, warmer and with another seed."""
        return replace(
            self,
            temperature=max(self.temperature, RETRY_TEMPERATURE) if attempt else self.temperature,
            seed=None if self.seed is None else self.seed + sample + attempt * RETRY_SEED_STEP,
            sample=sample,
            attempt=attempt,
        )

    def unanswered(self, samples: Sequence[Sample] = (), retries: int = 0) -> "list[Question]":
        """Return the questions left to ask, given the answers so far: at most one for each sample.

        A sample is settled by an answer with a descriptor, or after `retries` more answers without one.
        """
        left = []
        for number in range(self.provenance["params"].get("samples", 1)):
            drawn = [sample for sample in samples if sample.number == number]
            settled = drawn and (len(drawn) > retries or drawn[-1].parsed(self.style).descriptors)
            if not settled:
                left.append(self.drawn(number, len(drawn)))
        return left

    def answered(
        self,
        text: str,
        finish_reason: str | None,
        usage: Usage | None,
        mode: str,
        *,
        continued: bool = True,
        thinking: bool = False,
    ) -> Sample:
        """Return an answer as a sample."""
        retried = None
        if self.attempt:
            retried = {"times": self.attempt, "temperature": self.temperature, "seed": self.seed}
        return Sample(text, finish_reason, usage, mode, self.sample, retried, now(), continued, thinking)

    def estimate(self) -> Usage:
        """Return the approximate prompt tokens and the maximum completion tokens."""
        return Usage(math.ceil(len(self.prompt.encode()) / BYTES_PER_TOKEN) + OVERHEAD, self.max_tokens)

    def is_answered_by(self, entry: Entry | Outline) -> bool:
        """Whether a line answers this question, whatever its prompt is called."""
        known, prompt = entry.prompt or {}, self.provenance["prompt"]
        return bool(
            known.get("sha256") == prompt["sha256"]
            and known.get("style") == prompt["style"]
            and entry.model == self.provenance["model"]
            and entry.params == self.provenance["params"]
        )

    def line(self, samples: Sequence[Sample], endpoint: str | None, rejected: Sequence[str] = ()) -> Entry:
        """Return the class's line: generated, or failed if its answers hold no descriptor."""
        first, *others = samples
        whole: dict[str, Any] = {"answers": tuple(sample.to_dict() for sample in samples)}
        if not others and self.provenance["params"].get("samples", 1) == 1:
            whole = {"answer": first.text, "finish_reason": first.finish_reason}
        used = [sample.usage for sample in samples if sample.usage is not None]
        readings = _readings(samples, self.style)
        descriptors = _agreed(readings, self.provenance["params"], rejected)
        return Entry(
            self.name,
            descriptors,
            v=FORMAT_VERSION,
            origin=GENERATED if descriptors else FAILED,
            endpoint=endpoint,
            mode=next((sample.mode for sample in reversed(samples) if sample.mode), ""),
            usage=sum(used, NOTHING).to_dict() if used else None,
            rejected=tuple(rejected),
            at=now(),
            **self.provenance,
            **whole,
        )


@dataclass(frozen=True)
class Questions:
    """What a run asks about every class: the prompt and its values, the model, and how to sample answers."""

    prompt: Prompt
    model: str
    temperature: float = 0.0
    max_tokens: int = 200
    seed: int | None = None
    samples: int = 1  # answers per class
    keep: int = 1  # with several answers: how many must contain a descriptor
    values: Mapping[str, str | None] = field(default_factory=dict)  # concept, other

    def of(self, name: str) -> Question:
        """Return the question about a class. Raises PromptError."""
        prompt = self.prompt
        text = prompt.render(name, **self.values)
        asked = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "style": prompt.style}
        whole = orjson.dumps([name, asked, self.model, self._params], option=orjson.OPT_SORT_KEYS)
        return Question(
            name,
            text,
            prompt.stop,
            self.temperature,
            self.max_tokens,
            self.seed,
            prompt.style,
            key=hashlib.sha256(whole).hexdigest()[:32],
            provenance={
                "prompt": {"name": prompt.name, **asked},
                "model": self.model,
                "params": self._params,
            },
        )

    @cached_property
    def _params(self) -> dict[str, Any]:
        """The parameters stored in a line, by which a later run recognises the answer."""
        line: dict[str, Any] = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stop": list(self.prompt.stop),
        }
        if self.seed is not None:
            line["seed"] = self.seed
        if self.samples > 1:
            line |= {"samples": self.samples, "keep": self.keep}
        return line


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a question got no answer; the run goes on."""

    reason: str
    unaffordable: bool = False  # its attempts cost money, and another could exceed the cost limit


Outcome = tuple[Question, Sample | Failure]
Charge = Callable[[Usage], bool]  # counts a usage; returns whether the budget allows another attempt


def unlimited(usage: Usage) -> bool:
    """Allow every further attempt."""
    return True


class Completer(Protocol):
    """A model that answers questions: an endpoint, or a language model in this process."""

    @property
    def model(self) -> str:
        """The model's name, as stored in a line."""

    @property
    def endpoint(self) -> str | None:
        """The endpoint's URL without credentials, or None for a model in this process."""

    @property
    def window(self) -> int:
        """How many questions it works on at once."""

    @property
    def timeout(self) -> float:
        """Seconds to wait for one answer."""

    @property
    def slowest(self) -> float:
        """Seconds that the slowest answer so far took, without waits before sending; 0 before the first."""

    @property
    def retrying(self) -> int:
        """How many questions are waiting to be sent again."""

    def drain(self) -> None:
        """Stop sending: unsent questions end without an outcome, those already sent are awaited."""

    def complete(
        self, questions: Iterable[Question], charge: Charge = unlimited
    ) -> AsyncGenerator[list[Outcome], None]:
        """Yield answers in groups as they arrive, taking questions only as they can be worked on.

        The iterable may end and yield more later. The number of questions asked but not yet yielded stays
        bounded. `charge` is called with the usage of each attempt that cost money but brought no answer; if
        it returns false, the question is not resent and fails as `unaffordable`. Raises GenerationError or
        ModelError if no further question could succeed. Closing the iterator stops the work; `leftovers`
        returns what had arrived.
        """

    def leftovers(self) -> list[Outcome]:
        """Return, once, the answers that had arrived but were not yielded when `complete` was closed."""


def samples_of(entry: Entry) -> list[Sample]:
    """Return the answers stored in a line, without those damaged by editing."""
    if entry.answer is not None:
        return [Sample(entry.answer, entry.finish_reason)]
    return [sample for sample in map(Sample.from_dict, entry.answers) if sample is not None]


def samples_so_far(
    question: Question, history: Sequence[Entry], pending: Sequence[Sample] = ()
) -> list[Sample]:
    """Return the answers that an interrupted run has already paid for.

    They are `pending` in the run file; version 0.1 stored them in a "failed" line of the class.
    """
    earlier: list[Sample] = []
    for entry in reversed(history):
        if question.is_answered_by(entry) and entry.origin in (GENERATED, FAILED):
            if entry.origin == FAILED and entry.answer is None:
                usable = samples_of(entry)
                numbers = {sample.number for sample in usable}
                earlier = usable if len(numbers) < question.provenance["params"].get("samples", 1) else []
            break
    return [*earlier, *pending]


def reparse(entry: Entry) -> tuple[str, ...]:
    """Return the descriptors in a line's stored answers, parsed again."""
    return _agreed(_readings(samples_of(entry), _style(entry)), entry.params or {}, entry.rejected)


def why_empty(entry: Entry) -> str:
    """Return why a line's answers have no descriptors; in the model's own words if it refused."""
    readings = _readings(samples_of(entry), _style(entry))
    problems = [reading.problem for reading in readings if reading.problem]
    return problems[-1] if problems else NONE_LEFT


def _style(entry: Entry) -> str:
    return str((entry.prompt or {}).get("style", BULLETS))


def _readings(samples: Sequence[Sample], style: str) -> list[Parsed]:
    """Parse the answers of a class that count: the last one of each sample."""
    last = {sample.number: sample for sample in samples}
    return [sample.parsed(style) for sample in last.values()]


def _agreed(
    readings: Sequence[Parsed], params: Mapping[str, Any], rejected: Sequence[str]
) -> tuple[str, ...]:
    """Return the descriptors that enough answers share, without those that a person rejected."""
    gone = {comparable(text) for text in rejected}
    keep = params.get("keep", 1)
    lists = [reading.descriptors for reading in readings]
    texts = lists[0] if len(lists) == 1 and keep == 1 else agreed(lists, keep)
    return tuple(text for text in texts if comparable(text) not in gone) if gone else texts


def agreed(lists: Sequence[Sequence[str]], keep: int) -> tuple[str, ...]:
    """Return the descriptors in at least `keep` of the lists, the most frequent first.

    They are compared ignoring case and punctuation; the wording is that of the first list that has it.
    """
    votes = Counter(key for texts in lists for key in {comparable(text) for text in texts})
    every = distinct(text for texts in lists for text in texts)
    enough = (text for text in every if votes[comparable(text)] >= keep)
    return tuple(sorted(enough, key=lambda text: -votes[comparable(text)]))


@dataclass(frozen=True, slots=True)
class Reparsed:
    """The result of parsing a store's answers again."""

    lines: list[Entry]
    unanswered: list[str]  # classes whose current line has no answer: a person's, or imported
    empty: dict[str, str]  # classes whose answers hold no descriptor, and why


def reparsed(store: Store, stamp: Stamp) -> Reparsed:
    """Parse a store's stored answers again, and return the lines that change.

    Classes whose current line is a person's stay as they are, as do removed classes and those whose answers
    no longer hold a descriptor. A class whose answers held none before gets its first line.
    """
    result = Reparsed([], [], {})
    for name in store.all_names():
        current = store.get(name)
        line = current or next(reversed(store.history(name)), None)
        if line is None or line.removed or (line.answer is None and not line.answers):
            if current is not None:
                result.unanswered.append(name)
            continue
        descriptors = reparse(line)
        if not descriptors:
            if current is not None:
                result.empty[name] = why_empty(line)
        elif descriptors != line.descriptors:
            fresh = replace(line, descriptors=descriptors, origin=GENERATED, undo=False, redo=False)
            result.lines.append(stamp.put(fresh, note=REPARSED))
    return result
