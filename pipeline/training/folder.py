"""Write a model's folder: the model as transformers saves it, the measured results, and a model card."""

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_LIBRARIES = ("torch", "transformers", "tokenizers", "pillow", "numpy")

_CARD = """\
---
license: mit
library_name: transformers
tags: [toy]
---

# {title}

{description}

It is a toy that knows nothing of the real world: fieldmarks drew and wrote all of its training data. In a
clone of the repository, `PYTHONPATH=pipeline python -m training {kind} --out DIR` trains it again on one CPU
core.

| measured | |
| --- | --- |
{rows}

All figures, the settings and the library versions are in `results.json`. MIT license.
"""

_TITLES = {"clip": "The CLIP of fieldmarks' demo", "lm": "The language model of fieldmarks' demo"}
_DESCRIPTIONS = {
    "clip": """\
A small `CLIPModel` (64x64 pixels, 8x8 patches) for drawings of invented creatures. It was trained from
scratch on drawings of random creatures and phrases that describe them ("a bushy tail"), some of them after an
invented word ("dobbick, which has a bushy tail"). It has never read the name of a species or seen a creature
that looks like one of the demo's twelve.""",
    "lm": """\
A small `LlamaForCausalLM` with a byte-level BPE tokenizer. It was trained from scratch on an encyclopedia
of 48 invented species. It continues "Q: What are useful features for distinguishing a {name} in a photo?
..." with a list of the visible traits of the species. For any other name it makes up traits.""",
}


def prepare(folder: Path, overwrite: bool) -> None:
    """Create the folder; FileExistsError if it is not empty and must not be overwritten."""
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"{folder} is not empty: choose another folder, or pass --overwrite")
    folder.mkdir(parents=True, exist_ok=True)


def finish(folder: Path, kind: str, results: Mapping[str, Any]) -> None:
    """Write results.json and the model card, and let everyone read every file."""
    text = json.dumps({**results, "libraries": _versions()}, indent=2, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(kind, results), encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors makes files readable only by their owner


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _LIBRARIES}}


def _card(kind: str, results: Mapping[str, Any]) -> str:
    """Return the model card, with one row for each figure."""
    figures = {"parameters": results["parameters"], **_flat(results["measured"])}
    rows = "\n".join(f"| {name} | {_shown(value)} |" for name, value in figures.items())
    return _CARD.format(title=_TITLES[kind], description=_DESCRIPTIONS[kind], kind=kind, rows=rows)


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested mappings, with keys joined by a colon."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}: {inner}": leaf for inner, leaf in _flat(value).items()})
        else:
            flat[key] = value
    return flat


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"
