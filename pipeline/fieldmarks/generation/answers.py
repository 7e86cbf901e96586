"""From a class's answers to its line in a store, and back: a line's answers parse to its descriptors.

With one answer a class the line holds it as `answer`; with several, `samples` holds all of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fieldmarks.generation.bullets import Parsed, distinct, parse
from fieldmarks.generation.completer import Completion, Request, Usage
from fieldmarks.records import FAILED, FORMAT_VERSION, GENERATED, Entry
from fieldmarks.store.curate import comparable


def sample(request: Request, completion: Completion) -> dict[str, Any]:
    """Return one answer as a line's `samples` keep it; `retried` says how a repeated one was drawn."""
    ended = completion.finish_reason
    one: dict[str, Any] = {"sample": request.sample, "answer": completion.text, "finish_reason": ended}
    if completion.usage is not None:
        one["usage"] = completion.usage.to_dict()
    if request.attempt:
        one["retried"] = {"times": request.attempt, "temperature": request.temperature, "seed": request.seed}
    return one


def line(
    name: str,
    samples: Sequence[Mapping[str, Any]],
    key: Mapping[str, Any],
    *,
    endpoint: str | None,
    mode: str,
    rejected: Sequence[str] = (),
    note: str | None = None,
) -> Entry:
    """Return a class's line: generated, or failed where its answers hold no descriptor or `note` says why."""
    common: dict[str, Any] = {**key, "endpoint": endpoint, "mode": mode, "rejected": tuple(rejected)}
    entry = Entry(
        name, v=FORMAT_VERSION, at=datetime.now(UTC).isoformat(timespec="seconds"), note=note, **common
    )
    usage = sum((Usage(**one["usage"]) for one in samples if "usage" in one), Usage())
    entry = replace(entry, usage=usage.to_dict() if any("usage" in one for one in samples) else None)
    if key["params"].get("samples", 1) > 1:
        entry = replace(entry, samples=tuple(samples))
    elif samples:
        extra = {"retried": samples[0]["retried"]} if "retried" in samples[0] else {}
        ended = samples[0]["finish_reason"]
        entry = replace(entry, answer=samples[0]["answer"], finish_reason=ended, extra=extra)
    descriptors = reparse(entry) if note is None else ()
    return replace(entry, descriptors=descriptors, origin=GENERATED if descriptors else FAILED)


def reparse(entry: Entry) -> tuple[str, ...]:
    """Return the descriptors that a line's own answers parse to."""
    style = (entry.prompt or {}).get("style", "bullets")
    params = entry.params or {}
    lists = [parsed(one, style).descriptors for one in entry.samples]
    if entry.answer is not None:
        lists = [parsed({"answer": entry.answer, "finish_reason": entry.finish_reason}, style).descriptors]
    struck = {comparable(one) for one in entry.rejected}
    merged = agreed(lists, params.get("keep", 1))
    return tuple(one for one in merged if comparable(one) not in struck)


def parsed(one: Mapping[str, Any], style: str) -> Parsed:
    """Parse one answer as `samples` keep it."""
    return parse(one["answer"], style=style, finish_reason=one.get("finish_reason"))


def agreed(lists: Sequence[Sequence[str]], keep: int) -> tuple[str, ...]:
    """Return the descriptors that at least `keep` of the lists have, what most have first.

    Compared without case and punctuation; the wording is that of the first list that has it.
    """
    votes = Counter(key for one in lists for key in {comparable(text) for text in one})
    every = distinct(text for one in lists for text in one)
    return tuple(
        sorted((one for one in every if votes[comparable(one)] >= keep), key=lambda d: -votes[comparable(d)])
    )
