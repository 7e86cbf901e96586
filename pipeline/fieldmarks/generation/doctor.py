"""The checks of `fieldmarks doctor`: the endpoint, its key, its model, and how replies are prefilled."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fieldmarks.errors import EndpointError
from fieldmarks.generation.dialects import COMPLETIONS, Probe, choose, probes
from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.failures import Failed, Refused, Transient
from fieldmarks.generation.transport import Transport

if TYPE_CHECKING:
    from fieldmarks.generation.local import LocalCompleter  # imports torch

NO_LIST: Final = frozenset({400, 404, 405, 422})  # statuses of a server that answers but lists no models
MOST_LISTED: Final = 100  # models


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its result; `ok` is None if the result is neither good nor bad."""

    what: str
    ok: bool | None
    detail: str


Show = Callable[[Check], None]


def examine(completer: EndpointCompleter, show: Show) -> None:
    """Check an endpoint and its model, show each result, and remember the mode to use."""

    async def checks() -> None:
        async with completer.connected() as transport:
            models = await _models(transport, show)
            if models:
                listed = completer.model in models
                some = ", ".join(transport.redactor.line(name) for name in models[:5])
                detail = completer.model if listed else f"no {completer.model!r} among {some}"
                show(Check("model listed", listed or None, detail))
            await _modes(completer, show)

    _to_its_end(checks(), show)


def list_models(
    base_url: str, api_key: str | None, headers: Mapping[str, str], timeout: float, show: Show
) -> None:
    """Show the models that an endpoint lists, and how to name one; `timeout` is in seconds."""

    async def checks() -> None:
        async with Transport(base_url, api_key, headers, timeout=timeout, connections=1) as transport:
            models = [transport.redactor.line(name) for name in await _models(transport, show)]
        for name in models[:MOST_LISTED]:
            show(Check("model", None, name))
        if len(models) > MOST_LISTED:
            show(Check("model", None, f"… and {len(models) - MOST_LISTED} more"))
        which = models[0] if len(models) == 1 else "with one of these" if models else "ID"
        show(Check("next", None, f"pass --model {which} to check that model"))

    _to_its_end(checks(), show)


def examine_local(local: "LocalCompleter") -> Check:
    """Load a local model and say what it is. Raises ModelError."""
    local.load()
    how = "continued raw" if local.mode == COMPLETIONS else "chat template with a prefilled reply"
    return Check("local model", True, f"{local.model} loads; context of {local.context} tokens; {how}")


def _to_its_end(checks: Awaitable[None], show: Show) -> None:
    """Run checks; an EndpointError ends them and is shown as the last one."""

    async def run() -> None:
        try:
            await checks
        except EndpointError as error:
            show(Check("endpoint", False, str(error)))

    asyncio.run(run())


async def _models(transport: Transport, show: Show) -> list[str]:
    """Show whether an endpoint answers; return the models it lists. Raises EndpointError if it does not."""
    try:
        models = _ids(await transport.get("/models"))
    except Failed as error:
        answers = error.status in NO_LIST if isinstance(error, Refused) else error.status is not None
        if not answers or not isinstance(error, Refused | Transient):
            raise EndpointError(f"{transport.shown}: {error.explained()}") from error
        show(Check("reachable", True, f"{transport.shown} answers, but lists no models ({error})"))
        return []
    show(Check("reachable", True, f"{transport.shown} answers and accepts the key"))
    return models


async def _modes(completer: EndpointCompleter, show: Show) -> None:
    """Show each mode's result, and show and save the mode to use. Raises EndpointError if none works."""
    results: list[Probe] = []
    async with aclosing(probes(partial(completer.send, probing=True), completer.endpoint)) as each:
        async for probe in each:
            results.append(probe)
            show(_mode_check(probe))
    mode, thinks = choose(results, completer.endpoint), any(probe.thinks for probe in results)
    completer.remember(mode, thinks)
    if thinks:
        detail = "yes: its reasoning counts towards --max-tokens, so allow for it, say 2000"
        show(Check("thinks before it answers", None, detail))
    show(Check("mode chosen by auto", True, mode))


def _mode_check(probe: Probe) -> Check:
    what = f"mode {probe.mode}"
    if not probe.answers:
        return Check(what, False, probe.note)
    verdict = "continues" if probe.continues else 'ignores the prefilled "-" and starts over'
    return Check(what, probe.continues or None, f"{verdict}: {probe.note}")


def _ids(listing: Any) -> list[str]:
    data = listing.get("data") if isinstance(listing, dict) else None
    models = data if isinstance(data, list) else []
    return [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]
