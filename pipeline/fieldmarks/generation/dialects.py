"""How a list is forced from each kind of server: the body to send, the text to take from the reply. Pure.

completions  the raw prompt, which ends in the bullet mark
continue     a chat whose last message is the answer's beginning, with the flags of vLLM, SGLang and TGI
prefix       the same, with the flag of Mistral and DeepSeek
trailing     the same, without a flag: llama.cpp, Ollama, some of Anthropic's models
instruct     nothing is forced; the question asks for "- " bullets
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from fieldmarks.debris import thinks
from fieldmarks.generation.parse import REFUSAL, attach
from fieldmarks.generation.prompt import SENTENCES, forced_beginning, turns
from fieldmarks.generation.request import Completion, Request, Usage

COMPLETIONS: Final = "completions"
CONTINUE: Final = "continue"
PREFIX: Final = "prefix"
TRAILING: Final = "trailing"
INSTRUCT: Final = "instruct"
MODES: Final = (COMPLETIONS, CONTINUE, PREFIX, TRAILING, INSTRUCT)
ASK_FOR_BULLETS: Final = (
    'Answer with a list of short descriptors and nothing else, one a line, each beginning with "- ".'
)

_CAN_LEAVE_OUT: Final = ("temperature", "seed", "stop", "stream_options")


@dataclass(frozen=True, slots=True)
class Quirks:
    """What a server wants otherwise than most do, learned from its refusals."""

    completion_tokens: bool = False  # `max_completion_tokens` instead of `max_tokens`
    no_thinking: bool = False  # a continued message only with thinking switched off
    stream: bool = False  # only replies that are streamed
    left_out: tuple[str, ...] = ()  # parameters it refuses


USUAL: Final = Quirks()


class BadReply(ValueError):
    """A reply has not the form of a completion."""


def path(mode: str) -> str:
    """Return the path to post to, below the base URL."""
    return "/completions" if mode == COMPLETIONS else "/chat/completions"


def body(mode: str, model: str, request: Request, quirks: Quirks = USUAL) -> dict[str, Any]:
    """Return the JSON object to post."""
    fields: dict[str, Any] = {"model": model}
    fields["max_completion_tokens" if quirks.completion_tokens else "max_tokens"] = request.max_tokens
    fields |= {"temperature": request.temperature, "stop": list(_stop(mode, request))}
    if request.seed is not None:
        fields["seed"] = request.seed
    if not fields["stop"]:
        del fields["stop"]
    if quirks.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    for key in quirks.left_out:
        fields.pop(key, None)
    if mode == COMPLETIONS:
        return fields | {"prompt": request.prompt}
    if quirks.no_thinking:
        fields["chat_template_kwargs"] = {"enable_thinking": False}
    if mode == CONTINUE:
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    return fields | {"messages": messages(mode, request)}


def messages(mode: str, request: Request) -> list[dict[str, Any]]:
    """Return a request's chat; the answer's beginning stands last where the mode forces it."""
    chat: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns(request.prompt)]
    beginning = chat.pop()
    if mode == INSTRUCT:
        if request.style != SENTENCES:
            chat[-1]["content"] += "\n" + ASK_FOR_BULLETS
    elif beginning["content"]:
        chat.append(beginning | ({"prefix": True} if mode == PREFIX else {}))
    return chat


def completion(mode: str, request: Request, reply: Any) -> Completion:
    """Read a server's reply.

    An answer may be empty: its finish reason says why, as where a model spends all tokens on thinking. The
    finish reason REFUSAL is put for a text that stands in the reply's own field for refusals. Raises BadReply
    for what is no completion, and for an answer that ended in the provider's error.
    """
    choice = _choice(reply)
    message = _object(choice.get("message"))
    usage = usage_of(reply.get("usage"))
    finish_reason = choice.get("finish_reason")
    if finish_reason == "error":
        said = _object(choice.get("error")).get("message") or "no reason given"
        raise BadReply(f"the provider ended the answer with an error: {said!s:.200}")
    text, refusal = _text(mode, choice, message)
    reasoned = _reasoned(message, reply.get("usage"))
    if text is None and not (refusal or reasoned or finish_reason):
        raise BadReply("the reply has no text")
    if refusal and not text:
        text, finish_reason = refusal, REFUSAL
    whole, continued = _whole(mode, request, text) if text else ("", False)
    return Completion(
        text=whole,
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        usage=usage,
        mode=mode,
        continued=continued,
        thinking=reasoned or thinks(text or ""),
    )


def adapted(quirks: Quirks, sent: Mapping[str, Any], refusal: str) -> Quirks | None:
    """Return the quirks with which to send a refused body again, or None if the refusal names none."""
    refusal = refusal.lower()
    if "max_tokens" in sent and "max_completion_tokens" in refusal:
        return replace(quirks, completion_tokens=True)
    if "thinking" in refusal and not quirks.no_thinking and "messages" in sent:
        return replace(quirks, no_thinking=True)
    if re.search(r"\bstream", refusal) and not quirks.stream:
        return replace(quirks, stream=True)
    for key in _CAN_LEAVE_OUT:
        if key in sent and re.search(rf"\b{key}\b", refusal):
            return replace(quirks, left_out=(*quirks.left_out, key))
    return None


def _stop(mode: str, request: Request) -> tuple[str, ...]:
    """A chat model may put a blank line before its list, so only a raw completion ends there."""
    return tuple(stop for stop in request.stop if mode == COMPLETIONS or stop.strip())


def _whole(mode: str, request: Request, text: str) -> tuple[str, bool]:
    """Return the answer with its forced mark, and whether it goes on where the forced beginning ends."""
    forced = forced_beginning(request.prompt)
    if mode == INSTRUCT or not forced:
        return text, mode != INSTRUCT
    beginning = request.prompt if mode == COMPLETIONS else turns(request.prompt)[-1][1]
    if beginning != forced and text.startswith(beginning):
        return forced + text.removeprefix(beginning), True
    return attach(forced, text)


def _choice(reply: Any) -> Mapping[str, Any]:
    """Return a reply's choice; some servers send none while a model still thinks, and count its tokens."""
    choices = _object(reply).get("choices")
    if choices == [] and (usage := usage_of(reply.get("usage"))) is not None and usage.completion_tokens:
        return {"finish_reason": "length", "message": {"reasoning": "not shown"}}
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadReply("the reply has no choice with a text")
    return choices[0]


def _text(mode: str, choice: Mapping[str, Any], message: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the text of an answer and that of a refusal, each None where there is none."""
    text = choice.get("text") if mode == COMPLETIONS else None
    content = message.get("content") if text is None else text
    refusal = message.get("refusal")
    if isinstance(content, list):  # parts: texts, thoughts, refusals
        parts = [part if isinstance(part, dict) else {"text": part} for part in content]
        refusal = next((part["refusal"] for part in parts if part.get("type") == "refusal"), refusal)
        texts = [part.get("text") for part in parts if part.get("type") in {None, "text", "output_text"}]
        content = "".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str | None):
        raise BadReply("the reply's text is not a text")
    return content, refusal if isinstance(refusal, str) else None


def _reasoned(message: Mapping[str, Any], usage: Any) -> bool:
    """Whether a model thought in fields of the reply that hold nothing else."""
    content = message.get("content")
    parts = list(map(_object, content)) if isinstance(content, list) else []
    counted = _object(_object(usage).get("completion_tokens_details")).get("reasoning_tokens")
    thought = message.get("reasoning_content") or message.get("reasoning") or message.get("reasoning_details")
    return bool(thought or counted or any(part.get("thinking") or part.get("reasoning") for part in parts))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def usage_of(usage: Any) -> Usage | None:
    """Return the tokens that a reply states, or None for what is no usage."""
    if not isinstance(usage, dict):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens", 0)]
    if not all(isinstance(one, int) and 0 <= one < 1 << 40 for one in counts):
        return None
    return Usage(counts[0] or 0, counts[1] or 0)
