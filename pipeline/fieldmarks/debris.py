"""What language models leave around their answers: thoughts, control tokens, citations, markup. Pure functions.

One table for all who read what a model wrote: the parser of answers removes by it, lint finds by it what an
earlier parser left in a store. A new family of models is a new line here.
"""

import html
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

# How families of models mark what they write to themselves: where it begins, and where it ends.
_TAGS: Final = (
    *("think", "thinking", "thought", "thoughts", "reasoning", "reason", "reflection", "analysis"),
    *("scratchpad", "inner_monologue", "internal_monologue", "seed:think", "mm:think", "antThinking"),
)
_THINKING: Final = (
    *((rf"<{tag}(?:\s[^<>\n]{{0,200}})?>", rf"</{tag}>") for tag in _TAGS),  # DeepSeek, Qwen, EXAONE, …
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    (r"◁think▷", r"◁/think▷"),  # Kimi
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # Sky-T1, OpenThinker
    (r"<\|think(?:ing)?\|>", r"<\|/think(?:ing)?\|>"),
    (r"<unused94>(?:thought)?", r"<unused95>"),  # MedGemma
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma
    (r"<\|channel\|>(?:analysis|commentary)", r"<\|end\|>|<\|start\|>|(?=<\|channel\|>final)"),  # gpt-oss
    (r"\A[-\s]*(?:assistant)?analysis(?=[A-Z])", r"assistantfinal"),  # the same, its control tokens lost
    (r"<details[^<>\n]{0,200}\btype=\"reasoning\"[^<>\n]{0,200}>", r"</details>"),  # Open WebUI
    (r"```(?:thinking|thought|reasoning)\n", r"\n```"),
    (r"\A[-\s]*Thinking(?:\.\.\.|…)", r"(?:\.\.\.|…)done thinking\."),  # Ollama
    (r"\A[-\s]*Here(?: is|'s) my thought process:", r"Here(?: is|'s) my (?:response|answer):"),  # Granite
    (
        r"\A[-\s]*[#*_ ]*(?:Thinking|Thoughts?|Reasoning|Thought process|Chain of thought)\b[*_: ]*\n"
        r"(?=[\s\S]*\n[#*_ ]*(?:Final )?(?:Answer|Response|Output)\b[*_: ]*\n)",
        r"\n[#*_ ]*(?:Final )?(?:Answer|Response|Output)\b[*_: ]*(?=\n)",
    ),
)
_OPENING: Final = re.compile(
    "|".join(f"(?P<family{number}>{opening})" for number, (opening, _) in enumerate(_THINKING)), re.IGNORECASE
)
_CLOSING: Final = {
    f"family{number}": re.compile(closing, re.IGNORECASE) for number, (_, closing) in enumerate(_THINKING)
}
# An end without a beginning, which then stands in the prompt: all before it is thinking.
_LAST_CLOSING: Final = re.compile(
    r"\A[\s\S]*(?:"
    + "|".join(rf"</{tag}>" for tag in _TAGS)
    + r"|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>|<\|/think(?:ing)?\|>|<unused95>"
    r"|<\|channel\|>final[^<>]{0,40}<\|message\|>|<channel\|>)",
    re.IGNORECASE,
)
_ANSWER_TAGS: Final = "answer|response|final_answer|final|solution|output|result"
_ANSWER: Final = re.compile(rf"<({_ANSWER_TAGS})>((?:(?!<\1>)[\s\S])*?)</\1>", re.IGNORECASE)
_CONTROL: Final = re.compile(
    r"<[|｜][^<>|｜\n]{1,40}[|｜]>|</?s>|<(?:end_of_turn|start_of_turn|end_of_utterance|eos|bos|pad|unk|eot|eod)>"
    rf"|\[/?INST\]|<</?SYS>>|</?(?:{_ANSWER_TAGS})>",
    re.IGNORECASE,
)
_END_OF_TURN: Final = re.compile(
    r"<[|｜](?:eot_id|eom_id|im_end|im_start|endoftext|end_of_text|end[▁_]of[▁_]sentence|end_of_turn|return|end"
    r"|end_of_role|eos|eot|END_OF_TURN_TOKEN|END_RESPONSE|User|user|endofturn|end_of_solution)[|｜]>"
    r"|</s>|<(?:end_of_turn|end_of_utterance|eos|eot|eod)>|\[INST\]",
)
_CITATION: Final = re.compile(
    r"【[^【】\n]{0,80}】|\[\^\w{1,20}\](?!\()|\[\[?\d{1,3}(?:\s*[,–-]\s*\d{1,3}){0,9}\]\]?(?:\([^()\s]*\))?"
    r"|:contentReference\[[^\]\n]{0,60}\](?:\{[^{}\n]{0,60}\})?|\[citation needed\]|\[oaicite:\d+\]"
    r"|\ue200[^\ue200\ue201\n]{0,120}\ue201|\bturn\d{1,3}(?:search|view|news|image)\d{1,3}\b",
    re.IGNORECASE,
)
_LINK: Final = re.compile(r"!?\[([^\]\[]+)\]\([^()\s]*(?:\s\"[^\"]*\")?\)")
_TAG: Final = re.compile(
    r"</?(?:a|b|big|br|code|dd|div|dl|dt|em|font|h[1-6]|hr|i|ins|kbd|li|mark|ol|p|small|span|strong|sub|sup"
    r"|table|tbody|td|th|thead|tr|tt|u|ul)(?:\s[^<>]{0,200})?/?>",
    re.IGNORECASE,
)
_COMMENT: Final = re.compile(r"<!--[^<>]{0,500}-->")
_EMPHASIS: Final = re.compile(r"(\*\*\*|\*\*|__|~~|==|`+)(?=\S)((?:(?!\1).)+?)(?<=\S)\1")
_LIGHT_EMPHASIS: Final = re.compile(r"(?<![\w*_])([*_])(?=[^\s*_])([^*_]+?)(?<=[^\s*_])\1(?![\w*_])")
_STRAY_EMPHASIS: Final = re.compile(r"\*{2,3}|(?<!\w)_{2,3}(?=\w)|(?<=\w)_{2,3}(?!\w)|`")
_ESCAPED: Final = re.compile(r"\\([-*_`#+.!()\[\]{}<>|~>\"'\\])")
_INVISIBLE: Final = dict.fromkeys(
    (0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF)
    + tuple(range(0xFFF9, 0xFFFE))
)  # the joiners U+200C and U+200D stay: Persian, Hindi and emoji need them


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said aloud; `thinking` is true where the answer ends within its thoughts."""

    text: str
    thinking: bool = False


def spoken(answer: str) -> Said:
    """Return an answer without thoughts, without control tokens, and without the turns that follow it."""
    kept: list[str] = []
    start = 0
    while (opening := _OPENING.search(answer, start)) is not None:
        kept.append(answer[start : opening.start()])
        closing = _CLOSING[opening.lastgroup or ""].search(answer, opening.end())
        if closing is None:
            return Said("", thinking=True)
        start = closing.end()
    text = "".join(kept) + answer[start:]
    text = _LAST_CLOSING.sub("", text)
    if tagged := _ANSWER.search(text):
        text = tagged[2]
    for end in _END_OF_TURN.finditer(text):
        if text[: end.start()].strip():
            text = text[: end.start()]
            break
    return Said(_CONTROL.sub("", text.removeprefix("assistantfinal")))


def plain(text: str) -> str:
    """Return one line of text without markup, citations, entities, escapes and characters that do not show.

    Plain text is returned as it is; what is returned is in NFC and has single blanks only.
    """
    before = None
    for _ in range(4):  # markup comes nested and escaped; hostile text could go on for ever
        if text == before:
            break
        before = text
        text = html.unescape(text)
        text = _COMMENT.sub(" ", _CONTROL.sub(" ", _CITATION.sub("", _LINK.sub(r"\1", text))))
        text = _STRAY_EMPHASIS.sub("", _LIGHT_EMPHASIS.sub(r"\2", _EMPHASIS.sub(r"\2", text)))
        text = _ESCAPED.sub(r"\1", _TAG.sub(" ", text))
        text = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
        if not text.isprintable():
            text = "".join(
                " " if unicodedata.category(c) in {"Cc", "Zs", "Zl", "Zp"} else c
                for c in text
                if c != "\ufffd"
            )
        text = " ".join(text.split())
    return text


def thinks(text: str) -> bool:
    """Whether a text has a mark of thinking."""
    return _OPENING.search(text) is not None or _LAST_CLOSING.match(text) is not None


def has_control_token(text: str) -> bool:
    """Whether a text has a token that steers a model, such as the end of a turn."""
    return _CONTROL.search(text) is not None
