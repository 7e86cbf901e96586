"""An endpoint's address and credentials: how they are checked and sent, and kept out of everything else.

A server may echo what it was sent, in any encoding. `Redactor` masks credentials in parsed replies and
messages, so none reaches a store, a log or the terminal.

Credentials are keys, passwords, and the values of headers and query parameters that have a telling name
("api-key", "X-Token", "sig") or look like a key: at least 16 characters, with letters, digits and no space.
Values under 6 characters are ignored. Values under 16 characters are masked only as whole words, and not at
all in answers if they are letters only: "secret" and "ollama" are placeholders, and an answer's words matter
more.
"""

import base64
import html
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import getproxies

from fieldmarks.errors import EndpointError

SHORTEST_SECRET: Final = 6  # characters; shorter ones occur in ordinary text by chance
SHORTEST_BASE64: Final = 6  # characters
LONGEST_WORD: Final = 15  # characters; longer ones do not occur within other text by chance
LONGEST_LINE: Final = 300  # characters of a server's text in a message
MASK: Final = "***"

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OUR_HEADERS: Final = frozenset(
    ("accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "te")
) | {"trailer", "transfer-encoding", "upgrade"}  # another value would break the exchange
_SECRET_NAME: Final = re.compile(
    r"auth|key|token|secret|password|passwd|credential|cookie|session|signature|^(sig|code|pwd|pass|jwt|sas)$",
    re.I,
)
_LIKE_A_KEY: Final = re.compile(r"(?=\S*[A-Za-z])(?=\S*\d)\S{16,}")
# Word boundaries, which may be an escape: "%20word", "\\nword".
_WORD_BEGINS: Final = r"(?:(?<![^\W_])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4}))"
_WORD_ENDS: Final = r"(?![^\W_])"
_HTML_NAMES: Final = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


@dataclass(frozen=True, slots=True)
class Address:
    """An endpoint's URL and credentials; `url` has no credentials and may be shown."""

    url: str
    query: str  # without "?"; added to the path of every request
    headers: Mapping[str, str]  # including Authorization if there is a key or a password
    secrets: tuple[str, ...]

    @classmethod
    def of(cls, base_url: str, api_key: str | None, headers: Mapping[str, str]) -> "Address":
        """Parse a base URL. Raises EndpointError, without the value, if something cannot be sent."""
        url = without_credentials(base_url)
        parts = urlsplit(base_url.strip())
        key = (api_key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise EndpointError(
                "OPENAI_API_KEY contains a line break or a character that no key has: copy it again"
            )
        sent: dict[str, str] = {}
        if parts.username or parts.password:
            sent["Authorization"] = f"Basic {base64.b64encode(_user_and_password(parts).encode()).decode()}"
        elif key:
            sent["Authorization"] = f"Bearer {key}"
        for name, value in headers.items():
            if problem := header_problem(name, value):
                raise EndpointError(f"the header {name!r} cannot be sent: {problem}")
            sent = {other: text for other, text in sent.items() if other.lower() != name.lower()}
            sent[name] = value
        return cls(url, parts.query, sent, tuple(_secrets(parts, key, headers)))


def without_credentials(url: str) -> str:
    """Return a URL without user, password, query and fragment, as it may be shown and stored.

    Raises EndpointError for anything but an http or https URL.
    """
    try:
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise EndpointError(
            "--base-url is not an endpoint's URL: write it like http://localhost:8000/v1"
        ) from None
    if "%" in parts.hostname:
        raise EndpointError(
            "--base-url has an IPv6 address with a zone (%…), which is not supported: leave it out"
        )
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")).rstrip("/")


def header_problem(name: str, value: str) -> str | None:
    """Return why a header cannot be sent, without its value, or None."""
    if not _HEADER_NAME.fullmatch(name):
        return "expected a name of letters, digits and hyphens"
    if name.lower() in _OUR_HEADERS:
        return "fieldmarks sets it itself"
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        return (
            "its value contains a line break, a character outside ASCII, or a space at its beginning or end"
        )
    return None


class Redactor:
    """Masks secrets in text, in any encoding; `masked` counts the strings of replies that it changed."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Set the secrets to mask; those shorter than `SHORTEST_SECRET` are ignored."""
        self.masked = 0
        plain = {form for secret in secrets for form in (secret, unquote(secret))}
        known = sorted((form for form in plain if len(form) >= SHORTEST_SECRET), key=len, reverse=True)
        self._pattern = _pattern(known)
        self._pattern_of_replies = _pattern([secret for secret in known if not _is_word(secret)])
        encoded = ["%", "\\", "&", *(["+"] if any(" " in secret for secret in known) else [])]
        literals = [text.lower() for secret in known for text in (secret, *_recoded(secret))]
        self._suspicious = list(dict.fromkeys([*encoded, *literals]))

    def text(self, text: str) -> str:
        """Return the text with each secret masked."""
        return self._without(self._pattern, text)

    def _without(self, pattern: re.Pattern[str] | None, text: str) -> str:
        if pattern is None or len(text) < SHORTEST_SECRET:
            return text
        lower = text.lower()
        for sign in self._suspicious:  # most texts have none, and this check is faster than the pattern
            if sign in lower:
                return pattern.sub(MASK, text)
        return text

    def line(self, text: str, longest: int = LONGEST_LINE) -> str:
        """Return a server's text as one short line without control characters or secrets."""
        text = self.text(text)
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= longest else f"{line[:longest]}…"

    def reply(self, reply: Any) -> Any:
        """Mask secrets, except ordinary words, in every string of parsed JSON, in place; return it."""
        if self._pattern_of_replies is None:
            return reply
        root = [reply]
        unvisited: list[Any] = [root]  # not recursive: a reply may be nested deeper than Python's stack
        while unvisited:
            node = unvisited.pop()
            if isinstance(node, dict):
                for key in list(node):
                    if (masked := self._without(self._pattern_of_replies, key)) != key:
                        node[masked] = node.pop(key)
            for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
                if isinstance(value, str):
                    node[key] = self._without(self._pattern_of_replies, value)
                    self.masked += node[key] != value
                elif isinstance(value, dict | list):
                    unvisited.append(value)
        return root[0]


def _secrets(parts: Any, key: str, headers: Mapping[str, str]) -> Iterator[str]:
    """Yield every secret; a user name by itself only if it has no password."""
    yield from (key, os.environ.get("OPENAI_API_KEY", "").strip())
    query = (pair.partition("=")[::2] for pair in re.split("[&;]", parts.query))
    for name, value in (*headers.items(), *query):
        if _SECRET_NAME.search(name) or _LIKE_A_KEY.fullmatch(value):
            yield value
            yield from value.split()[1:]  # after "Bearer", "Basic", "Token"
    for url in (parts, *_proxies()):
        yield url.password or ""
        if url.username and not url.password:
            yield url.username
        elif url.username:
            yield _user_and_password(url)


def _proxies() -> Iterator[Any]:
    for proxy in getproxies().values():
        try:
            yield urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        except ValueError:  # reported by the client when it is opened
            continue


def _user_and_password(parts: Any) -> str:
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"


def _is_word(secret: str) -> bool:
    return len(secret) <= LONGEST_WORD and secret.isalpha()


def _pattern(secrets: Iterable[str]) -> re.Pattern[str] | None:
    patterns = [pattern for secret in secrets for pattern in _patterns(secret)]
    return re.compile("|".join(patterns)) if patterns else None


def _patterns(secret: str) -> Iterator[str]:
    """Yield regular expressions for a secret: encoded whole or character by character; as base64, as hex.

    The whole forms are for secrets that look encoded already: in one with "&amp;", the expression for "&"
    alone would match all of "&amp;".
    """
    before, after = (_WORD_BEGINS, _WORD_ENDS) if len(secret) <= LONGEST_WORD else ("", "")
    whole = sorted(_encoded(secret), key=len, reverse=True)
    texts = [*map(re.escape, whole), "".join(_character(c) for c in secret)]
    yield f"{before}(?i:{'|'.join(texts)}){after}"
    for text in _recoded(secret):
        yield re.escape(text) + r"(?:[\w+/-]?={1,2})?"


def _encoded(secret: str) -> set[str]:
    """Return a secret as it is, and encoded as a whole in the usual ways, once and twice."""
    ways: tuple[Callable[[str], str], ...] = (
        lambda text: json.dumps(text)[1:-1],
        lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
        html.escape,
        lambda text: quote(text, safe="", errors="surrogatepass"),
        lambda text: quote(text, errors="surrogatepass"),
    )
    once = {secret, *(way(secret) for way in ways)}
    return once | {way(text) for text in once for way in ways}


def _recoded(secret: str) -> Iterator[str]:
    """Yield a secret in hexadecimal, and in base64 at each of the three offsets within a longer text."""
    data = secret.encode("utf-8", "surrogatepass")
    yield data.hex()
    yield data.hex().upper()
    for offset, shared in ((0, 0), (1, 2), (2, 3)):  # digits that also hold bits of the preceding bytes
        encoded = base64.b64encode(b"\0" * offset + data).decode()
        core = encoded[shared : (offset + len(data)) * 8 // 6]
        if len(core) >= SHORTEST_BASE64:
            yield core
            yield core.translate({ord("+"): "-", ord("/"): "_"})


def _character(character: str) -> str:
    """Return an expression for one character, percent-encoded, JSON- or HTML-escaped, or as it is.

    It is atomic, so no text can make a search slow.
    """
    code = ord(character)
    data = character.encode("utf-8", "surrogatepass")
    forms = ["".join(f"%(?:25)?{byte:02x}" for byte in data)]
    units = character.encode("utf-16-be", "surrogatepass")
    pairs = [units[i : i + 2].hex() for i in range(0, len(units), 2)]
    forms.append("".join(rf"\\{{1,4}}u{pair}" for pair in pairs))
    forms.append("".join(rf"\\{{1,4}}x{byte:02x}" for byte in data))
    forms += [rf"&\#0{{0,4}}{code};?", rf"&\#x0{{0,4}}{code:x};?"]
    if character in _HTML_NAMES:
        forms.append(f"&{_HTML_NAMES[character]};")
    if character in "\"'\\/":
        forms.append(r"\\{1,3}" + re.escape(character))
    if character == " ":
        forms.append(r"\+")
    return "(?>" + "|".join([*forms, re.escape(character)]) + ")"
