"""Parse a model's answer into descriptors, or detect a refusal. Pure.

Markup is cleaned before list marks are looked for. Thinking and anything after the end of a turn are removed;
JSON is read as JSON; HTML lists and tables become lines that begin with "- ". Then the answer is read line by
line:

- a line with a list mark begins a descriptor: bullets of every script, numbers, letters, emoji (see bullets);
- a line without one continues the descriptor above it if it is indented, begins in lower case, or follows a
  wrapped line; otherwise it is a preamble or an afterword, and dropped;
- a heading is dropped: a line that ends with a colon, or a few words with further marked lines below them.

An answer without list marks is read as bold lines, else as short plain lines or as the parts of one line.
Nothing here depends on the server or the prompt.
"""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final

from fieldmarks.debris import plain, without_thinking
from fieldmarks.generation.bullets import (
    DASHES,
    ENDS,
    LAST_STOPS,
    MAX_DESCRIPTOR,
    OPENER,
    RULE,
    WORDLESS,
    begins_bold,
    certain_mark,
    is_bold,
    is_heading,
    marked_items,
    marks,
    split_marks,
    texts_of,
)
from fieldmarks.generation.structured import json_texts, lines_of_html, lines_of_latex, lines_of_tables
from fieldmarks.generation.unbulleted import bold_items, inline_items, is_plain_list, short_items
from fieldmarks.text import comparable

_CANNOT: Final = (
    r"(?:can['’]?t|can ?not|could not|couldn['’]t|won['’]t|will not|would not|wouldn['’]t|do not|don['’]t"
    r"|am unable|am not able|['’]m unable|['’]m not able|must|have to|need to|decline|refuse"
    r"|prefer not|['’]d rather not)"
)
# Each is looked for at the beginning of an answer. A descriptor may begin the same way ("unable to fly",
# "sorry expression"), so words that occur in descriptors must be followed by those of a refusal.
_BEGINNINGS: Final = (
    # English
    r"(?:oh,? )?i(?:['’]?m| am) (?:(?:very|so|really|truly|terribly) )?(?:sorry|afraid)\b",
    r"(?:my )?(?:sincere )?apologies\b",
    r"(?:i|we) (?:sincerely |must |do )?apologi[sz]e\b",
    r"we(?:['’]re| are) sorry\b",
    r"sorry(?:[,.!;:—–]|\s(?:but|i|for|that|about|to|we|this|no)\b)",
    rf"(?:i|we) ?{_CANNOT}\b",
    r"(?:i|we)(?:['’]m|['’]re| am| are) (?:unable|not able|not comfortable|not allowed"
    r"|not permitted|not going|programmed)\b",
    r"as an? (?:ai|a\.i\.|large language|language|artificial|virtual|responsible)\b",
    r"(?:this|that|your|the) (?:request|question|content|prompt|topic) (?:violates|cannot|can['’]t"
    r"|is against|goes against|may violate)\b",
    r"unable to (?:help|assist|comply|provide|fulfil|answer|describe|identify|process|complete)",
    r"(?:it is|it['’]s|that is|that['’]s) (?:not possible for me|against|not something i)\b",
    r"(?:no,? )?i (?:won['’]t|will not)\b",
    r"it(?:['’]s| is| would)(?: not| ?n['’]t| be)? (?:not )?(?:appropriate|ethical|okay|possible for me|in"
    r"appropriate|unethical) (?:for me )?to\b",
    r"(?:my|our|openai['’]?s|the) (?:guidelines|policy|policies|instructions|programming|training)"
    r" (?:prevent|do(?:es)?"
    r" not|don['’]t|prohibits?|forbids?)",
    r"(?:this|that) (?:is not|isn['’]t) something (?:i|we)\b",
    # German
    r"(?:es )?tut mir (?:sehr |wirklich )?leid\b",
    r"(?:ich )?entschuldig(?:ung|e|en sie)\b",
    r"ich (?:kann|darf|möchte|werde) (?:\w+ ){0,5}(?:nicht|keine?n?)\b",
    r"leider (?:kann|darf|ist|bin) ",
    r"als (?:ki|sprachmodell|künstliche)",
    # French
    r"(?:je suis |nous sommes )?(?:vraiment |sincèrement )?désolée?s?\b",
    r"je (?:ne (?:peux|suis|puis)|m['’]excuse|regrette)|je vous prie de m['’]excuser"
    r"|malheureusement,? je|en tant qu['’]",
    # Spanish, Portuguese, Italian
    r"lo (?:siento|lamento)\b|no (?:puedo|me es posible)\b|lamentablemente,? no|como (?:modelo"
    r"|una? (?:ia|inteligencia|modelo))\b",
    r"(?:me )?desculpe?\b|sinto muito|lamento(?:,| (?:mas|pero|informar|no|não))"
    r"|(?:eu )?não (?:posso|consigo)|infelizmente,? (?:eu )?não",
    r"(?:mi )?(?:dispiace|scuso)\b|non (?:posso|sono in grado)\b|purtroppo,? non|come (?:modello|ia"
    r"|intelligenza)\b",
    # Dutch, Polish, Russian, Turkish, Swedish
    r"het spijt me|(?:helaas )?(?:ik )?kan (?:ik )?(?:je |u |dat |hier )*niet|sorry, (?:maar )?ik",
    r"przepraszam|przykro mi|niestety,? nie mog|nie mogę\b",
    r"извините|простите|прошу прощения|к сожалению|я не могу|мне жаль|как (?:ии|языковая модель)",
    r"üzgünüm|maalesef|özür dilerim|tyvärr kan|jag kan (?:inte|tyvärr)|jag är ledsen",
    # Chinese, Japanese, Korean
    r"(?:很|非常|真的)?(?:抱歉|遗憾|遺憾|对不起|對不起|不好意思)|我(?:无法|不能|無法|没办法|不可以)|作为(?:一个|一名)?(?:ai|人工智能|语言模型)",
    r"(?:大変)?申し訳|すみません|すいません|ごめんなさい|恐れ入りますが|残念ながら|お(?:答え|手伝い)(?:でき|する(?:こと|わけ))",
    r"(?:정말 )?(?:죄송|미안|유감)|저는 .{0,20}(?:없습니다|수 없)|도와드릴 수 없|해당 요청",
    # Arabic, Hindi, Persian, Vietnamese, Indonesian
    r"(?:أنا )?(?:آسف|أعتذر|عذر|معذرة|نأسف)|لا (?:أستطيع|يمكنني)|للأسف",
    r"(?:मुझे |मैं )?(?:खेद|क्षमा|माफ)|मैं .{0,30}(?:नहीं कर सकत|असमर्थ)|متأسف|ببخشید|نمی[\u200c ]?توانم",
    r"(?:tôi )?(?:rất |thành thật )?xin lỗi|(?:saya )?(?:mohon )?maaf\b|saya tidak (?:dapat|bisa)",
)
_REFUSAL: Final = re.compile(
    r"(?:(?:thank(?:s| you)|hello|hi|hey|well|hmm|unfortunately|regrettably"
    r"|no)\b[^.!,\n]{0,60}[.!,]? (?:(?:but|however),? )?)?"
    rf"(?:{'|'.join(_BEGINNINGS)})",
    re.IGNORECASE,
)
# A list below a refusal holds what the model would do instead, if the words above it say so.
_ALTERNATIVES: Final = re.compile(
    r"\b(?:(?:i|we)(?: can|['’]d be| would be| am|['’]m|['’]ll| could) (?:instead |still "
    r"|certainly |gladly )?"
    r"(?:help|happy|glad|offer|assist|suggest|do|be happy)"
    r"|happy to (?:help|assist|discuss|talk)|would you like|(?:you|we) (?:could|might|can) (?:try"
    r"|consider|ask|consult|look)"
    r"|(?:other|alternative|safe) (?:ways|options|topics|ideas|things|resources|suggestions)|alternatives"
    r"|(?:stattdessen|gerne) (?:kann|könnte|helfe)|kann ich (?:ihnen|dir) (?:helfen|anbieten)"
    r"|je peux (?:vous |t['’])?(?:aider|proposer)"
    r"|puedo (?:ayudar|ofrecer)|posso (?:aiutar|ajudar|oferecer|offrir))"
    r"|могу (?:помочь|предложить)|可以(?:帮助|协助|提供|帮|尝试)|代わりに|대신|도와드릴 수 있",
    re.IGNORECASE,
)


def is_refusal(text: str, before_list: str | None) -> bool:
    """Whether an answer refuses: it begins like a refusal, and no list of features follows.

    `before_list` is the text above the list, None without a list: "Sorry for the delay! Here are the
    features:" is not a refusal, but "I can't help with that. I can help with:" is.
    """
    start = text.lstrip("-–*_#>\"“' \t\n")[:600]
    if _REFUSAL.match(start) is None:
        return False
    return before_list is None or _ALTERNATIVES.search(before_list[-600:]) is not None


MAX_DESCRIPTORS: Final = 300  # per answer
MAX_REASON: Final = 200  # characters of the model's own words
_MAX_TEXTS: Final = 10 * MAX_DESCRIPTORS  # that are cleaned and compared; the rest is only counted
_MAX_READ: Final = 1 << 16  # characters of an answer; entries in the rest are only counted

STILL_THINKING: Final = "no complete answer: the model was still thinking when it ended; raise --max-tokens"
REFUSAL: Final = "refusal"  # as a finish reason: the answer comes from the reply's field for refusals
_INCOMPLETE: Final = {
    "error": "no complete answer: the provider reported an error; run the same command again",
    "tool_calls": "no answer: the model called a tool instead; use an endpoint without tools",
    "function_call": "no answer: the model called a tool instead; use an endpoint without tools",
}
_LENGTH: Final = frozenset({"length", "max_tokens"})
_CUT_OFF: Final = _LENGTH | {"content_filter"}

_LINE_ENDS: Final = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
_BLANK_LINES: Final = re.compile(r"\n(?:[^\S\n]*+\n)++")
_NEXT_TURN: Final = re.compile(
    r"\n[ \t]*(?:\*\*)?(?:(?:Q|Question(?: \d{1,2})?|User|USER|Human)\s?:"
    r"|#{2,3} (?:Instruction|User|Human)\b)"
)
_OWN_QUESTION: Final = re.compile(
    r"\A[-\s]*(?:\*\*)?Q(?:uestion)?\s?:[^\n]*\n\s*(?=(?:\*\*)?A(?:nswer)?\s?:)"
)  # repeated before the answer
_BRACKET: Final = re.compile(r"[\[{(]")
_COUNTED: Final = re.compile(r"^[ \t]*(?:[-*•]|\d{1,5}[.)])", re.MULTILINE)
_TEXT_END: Final = re.compile(r'(?<!\\)"\s*\}?,')  # of JSON on one line
_COUNTED_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*+"\s*(?:[,\]]|\Z)')
_OTHER_LIST: Final = re.compile(r"\s*(?:[\[{|]|<[uo]l)")
_TABLE_RULE: Final = re.compile(r"[ \t]*\|?[ \t]*:?-")
_FENCE: Final = re.compile(r"[ \t]*(?:```|~~~|[-*•] ?```\w*\s*$)")
_QUOTE: Final = re.compile(r"[ \t]*>(?!>)[ \t]?(?:>[ \t]?)*+")
_LEADING: Final = re.compile(r"[\s\d*#>.):(\-．（）：＊＃－＞]{0,12}")  # where a mark can be
_SOURCES: Final = re.compile(
    r"[#*_\s]*(?:sources|references|citations|bibliography|quellen|références|fuentes|fonti|参考文献|参考资料)[*_:：\s]*",
    re.IGNORECASE,
)
_DEFINITION: Final = re.compile(r"(?<=\S)\n:[ \t]+(?=\S)")
_CLOSE_STAR: Final = re.compile(r"^([ \t]*\*)(?=[^\s*][^*\n]*$)", re.MULTILINE)
_ESCAPED_MARK: Final = re.compile(r"\A(\s{0,40}(?:\*\*)?(?:\d{1,3})?)\\([-*+#•.)])")
_MARK_ENTITY: Final = re.compile(r"&(?:bull|middot|[nm]dash|nbsp|#\d{2,5}|#x[\da-f]{2,5});", re.IGNORECASE)
_FULL_WIDTH: Final = str.maketrans("０１２３４５６７８９．）（：＊＃－＞", "0123456789.)(:*#->")
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
_SENTENCE_END: Final = re.compile(r"[.!?][\"”’']?\s+(?=[\"“‘']?(\w))|(?<=[。！？])")
_ABBREVIATION: Final = re.compile(r"(?:^|[\s(.])(?:[^\W\d_]|St|Mt|Dr|Mr|Mrs|Ms|No|approx|ca|cf|vs)\.\s+$")


@dataclass(frozen=True, slots=True)
class Parsed:
    """The result of parsing an answer.

    descriptors  in order, without duplicates
    cut          the last one of an answer that was cut off; it is not among the descriptors
    problem      why there are none, in words for the user; the model's own if it refuses
    refused      whether the model refuses, so that asking again is pointless
    left_out     how many were dropped beyond the maximum
    """

    descriptors: tuple[str, ...]
    cut: str | None = None
    problem: str | None = None
    refused: bool = False
    left_out: int = 0


@lru_cache(maxsize=64)  # a run parses each answer twice: to see whether it is empty, and for its line
def parse(answer: str, *, style: str = "bullets", finish_reason: str | None = None) -> Parsed:
    """Parse the descriptors in an answer; if it was cut off, the last one is dropped."""
    spoken_text = without_thinking(_LINE_ENDS.sub("\n", answer))
    if spoken_text is None:
        return Parsed((), problem=STILL_THINKING)
    if finish_reason in _INCOMPLETE:
        return Parsed((), problem=_INCOMPLETE[finish_reason])
    text = _OWN_QUESTION.sub("", spoken_text, count=1)
    text = _NEXT_TURN.split("\n" + text, maxsplit=1)[0].removeprefix("\n")
    text, unread = text[:_MAX_READ], text[_MAX_READ:]
    if unread:  # the entry cut by the limit is counted with those beyond it
        end = text.rfind("\n") + 1 or max((match.end() for match in _TEXT_END.finditer(text)), default=0)
        text, unread = (text[:end], text[end:] + unread) if end else (text, unread)
    if finish_reason == REFUSAL or is_refusal(text, _before_list(text)):
        words = _shortened(text.strip(DASHES + " \n"))
        return Parsed((), problem=f"refused: {words}", refused=True)
    listed, is_open, is_cut = _sentences(text) if style == "sentences" else _listed(text)
    texts = list(dict.fromkeys(listed))
    is_cut = is_open and (is_cut or finish_reason in _CUT_OFF)
    cut = listed[-1] if texts and is_cut else None
    if cut is not None and listed.count(cut) == 1:
        texts.remove(cut)
    descriptors = distinct(filter(None, map(_descriptor, texts[:_MAX_TEXTS])))
    beyond = max(0, len(texts) - _MAX_TEXTS) + _entries(unread)
    return Parsed(
        descriptors[:MAX_DESCRIPTORS],
        cut=(clean(cut[:MAX_DESCRIPTOR]) or None) if cut else None,
        problem=None if descriptors else _problem(text, finish_reason),
        left_out=max(0, len(descriptors) - MAX_DESCRIPTORS) + beyond,
    )


def attach(forced: str, text: str) -> tuple[str, bool]:
    """Return an answer with the forced bullet mark before it, and whether it continues from that mark.

    A model may repeat or ignore the mark; its answer then stays as it is. Thinking that comes before the
    continuation stays before the mark.
    """
    aloud = without_thinking(text) or ""
    if not forced or _begins_anew(aloud):
        return text, not forced
    if aloud.strip() and text.endswith(aloud) and len(aloud) < len(text):
        return text.removesuffix(aloud) + forced + aloud.lstrip("\n"), True
    return forced + text, True


def _begins_anew(aloud: str) -> bool:
    """Whether an answer starts over instead of continuing after a forced bullet mark."""
    start = aloud.lstrip()
    lines = [_plain_line(line) for line in start[: 4 * MAX_DESCRIPTOR].split("\n")]
    first, *below = lines
    if start.startswith(
        (
            "```",
            "~~~",
            "<ul",
            "<ol",
            "<li",
            "<table",
            "<dl",
            "<p>",
            "|",
            "#",
            "<html",
            "<!",
            "\\begin{",
            "\\item",
        )
    ):
        return True
    if first.rstrip(" \t*_").endswith((":", "：")) or OPENER.match(first) or _json_texts(start) is not None:
        return True
    below = [line for line in below if line.strip()]
    if "|" in first and below and _TABLE_RULE.match(below[0]):
        return True
    if _CLOSE_STAR.match(start) and len(_CLOSE_STAR.findall(start[: 4 * MAX_DESCRIPTOR])) > 1:
        return True
    items = marks([first, *below])
    several = [mark for mark in marks(list(split_marks(first))) if mark is not None]
    return items[0] is not None or len(several) > 1 or _begins_as_preamble(lines)


def _begins_as_preamble(lines: Sequence[str]) -> bool:
    """Whether an answer's first line is above its list or in place of one, rather than part of it."""
    first, *below = lines
    items = [mark for mark in marks(below) if mark is not None]
    if begins_bold(first):  # a title above plain items, or the first of several bold lines
        if items:
            return is_bold(first) and not begins_bold(items[0].text)
        return any(map(begins_bold, below))
    if not items:  # prose, a question
        sentences = list(_split_sentences(first))
        is_long = first.endswith(LAST_STOPS) and first[:1].isupper() and len(first.split()) >= 8
        return first.endswith("?") or len(sentences) > 1 or is_long
    if first.endswith(LAST_STOPS) and not items[0].text.endswith(LAST_STOPS):
        return len(first.split()) > 4 or WORDLESS.match(first) is not None
    return any(  # another plain line above marked ones, so the first is a heading, too
        blank == ""
        and heading[:1].strip()
        and certain_mark(heading) is None
        and certain_mark(entry) is not None
        for blank, heading, entry in zip(below, below[1:], below[2:], strict=False)
    )


def clean(text: str) -> str:
    """Return a descriptor without markup, outer quotes, trailing punctuation and control characters."""
    before = None
    while text != before:
        before, text = text, _unquoted(plain(text).rstrip(_TRAILING).strip())
    return text


def distinct(descriptors: Iterable[str]) -> tuple[str, ...]:
    """Return descriptors without those that repeat an earlier one, ignoring case and punctuation."""
    first: dict[str, str] = {}
    for descriptor in descriptors:
        first.setdefault(comparable(descriptor), descriptor)
    return tuple(first.values())


def _descriptor(text: str) -> str:
    """Return a listed text as a descriptor, or "" if it is a heading, a question, too long or wordless."""
    if len(text) > MAX_DESCRIPTOR or is_heading(text) or text.endswith(("?", "？", "؟")):
        return ""
    text = clean(text)
    return text if any(map(str.isalpha, text)) else ""


def _entries(unread: str) -> int:
    """Return how many entries the rest of a list has: lines with a mark, or JSON objects or strings."""
    if not unread.lstrip().startswith(('"', "{")):
        return len(_COUNTED.findall(unread))
    objects = unread.count("}")
    return objects if objects > 1 else len(_COUNTED_TEXT.findall(unread))


def _before_list(text: str) -> str | None:
    """Return the text above an answer's first marked line after line one, or None if there is none."""
    at = text.find("\n")
    for line in islice(text[at + 1 :].split("\n", 200), 200) if at >= 0 else ():
        if certain_mark(line) is not None or _OTHER_LIST.match(line):
            return text[:at]
        at += len(line) + 1
    return None


def _problem(text: str, finish_reason: str | None) -> str:
    """Return why an answer has no descriptor."""
    if finish_reason == "content_filter":
        return "no descriptor: the provider's content filter ended the answer"
    if finish_reason in _LENGTH:
        cut = "no descriptor in the answer, which --max-tokens cut off"
        return f"{cut}: raise --max-tokens, or try another --prompt"
    words = _shortened(text.strip().removeprefix("-"))
    return f"no descriptor in the answer: {words!r}" if words else "the answer is empty"


def _shortened(text: str) -> str:
    words = plain(text[: 4 * MAX_REASON])
    return words if len(words) <= MAX_REASON else words[: MAX_REASON - 1].rstrip() + "…"


def _listed(text: str) -> tuple[list[str], bool, bool]:
    """Return a list's texts, whether the last may be incomplete, and whether it certainly is."""
    if (json_texts := _json_texts(text)) is not None:
        return json_texts
    lines = _lines(text)
    end = next((at for at, line in enumerate(lines) if at and _SOURCES.fullmatch(line)), len(lines))
    lines = lines[:end]
    items, is_open = marked_items(lines)
    if len(items) == 1 and is_plain_list(lines):  # a forced mark, and plain lines below it
        items, is_open = short_items([lines[0].lstrip(f"{DASHES} "), *lines[1:]])
    if not items:
        items, is_open = bold_items(lines)
    if not items:
        items, is_open = short_items(lines)
    alone = [items[0].text] if items and len(lines) == 1 else lines
    if len(items) < 2 and (inline := inline_items(alone))[0]:
        items, is_open = inline
    return texts_of([item for item in items if not item.is_heading]), is_open, False


def _json_texts(text: str) -> tuple[list[str], bool, bool] | None:
    """Return the same as `_listed` for JSON, or None if the answer has none."""
    return json_texts(text) if _BRACKET.search(text) else None


def _lines(text: str) -> list[str]:
    """Return an answer's lines, splitting up tables, HTML, quotations and lines with several marks."""
    if "\n" not in text.strip():
        text = re.sub(r"\\r?\\n|\\n", "\n", text)  # line ends written as two characters
    else:
        text = re.sub(r"\\n(?=\s{0,9}(?:[-*•]|\d{1,2}[.)]|\\n|$))", "\n", text, flags=re.MULTILINE)
    if "&lt;li" in text or "&lt;tr" in text:
        text = html.unescape(text)
    text = _MARK_ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    text = _DEFINITION.sub(": ", text)
    text = lines_of_latex(text) if "\\" in text else text
    if len(_CLOSE_STAR.findall(text)) > 1:
        text = _CLOSE_STAR.sub(r"\1 ", text)
    text = _BLANK_LINES.sub("\n\n", lines_of_html(text) if "<" in text else text)
    lines = [_plain_line(line) for line in text.split("\n") if not _FENCE.match(line)]
    alone = sum(1 for line in islice(filter(str.strip, lines), 2)) == 1
    rows = lines_of_tables(lines) if "|" in text else lines
    return [part for line in rows for part in split_marks(line, alone=alone)]


def _plain_line(line: str) -> str:
    """Return a line without the ">" of a quotation, and with full-width characters at its start narrowed."""
    end = leading.end() if (leading := _LEADING.match(line)) else 0
    line = line[:end].translate(_FULL_WIDTH) + line[end:]
    line = _QUOTE.sub("", line, count=1) if line.lstrip().startswith(">") else line
    return _ESCAPED_MARK.sub(r"\1\2", line)


def _sentences(text: str) -> tuple[list[str], bool, bool]:
    """Like `_listed`, with each sentence as a descriptor; the last may be incomplete if it has no end."""
    sentences: list[str] = []
    for line in map(_plain_line, text.split("\n")):
        mark = certain_mark(line)
        content = mark.text if mark else line.strip()
        if content and not (
            _FENCE.match(line) or is_heading(content) or RULE.fullmatch(line) or content[0] == "#"
        ):
            sentences += _split_sentences(content)
    return sentences, bool(sentences) and not sentences[-1].endswith(ENDS), False


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
    """Return a text without quotes around the whole of it."""
    if len(text) < 2 or text[-1] not in _QUOTES.get(text[0], ""):
        return text
    inside = text[1:-1]
    return text if text[0] in inside or text[-1] in inside else inside.strip()
