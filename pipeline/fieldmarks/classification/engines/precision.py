"""Where a model computes and in which numbers, answered without loading torch wherever that is possible.

"auto" is half precision only where the hardware multiplies such numbers by itself: bfloat16 on a CPU with
AVX-512 BF16 or AMX and on newer NVIDIA GPUs, float16 on older ones, float32 anywhere else.
"""

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from fieldmarks.errors import ModelError

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]

_BFLOAT16_FLAGS: Final = {"avx512_bf16", "amx_bf16"}
_GPU_FILES: Final = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, one under WSL, AMD


def device_of(asked: Device) -> Literal["cpu", "cuda", "mps"]:
    """Return the device to compute on, of the one asked for. Raises ModelError if that is not there."""
    if asked == "cpu" or (asked == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there[asked]:
        raise ModelError(f"there is no {asked} device here: choose --device cpu or auto")
    return asked


def dtype_of(asked: DType, device: str) -> Literal["float32", "bfloat16", "float16"]:
    """Return the numbers to compute in on a device, of those asked for."""
    if asked != "auto":
        return asked
    if device == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if device == "cpu" and has_bfloat16(processor()) else "float32"


def has_bfloat16(cpu: str) -> bool:
    """Whether a processor, as `processor` describes it, multiplies bfloat16 by itself."""
    return not _BFLOAT16_FLAGS.isdisjoint(cpu.split())


def is_amd(cpu: str) -> bool:
    """Whether a processor, as `processor` describes it, is AMD's."""
    return "AMD " in cpu or "AuthenticAMD" in cpu  # "AMD64" alone is Windows' name for all of them


@cache
def processor() -> str:
    """Return this machine's processor by name, and by its abilities where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").split("\n\n", 1)[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return " ".join(
        line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))
    )


def _may_have_gpu() -> bool:
    """Whether torch has to be asked for a GPU: no, where its build knows none or the system has none."""
    if sys.platform != "linux":
        return True
    try:
        known = not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        known = True
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return known and not hidden and any(Path(name).exists() for name in _GPU_FILES)
