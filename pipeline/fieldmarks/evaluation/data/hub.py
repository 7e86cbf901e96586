"""Data sets of the Hugging Face hub: `hf:NAME[:CONFIG]`."""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data.dataset import Source
from fieldmarks.evaluation.data.library import errors, from_splits, library, quiet
from fieldmarks.evaluation.data.tables import Table
from fieldmarks.pretrained import one_line

HUB: Final = "hf:"
_NAME: Final = re.compile(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)


def open_hub(source: Source) -> Table:
    """Open `hf:NAME[:CONFIG]`. Raises EvaluationError where it cannot be had."""
    name, _, config = source.spec.removeprefix(HUB).partition(":")
    if not _NAME.fullmatch(name):
        raise EvaluationError(
            f"{source.spec!r} is no data set of the hub: hf:OWNER/NAME or hf:NAME[:CONFIG] is meant"
        )
    datasets = library()
    if _is_format(name):
        raise EvaluationError(f"{source.spec}: {name} is a file format: name the files, or hf:OWNER/NAME")
    with errors(source.spec), quiet(datasets):
        commit = _commit(name)
        found = datasets.load_dataset(
            f"hf://datasets/{name}",  # so that a folder of this name here is not taken for it
            config or None,
            revision=commit,
            streaming=source.streaming,
        )
    about = {"kind": "hub", "config": config or None, "streaming": source.streaming, "fingerprint": commit}
    return replace(from_splits(source, found, about), folder=_download(name))


def _is_format(name: str) -> bool:
    """Whether the library would take a name for one of its file formats, and look for such files here."""
    return name.isidentifier() and find_spec(f"datasets.packaged_modules.{name}") is not None


def _download(name: str) -> Path:
    """Return the folder in which the hub's library keeps the files of one data set."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="dataset")


def _commit(name: str) -> str | None:
    """Ask the hub once for a data set's newest commit; None where it may not be asked.

    Without this question the library would retry for half a minute where there is no network. Raises
    EvaluationError.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        return HfApi().dataset_info(name, timeout=20).sha
    except RepositoryNotFoundError as error:
        raise EvaluationError(
            f"hf:{name}: the hub has no such data set, or shows it to members only"
        ) from error
    except Exception as error:
        raise EvaluationError(
            f"hf:{name}: the hub does not answer ({one_line(error)}): connect, or set HF_HUB_OFFLINE=1 to use"
            " what was downloaded before"
        ) from error
