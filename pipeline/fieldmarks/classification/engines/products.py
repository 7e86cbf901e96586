"""Matrix products of float32 on an AMD processor: the same numbers in half the time.

torch multiplies such matrices by Intel's MKL, which reaches less than half of what AMD's cores can do, but
computes convolutions by oneDNN, which reaches nearly all. A linear layer over sequences is a convolution of
one pixel over a picture whose rows they are.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear
from torch.overrides import TorchFunctionMode

from fieldmarks.classification.engines.precision import is_amd, processor


def fast_products(device: str, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return a context in which linear layers on this device and in these numbers take their fastest way."""
    slow = device == "cpu" and dtype == torch.float32 and is_amd(processor())
    return ByConvolution() if slow and torch.backends.mkldnn.is_available() else nullcontext()  # type: ignore[no-untyped-call]


class ByConvolution(TorchFunctionMode):
    """While it is entered, linear layers over sequences (N, T, D) are computed as convolutions."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or what stands for it."""
        called = _linear if func is linear else func
        return called(*args, **(kwargs or {}))


# The arguments have the names that torch gives them, as some callers use these.
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if input.dim() != 3:
        return linear(input, weight, bias)
    pixels = input[None].permute(0, 3, 1, 2)  # (1, D, N, T), and in memory still (N, T, D)
    return conv2d(pixels, weight[:, :, None, None], bias).permute(0, 2, 3, 1)[0]
