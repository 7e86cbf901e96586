"""Samples of image tars: pictures that lie in their class's folder, or beside files with their label."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Final

from fieldmarks.bounds import read_text
from fieldmarks.classification.fetch import MAX_BYTES
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import SUFFIXES, Blob
from fieldmarks.errors import ClassNameError, EvaluationError
from fieldmarks.evaluation.data.dataset import LABEL_NAMES, Example, Source, listed, record
from fieldmarks.evaluation.data.shards import Member, members
from fieldmarks.records import MAX_LIST, class_name

LABELS: Final = ("cls", "json", "txt")  # in the order in which they are asked
CLASS_LISTS: Final = ("classes.txt", "classnames.txt")
MAX_LABEL: Final = 2**20  # bytes of a label's file


class ClassLists(dict[Path, Sequence[str]]):
    """The class names beside tars, by the tars' folder, each list read once."""

    def __missing__(self, folder: Path) -> Sequence[str]:
        """Read a list. Raises EvaluationError where there is none beside the tars or one folder up."""
        beside = [place / name for place in (folder, folder / "..") for name in CLASS_LISTS]
        path = next((path for path in beside if path.is_file()), None)
        if path is None:
            raise EvaluationError(
                f"the labels in {folder} are numbers: put their names beside the tars, one a line, as"
                " classes.txt, or name another label with --label-column (txt, or a key of the .json)"
            )
        try:
            self[folder] = [
                class_name(line) for line in read_text(path, MAX_LIST, EvaluationError).rstrip().split("\n")
            ]
        except ClassNameError as error:
            raise EvaluationError(f"{path}: {error}") from error
        return self[folder]


def samples(shard: Path) -> Iterator[Iterable[Member | Failure]]:
    """Yield the runs of members that share a key, each to be used before the next."""
    shown = (one for one in members(shard) if isinstance(one, Failure) or not _last(one).startswith("."))
    for _, group in groupby(shown, _key):
        yield group


def _key(one: Member | Failure) -> str:
    """Return the name up to the first dot of its last part."""
    if isinstance(one, Failure):
        return one.image
    return one.name[: len(one.name) - len(_last(one))] + _last(one).partition(".")[0]


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
        value = names[value] if 0 <= value < len(names) else None
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
