"""fieldmarks: classes described by their visible marks, images classified by them."""

__version__ = "0.2.0.dev0"

__all__ = ["__version__"]
