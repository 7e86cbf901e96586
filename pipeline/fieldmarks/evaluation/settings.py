"""Everything that is needed to run an evaluation again, as plain data."""

import platform
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from fieldmarks import __version__
from fieldmarks.evaluation.arms import Wanted
from fieldmarks.evaluation.intervals import CONFIDENCE, RESAMPLES
from fieldmarks.evaluation.setup import Setup

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


def settings(setup: Setup, wanted: Wanted, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an evaluation; `more` are the caller's."""
    encoder = setup.subject.embedder.encoder
    computed = {**encoder.about, "fingerprint": encoder.fingerprint} if setup.computes else {}
    chosen = {one.name: getattr(wanted, one.name) for one in fields(wanted) if one.name != "sentences"}
    return {
        "fieldmarks": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        **setup.subject.about,
        **more,
        "data": setup.about,
        "model": setup.model,
        "computed": computed,
        "wanted": chosen | {"seeds": list(range(wanted.seeds))},
        "intervals": {"confidence": CONFIDENCE, "resamples": RESAMPLES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
