"""From a class's answers to its line in a store, and back: a line's answers parse to its descriptors.

A line with one answer holds it as `answer`; with several, `answers` holds all of them in the order they
came: those of every sample, and those without a descriptor that were asked again. Of each sample the last
one counts.

What a run has to ask, and what its store already answers. Nothing here has an effect.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fieldmarks.generation.parse import Parsed, distinct, parse
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.request import GREEDY, Completion, Params, Request, Usage
from fieldmarks.records import FAILED, FORMAT_VERSION, GENERATED, Entry, now
from fieldmarks.store import Store
from fieldmarks.store.edits import Stamp
from fieldmarks.text import comparable

REPARSED: Final = "parsed again"
NONE_LEFT: Final = "no descriptor is left: its answers do not agree, or all are rejected"


def record(request: Request, completion: Completion) -> dict[str, Any]:
    """Return one answer as a line's `answers` keep it; `retried` says how a repeated one was drawn."""
    ended = completion.finish_reason
    answer: dict[str, Any] = {"sample": request.sample, "answer": completion.text, "finish_reason": ended}
    if completion.usage is not None:
        answer["usage"] = completion.usage.to_dict()
    if request.attempt:
        drawn = {"times": request.attempt, "temperature": request.temperature, "seed": request.seed}
        answer["retried"] = drawn
    return answer


def is_record(value: Mapping[str, Any]) -> bool:
    """Whether this is an answer as `record` makes it: people edit files, so it may be anything."""
    usage, ended = value.get("usage", {}), value.get("finish_reason")
    counts = {"prompt_tokens", "completion_tokens"}
    return (
        type(value.get("sample")) is int
        and isinstance(value.get("answer"), str)
        and (ended is None or isinstance(ended, str))
        and isinstance(usage, dict)
        and usage.keys() <= counts
        and all(type(count) is int for count in usage.values())
    )


def line(
    name: str,
    answers: Sequence[Mapping[str, Any]],
    key: Mapping[str, Any],
    *,
    endpoint: str | None,
    mode: str,
    rejected: Sequence[str] = (),
) -> Entry:
    """Return a class's line: generated, or failed where its answers hold no descriptor."""
    common: dict[str, Any] = {**key, "endpoint": endpoint, "mode": mode, "rejected": tuple(rejected)}
    entry = Entry(name, v=FORMAT_VERSION, at=now(), **common)
    usage = sum((Usage(**answer["usage"]) for answer in answers if "usage" in answer), Usage())
    entry = replace(entry, usage=usage.to_dict() if any("usage" in answer for answer in answers) else None)
    if len(answers) == 1 and key["params"].get("samples", 1) == 1:
        entry = replace(entry, answer=answers[0]["answer"], finish_reason=answers[0]["finish_reason"])
    else:
        entry = replace(entry, answers=tuple(answers))
    descriptors = reparse(entry)
    return replace(entry, descriptors=descriptors, origin=GENERATED if descriptors else FAILED)


def reparse(entry: Entry) -> tuple[str, ...]:
    """Return the descriptors that a line's own answers parse to."""
    lists = [reading.descriptors for reading in _readings(entry)]
    rejected = {comparable(text) for text in entry.rejected}
    merged = agreed(lists, (entry.params or {}).get("keep", 1))
    return tuple(text for text in merged if comparable(text) not in rejected)


def why_empty(entry: Entry) -> str:
    """Return why a line's answers came to no descriptor; the model's own words where it refused."""
    problems = [reading.problem for reading in _readings(entry) if reading.problem]
    return problems[-1] if problems else NONE_LEFT


def _readings(entry: Entry) -> list[Parsed]:
    """Parse what counts of a line's answers: the last one of each sample."""
    style = (entry.prompt or {}).get("style", "bullets")
    if entry.answer is not None:
        return [parsed({"answer": entry.answer, "finish_reason": entry.finish_reason}, style)]
    last = {answer["sample"]: answer for answer in entry.answers if is_record(answer)}
    return [parsed(answer, style) for answer in last.values()]


@dataclass(frozen=True, slots=True)
class Reparsed:
    """What parsing a store's answers again comes to."""

    lines: list[Entry]
    unanswered: list[str]  # current lines without an answer: people's, and imported ones
    empty: dict[str, str]  # classes whose answers hold no descriptor, and why


def reparsed(store: Store, stamp: Stamp) -> Reparsed:
    """Parse the kept answers of a store's classes again, and return the lines that this changes.

    Lines of people stay current, so their classes are left as they are; so is a class whose answers hold no
    descriptor any more, and one that was removed. A class whose answers held none before begins.
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


def parsed(answer: Mapping[str, Any], style: str) -> Parsed:
    """Parse one answer as `answers` keep it."""
    return parse(answer["answer"], style=style, finish_reason=answer.get("finish_reason"))


def agreed(lists: Sequence[Sequence[str]], keep: int) -> tuple[str, ...]:
    """Return the descriptors that at least `keep` of the lists have, what most have first.

    Compared without case and punctuation; the wording is that of the first list that has it.
    """
    votes = Counter(key for texts in lists for key in {comparable(text) for text in texts})
    every = distinct(text for texts in lists for text in texts)
    enough = (text for text in every if votes[comparable(text)] >= keep)
    return tuple(sorted(enough, key=lambda text: -votes[comparable(text)]))


RETRY_TEMPERATURE: Final = (
    0.7  # at least, when an answer came back empty: the same question greedily answers the same
)
RETRY_SEED_STEP: Final = 1000  # further than there are samples


@dataclass(frozen=True, slots=True)
class Ask:
    """What one run asks every class: the prompt and what fills it, the model, how answers are drawn."""

    prompt: Prompt
    model: str
    params: Params = GREEDY
    values: Mapping[str, str | None] = field(default_factory=dict)  # concept, other

    def render(self, name: str) -> str:
        """Return the text to send for a class."""
        return self.prompt.render(name, **self.values)

    def key(self, name: str) -> dict[str, Any]:
        """Return by what an answer to this question is known again in a store."""
        prompt = {"name": self.prompt.name, "sha256": digest(self.render(name)), "style": self.prompt.style}
        return {"prompt": prompt, "model": self.model, "params": self.params.to_dict(self.prompt.stop)}

    def requests(
        self, name: str, answers: Sequence[Mapping[str, Any]] = (), retries: int = 0
    ) -> list[Request]:
        """Return what is left to ask of a class that has some answers, at most one request for each sample.

        A sample is settled by an answer with a descriptor, or after `retries` further ones without.
        """
        left = []
        for sample in range(self.params.samples):
            drawn = [answer for answer in answers if answer["sample"] == sample]
            settled = drawn and (len(drawn) > retries or parsed(drawn[-1], self.prompt.style).descriptors)
            if not settled:
                left.append(self.request(name, sample, len(drawn)))
        return left

    def request(self, name: str, sample: int, attempt: int) -> Request:
        """Return a request; one that follows an empty answer is warmer, with another seed."""
        params = self.params
        warm = max(params.temperature, RETRY_TEMPERATURE)
        return Request(
            name,
            self.render(name),
            self.prompt.stop,
            temperature=warm if attempt else params.temperature,
            max_tokens=params.max_tokens,
            seed=None if params.seed is None else params.seed + sample + attempt * RETRY_SEED_STEP,
            style=self.prompt.style,
            sample=sample,
            attempt=attempt,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The classes of a run by what is to be done with them."""

    ask: tuple[str, ...]
    cached: tuple[str, ...] = ()  # answered already, nothing to do
    kept: tuple[str, ...] = ()  # a person's line is in force: an answer would not come into force
    restore: tuple[Entry, ...] = ()  # answered before, but not in force now


def make_plan(names: Iterable[str], store: Store, ask: Ask, *, refresh: bool = False) -> Plan:
    """Sort classes by what the store holds of them; with `refresh` all are asked. Raises PromptError."""
    asked: list[str] = []
    cached: list[str] = []
    kept: list[str] = []
    restore: list[Entry] = []
    for name in names:
        key = ask.key(name)
        force = store.get(name)
        if refresh:
            asked.append(name)
        elif force is not None and force.origin != GENERATED:
            kept.append(name)
        elif force is not None and has_key(force, key) and _is_whole(force):
            cached.append(name)
        elif (answered := _answered(store.history(name), key)) is not None:
            restore.append(
                replace(answered, undo=False, redo=False, change=None)
            )  # no command's, which could be undone
        else:
            asked.append(name)
    return Plan(tuple(asked), tuple(cached), tuple(kept), tuple(restore))


def answers_so_far(
    history: Sequence[Entry], key: Mapping[str, Any], pending: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the answers that an interrupted run has already paid for.

    They are `pending` in the run file; version 0.1 kept them in a "failed" line of the class.
    """
    earlier: Sequence[Mapping[str, Any]] = ()
    for entry in reversed(history):
        if has_key(entry, key) and entry.origin == GENERATED:
            break
        if has_key(entry, key) and entry.origin == FAILED:
            usable = [answer for answer in entry.answers if is_record(answer)]
            samples = {answer["sample"] for answer in usable}
            earlier = usable if len(samples) < key["params"].get("samples", 1) else ()
            break
    fields = ("sample", "answer", "finish_reason", "usage", "retried")
    kept = ({part: answer[part] for part in fields if part in answer} for answer in pending)
    return [*map(dict, earlier), *(answer for answer in kept if is_record(answer))]


def digest(text: str) -> str:
    """Return the SHA-256 of a text in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _answered(history: Sequence[Entry], key: Mapping[str, Any]) -> Entry | None:
    """Return the last generated line of a class with this key: it is paid for, in force or not."""
    return next(
        (
            entry
            for entry in reversed(history)
            if entry.origin == GENERATED and has_key(entry, key) and _is_whole(entry)
        ),
        None,
    )


def _is_whole(entry: Entry) -> bool:
    """Whether a line's answer ended well; version 0.1 stored half an answer before a provider's error too."""
    return entry.finish_reason != "error"


def has_key(entry: Entry, key: Mapping[str, Any]) -> bool:
    """Whether a line answers the question with this key."""
    known, asked = entry.prompt or {}, key["prompt"]
    same_text = known.get("sha256") == asked["sha256"] and known.get("style") == asked["style"]
    return bool(same_text and entry.model == key["model"] and entry.params == key["params"])
