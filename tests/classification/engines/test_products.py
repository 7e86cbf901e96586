"""Linear layers as convolutions: the same numbers, and only where they are faster."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fieldmarks.classification.engines.torch import ByConvolution, convolutions_are_faster, fast_products

SIZES = st.integers(1, 9)


@pytest.mark.slow
@given(st.lists(SIZES, min_size=1, max_size=3), SIZES, SIZES, st.booleans())
def test_a_linear_layer_stays_what_it_is(before: list[int], wide: int, out: int, biased: bool) -> None:
    torch.manual_seed(0)
    inputs, weight = torch.randn(*before, wide), torch.randn(out, wide)
    bias = torch.randn(out) if biased else None
    with torch.inference_mode(), ByConvolution():
        found = functional.linear(inputs, weight, bias=bias)
    expected = functional.linear(inputs, weight, bias)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_sequence_is_computed_by_a_convolution() -> None:
    layer, inputs = torch.nn.Linear(8, 4), torch.randn(2, 3, 8)
    with torch.profiler.profile() as plain:
        layer(inputs)
    with torch.profiler.profile() as changed, ByConvolution():
        layer(inputs)
    ran = [{event.name for event in item.events()} for item in (plain, changed)]
    assert ["aten::conv2d" in element for element in ran] == [False, True]


@pytest.mark.slow
def test_another_programs_process_is_left_alone() -> None:
    script = (
        "import torch; from fieldmarks.classification.engines.torch import fast_products\n"
        "print(type(fast_products('cpu', torch.float32)).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "nullcontext\n"


def test_other_numbers_and_devices_are_left_alone() -> None:
    assert isinstance(fast_products("cpu", torch.bfloat16), nullcontext)
    assert isinstance(fast_products("cuda", torch.float32), nullcontext)


def test_the_trial_answers_once() -> None:
    assert convolutions_are_faster() is convolutions_are_faster()
