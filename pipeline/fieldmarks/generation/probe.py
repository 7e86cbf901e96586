"""Which modes an endpoint's model really continues: asked once with tiny requests, then remembered."""

import hashlib
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from fieldmarks.errors import EndpointError
from fieldmarks.generation.completer import Request
from fieldmarks.generation.link import Link
from fieldmarks.generation.modes import COMPLETIONS, CONTINUE, INSTRUCT, MODES, TRAILING, USUAL, Quirks
from fieldmarks.generation.retry import Transient
from fieldmarks.generation.templates import Prompt
from fieldmarks.generation.transport import Refused, hint
from fieldmarks.paths import user_cache

PROBED_CLASS: Final = "tree frog"
TOKENS: Final = 24  # enough to see how an answer begins


@dataclass(frozen=True, slots=True)
class Probe:
    """What one mode came to: whether the server answers, goes on after the forced mark, thinks first."""

    mode: str
    answers: bool
    continues: bool = False
    thinks: bool = False
    note: str = ""
    status: int | None = None  # of a refusal


@dataclass(frozen=True, slots=True)
class Manner:
    """How to talk to a model, as probes found it."""

    mode: str
    quirks: Quirks = USUAL
    thinks: bool = False


async def probes(link: Link) -> AsyncGenerator[Probe, None]:
    """Try the modes one by one, each with one tiny request. Raises EndpointError if none can succeed."""
    prompt = Prompt.load("article")
    request = Request(PROBED_CLASS, prompt.render(PROBED_CLASS), prompt.stop, max_tokens=TOKENS)
    for mode in MODES:
        try:
            answer = await link.send(mode, request, probing=True)
        except Refused as error:
            yield Probe(mode, answers=False, note=str(error), status=error.status)
        except Transient as error:
            if error.status is None:
                raise EndpointError(f"{link.shown} cannot be reached: {error}") from error
            if error.status == 429:  # says nothing of the mode
                raise EndpointError(f"{link.shown} cannot be probed now: {error}") from error
            yield Probe(mode, answers=False, note=str(error))
        else:
            said = " ".join(answer.text.split())
            continues = answer.continued and bool(said.lstrip("-"))
            yield Probe(mode, True, continues, answer.thinking, said[:60])


async def find_manner(link: Link) -> Manner:
    """Probe until it is clear which mode to take. Raises EndpointError if the model answers in none."""
    found: list[Probe] = []
    async with aclosing(probes(link)) as every:
        async for one in every:
            found.append(one)
            if _settled(found):
                break
    return Manner(choose(found, link.shown), link.quirks, any(one.thinks for one in found))


def choose(found: Sequence[Probe], shown: str) -> str:
    """Return the mode to take: the first that continues, else instruct, else any that answers.

    Raw completions continue on any model, but an instruct model answers best in its chat template. That it
    has one shows in a chat that goes on with the flags for it and begins anew without them.
    `shown` names the endpoint. Raises EndpointError if it answers in none.
    """
    answering = [one.mode for one in found if one.answers]
    continuing = [one.mode for one in found if one.continues]
    if CONTINUE in continuing and TRAILING in answering and TRAILING not in continuing:
        return CONTINUE
    if best := [*continuing, *(mode for mode in answering if mode == INSTRUCT), *answering]:
        return best[0]
    last = found[-1]
    advice = f": {hint(last.status)}" if last.status else ""
    raise EndpointError(f"{shown} answers in no mode; the last said {last.note}{advice}")


def _settled(found: Sequence[Probe]) -> bool:
    """Whether further probes could not change the choice."""
    last = found[-1].mode
    continuing = [one.mode for one in found if one.continues]
    if COMPLETIONS in continuing and CONTINUE in continuing:
        return last == TRAILING
    return bool(continuing) and last != COMPLETIONS


def remembered(endpoint: str, model: str) -> Manner | None:
    """Return what an earlier probe found, or None."""
    try:
        known: Any = orjson.loads(_file(endpoint, model).read_bytes())
        quirks = known["quirks"]
        quirks["left_out"] = tuple(quirks["left_out"])
        manner = Manner(known["mode"], Quirks(**quirks), bool(known["thinks"]))
        return manner if manner.mode in MODES else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(endpoint: str, model: str, manner: Manner) -> None:
    """Keep a finding in the user's cache folder; where that cannot be written the next run probes again."""
    path = _file(endpoint, model)
    fresh = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(orjson.dumps({"endpoint": endpoint, "model": model, **asdict(manner)}))
        fresh.replace(path)


def forget(endpoint: str, model: str) -> None:
    """Drop what is remembered of a model."""
    with suppress(OSError):
        _file(endpoint, model).unlink()


def _file(endpoint: str, model: str) -> Path:
    name = hashlib.sha256(f"{endpoint}\n{model}".encode()).hexdigest()[:24]
    return user_cache() / "endpoints" / f"{name}.json"
