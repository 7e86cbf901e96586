"""Labelled data sets: a folder per class, a manifest, tables of the `datasets` library, image tars."""

from fieldmarks.evaluation.data.dataset import DataSet, Example, Source
from fieldmarks.evaluation.data.opening import open_dataset

__all__ = ["DataSet", "Example", "Source", "open_dataset"]
