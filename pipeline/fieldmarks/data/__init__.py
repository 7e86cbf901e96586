"""Labelled data sets: a folder per class, manifests, tables of the `datasets` library, tars of images."""

from fieldmarks.data.dataset import DataSet, DatasetSpec, Example
from fieldmarks.data.opening import open_dataset

__all__ = ["DataSet", "DatasetSpec", "Example", "open_dataset"]
