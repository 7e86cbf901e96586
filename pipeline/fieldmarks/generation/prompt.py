"""Prompt templates: plain text files with placeholders and an optional header.

A prompt file is the text to send, with `{class}` and optionally `{article}` (a or an), `{concept}` and
`{other}`. Trailing whitespace is not sent. A header may come first, between two `---` lines:

    ---
    name: two-shot
    style: bullets
    stop: ["\n\n", "\nQ:"]
    ---
    Q: What are useful features for distinguishing {article} {class} in a photo?
    A: There are several useful visual features to tell there is {article} {class} in a photo:
    -

`style` is bullets (each line is a descriptor) or sentences. A last line that is a bare bullet mark forces a
list: it is sent as the beginning of the answer. Lines that begin with `Q:` and `A:` are the turns of a chat.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Self

from fieldmarks.errors import PromptError
from fieldmarks.paths import read_text, shipped
from fieldmarks.text import article, fill

BULLETS: Final = "bullets"
SENTENCES: Final = "sentences"
STYLES: Final = (BULLETS, SENTENCES)
DEFAULT_STOP: Final = ("\n\n", "\nQ:")
PLACEHOLDERS: Final = ("class", "article", "concept", "other")
MAX_BYTES: Final = 100_000  # a prompt file larger than this is not a prompt

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_]+)\}")
_FORCED: Final = re.compile(r"(?:^|\n)([-–•*]|1[.)])$")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt template with its parse style and the strings at which an answer ends."""

    name: str
    text: str
    style: str = BULLETS
    stop: tuple[str, ...] = DEFAULT_STOP

    @classmethod
    def load(cls, name_or_file: str | Path) -> Self:
        """Read a shipped prompt by its name, or a file by its path. Raises PromptError."""
        path = Path(name_or_file)
        if _is_name(str(name_or_file)):
            path = shipped("prompts") / f"{name_or_file}.txt"
        if not os.access(path, os.F_OK):  # unlike exists(), this accepts a name that is too long
            names = ", ".join(shipped_names())
            raise PromptError(f"unknown prompt {str(name_or_file)!r:.200}: pass a file, or one of {names}")
        return cls.parse(read_text(path, MAX_BYTES, PromptError), str(path), path.stem)

    @classmethod
    def parse(cls, text: str, source: str, name: str) -> Self:
        """Parse a prompt file; `source` names it in errors, `name` applies if its header has none."""
        header, body = _split(text.replace("\r\n", "\n"), source)
        style = header.get("style", BULLETS)
        if style not in STYLES:
            raise PromptError(f"{source}: style {style!r} is unknown: write {' or '.join(STYLES)}")
        if unknown := next((key for key in _PLACEHOLDER.findall(body) if key not in PLACEHOLDERS), None):
            known = ", ".join(f"{{{key}}}" for key in PLACEHOLDERS)
            raise PromptError(f"{source}: placeholder {{{unknown}}} is unknown: expected {known}")
        if "{class}" not in body:
            raise PromptError(f"{source}: {{class}} does not occur: put it where the class name goes")
        stop = _stop(header["stop"], source) if "stop" in header else DEFAULT_STOP
        return cls(header.get("name", name), body.rstrip(), style, stop)

    def render(self, name: str, **values: str | None) -> str:
        """Return the text to send for a class; `concept` and `other` fill their placeholders.

        Filled in one pass, so braces in a name stay as they are. Raises PromptError for a missing value.
        """
        filled = {"class": name} | {key: text for key, text in values.items() if text}
        wanted = _placeholders(self.text)
        if "article" in wanted:
            filled["article"] = article(name)
        if missing := next((key for key in wanted if key not in filled), None):
            raise PromptError(f"prompt {self.name!r} has {{{missing}}}, and no {missing} is given")
        return fill(self.text, filled)


@cache
def _placeholders(text: str) -> tuple[str, ...]:
    return tuple(_PLACEHOLDER.findall(text))


def shipped_names() -> list[str]:
    """Return the names of the prompts that ship with the package."""
    return sorted(path.stem for path in shipped("prompts").glob("*.txt"))


def forced_beginning(rendered: str) -> str:
    """Return the bullet mark with which a rendered prompt forces the list, or an empty string."""
    match = _FORCED.search(rendered)
    return match[1] if match else ""


def turns(rendered: str) -> list[tuple[str, str]]:
    """Split a rendered prompt into a chat's (role, text) turns; the last is the answer's beginning.

    Without `Q:` and `A:` lines, all text is the user's turn, and a forced bullet mark the answer's beginning.
    """
    chat = list(_turns(rendered))
    if not chat or chat[0][0] != "user":
        mark = forced_beginning(rendered)
        chat = [("user", rendered.removesuffix(mark).rstrip()), ("assistant", mark)]
    if chat[-1][0] == "user":
        chat.append(("assistant", ""))
    return chat


def _is_name(text: str) -> bool:
    """Whether a text names a shipped prompt rather than a file; a folder of that name does not count."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,200}", text) is not None and not Path(text).is_file()


def _split(text: str, source: str) -> tuple[dict[str, str], str]:
    if not text.startswith("---\n"):
        return {}, text
    head, closing, body = text[4:].partition("\n---\n")
    if not closing:
        raise PromptError(f"{source}: the header has no end: close it with a line of ---")
    header: dict[str, str] = {}
    for line in filter(str.strip, head.split("\n")):
        key, colon, value = line.partition(":")
        if not colon or key.strip() not in ("name", "style", "stop"):
            raise PromptError(f"{source}: header line {line!r:.80} is unknown: expected name, style or stop")
        header[key.strip()] = value.strip()
    return header, body


def _stop(value: str, source: str) -> tuple[str, ...]:
    try:
        stop = json.loads(value)
        json.dumps(stop, ensure_ascii=False).encode()  # a lone surrogate could not be sent
    except (ValueError, RecursionError):
        stop = None
    if (
        not isinstance(stop, list)
        or not all(isinstance(text, str) and text for text in stop)
        or len(stop) > 4
    ):
        raise PromptError(
            f'{source}: stop: expected a JSON list of at most 4 strings, like ["\\n\\n", "\\nQ:"]'
        )
    return tuple(stop)


def _turns(rendered: str) -> Iterator[tuple[str, str]]:
    roles = {"Q": "user", "A": "assistant"}
    parts = re.split(r"(?:^|\n)([QA]):[ \t]*", rendered)
    for mark, text in zip(parts[1::2], parts[2::2], strict=True):
        yield roles[mark], text.strip()
