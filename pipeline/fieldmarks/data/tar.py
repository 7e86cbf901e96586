"""Tar files, read once from front to back in bounded memory; nothing of them is ever written to disk.

Samples of image tars: pictures that lie in their class's folder, or beside files with their label.

Image tars: webdataset's layout, or a folder per class.

In webdataset's layout the files of one sample follow each other and share their name up to its first dot:
KEY.jpg with KEY.cls (an index into classes.txt or classnames.txt beside the tars, or the label itself),
KEY.txt (the label) or KEY.json (an object with the label). Without such files the label is the name of the
folder that the picture lies in. The first sample decides. Shards are given as a glob or as {000..012}.
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
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import MAX_BYTES, SUFFIXES, Blob, is_helper
from fieldmarks.data.dataset import LABEL_NAMES, Example, Source, expand, listed, record, taken
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
    """A file in a tar; it can be read as long as the next one has not been asked for."""

    shard: Path
    name: str  # without a leading ./ or /
    size: int
    refusal: str | None  # why it is no plain file of a bearable size
    _stream: IO[bytes]
    _offset: int

    @property
    def whole_name(self) -> str:
        """The name with the tar's before it."""
        return f"{self.shard}/{self.name}"

    def read(self, most: int = MAX_BYTES) -> bytes | Failure:
        """Return the member's bytes, or why there are none."""
        if self.refusal or self.size > most:
            why = self.refusal or f"too large: {self.size} bytes, {most} are the most"
            return Failure(self.whole_name, why)
        try:
            self._stream.seek(self._offset)
            data = self._stream.read(self.size)
        except _SPOILT as error:
            return Failure(self.whole_name, f"cannot be read: {one_line(error)}")
        return (
            data if len(data) == self.size else Failure(self.whole_name, "cut short: the tar file ends in it")
        )


def members(shard: Path) -> Iterator[Member | Failure]:
    """Yield a tar's members that are no folders; a tar that is torn ends with a failure."""
    try:
        with _open(shard) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            while (one := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else it grows with every member
                if not one.isdir():
                    name = one.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                    name = name.removeprefix("./").lstrip("/")
                    yield Member(shard, name, one.size, _refusal(one), stream, one.offset_data)
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                yield Failure(str(shard), "torn: it has no end mark, so more pictures may be missing")
    except _SPOILT as error:
        yield Failure(str(shard), f"cannot be read to its end as a tar file: {one_line(error)}")


def _refusal(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return "a link inside a tar file, which is not followed"
    if not member.isreg() or member.issparse():
        return "no plain file"
    return None


class _Bounded(io.BufferedReader):
    """A stream that reads no more at once than a picture may have: a header may claim any length."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


def _open(shard: Path) -> IO[bytes]:
    """Open a tar file, through the decompression that its first bytes ask for. Raises OSError."""
    with shard.open("rb") as file:
        start = file.read(6)
    opener = next((one for magic, one in _MAGIC if start.startswith(magic)), None)
    plain = opener(shard, "rb") if opener else shard.open("rb", buffering=0)
    return _Bounded(plain)


LABELS: Final = ("cls", "json", "txt")  # in the order in which they are asked
MAX_LABEL: Final = 2**20  # bytes of a label's file


class ClassLists(dict[Path, Mapping[str, str]]):
    """The class names beside tars by their numbers, for each of the tars' folders, each list read once."""

    def __missing__(self, folder: Path) -> Mapping[str, str]:
        """Read the list beside the tars or one folder up; without one, numbers stay as they are."""
        path = find_list(folder, folder / "..")
        self[folder] = {} if path is None else read_list(path)
        return self[folder]


def samples(shard: Path) -> Iterator[Iterable[Member | Failure]]:
    """Yield the runs of members that share a key, each to be used before the next."""
    shown = (one for one in members(shard) if isinstance(one, Failure) or not _is_hidden(one))
    for _, group in groupby(shown, _key):
        yield group


def _key(one: Member | Failure) -> str:
    """Return the name up to the first dot of its last part."""
    if isinstance(one, Failure):
        return one.image
    return one.name[: len(one.name) - len(_last(one))] + _last(one).partition(".")[0]


def _is_hidden(member: Member) -> bool:
    *folders, name = member.name.split("/")
    return name.startswith(".") or any(is_helper(folder) for folder in folders if folder.strip("."))


def _last(member: Member) -> str:
    return member.name.rpartition("/")[2]


def kind_of(member: Member) -> str:
    """Return what follows the first dot of the name."""
    return _last(member).partition(".")[2].lower()


def is_picture(kind: str) -> bool:
    """Whether a file of this kind is called like a picture."""
    return f".{kind.rpartition('.')[2]}" in SUFFIXES


def filed(group: Iterable[Member | Failure], *, read: bool) -> Iterator[Example | Failure]:
    """Yield every picture of a group under the name of its folder."""
    for one in group:
        if isinstance(one, Failure):
            yield one
        elif is_picture(kind_of(one)):
            data = one.read() if read else b""
            label = PurePosixPath(one.name).parent.name
            yield data if isinstance(data, Failure) else record(_blob(one, data), label, one.whole_name)


def paired(
    group: Iterable[Member | Failure], source: Source, lists: ClassLists, *, read: bool
) -> Iterator[Example | Failure]:
    """Yield a sample of webdataset: the picture of a group, under the label beside it."""
    pictures: dict[str, Blob | Failure] = {}
    labels: dict[str, bytes | Failure] = {}
    shard, held = Path(), 0
    for one in group:
        if isinstance(one, Failure):
            yield one
            continue
        shard, kind = one.shard, kind_of(one)
        if kind in pictures or kind in labels:
            yield Failure(one.whole_name, "stands twice in a row, so that its label is in doubt")
        elif kind in LABELS:
            labels[kind] = one.read(MAX_LABEL)
        elif is_picture(kind) and source.image_column in {None, kind}:
            data = one.read(MAX_BYTES - held) if read else b""
            held += len(data) if isinstance(data, bytes) else 0
            pictures[kind] = data if isinstance(data, Failure) else _blob(one, data)
    if pictures:
        picture = _picture(pictures)
        yield picture if isinstance(picture, Failure) else _labelled(picture, labels, source, lists, shard)


def _picture(pictures: Mapping[str, Blob | Failure]) -> Blob | Failure:
    """Return the picture of a sample; one called KEY.jpg goes before KEY.mask.png."""
    plain = [kind for kind in pictures if "." not in kind] or list(pictures)
    picture = pictures[plain[0]]
    if len(plain) == 1 or isinstance(picture, Failure):
        return picture
    return Failure(
        picture.name, f"several pictures in one sample: say --image-column, one of {listed(plain)}"
    )


def _labelled(
    picture: Blob, labels: Mapping[str, bytes | Failure], source: Source, lists: ClassLists, shard: Path
) -> Example | Failure:
    try:
        value = _label(labels, source.label_column)
    except ValueError as error:
        return Failure(picture.name, f"its label cannot be read: {error}")
    if isinstance(value, int) and not isinstance(value, bool):
        names = lists[shard.parent]
        value = names.get(str(value)) if names else value
    return record(picture, value, picture.name)


def _label(labels: Mapping[str, bytes | Failure], column: str | None) -> object:
    """Return a sample's label, a number for an index, or None. Raises ValueError."""
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
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    if not isinstance(found, dict):
        return found
    key = key or next((name for name in LABEL_NAMES if name in found), None)
    return found.get(key) if key else None


def _blob(member: Member, data: bytes) -> Blob:
    return Blob(member.whole_name, data)


@dataclass(frozen=True, slots=True)
class Tars:
    """A data set in tar files; see `DataSet`. `paired` is webdataset's layout."""

    about: Mapping[str, Any]
    source: Source
    shards: Sequence[Path]
    paired: bool
    notices: Sequence[str] = field(default_factory=tuple)

    def labels(self) -> Counter[str]:
        """The number of pictures under each label; the pictures are passed over. Raises EvaluationError."""
        return Counter(one.label for one in self._taken(read=False) if isinstance(one, Example))

    def __iter__(self) -> Iterator[Example | Failure]:
        return self._taken(read=True)

    def _taken(self, *, read: bool) -> Iterator[Example | Failure]:
        """Yield the records within the limit, which are evenly spread: a first pass counts them."""
        limit = self.source.limit
        count = 0 if limit is None else sum(1 for _ in self._records(read=False))
        limit = limit if limit is not None and limit < count else None
        for number, one in enumerate(self._records(read=read)):
            if taken(number, count, limit):
                yield one

    def _records(self, *, read: bool) -> Iterator[Example | Failure]:
        lists = ClassLists()
        for shard in self.shards:
            for group in samples(shard):
                yield from (
                    paired(group, self.source, lists, read=read) if self.paired else filed(group, read=read)
                )


def open_tars(source: Source) -> Tars:
    """Find the shards and their layout. Raises EvaluationError where they hold no picture."""
    shards = expand(source.spec, TAR_SUFFIXES)
    if source.split is not None:
        raise EvaluationError(f"{source.spec}: tar files have no splits: name those of one split")
    paired = _layout(source, shards)
    about: dict[str, Any] = {"spec": source.spec, "kind": "tar", "limit": source.limit}
    about |= {"layout": "webdataset" if paired else "folders"}
    about |= {"image_column": source.image_column, "label_column": source.label_column}
    about |= {"files": [path.name for path in shards], "bytes": [path.stat().st_size for path in shards]}
    return Tars(about, source, shards, paired)


def _layout(source: Source, shards: Sequence[Path]) -> bool:
    """Whether the first sample with a picture has its label in a file beside the picture."""
    failed = ""
    for shard in shards:
        for group in samples(shard):
            kinds = []
            for one in group:
                failed = failed or f" ({one.error})" if isinstance(one, Failure) else failed
                kinds += [kind_of(one)] if isinstance(one, Member) else []
            if any(is_picture(kind) for kind in kinds):
                return source.label_column is not None or any(kind in LABELS for kind in kinds)
    raise EvaluationError(f"{source.spec} holds no picture{failed}: a tar with KEY.jpg and KEY.cls is meant")
