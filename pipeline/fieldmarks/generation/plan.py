"""What a run has to ask, and what its store already answers. Nothing here has an effect."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

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

    def requests(self, name: str, have: Collection[int] = ()) -> Iterator[Request]:
        """Yield a class's requests, one for each of its samples that are not in `have`."""
        params = self.params
        for sample in range(params.samples):
            if sample not in have:
                seed = None if params.seed is None else params.seed + sample
                yield Request(
                    name,
                    self.render(name),
                    self.prompt.stop,
                    temperature=params.temperature,
                    max_tokens=params.max_tokens,
                    seed=seed,
                    style=self.prompt.style,
                    sample=sample,
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
        elif force is not None and _has_key(force, key):
            cached.append(name)
        elif (answered := _answered(store.history(name), key)) is not None:
            restore.append(
                replace(answered, undo=False, redo=False, change=None)
            )  # no command's, which could be undone
        else:
            asked.append(name)
    return Plan(tuple(asked), tuple(cached), tuple(kept), tuple(restore))


def samples_so_far(history: Sequence[Entry], key: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the answers that an interrupted run with several samples a class has already paid for."""
    for entry in reversed(history):
        if _has_key(entry, key) and entry.origin == GENERATED:
            break
        if _has_key(entry, key) and entry.origin == FAILED:
            usable = tuple(one for one in entry.samples if _is_sample(one))
            return usable if len(usable) < key["params"].get("samples", 1) else ()
    return ()


def retry(request: Request) -> Request:
    """Return the request to send again after an empty answer: warmer, with another seed."""
    seed = None if request.seed is None else request.seed + RETRY_SEED_STEP
    temperature = max(request.temperature, RETRY_TEMPERATURE)
    return replace(request, attempt=request.attempt + 1, seed=seed, temperature=temperature)


def digest(text: str) -> str:
    """Return the SHA-256 of a text in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _answered(history: Sequence[Entry], key: Mapping[str, Any]) -> Entry | None:
    """Return the last generated line of a class with this key: it is paid for, in force or not."""
    return next((one for one in reversed(history) if one.origin == GENERATED and _has_key(one, key)), None)


def _is_sample(one: Mapping[str, Any]) -> bool:
    """Whether this is an answer as a run keeps it: people edit stores, so it may be anything."""
    usage, ended = one.get("usage", {}), one.get("finish_reason")
    counts = {"prompt_tokens", "completion_tokens"}
    return (
        type(one.get("sample")) is int
        and isinstance(one.get("answer"), str)
        and (ended is None or isinstance(ended, str))
        and isinstance(usage, dict)
        and usage.keys() <= counts
        and all(type(count) is int for count in usage.values())
    )


def _has_key(entry: Entry, key: Mapping[str, Any]) -> bool:
    known, asked = entry.prompt or {}, key["prompt"]
    same_text = known.get("sha256") == asked["sha256"] and known.get("style") == asked["style"]
    return bool(same_text and entry.model == key["model"] and entry.params == key["params"])
