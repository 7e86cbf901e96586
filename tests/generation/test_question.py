"""A store's line and its answers: one parses to the other, whatever was answered."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Question, Questions, Sample, Usage, agreed, reparse
from fieldmarks.records import Entry

LISTS = st.lists(st.lists(st.sampled_from(["green", "Green.", "long tail", "4 legs", "wings"])), max_size=5)


def _fox(samples: int = 1, keep: int = 1, prompt: str = "article") -> Question:
    return Questions(Prompt.load(prompt), "m", 0.7, seed=3, samples=samples, keep=keep).of("fox")


@given(
    st.lists(st.text(max_size=80), min_size=1, max_size=4),
    st.sampled_from(["article", "sentences"]),
    st.sampled_from([None, "stop", "length"]),
    st.lists(st.sampled_from(["a", "b", "Green"])),
)
def test_every_line_parses_again_to_its_descriptors(
    answers: list[str], prompt: str, reason: str | None, rejected: list[str]
) -> None:
    samples = [Sample(text, reason, number=i) for i, text in enumerate(answers)]
    entry = _fox(len(answers), 1, prompt).line(samples, None, rejected)
    again = Entry.from_dict(json.loads(json.dumps(entry.to_dict())))
    assert reparse(again) == again.descriptors == entry.descriptors
    assert entry.origin == ("generated" if entry.descriptors else "failed")


@given(LISTS, st.integers(1, 5))
def test_agreement_keeps_what_enough_lists_have(lists: list[list[str]], keep: int) -> None:
    common = agreed(lists, keep)
    folded = [{text.casefold().rstrip(".") for text in texts} for texts in lists]
    votes = [sum(text.casefold().rstrip(".") in texts for texts in folded) for text in common]
    assert votes == sorted(votes, reverse=True)
    assert all(count >= keep for count in votes)
    assert set(agreed(lists, keep + 1)) <= set(common)


def test_a_line_of_one_answer() -> None:
    fox = _fox()
    answer = fox.answered("- red\n- Bushy tail", "stop", Usage(9, 5), "prefix")
    entry = fox.line([answer], "http://h/v1", ("Red",))
    assert entry.to_dict() == {
        "class": "fox",
        "descriptors": ["Bushy tail"],
        "v": 1,
        "origin": "generated",
        "prompt": {
            "name": "article",
            "sha256": hashlib.sha256(fox.prompt.encode()).hexdigest(),
            "style": "bullets",
        },
        "model": "m",
        "endpoint": "http://h/v1",
        "mode": "prefix",
        "params": {"temperature": 0.7, "max_tokens": 200, "stop": ["\n\n", "\nQ:"], "seed": 3},
        "answer": "- red\n- Bushy tail",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 9, "completion_tokens": 5},
        "rejected": ["Red"],
        "at": entry.at,
    }


def test_several_answers_are_all_kept_and_their_usage_added() -> None:
    answers = ["- red\n- long", "- Red!\n- wide", "nothing"]
    samples = [Sample(text, "stop", Usage(9, 5), "prefix", i) for i, text in enumerate(answers)]
    entry = _fox(3, 2).line(samples, None)
    assert entry.descriptors == ("red",)
    assert entry.answer is None
    usage = {"prompt_tokens": 9, "completion_tokens": 5}
    assert list(entry.answers) == [
        {"sample": i, "answer": text, "finish_reason": "stop", "usage": usage}
        for i, text in enumerate(answers)
    ]
    assert entry.usage == {"prompt_tokens": 27, "completion_tokens": 15}


def test_an_answer_that_was_asked_again_stays_beside_the_one_that_counts() -> None:
    fox = _fox()
    first = fox.answered("I cannot say.", "stop", Usage(9, 5), "prefix")
    second = fox.drawn(0, 1).answered("- red", "stop", Usage(9, 2), "prefix")
    entry = fox.line([first, second], None)
    assert (entry.origin, entry.descriptors, entry.answer) == ("generated", ("red",), None)
    assert [answer["answer"] for answer in entry.answers] == ["I cannot say.", "- red"]
    assert entry.answers[1]["retried"] == {"times": 1, "temperature": 0.7, "seed": 1003}
    assert entry.usage == {"prompt_tokens": 18, "completion_tokens": 7}


def test_lines_of_version_01_are_read() -> None:
    samples = [{"sample": 1, "answer": "- long\n- red"}, {"sample": 0, "answer": "- red"}]
    entry = Entry.from_dict(
        {"class": "fox", "descriptors": ["red", "long"], "samples": samples, **_fox(2).provenance}
    )
    assert list(entry.answers) == samples
    assert reparse(entry) == entry.descriptors


@given(
    st.text(max_size=20),
    st.sampled_from([None, "stop", "length"]),
    st.none() | st.builds(Usage, st.integers(0, 9), st.integers(0, 9)),
    st.integers(0, 9),
)
def test_a_sample_survives_the_disk(text: str, reason: str | None, usage: Usage | None, number: int) -> None:
    sample = Sample(text, reason, usage, number=number)
    assert Sample.from_dict(json.loads(json.dumps(sample.to_dict()))) == sample
