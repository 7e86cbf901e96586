"""What a run asks: what its store does not answer, and nothing that would not come into force."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fieldmarks.generation.answers import line
from fieldmarks.generation.completer import Params
from fieldmarks.generation.plan import Ask, Plan, make_plan, retry, samples_so_far
from fieldmarks.generation.templates import Prompt
from fieldmarks.records import Entry
from fieldmarks.store import Store

ASK = Ask(Prompt.load("article"), "m")
ANSWER = {"sample": 0, "answer": "- green", "finish_reason": "stop"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "s.jsonl", create=True)


def _line(name: str, ask: Ask = ASK, answer: str = "- green") -> Entry:
    return line(name, [{**ANSWER, "answer": answer}], ask.key(name), endpoint=None, mode="completions")


def test_an_empty_store_is_asked_for_everything(store: Store) -> None:
    assert make_plan(["fox", "owl"], store, ASK) == Plan(ask=("fox", "owl"))


def test_an_answered_class_is_not_asked_again(store: Store) -> None:
    store.append(_line("fox"))
    assert make_plan(["fox", "owl"], store, ASK) == Plan(ask=("owl",), cached=("fox",))
    assert make_plan(["fox", "owl"], store, ASK, refresh=True) == Plan(ask=("fox", "owl"))


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, model="n"),
        replace(ASK, params=Params(temperature=0.5)),
        replace(ASK, params=Params(max_tokens=99)),
        replace(ASK, params=Params(seed=1)),
        replace(ASK, params=Params(samples=2)),
        replace(ASK, prompt=Prompt.load("two-shot")),
        replace(ASK, prompt=replace(ASK.prompt, style="sentences")),
        replace(ASK, prompt=replace(ASK.prompt, stop=("END",))),
        replace(ASK, prompt=Prompt("article", "{class} {concept}"), values={"concept": "bird"}),
    ],
)
def test_another_question_is_another_key(store: Store, other: Ask) -> None:
    store.append(_line("fox"))
    assert make_plan(["fox"], store, other) == Plan(ask=("fox",))


def test_the_key_survives_the_disk(store: Store) -> None:
    ask = replace(ASK, params=Params(0.5, 99, 1, 3, 2))
    store.append(line("fox", [ANSWER] * 3, ask.key("fox"), endpoint="http://x/v1", mode="prefix"))
    assert make_plan(["fox"], Store.open(store.path), ask) == Plan(ask=(), cached=("fox",))


def test_a_failed_class_is_asked_again(store: Store) -> None:
    store.append(_line("fox", answer="I cannot say."))
    assert make_plan(["fox"], store, ASK) == Plan(ask=("fox",))


@pytest.mark.parametrize("origin", ["curated", "imported", None])
def test_a_persons_line_is_kept_unless_refreshed(store: Store, origin: str | None) -> None:
    store.append(Entry("fox", ("red fur",), origin=origin))
    assert make_plan(["fox"], store, ASK) == Plan(ask=(), kept=("fox",))
    assert make_plan(["fox"], store, ASK, refresh=True) == Plan(ask=("fox",))


def test_a_removed_class_comes_back_without_being_paid_again(store: Store) -> None:
    store.append(_line("fox"), Entry("fox", removed=True))
    assert make_plan(["fox"], store, ASK) == Plan(ask=(), restore=(_line("fox"),))


def test_going_back_to_an_earlier_model_costs_nothing(store: Store) -> None:
    first, second = _line("fox"), _line("fox", replace(ASK, model="n"), "- blue")
    store.append(first, second)
    assert make_plan(["fox"], store, ASK) == Plan(ask=(), restore=(first,))


def test_an_answer_brought_back_is_no_command_that_could_be_undone(store: Store) -> None:
    other = replace(ASK, model="n")
    store.append(_line("fox"), replace(_line("fox"), change="c1"), _line("fox", other))
    (line,) = make_plan(["fox"], store, ASK).restore
    assert (line.origin, line.change) == ("generated", None)


def test_answers_paid_for_are_found_again(store: Store) -> None:
    ask = replace(ASK, params=Params(0.7, samples=3))
    key = ask.key("fox")
    store.append(line("fox", [ANSWER], key, endpoint=None, mode="completions", note="1 of 3 answers"))
    paid = samples_so_far(store.history("fox"), key)
    assert paid == (ANSWER,)
    assert [one.sample for one in ask.requests("fox", {0})] == [1, 2]
    assert samples_so_far(store.history("fox"), ASK.key("fox")) == ()


def test_samples_have_seeds_of_their_own_and_retries_too() -> None:
    ask = replace(ASK, params=Params(0.4, seed=5, samples=3))
    requests = list(ask.requests("fox"))
    assert [one.seed for one in requests] == [5, 6, 7]
    again = retry(requests[1])
    assert (again.attempt, again.seed, again.temperature) == (1, 1006, 0.7)
    assert retry(replace(requests[0], temperature=1.2)).temperature == 1.2


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"sample": 0},
        {"sample": 0, "answer": 5},
        {"sample": [], "answer": "- a"},
        {"sample": 0, "answer": "- a", "finish_reason": {}},
        {"sample": 0, "answer": "- a", "usage": {"x": 1}},
        {"sample": 0, "answer": "- a", "usage": {"prompt_tokens": "a"}},
    ],
)
def test_samples_that_an_editor_spoilt_are_asked_again(bad: dict[str, Any]) -> None:
    ask = Ask(Prompt.load("article"), "m", Params(0.7, samples=3))
    good = {"sample": 1, "answer": "- a", "finish_reason": None}
    entry = Entry("fox", origin="failed", samples=(bad, good), **ask.key("fox"))
    assert samples_so_far([entry], ask.key("fox")) == (good,)
