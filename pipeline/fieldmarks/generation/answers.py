"""From a class's answers to its line in a store, and back: a line's answers parse to its descriptors.

A line with one answer holds it as `answer`; with several, `answers` holds all of them in the order they
came: those of every sample, and those without a descriptor that were asked again. Of each sample the last
one counts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fieldmarks.generation.completer import Completion, Request, Usage
from fieldmarks.generation.parse import Parsed, distinct, parse
from fieldmarks.records import FAILED, FORMAT_VERSION, GENERATED, Entry
from fieldmarks.store import Store
from fieldmarks.store.curate import Stamp, comparable, now

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
