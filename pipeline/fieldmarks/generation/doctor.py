"""What stands between a user and descriptors: an endpoint, its key, its model, how lists are forced."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fieldmarks.errors import EndpointError
from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.local import LocalCompleter
from fieldmarks.generation.modes import COMPLETIONS
from fieldmarks.generation.probe import Manner, Probe, choose, probes, remember
from fieldmarks.generation.retry import Transient
from fieldmarks.generation.transport import Refused, Transport, hint


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `ok` is None where the answer is neither good nor bad."""

    what: str
    ok: bool | None
    detail: str


def examine(completer: EndpointCompleter, show: Callable[[Check], None]) -> None:
    """Show what is found of an endpoint and its model as it is found, and remember the mode to take."""

    async def go() -> None:
        async for check in _examined(completer):
            show(check)

    asyncio.run(go())


async def _examined(completer: EndpointCompleter) -> AsyncIterator[Check]:
    try:
        async with completer.transport() as transport:
            async for check in _listing(transport, completer.model):
                yield check
            link = completer.link(transport)
            found: list[Probe] = []
            async with aclosing(probes(link)) as every:
                async for one in every:
                    found.append(one)
                    yield _mode_check(one)
            mode = choose(found, completer.endpoint)
            thinks = any(one.thinks for one in found)
    except EndpointError as error:
        yield Check("endpoint", False, str(error))
        return
    remember(completer.endpoint, completer.model, Manner(mode, link.quirks, thinks))
    if thinks:
        detail = "yes: its thoughts use up --max-tokens, so give it room, say 2000"
        yield Check("thinks before it answers", None, detail)
    yield Check("mode that auto takes", True, mode)


def examine_local(local: LocalCompleter) -> Check:
    """Load a local model and say what it is. Raises ModelError."""
    local.load()
    how = "continued raw" if local.mode == COMPLETIONS else "chat template, its answer's beginning continued"
    return Check("local model", True, f"{local.model} loads; context of {local.context} tokens; {how}")


async def _listing(transport: Transport, model: str) -> AsyncIterator[Check]:
    """Yield what the endpoint's own list of models says. Raises EndpointError for a refused key."""
    try:
        known = _ids(await transport.get("/models"))
    except Refused as error:
        yield Check("reachable", True, f"{transport.shown} answers, and has no list of models ({error})")
        return
    except Transient as error:
        if error.status is None:
            raise EndpointError(f"{transport.shown} cannot be reached: {error}") from error
        yield Check("reachable", True, f"{transport.shown} answers, but its list of models fails ({error})")
        return
    yield Check("reachable", True, f"{transport.shown} answers and accepts the key")
    if known:
        listed = model in known
        some = ", ".join(transport.scrub(one) for one in known[:5])
        yield Check("model listed", listed or None, model if listed else f"no {model!r} among {some}")


def _mode_check(probe: Probe) -> Check:
    what = f"mode {probe.mode}"
    if not probe.answers:
        advice = f": {hint(probe.status)}" if probe.status in (401, 402, 403) else ""
        return Check(what, False, f"{probe.note}{advice}")
    verdict = "continues" if probe.continues else "answers, begins anew"
    return Check(what, probe.continues or None, f"{verdict}: {probe.note}")


def _ids(listing: Any) -> list[str]:
    data = listing.get("data") if isinstance(listing, dict) else None
    return (
        [str(one["id"]) for one in data if isinstance(one, dict) and "id" in one]
        if isinstance(data, list)
        else []
    )
