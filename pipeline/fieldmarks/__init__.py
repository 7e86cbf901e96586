"""fieldmarks: classes described by their visible marks, images classified by them."""

__version__ = "0.1.0"

__all__ = ["__version__"]
