"""Where the demo's two models lie: ordinary Hugging Face folders."""

from pathlib import Path

from fieldmarks.paths import shipped


def clip_folder() -> Path:
    """The folder of the small CLIPModel."""
    return shipped("demo") / "models" / "clip"


def lm_folder() -> Path:
    """The folder of the small causal language model."""
    return shipped("demo") / "models" / "lm"
