"""Pretrained models: finds their files and loads their parts, for both stages.

A model is named by a folder or a Hugging Face Hub id, with or without open_clip's prefix "hf-hub:". Folders
of other libraries are recognised: for sentence-transformers' CLIP models, the transformers folder inside is
read; for the others, an error says what they are and what to do.

Everything loads from safetensors and without remote code. A folder never needs the network, nor does an id
that was downloaded before: it is used as it is in the hub's cache, at the same commit.
"""

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePath
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from fieldmarks.errors import ModelError

_LOADING: Final = RLock()
_process = {"is_ours": False}

if TYPE_CHECKING:
    loaded_once = cached_property
else:

    class loaded_once(cached_property):
        """A cached property that one thread computes while all others wait, whatever they are loading.

        Large libraries import their parts on first use, which fails in two threads at once.
        """

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is not None and self.attrname not in instance.__dict__:
                with _LOADING:
                    return super().__get__(instance, owner)
            return super().__get__(instance, owner)


def own_process() -> None:
    """Declare that this process runs only fieldmarks, so that process-wide settings may be changed."""
    _process["is_ours"] = True


def is_own_process() -> bool:
    """Whether `own_process` was called, as the command line does; other programs stay unchanged."""
    return _process["is_ours"]


MAX_LAYERS: Final = 1000  # several times as many as the deepest model has
OPEN_CLIP: Final = "open_clip_config.json"
# Files beside a model that are never loaded: documents, images, programs, weights in other formats.
_NEVER_LOADED: Final = {
    *(".md", ".rst", ".pdf", ".html", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".csv", ".jsonl"),
    *(".py", ".ipynb", ".log", ".lock", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".onnx", ".h5", ".msgpack"),
    *(".gguf", ".tflite", ".ot", ".mlmodel", ".npz"),
}
_MORE_TEMPLATES: Final = "additional_chat_templates"
_INDEX: Final = "model.safetensors.index.json"
_POINTER: Final = 1024  # bytes, the most that a Git LFS pointer has
_LARGEST_INDEX: Final = 64 * 2**20  # bytes
_SAFETENSORS: Final = ("model.safetensors", _INDEX)
_CLIP_OF_SENTENCE_TRANSFORMERS: Final = "0_CLIPModel"
_MERGE: Final = (
    "merge it into its base model with peft (merge_and_unload, then save_pretrained), and name that"
)
_TRANSFORMERS: Final = "pass a checkpoint of the model for transformers"
# Folders of other libraries, by a file that only they have.
_OTHER_LIBRARIES: Final[Mapping[str, str]] = {
    "adapter_config.json": f"a PEFT adapter, which is not a model by itself; {_MERGE}",
    OPEN_CLIP: "an open_clip checkpoint, which reads images; pass a language model",
    "model_index.json": f"a diffusers pipeline, which makes images; {_TRANSFORMERS}",
    "modules.json": "a sentence-transformers model without CLIP's two encoders; pass a CLIP model",
}
# Weights in formats other than safetensors.
_OTHER_WEIGHTS: Final[Mapping[str, str]] = {
    "*.gguf": "GGUF weights for llama.cpp; serve a language model with llama-server and name the server by"
    f" --base-url, for --clip {_TRANSFORMERS}",
    "*.onnx": f"ONNX weights only; {_TRANSFORMERS}",
    "onnx/*.onnx": f"ONNX weights only; {_TRANSFORMERS}",
    "*.bin": "pickled weights only, which may run code and are not opened; convert a model that you trust"
    " with save_pretrained of transformers, or pass a revision with safetensors",
    "*.pt": f"pickled weights only, which may run code and are not opened; {_TRANSFORMERS}",
    "*.pth": f"pickled weights only, which may run code and are not opened; {_TRANSFORMERS}",
    "*.h5": "TensorFlow weights only; convert them with transformers 4 (from_tf=True, then save_pretrained)",
    "*.msgpack": "Flax weights only; convert them with transformers 4 (from_flax=True, then save_pretrained)",
}


class ModelSource:
    """A model by folder or id, located only when it is needed; `kind` names it in errors.

    With `reads_open_clip`, open_clip's layout is accepted; if `is_open_clip`, the caller reads it itself.
    """

    def __init__(self, name: str, kind: str, *, reads_open_clip: bool = False) -> None:
        self.name = name.removeprefix("hf-hub:")
        self.kind = kind
        self.local = Path(self.name).is_dir()
        self._reads_open_clip = reads_open_clip
        self._folder = _transformers_folder(Path(self.name)) if self.local else None
        self._is_checked = False

    def fingerprint(self, file_hash: Callable[[Path], str]) -> str | None:
        """Return what identifies this model, without loading it; None for an id that is not downloaded yet.

        It is the names and hashes (from `file_hash`) of a folder's files, or a Hugging Face id with its
        commit.
        """
        folder = self.folder
        if folder is None:
            return None
        if not self.local:
            return f"{self.name}@{folder.name}"
        return fingerprint_of(folder, file_hash)

    @property
    def folder(self) -> Path | None:
        """The folder of the model's files; None for a Hugging Face id that is not downloaded yet.

        Raises ModelError for a name that cannot be either.
        """
        self._check_name()
        if self._folder is None:
            self._folder = _cached_snapshot(self.name)
        return self._folder

    @loaded_once
    def is_open_clip(self) -> bool:
        """Whether the model is in open_clip's layout and not also in transformers'. Raises ModelError."""
        folder = self.folder
        if folder is None and not _offline():
            from huggingface_hub import hf_hub_download
            from huggingface_hub.errors import EntryNotFoundError

            try:
                with quiet():
                    try:
                        _ask(self.name)
                    except EntryNotFoundError:  # no config.json
                        folder = Path(hf_hub_download(self.name, OPEN_CLIP)).parent
            except Exception as error:
                raise ModelError(self._advice(error)) from error
            self._folder = folder
        return folder is not None and (folder / OPEN_CLIP).is_file() and not _names_architecture(folder)

    def fetch(self, *patterns: str) -> Path:
        """Return the model's folder, with the files that match these patterns, if the model has any."""
        folder = self.folder
        if self.local and folder:
            return folder
        from huggingface_hub import snapshot_download

        try:
            with quiet():
                commit = folder.name if folder else None
                return Path(
                    snapshot_download(
                        self.name,
                        revision=commit,
                        allow_patterns=list(patterns),
                        local_files_only=_offline(),
                    )
                )
        except Exception as error:
            raise ModelError(self._advice(error)) from error

    def load_network(self, kind: Any, **options: Any) -> Any:
        """Load the network with all of its weights, from safetensors only, in evaluation mode."""
        from transformers import AutoConfig

        self._check_layers(options.get("config") or self.load(AutoConfig))
        if (folder := self.folder) is not None:
            shards = _shards(folder)
            if self.local and not (folder / _SAFETENSORS[0]).is_file():
                missing = [path for path in shards if not path.is_file()]
                if missing:
                    raise ModelError(
                        f"{missing[0]}, which {_INDEX} names, is missing: download the model again"
                    )
        network, info = self.load(kind, use_safetensors=True, output_loading_info=True, **options)
        if missing := sorted(info["missing_keys"]):
            raise ModelError(
                f"{self.name} lacks {len(missing)} weights ({missing[0]}…): download it again, or name"
                " another model if it was saved for another task"
            )
        return network.eval()

    def load(self, kind: Any, **options: Any) -> Any:
        """Load one part of the model; other libraries' errors become ModelError here."""
        self._check_name()
        check_torchvision()
        try:
            with quiet():
                folder = self.folder
                if folder is None:
                    return self._download(kind, options)
                if self.local:
                    return _load(kind, str(folder), options, local_files_only=True)
                commit = _weights_commit(folder) if "use_safetensors" in options else folder.name
                try:
                    return _load(kind, self.name, options | {"revision": commit}, local_files_only=True)
                except Exception:  # an unfinished download, perhaps: the hub has the rest
                    return self._download(kind, options)
        except Exception as error:  # hostile folders make the library fail in every way
            raise ModelError(self._advice(error)) from error

    def _download(self, kind: Any, options: dict[str, Any]) -> Any:
        if not _offline():
            _ask(self.name)
        return _load(kind, self.name, options, local_files_only=_offline())

    def _check_layers(self, config: Any) -> None:
        """Refuse a configuration with so many layers that building them would take hours and all memory."""
        parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
        layers = max(getattr(part, "num_hidden_layers", None) or 0 for part in parts)
        if layers > MAX_LAYERS:
            raise ModelError(
                f"{self.name} declares {layers:,} layers; at most {MAX_LAYERS:,} are loaded:"
                " download it again"
            )

    def _check_name(self) -> None:
        if not self.name:
            raise ModelError(f"no model given; expected {self.kind}: give its folder, or its Hugging Face id")
        no_id = self.name.startswith((".", "/", "~")) or self.name.count("/") > 1
        if not self.local and (no_id or Path(self.name).exists()):
            path = Path(self.name)
            kind = next((what for form, what in _OTHER_WEIGHTS.items() if path.match(form)), None)
            if kind and path.is_file():
                raise ModelError(f"{self.name} has {kind}")
            if path.is_file() and (path.parent / "config.json").is_file():
                raise ModelError(f"{self.name} is not a folder: pass the model's folder, {path.parent}")
            raise ModelError(f"{self.name} is not a folder: pass a model's folder, or a Hugging Face id")
        if self._folder and self.local and not self._is_checked:
            _check_files(self._folder)
            kind = _other_library(self._folder)
            if kind and not (self._reads_open_clip and kind == _OTHER_LIBRARIES[OPEN_CLIP]):
                raise ModelError(f"{self.name} is {kind}")
            self._is_checked = True

    def _advice(self, error: Exception) -> str:
        """Return what went wrong in one line, and what can be done."""
        if self._folder and self.local and (pointer := lfs_pointer(self._folder)):
            return pointer
        signs = ("no file named model.safetensors", "use_safetensors=True")
        without_weights = any(sign in str(error) for sign in signs)
        without_config = self._folder and self.local and not (self._folder / "config.json").is_file()
        if self._folder and (without_config or without_weights) and (weights := _other_weights(self._folder)):
            return f"{self.name} has {weights}"
        if without_config:
            models = (
                sorted(path.parent.name for path in self._folder.glob("*/config.json"))
                if self._folder
                else []
            )
            inside = f"; it holds {models[0]}: name {self.name}/{models[0]}" if models else ""
            return f"{self.name} is not a model folder: it has no config.json{inside}"
        if without_weights:
            return f"{self.name} has no safetensors weights, and no others are opened: convert the model"
        if "ignore_mismatched_sizes" in str(error):
            return f"{self.name} has weights whose shapes differ from its configuration: download it again"
        if not self.local:
            return (
                f"{self.name} is neither a local folder nor in the Hugging Face cache, and could not be"
                f" downloaded ({one_line(error)}): pass a model's folder, or connect once to download it"
            )
        reason, others, _ = one_line(error).partition(
            " for this kind of AutoModel"
        )  # a list of all others follows
        if others:
            return f"{self.name} is not {self.kind} ({reason}): pass another model"
        return f"{self.name} cannot be loaded as {self.kind}: {reason}"


def model_id(name: str) -> str:
    """Return the name by which a model is recorded: the absolute path of a folder, or a Hugging Face id."""
    return str(Path(name).absolute()) if name and Path(name).is_dir() else name


def fingerprint_of(folder: Path, file_hash: Callable[[Path], str]) -> str:
    """Return the names of all loadable files in a model's folder, each with its hash.

    These are its own files, additional chat templates and the weights that an index names, also in
    subfolders. Raises ModelError for a file that cannot be read, and for an index that names files elsewhere.
    """
    try:
        paths = {path for path in folder.iterdir() if path.suffix.lower() not in _NEVER_LOADED}
        paths |= set((folder / _MORE_TEMPLATES).glob("*")) | set(_shards(folder))
        files = sorted(path for path in paths if path.is_file() and not path.name.startswith("."))
        return " ".join(f"{path.relative_to(folder).as_posix()}:{file_hash(path)}" for path in files)
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read: {error.strerror}") from error


def _shards(folder: Path) -> list[Path]:
    """Return the weight files that a folder's index names, in whatever subfolders.

    Raises ModelError for an index that cannot be read or names a file outside the folder. A symlink out of it
    is followed only in the hub's cache, to files of the same model.
    """
    index = folder / _INDEX
    if not index.is_file():
        return []
    try:
        if index.stat().st_size > _LARGEST_INDEX:
            raise ValueError("it is larger than any index")
        content = json.loads(index.read_text("utf-8"))
        names = {str(name) for name in content["weight_map"].values()}
        if not (folder / _SAFETENSORS[0]).is_file():
            _ = content["metadata"]  # transformers reads no index without it
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index} cannot be read ({one_line(error)}): download the model again") from error
    for name in sorted(names):
        if not _is_inside(folder, name):
            raise ModelError(
                f"{index} names a file outside its folder, {name!r:.100}: it is not opened;"
                " put all weights into the model's folder"
            )
    return [folder / name for name in sorted(names)]


def _is_inside(folder: Path, name: str) -> bool:
    """Whether a name, with symlinks followed, leads to a file in a folder or in the hub's cache for it."""
    path = PurePath(name)
    if not name or "\0" in name or "\\" in name or path.is_absolute() or ".." in path.parts:
        return False
    try:
        place = (folder / name).resolve()
    except (OSError, RuntimeError):  # a symlink loop
        return False
    blobs = folder.resolve().parents[1] / "blobs"
    is_snapshot = folder.resolve().parent.name == "snapshots"
    return place.is_relative_to(folder.resolve()) or (is_snapshot and place.parent == blobs)


def _transformers_folder(folder: Path) -> Path:
    """Return the folder to load with transformers: this one, or the one sentence-transformers wraps."""
    inside = folder / _CLIP_OF_SENTENCE_TRANSFORMERS
    wrapped = (folder / "modules.json").is_file() and (inside / "config.json").is_file()
    return inside if wrapped and not (folder / "config.json").is_file() else folder


def _names_architecture(folder: Path) -> bool:
    """Whether a folder has a configuration that names one of transformers' architectures."""
    try:
        return "model_type" in json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _other_library(folder: Path) -> str | None:
    """Return what a folder is if transformers cannot load it, and what to do; None for any other folder."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None
    if isinstance(config, dict) and "architecture" in config and "model_type" not in config:
        return "a timm model, which reads images but no text; pass a CLIP model"
    if config is not None and any((folder / name).is_file() for name in _SAFETENSORS):
        return None  # whatever else is beside it
    signs = _OTHER_LIBRARIES if config is None else ("adapter_config.json",)
    return next((_OTHER_LIBRARIES[name] for name in signs if (folder / name).is_file()), None)


def _other_weights(folder: Path) -> str | None:
    """Return the format of the weights in a folder without safetensors, and what to do."""
    return next((kind for form, kind in _OTHER_WEIGHTS.items() if any(folder.glob(form))), None)


def lfs_pointer(folder: Path) -> str | None:
    """Return what to do about a file in a model's folder that is only a Git LFS pointer."""
    for path in sorted(folder.glob("*")):
        try:
            if path.suffix.lower() in _NEVER_LOADED or not path.is_file() or path.stat().st_size > _POINTER:
                continue
            if path.read_bytes().startswith(b"version https://git-lfs.github.com/"):
                return f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` in {folder}"
        except OSError:
            continue
    return None


def _check_files(folder: Path) -> None:
    """Raise ModelError for a pipe or a device among a folder's files, on which a library would block."""
    try:
        paths = [*folder.glob("*"), *folder.glob("*/*")]
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror}") from error
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError:  # a broken or circular symlink: reading it fails without blocking
            continue
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise ModelError(f"{path} is a pipe or a device; remove it from the model's folder")


def _load(kind: Any, name: str, options: dict[str, Any], *, local_files_only: bool) -> Any:
    return kind.from_pretrained(name, trust_remote_code=False, local_files_only=local_files_only, **options)


@cache
def check_torchvision() -> None:
    """Raise ModelError for a torchvision that cannot be imported: transformers then loads nothing.

    It does so with every other torch than the one that it was built for.
    """
    try:
        if find_spec("torchvision"):
            import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(
            f"torchvision does not go with the torch of this environment ({one_line(error)}): install the"
            " version that does, or uninstall it"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' advice and progress bars off stderr; downloads show theirs on a terminal."""
    from huggingface_hub import utils as hub
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if sys.stderr.isatty():
        hub.enable_progress_bars()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def one_line(error: Exception) -> str:
    """Return an error's message on one line, shortened."""
    text = " ".join(str(error).split())[:300]
    return (f"no entry {text}" if isinstance(error, KeyError) else text) or type(error).__name__


def _offline() -> bool:
    """Whether the environment forbids contacting the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _cached_snapshot(model: str) -> Path | None:
    """Return the folder of an id's newest commit in the hub's cache, or None if it was never downloaded."""
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(model, name) for name in ("config.json", OPEN_CLIP))
    return next((Path(path).parent for path in paths if isinstance(path, str)), None)


def _weights_commit(folder: Path) -> str:
    """Return the commit of the snapshot that holds an id's safetensors.

    `folder` is the snapshot in use. If its commit has only pickles, the hub keeps a converted copy under
    another commit, whose snapshot is beside it.
    """
    beside = (folder, *sorted(folder.parent.iterdir()))
    return next(
        (commit.name for commit in beside if any((commit / name).exists() for name in _SAFETENSORS)),
        folder.name,
    )


def _ask(model: str) -> None:
    """Ask the hub once whether it has an id; the libraries would retry for a minute. Raises their errors."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    get_hf_file_metadata(hf_hub_url(model, "config.json"))
