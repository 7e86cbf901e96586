"""From a language model's answer to descriptors: bullets of every kind, or one sentence a line.

An answer is read line by line. A line with a bullet mark is a descriptor, unless it ends with a colon (a
heading). A line without one goes on with the bullet above it if it is indented or does not begin like a new
sentence; else it is a preamble or an afterword and is left out. Thinking blocks, code fences and everything
from a new "Q:" on are left out. Nothing here knows a server or a prompt.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fieldmarks.store.curate import comparable

MAX_DESCRIPTOR: Final = 1000  # characters; longer is a text, not a descriptor

_LINE_ENDS: Final = re.compile(r"\r\n|[\r\v\f\x85\u2028\u2029]")
_THINKING: Final = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT: Final = re.compile(
    r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE
)  # begun in the prompt
_NEXT_QUESTION: Final = re.compile(r"\n[ \t]*(?:\*\*)?Q:")
_MARKED: Final = re.compile(
    r"""(?P<indent>[ \t]*)
    (?: [-–—−‐‑•‣▪▫●○◦■□▸►➢➤✓✔·・※][ \t]*
      | [*+＊](?:[ \t]+|$)
      | \(?(?:\d{1,3}|[A-Za-z])\)[ \t]*
      | \d{1,3}[.．、][ \t]+ | \d{1,3}[.．、](?=[^\W\d]|$) | [A-Za-z]\.[ \t]+(?=\S)
      | [①-⑳][ \t]*
    )+(?:\[[ xX]\][ \t]+)?(?P<text>.*)""",
    re.VERBOSE,
)
_RULE: Final = re.compile(r"\s*+([-*_=`~])(?:\s*+\1){2,}+\s*+\w*+\s*+")  # never back: a line can be a MiB
_OPENER: Final = re.compile(
    r"(?:sure|certainly|of course|okay|ok|absolutely|great question)[,.!:]"
    r"|(?:here|below) (?:are|is)\b|here['’]s\b",
    re.IGNORECASE,
)
_BOLD: Final = re.compile(r"(\*\*\*|\*\*|__|`)(?=\S)(.+?)(?<=\S)\1")
_EMPHASIS: Final = re.compile(r"(?<![\w*_])([*_])(?=[^\s*_])([^*_]+?)(?<=\S)\1(?![\w*_])")
_LINK: Final = re.compile(r"\[([^\]\[]+)\]\([^()\s]*\)")
_TAG: Final = re.compile(r"</?(?:b|i|em|strong|br|p|li|ul|ol|span)\s*/?>", re.IGNORECASE)
_QUOTES: Final = {
    '"': '"',
    "'": "'",
    "“": "”",
    "‘": "’",
    "«": "»",
    "„": "“",
    "「": "」",
    "『": "』",
    "‹": "›",
}
_TRAILING: Final = " \t.,;:…。、，；：．"
_ENDS: Final = (".", "!", "?", "。", "！", "？", '"', "”")
_SENTENCE_END: Final = re.compile(r"[.!?][\"”’']?\s+(?=[\"“‘']?(\w))|(?<=[。！？])")
_ABBREVIATION: Final = re.compile(r"(?:^|[\s(.])(?:[^\W\d_]|St|Mt|Dr|Mr|Mrs|Ms|No|approx|ca|cf|vs)\.\s+$")
_INVISIBLE: Final = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0xFEFF, 0xFFFD])


@dataclass(frozen=True, slots=True)
class Parsed:
    """Descriptors in their order, without repeats; `cut` is the last one of an answer that was cut off."""

    descriptors: tuple[str, ...]
    cut: str | None = None


@lru_cache(maxsize=64)  # a run parses each answer twice: to see whether it is empty, and for its line
def parse(answer: str, *, style: str = "bullets", finish_reason: str | None = None) -> Parsed:
    """Read the descriptors out of an answer; where it ended for its "length" the last is cut."""
    text = without_thinking(_LINE_ENDS.sub("\n", answer))
    lines = _NEXT_QUESTION.split("\n" + text, maxsplit=1)[0].split("\n")
    found, last_open = _sentences(lines) if style == "sentences" else _bullets(lines)
    cut = found.pop() if found and last_open and finish_reason == "length" else None
    cleaned = (clean(one) for one in found if len(one) <= MAX_DESCRIPTOR and not _is_heading(one))
    return Parsed(distinct(one for one in cleaned if one), clean(cut[:MAX_DESCRIPTOR]) if cut else None)


def without_thinking(text: str) -> str:
    """Return an answer without what a thinking model wrote to itself."""
    return _THOUGHT.sub("", _THINKING.sub("", text))


def attach(forced: str, text: str) -> str:
    """Put the forced bullet mark back before a continuation, unless the model repeated or ignored it."""
    return text if not forced or prefix_ignored(text) else forced + text


def prefix_ignored(text: str) -> bool:
    """Whether an answer begins anew instead of going on after a forced bullet mark."""
    start = without_thinking(text).lstrip()
    first = start.split("\n", 1)[0].rstrip(" \t*_")
    return bool(_MARKED.match(start)) or first.endswith((":", "：")) or bool(_OPENER.match(start))


def clean(text: str) -> str:
    """Return a descriptor without markdown, outer quotes, trailing punctuation and control characters."""
    text = unicodedata.normalize("NFC", _TAG.sub(" ", _LINK.sub(r"\1", text))).translate(_INVISIBLE)
    text = _EMPHASIS.sub(r"\2", _BOLD.sub(r"\2", text))
    if not text.isprintable():
        text = "".join(c if unicodedata.category(c) != "Cc" else " " for c in text)
    text = " ".join(text.split())
    previous = None
    while text != previous:
        previous, text = text, _unquoted(text.rstrip(_TRAILING).strip())
    return text


def distinct(descriptors: Iterable[str]) -> tuple[str, ...]:
    """Return descriptors without those that an earlier one already says."""
    first: dict[str, str] = {}
    for one in descriptors:
        first.setdefault(comparable(one), one)
    return tuple(first.values())


def _bullets(lines: Iterable[str]) -> tuple[list[str], bool]:
    """Return the texts of the bullets, and whether the last of them reaches to the end of the answer."""
    found: list[list[str]] = []
    is_open = False
    for line in lines:
        match = _MARKED.fullmatch(line)
        if match and not _is_rule(line):
            found.append([match["text"].strip()])
            is_open = True
        elif is_open and (_goes_on(line) or (line.strip() and found[-1] == [""])):
            found[-1].append(line.strip())
        else:
            is_open = False
    return [" ".join(filter(None, parts)) for parts in found], is_open


def _sentences(lines: Iterable[str]) -> tuple[list[str], bool]:
    """Return the sentences, and whether the last of them has no end."""
    found: list[str] = []
    for line in lines:
        match = _MARKED.fullmatch(line)
        text = (match["text"] if match else line).strip()
        if text and not _is_heading(text) and not _is_rule(line) and not text.startswith("#"):
            found += _split_sentences(text)
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


def _is_heading(text: str) -> bool:
    plain = text.rstrip(" \t*_`")
    return plain.endswith((":", "：")) or bool(_OPENER.match(text.lstrip("*_ ")) and ":" in text)


def _is_rule(line: str) -> bool:
    return _RULE.fullmatch(line) is not None


def _goes_on(line: str) -> bool:
    text = line.strip()
    if not text or _is_rule(line) or _is_heading(text) or text.startswith(("#", "```", "<", "|")):
        return False
    return line[0] in " \t" or not text.lstrip("*_\"'“").lstrip()[:1].isupper()


def _unquoted(text: str) -> str:
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        return text[1:-1].strip()
    return text
