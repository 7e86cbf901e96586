"""What a run asks: what its store does not answer, and nothing that would not come into force."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fieldmarks.generation.ledger import class_status
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Questions, Sample, samples_so_far
from fieldmarks.records import Entry
from fieldmarks.store import Store

ASK = Questions(Prompt.load("article"), "m")
ANSWER = {"sample": 0, "answer": "- green", "finish_reason": "stop"}
GREEN = Sample("- green", "stop")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.jsonl", create=True)


def _line(name: str, ask: Questions = ASK, answer: str = "- green") -> Entry:
    return ask.of(name).line([replace(GREEN, text=answer)], None)


def found(store: Store, *names: str, ask: Questions = ASK, refresh: bool = False) -> list[str | Entry]:
    return [class_status(ask.of(name), store, refresh=refresh) for name in names]


def test_an_empty_store_is_asked_for_everything(store: Store) -> None:
    assert found(store, "fox", "owl") == ["ask", "ask"]


def test_an_answered_class_is_not_asked_again(store: Store) -> None:
    store.append(_line("fox"))
    assert found(store, "fox", "owl") == ["cached", "ask"]
    assert found(store, "fox", "owl", refresh=True) == ["ask", "ask"]


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, model="n"),
        replace(ASK, temperature=0.5),
        replace(ASK, max_tokens=99),
        replace(ASK, seed=1),
        replace(ASK, samples=2),
        replace(ASK, prompt=Prompt.load("two-shot")),
        replace(ASK, prompt=replace(ASK.prompt, style="sentences")),
        replace(ASK, prompt=replace(ASK.prompt, stop=("END",))),
        replace(ASK, prompt=Prompt("article", "{class} {concept}"), values={"concept": "bird"}),
    ],
)
def test_another_question_is_another_key(store: Store, other: Questions) -> None:
    store.append(_line("fox"))
    assert found(store, "fox", ask=other) == ["ask"]


def test_the_key_survives_the_disk(store: Store) -> None:
    ask = Questions(ASK.prompt, "m", 0.5, 99, 1, 3, 2)
    store.append(ask.of("fox").line([replace(GREEN, number=i) for i in range(3)], "http://x/v1"))
    assert found(Store(store.path), "fox", ask=ask) == ["cached"]


def test_a_failed_class_is_asked_again(store: Store) -> None:
    store.append(_line("fox", answer="I cannot say."))
    assert found(store, "fox") == ["ask"]


@pytest.mark.parametrize("origin", ["curated", "imported", None])
def test_a_persons_line_is_kept_unless_refreshed(store: Store, origin: str | None) -> None:
    store.append(Entry("fox", ("red fur",), origin=origin))
    assert found(store, "fox") == ["kept"]
    assert found(store, "fox", refresh=True) == ["ask"]


def test_a_removed_class_comes_back_without_being_paid_again(store: Store) -> None:
    store.append(_line("fox"), Entry("fox", removed=True))
    assert found(store, "fox") == [_line("fox")]


def test_going_back_to_an_earlier_model_costs_nothing(store: Store) -> None:
    first, second = _line("fox"), _line("fox", replace(ASK, model="n"), "- blue")
    store.append(first, second)
    assert found(store, "fox") == [first]


def test_an_answer_brought_back_is_no_command_that_could_be_undone(store: Store) -> None:
    other = replace(ASK, model="n")
    store.append(_line("fox"), replace(_line("fox"), change="c1"), _line("fox", other))
    (line,) = found(store, "fox")
    assert isinstance(line, Entry)
    assert (line.origin, line.change) == ("generated", None)


def _unfinished(ask: Questions, *answers: dict[str, Any]) -> Entry:
    """A line as version 0.1 wrote it when a run ended between a class's answers."""
    return Entry("fox", origin="failed", answers=answers, **ask.of("fox").provenance)


def test_answers_paid_for_are_found_again() -> None:
    ask = replace(ASK, temperature=0.7, samples=3)
    fox = ask.of("fox")
    paid = samples_so_far(fox, [_unfinished(ask, ANSWER)])
    assert paid == [GREEN]
    assert [drawn.sample for drawn in fox.unanswered(paid)] == [1, 2]
    pending = [replace(GREEN, mode="prefix", number=2)]
    both = samples_so_far(fox, [_unfinished(ask, ANSWER)], pending)
    assert both == [GREEN, *pending]
    assert [drawn.sample for drawn in fox.unanswered(both)] == [1]
    assert samples_so_far(ASK.of("fox"), [_unfinished(ask, ANSWER)]) == []


def test_samples_have_seeds_of_their_own() -> None:
    ask = replace(ASK, temperature=0.4, seed=5, samples=3)
    assert [drawn.seed for drawn in ask.of("fox").unanswered()] == [5, 6, 7]


@pytest.mark.parametrize(
    ("empty", "retries", "expected"),
    [(0, 2, 0), (1, 2, 1), (2, 2, 2), (3, 2, None), (1, 0, None), (5, 2, None)],
)
def test_an_empty_answer_is_asked_again_so_many_times(empty: int, retries: int, expected: int | None) -> None:
    left = ASK.of("fox").unanswered([replace(GREEN, text="None.")] * empty, retries)
    assert [drawn.attempt for drawn in left] == ([] if expected is None else [expected])


def test_a_repeated_request_is_warmer_with_another_seed() -> None:
    ask = replace(ASK, temperature=0.4, seed=5, samples=3)
    again = ask.of("fox").drawn(1, 1)
    assert (again.attempt, again.seed, again.temperature) == (1, 1006, 0.7)
    assert replace(ask, temperature=1.2).of("fox").drawn(0, 1).temperature == 1.2


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
    ask = Questions(Prompt.load("article"), "m", 0.7, samples=3)
    good = {"sample": 1, "answer": "- a", "finish_reason": None}
    assert Sample.from_dict(bad) is None
    assert samples_so_far(ask.of("fox"), [_unfinished(ask, bad, good)]) == [Sample("- a", number=1)]
