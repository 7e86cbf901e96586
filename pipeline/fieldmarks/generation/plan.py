"""What a run has to ask, and what its store already answers. Nothing here has an effect."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fieldmarks.generation.answers import is_record, parsed
from fieldmarks.generation.completer import GREEDY, Params, Request
from fieldmarks.generation.templates import Prompt
from fieldmarks.records import FAILED, GENERATED, Entry
from fieldmarks.store import Store

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
