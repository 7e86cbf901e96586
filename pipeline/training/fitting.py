"""The training loop of both models: one cycle of the learning rate, with the loss on stderr now and then."""

import sys
from collections.abc import Callable, Sequence

import torch

_EVERY = 50  # steps between reports, and losses per mean


def fit(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    learning_rate: float,
    steps: int,
    loss_of_batch: Callable[[], torch.Tensor],
) -> list[float]:
    """Train the model in place for `steps` batches; return the loss of each."""
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.1)
    losses: list[float] = []
    for step in range(steps):
        loss = loss_of_batch()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % _EVERY == 0 or step == steps - 1:
            print(f"step {step:5d} of {steps}  loss {recent(losses):.4f}", file=sys.stderr, flush=True)
    return losses


def recent(losses: Sequence[float]) -> float:
    """Return the mean of the last losses."""
    last = losses[-_EVERY:]
    return sum(last) / len(last)
