"""Counting tokens as a CLIP model's own tokenizer does, without loading the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from fieldmarks.bounds import read_text
from fieldmarks.errors import ModelError

MAX_FILE = 128 << 20  # bytes
CLIP_TOKENS = 77  # where a tokenizer does not say


def token_count(model: str) -> tuple[Callable[[str], int], int]:
    """Return a model's token count of a text, both end tokens included, and the most that the model reads.

    `model` is a folder or a hub id. Raises ModelError if it has no `tokenizer.json`.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(read_text(_file(model, "tokenizer.json"), MAX_FILE, ModelError))
        config: Any = orjson.loads(read_text(_file(model, "tokenizer_config.json"), MAX_FILE, ModelError))
    except ModelError as error:
        raise ModelError(f"{model}: {error}") from error
    except Exception as error:  # tokenizers raises bare Exception for a file that it cannot parse
        raise ModelError(f"{model}: its tokenizer.json cannot be read: {error}") from error
    tokenizer.no_truncation()
    limit = config.get("model_max_length") if isinstance(config, dict) else None
    if not isinstance(limit, int) or not 0 < limit < 1_000_000:  # unset is written as 10**30
        limit = CLIP_TOKENS
    return lambda text: len(tokenizer.encode(text).ids), limit


def _file(model: str, name: str) -> Path:
    if Path(model).is_dir():
        return Path(model) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(model, name))
