"""Labelled data sets: a folder per class, a manifest, tables of the `datasets` library, image tars."""

from fieldmarks.data.dataset import DataSet, Example, Source
from fieldmarks.data.opening import open_dataset

__all__ = ["DataSet", "Example", "Source", "open_dataset"]
