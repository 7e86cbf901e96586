"""The optional extras: whether they are installed, and the command that installs them."""

from importlib.util import find_spec
from typing import Final

# The modules that fieldmarks imports from each extra, which show whether it is installed.
MODULES: Final = {
    "eval": ("matplotlib", "scipy"),
    "data": ("datasets",),
    "embed": ("pyarrow",),
    "gpu": ("torchvision",),
    "openvino": ("openvino",),
    "heic": ("pillow_heif",),
    "ray": ("fsspec", "pyarrow", "ray"),
    "web": ("starlette", "uvicorn", "httptools", "python_multipart"),
}


def is_installed(extra: str) -> bool:
    """Return whether every module of an extra can be imported."""
    return all(find_spec(module) is not None for module in MODULES[extra])


def install(extra: str) -> str:
    """Return the command that installs an extra, without fieldmarks itself.

    It names the packages, so that it works both in a clone and with an installed wheel:

    >>> install("embed")
    "pip install 'pyarrow>=18.0'"
    """
    from importlib.metadata import PackageNotFoundError, requires  # slow, and only for an error message

    try:
        listed = requires("fieldmarks") or []
    except PackageNotFoundError:  # run from source, not installed
        listed = []
    pairs = (requirement.split(";") for requirement in listed)
    packages = [
        pair[0].strip() for pair in pairs if pair[-1].replace('"', "'").strip() == f"extra == '{extra}'"
    ]
    if not packages:
        return f"pip install '.[{extra}]' in a clone of fieldmarks"
    return f"pip install {' '.join(map(repr, packages))}"
