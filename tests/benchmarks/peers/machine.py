"""The machine: its name, and the most that a matrix product reaches on it."""

import os
import platform
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.work import CORES, Job, Result, seconds

# (rows, inner, columns): squares, and a batch of 32 pictures through a layer of ViT-B/32
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (1600, 768, 3072), (1600, 3072, 768))


def name() -> dict[str, str]:
    """Return the processor, its cores, and the versions of what computes."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    native = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in told.split()]
    libraries = ["torch", "transformers", "numpy", *(["openvino"] if find_spec("openvino") else [])]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": f"{CORES} of {os.cpu_count()}",
        "bf16": ", ".join(native) or "not native",
        **_gpu(),
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }


def _gpu() -> dict[str, str]:
    import torch

    return {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself."""
    return name()["bf16"] != "not native"


def peak(job: Job) -> Result:
    """Return the largest rate of any shape and library, in GFLOP/s, for each type in the job."""
    found: Result = {}
    for dtype in job["dtypes"]:
        rates = {f"torch {shape}": _rate(_torch(shape, dtype), shape) for shape in SHAPES}
        if find_spec("openvino"):
            rates |= {f"openvino {shape}": _rate(_openvino(shape, dtype), shape) for shape in SHAPES}
        found[dtype] = max(rates.values())
        found[f"{dtype} by"] = max(rates, key=rates.__getitem__)
    return found


_LAYERS = 4  # products in a row, so that what is around them does not count


def _rate(product: Callable[[], Any], shape: tuple[int, int, int]) -> float:
    until = time.perf_counter() + 0.3  # the processor takes a while to reach its speed
    while time.perf_counter() < until:
        product()
    rows, inner, columns = shape
    return 2 * _LAYERS * rows * inner * columns / seconds(product, 3) / 1e9


def _torch(shape: tuple[int, int, int], dtype: str) -> Callable[[], Any]:
    import torch

    rows, inner, columns = shape
    left = torch.randn(rows, inner).to(getattr(torch, dtype))
    right = torch.randn(columns, inner).to(left.dtype)

    def products() -> None:
        with torch.inference_mode():
            for _ in range(_LAYERS):
                torch.nn.functional.linear(left, right)

    return products


def _openvino(shape: tuple[int, int, int], dtype: str) -> Callable[[], Any]:
    """A chain of products there and back, so that neither input nor output is converted between them."""
    import numpy as np

    ov, ops = import_module("openvino"), import_module("openvino.opset13")
    rows, inner, columns = shape
    generator = np.random.default_rng(0)
    there, back = (
        generator.standard_normal(size, np.float32) / 64 for size in ((inner, columns), (columns, inner))
    )
    node = given = ops.parameter([rows, inner], np.float32)
    for layer in range(_LAYERS):
        node = ops.matmul(node, ops.constant(back if layer % 2 else there), False, False)
    model = ov.Model([node], [given], "products")
    hints = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(model, "CPU", hints).create_infer_request()
    images = generator.standard_normal((rows, inner), np.float32)
    return lambda: request.infer([images])
