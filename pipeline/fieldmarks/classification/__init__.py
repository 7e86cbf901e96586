"""Stage two: images classified by descriptors in CLIP's embedding space."""

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Encoder

__all__ = ["Classifier", "Encoder"]
