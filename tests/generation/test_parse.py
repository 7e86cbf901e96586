"""Answers of every form come back as the descriptors that stand in them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fieldmarks.generation.lists import WORDLESS
from fieldmarks.generation.parse import Parsed, attach, clean, distinct, parse
from fieldmarks.text import comparable

WORDS = st.one_of(
    st.text(st.characters(categories=["Ll"], max_codepoint=0x24F), min_size=2, max_size=9),
    st.text(st.characters(min_codepoint=0x0430, max_codepoint=0x044F), min_size=2, max_size=9),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x4FFF), min_size=2, max_size=5),
    st.text(st.characters(min_codepoint=0x0621, max_codepoint=0x063A), min_size=2, max_size=6),
)
INNER = st.lists(
    st.one_of(WORDS, st.sampled_from(["(dark)", "two-toned", "5", "cm", "black/white", "bird's"])), max_size=5
)


@st.composite
def _descriptor(draw: st.DrawFn) -> str:
    text = " ".join([draw(WORDS), *draw(INNER)])
    return clean(text[0].upper() + text[1:] if draw(st.booleans()) else text)


DESCRIPTORS = st.lists(_descriptor(), min_size=1, max_size=8, unique_by=comparable).filter(
    lambda several: all(comparable(one) for one in several)
)

MARKS: dict[str, Callable[[int], str]] = {
    "dash": lambda i: "- ",
    "dash alone": lambda i: "-",
    "en dash": lambda i: "– ",
    "bullet": lambda i: "• ",
    "bullet alone": lambda i: "•",
    "star": lambda i: "* ",
    "number": lambda i: f"{i + 1}. ",
    "bracket": lambda i: f"{i + 1}) ",
    "brackets": lambda i: f"({i + 1}) ",
    "letter": lambda i: f"{chr(97 + i)}) ",
    "box": lambda i: "- [ ] ",
    "two marks": lambda i: f"- {i + 1}. ",
}
DRESS = {
    "bare": "{}",
    "bold": "**{}**",
    "bold and stop": "**{}**.",
    "code": "`{}`",
    "emphasis": "*{}*",
    "underscored": "__{}__",
    "quoted": '"{}"',
    "curly": "“{}”",
    "guillemets": "«{}»",
    "stop": "{}.",
    "semicolon": "{};",
    "comma": "{},",
    "ideographic stop": "{}。",
}
AROUND = {
    "alone": ("", ""),
    "preamble": ("Sure, here are useful features:\n", ""),
    "spaced preamble": ("Here are some features of it:\n\n", "\n\nI hope this helps!"),
    "heading": ("## Features\n\n", "\n\nLet me know if you need more."),
    "fenced": ("```\n", "\n```"),
    "thoughts": ("<think>I could say:\n- nothing\n</think>\n", ""),
    "thoughts begun in the prompt": ("I could say:\n- nothing\n</think>\n\n", ""),
    "next question": ("", "\nQ: What about a dog?\nA: These:\n- no descriptor"),
    "rule": ("---\n", "\n---\nThat is all."),
}


@given(
    DESCRIPTORS,
    st.sampled_from(sorted(MARKS)),
    st.sampled_from(sorted(DRESS)),
    st.sampled_from(sorted(AROUND)),
)
def test_a_list_of_any_form_parses_back(several: list[str], mark: str, dress: str, around: str) -> None:
    before, after = AROUND[around]
    bullets = [MARKS[mark](i) + DRESS[dress].format(one) for i, one in enumerate(several)]
    assert parse(before + "\n".join(bullets) + after) == Parsed(tuple(several))


@given(DESCRIPTORS, st.sampled_from(["\r\n", "\r", "\u2028", "\n\n", "\n \n"]))
def test_line_ends_of_any_kind(several: list[str], end: str) -> None:
    assert parse(end.join(f"- {one}" for one in several)) == Parsed(tuple(several))


@given(DESCRIPTORS)
def test_nested_bullets_are_descriptors_and_their_headings_not(several: list[str]) -> None:
    nested = "\n".join(f"  * {one}" for one in several)
    assert parse(f"- Head:\n{nested}") == Parsed(tuple(several))
    assert parse(f"**Head:**\n\n{nested}") == Parsed(tuple(several))


def _joins_without_blank(words: list[str], at: int) -> bool:
    """Whether a line wrapped there is joined as Chinese is, which has no blanks between words."""
    return 0 < at < len(words) and bool(WORDLESS.match(words[at - 1][-1]) and WORDLESS.match(words[at]))


@given(DESCRIPTORS, st.data())
def test_wrapped_bullets_are_joined(several: list[str], data: st.DataObject) -> None:
    wrapped = []
    for one in several:
        words = one.split(" ")
        places = [at for at in range(len(words) + 1) if not _joins_without_blank(words, at)]
        at = data.draw(st.sampled_from(places))
        wrapped.append(
            "- " + " ".join(words[:at]) + ("\n    " + " ".join(words[at:]) if at < len(words) else "")
        )
    assert parse("\n".join(wrapped)) == Parsed(tuple(several))


@given(DESCRIPTORS, st.booleans(), st.sampled_from(["", " "]))
def test_the_first_bullet_after_the_forced_dash_has_no_mark(
    several: list[str], marked: bool, blank: str
) -> None:
    answer = ("- " if marked else blank) + "\n- ".join(several)
    whole, continued = attach("-", answer)
    assert parse(whole) == Parsed(tuple(several))
    assert continued is not marked


@given(DESCRIPTORS)
def test_the_cut_last_bullet_is_dropped_and_told(several: list[str]) -> None:
    answer = "\n".join(f"- {one}" for one in several)
    problem = None if several[:-1] else "no descriptor in the answer, which --max-tokens cut off"
    parsed = parse(answer, finish_reason="length")
    assert parsed == Parsed(tuple(several[:-1]), cut=several[-1], problem=problem)
    assert parse(answer + "\n", finish_reason="length") == Parsed(tuple(several))
    assert parse(answer + "\n\nI hope th", finish_reason="length") == Parsed(tuple(several))


@given(DESCRIPTORS, st.sampled_from(["\n", " "]))
def test_one_sentence_is_one_descriptor(several: list[str], between: str) -> None:
    sentences = [one[0].upper() + one[1:] for one in several]
    if between == " " and any(not one[0].isupper() for one in sentences):
        between = "\n"  # without capitals, nothing but the line's end tells where a sentence ends
    if len({comparable(one) for one in sentences}) == len(sentences):
        found = parse(between.join(f"{one}." for one in sentences), style="sentences")
        assert found == Parsed(tuple(clean(one) for one in sentences))


@given(st.text(max_size=300), st.sampled_from([None, "length"]), st.sampled_from(["bullets", "sentences"]))
@example("- - - -", None, "bullets")
def test_whatever_comes_parses_to_clean_descriptors(answer: str, reason: str | None, style: str) -> None:
    found = parse(answer, style=style, finish_reason=reason).descriptors
    assert all(one and one == " ".join(one.split()) and "\x1b" not in one for one in found)
    assert len({comparable(one) for one in found}) == len(found)


@given(st.text(max_size=60))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("- **Colour**: green", ["Colour: green"]),
        ("- a [long](http://x.y) tail", ["a long tail"]),
        ("- \x1b[31mred\x1b[0m nose", ["[31mred [0m nose"]),
        ("- green\n- Green.\n- GREEN!", ["green"]),
        ("1. 4 legs\n2. 1.5 m tall", ["4 legs", "1.5 m tall"]),
        ("① 丸い目\n② 長い尾", ["丸い目", "長い尾"]),
        ("Voici les traits :\n- yeux ronds", ["yeux ronds"]),
        ("以下は特徴です：\n- 丸い目", ["丸い目"]),
        ("I cannot help with that.", []),
        ("", []),
        ("-", []),
        ("<think>- never ends", []),
        ("- yes\n<think>no", []),
    ],
)
def test_single_forms(answer: str, expected: list[str]) -> None:
    assert list(parse(answer).descriptors) == expected


ANSWERS = [
    json.loads(line) for line in Path(__file__).with_name("answers.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("forced", ["", "-"])
@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: case["what"])
def test_answers_as_models_write_them(case: dict[str, Any], forced: str) -> None:
    parsed = parse(attach(forced, case["answer"])[0], finish_reason=case["finish_reason"])
    if isinstance(case["expected"], list):
        assert (list(parsed.descriptors), parsed.problem) == (case["expected"], None)
    else:
        assert parsed.descriptors == ()
        assert (parsed.problem or "").startswith(case["expected"])


def test_more_descriptors_than_are_taken_are_counted() -> None:
    parsed = parse("".join(f"- mark {number}\n" for number in range(60_000)))
    assert (len(parsed.descriptors), parsed.left_out) == (300, 59_700)


@pytest.mark.parametrize(
    "text", ["Sure, here you go:\n- a", "Here are some", "Features:\n- a", "1. a", "• a", "**F:**"]
)
def test_a_new_turn_is_told_from_a_continuation(text: str) -> None:
    assert attach("-", text) == (text, False)


@pytest.mark.parametrize(
    "text", [" green", "green skin\n- b", "Large eyes", "surely green", "5 legs", "okapi-like legs"]
)
def test_a_continuation_is_no_new_turn(text: str) -> None:
    assert attach("-", text) == ("-" + text, True)


def test_abbreviations_do_not_end_a_sentence() -> None:
    text = "A St. Bernard is large. Its J. R. collar shows."
    assert parse(text, style="sentences").descriptors == ("A St. Bernard is large", "Its J. R. collar shows")


def test_what_says_the_same_is_kept_once() -> None:
    assert distinct(["Two-toned fur", "two toned fur!", "long tail"]) == ("Two-toned fur", "long tail")


@pytest.mark.parametrize(
    "piece", ["- a\n", "a\n", "-", "**a ", "<think>", "[", "`", "- a\n  b\n", "* ", "1. ", '"', "_a "]
)
def test_hostile_answers_take_no_time(piece: str) -> None:
    start = time.process_time()
    parse(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "line", ["---" + " " * 100_000 + "!", "-" * 100_000 + "!", "***" + "a" * 100_000 + "!"]
)
def test_a_hostile_line_is_read_in_no_time(line: str) -> None:
    """Read with going back over it, such a line takes minutes."""
    assert len(parse(line).descriptors) <= 1
