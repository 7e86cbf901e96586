"""From a language model's answer to descriptors: lists in every form that models write them.

Markup is cleaned before list marks are looked for. Thoughts and what follows the end of a turn go first; JSON
is read as JSON; HTML lists and tables become lines that begin with "- ". Then the answer is read line by line:

- a line with a list mark begins a descriptor: bullets of every script, numbers, letters, emoji. A mark that
  could as well be text ("T. rex") counts only in a sequence (a., b., c.);
- a line without one goes on with the descriptor above it if it is indented or does not begin like a new
  sentence; else it is a preamble or an afterword, and left out;
- a heading is left out: a line that ends with a colon, or that has further marked lines nested below it.

An answer without any list mark is read as bold lines, and as short lines in the last resort. Nothing here
knows a server or a prompt.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fieldmarks.debris import plain, spoken
from fieldmarks.generation.marks import DASHES, RULE, marks, split_marks, sure_mark
from fieldmarks.generation.structured import JSON_START, json_texts, lines_of_html, lines_of_tables
from fieldmarks.store.curate import comparable

MAX_DESCRIPTOR: Final = 1000  # characters; longer is a text, not a descriptor
MAX_DESCRIPTORS: Final = 300  # of one answer
MAX_REASON: Final = 200  # characters of the model's own words

STILL_THINKING: Final = "no complete answer: the model was still thinking when it ended; raise --max-tokens"
REFUSAL: Final = "refusal"  # as a finish reason: the answer is what a reply's own field for refusals says
_INCOMPLETE: Final = {
    "error": "no complete answer: the provider reported an error",
    "tool_calls": "no answer: the model called a tool instead",
    "function_call": "no answer: the model called a tool instead",
}
_CUT_OFF: Final = frozenset({"length", "max_tokens", "content_filter", "error"})

_LINE_ENDS: Final = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
_WRITTEN_LINE_END: Final = re.compile(r"\\r?\\n|\\n")
_NEXT_TURN: Final = re.compile(
    r"\n[ \t]*(?:\*\*)?(?:(?:Q|Question|User|Human)\s?:|#{2,3} (?:Instruction|User|Human)\b)"
)
_FENCE: Final = re.compile(r"[ \t]*(?:```|~~~)")
_QUOTE: Final = re.compile(r"[ \t]*>(?!>)[ \t]?(?:>[ \t]?)*")
_FULL_WIDTH: Final = str.maketrans("０１２３４５６７８９．）（：＊＃", "0123456789.)(:*#")
_OPENER: Final = re.compile(
    r"(?:sure|certainly|of course|okay|ok|absolutely|great question)[,.!:]"
    r"|(?:here|below) (?:are|is)\b|here['’]s\b",
    re.IGNORECASE,
)
_REFUSAL: Final = re.compile(
    r"(?:(?:oh,? )?(?:i['’]?m|i am) (?:(?:very|so|really|truly) )?(?:sorry|afraid)\b|(?:my )?(?:sincere )?apolog"
    r"|i (?:sincerely |must )?apologi[sz]e|(?:we['’]re|we are) sorry|sorry\b"
    r"|(?:unfortunately,? )?(?:i|we) (?:can['’]?t|can ?not|could not|couldn['’]t|won['’]t|will not|do not|don['’]t|am unable|am not able"
    r"|['’]m unable|['’]m not able|must decline|have to decline|must refuse|decline)\b"
    r"|i['’]m (?:unable|not able|not comfortable)\b|i am not comfortable\b|as an? (?:ai|large|language|artificial|virtual)\b"
    r"|(?:this|that|your|the) (?:request|question|content|prompt) (?:violates|cannot|can['’]t|is against|goes against)"
    r"|unable to\b|(?:es )?tut mir (?:sehr )?leid|entschuldigung|ich (?:kann|darf) (?:dir |ihnen |dabei |das |diese\w* )*(?:leider )?nicht|leider kann ich"
    r"|(?:je suis|nous sommes) (?:vraiment )?désolée?s?|désolée?\b|je (?:ne peux|ne suis pas|m['’]excuse)"
    r"|lo siento|lo lamento|no puedo\b|mi dispiace|non posso\b|desculpe\b|sinto muito|lamento\b|não posso"
    r"|het spijt me|ik kan (?:je |u |dat |hier )*niet|przepraszam|przykro mi|niestety nie mog|извините|простите|к сожалению"
    r"|抱歉|很抱歉|非常抱歉|对不起|對不起|我(?:无法|不能|無法)|申し訳|すみません|죄송|미안)",
    re.IGNORECASE,
)
_ALTERNATIVE: Final = re.compile(
    r"\b(?:instead|alternativ\w+|i can help|help (?:you )?with|happy to|glad to|would you like|other ways)\b",
    re.IGNORECASE,
)
_QUOTES: Final = {
    '"': '"',
    "'": "'",
    "“": "”",
    "‘": "’",
    "«": "»",
    "„": "“”",
    "「": "」",
    "『": "』",
    "‹": "›",
    "《": "》",
}
_TRAILING: Final = " \t.,;:…。、，；：．؛،۔।\\"
_ENDS: Final = (".", "!", "?", "。", "！", "？", '"', "”", "।", "۔")
_SENTENCE_END: Final = re.compile(r"[.!?][\"”’']?\s+(?=[\"“‘']?(\w))|(?<=[。！？])")
_ABBREVIATION: Final = re.compile(r"(?:^|[\s(.])(?:[^\W\d_]|St|Mt|Dr|Mr|Mrs|Ms|No|approx|ca|cf|vs)\.\s+$")
_WORDLESS_SCRIPT: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uff00-\uffef\u0e00-\u0e7f]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What an answer says.

    descriptors  in their order, without repeats
    cut          the last one of an answer that was cut off, which is not among them
    problem      why there are none, in words for the user; the model's own where it refuses
    refused      whether the model refuses, so that asking again is in vain
    left_out     how many there are beyond the most that are taken
    """

    descriptors: tuple[str, ...]
    cut: str | None = None
    problem: str | None = None
    refused: bool = False
    left_out: int = 0


@lru_cache(maxsize=64)  # a run parses each answer twice: to see whether it is empty, and for its line
def parse(answer: str, *, style: str = "bullets", finish_reason: str | None = None) -> Parsed:
    """Read the descriptors out of an answer; of one that was cut off the last is left out."""
    said = spoken(_LINE_ENDS.sub("\n", answer))
    if said.thinking:
        return Parsed((), problem=STILL_THINKING)
    if finish_reason in _INCOMPLETE:
        return Parsed((), problem=_INCOMPLETE[finish_reason])
    text = _NEXT_TURN.split("\n" + said.text, maxsplit=1)[0].removeprefix("\n")
    if finish_reason == REFUSAL or _refuses(text):
        return Parsed((), problem=f"refused: {_shortened(text.lstrip(DASHES + ' '))}", refused=True)
    texts, is_open = _sentences(text) if style == "sentences" else _listed(text)
    cut = texts.pop() if texts and is_open and finish_reason in _CUT_OFF else None
    cleaned = (clean(text) for text in texts if len(text) <= MAX_DESCRIPTOR and not _is_heading(text))
    found = distinct(text for text in cleaned if any(map(str.isalpha, text)))
    cut = clean(cut[:MAX_DESCRIPTOR]) or None if cut else None
    problem = None if found else _problem(text, finish_reason)
    return Parsed(found[:MAX_DESCRIPTORS], cut, problem, left_out=max(0, len(found) - MAX_DESCRIPTORS))


def attach(forced: str, text: str) -> str:
    """Put the forced bullet mark back before a continuation, unless the model repeated or ignored it."""
    return text if not forced or prefix_ignored(text) else forced + text


def prefix_ignored(text: str) -> bool:
    """Whether an answer begins anew instead of going on after a forced bullet mark."""
    start = spoken(text).text.lstrip()
    first = _plain_line(start.split("\n", 1)[0])
    return (
        sure_mark(first) is not None
        or first.rstrip(" \t*_").endswith((":", "："))
        or bool(_OPENER.match(first) or JSON_START.match(start))
        or start.startswith(("```", "<ul", "<ol", "<li", "|", "#"))
    )


def clean(text: str) -> str:
    """Return a descriptor without markup, outer quotes, trailing punctuation and control characters."""
    text, before = plain(text), None
    while text != before:
        before, text = text, _unquoted(text.rstrip(_TRAILING).strip())
    return text


def distinct(descriptors: Iterable[str]) -> tuple[str, ...]:
    """Return descriptors without those that an earlier one already says."""
    first: dict[str, str] = {}
    for descriptor in descriptors:
        first.setdefault(comparable(descriptor), descriptor)
    return tuple(first.values())


def _refuses(text: str) -> bool:
    """Whether an answer is a refusal: it begins as one, and no list of features follows."""
    start = text.lstrip(DASHES + "*_#>\"“' \t\n")
    if not _REFUSAL.match(start[:200]):
        return False
    before, _, after = start.partition("\n")
    listed = any(sure_mark(line) is not None for line in after.split("\n", 200)[:200])
    return (
        not listed or _ALTERNATIVE.search(start[: start.find("\n-") if "\n-" in start else 600]) is not None
    )


def _problem(text: str, finish_reason: str | None) -> str:
    """Return why an answer without a descriptor has none."""
    if finish_reason == "content_filter":
        return "no descriptor: the provider's content filter ended the answer"
    if finish_reason in {"length", "max_tokens"}:
        return "no descriptor in the answer, which --max-tokens cut off"
    said = _shortened(text.removeprefix("-"))
    return f"no descriptor in the answer: {said!r}" if said else "the answer is empty"


def _shortened(text: str) -> str:
    words = plain(text[: 4 * MAX_REASON])
    return words if len(words) <= MAX_REASON else words[: MAX_REASON - 1].rstrip() + "…"


@dataclass(slots=True)
class _Item:
    """A marked line with the lines that go on with it."""

    indent: int
    numbered: bool
    parts: list[str]
    titled: bool = False  # its first line is bold from end to end
    nested: bool = False  # further items stand below it

    @property
    def text(self) -> str:
        """The whole text."""
        first, *more = self.parts
        if self.titled and more:
            return f"{first.rstrip(' :')}: {_joined(more)}"
        return _joined(self.parts)

    @property
    def is_heading(self) -> bool:
        """Whether it only announces what is nested below it: a name or a few words."""
        words = plain(self.text[:MAX_DESCRIPTOR])
        labelled = re.search(r"[:–—：]\s*\S|\s-\s", words)
        return self.nested and not labelled and (self.titled or len(words.split()) <= 6)


def _listed(text: str) -> tuple[list[str], bool]:
    """Return the texts of an answer's list, and whether the last of them reaches to the answer's end."""
    if (start := JSON_START.search(text)) is not None and (
        found := json_texts(text[start.end() :])
    ) is not None:
        return found
    if "\n" not in text.strip("\n") or not re.search(r"\n\s*\S", text.strip()):
        text = _WRITTEN_LINE_END.sub("\n", text)
    else:
        text = re.sub(r"\\n(?=\s*(?:[-*•]|\d{1,2}[.)]|\\n|$))", "\n", text, flags=re.MULTILINE)
    text = lines_of_html(text)
    lines = [_plain_line(line) for line in text.split("\n") if not _FENCE.match(line)]
    lines = list(lines_of_tables(lines))
    lines = [part for line in lines for part in split_marks(line)]
    items, is_open = _items(lines)
    if not items:
        items, is_open = _bold_lines(lines)
    if not items:
        items, is_open = _short_lines(lines)
    return [item.text for item in items if not item.is_heading], is_open


def _plain_line(line: str) -> str:
    """Return a line without the marks of a quotation, in narrow digits where it begins."""
    line = _QUOTE.sub("", line, count=1) if line.lstrip().startswith(">") else line
    return line[:12].translate(_FULL_WIDTH) + line[12:]


def _items(lines: Sequence[str]) -> tuple[list[_Item], bool]:
    """Return the marked lines with what goes on with them, and whether the last is open at the end."""
    found = marks(lines)
    items: list[_Item] = []
    is_open = after_blank = False
    for line, mark in zip(lines, found, strict=True):
        if mark is not None:
            item = _Item(_indent(line), mark[1], [mark[0]], titled=_is_bold(mark[0]))
            if items and (
                item.indent > items[-1].indent + 1
                or (item.indent >= items[-1].indent and items[-1].numbered and not item.numbered)
            ):
                items[-1].nested = True
            items.append(item)
            is_open, after_blank = True, False
        elif not line.strip():
            after_blank = bool(items)
        elif items and (is_open or after_blank) and _goes_on(line, items[-1], after_blank):
            items[-1].parts.append(line.strip())
            is_open, after_blank = True, False
        else:
            is_open = after_blank = False
    if after_blank:
        is_open = False
    return [item for item in items if any(item.parts)], is_open and bool(lines) and bool(lines[-1].strip())


def _bold_lines(lines: Sequence[str]) -> tuple[list[_Item], bool]:
    """Return the lines that begin in bold as items, where there are several, with what follows them."""
    items: list[_Item] = []
    is_open = False
    for line in lines:
        text = line.strip()
        if re.match(r"(?:\*\*|__)\S", text) and not _is_heading(text):
            items.append(_Item(0, False, [text], titled=_is_bold(text)))
            is_open = True
        elif text and is_open and not RULE.fullmatch(line):
            items[-1].parts.append(text)
        else:
            is_open = False
    return (items, is_open) if len(items) > 1 else ([], False)


def _short_lines(lines: Sequence[str]) -> tuple[list[_Item], bool]:
    """Return plain lines as items, if the answer is nothing but a few words a line."""
    texts = [line.strip() for line in lines]
    texts = [
        text
        for text in texts
        if text and not _is_heading(text) and not RULE.fullmatch(text) and not text.startswith(("#", "|"))
    ]
    short = [text for text in texts if len(text) <= 80 and len(text.split()) <= 10 and not _is_sentence(text)]
    if len(short) < 2 or len(short) < 0.8 * len(texts):
        return [], False
    return [_Item(0, False, [text]) for text in short], bool(lines[-1].strip())


def _is_sentence(text: str) -> bool:
    return (text.endswith(_ENDS) and len(text.split()) > 4) or bool(_OPENER.match(text))


def _is_bold(text: str) -> bool:
    return bool(re.fullmatch(r"(\*\*|__)\S(?:(?!\1).)*\1[:.]?", text)) and len(text) <= MAX_DESCRIPTOR


def _is_heading(text: str) -> bool:
    bare = text.rstrip(" \t*_`")
    return bare.endswith((":", "：")) or bool(_OPENER.match(text.lstrip("*_ ")) and ":" in text)


def _goes_on(line: str, item: _Item, after_blank: bool) -> bool:
    """Whether a line without a mark goes on with the item above it."""
    text = line.strip()
    if RULE.fullmatch(line) or _is_heading(text) or text.startswith(("#", "<", "|")):
        return False
    if not any(item.parts):
        return not after_blank
    if _indent(line) > item.indent:
        return True
    if after_blank:
        return False
    last = item.parts[-1]
    wrapped = len(last) >= 50 and not last.endswith(_ENDS)
    return wrapped or not text.lstrip("*_\"'“").lstrip()[:1].isupper()


def _indent(line: str) -> int:
    blank = line[: len(line) - len(line.lstrip(" \t\u3000"))]
    return len(blank.expandtabs(4))


def _joined(parts: Sequence[str]) -> str:
    """Join wrapped lines, with a blank between them but in scripts that have none."""
    whole = ""
    for part in filter(None, parts):
        close = whole and _WORDLESS_SCRIPT.match(whole[-1]) and _WORDLESS_SCRIPT.match(part[0])
        whole += part if not whole or close else f" {part}"
    return whole


def _sentences(text: str) -> tuple[list[str], bool]:
    """Return the sentences, and whether the last of them has no end."""
    found: list[str] = []
    for line in map(_plain_line, text.split("\n")):
        mark = sure_mark(line)
        said = mark[0] if mark else line.strip()
        if (
            said
            and not _FENCE.match(line)
            and not _is_heading(said)
            and not RULE.fullmatch(line)
            and said[0] != "#"
        ):
            found += _split_sentences(said)
    return found, bool(found) and not found[-1].endswith(_ENDS)


def _split_sentences(text: str) -> Iterator[str]:
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if match[1] and (
            not match[1].isupper() or _ABBREVIATION.search(text, max(0, match.end() - 12), match.end())
        ):
            continue
        yield text[start : match.end()].strip()
        start = match.end()
    if text[start:].strip():
        yield text[start:].strip()


def _unquoted(text: str) -> str:
    if (
        len(text) > 1
        and text[-1] in _QUOTES.get(text[0], "")
        and text[-1] not in text[1:-1]
        and text[0] not in text[1:-1]
    ):
        return text[1:-1].strip()
    return text
