"""Why a request failed: the cause in words, what to do, and whether a retry can help.

    Failed
    ├── Transient     may pass: retried as retrying.RetryPolicy says
    ├── Refused       the same request would fail again, another may not
    └── OutOfCredit   no request can succeed

Pure: turns a status with its body, or a library's exception, into one of these.
"""

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import httpx2

from fieldmarks.generation.question import Usage

RETRIED_STATUS: Final = frozenset({408, 409, 425, 429, *range(500, 600)})
ABOUT_THE_REQUEST: Final = frozenset({400, 413, 415, 422})  # the prompt or a parameter, not key, model or URL
LONGEST_MESSAGE: Final = 20_000  # characters of an error's body that are read

ADVICE: Final = {  # by status
    401: "check OPENAI_API_KEY or --header",
    402: "add credit to the account",
    403: "check that the key may use this model from your location",
    404: "check --model and --base-url",
    405: "check --base-url, which often ends in /v1",
    407: "give the proxy's user and password, as in HTTPS_PROXY=http://user:password@host:port",
}
_NO_CREDIT: Final = re.compile(
    r"insufficient_quota|billing_hard_limit_reached|billing_not_active|insufficient[ _]balance"
    r"|insufficient[ _]credits|credit balance is too low",
    re.IGNORECASE,
)
_CERTIFICATE_ADVICE: Final = {  # by OpenSSL's verify_code
    9: "check this machine's clock",
    10: "renew the certificate, or check this machine's clock",
    18: "set SSL_CERT_FILE to that certificate to trust it",
    19: "set SSL_CERT_FILE to its CA's certificate to trust it",
    20: "set SSL_CERT_FILE to its CA's certificate to trust it",
    62: "use a host name in --base-url that the certificate lists",
    64: "use a host name in --base-url that the certificate lists",
}
_OS_ADVICE: Final = {
    errno.ECONNREFUSED: "start the server, or check host and port in --base-url",
    errno.EHOSTUNREACH: "check the network and the host in --base-url",
    errno.ENETUNREACH: "check the network",
}


class Failed(Exception):
    """A request failed; the message is the cause on one line, `advice` what to do about it.

    `status` is the HTTP status: 200 for a reply that is not an answer, None without a reply. `paid` means
    that the model has probably answered, so the exchange costs as much as an answer; `usage` is set if the
    reply states it.
    """

    def __init__(
        self, cause: str, *, status: int | None = None, advice: str = "", paid: bool = False
    ) -> None:
        super().__init__(cause)
        self.status = status
        self.advice = advice
        self.paid = paid
        self.usage: Usage | None = None
        self.tries = 1

    def explained(self) -> str:
        """Return the cause, number of attempts and advice on one line."""
        tries = f" ({self.tries} attempts)" if self.tries > 1 else ""
        return f"{self}{tries}" + (f": {self.advice}" if self.advice else "")


class Transient(Failed):
    """A failure that may pass.

    `retry_after` is how long the server asked to wait, `seconds` how long the exchange took; both in seconds.
    """

    def __init__(
        self,
        cause: str,
        retry_after: float | None = None,
        *,
        status: int | None = 200,
        advice: str = "",
        paid: bool = False,
    ) -> None:
        super().__init__(cause, status=status, advice=advice, paid=paid or status == 200)
        self.retry_after = retry_after
        self.seconds = 0.0


class Refused(Failed):
    """The server refused, or failed our checks; the same request would fail again."""


class OutOfCredit(Failed):
    """The account is out of quota or money: no request can succeed."""


def from_status(status: int, body: Any, retry_after: float | None, proxy: str | None) -> Failed:
    """Return the failure for an error's status and (parsed) body; `proxy` names the proxy in use, if any."""
    reason = message(body)
    cause = f"status {status}: {reason}"
    if status == 407:
        return Refused(f"the proxy {proxy or ''} refuses: {cause}", status=status, advice=ADVICE[407])
    if status == 402 or _NO_CREDIT.search(shown(body)):
        return OutOfCredit(cause, status=status, advice=ADVICE[402])
    if proxy and status in (502, 503, 504):
        cause += f" (through the proxy {proxy})"
    if status in RETRIED_STATUS:
        return Transient(cause, retry_after, status=status)
    return Refused(cause, status=status, advice=ADVICE.get(status, ""))


def message(body: Any) -> str:
    """Return the server's message about an error, whatever the form of its body."""
    for _ in range(4):
        if isinstance(body, dict):
            body = body.get("error") or body.get("message") or body.get("detail") or body
    text = shown(body) if body else ""
    text = re.sub(r"<(style|script)\b.*?(</\1\s*>|$)", " ", text, flags=re.DOTALL | re.I)
    return " ".join(re.sub(r"<[^<>]*>", " ", text).split()) or "no reason given"


def shown(body: Any) -> str:
    """Return the beginning of an error's body, parsed or not, as text."""
    try:
        return (body if isinstance(body, str) else repr(body))[:LONGEST_MESSAGE]
    except RecursionError:
        return "an object nested too deep to be shown"


def from_redirect(status: int, base_url: str | None) -> Refused:
    """Return the failure for a redirect that is not followed.

    `base_url` is where it leads, without credentials; None if that is not a URL.
    """
    goal = base_url or "what is not a URL"
    advice = f"pass --base-url {base_url} if that is your endpoint" if base_url else "check --base-url"
    return Refused(f"status {status}: redirects to {goal}", status=status, advice=advice)


def from_exception(
    error: BaseException, *, stage: str, proxy: str | None, timeout: float, connect_timeout: float
) -> Failed:
    """Return the failure for a library's exception.

    `stage` is the last step of the exchange that began, as httpcore2 names it; `proxy` names the proxy in
    use; `timeout` and `connect_timeout` are the limits in seconds.
    """
    through = f" (through the proxy {proxy})" if proxy else ""
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return _late(stage, proxy, timeout, connect_timeout)
    if certificate := _first(error, ssl.SSLCertVerificationError):
        advice = _CERTIFICATE_ADVICE.get(certificate.verify_code, "check the certificate")
        why = certificate.verify_message.rstrip(".")
        return Refused(f"the server's certificate is not trusted: {why}{through}", advice=advice)
    if _first(error, ssl.SSLEOFError) or ("start_tls" in stage and _first(error, ConnectionResetError)):
        return Transient(f"the connection was closed during the TLS handshake{through}", status=None)
    if tls := _first(error, ssl.SSLError):
        why = (tls.reason or str(tls)).lower().replace("_", " ")
        advice = "check whether --base-url should begin with http://"
        return Refused(f"the TLS handshake failed: {why}{through}", advice=advice)
    if "connect_tcp" in stage:
        return _unreachable(error, proxy)
    if isinstance(error, httpx2.ProxyError):
        return _proxy_failed(str(error), proxy)
    if isinstance(error, httpx2.TooManyRedirects):
        advice = "check --base-url"
        return Refused("the server redirects in a loop", advice=advice)
    if isinstance(error, httpx2.ProtocolError) and "disconnected without" not in str(error):
        within = "response_body" in stage
        return Transient(f"{_interruption(str(error))}{through}", status=None, paid=within)
    if isinstance(error, httpx2.TransportError):
        return _closed(error, stage, through)
    return Refused(f"the exchange failed: {type(error).__name__}: {error}{through}")


def _late(stage: str, proxy: str | None, timeout: float, connect_timeout: float) -> Transient:
    connecting = f"within {min(timeout, connect_timeout):g} s"
    through = f" (through the proxy {proxy})" if proxy else ""
    if "connect_tcp" in stage:
        to = f"to the proxy {proxy} " if proxy else ""
        return Transient(f"no connection {to}{connecting}", status=None, advice="check host and port")
    if "start_tls" in stage:
        advice = "check whether --base-url should begin with http://"
        return Transient(f"no TLS handshake {connecting}{through}", status=None, advice=advice)
    what = "the reply was not complete" if "response_body" in stage else "no reply"
    advice = "allow more time with --timeout"
    return Transient(f"{what} within {timeout:g} s{through}", status=None, advice=advice, paid=True)


def _unreachable(error: BaseException, proxy: str | None) -> Failed:
    """Return the failure to connect: to the proxy if there is one, else to the endpoint."""
    advice = "check the host in --base-url"
    if dns := _first(error, socket.gaierror):
        cause = f"host name not found: {dns.strerror}"
    elif number := next((e.errno for e in _causes(error) if isinstance(e, OSError) and e.errno), None):
        cause = os.strerror(number).lower()  # asyncio's own text has addresses
        advice = _OS_ADVICE.get(number, advice)
    else:
        cause = f"no connection: {_root(error)}"
    if proxy:
        advice = "check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or list the endpoint's host in NO_PROXY"
        return Transient(f"the proxy {proxy} cannot be reached: {cause}", status=None, advice=advice)
    return Transient(cause, status=None, advice=advice)


def _proxy_failed(reason: str, proxy: str | None) -> Failed:
    """Return the failure of a proxy that opened no tunnel; an HTTP proxy's `reason` begins with a status."""
    cause = f"the proxy {proxy or ''} refuses to connect: {reason}"
    status = reason[:3]
    if status == "407" or "username/password" in reason:
        return Refused(cause, status=407, advice=ADVICE[407])
    if status.isdigit() and int(status) not in RETRIED_STATUS:
        return Refused(cause, advice="list the endpoint's host in NO_PROXY, or use another proxy")
    return Transient(cause, status=None, advice="check that the proxy reaches the endpoint")


def _interruption(text: str) -> str:
    """Return h11's message about a reply that breaks the protocol or was cut off, reworded as a cause."""
    if cut := re.search(r"received (\d+) bytes, expected (\d+)", text):
        return f"the connection was closed during the reply: {cut[1]} of {cut[2]} bytes"
    if "incomplete chunked read" in text:
        return "the connection was closed during the reply"
    text = text.partition(": bytearray")[0].replace("request line", "status line")
    text = text.replace("Receive buffer too long", "endless headers")
    return f"the reply is not valid HTTP: {text}"


def _closed(error: BaseException, stage: str, through: str) -> Transient:
    how = "was reset" if _first(error, ConnectionResetError) else "was closed"
    within = "response_body" in stage
    when = "during the reply" if within else "without a reply"
    advice = "" if within else "check whether --base-url should begin with https://"
    if through:
        advice = "check the proxy, or list the endpoint's host in NO_PROXY"
    return Transient(f"the connection {how} {when}{through}", status=None, advice=advice, paid=within)


def _first(error: BaseException, kind: type[Any]) -> Any:
    """Return the first exception of a kind among those that led to an error."""
    return next((cause for cause in _causes(error) if isinstance(cause, kind)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it, including members of groups."""
    unvisited: list[BaseException | None] = [error]
    seen: set[int] = set()
    while unvisited:
        cause = unvisited.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            unvisited += cause.exceptions
        unvisited += [cause.__cause__, cause.__context__]


def _root(error: BaseException) -> str:
    """Return the text of an error's root cause, following `__cause__` and groups but not `__context__`."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            return str(error) or type(error).__name__
