"""Money: what requests may cost before they are sent, and what they did cost."""

import math
import threading
from dataclasses import dataclass, field
from typing import Final

from fieldmarks.generation.completer import NOTHING, Request, Usage

BYTES_PER_TOKEN: Final = 4  # English prose, rounded down
OVERHEAD: Final = 16  # tokens that a chat's turns add
WORST: Final = 2  # how far an estimate of a prompt's tokens can be below the truth
PER_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens; where no prices are known there is no `Prices`."""

    read: float = 0.0
    written: float = 0.0

    def cost(self, usage: Usage) -> float:
        """Return what a usage costs in USD."""
        return (usage.prompt_tokens * self.read + usage.completion_tokens * self.written) / PER_MILLION


def estimate(request: Request) -> Usage:
    """Return about how many tokens a request reads, and the most that it writes."""
    return Usage(math.ceil(len(request.prompt.encode()) / BYTES_PER_TOKEN) + OVERHEAD, request.max_tokens)


FREE: Final = Prices()


@dataclass(slots=True)
class Budget:
    """Keeps the money spent and what the requests under way can cost at worst below a limit."""

    prices: Prices | None = None  # None where they are unknown: there is no limit then
    limit: float = math.inf
    usage: Usage = NOTHING
    _reserved: float = field(default=0.0, init=False)
    # Tries are charged on the event loop's thread while a ledger's thread settles answers.
    _counting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @property
    def spent(self) -> float | None:
        """USD for the answers so far; None where the prices are unknown."""
        return None if self.prices is None else self.prices.cost(self.usage)

    def allows(self, request: Request) -> bool:
        """Whether a request cannot pass the limit, whatever those under way come to cost."""
        return (self.spent or 0.0) + self._reserved + self._most(request) <= self.limit

    def reserve(self, request: Request) -> None:
        """Set aside what a request can cost."""
        self._reserved += self._most(request)

    def settle(self, request: Request, usage: Usage | None) -> None:
        """Exchange what was set aside for the true usage; an answer without one counts as estimated."""
        self._reserved = max(0.0, self._reserved - self._most(request))
        with self._counting:
            self.usage += estimate(request) if usage is None else usage

    def charge(self, usage: Usage) -> bool:
        """Count a try that was paid for and brought no answer; return whether there is money for another.

        What that one can cost is still set aside.
        """
        with self._counting:
            self.usage += usage
            return (self.spent or 0.0) + self._reserved <= self.limit

    def release(self, request: Request) -> None:
        """Give back what was set aside for a request that brought no answer."""
        self._reserved = max(0.0, self._reserved - self._most(request))

    def _most(self, request: Request) -> float:
        if self.prices is None:
            return 0.0
        about = estimate(request)
        return self.prices.cost(Usage(WORST * about.prompt_tokens, about.completion_tokens))
