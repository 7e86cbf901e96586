"""Server dialects: how to send each a prefilled reply, and the probe that finds which mode works.

completions  the raw prompt, which ends in the bullet mark
continue     a chat whose last message is the answer's beginning, with the flags of vLLM, SGLang and TGI
prefix       the same, with the flag of Mistral and DeepSeek
trailing     the same, without a flag: llama.cpp, Ollama, some of Anthropic's models
instruct     nothing is prefilled; the question asks for "- " bullets

Tiny requests find out once which of these a model really continues; the result is kept in the user's cache
folder. Apart from that cache, nothing here has side effects.
"""

import hashlib
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from fieldmarks.debris import has_thinking, without_thinking
from fieldmarks.errors import EndpointError
from fieldmarks.generation.failures import OutOfCredit, Refused, Transient
from fieldmarks.generation.parse import REFUSAL, attach
from fieldmarks.generation.prompt import SENTENCES, Prompt, turns
from fieldmarks.generation.question import Question, Sample, Usage
from fieldmarks.paths import make_private, user_cache

COMPLETIONS: Final = "completions"
CONTINUE: Final = "continue"
PREFIX: Final = "prefix"
TRAILING: Final = "trailing"
INSTRUCT: Final = "instruct"
MODES: Final = (COMPLETIONS, CONTINUE, PREFIX, TRAILING, INSTRUCT)
ASK_FOR_BULLETS: Final = (
    'Answer with a list of short descriptors and nothing else, one a line, each beginning with "- ".'
)

PROBED_CLASS: Final = "tree frog"
PROBE_TOKENS: Final = 24  # enough to see how an answer begins
ABOUT_THE_MODE: Final = frozenset({400, 403, 404, 405, 413, 415, 422})  # another mode may still be accepted

_CAN_LEAVE_OUT: Final = ("temperature", "seed", "stop", "stream_options")


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a server differs from most, learned from the requests that it rejects."""

    completion_tokens: bool = False  # `max_completion_tokens` instead of `max_tokens`
    no_thinking: bool = False  # continues messages only with thinking switched off
    stream: bool = False  # replies only as a stream
    left_out: tuple[str, ...] = ()  # parameters it refuses


USUAL: Final = Quirks()


class BadReply(ValueError):
    """A reply does not have the form of a completion."""


def path(mode: str) -> str:
    """Return the path to post to, below the base URL."""
    return "/completions" if mode == COMPLETIONS else "/chat/completions"


def body(mode: str, model: str, question: Question, quirks: Quirks = USUAL) -> dict[str, Any]:
    """Return the JSON object to post."""
    fields: dict[str, Any] = {"model": model}
    fields["max_completion_tokens" if quirks.completion_tokens else "max_tokens"] = question.max_tokens
    fields |= {"temperature": question.temperature, "stop": list(_stop(mode, question))}
    if question.seed is not None:
        fields["seed"] = question.seed
    if not fields["stop"]:
        del fields["stop"]
    if quirks.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    for key in quirks.left_out:
        fields.pop(key, None)
    if mode == COMPLETIONS:
        return fields | {"prompt": question.prompt}
    if quirks.no_thinking:
        fields["chat_template_kwargs"] = {"enable_thinking": False}
    if mode == CONTINUE:
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    return fields | {"messages": messages(mode, question)}


def messages(mode: str, question: Question) -> list[dict[str, Any]]:
    """Return a question's chat; it ends with the answer's beginning if the mode prefills it."""
    chat: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns(question.prompt)]
    beginning = chat.pop()
    if mode == INSTRUCT:
        if question.style != SENTENCES:
            chat[-1]["content"] += "\n" + ASK_FOR_BULLETS
    elif beginning["content"]:
        chat.append(beginning | ({"prefix": True} if mode == PREFIX else {}))
    return chat


def completion(mode: str, question: Question, reply: Any) -> Sample:
    """Read a server's reply.

    An answer may be empty, and its finish reason says why: the model may have spent all tokens on thinking. A
    text from the reply's field for refusals gets the finish reason REFUSAL. Raises BadReply if the reply is
    not a completion, or if the provider ended the answer with an error.
    """
    choice = _choice(reply)
    message = _object(choice.get("message"))
    usage = usage_of(reply.get("usage"))
    finish_reason = choice.get("finish_reason")
    if finish_reason == "error":
        reason = _object(choice.get("error")).get("message") or "no reason given"
        raise BadReply(f"the provider ended the answer with an error: {reason!s:.200}")
    text, refusal = _text(mode, choice, message)
    reasoned = _reasoned(message, reply.get("usage"))
    if text is None and not (refusal or reasoned or finish_reason):
        raise BadReply("the reply has no text")
    if refusal and not text:
        text, finish_reason = refusal, REFUSAL
    whole, continued = _whole(mode, question, text) if text else ("", False)
    return question.answered(
        whole,
        finish_reason if isinstance(finish_reason, str) else None,
        usage,
        mode,
        continued=continued,
        thinking=reasoned or has_thinking(text or ""),
    )


def adapted(quirks: Quirks, sent: Mapping[str, Any], refusal: str) -> Quirks | None:
    """Return the quirks with which to resend a refused body, or None if the refusal names none."""
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


def _stop(mode: str, question: Question) -> tuple[str, ...]:
    """Return the stop strings, blank ones only for raw completions: a chat's list may follow a blank line."""
    return tuple(stop for stop in question.stop if mode == COMPLETIONS or stop.strip())


def _whole(mode: str, question: Question, text: str) -> tuple[str, bool]:
    """Return the answer with its forced mark, and whether it continues the forced beginning."""
    forced = question.forced
    if mode == INSTRUCT or not forced:
        return text, mode != INSTRUCT
    beginning = question.prompt if mode == COMPLETIONS else turns(question.prompt)[-1][1]
    if beginning != forced and text.startswith(beginning):
        return forced + text.removeprefix(beginning), True
    return attach(forced, text)


def _choice(reply: Any) -> Mapping[str, Any]:
    """Return a reply's first choice; for a model still thinking, some servers send only a token count."""
    choices = _object(reply).get("choices")
    if choices == [] and (usage := usage_of(reply.get("usage"))) is not None and usage.completion_tokens:
        return {"finish_reason": "length", "message": {"reasoning": "not shown"}}
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadReply("the reply has no choice with a text")
    return choices[0]


def _text(mode: str, choice: Mapping[str, Any], message: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the text of the answer and of the refusal, each None if there is none."""
    text = choice.get("text") if mode == COMPLETIONS else None
    content = message.get("content") if text is None else text
    refusal = message.get("refusal")
    if isinstance(content, list):  # parts: texts, thoughts, refusals
        if not all(isinstance(part, str | dict) for part in content):
            raise BadReply("the reply's text is not a text")
        parts = [part if isinstance(part, dict) else {"text": part} for part in content]
        refusal = next((part["refusal"] for part in parts if part.get("type") == "refusal"), refusal)
        texts = [part.get("text") for part in parts if part.get("type") in {None, "text", "output_text"}]
        content = "".join(text for text in texts if isinstance(text, str))
    if not isinstance(content, str | None):
        raise BadReply("the reply's text is not a text")
    return content, refusal if isinstance(refusal, str) else None


def _reasoned(message: Mapping[str, Any], usage: Any) -> bool:
    """Whether the reply's own fields for reasoning show that the model thought."""
    content = message.get("content")
    parts = list(map(_object, content)) if isinstance(content, list) else []
    counted = _object(_object(usage).get("completion_tokens_details")).get("reasoning_tokens")
    thought = message.get("reasoning_content") or message.get("reasoning") or message.get("reasoning_details")
    return bool(thought or counted or any(part.get("thinking") or part.get("reasoning") for part in parts))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def usage_of(usage: Any) -> Usage | None:
    """Return the token usage that a reply reports, or None if it is malformed."""
    if not isinstance(usage, dict):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens", 0)]
    if not all(isinstance(count, int) and 0 <= count < 1 << 40 for count in counts):
        return None
    return Usage(counts[0] or 0, counts[1] or 0)


Send = Callable[[str, Question], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Probe:
    """The result for one mode: whether the model answers, continues the prefilled mark, thinks first."""

    mode: str
    answers: bool
    continues: bool = False
    thinks: bool = False
    note: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class EndpointProfile:
    """How to talk to a model, as determined by probes."""

    mode: str
    quirks: Quirks = USUAL
    thinks: bool = False


async def probes(send: Send, shown: str) -> AsyncGenerator[Probe, None]:
    """Try the modes one by one, each with one tiny request.

    `shown` names the endpoint. Raises EndpointError if no mode can succeed.
    """
    prompt = Prompt.load("article")
    question = Question(PROBED_CLASS, prompt.render(PROBED_CLASS), prompt.stop, max_tokens=PROBE_TOKENS)
    for mode in MODES:
        try:
            answer = await send(mode, question)
        except Refused as error:
            if error.status not in ABOUT_THE_MODE:
                raise EndpointError(f"{shown}: {error.explained()}") from error
            yield Probe(mode, answers=False, note=str(error), advice=error.advice)
        except OutOfCredit as error:
            raise EndpointError(f"{shown}: {error.explained()}") from error
        except Transient as error:
            if error.status is None or error.status == 429:  # says nothing about the mode
                raise EndpointError(f"{shown}: {error.explained()}") from error
            yield Probe(mode, answers=False, note=str(error), advice=error.advice)
        else:
            spoken_text = without_thinking(answer.text)
            text = " ".join((spoken_text or "").split())
            continues = answer.continued and bool(text.lstrip("-"))
            unfinished = spoken_text is None or (answer.thinking and not text)
            note = f"still thinking after {PROBE_TOKENS} tokens" if unfinished else text[:60]
            yield Probe(mode, True, continues, answer.thinking, note)


async def find_mode(send: Send, shown: str) -> tuple[str, bool]:
    """Probe until the mode to use is clear; return it, and whether the model thinks before it answers.

    Raises EndpointError if the model answers in none.
    """
    results: list[Probe] = []
    async with aclosing(probes(send, shown)) as each:
        async for probe in each:
            results.append(probe)
            if _settled(results):
                break
    return choose(results, shown), any(probe.thinks for probe in results)


def choose(results: Sequence[Probe], shown: str) -> str:
    """Return the mode to use: the first that continues, else instruct, else any that answers.

    Any model continues a raw completion, but an instruct model answers best in its chat template. It has one
    if it continues a chat with the flags for that, and starts over without them.
    `shown` names the endpoint. Raises EndpointError if it answers in none.
    """
    answering = [probe.mode for probe in results if probe.answers]
    continuing = [probe.mode for probe in results if probe.continues]
    if CONTINUE in continuing and TRAILING in answering and TRAILING not in continuing:
        return CONTINUE
    if best := [*continuing, *(mode for mode in answering if mode == INSTRUCT), *answering]:
        return best[0]
    last = results[-1]
    advice = f": {last.advice}" if last.advice else ""
    raise EndpointError(f"{shown}: no mode works; the last one got {last.note}{advice}")


def _settled(results: Sequence[Probe]) -> bool:
    """Whether further probes could not change the choice."""
    last = results[-1].mode
    continuing = [probe.mode for probe in results if probe.continues]
    if COMPLETIONS in continuing and CONTINUE in continuing:
        return last == TRAILING
    return bool(continuing) and last != COMPLETIONS


def remembered(endpoint: str, model: str) -> EndpointProfile | None:
    """Return the profile of an earlier probe, or None."""
    try:
        known: Any = orjson.loads(_file(endpoint, model).read_bytes())
        quirks = known["quirks"]
        quirks["left_out"] = tuple(quirks["left_out"])
        profile = EndpointProfile(known["mode"], Quirks(**quirks), bool(known["thinks"]))
        return profile if profile.mode in MODES else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(endpoint: str, model: str, profile: EndpointProfile) -> None:
    """Save a profile in the user's cache folder; if that fails, the next run probes again."""
    path = _file(endpoint, model)
    fresh = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        make_private(user_cache())
        path.parent.mkdir(exist_ok=True)
        fresh.write_bytes(orjson.dumps({"endpoint": endpoint, "model": model, **asdict(profile)}))
        fresh.replace(path)


def forget(endpoint: str, model: str) -> None:
    """Delete the saved profile of a model."""
    with suppress(OSError):
        _file(endpoint, model).unlink()


def _file(endpoint: str, model: str) -> Path:
    name = hashlib.sha256(f"{endpoint}\n{model}".encode()).hexdigest()[:24]
    return user_cache() / "endpoints" / f"{name}.json"
