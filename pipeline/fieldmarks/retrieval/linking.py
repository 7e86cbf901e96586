"""A folder of links to what was found, to look at it or to hand it to another program."""

import os
from collections.abc import Sequence
from pathlib import Path

from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.errors import ReportError
from fieldmarks.retrieval.searcher import Hit


def check_folder(folder: Path) -> None:
    """Raise ReportError where `link` would refuse: the folder has to be new or empty."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise ReportError(f"{folder} already exists and is not an empty folder; choose a new one")


def link(hits: Sequence[Hit], embeddings: EmbeddingSet, folder: Path) -> int:
    """Link to the hits' files as RANK-NAME in a new folder; return how many files are missing.

    Raises ReportError if the folder is not new or empty, or cannot be written.
    """
    check_folder(folder)
    missing, digits = 0, len(str(max((hit.rank for hit in hits), default=1)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for hit in hits:
            path = os.path.realpath(os.fsencode(embeddings.file_of(hit.image)))
            missing += not os.path.lexists(path)
            if os.path.lexists(path):
                name = f"{hit.rank:0{digits}d}-".encode() + os.path.basename(path)  # noqa: PTH119
                os.symlink(path, os.path.join(os.fsencode(folder), name[-255:]))  # noqa: PTH118, PTH211
    except OSError as error:
        raise ReportError(f"{folder} cannot be written: {error.strerror or error}") from error
    return missing
