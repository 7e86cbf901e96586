"""Which modes an endpoint's model really continues: asked once with tiny requests, then remembered."""

import hashlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from fieldmarks.debris import spoken
from fieldmarks.errors import EndpointError
from fieldmarks.generation.dialects import COMPLETIONS, CONTINUE, INSTRUCT, MODES, TRAILING, USUAL, Quirks
from fieldmarks.generation.failures import OutOfCredit, Refused, Transient
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.request import Completion, Request
from fieldmarks.paths import make_private, user_cache

PROBED_CLASS: Final = "tree frog"
TOKENS: Final = 24  # enough to see how an answer begins
ABOUT_THE_MODE: Final = frozenset(
    {400, 403, 404, 405, 413, 415, 422}
)  # refusals that another mode may not meet

Send = Callable[[str, Request], Awaitable[Completion]]  # a mode and a request, to an answer


@dataclass(frozen=True, slots=True)
class Probe:
    """The result for one mode: whether the server answers, continues the prefilled mark, thinks first."""

    mode: str
    answers: bool
    continues: bool = False
    thinks: bool = False
    note: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class EndpointProfile:
    """How to talk to a model, as probes found."""

    mode: str
    quirks: Quirks = USUAL
    thinks: bool = False


async def probes(send: Send, shown: str) -> AsyncGenerator[Probe, None]:
    """Try the modes one by one, each with one tiny request.

    `shown` names the endpoint. Raises EndpointError if no mode can succeed.
    """
    prompt = Prompt.load("article")
    request = Request(PROBED_CLASS, prompt.render(PROBED_CLASS), prompt.stop, max_tokens=TOKENS)
    for mode in MODES:
        try:
            answer = await send(mode, request)
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
            said = spoken(answer.text)
            text = " ".join(said.text.split())
            continues = answer.continued and bool(text.lstrip("-"))
            unfinished = said.thinking or (answer.thinking and not text)
            note = f"still thinking after {TOKENS} tokens" if unfinished else text[:60]
            yield Probe(mode, True, continues, answer.thinking, note)


async def find_mode(send: Send, shown: str) -> tuple[str, bool]:
    """Probe until the mode to take is clear; return it, and whether the model thinks before it answers.

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
    """Return the mode to take: the first that continues, else instruct, else any that answers.

    Raw completions continue on any model, but an instruct model answers best in its chat template. That it
    has one shows in a chat that goes on with the flags for it and begins anew without them.
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
    raise EndpointError(f"{shown}: no mode gets an answer; the last got {last.note}{advice}")


def _settled(results: Sequence[Probe]) -> bool:
    """Whether further probes could not change the choice."""
    last = results[-1].mode
    continuing = [probe.mode for probe in results if probe.continues]
    if COMPLETIONS in continuing and CONTINUE in continuing:
        return last == TRAILING
    return bool(continuing) and last != COMPLETIONS


def remembered(endpoint: str, model: str) -> EndpointProfile | None:
    """Return what an earlier probe found, or None."""
    try:
        known: Any = orjson.loads(_file(endpoint, model).read_bytes())
        quirks = known["quirks"]
        quirks["left_out"] = tuple(quirks["left_out"])
        profile = EndpointProfile(known["mode"], Quirks(**quirks), bool(known["thinks"]))
        return profile if profile.mode in MODES else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(endpoint: str, model: str, profile: EndpointProfile) -> None:
    """Keep a profile in the user's cache folder; where that cannot be written the next run probes again."""
    path = _file(endpoint, model)
    fresh = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        make_private(user_cache())
        path.parent.mkdir(exist_ok=True)
        fresh.write_bytes(orjson.dumps({"endpoint": endpoint, "model": model, **asdict(profile)}))
        fresh.replace(path)


def forget(endpoint: str, model: str) -> None:
    """Drop what is remembered of a model."""
    with suppress(OSError):
        _file(endpoint, model).unlink()


def _file(endpoint: str, model: str) -> Path:
    name = hashlib.sha256(f"{endpoint}\n{model}".encode()).hexdigest()[:24]
    return user_cache() / "endpoints" / f"{name}.json"
