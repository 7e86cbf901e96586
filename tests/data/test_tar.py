"""Image tars: webdataset's layout and folders, several shards, and what strangers put into them."""

import gzip
import io
import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.data.conftest import png

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import MAX_BYTES, Blob
from fieldmarks.data import DataSet, Example, open_dataset
from fieldmarks.errors import EvaluationError

Files = Sequence[tuple[str, bytes | str]]


def _tar(path: Path, files: Files, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files:
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def _pairs(dataset: DataSet) -> list[tuple[str, bytes, str]]:
    return [
        (example.image.name.rpartition(".tar")[2], example.image.data, example.label)
        for example in dataset
        if isinstance(example, Example) and isinstance(example.image, Blob)
    ]


FOLDERS: Files = [
    ("./animals/owl/0.png", png(0)),
    ("animals/owl/1.v2.png", png(1)),
    ("animals/owl/notes.txt", "no label"),
    ("animals/owl/._0.png", b"a Mac's shadow"),
    ("animals/newt/0.PNG", png(2)),
]
FOLDER_PAIRS = [
    ("/animals/owl/0.png", png(0), "owl"),
    ("/animals/owl/1.v2.png", png(1), "owl"),
    ("/animals/newt/0.PNG", png(2), "newt"),
]


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")],
)
def test_a_folder_per_class_packed_or_not(tmp_path: Path, name: str, mode: str) -> None:
    dataset = open_dataset(str(_tar(tmp_path / name, FOLDERS, mode)))
    assert [pair[1:] for pair in _pairs(dataset)] == [pair[1:] for pair in FOLDER_PAIRS]
    assert dataset.labels() == Counter(owl=2, newt=1)
    assert dataset.metadata["layout"] == "folders"


def test_names_say_tar_and_member(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", FOLDERS)
    dataset = open_dataset(str(path))
    assert _pairs(dataset) == FOLDER_PAIRS
    assert _pairs(dataset) == FOLDER_PAIRS
    first = next(iter(dataset))
    assert isinstance(first, Example)
    assert first.image == Blob(f"{path}/animals/owl/0.png", png(0))
    assert dataset.metadata == {
        "spec": str(path),
        "kind": "tar",
        "limit": None,
        "layout": "folders",
        "image_column": None,
        "label_column": None,
        "files": ["a.tar"],
        "bytes": [path.stat().st_size],
    }


@pytest.mark.parametrize(
    "labels",
    [
        {"cls": ("1", "0")},
        {"cls": ("owl", "newt")},
        {"txt": (" owl\n", "newt")},
        {"json": ('{"label": "owl"}', '{"label": "newt", "more": []}')},
        {"json": ('{"label": 1}', '{"label": 0}')},
        {"json": ('{"class": "owl"}', '"newt"')},
        {"cls": ("1", "0"), "txt": ("a caption", "another"), "json": ("[]", "broken {")},
    ],
)
def test_webdatasets_layout(tmp_path: Path, labels: dict[str, tuple[str, str]]) -> None:
    (tmp_path / "classes.txt").write_text("newt\nowl\n")
    files: list[tuple[str, bytes | str]] = []
    for n in (0, 1):
        files += [(f"d/{n:04}.{kind}", both[n]) for kind, both in labels.items()]
        files += [(f"d/{n:04}.jpg", png(n))]
    dataset = open_dataset(str(_tar(tmp_path / "shards" / "a.tar", files)))
    expected = [("/d/0000.jpg", png(0), "owl"), ("/d/0001.jpg", png(1), "newt")]
    assert _pairs(dataset) == expected
    reversed_ = _tar(tmp_path / "shards" / "b.tar", [*reversed(files)])
    assert sorted(_pairs(open_dataset(str(reversed_)))) == expected
    assert dataset.labels() == Counter(owl=1, newt=1)
    assert dataset.metadata["layout"] == "webdataset"


def test_columns_are_kinds_of_files_and_keys_of_json(tmp_path: Path) -> None:
    about = json.dumps({"label": "owl", "family": "Strigidae"})
    files: Files = [
        ("0.jpg", png(0)),
        ("0.png", png(1)),
        ("0.mask.png", png(2)),
        ("0.txt", "A"),
        ("0.json", about),
    ]
    path = str(_tar(tmp_path / "a.tar", files))
    assert [label for _, _, label in _pairs(open_dataset(path, image_column="png"))] == ["owl"]
    for column, label in {"txt": "A", "json": "owl", "family": "Strigidae"}.items():
        dataset = open_dataset(path, image_column="mask.png", label_column=column)
        assert _pairs(dataset) == [("/0.mask.png", png(2), label)]
    assert list(open_dataset(path)) == [
        Failure(f"{path}/0.jpg", "several images in one sample: pass --image-column, one of 'jpg', 'png'")
    ]


def test_samples_without_a_usable_label_are_failures(tmp_path: Path) -> None:
    (tmp_path / "classnames.txt").write_text("newt\nowl")
    files: list[tuple[str, bytes | str]] = [("7.jpg", png(7)), ("8.cls", "1")]
    labels: list[bytes | str] = ["1", "2", "", "999999999999", "o\0wl", b"\xff", b"x" * (2**20 + 1)]
    for n, label in reversed(list(enumerate(labels))):
        files.insert(0, (f"{n}.cls", label))
        files.insert(0, (f"{n}.jpg", png(n)))
    path = _tar(tmp_path / "a.tar", files)
    dataset = open_dataset(str(path))
    assert dataset.labels() == Counter({"owl": 1, "999999999999": 1})
    assert [failure.error[:46] for failure in dataset if isinstance(failure, Failure)] == [
        "it has no label",
        "it has no label",
        "its label cannot be used: class name 'o\\x00wl'",
        "its label cannot be read: 'utf-8' codec can't ",
        "its label cannot be read: too large: 1048577 b",
        "it has no label",
    ]


def test_a_name_that_stands_twice_is_told(tmp_path: Path) -> None:
    files: Files = [("a.png", png(0)), ("a.cls", "owl"), ("a.png", png(1)), ("a.cls", "newt")]
    dataset = open_dataset(str(_tar(tmp_path / "a.tar", files)))
    assert _pairs(dataset) == [("/a.png", png(0), "owl")]
    assert [
        (Path(failure.image).name, failure.error[:11]) for failure in dataset if isinstance(failure, Failure)
    ] == [
        ("a.png", "occurs twic"),
        ("a.cls", "occurs twic"),
    ]


def test_numbers_without_a_list_of_classes_stay_numbers(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", [("0.jpg", png(0)), ("0.cls", "1")])
    assert open_dataset(str(path)).labels() == {"1": 1}
    (tmp_path / "classes.txt").write_text("a\x07\nb")
    with pytest.raises(EvaluationError, match=r"classes\.txt, line 1: class name 'a"):
        open_dataset(str(path)).labels()


def test_shards(tmp_path: Path) -> None:
    for number in range(11):
        _tar(tmp_path / f"s-{number:02}.tar", [(f"{number}.jpg", png(number)), (f"{number}.txt", "owl")])
    for spec, count in {"s-{00..10}.tar": 11, "s-{03..04}.tar": 2, "s-0*.tar": 10, ".": 11}.items():
        pictures = [data for _, data, _ in _pairs(open_dataset(str(tmp_path / spec)))]
        start = 3 if "03" in spec else 0
        assert pictures == [png(number) for number in range(start, start + count)]
    with pytest.raises(EvaluationError, match=r"s-11\.tar: no such file"):
        open_dataset(str(tmp_path / "s-{09..12}.tar"))
    with pytest.raises(EvaluationError, match="tar files have no splits: pass those of one split"):
        open_dataset(str(tmp_path / "s-*.tar"), split="test")


def test_limits_are_spread(tmp_path: Path) -> None:
    files: list[tuple[str, bytes | str]] = []
    for n in range(9):
        files += [(f"{n}.jpg", png(n)), (f"{n}.txt", "owl")]
    path = _tar(tmp_path / "a.tar", files)
    dataset = open_dataset(str(path), limit=3)
    assert [data for _, data, _ in _pairs(dataset)] == [png(2), png(5), png(8)]
    assert dataset.labels() == Counter(owl=3)
    assert open_dataset(str(path), limit=99).labels() == Counter(owl=9)


def test_hostile_members(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(9))
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("hard", tarfile.LNKTYPE), ("soft", tarfile.SYMTYPE), ("fifo", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"owl/{name}.png")
            member.type, member.linkname = kind, str(tmp_path / "secret.png")
            tar.addfile(member)
        for name in ("/etc/owl/a.png", "../../owl/b.png", "c.png", "o\x1bwl/d.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png(1))
            tar.addfile(member, io.BytesIO(png(1)))
    dataset = open_dataset(str(path))
    assert [(name, label) for name, _, label in _pairs(dataset)] == [
        ("/etc/owl/a.png", "owl"),
        ("/../../owl/b.png", "owl"),
    ]
    link = "a link inside a tar file, which is not followed"
    assert [failure.error[:47] for failure in dataset if isinstance(failure, Failure)] == [
        *(link, link, "not a regular file"),
        *("it has no label", "its label cannot be used: class name 'o\\x1bwl' "),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "secret.png"]


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("owl/a.png").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = b"77777777777\0"  # its size once unpacked
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    assert list(open_dataset(str(tmp_path / "a.tar"))) == [
        Failure(f"{tmp_path}/a.tar/owl/a.png", "not a regular file")
    ]


def test_sizes_that_are_claimed_are_not_believed(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("owl/a.png")
    huge.size = MAX_BYTES + 1
    (tmp_path / "a.tar").write_bytes(huge.tobuf() + bytes(5120))
    failed = list(open_dataset(str(tmp_path / "a.tar")))
    assert [type(failure) for failure in failed] == [Failure, Failure]
    assert [failure.error for failure in failed if isinstance(failure, Failure)] == [
        f"too large: {MAX_BYTES + 1} bytes, the limit is {MAX_BYTES}",
        "cannot be read to its end as a tar file: unexpected end of data",
    ]
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 2**33
    with gzip.open(tmp_path / "b.tar.gz", "wb") as file:
        file.write(long_name.tobuf(tarfile.GNU_FORMAT) + bytes(5120))
    with pytest.raises(
        EvaluationError, match=r"b\.tar\.gz holds no image \(.*a header of 8589934592 bytes\)"
    ):
        open_dataset(str(tmp_path / "b.tar.gz"))


def test_headers_that_never_end(tmp_path: Path) -> None:
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type = tarfile.GNUTYPE_LONGNAME
    (tmp_path / "a.tar").write_bytes(long_name.tobuf(tarfile.GNU_FORMAT) * 5000)
    with pytest.raises(EvaluationError, match=r"a\.tar holds no image \(cannot be read to its end"):
        open_dataset(str(tmp_path / "a.tar"))


def _data(dataset: Sequence[Example | Failure]) -> list[bytes]:
    return [
        example.image.data
        for example in dataset
        if isinstance(example, Example) and isinstance(example.image, Blob)
    ]


def test_a_torn_tar_ends_with_a_failure_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = _tar(tmp_path / "whole.tar", [(f"owl/{n}.png", png(n)) for n in range(4)]).read_bytes()
    end = 4 * 1024  # each member is a header and a block; a block of zeros ends the file
    for cut in [*range(1024, end + 512, 53), end, end + 511]:
        (tmp_path / "torn.tar").write_bytes(whole[:cut])
        *found, last = open_dataset(str(tmp_path / "torn.tar"))
        assert isinstance(last, Failure)
        assert last.image.startswith(f"{tmp_path}/torn.tar")
        assert _data(found) == [png(n) for n in range(4) if n * 1024 + 512 + len(png(n)) <= cut]
    (tmp_path / "torn.tar").write_bytes(whole[: end + 512])
    assert _data(list(open_dataset(str(tmp_path / "torn.tar")))) == [png(n) for n in range(4)]


def test_a_torn_packed_tar_gives_what_was_before(tmp_path: Path) -> None:
    pictures = [png(n) + np.random.default_rng(n).bytes(50_000) for n in range(4)]
    whole = _tar(tmp_path / "a.tar.gz", [(f"owl/{n}.png", data) for n, data in enumerate(pictures)], "w:gz")
    data = whole.read_bytes()
    for cut in (80_000, 120_000, 199_000):
        whole.write_bytes(data[:cut])
        *found, last = open_dataset(str(whole))
        assert isinstance(last, Failure)
        assert 1 <= len(_data(found)) == cut // 50_100
        assert _data(found) == pictures[: len(_data(found))]


def test_the_shards_after_a_torn_one_go_on(tmp_path: Path) -> None:
    first = _tar(tmp_path / "a.tar", [("owl/0.png", png(0)), ("owl/1.png", png(1))])
    first.write_bytes(first.read_bytes()[:1500])
    _tar(tmp_path / "b.tar", [("owl/2.png", png(2))])
    dataset = open_dataset(str(tmp_path / "*.tar"))
    assert [data for _, data, _ in _pairs(dataset)] == [png(0), png(2)]
    assert sum(isinstance(item, Failure) for item in dataset) >= 1


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 2000, bytes(10240)])
def test_what_is_no_tar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(
        EvaluationError, match=r"a\.tar holds no image.*: expected a tar with KEY\.jpg and KEY\.cls"
    ):
        open_dataset(str(tmp_path / "a.tar"))


def test_helper_folders_are_passed_over(tmp_path: Path) -> None:
    names = ["owl/a.png", "__MACOSX/owl/a.png", "@eaDir/a.png", "owl/._a.png", "./newt/b.png"]
    path = _tar(tmp_path / "a.tar", [(name, png(number)) for number, name in enumerate(names)])
    assert open_dataset(str(path)).labels() == {"owl": 1, "newt": 1}
