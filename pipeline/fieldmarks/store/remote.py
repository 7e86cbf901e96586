"""Stores on the Hugging Face Hub: hf:NAME[@REVISION] names a pack that `fieldmarks store pack` made.

A revision is a branch, a tag or a commit; the default is the head of the main branch. The hub is asked
whether it has changed, unless HF_HUB_OFFLINE is set or the revision is a commit that was downloaded before;
the file itself is downloaded once, to the hub's cache, and its card with it, which is not needed to read it.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from fieldmarks.errors import StoreError
from fieldmarks.hub import one_line

SCHEME: Final = "hf:"
DATA: Final = "descriptors.jsonl"  # the file of a pack that is read
CARD: Final = "README.md"  # which names the licence
MAX_CARD: Final = 1 << 20  # bytes
MOST: Final = 1 << 30  # bytes of that file; a million classes take a third of that
_SPEC: Final = re.compile(r"hf:((?:[\w.-]+/)?[\w.-]+)(?:@([\w.-]+(?:/[\w.-]+)*))?", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SECONDS: Final = 20


def fetch(name: str | Path) -> tuple[Path, str]:
    """Return the file of a store on the hub, in the hub's cache, and the store's name with its commit.

    Raises StoreError for an invalid name, a hub that does not answer or does not have it, and a data set that
    is not a pack.
    """
    match = _SPEC.fullmatch(str(name))
    if match is None:
        raise StoreError(f"{name} is not a store on the Hugging Face Hub: expected hf:OWNER/NAME[@REVISION]")
    repository, revision = match[1], match[2] or "main"
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub import try_to_load_from_cache as cached
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    kept = cached(repository, DATA, revision=revision, repo_type="dataset")
    if not isinstance(kept, str) or not (constants.HF_HUB_OFFLINE or _COMMIT.fullmatch(revision)):
        if constants.HF_HUB_OFFLINE:
            raise StoreError(f"{name} was never downloaded, and HF_HUB_OFFLINE is set: unset it and connect")
        try:
            url = hf_hub_url(repository, DATA, repo_type="dataset", revision=revision)
            size = get_hf_file_metadata(url, timeout=_SECONDS).size or 0
            if size > MOST:
                raise StoreError(f"{name}: its {DATA} has {size:,} bytes: the limit is {MOST:,}")
            kept = hf_hub_download(repository, DATA, repo_type="dataset", revision=revision)
        except RevisionNotFoundError as error:
            raise StoreError(f"{name}: the data set has no revision {revision!r}") from error
        except RepositoryNotFoundError as error:
            raise StoreError(f"{name}: the hub has no such data set, or it is private") from error
        except EntryNotFoundError as error:
            raise StoreError(
                f"{name} is not a pack: it has no {DATA}, which `fieldmarks store pack` writes"
            ) from error
        except StoreError:
            raise
        except Exception as error:
            remedy = "connect, or set HF_HUB_OFFLINE=1 to use what was downloaded before"
            raise StoreError(f"{name}: the hub does not answer ({one_line(error)}): {remedy}") from error
        _fetch_card(repository, Path(kept).parent.name)
    return Path(kept), f"{SCHEME}{repository}@{Path(kept).parent.name}"


def _fetch_card(repository: str, commit: str) -> None:
    """Download a pack's card beside it, if the hub has one that is not large."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(repository, CARD, revision=commit, repo_type="dataset"), str):
        return
    with suppress(Exception):  # as the library's many errors say; without a card, its licence is not known
        url = hf_hub_url(repository, CARD, repo_type="dataset", revision=commit)
        if (get_hf_file_metadata(url, timeout=_SECONDS).size or 0) <= MAX_CARD:
            hf_hub_download(repository, CARD, repo_type="dataset", revision=commit)
