"""Everything that is needed to run an evaluation again, as plain data."""

import platform
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from fieldmarks import __version__
from fieldmarks.classification.run import Model
from fieldmarks.evaluation.arms import Wanted
from fieldmarks.evaluation.intervals import CONFIDENCE, RESAMPLES

PACKAGES: Final = (
    "datasets",
    "numpy",
    "openvino",
    "pillow",
    "scikit-learn",
    "scipy",
    "torch",
    "torchvision",
    "transformers",
)
COMPUTING: Final = ("device", "dtype", "engine", "batch")  # what results may depend on


def settings(
    *, about: Mapping[str, Any], data: Mapping[str, Any], model: Model, name: str | None, wanted: Wanted
) -> dict[str, Any]:
    """Return the settings, of which `about` tells of the classes and `data` of the data set."""
    chosen = {one.name: getattr(wanted, one.name) for one in fields(wanted) if one.name != "sentences"}
    return {
        "fieldmarks": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        **about,
        "data": dict(data),
        "model": name,
        "computing": {name: getattr(model, name) for name in COMPUTING},
        "wanted": chosen | {"seeds": list(range(wanted.seeds))},
        "intervals": {"confidence": CONFIDENCE, "resamples": RESAMPLES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
