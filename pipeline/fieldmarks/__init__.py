"""fieldmarks: classes described by their visible marks, images classified by them.

The public names are loaded when they are first used, so that importing the package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldmarks.data.opening import open_dataset
    from fieldmarks.errors import FieldmarksError
    from fieldmarks.evaluation.evaluate import evaluate
    from fieldmarks.evaluation.results import Evaluation
    from fieldmarks.records import Entry
    from fieldmarks.store import Store

__version__ = "0.2.0.dev0"

_PLACES = {
    "Entry": "fieldmarks.records",
    "Evaluation": "fieldmarks.evaluation.results",
    "FieldmarksError": "fieldmarks.errors",
    "Store": "fieldmarks.store",
    "evaluate": "fieldmarks.evaluation.evaluate",
    "open_dataset": "fieldmarks.data.opening",
}

__all__ = [
    "Entry",
    "Evaluation",
    "FieldmarksError",
    "Store",
    "__version__",
    "evaluate",
    "open_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
