"""How to install the packages that some capabilities need beyond the base installation."""

from importlib.util import find_spec
from typing import Final

# What proves that an extra is installed: the modules that fieldmarks imports of it.
MODULES: Final = {
    "eval": ("matplotlib", "scipy", "sklearn"),
    "data": ("datasets",),
    "embed": ("pyarrow",),
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

    It names the packages, so that it works in a clone and for an installed wheel alike:

    >>> install("embed")
    "pip install 'pyarrow>=18.0'"
    """
    from importlib.metadata import PackageNotFoundError, requires  # slow, and needed for an error message

    try:
        listed = requires("fieldmarks") or []
    except PackageNotFoundError:  # run from its sources without an installation
        listed = []
    pairs = (requirement.split(";") for requirement in listed)
    packages = [
        pair[0].strip() for pair in pairs if pair[-1].replace('"', "'").strip() == f"extra == '{extra}'"
    ]
    if not packages:
        return f"pip install '.[{extra}]' in a clone of fieldmarks"
    return f"pip install {' '.join(map(repr, packages))}"
