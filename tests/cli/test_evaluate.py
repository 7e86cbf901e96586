"""`fieldmarks evaluate` as a user runs it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.evaluation.recompute import faults
from tests.evaluation.worlds import draw_species, problem, save

from fieldmarks.classification.classifier_file import ClassifierFile
from fieldmarks.classification.head import Head
from fieldmarks.cli import main
from fieldmarks.store import Store


@pytest.fixture
def kept(tmp_path: Path) -> list[str]:
    """Options of a saved classifier and of labelled embeddings, which need no model."""
    head, embeddings = save(problem([3, 2, 4, 3, 2, 3, 1], 120, seed=2), tmp_path)
    return ["--classifier", str(head), "--image-embeddings", str(embeddings)]


@pytest.fixture(scope="module")
def species(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of three species and two pictures of each."""
    folder = tmp_path_factory.mktemp("species")
    draw_species(folder, 3, 2)
    return folder


def _run(runner: CliRunner, *args: str | Path, code: int = 0) -> Result:
    result = runner.invoke(main, ["evaluate", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


def _plain(runner: CliRunner, *args: str | Path, code: int = 0) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(_run(runner, *args, "--json", "-", code=code).stdout)
    assert faults(plain) == []
    return plain


def _of_species(folder: Path, demo_clip: Path) -> list[str | Path]:
    return [folder / "pictures", "--store", folder / "species.jsonl", "--clip", demo_clip]


def test_the_table(runner: CliRunner, kept: list[str]) -> None:
    result = _run(runner, *kept, "--arms", "photo,descriptors,swapped", "--ablate")
    lines = result.stdout.splitlines()
    assert result.stderr.endswith("120 images in 7 classes, 12–24 each\nEvaluated 3 arms on 120 images.\n")
    assert "  class 6 " not in result.stderr
    assert max(map(len, lines)) <= 80
    assert lines[:2] == [
        "120 images, 7 classes; accuracy in %, 95% CI in brackets",
        "arm                                top-1               top-5      mean per class",
    ]
    assert [line.split("  ")[0] for line in lines[2:5]] == ["photo", "descriptors", "swapped (of 5)"]
    assert lines[6] == "vs photo                         top-1, points         McNemar's p"
    assert sum(line.startswith("Descriptors: ") for line in lines) == 1
    assert sum(line.startswith("Descriptors shuffled between classes: ") for line in lines) == 1
    assert "leave-one-out effect of each descriptor (top-1 points; margin in logits)" in lines


def test_a_saved_classifier_tells_what_it_cannot(runner: CliRunner, kept: list[str]) -> None:
    why = "a saved classifier has no arm waffle: it needs texts that are not in it"
    result = _run(runner, *kept)
    assert result.stderr.splitlines()[0] == f"Note: {why}"
    assert "waffle" not in result.stdout
    asked = _run(runner, *kept, "--arms", "waffle,descriptors", code=2)  # an arm asked for by name
    assert asked.stderr.endswith(f"Error: {why}\n")


def test_a_learned_classifier_is_measured_as_it_has_learned(runner: CliRunner, tmp_path: Path) -> None:
    posed = problem([3, 2, 4], 60, seed=2)
    save(posed, tmp_path)
    bias = np.array([0.3, 0.0, -0.3], np.float32)
    head = Head(posed.texts, posed.rows, 20.0, baseline=posed.names, bias=bias)
    ClassifierFile(tmp_path / "learned.safetensors").write(head)
    given: list[str | Path] = ["--classifier", tmp_path / "learned.safetensors"]
    given += ["--image-embeddings", tmp_path / "kept.npz"]
    plain = _plain(runner, *given)
    assert [arm["name"] for arm in plain["arms"]] == ["photo", "descriptors"]
    expected = head.logits(posed.images).argmax(axis=1).tolist()
    assert plain["arms"][1]["runs"][0]["predicted"] == expected
    assert expected != Head(posed.texts, posed.rows, 20.0).logits(posed.images).argmax(axis=1).tolist()
    assert {example["scores"][0]["class"] for example in plain["examples"]} <= set(posed.texts.classes)
    refused = _run(runner, *given, "--ablate", code=1)
    assert refused.stderr.endswith("Error: --ablate cannot leave out a text that has a learned weight\n")
    asked = _run(runner, *given, "--arms", "swapped", code=2)
    assert "a saved classifier has no arm swapped: its texts have learned weights" in asked.stderr


@pytest.mark.slow
def test_json_alone_on_stdout(runner: CliRunner, kept: list[str]) -> None:
    plain = _plain(runner, *kept, "--ablate", "--seeds", "3")
    assert [len(arm["runs"]) for arm in plain["arms"]] == [1, 1, 3]
    assert [run["seed"] for run in plain["arms"][2]["runs"]] == [0, 1, 2]
    assert len(plain["effects"]) == 18
    assert plain["effects"][0]["effect"] <= plain["effects"][-1]["effect"]
    settings, given = plain["settings"], kept
    assert settings["command"] == [
        "fieldmarks",
        "evaluate",
        *given,
        "--seeds",
        "3",
        "--ablate",
        "--json",
        "-",
    ]
    assert settings["wanted"]["seeds"] == [0, 1, 2]
    assert settings["classifier_sha256"]
    assert {"numpy", "scipy", "torch"} <= settings["packages"].keys()
    assert 0 < len(plain["examples"]) <= 24
    assert plain["examples"][0].keys() >= {"label", "by", "image", "scores", "marks"}


@pytest.mark.slow
def test_the_same_again(runner: CliRunner, kept: list[str]) -> None:
    assert _plain(runner, *kept) == _plain(runner, *kept)


@pytest.mark.slow
def test_an_earlier_file_is_replaced_and_no_other(runner: CliRunner, kept: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    _run(runner, *kept, "--json", out)
    first = out.read_bytes()
    kept = [*kept, "--arms", "photo,descriptors"]
    refused = _run(runner, *kept, "--json", out, code=1)
    assert refused.stderr == f"Error: {out} already exists: choose another name, or pass --force\n"
    assert out.read_bytes() == first
    kept += ["--force"]
    _run(runner, *kept, "--json", out)
    assert len(json.loads(out.read_bytes())["arms"]) == 2
    out.write_text('{"v": 1, "mine": true}')
    result = _run(runner, *kept, "--json", out, code=1)
    assert result.stderr.endswith(
        f"Error: {out} already exists and is not a fieldmarks evaluation; choose another name\n"
    )
    assert out.read_text() == '{"v": 1, "mine": true}'


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give either --store or --classifier"),
        (["--store", "frogs"], "pass a DATASET, or --image-embeddings"),
        (["photos", "--store", "frogs", "--arms", "photo,fotos"], "'fotos' is not one of name, photo"),
        (["photos", "--store", "frogs", "--arms", "concept"], "the arm concept needs --concept"),
        (
            ["photos", "--classifier", "head", "--preset", "paper"],
            "--preset goes with --store: a saved classifier has its own texts",
        ),
        (
            ["photos", "--classifier", "head", "--preset", "article"],
            "--preset goes with --store: a saved classifier has its own texts",
        ),
        (["photos", "--classifier", "head", "--with-name"], "--text and --with-name go with --store"),
        (["photos", "--classifier", "head", "--concept", "bird"], "--concept goes with --store"),
        (["photos", "--store", "frogs", "--arms", "photo", "--preset", "paper"], "--preset has no effect"),
        (["", "--store", "frogs"], "DATASET is empty: pass a folder or a file"),
        (
            ["photos", "--store", "frogs", "--classifier", "head", "--preflight"],
            "give either --store or --classifier",
        ),
        (
            ["photos", "--store", "frogs", "--json", __file__, "--report", __file__],
            "name the same file: pass two",
        ),
        (["photos", "--store", "frogs", "--write-flags"], "--write-flags needs --ablate and --store"),
        (["photos", "--preflight", "--json", "a.json"], "--preflight computes no figures: leave out --json"),
        (["photos", "--preflight", "--ablate"], "--preflight computes no figures: leave out --ablate"),
        (["--image-embeddings", "a.npz", "--store", "frogs", "--limit", "5"], "--limit needs a DATASET"),
        (["photos", "--store", "frogs", "--arms", "photo", "--seeds", "3"], "--seeds has no effect"),
        (["photos", "--store", "frogs", "--arms", "photo", "--text", "x"], "--text has no effect"),
        (["photos", "--store", "frogs", "--arms", "photo", "--with-name"], "--with-name has no effect"),
        (
            ["photos", "--store", "frogs", "--text", "{descriptor}", "--preset", "article,paper"],
            "--text replaces a preset's wording",
        ),
    ],
)
def test_wrong_usage(runner: CliRunner, args: list[str], said: str) -> None:
    assert said in _run(runner, *args, code=2).stderr


@pytest.mark.slow
def test_labels_without_a_class_are_an_error(runner: CliRunner, tmp_path: Path) -> None:
    posed = problem([2, 2, 2], 30, seed=0)
    head, embeddings = save(posed, tmp_path)
    with np.load(embeddings) as archive:
        arrays = dict(archive)
    arrays["labels"] = np.where(arrays["labels"] == "class 2", "kiwi", arrays["labels"])
    np.savez(embeddings, **arrays)
    args: list[str | Path] = ["--classifier", head, "--image-embeddings", embeddings]
    assert "labels without a class in the store: 'kiwi'" in _run(runner, *args, code=1).stderr
    plain = _plain(runner, *args, "--allow-missing")
    assert len(plain["images"]) == 30 - int((posed.labels == 2).sum())
    assert "left out: labels without a class in the store: 'kiwi'" in plain["notices"]
    assert plain["arms"][0]["recall"][2] is None


def test_preflight_counts_and_prints_aliases_where_labels_do_not_match(
    runner: CliRunner, tmp_path: Path
) -> None:
    for label in ("AnnualCrop", "001.sea_lake", "zzz"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "a.png").write_bytes(label.encode())
    (tmp_path / "photos" / "zzz" / "b.mov").touch()
    store = tmp_path / "store.jsonl"
    lines = [
        f'{{"class": "{name}", "descriptors": ["x{name}"]}}' for name in ("annual crop land", "sea lake")
    ]
    store.write_text("\n".join(lines) + "\n")
    result = _run(runner, tmp_path / "photos", "--store", store, "--preflight")
    assert result.stdout == "\ufefflabel,class\nAnnualCrop,annual crop land\n"
    assert result.stderr.splitlines() == [
        f"Note: {tmp_path}/photos: 3 images; left out: 1 .mov",
        "Note: 1 label matched after ignoring case, accents, separators and numbers in front:"
        " '001.sea_lake' as 'sea lake'",
        "Note: left out: labels without a class in the store: 'AnnualCrop', 'zzz'",
        "  sea lake               1",
        "  annual crop land       0",
        "1 image in 1 class, 2 left out",
        "1 label near a class: check these lines, then pass --aliases FILE.csv",
        "Inspected 1 image; no model was loaded.",
    ]
    (tmp_path / "aliases.csv").write_text(result.stdout)
    result = _run(
        *(runner, tmp_path / "photos", "--store", store, "--preflight", "--aliases", tmp_path / "aliases.csv")
    )
    assert (result.stdout, result.stderr.splitlines()[-2]) == ("", "2 images in 2 classes, 1 left out")


def test_numbers_are_named_by_a_list_beside_the_data(runner: CliRunner, tmp_path: Path) -> None:
    for label in ("0", "1"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "a.png").write_bytes(label.encode())
    (tmp_path / "photos" / "classes.txt").write_text("owl\ntree frog\n")
    result = _run(runner, tmp_path / "photos", "--preflight")
    assert result.stdout == "owl\ntree frog\n"
    listed = f"the labels are numbers, named by {tmp_path}/photos/classes.txt: '0' is 'owl'"
    assert result.stderr.splitlines()[0] == f"Note: {listed}"
    (tmp_path / "aliases.json").write_text('{"0": "barn owl"}')
    result = _run(runner, tmp_path / "photos", "--preflight", "--aliases", tmp_path / "aliases.json")
    assert result.stdout == "barn owl\ntree frog\n"


def test_preflight_needs_no_model(runner: CliRunner, species: Path) -> None:
    result = _run(
        runner, species / "pictures", "--store", species / "species.jsonl", "--clip", "none", "--preflight"
    )
    assert result.stdout == ""
    assert result.stderr.endswith("6 images in 3 classes\nInspected 6 images; no model was loaded.\n")


def test_labels_are_a_class_list_for_generation(runner: CliRunner, tmp_path: Path) -> None:
    for name in ("tree_frog", "Bullfrog", "<b>kiwi<b>"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.png").write_bytes(name.encode())
    result = _run(runner, tmp_path / "pictures", "--preflight")
    assert result.stdout == "<b>kiwi<b>\nBullfrog\ntree_frog\n"
    assert result.stderr.splitlines()[-2] == "3 images in 3 classes"
    aliases = tmp_path / "aliases.json"
    aliases.write_text('{"tree_frog": "tree frog", "Bullfrog": "tree frog"}')
    aliased = _run(runner, tmp_path / "pictures", "--preflight", "--aliases", aliases)
    assert aliased.stdout == "<b>kiwi<b>\ntree frog\n"


def test_labels_of_kept_embeddings_are_a_class_list_too(runner: CliRunner, kept: list[str]) -> None:
    result = _run(runner, *kept[2:], "--preflight")
    assert result.stdout == "".join(f"class {n}\n" for n in range(7))
    assert "120 images in 7 classes\n" in result.stderr


def test_no_label_is_no_class_list(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "pictures.csv").write_text("image,label\n1.png,\n")
    (tmp_path / "1.png").write_bytes(b"")
    result = _run(runner, tmp_path / "pictures.csv", "--preflight", code=1)
    assert (result.stdout, result.stderr) == ("", "Error: no image has a label\n")


def test_nothing_is_read_for_what_could_not_be_written(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "arms.svg").write_text("mine")
    given: list[str | Path] = ["nowhere", "--store", "frogs"]
    refused = _run(runner, *given, "--save-plots", tmp_path, code=1)
    assert refused.stderr.endswith(
        "arms.svg already exists and is not a fieldmarks chart; choose another name\n"
    )
    refused = _run(runner, *given, "--ablate", "--write-flags", code=1)
    assert refused.stderr.startswith("Error: frogs ships with fieldmarks and is read-only: ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--arms", "photo", "--ablate"], "there is nothing to ablate without the arm descriptors"),
        (["--arms", "descriptors", "--ablate"], "with a single class no descriptor can help or hurt"),
    ],
)
def test_no_picture_is_read_for_what_cannot_be_ablated(
    runner: CliRunner, tmp_path: Path, args: list[str], said: str
) -> None:
    (tmp_path / "pictures" / "owl").mkdir(parents=True)
    (tmp_path / "pictures" / "owl" / "1.png").write_bytes(b"")
    store = tmp_path / "store.jsonl"
    store.write_text('{"class": "owl", "descriptors": ["big eyes"]}\n')
    given: list[str | Path] = [tmp_path / "pictures", "--store", store, "--clip", tmp_path / "none"]
    assert _run(runner, *given, *args, code=1).stderr.endswith(f"Error: {said}\n")


@pytest.mark.slow
def test_embeddings_of_an_unknown_model_are_told(
    runner: CliRunner, species: Path, demo_clip: Path, tmp_path: Path
) -> None:
    names = Store(species / "species.jsonl").names()
    vectors = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
    np.savez(tmp_path / "kept.npz", embeddings=vectors, labels=np.array(names * 2))
    given = ["--image-embeddings", tmp_path / "kept.npz", *_of_species(species, demo_clip)[1:]]
    notice = f"{tmp_path / 'kept.npz'} does not say which model made it: figures hold if it was {demo_clip}"
    assert notice in _plain(runner, *given, "--arms", "photo")["notices"]


@pytest.mark.slow
def test_every_arm(runner: CliRunner, species: Path, demo_clip: Path, tmp_path: Path) -> None:
    sentences = tmp_path / "sentences.jsonl"
    entries = Store(species / "species.jsonl").entries()
    lines = [{"class": entry.name, "descriptors": [f"it has {entry.descriptors[0]}"]} for entry in entries]
    sentences.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arms = "name,photo,templates,descriptors,waffle,random-words,swapped"
    more = ["--concept", "creature", "--sentences", str(sentences), "--preset", "article,paper"]
    plain = _plain(runner, *_of_species(species, demo_clip), "--arms", arms, *more, "--seeds", "2")
    texts = {arm["name"]: arm["texts"][0] for arm in plain["arms"]}
    name = plain["classes"][0]
    assert list(texts) == [
        "name",
        "photo",
        "templates",
        "concept",
        "descriptors article",
        "descriptors paper",
        "sentences",
        "waffle",
        "random-words",
        "swapped",
    ]
    assert texts["name"] == name
    assert texts["photo"] == texts["templates"] == f"a photo of a {name}"
    assert texts["concept"] == f"a photo of a creature: a {name}"
    assert texts["sentences"].startswith("it has ")
    assert texts["waffle"].startswith(f"a photo of a {name}, which ")
    assert texts["random-words"].startswith(f"a photo of a {name}, which ")
    assert texts["swapped"] != texts["descriptors article"]
    assert plain["settings"]["wanted"]["templates"][0] == "a photo of a {class}"


@pytest.mark.slow
def test_pictures_that_cannot_be_read(
    runner: CliRunner, demo_clip: Path, tmp_path: Path, species: Path
) -> None:
    store = draw_species(tmp_path, 2, 2)
    (tmp_path / "pictures" / next((tmp_path / "pictures").iterdir()).name / "torn.png").write_bytes(
        b"\x89PNG torn"
    )
    result = _run(runner, tmp_path / "pictures", "--store", store, "--clip", demo_clip, "--json", "-", code=3)
    plain = json.loads(result.stdout)
    assert len(plain["images"]) == 4
    assert plain["failures"][0]["image"].endswith("torn.png")
    assert "torn.png: not an image in a known format" in result.stderr


@pytest.mark.slow
def test_flags_are_written_when_asked(runner: CliRunner, demo_clip: Path, tmp_path: Path) -> None:
    store = draw_species(tmp_path, 3, 2)
    before = store.read_bytes()
    args: list[str | Path] = [tmp_path / "pictures", "--store", store, "--clip", demo_clip, "--ablate"]
    _run(runner, *args)
    assert store.read_bytes() == before
    result = _run(runner, *args, "--write-flags")
    assert "3 classes have measured effects" in result.stderr
    for entry in Store(store).entries():
        assert entry.measured is not None
        assert len(entry.measured["effects"]) == 8
        assert entry.measured["preset"] == "article, mean-embedding"


@pytest.mark.slow
def test_page_and_charts(runner: CliRunner, species: Path, demo_clip: Path, tmp_path: Path) -> None:
    _run(
        runner,
        *_of_species(species, demo_clip),
        "--report",
        tmp_path / "page.html",
        "--save-plots",
        tmp_path / "plots",
    )
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "data:image/jpeg;base64," in page
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".pdf", ".png", ".svg"}
