"""fieldmarks describes classes by their visible features and classifies images with the descriptions.

The public names are loaded on first use, so that importing the package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.embedding_set import EmbeddingSet, embed
    from fieldmarks.classification.results import Mark, Prediction
    from fieldmarks.data.opening import open_dataset
    from fieldmarks.errors import FieldmarksError
    from fieldmarks.evaluation.evaluate import evaluate
    from fieldmarks.evaluation.results import Evaluation
    from fieldmarks.generation.generate import generate
    from fieldmarks.learning.calibrate import calibrate
    from fieldmarks.learning.curves import learning_curves
    from fieldmarks.learning.learn import learn
    from fieldmarks.records import Entry
    from fieldmarks.retrieval.searcher import search
    from fieldmarks.store import Store

__version__ = "0.2.0.dev0"

_PLACES = {
    "Classifier": "fieldmarks.classification.classifier",
    "EmbeddingSet": "fieldmarks.classification.embedding_set",
    "Entry": "fieldmarks.records",
    "Evaluation": "fieldmarks.evaluation.results",
    "FieldmarksError": "fieldmarks.errors",
    "Mark": "fieldmarks.classification.results",
    "Prediction": "fieldmarks.classification.results",
    "Store": "fieldmarks.store",
    "calibrate": "fieldmarks.learning.calibrate",
    "embed": "fieldmarks.classification.embedding_set",
    "evaluate": "fieldmarks.evaluation.evaluate",
    "generate": "fieldmarks.generation.generate",
    "learn": "fieldmarks.learning.learn",
    "learning_curves": "fieldmarks.learning.curves",
    "open_dataset": "fieldmarks.data.opening",
    "search": "fieldmarks.retrieval.searcher",
}

__all__ = [
    "Classifier",
    "EmbeddingSet",
    "Entry",
    "Evaluation",
    "FieldmarksError",
    "Mark",
    "Prediction",
    "Store",
    "__version__",
    "calibrate",
    "embed",
    "evaluate",
    "generate",
    "learn",
    "learning_curves",
    "open_dataset",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
