"""Tars of images, in webdataset's layout or with a folder per class, read in bounded memory and not unpacked.

In webdataset's layout, the files of one sample follow each other and share their name up to its first dot:
KEY.jpg with KEY.cls (an index into a class list beside the tars, such as classes.txt, or the label itself),
KEY.txt (the label) or KEY.json (an object with the label). Without such files, the label is the name of the
image's folder. The first sample decides between the two. Shards are given as a glob or as {000..012}.

The pass over a tar begins when the data set is opened, to see the first sample, and continues when the images
are first requested. Only a limit, which is spread evenly, needs another pass, to count them.
"""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import MAX_BYTES, SUFFIXES, Blob, is_helper
from fieldmarks.data.dataset import LABEL_NAMES, DatasetSpec, Example, expand, listed, record, taken
from fieldmarks.data.labels import find_list, read_list
from fieldmarks.errors import EvaluationError
from fieldmarks.hub import one_line

TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MAGIC: Final = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
_SPOILT: Final = (
    *(tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError),
    *(zlib.error, lzma.LZMAError),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar, readable until the next one is requested."""

    shard: Path
    name: str  # without a leading ./ or /
    size: int
    refusal: str | None  # why it is not read, if it is not
    _stream: IO[bytes]
    _offset: int

    @property
    def whole_name(self) -> str:
        """The tar's path followed by the member's name."""
        return f"{self.shard}/{self.name}"

    def read(self, most: int = MAX_BYTES) -> bytes | Failure:
        """Return the member's bytes, or a failure that says why there are none."""
        if self.refusal or self.size > most:
            why = self.refusal or f"too large: {self.size} bytes, the limit is {most}"
            return Failure(self.whole_name, why)
        try:
            self._stream.seek(self._offset)
            data = self._stream.read(self.size)
        except _SPOILT as error:
            return Failure(self.whole_name, f"cannot be read: {one_line(error)}")
        return (
            data
            if len(data) == self.size
            else Failure(self.whole_name, "cut short: the tar file ends in the middle of it")
        )

    def held(self, data: bytes | Failure) -> "Member":
        """Return the member with its bytes in memory, so that it no longer needs the tar."""
        if isinstance(data, Failure):
            return replace(self, refusal=data.error)
        return replace(self, _stream=io.BytesIO(data), _offset=0)


def members(shard: Path) -> Iterator[Member | Failure]:
    """Yield a tar's members except folders; a truncated tar ends with a failure."""
    try:
        with (
            shard.open("rb", buffering=0) as file,
            _plain(file) as stream,
            tarfile.open(fileobj=stream, mode="r:") as tar,
        ):
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # otherwise it grows with every member
                if not info.isdir():
                    name = info.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                    name = name.removeprefix("./").lstrip("/")
                    yield Member(shard, name, info.size, _refusal(info), stream, info.offset_data)
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                yield Failure(str(shard), "truncated: it has no end marker, so more images may be missing")
    except _SPOILT as error:
        yield Failure(str(shard), f"cannot be read to its end as a tar file: {one_line(error)}")


def _refusal(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return "a link inside a tar file, which is not followed"
    if not member.isreg() or member.issparse():
        return "not a regular file"
    return None


class _Bounded(io.BufferedReader):
    """A stream that never reads more than an image's size limit at once: a header may claim any length."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _plain(file: io.FileIO) -> IO[bytes]:
    """Return a tar's stream, decompressed according to its first bytes. Raises OSError."""
    start = file.read(6)
    file.seek(0)
    opener = next((opener for magic, opener in _MAGIC if start.startswith(magic)), None)
    return _Bounded(opener(file, "rb") if opener else file)


LABELS: Final = ("cls", "json", "txt")  # in order of precedence
MAX_LABEL: Final = 2**20  # bytes of a label file


class ClassLists(dict[Path, Mapping[str, str]]):
    """The class names by number for each folder that holds tars; each list is read once."""

    def __missing__(self, folder: Path) -> Mapping[str, str]:
        """Read the list beside the tars or one folder up; without a list, numbers stay as they are."""
        path = find_list(folder, folder / "..")
        self[folder] = {} if path is None else read_list(path)
        return self[folder]


def samples(shard: Path) -> Iterator[Iterable[Member | Failure]]:
    """Yield the runs of members that share a key; use each before requesting the next."""
    shown = (file for file in members(shard) if isinstance(file, Failure) or not _is_hidden(file))
    for _, group in groupby(shown, _key):
        yield group


def _key(file: Member | Failure) -> str:
    """Return the name up to the first dot in its last part."""
    if isinstance(file, Failure):
        return file.image
    return file.name[: len(file.name) - len(_last(file))] + _last(file).partition(".")[0]


def _is_hidden(member: Member) -> bool:
    *folders, name = member.name.split("/")
    return name.startswith(".") or any(is_helper(folder) for folder in folders if folder.strip("."))


def _last(member: Member) -> str:
    return member.name.rpartition("/")[2]


def kind_of(member: Member) -> str:
    """Return what follows the first dot of the file name, in lower case."""
    return _last(member).partition(".")[2].lower()


def is_image(kind: str) -> bool:
    """Whether a file of this kind has an image's suffix."""
    return f".{kind.rpartition('.')[2]}" in SUFFIXES


def folder_examples(group: Iterable[Member | Failure], *, read: bool) -> Iterator[Example | Failure]:
    """Yield every image of a group, with the name of its folder as the label."""
    for file in group:
        if isinstance(file, Failure):
            yield file
        elif is_image(kind_of(file)):
            data = file.read() if read else b""
            label = PurePosixPath(file.name).parent.name
            yield data if isinstance(data, Failure) else record(_blob(file, data), label, file.whole_name)


def webdataset_examples(
    group: Iterable[Member | Failure], source: DatasetSpec, lists: ClassLists, *, read: bool
) -> Iterator[Example | Failure]:
    """Yield a webdataset sample: the image of a group, with the label beside it."""
    images: dict[str, Blob | Failure] = {}
    labels: dict[str, bytes | Failure] = {}
    shard, held = Path(), 0
    for file in group:
        if isinstance(file, Failure):
            yield file
            continue
        shard, kind = file.shard, kind_of(file)
        if kind in images or kind in labels:
            yield Failure(file.whole_name, "occurs twice in a row, so its label is ambiguous")
        elif kind in LABELS:
            labels[kind] = file.read(MAX_LABEL)
        elif is_image(kind) and source.image_column in {None, kind}:
            data = file.read(MAX_BYTES - held) if read else b""
            held += len(data) if isinstance(data, bytes) else 0
            images[kind] = data if isinstance(data, Failure) else _blob(file, data)
    if images:
        image = _image(images)
        yield image if isinstance(image, Failure) else _labelled(image, labels, source, lists, shard)


def _image(images: Mapping[str, Blob | Failure]) -> Blob | Failure:
    """Return the image of a sample; KEY.jpg takes precedence over KEY.mask.png."""
    plain = [kind for kind in images if "." not in kind] or list(images)
    image = images[plain[0]]
    if len(plain) == 1 or isinstance(image, Failure):
        return image
    return Failure(image.name, f"several images in one sample: pass --image-column, one of {listed(plain)}")


def _labelled(
    image: Blob, labels: Mapping[str, bytes | Failure], source: DatasetSpec, lists: ClassLists, shard: Path
) -> Example | Failure:
    try:
        value = _label(labels, source.label_column)
    except ValueError as error:
        return Failure(image.name, f"its label cannot be read: {error}")
    if isinstance(value, int) and not isinstance(value, bool):
        names = lists[shard.parent]
        value = names.get(str(value)) if names else value
    return record(image, value, image.name)


def _label(labels: Mapping[str, bytes | Failure], column: str | None) -> object:
    """Return a sample's label, an int if it is an index, or None. Raises ValueError."""
    wanted = [column] if column in LABELS else ["json"] if column else LABELS
    kind = next((kind for kind in wanted if kind in labels), None)
    data = labels[kind] if kind else None
    if isinstance(data, Failure):
        raise ValueError(data.error)
    if kind is None or data is None:
        return None
    text = data.decode("utf-8-sig").strip()
    if kind == "json":
        return _from_json(text, None if column in LABELS else column)
    return int(text) if kind == "cls" and text.isascii() and text.isdigit() and len(text) < 10 else text


def _from_json(text: str, key: str | None) -> object:
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    if not isinstance(value, dict):
        return value
    key = key or next((name for name in LABEL_NAMES if name in value), None)
    return value.get(key) if key else None


def _blob(member: Member, data: bytes) -> Blob:
    return Blob(member.whole_name, data)


Group = Iterable[Member | Failure]


@dataclass(slots=True)
class Tars:
    """A data set in tar files; see `DataSet`. `is_webdataset` means webdataset's layout."""

    metadata: Mapping[str, Any]
    source: DatasetSpec
    shards: Sequence[Path]
    is_webdataset: bool
    started: Iterator[Group] | None  # the pass that opening began
    notices: Sequence[str] = field(default_factory=tuple)
    is_indexed: bool = False

    def labels(self) -> Counter[str]:
        """The number of images under each label, counted without reading them. Raises EvaluationError."""
        return Counter(entry.label for entry in self._taken(read=False) if isinstance(entry, Example))

    def __iter__(self) -> Iterator[Example | Failure]:
        return self._taken(read=True)

    def _taken(self, *, read: bool) -> Iterator[Example | Failure]:
        """Yield the records within the limit, spread evenly; a first pass counts all records."""
        limit = self.source.limit
        count = 0 if limit is None else sum(1 for _ in self._records(read=False))
        limit = limit if limit is not None and limit < count else None
        for number, entry in enumerate(self._records(read=read)):
            if taken(number, count, limit):
                yield entry

    def _records(self, *, read: bool) -> Iterator[Example | Failure]:
        lists = ClassLists()
        groups, self.started = self.started or _groups(self.shards), None
        for group in groups:
            if self.is_webdataset:
                yield from webdataset_examples(group, self.source, lists, read=read)
            else:
                yield from folder_examples(group, read=read)


def open_tars(source: DatasetSpec) -> Tars:
    """Find the shards and their layout. Raises EvaluationError if they hold no image."""
    shards = expand(source.name, TAR_SUFFIXES)
    if source.split is not None:
        raise EvaluationError(f"{source.spec}: tar files have no splits: pass those of one split")
    groups = _groups(shards)
    first = list(_up_to_image(groups, source))
    kinds = [kind_of(file) for file in first[-1] if isinstance(file, Member)]
    is_webdataset = source.label_column is not None or any(kind in LABELS for kind in kinds)
    metadata: dict[str, Any] = {"spec": source.spec, "kind": "tar", "limit": source.limit}
    metadata |= {"layout": "webdataset" if is_webdataset else "folders"}
    metadata |= {"image_column": source.image_column, "label_column": source.label_column}
    metadata |= {"files": [path.name for path in shards], "bytes": [path.stat().st_size for path in shards]}
    return Tars(metadata, source, shards, is_webdataset, chain(first, groups))


def _groups(shards: Iterable[Path]) -> Iterator[Group]:
    for shard in shards:
        yield from samples(shard)


def _read(group: Group) -> list[Member | Failure]:
    """Return a group's files with the images and labels in memory, so that they can be read later."""
    files: list[Member | Failure] = []
    held = 0
    for file in group:
        if isinstance(file, Member) and (is_image(kind_of(file)) or kind_of(file) in LABELS):
            data = file.read(MAX_BYTES - held)
            held += len(data) if isinstance(data, bytes) else 0
            file = file.held(data)
        files.append(file)
    return files


def _up_to_image(groups: Iterable[Group], source: DatasetSpec) -> Iterator[list[Member | Failure]]:
    """Yield the failures before the first sample with an image, then that sample. Raises EvaluationError."""
    failed = ""
    for group in groups:
        files = _read(group)
        failures: list[Member | Failure] = [file for file in files if isinstance(file, Failure)]
        failed = failed or "".join(f" ({file.error})" for file in failures[:1] if isinstance(file, Failure))
        if any(isinstance(file, Member) and is_image(kind_of(file)) for file in files):
            yield files
            return
        if failures:
            yield failures
    raise EvaluationError(f"{source.spec} holds no image{failed}: expected a tar with KEY.jpg and KEY.cls")
