"""What models leave around their answers goes, whatever the family; what they said stays as it is."""

import re
import unicodedata
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fieldmarks.debris import has_thinking, plain, without_thinking

ANSWER: Final = "- long tail\n- red eyes"
# The opening and the closing of each family, as a model writes them.
TAGGED: Final = {
    "DeepSeek, Qwen": ("<think>", "</think>"),
    "Claude": ("<thinking>", "</thinking>"),
    "Seed": ("<seed:think>", "</seed:think>"),
    "with an attribute": ('<reasoning effort="high">', "</reasoning>"),
    "scratchpad": ("<scratch_pad>", "</scratch_pad>"),
    "monologue": ("<inner_monologue>", "</inner_monologue>"),
    "Magistral": ("[THINK]", "[/THINK]"),
    "Kimi": ("◁think▷", "◁/think▷"),
    "Command A": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "Sky-T1": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "wide bars": ("<｜begin_of_reasoning｜>", "<｜end_of_reasoning｜>"),
    "start behind": ("<|thinking_start|>", "<|thinking_end|>"),
    "Solar": ("<|think|>", "<|/think|>"),
    "Apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "MedGemma": ("<unused94>thought\n", "<unused95>"),
    "Gemma": ("<|channel>thought\n", "<channel|>"),
    "gpt-oss": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
}
FENCED: Final = {  # the closing alone is no sign of thinking
    "Open WebUI": ('<details type="reasoning" done="true">', "</details>"),
    "fence": ("```thinking\n", "\n```"),
}
SPOKEN: Final = {  # without any tag; only at the beginning of an answer
    "gpt-oss without tokens": ("analysis", "assistantfinal"),
    "Ollama": ("Thinking...\n", "\n...done thinking.\n"),
    "Granite": ("Here is my thought process:", "Here is my response:"),
    "headings": ("## Thinking\n", "\n## Final answer\n"),
    "bold headings": ("**Reasoning:**\n", "\n**Answer:**\n"),
}
FAMILIES: Final = TAGGED | FENCED | SPOKEN
END_OF_TURN: Final = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "<end_of_turn>",
    "<|return|>",
    "<turn|>",
    "[/INST]",
    "[EOS]",
)
CONTROL: Final = ("<s>", "<pad>", "<unk>", "<|begin_of_text|>", "<<SYS>>", "[INST]", "<unused12>", "<0x0a>")
ROLES: Final = (
    "<|im_start|>assistant\n",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<start_of_turn>model\n",
    "<|start_of_role|>assistant<|end_of_role|>",
)

MARKUP: Final = {
    "**long** tail": "long tail",
    "*long* _tail_": "long tail",
    "__long tail__": "long tail",
    "~~short~~ ==long== `tail`": "short long tail",
    "[long tail](https://a.example/b)": "long tail",
    "![tail](a.png) of a frog": "tail of a frog",
    "long tail[1]": "long tail",
    "long tail[2, 3]": "long tail",
    "[long tail[4]](https://a.example)": "long tail",
    "long tail[[4]](https://a.example)": "long tail",
    "long tail[^note]": "long tail",
    "long tail【5†source】": "long tail",
    "long tail \ue200cite\ue202turn0search1\ue201": "long tail",
    "long tail turn0search12": "long tail",
    "long tail:contentReference[oaicite:0]{index=0}": "long tail",
    "long tail[citation needed]": "long tail",
    "long tail<cite>6</cite>": "long tail6",
    "tail &amp; eyes": "tail & eyes",
    "tail &amp;amp; eyes": "tail & eyes",
    "caf&eacute; &#8211; &#x2013;": "café – –",
    "&lt;b&gt;tail&lt;/b&gt;": "tail",
    "<b>long</b> <span class='x'>tail</span>": "long tail",
    "long<br/>tail<hr>": "long tail",
    "long <!-- short --> tail": "long tail",
    r"5 \* 3 \& \[sic\]": "5 * 3 & [sic]",
    "long tail \ue200cite\ue202turn0": "long tail",
    "long\u200b\u2060 \u00a0tail\ufeff\u00ad": "long tail",
    "cafe\u0301": "café",
    "long\ttail\x07\ufffd": "long tail",
}
PLAIN: Final = (
    "2*3 and 5 * 3",
    "snake_case",
    "a < b > c",
    "AT&T; black & white",
    "a tail [sic]",
    "a = b",
    "turn right",
    "می‌روم",  # a joiner that the script needs
    "🧑‍🌾",
)
_REMAINS: Final = re.compile(
    r"</?(?:b|i|br|p|li|div|span|s)(?:\s[^<>]*)?/?>|&(?:amp|lt|gt|#\d+);|\[\d+\]|\[\^\w+\]|【[^【】]*】|<!--[^<>]*-->"
    r"|<\|\w+\|>|\[[^\]\[]+\]\([^()\s]*\)|`\w|\w`"
)
_NESTED: Final = (
    "**{}**",
    "<b>{}</b>",
    "`{}`",
    "[{}](https://a.example)",
    "{}[1]",
    "<p>{}</p>",
    "{}【1】",
    '"{}"',
)
WORDS: Final = st.text(st.characters(categories=["Ll", "Nd"]), min_size=1, max_size=6)
_FRAGMENTS: Final = r"""
* ** _ __ ` ~~ == &amp; & amp; lt; &#42; < > <b> </b> <br> <!-- --> [1] [^1] [ ] (x) ![ ](u) \\ 【1】 【 】
</s> <|im_end|> turn0search1 :contentReference[x] e
"""
FRAGMENTS: Final = st.sampled_from(
    [*_FRAGMENTS.split(), " ", "\n", "\ue200", "\ue201", "\u0301", "\u200b", "\ufeff", "\x07"]
)
TAGS: Final = st.sampled_from(
    [part for pair in (TAGGED | FENCED).values() for part in pair]
    + [
        *END_OF_TURN,
        *CONTROL,
        *ROLES,
        "<answer>",
        "</answer>",
        "\u200b",
        "\n",
        " ",
        "- a",
        "b",
        "<",
        "|",
        ">",
    ]
)


@pytest.mark.parametrize("family", FAMILIES)
def test_thinking_of_every_family_goes(family: str) -> None:
    opening, closing = FAMILIES[family]
    said = without_thinking(f"{opening}perhaps wings\n- or not{closing}{ANSWER}")
    assert said is not None
    assert said.strip() == ANSWER
    assert not has_thinking(said)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"headings", "bold headings"}))
def test_unfinished_thinking_says_nothing(family: str) -> None:
    opening, _ = FAMILIES[family]
    assert without_thinking(f"{opening}perhaps wings\n- or not") is None


@pytest.mark.parametrize("family", TAGGED)
def test_thinking_that_the_prompt_opened_goes(family: str) -> None:
    _, closing = TAGGED[family]
    assert without_thinking(f"- perhaps wings\n{closing}{ANSWER}") == ANSWER
    assert has_thinking(f"wings {closing}")


# Whatever stands before the final channel is thinking.
@pytest.mark.parametrize("family", sorted((TAGGED | FENCED).keys() - {"gpt-oss"}))
def test_thinking_amid_an_answer(family: str) -> None:
    opening, closing = FAMILIES[family]
    first, second = ANSWER.split("\n")
    said = without_thinking(f"{first}\n{opening}more?{closing}{second}")
    assert said == ANSWER
    assert without_thinking(f"{first}\n{opening}more?") is None


@pytest.mark.parametrize("family", TAGGED)
def test_thinking_within_thinking(family: str) -> None:
    opening, closing = TAGGED[family]
    for other, (inner, end) in (TAGGED | FENCED).items():
        if other != family:
            assert without_thinking(f"{opening}I {inner}could{end} too{closing}{ANSWER}") == ANSWER, other


@pytest.mark.parametrize("family", SPOKEN)
def test_words_of_thinking_within_an_answer_are_its_own(family: str) -> None:
    text = f"{ANSWER}\n- {SPOKEN[family][0].strip()} in its posture"
    assert without_thinking(text) == text


@pytest.mark.parametrize("end", END_OF_TURN)
def test_what_follows_the_end_of_a_turn_goes(end: str) -> None:
    assert without_thinking(f"{ANSWER}{end}\nuser\n- another question") == ANSWER
    assert without_thinking(f"{end}{ANSWER}") == ANSWER


@pytest.mark.parametrize("token", CONTROL)
def test_control_tokens_go(token: str) -> None:
    assert without_thinking(f"{token}{ANSWER}") == ANSWER
    assert plain(f"long{token}tail") == "long tail"


@pytest.mark.parametrize("role", ROLES)
def test_the_head_of_a_turn_goes(role: str) -> None:
    assert (without_thinking(f"{role}{ANSWER}") or "").strip() == ANSWER


@pytest.mark.parametrize("tag", ["answer", "response", "final_answer", "output"])
def test_the_answer_in_its_tags(tag: str) -> None:
    assert without_thinking(f"Let me see.\n<{tag}>{ANSWER}</{tag}>\nThat is all.") == ANSWER


@pytest.mark.parametrize("zero_width", ["\u200b", "\ufeff", "\u2060"])
def test_characters_that_do_not_show_hide_no_mark(zero_width: str) -> None:
    assert without_thinking(f"<{zero_width}think>wings</think{zero_width}>{zero_width}{ANSWER}") == ANSWER


@given(st.lists(TAGS, max_size=9).map("".join))
def test_spoken_is_settled(answer: str) -> None:
    said = without_thinking(answer)
    if said is not None:
        assert without_thinking(said) == said
        assert not has_thinking(said)
        assert not re.search(r"<\|\w+\|>|</s>|\[/?INST\]|\u200b", said)


@given(st.lists(st.text(st.characters(categories=["L", "Nd"])), max_size=9).map(" ".join))
def test_what_has_no_mark_is_spoken_as_it_is(answer: str) -> None:
    assume(not answer.startswith(("analysis", "assistant")))
    assert without_thinking(answer) == answer


@pytest.mark.parametrize("text", MARKUP)
def test_markup_goes_and_its_text_stays(text: str) -> None:
    assert plain(text) == MARKUP[text]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_stays(text: str) -> None:
    assert plain(text) == text


@given(st.lists(FRAGMENTS | WORDS, max_size=12).map("".join))
def test_plain_is_settled_and_has_no_markup(text: str) -> None:
    once = plain(text)
    assert plain(once) == once
    assert once == unicodedata.normalize("NFC", " ".join(once.split()))
    assert once.isprintable()
    assert not _REMAINS.search(once)


@given(WORDS.map("a".__add__), st.lists(st.sampled_from(_NESTED), max_size=3))
def test_nested_markup_leaves_the_words(words: str, wraps: list[str]) -> None:
    text = words
    for wrap in wraps:
        text = wrap.format(text)
    assert plain(text).replace('"', "").strip() == unicodedata.normalize("NFC", words)
