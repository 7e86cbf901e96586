"""The progress of a training run, on stderr."""

import sys
from collections.abc import Sequence

_EVERY = 50


def recent(losses: Sequence[float]) -> float:
    """The mean of the last losses."""
    last = losses[-_EVERY:]
    return sum(last) / len(last)


def report(step: int, steps: int, losses: Sequence[float]) -> None:
    """Prints the recent loss now and then, and at the last step."""
    if step % _EVERY == 0 or step == steps - 1:
        print(f"step {step:5d} of {steps}  loss {recent(losses):.4f}", file=sys.stderr, flush=True)
