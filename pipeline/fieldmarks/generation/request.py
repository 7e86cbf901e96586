"""What passes between a run and the model it asks, whether that answers over HTTP or in this process.

Money: what requests may cost before they are sent, and what they did cost.
"""

import math
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol


@dataclass(frozen=True, slots=True)
class Params:
    """How answers are drawn: what, beside class, prompt and model, decides an answer."""

    temperature: float = 0.0
    max_tokens: int = 200
    seed: int | None = None
    samples: int = 1  # answers a class
    keep: int = 1  # with several answers: in how many a descriptor must be

    def to_dict(self, stop: Sequence[str]) -> dict[str, Any]:
        """Return the object that a store's line keeps, and by which a later run knows the answer again."""
        line: dict[str, Any] = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stop": list(stop),
        }
        if self.seed is not None:
            line["seed"] = self.seed
        if self.samples > 1:
            line |= {"samples": self.samples, "keep": self.keep}
        return line


GREEDY: Final = Params()


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model."""

    name: str  # the class
    prompt: str  # rendered; a bare bullet mark at its end is to be continued
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 200
    seed: int | None = None
    style: str = "bullets"
    sample: int = 0  # which of a class's answers
    attempt: int = 0  # how often this one came back empty


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written; adds up."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens
        )

    def to_dict(self) -> dict[str, int]:
        """Return the object that a store's line keeps."""
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}


NOTHING: Final = Usage()


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer, with the forced beginning put back unless the model repeated or ignored it."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    mode: str
    continued: bool = True  # false where the model began anew after a forced beginning
    thinking: bool = False  # the model thought before it answered, at the cost of `max_tokens`


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request brought no answer; the run goes on."""

    reason: str
    unaffordable: bool = False  # its tries were paid for, and one more could pass the limit of money


Outcome = tuple[Request, Completion | Failure]
Charge = Callable[[Usage], bool]  # counts a usage; whether there is money for another try


def unlimited(usage: Usage) -> bool:
    """Allow every further try."""
    return True


class Completer(Protocol):
    """A model that answers requests: an endpoint, or a language model in this process."""

    @property
    def model(self) -> str:
        """The model's name, as a store's line keeps it."""

    @property
    def endpoint(self) -> str | None:
        """The endpoint's URL without credentials, None for a model in this process."""

    @property
    def window(self) -> int:
        """How many requests it works on at once."""

    @property
    def timeout(self) -> float:
        """Seconds after which one answer is given up."""

    @property
    def slowest(self) -> float:
        """Seconds that the slowest answer so far took, without waiting to be sent; 0 before the first."""

    @property
    def retrying(self) -> int:
        """How many requests wait to be sent again now."""

    def drain(self) -> None:
        """Send nothing more: what waits to be sent ends without an outcome, what was sent is waited for."""

    def complete(
        self, requests: Iterable[Request], charge: Charge = unlimited
    ) -> AsyncGenerator[list[Outcome], None]:
        """Yield answers in groups as they come, pulling requests only as they can be worked on.

        The iterable may end for now and yield again later. What is asked and not yet yielded stays bounded.
        `charge` hears what each try cost that was paid for and brought no answer; where that returns false,
        the request is not sent again and fails as `unaffordable`. Raises GenerationError or ModelError where
        no further request could succeed. Closing the iterator stops the work; `leftovers` has what it leaves.
        """

    def leftovers(self) -> list[Outcome]:
        """Return, once, the answers that had arrived and were not yielded when `complete` was closed."""


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
