"""Removes what language models leave around their answers: thinking, control tokens, citations, markup.

All functions are pure. The parser and lint share one table: the parser removes what it matches, and lint
finds what an earlier parser left in a store. A new family of models is a new line in `_THINKING`.
"""

import html
import re
import unicodedata
from typing import Final

_THOUGHT: Final = (
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|rationale|cot|planning"
    r"|scratch_?pad|(?:inner|internal)[_-]monologue|chain[_-]of[_-]thought|(?:thought|thinking)[_-]process)"
)
# How each model family marks its thinking: the opening and its closing. `{name}` in a closing stands for the
# group `name` of the opening, so that a tag is closed only by its own kind.
_THINKING: Final = (
    # DeepSeek, Qwen, EXAONE, Phi, Hunyuan, Claude, Nova, Seed (<seed:think>) and tags of the same form
    (
        rf"<(?P<name>(?:[a-z]{{1,12}}[:_-]?)?{_THOUGHT}(?:[:_-][a-z]{{1,12}})?)(?:\s[^<>\n]{{0,200}})?>",
        r"</{name}\s*>",
    ),
    (rf"\[(?P<name>{_THOUGHT})\]", r"\[/{name}\]"),  # Magistral
    (rf"◁(?P<name>{_THOUGHT})▷", r"◁/{name}▷"),  # Kimi
    # Command A, Sky-T1, OpenThinker: <|START_THINKING|>, <|begin_of_thought|>
    (rf"<[|｜](?:start|begin)_(?:of_)?(?P<name>{_THOUGHT})[|｜]>", r"<[|｜]end_(?:of_)?{name}[|｜]>"),
    (rf"<[|｜](?P<name>{_THOUGHT})_(?:start|begin)[|｜]>", r"<[|｜]{name}_(?:end|stop)[|｜]>"),
    (rf"<[|｜](?P<name>{_THOUGHT})[|｜]>", r"<[|｜]/{name}[|｜]>|<[|｜]end[|｜]>"),  # Solar
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<unused94>(?:thought)?", r"<unused95>"),  # MedGemma
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma
    # gpt-oss: every channel but the final one
    (r"<\|channel\|>(?:analysis|commentary)", r"<\|end\|>|<\|start\|>|<\|call\|>|(?=<\|channel\|>final)"),
    (r"<details[^<>\n]{0,200}\btype=\"reasoning\"[^<>\n]{0,200}>", r"</details>"),  # Open WebUI
    (rf"```{_THOUGHT}[ \t]*\n", r"\n[ \t]*```"),
    (r"<(?P<name>tool_calls?|function_calls?|tool_code)>", r"</{name}>"),  # not part of the answer either
)
# The same without tags. An answer may contain such words too, so these count only at its beginning.
_BEGINNING: Final = r"\A[-\s]*+"
_LAST_PART: Final = r"(?:My |The )?(?:Final )?(?:Answer|Response|Output|List)"
_SPOKEN_THINKING: Final = (
    (r"(?:assistant)?analysis(?=[^\W\d_])", r"assistantfinal"),  # gpt-oss, if its control tokens are lost
    (r"Thinking(?:\.\.\.|…)\s*\n", r"(?:\.\.\.|…)\s?done thinking\.?"),  # Ollama
    (r"Here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]"),  # Apriel
    (r"Here(?: is|['’]s) my thought process:", r"Here(?: is|['’]s) my (?:response|answer):"),  # Granite
    (  # a heading for the thinking counts only if a heading for the answer follows
        r"[#*_]*+ ?(?:Thinking|Thoughts?|Reasoning|Analysis|(?:Thought|Thinking) process|Chain of thought)"
        rf"[*_: ]*\n(?=[\s\S]*\n[#*_ ]*+{_LAST_PART}[*_: ]*+\n)",
        rf"\n[#*_ ]*+{_LAST_PART}[*_: ]*+(?=\n)",
    ),
)


def _numbered(openings: tuple[tuple[str, str], ...]) -> str:
    """Return one pattern for all openings, whose group `familyN` shows which one matched."""
    return "|".join(
        f"(?P<family{number}>{opening.replace('(?P<name>', f'(?P<name{number}>')})"
        for number, (opening, _) in enumerate(openings)
    )


_FAMILIES: Final = _THINKING + tuple((_BEGINNING + opening, end) for opening, end in _SPOKEN_THINKING)
_OPENING: Final = re.compile(
    rf"(?:(?=<[|｜]?[a-z]|\[[a-z]|◁|```[a-z])|(?=\A))(?:{_numbered(_FAMILIES)})", re.IGNORECASE
)
# A closing whose opening was in the prompt: everything before it is thinking.
_CLOSING: Final = re.compile(
    rf"(?=</[a-z]|<[|｜][a-z/]|<[uc]|\[/|◁)(?:</(?:[a-z]{{1,12}}[:_-]?)?{_THOUGHT}\s*>|\[/{_THOUGHT}\]|◁/{_THOUGHT}▷"
    rf"|<[|｜](?:end_(?:of_)?{_THOUGHT}|{_THOUGHT}_(?:end|stop)|/{_THOUGHT}|inner_suffix)[|｜]>"
    r"|<unused95>|<channel\|>|<\|channel\|>final(?:\s*<\|constrain\|>)?[^<>\n]{0,40}<\|message\|>)",
    re.IGNORECASE,
)

_ANSWER_TAGS: Final = r"(?:final_)?(?:answer|response|solution|output|result)|final"
_ANSWER: Final = re.compile(rf"<(?P<name>{_ANSWER_TAGS})>", re.IGNORECASE)
_ROLE: Final = re.compile(
    r"(?:<\|(?:im_start|start_header_id|start_of_role|start|begin|turn)\|?>|<start_of_turn>)\s*(?:assistant|model)\b"
    r"\s*(?:<\|(?:end_header_id|end_of_role|im_middle|im_sep|content)\|>)?",
    re.IGNORECASE,
)
_CONTROL: Final = re.compile(
    r"(?=</?[a-z0]|<[|｜][^<>|｜\n]|<</?sys|\[[/a-z])(?:<[|｜][^<>|｜\n]{1,40}[|｜]>|<\|[a-z_]{1,20}>|<[a-z_]{1,20}\|>"
    r"|</?s>|<(?:end_of_turn|start_of_turn|end_of_utterance|eos|bos|pad|unk|eot|eod|unused\d{1,4}"
    r"|extra_id_\d{1,3}|0x[0-9a-f]{2})>"
    rf"|\[/?INST\]|\[(?:EOS|BOS|SEP|CLS|PAD|UNK)\]|<</?SYS>>|</?(?:{_ANSWER_TAGS})>)",
    re.IGNORECASE,
)
_END_OF_TURN: Final = re.compile(
    r"(?=</?[a-z]|<[|｜][a-z]|\[[/a-z])(?:<[|｜](?:eot_id|eom_id|im_end|im_start|im_user|im_system|endoftext|end_of_text|start"
    r"|end[▁_]of[▁_]sentence|end_of_turn|return|end|start_header_id|start_of_role|end_of_role|eos|eot|eod|call"
    r"|END_OF_TURN_TOKEN|END_RESPONSE|user|endofturn|end_of_solution|end_of_box|observation|assistant_end)[|｜]>"
    r"|</s>|<(?:end_of_turn|start_of_turn|end_of_utterance|eos|eot|eod)>|<turn\|>|<\|turn>|\[/?INST\]|\[EOS\]"
    r"|\[END FINAL RESPONSE\])",
    re.IGNORECASE,
)
_NUMBERS: Final = r"\d{1,3}(?:\s*[,–-]\s*\d{1,3}){0,9}"
_CITATION: Final = re.compile(
    r"【[^【】\n]{0,80}】|\[\^\w{1,20}\](?!\()"
    rf"|(?:\[\[{_NUMBERS}\]\]|\[{_NUMBERS}\])(?:\([^()\s]*\))?"
    r"|:contentReference\[[^\]\n]{0,60}\](?:\{[^{}\n]{0,60}\})?|\[citation needed\]"
    r"|\[(?:cite|oaicite):[^\]\n]{0,40}\]"
    r"|</?(?:cite|source|ref|grounding|co)(?:[\s:][^<>\n]{0,100})?/?>"
    r"|\ue200[^\ue200\ue201\n]{0,120}(?:\ue201|\Z)|[\ue200-\ue202]"
    r"|\b(?:cite)?turn\d{1,3}(?:search|view|news|image)\d{1,3}\b",
    re.IGNORECASE,
)
_LINK: Final = re.compile(r"!?\[([^\]\[]+)\]\([^()\s]*(?:\s\"[^\"]*\")?\)")
_INLINE_TAG: Final = re.compile(
    r"</?(?:a|b|big|code|del|em|font|i|ins|kbd|mark|s|small|span|strike|strong|sub|sup|tt|u)"
    r"(?:\s[^<>]{0,200})?/?>",
    re.IGNORECASE,
)
_TAG: Final = re.compile(
    r"</?(?:body|br|center|dd|div|dl|dt|h[1-6]|hr|html|img|li|ol|p|pre|table|tbody|td|th|thead|tr|ul)"
    r"(?:\s[^<>]{0,200})?/?>",
    re.IGNORECASE,
)
_COMMENT: Final = re.compile(r"<!--[^<>]{0,500}-->")
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});", re.IGNORECASE)
_DELIMITER: Final = re.compile(r"(?<!\S)\*{3,}(?!\S)|\*\*|\*|__|_|~~|==|`+")
_STRAY: Final = frozenset({"**", "__", "~~"})  # never part of a text, so removed even without a counterpart
_ESCAPED: Final = re.compile(r"\\([-*_`#+.!()\[\]{}<>|~>\"'&$%\\])")
# The joiners U+200C and U+200D stay: Persian, Hindi and emoji need them.
_INVISIBLE: Final = dict.fromkeys(
    (
        0xAD,
        0x200B,
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2060, 0x206A),
        0xFEFF,
        *range(0xFFF9, 0xFFFE),
    )
)
_MARKUP: Final = re.compile(r"[*_`~=&\[<\\【\ue200-\ue202:]|turn\d", re.IGNORECASE)


def without_thinking(answer: str) -> str | None:
    """Return a model's answer without thinking, control tokens and any turns that follow it.

    None if the answer ends within its thinking.
    """
    answer = answer.translate(_INVISIBLE)  # these may be inside a tag
    aloud: list[str] = []
    start = 0
    while (opening := _OPENING.search(answer, start)) is not None:
        aloud.append(answer[start : opening.start()])
        closing = _closing(opening).search(answer, opening.end())
        if closing is None:
            return None
        start = closing.end()
    text = "".join(aloud) + answer[start:]
    *_, last = [0, *(closing.end() for closing in _CLOSING.finditer(text))]
    text = text[last:]
    text = _answer_part(_ROLE.sub("", text, count=1) if _ROLE.match(text.lstrip("- \n")) else text)
    for end in _END_OF_TURN.finditer(text):
        if text[: end.start()].strip(" \n\t-"):
            text = text[: end.start()]
            break
    return _CONTROL.sub("", text.removeprefix("assistantfinal"))


def _closing(opening: re.Match[str]) -> re.Pattern[str]:
    """Return the closing pattern that belongs to an opening."""
    number = int((opening.lastgroup or "").removeprefix("family"))
    groups = opening.groupdict()
    name = groups.get(f"name{number}") or ""
    return re.compile(_FAMILIES[number][1].replace("{name}", re.escape(name)), re.IGNORECASE)


def _answer_part(text: str) -> str:
    """Return what is inside the last <answer> tag (or the like), or the whole text if there is none."""
    *_, last = [None, *_ANSWER.finditer(text)]
    if last is None:
        return text
    inside = re.split(rf"</{last['name']}>", text[last.end() :], maxsplit=1, flags=re.IGNORECASE)[0]
    return inside if inside.strip() else text


def plain(text: str) -> str:
    """Return one line of text without markup, citations, entities, escapes and invisible characters.

    Plain text is returned unchanged; the result is in NFC, with single spaces only.
    """
    before = None
    for _ in range(4):  # markup may be nested and escaped; hostile text could go on for ever
        if text == before:
            break
        before = text
        if _MARKUP.search(text) is not None:
            text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
            text = _COMMENT.sub(" ", _CONTROL.sub(" ", _CITATION.sub("", _LINK.sub(r"\1", text))))
            text = _ESCAPED.sub(r"\1", _TAG.sub(" ", _INLINE_TAG.sub("", _without_emphasis(text))))
        text = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
        if not text.isprintable():
            text = "".join(map(_printable, text))
        text = " ".join(text.split())
    return text


def has_thinking(text: str) -> bool:
    """Whether a text contains a thinking tag or the like."""
    return _OPENING.search(text) is not None or _CLOSING.search(text) is not None


def _printable(character: str) -> str:
    category = unicodedata.category(character)
    if category in {"Cc", "Zs", "Zl", "Zp"}:
        return " "
    return "" if character == "\ufffd" or category == "Cs" else character


def _without_emphasis(text: str) -> str:
    """Return text without the delimiters of bold, italics, code, deletions and highlights.

    One pass: an opening delimiter waits for the next closing of its kind. A single * or _ counts only at the
    start or end of a word (unlike "2*3", "snake_case"), and stays if it has no counterpart ("5 * 3").
    """
    waiting: dict[str, int] = {}
    delimiters = list(_DELIMITER.finditer(text))
    removed: set[int] = set()
    for number, delimiter in enumerate(delimiters):
        mark, at = delimiter[0], delimiter.start()
        before, after = text[at - 1 : at] if at else "", text[delimiter.end() : delimiter.end() + 1]
        if before == "\\":
            continue
        at_word_ends = mark in {"*", "_", "__"}
        closes = bool(before.strip()) and not (at_word_ends and _is_word(after))
        opens = bool(after.strip()) and not (at_word_ends and _is_word(before))
        if closes and mark in waiting:
            removed |= {waiting.pop(mark), number}
        elif opens:
            waiting[mark] = number
        if not (before.strip() or after.strip()):
            continue  # "***" between spaces is not markup
        if mark[0] == "`" or (mark in _STRAY and (mark != "__" or _is_word(before) != _is_word(after))):
            removed.add(number)
    pieces: list[str] = []
    start = 0
    for number in sorted(removed):
        pieces.append(text[start : delimiters[number].start()])
        start = delimiters[number].end()
    return "".join(pieces) + text[start:]


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
