"""A store's line and its answers: one parses to the other, whatever was answered."""

import json

from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.generation.plan import Ask, agreed, line, record, reparse
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.request import Completion, Params, Request, Usage
from fieldmarks.records import Entry

LISTS = st.lists(st.lists(st.sampled_from(["green", "Green.", "long tail", "4 legs", "wings"])), max_size=5)


def _key(samples: int = 1, keep: int = 1, prompt: str = "article") -> dict[str, object]:
    return Ask(Prompt.load(prompt), "m", Params(0.7, samples=samples, keep=keep)).key("fox")


@given(
    st.lists(st.text(max_size=80), min_size=1, max_size=4),
    st.sampled_from(["article", "sentences"]),
    st.sampled_from([None, "stop", "length"]),
    st.lists(st.sampled_from(["a", "b", "Green"])),
)
def test_every_line_parses_again_to_its_descriptors(
    answers: list[str], prompt: str, reason: str | None, rejected: list[str]
) -> None:
    samples = [{"sample": i, "answer": text, "finish_reason": reason} for i, text in enumerate(answers)]
    key = _key(len(answers), 1, prompt)
    entry = line("fox", samples, key, endpoint=None, mode="completions", rejected=rejected)
    again = Entry.from_dict(json.loads(json.dumps(entry.to_dict())))
    assert reparse(again) == again.descriptors == entry.descriptors
    assert entry.origin == ("generated" if entry.descriptors else "failed")


@given(LISTS, st.integers(1, 5))
def test_agreement_keeps_what_enough_lists_have(lists: list[list[str]], keep: int) -> None:
    kept = agreed(lists, keep)
    folded = [{text.casefold().rstrip(".") for text in one} for one in lists]
    votes = [sum(text.casefold().rstrip(".") in one for one in folded) for text in kept]
    assert votes == sorted(votes, reverse=True)
    assert all(count >= keep for count in votes)
    assert set(agreed(lists, keep + 1)) <= set(kept)


def test_a_line_of_one_answer() -> None:
    request = Request("fox", "…-", temperature=0.7, seed=3)
    answer = record(request, Completion("- red\n- Bushy tail", "stop", Usage(9, 5), "prefix"))
    entry = line("fox", [answer], _key(), endpoint="http://h/v1", mode="prefix", rejected=("Red",))
    assert entry.to_dict() == {
        "class": "fox",
        "descriptors": ["Bushy tail"],
        "v": 1,
        "origin": "generated",
        "prompt": {"name": "article", "sha256": _key()["prompt"]["sha256"], "style": "bullets"},  # type: ignore[index]
        "model": "m",
        "endpoint": "http://h/v1",
        "mode": "prefix",
        "params": {"temperature": 0.7, "max_tokens": 200, "stop": ["\n\n", "\nQ:"]},
        "answer": "- red\n- Bushy tail",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 9, "completion_tokens": 5},
        "rejected": ["Red"],
        "at": entry.at,
    }


def test_several_answers_are_all_kept_and_their_usage_added() -> None:
    answers = ["- red\n- long", "- Red!\n- wide", "nothing"]
    usage = {"prompt_tokens": 9, "completion_tokens": 5}
    samples = [
        {"sample": i, "answer": a, "finish_reason": "stop", "usage": usage} for i, a in enumerate(answers)
    ]
    entry = line("fox", samples, _key(3, 2), endpoint=None, mode="completions")
    assert entry.descriptors == ("red",)
    assert entry.answer is None
    assert list(entry.answers) == samples
    assert entry.usage == {"prompt_tokens": 27, "completion_tokens": 15}


def test_an_answer_that_was_asked_again_stays_beside_the_one_that_counts() -> None:
    first = record(Request("fox", "…-"), Completion("I cannot say.", "stop", Usage(9, 5), "prefix"))
    second = Request("fox", "…-", temperature=0.7, seed=3, attempt=1)
    answers = [first, record(second, Completion("- red", "stop", Usage(9, 2), "prefix"))]
    entry = line("fox", answers, _key(), endpoint=None, mode="prefix")
    assert (entry.origin, entry.descriptors, entry.answer) == ("generated", ("red",), None)
    assert [answer["answer"] for answer in entry.answers] == ["I cannot say.", "- red"]
    assert entry.answers[1]["retried"] == {"times": 1, "temperature": 0.7, "seed": 3}
    assert entry.usage == {"prompt_tokens": 18, "completion_tokens": 7}


def test_lines_of_version_01_are_read() -> None:
    samples = [{"sample": 1, "answer": "- long\n- red"}, {"sample": 0, "answer": "- red"}]
    entry = Entry.from_dict({"class": "fox", "descriptors": ["red", "long"], "samples": samples, **_key(2)})
    assert list(entry.answers) == samples
    assert reparse(entry) == entry.descriptors
