"""Blocks of images: the parts in which archives and tables, here or on object storage, are embedded.

A source is a tar in webdataset's or any other layout, a Parquet file, a glob or range {000..012} of these, or
a folder of them, by path or by a URL that fsspec knows: s3://, gs://, hf://, http://. A tar is one block, and
so is each row group of a Parquet file. A block's key stands for its place, its size and its version there, so
that a set of embeddings tells which blocks it has, and a file that was replaced is another block.

    for block in blocks_of(["s3://bucket/train-*.tar"]):
        for image in read(block):   # a Blob, or a Failure for what cannot be read
            ...
"""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.embedding_files import MAX_NAME
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import Blob, name_of, without_credentials
from fieldmarks.data import tar
from fieldmarks.data.dataset import IMAGE_NAMES, braces
from fieldmarks.errors import EvaluationError, ImageError
from fieldmarks.extras import install
from fieldmarks.text import counted

PARQUET: Final = ".parquet"
SUFFIXES: Final = (*tar.TAR_SUFFIXES, PARQUET)
_VERSIONS: Final = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "last_modified",
    "LastModified",
    "mtime",
    "sha256",
)
_PATHS: Final = ("path", "file_name", "key", "__key__", "id")  # of an image's bytes beside it, in a table
_SHOWN: Final = 60  # characters of what is shortened in a message
_ROWS: Final = 4  # rows of a table in memory; a small file may repeat a large value in all of its rows


@dataclass(frozen=True, slots=True)
class Block:
    """A tar, or a row group of a Parquet file; `url` is a path where the file is on this file system."""

    url: str
    size: int
    version: str  # of the file: what its file system has of ETag, generation and time
    group: int | None = None

    @property
    def key(self) -> str:
        """What tells this block from any other, 32 hex digits."""
        parts = (self.url, str(self.size), self.version, "" if self.group is None else str(self.group))
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]

    @property
    def name(self) -> str:
        """How messages and images call it, without credentials."""
        return _called(self.url) + ("" if self.group is None else f"#{self.group}")


class SourceError(Exception):
    """A block's file that cannot be had at all, in words without its name: it is left for the next run."""


def is_block_source(source: str) -> bool:
    """Whether a source is an archive, a table, a URL, or a glob or folder of archives or tables."""
    if is_remote(source) or source.lower().endswith(SUFFIXES):
        return True
    if not Path(source).is_dir():
        return False
    with os.scandir(source) as entries:
        return any(entry.name.lower().endswith(SUFFIXES) and entry.is_file() for entry in entries)


def is_remote(source: str) -> bool:
    """Whether a source is a URL of object storage or the web."""
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.replace("+", "").isalnum() and scheme != "file"


def blocks_of(sources: Iterable[str], *, without: Path | None = None) -> list[Block]:
    """Return the blocks of sources in order, each once. Raises ImageError for a source that has none.

    Files in the folder `without` are passed over: a set's own tables, where it is inside a source.
    """
    blocks: dict[str, Block] = {}
    inside = os.path.join(os.path.abspath(without), "") if without is not None else None  # noqa: PTH100, PTH118
    for source in sources:
        every = (entry for name in _names(source) for entry in _files(name))
        files = [entry for entry in every if inside is None or not entry[0].startswith(inside)]
        found = [block for file, info in files for block in _split(file, info, is_alone=len(files) == 1)]
        if not found:
            raise ImageError(
                f"{_called(source)} has no archive or table of images: expected {', '.join(SUFFIXES)} files"
            )
        blocks |= {block.key: block for block in found}
    return list(blocks.values())


def read(block: Block) -> Iterator[Blob | Failure]:
    """Yield the images of a block as they are in its file, in order.

    A tar is fetched whole before it is read, to the folder of temporary files. Raises SourceError for a file
    that cannot be had, or is another one than when the block was planned: at the end too, as what came before
    is then of either.
    """
    with _errors():
        _check_version(block)
        if block.group is not None:
            yield from _rows(block)
        elif block.url.lower().endswith(PARQUET):
            _groups(block.url)
            raise SourceError("it could not be read when this run began: run again")
        else:
            with _local(block.url) as path:
                for member in tar.members(path):
                    yield from _image(member, str(path), block.name)
        _check_version(block)


def _check_version(block: Block) -> None:
    """Raise SourceError for a block whose file is another one now."""
    if (now := _version(_info(block.url))) != (block.size, block.version):
        raise SourceError(f"it has changed since this run began ({now[0]:,} bytes now): run again")


def _image(member: "tar.Member | Failure", path: str, name: str) -> Iterator[Blob | Failure]:
    if isinstance(member, Failure):
        yield Failure(member.image.replace(path, name, 1), member.error)
    elif tar.is_image(tar.kind_of(member)):
        data = member.read()
        yield _named(name, member.name, data.error if isinstance(data, Failure) else data)


def _rows(block: Block) -> Iterator[Blob | Failure]:
    with _opened(block.url) as file:
        table = _parquet().ParquetFile(file)
        column, path = _columns(table.schema_arrow)
        first = sum(table.metadata.row_group(group).num_rows for group in range(block.group or 0))
        columns = [name for name in (column, path) if name]
        number = first
        for batch in table.iter_batches(_ROWS, row_groups=[block.group], columns=columns):
            for row in batch.to_pylist():
                yield _cell(row[column], row.get(path) if path else None, f"{_called(block.url)}#{number}")
                number += 1


def _cell(value: Any, path: object, name: str) -> Blob | Failure:
    """Return a table's image: bytes, or Hugging Face's {"bytes", "path"}."""
    if isinstance(value, Mapping):
        path, value = path or value.get("path"), value.get("bytes")
    own = str(path) if isinstance(path, str | int) else ""
    return _named(
        name, own, value if isinstance(value, bytes) else "there are no bytes of an image in this row"
    )


def _named(container: str, name: str, found: bytes | str) -> Blob | Failure:
    """Return an image's bytes, or an error, under its name; a name that is too long for a set is an error."""
    whole = f"{container}/{name}" if name else container
    if len(whole) > MAX_NAME:
        error = f"its name has {len(whole):,} characters; the limit is {MAX_NAME:,}"
        return Failure(f"{container[: MAX_NAME // 2]}/{name[:_SHOWN]}…", error)
    return Blob(whole, found) if isinstance(found, bytes) else Failure(whole, found)


def _called(url: str) -> str:
    """Return a file's name without credentials, and as text where it is not Unicode."""
    return name_of(without_credentials(url), 0)


def _columns(schema: Any) -> tuple[str, str | None]:
    """Return the columns of the images' bytes and of their names. Raises SourceError."""
    types = import_module("pyarrow").types

    def holds_bytes(kind: Any) -> bool:
        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_struct(kind):
            names = [kind.field(place).name for place in range(kind.num_fields)]
            return "bytes" in names
        return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))

    fitting = [name for name in schema.names if holds_bytes(schema.field(name).type)]
    named = [name for name in (*IMAGE_NAMES, "jpg", "png", "webp", "bytes") if name in fitting]
    if not fitting:
        every = ", ".join(
            f"{name[:_SHOWN]} ({str(schema.field(name).type)[:_SHOWN]})" for name in schema.names[:8]
        )
        raise SourceError(
            f"it has no column of images, as bytes or {{bytes, path}}; it has {every or 'none'}"
        )
    if not named and len(fitting) != 1:
        raise SourceError(f"it has {counted(len(fitting), 'column')} of bytes: call the right one 'image'")
    path = next((name for name in _PATHS if name in schema.names and name != (named or fitting)[0]), None)
    return (named or fitting)[0], path


def _names(source: str) -> list[str]:
    """Return the names that a range such as {000..012} stands for."""
    try:
        return braces(source)
    except EvaluationError as error:
        raise ImageError(str(error)) from error


def _files(source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the files that a source stands for, sorted, with what their file system says of them."""
    with _errors(_called(source)):
        fs, path = _filesystem(source)
        prefix = source[: len(source) - len(path)] if is_remote(source) and source.endswith(path) else ""
        if fs.isdir(path):
            found = {name: info for name, info in fs.find(path, detail=True).items() if _fits(name)}
        elif any(mark in path for mark in "*?["):
            found = {name: info for name, info in fs.glob(path, detail=True).items() if _fits(name)}
        else:
            found = {path: fs.info(path)}
        for name in sorted(found):
            yield (
                (fs.unstrip_protocol(name) if is_remote(source) and not prefix else f"{prefix}{name}"),
                found[name],
            )


def _fits(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _split(url: str, info: Mapping[str, Any], *, is_alone: bool) -> Iterator[Block]:
    """Yield the blocks of a file; one that is no table of images is a block, which `read` tells.

    Raises ImageError for such a file that `is_alone`.
    """
    size, version = _version(info)
    if not url.lower().endswith(PARQUET):
        yield Block(url, size, version)
        return
    try:
        groups = _groups(url, _called(url))
    except ImageError:
        if is_alone:
            raise
        yield Block(url, size, version)
        return
    yield from (Block(url, size, version, group) for group in range(groups))


def _groups(url: str, where: str | None = None) -> int:
    """Return how many row groups a table of images has. Raises as `_errors` does for a file that is none."""
    with _errors(where), _opened(url) as file:
        table = _parquet().ParquetFile(file)
        _columns(table.schema_arrow)
        return int(table.metadata.num_row_groups)


def _version(info: Mapping[str, Any]) -> tuple[int, str]:
    return int(info.get("size") or 0), " ".join(str(info[key]) for key in _VERSIONS if info.get(key))


def _info(url: str) -> Mapping[str, Any]:
    fs, path = _filesystem(url)
    fs.invalidate_cache()
    try:
        info: Mapping[str, Any] = fs.info(path)
    except OSError as error:
        # The answer to a HEAD has no words, so that expired credentials are a "Bad Request"; this one has.
        if is_remote(url) and (isinstance(error, PermissionError) or error.errno == errno.EINVAL):
            fs.cat_file(path, 0, 1)
        raise
    return info


def _filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL or path, and the path in it. Raises ImageError."""
    fsspec = _library("fsspec")
    if not is_remote(url):
        return fsspec.filesystem("file"), os.path.abspath(url)  # noqa: PTH100 - links stay as they are
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ImageError(f"{_called(url)} cannot be opened: {error}") from error
    return fs, path


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    fs, path = _filesystem(url)
    with fs.open(path, "rb") as file:
        yield file


@contextmanager
def _local(url: str) -> Iterator[Path]:
    """Give a file of this file system: itself, or a temporary copy of a remote one."""
    if not is_remote(url):
        yield Path(url)
        return
    fs, path = _filesystem(url)
    with tempfile.TemporaryDirectory(prefix="fieldmarks-") as folder:
        copy = Path(folder) / "block"
        try:
            fs.get_file(path, str(copy))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise SourceError(
                f"no space left for a copy in {tempfile.gettempdir()}: free some, or set TMPDIR to another"
                " folder, and run again"
            ) from error
        yield copy


@contextmanager
def _errors(where: str | None = None) -> Iterator[None]:
    """Raise what a file system raises as one error: an ImageError that names `where`, or a SourceError."""

    def told(problem: str) -> Exception:
        return SourceError(problem) if where is None else ImageError(f"{where}: {problem}")

    try:
        yield
    except ImageError:
        raise
    except SourceError as error:
        raise told(str(error)) from error
    except FileNotFoundError as error:
        raise told("no such file or folder") from error
    except PermissionError as error:
        raise told(f"access refused ({_reason(error)}): check the credentials") from error
    except Exception as error:  # each file system raises its own
        raise told(f"cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (
        " ".join(str((isinstance(error, OSError) and error.strerror) or error).split())[:300]
        or type(error).__name__
    )


def _parquet() -> Any:
    return _library("pyarrow.parquet")


def _library(name: str) -> Any:
    try:
        if name == "fsspec":
            import_module("fsspec.core")
        return import_module(name)
    except ImportError as error:
        raise ImageError(f"reading archives and tables needs {name}: {install('ray')}") from error
