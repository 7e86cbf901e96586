"""Device and numbers: what "auto" comes to, and that no GPU has to be looked for by torch in vain."""

import os
import subprocess
import sys

import pytest
import torch

from fieldmarks.choices import check_device
from fieldmarks.classification.engines.checkpoint import device_of, dtype_of, has_bfloat16, processor
from fieldmarks.errors import ModelError, UsageError

MPS = torch.backends.mps.is_available()


def test_only_processors_that_multiply_bfloat16_use_it() -> None:
    assert has_bfloat16("AMD EPYC fpu avx512f avx512_bf16 avx512vbmi")
    assert has_bfloat16("Intel Xeon amx_bf16 amx_tile")
    assert not has_bfloat16("Intel Xeon fpu avx512f avx512_vnni")
    assert not has_bfloat16("")


def test_auto_is_what_the_device_does_by_itself() -> None:
    assert dtype_of("auto", "cpu") == ("bfloat16" if has_bfloat16(processor()) else "float32")
    assert dtype_of("auto", "mps") == "float32"
    assert [dtype_of(asked, "cpu") for asked in ("float32", "float16")] == ["float32", "float16"]


def test_auto_is_the_device_that_torch_finds() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if MPS else "cpu"
    assert device_of("auto") == best
    assert device_of("cpu") == "cpu"


@pytest.mark.skipif(MPS, reason="there is an mps device")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="no mps device is available: choose --device cpu or auto"):
        device_of("mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a cuda device")
def test_one_of_several_gpus_is_named() -> None:
    with pytest.raises(ModelError, match="no cuda device is available: choose --device cpu or auto"):
        device_of("cuda:1")
    for wrong in ("cuda:", "cuda:x", "cuda:1,2", "gpu", "", None):
        with pytest.raises(UsageError, match="expected auto, cpu, cuda, cuda:N or mps, found"):
            check_device(wrong)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of its GPUs by files")
def test_hidden_gpus_are_not_asked_for() -> None:
    script = (
        "import sys; from fieldmarks.classification.engines.checkpoint import *\n"
        "device = device_of('auto'); print(device, dtype_of('auto', device), 'torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == f"cpu {dtype_of('auto', 'cpu')} False\n"
