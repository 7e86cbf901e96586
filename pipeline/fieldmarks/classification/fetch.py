"""Pictures from the web, only where the user allows it: one request, bounded in bytes and in time."""

import re
import time
from dataclasses import dataclass
from typing import Final

from fieldmarks import __version__
from fieldmarks.errors import ImageError

MAX_BYTES: Final = 256 * 2**20  # of a picture's file, wherever it comes from
SILENCE: Final = 20.0  # seconds that a server may stay silent
PATIENCE: Final = 120.0  # seconds that a picture may take in all
_CHUNK: Final = 2**16


@dataclass(frozen=True, slots=True)
class Url:
    """A picture's address, http or https."""

    address: str

    @property
    def name(self) -> str:
        """The address without a user name and password, which are nobody else's."""
        return re.sub(r"^(\w+://)[^/?#]*@", r"\1", self.address)


def is_url(text: str) -> bool:
    """Whether an input is meant as an address of the web."""
    return text.lower().startswith(("http://", "https://"))


def fetch(url: Url, *, patience: float = PATIENCE) -> bytes:
    """Return the bytes at an address. Raises ImageError for a refusal, silence, too much or too long."""
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    if url.name != url.address:
        raise ImageError("cannot be fetched: an address with a user name or password is not sent")
    if not is_url(url.address):
        raise ImageError("cannot be fetched: not an http or https address")
    until = time.monotonic() + patience
    data = bytearray()
    try:
        request = urllib.request.Request(url.address, headers={"User-Agent": f"fieldmarks/{__version__}"})
        with urllib.request.urlopen(request, timeout=min(SILENCE, patience)) as response:
            while chunk := response.read1(_CHUNK):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise ImageError(f"too large: over {MAX_BYTES} bytes")
                if time.monotonic() > until:
                    raise ImageError(f"cannot be fetched: not done after {patience:g} seconds")
    except urllib.error.HTTPError as error:
        error.close()
        raise ImageError(f"cannot be fetched: the server answered {error.code}") from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: an address that is none
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise ImageError(f"cannot be fetched: {reason}") from error
    return bytes(data)
