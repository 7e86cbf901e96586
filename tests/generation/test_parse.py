"""Answers of every form come back as the descriptors that stand in them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fieldmarks.generation.bullets import WORDLESS
from fieldmarks.generation.parse import STILL_THINKING, Parsed, attach, clean, distinct, parse
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
    lambda several: all(comparable(text) for text in several)
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


@pytest.mark.slow
@given(
    DESCRIPTORS,
    st.sampled_from(sorted(MARKS)),
    st.sampled_from(sorted(DRESS)),
    st.sampled_from(sorted(AROUND)),
)
def test_a_list_of_any_form_parses_back(several: list[str], mark: str, dress: str, around: str) -> None:
    before, after = AROUND[around]
    bullets = [MARKS[mark](i) + DRESS[dress].format(text) for i, text in enumerate(several)]
    assert parse(before + "\n".join(bullets) + after) == Parsed(tuple(several))


@pytest.mark.slow
@given(DESCRIPTORS, st.sampled_from(["\r\n", "\r", "\u2028", "\n\n", "\n \n"]))
def test_line_ends_of_any_kind(several: list[str], end: str) -> None:
    assert parse(end.join(f"- {text}" for text in several)) == Parsed(tuple(several))


@pytest.mark.slow
@given(DESCRIPTORS)
def test_nested_bullets_are_descriptors_and_their_headings_not(several: list[str]) -> None:
    nested = "\n".join(f"  * {text}" for text in several)
    assert parse(f"- Head:\n{nested}") == Parsed(tuple(several))
    assert parse(f"**Head:**\n\n{nested}") == Parsed(tuple(several))


def _joins_without_blank(words: list[str], at: int) -> bool:
    """Whether a line wrapped there is joined as Chinese is, which has no blanks between words."""
    return 0 < at < len(words) and bool(WORDLESS.match(words[at - 1][-1]) and WORDLESS.match(words[at]))


@pytest.mark.slow
@given(DESCRIPTORS, st.data())
def test_wrapped_bullets_are_joined(several: list[str], data: st.DataObject) -> None:
    wrapped = []
    for text in several:
        words = text.split(" ")
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


@pytest.mark.slow
@given(DESCRIPTORS)
def test_the_cut_last_bullet_is_dropped_and_told(several: list[str]) -> None:
    answer = "\n".join(f"- {text}" for text in several)
    cut = "no descriptor in the answer, which --max-tokens cut off"
    problem = None if several[:-1] else f"{cut}: raise --max-tokens, or try another --prompt"
    parsed = parse(answer, finish_reason="length")
    assert parsed == Parsed(tuple(several[:-1]), cut=several[-1], problem=problem)
    assert parse(answer + "\n", finish_reason="length") == Parsed(tuple(several))
    assert parse(answer + "\n\nI hope th", finish_reason="length") == Parsed(tuple(several))


@given(DESCRIPTORS, st.sampled_from(["\n", " "]))
def test_one_sentence_is_one_descriptor(several: list[str], between: str) -> None:
    sentences = [text[0].upper() + text[1:] for text in several]
    if between == " " and any(not text[0].isupper() for text in sentences):
        between = "\n"  # without capitals, nothing but the line's end tells where a sentence ends
    if len({comparable(text) for text in sentences}) == len(sentences):
        descriptors = parse(between.join(f"{text}." for text in sentences), style="sentences")
        assert descriptors == Parsed(tuple(clean(text) for text in sentences))


@given(st.text(max_size=300), st.sampled_from([None, "length"]), st.sampled_from(["bullets", "sentences"]))
@example("- - - -", None, "bullets")
def test_whatever_comes_parses_to_clean_descriptors(answer: str, reason: str | None, style: str) -> None:
    descriptors = parse(answer, style=style, finish_reason=reason).descriptors
    assert all(text and text == " ".join(text.split()) and "\x1b" not in text for text in descriptors)
    assert len({comparable(text) for text in descriptors}) == len(descriptors)


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


@pytest.mark.slow
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "form", [str, lambda text: {"feature": text}, lambda text: {"trait": text, "why": "x"}]
)
def test_more_descriptors_of_json_than_are_taken_are_counted(
    indent: int | None, form: Callable[[str], Any]
) -> None:
    marks = [form(f'mark "{number}", long') for number in range(20_000)]
    parsed = parse(json.dumps(marks, indent=indent))
    assert (len(parsed.descriptors), parsed.cut, parsed.problem) == (300, None, None)
    assert abs(parsed.left_out - 19_700) <= (0 if form is str else 1)


# How each family marks its thinking, and every list in it is a false one.
THINKING = {
    "none": ("", ""),
    "tag": ("<think>", "</think>"),
    "tag with a name": ("<seed:think>\n", "\n</seed:think>\n"),
    "opened in the prompt": ("", "\n</think>\n\n"),
    "square": ("[THINK]", "[/THINK]"),
    "triangles": ("◁think▷", "◁/think▷"),
    "start and end": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "of": ("<|begin_of_thought|>\n", "\n<|end_of_thought|>\n\n"),
    "behind": ("<|thinking_start|>", "<|thinking_end|>"),
    "Solar": ("<|think|>", "<|/think|>"),
    "Apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "MedGemma": ("<unused94>thought\n", "<unused95>"),
    "Gemma": ("<|channel>thought\n", "<channel|>"),
    "gpt-oss": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "gpt-oss without tokens": ("analysisWell.\n", "assistantfinal"),
    "Open WebUI": ('<details type="reasoning" done="true">\n', "\n</details>\n"),
    "fence": ("```thinking\n", "\n```\n"),
    "Ollama": ("Thinking...\n", "\n...done thinking.\n\n"),
    "Granite": ("Here is my thought process:\n", "\nHere is my response:\n"),
    "headings": ("## Thinking\n", "\n## Answer\n"),
    "answer tags": ("Let me see:\n", "\n<answer>"),
}
TRAITS = ("long tail", "red, round eyes", "two horns")
LISTS = {
    "dashes": "- long tail\n- red, round eyes\n- two horns",
    "bullets": "• long tail\n• red, round eyes\n• two horns",
    "numbers": "1. long tail\n2. red, round eyes\n3. two horns",
    "bold": "1. **Long tail**\n2. **Red, round eyes**\n3. **Two horns**",
    "preamble": "Here are some:\n\n* Long tail\n* Red, round eyes\n* Two horns\n\nI hope this helps!",
    "heading": "### Head\n- long tail\n- red, round eyes\n### Body\n- two horns",
    "JSON": json.dumps(TRAITS),
    "JSON in a fence": f"```json\n{json.dumps(TRAITS, indent=2)}\n```",
    "JSON object": json.dumps({"class": "frog", "features": TRAITS}),
    "HTML": "<ul><li>long tail</li><li>red, round eyes</li><li>two horns</li></ul>",
    "table": "| Feature | Why |\n|---|---|\n| long tail | a |\n| red, round eyes | b |\n| two horns | c |",
    "plain lines": "long tail\nred, round eyes\ntwo horns",
}
FALSE_LISTS = ("- wings\n- a beak", '["wings", "a beak"]', "1. wings\n2. a beak")


@pytest.mark.parametrize("style", LISTS)
@pytest.mark.parametrize("family", THINKING)
def test_every_list_after_thinking_of_every_family(family: str, style: str) -> None:
    opening, closing = THINKING[family]
    for thought in FALSE_LISTS if family != "none" else [""]:
        parsed = parse(f"{opening}{thought}{closing}{LISTS[style]}")
        assert tuple(map(str.casefold, parsed.descriptors)) == TRAITS, thought
        assert parsed.problem is None


@pytest.mark.parametrize("style", LISTS)
@pytest.mark.parametrize(  # a list's own fence would end one around the thinking
    "family", sorted(THINKING.keys() - {"none", "opened in the prompt", "fence", "headings", "answer tags"})
)
def test_a_list_within_unfinished_thinking_says_nothing(family: str, style: str) -> None:
    opening, _ = THINKING[family]
    parsed = parse(f"{opening}{LISTS[style]}", finish_reason="length")
    assert (parsed.descriptors, parsed.problem) == ((), STILL_THINKING)


JSON_LISTS: dict[str, Callable[[list[str]], str]] = {
    "list": json.dumps,
    "characters as they are": lambda texts: json.dumps(texts, ensure_ascii=False),
    "lines": lambda texts: json.dumps(texts, indent=2),
    "fence": lambda texts: f"```json\n{json.dumps(texts, indent=2)}\n```",
    "preamble": lambda texts: f"Here is the list:\n{json.dumps(texts)}",
    "forced mark": lambda texts: f"- {json.dumps(texts)}",
    "mark and fence": lambda texts: f"- ```json\n{json.dumps(texts)}\n```",
    "object": lambda texts: json.dumps({"class": "frog", "features": texts}, indent=1),
    "objects": lambda texts: json.dumps([{"feature": text, "score": 1} for text in texts], indent=1),
    "by part": lambda texts: json.dumps({"head": texts[:1], "body": texts[1:]}),
    "thinking": lambda texts: f'<think>["wings"]</think>{json.dumps(texts)}',
}


@pytest.mark.slow
@pytest.mark.parametrize("form", JSON_LISTS)
@pytest.mark.parametrize("reason", ["length", "stop", None])
@pytest.mark.parametrize(
    "texts",
    [
        ["long tail", "red, round eyes", "two horns"],
        ['a "horn"', "café-brown fur", "back\\slash [1]", "x: y, z"],
    ],
)
def test_a_json_list_cut_anywhere_has_whole_texts_only(
    texts: list[str], reason: str | None, form: str
) -> None:
    answer = JSON_LISTS[form](texts)
    whole = parse(answer).descriptors
    assert len(whole) == len(texts)
    for end in range(len(answer)):
        parsed = parse(answer[:end], finish_reason=reason)
        assert parsed.descriptors == whole[: len(parsed.descriptors)], answer[:end]
        assert parsed.descriptors or parsed.problem, answer[:end]


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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- green skin\n - long legs\n - a wide mouth", ["green skin", "long legs", "a wide mouth"]),
        ("- green skin\n  - long legs\n  - a wide mouth", ["long legs", "a wide mouth"]),
        (
            "- green skin\n    Bright spots on its legs\n- long legs",
            ["green skin Bright spots on its legs", "long legs"],
        ),
    ],
)
def test_how_far_in_a_line_stands_decides(text: str, expected: list[str]) -> None:
    assert parse(text).descriptors == tuple(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- **颜色**：\n  绿色的皮肤\n- **形状**：\n  长长的腿", ["颜色: 绿色的皮肤", "形状: 长长的腿"]),
        ("**颜色**：\n绿色的皮肤\n**形状**：\n长长的腿", ["绿色的皮肤", "长长的腿"]),
        ("- 颜色：绿色\n  - 深绿\n- 形状：细长\n  - 腿长", ["颜色：绿色", "深绿", "形状：细长", "腿长"]),
        ("特征有：绿色的皮肤，长长的腿，大大的眼睛", ["绿色的皮肤", "长长的腿", "大大的眼睛"]),
        ("特征：\n绿色的皮肤\n长长的腿", ["绿色的皮肤", "长长的腿"]),
        ("- 绿色的皮肤\n其他特征：\n- 大大的眼睛", ["绿色的皮肤", "大大的眼睛"]),
    ],
)
def test_colons_of_full_width_are_colons(text: str, expected: list[str]) -> None:
    assert parse(text).descriptors == tuple(expected)


@pytest.mark.parametrize("title", ["**{}:**", "**{}**:", "**{}**", "__{}:__", "**{}：**"])
def test_a_bold_title_above_its_description_is_followed_by_one_colon(title: str) -> None:
    text = "\n".join(
        f"- {title.format(name)}\n  {what}"
        for name, what in (("Color", "green skin"), ("Shape", "a round head"))
    )
    parsed = parse(text, style="bullets", finish_reason="stop")
    assert parsed.descriptors == ("Color: green skin", "Shape: a round head")
