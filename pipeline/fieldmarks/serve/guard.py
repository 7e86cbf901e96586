"""What stands before the application: who may ask, from where, and what every answer says to a browser.

A page of another site, which a user of this machine has open, can send requests to a server on it, and by DNS
rebinding even read the answers, if the server takes its name for the site's. So on every request, before
anything else, the Host has to be one of the server's, with its port; and a request that a page makes has to
come from the server's own page, by its Origin. A server that is not on loopback asks for a token too.
"""

import hmac
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fieldmarks.errors import UsageError

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_WEB: Final = (80, 443)
# Without a token.
OPEN: Final = frozenset({"/", "/page.js", "/page.css", "/palette.css", "/icon.svg", "/health"})
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?", re.IGNORECASE | re.ASCII)

Host = tuple[str, int | None]  # a name or address, and the port where it is named


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask: the hosts that the server is, its port, and the token that it asks for, if any.

    A server on all interfaces may be called by `any_address` in numbers too: only names can be rebound.
    """

    port: int
    hosts: frozenset[Host]
    any_address: bool = False
    token: str | None = field(default=None, repr=False)

    @classmethod
    def to(
        cls,
        port: int,
        names: Iterable[str],
        allowed: Iterable[str] = (),
        *,
        any_address: bool = False,
        token: str | None = None,
    ) -> "Access":
        """Return the access to a server on a port of some names, which a proxy may call by those `allowed`.

        An allowed name with a port is taken as it is; one without, also with the ports of the web. Raises
        UsageError for what is no name.
        """
        ports = (port, None) if port in _WEB else (port,)
        hosts = {(_bracketed(name), own) for name in names for own in ports}
        for name in allowed:
            parsed = parse_host(_bracketed(name))
            if parsed is None:
                raise UsageError(
                    f"--allow-host {name!r:.80} is not a host name: pass one such as photos.example"
                )
            hosts |= {parsed} if parsed[1] else {(parsed[0], own) for own in (None, *_WEB, port)}
        return cls(port, frozenset(hosts), any_address, token)

    def is_own(self, host: str) -> bool:
        """Whether a Host header names this server."""
        parsed = parse_host(host)
        if parsed is None:
            return False
        return parsed in self.hosts or (
            self.any_address and parsed[1] == self.port and _is_address(parsed[0])
        )

    def is_token(self, authorization: str) -> bool:
        """Whether an Authorization header has the token."""
        kind, _, value = authorization.partition(" ")
        given, token = value.strip().encode("utf-8", "replace"), (self.token or "").encode()
        return kind.lower() == "bearer" and hmac.compare_digest(given, token)


def parse_host(host: str) -> Host | None:
    """Return the parts of a Host header in lower case, None for anything else than a name and a port."""
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    return match[1].lower().removesuffix("."), int(match[2]) if match[2] else None


def _bracketed(name: str) -> str:
    return f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware that refuses foreign requests and puts HEADERS on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.is_own(hosts[0]):
            return _refused(403, "this server is not known by that Host; start it with --allow-host NAME")
        origins = headers.getlist("origin")
        if any(not _is_same(origin, hosts[0]) for origin in origins):
            return _refused(403, "pages of other sites may not use this server")
        if scope["method"] not in ("GET", "HEAD") and headers.get("sec-fetch-site", "none") not in (
            "same-origin",
            "none",
        ):
            return _refused(403, "pages of other sites may not use this server")
        needs_token = self._access.token is not None and scope["path"] not in OPEN
        if needs_token and not self._access.is_token(headers.get("authorization", "")):
            challenge = {"WWW-Authenticate": "Bearer"}
            return _refused(401, "send the token: Authorization: Bearer TOKEN", challenge)
        return None


def _is_same(origin: str, host: str) -> bool:
    scheme, separator, place = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and place.lower() == host.lower()


def _refused(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": reason}, status, {**(headers or {}), "Connection": "close"})
