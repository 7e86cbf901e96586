"""Labels meet classes: exactly, by alias, by folding; what does not meet is told or refused."""

import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.data.labels import (
    Matching,
    alias_file,
    check_aliases,
    fold,
    letters,
    match,
    near_names,
    read_aliases,
    require,
)
from fieldmarks.errors import EvaluationError


def test_exact_names_come_before_aliases_and_these_before_folding() -> None:
    found = match(
        ["t-shirt", "Tree_Frog", "n01", "cafe\u0301", "n02", "yeti"],
        ["tree frog", "t-shirt", "T Shirt", "café", "owl", "barn owl", "newt"],
        {"n01": "owl", "n02": "Barn-Owl", "t-shirt": "owl", "unused": "x"},
    )
    assert found == Matching(
        class_of={
            "t-shirt": "t-shirt",
            "Tree_Frog": "tree frog",
            "n01": "owl",
            "cafe\u0301": "café",
            "n02": "barn owl",
        },
        folded=(("Tree_Frog", "tree frog"), ("n02", "barn owl")),
        unknown_labels=("yeti",),
        unused_classes=("T Shirt", "newt"),
    )


def test_other_names_that_a_store_gives_a_class_match_after_names_and_before_folding() -> None:
    classes = ["tree frog", "owl", "crane"]
    ids = {"n01644373": "tree frog", "Strigi_formes": "owl", "crane": "owl", "x": "yeti", "2": "crane"}
    found = match(["n01644373", "strigi formes", "crane", "2", "x"], classes, ids=ids)
    assert found.class_of == {
        "n01644373": "tree frog",
        "strigi formes": "owl",
        "crane": "crane",
        "2": "crane",
    }
    assert found.folded == (("strigi formes", "owl"),)
    assert found.numbered == (("2", "crane"),)
    assert found.unknown_labels == ("x",)


def test_an_alias_may_name_a_class_by_another_name() -> None:
    assert match(["a"], ["owl"], {"a": "n01"}, {"n01": "owl"}).class_of == {"a": "owl"}


def test_two_classes_that_fold_to_one_id_leave_the_label_unknown() -> None:
    ids = {"big_owl": "owl", "Big Owl": "eagle owl"}
    assert match(["BIG-OWL"], ["owl", "eagle owl"], ids=ids).unknown_labels == ("BIG-OWL",)


def test_an_id_of_several_classes_stands_for_none_and_is_told() -> None:
    clashing = {"x1": ["owl", "newt"], "owl": ["newt", "fox"]}
    found = match(["x1", "X1", "owl"], ["owl", "newt"], ids={"X1": "newt"}, clashing=clashing)
    assert found.class_of == {"X1": "newt", "owl": "owl"}
    assert found.unclear == (("x1", ["owl", "newt"]),)
    told = (
        "labels without a class in the store: 'x1' ('x1' is among the ids of several classes, 'owl', 'newt')"
    )
    assert require(found, allow_missing=True) == [f"left out: {told}"]
    with pytest.raises(EvaluationError, match=f"^{re.escape(told)}"):
        require(found, allow_missing=False)


def test_padded_numbers_and_wordnet_ids_before_other_names_are_ids() -> None:
    ids = {"7": "owl", "0": "newt", "n02012849": "crane bird", "n01440764": "tench"}
    labels = ["0007", "000", "n02012849-crane", "n01440764_owl", "n02012849", "07b", "n01440764"]
    found = match(labels, ["owl", "newt", "crane bird", "tench"], ids=ids)
    assert found.class_of == {
        "0007": "owl",
        "000": "newt",
        "n02012849-crane": "crane bird",
        "n02012849": "crane bird",
        "n01440764": "tench",
    }
    assert found.unknown_labels == ("n01440764_owl", "07b")  # the first contradicts itself, 07b is no number
    assert not found.folded
    assert [label for label, _ in found.numbered] == ["0007", "000", "n02012849-crane"]


def test_numbers_that_a_store_gives_its_classes_are_told() -> None:
    (told,) = require(match(["7"], ["owl"], ids={"7": "owl"}), allow_missing=False)
    assert told == (
        "labels are matched by number to the ids of the store's classes: '7' as 'owl';"
        " check that your data set counts as the store does"
    )


def test_several_labels_may_mean_one_class() -> None:
    found = match(["owl", "OWL", "o w l"], ["owl"])
    assert found.class_of == {"owl": "owl", "OWL": "owl"}
    assert (found.folded, found.unknown_labels) == ((("OWL", "owl"),), ("o w l",))


def test_folding_that_leaves_a_choice_leaves_the_label_unknown() -> None:
    assert match(["T_shirt"], ["t-shirt", "t shirt"]).unknown_labels == ("T_shirt",)
    assert match(["TreeFrog"], ["tree frog", "treefrog"]).class_of == {"TreeFrog": "treefrog"}
    assert match(["1.TreeFrog"], ["tree frog", "treefrog"]).unknown_labels == ("1.TreeFrog",)
    assert match(["t-shirt"], ["t-shirt", "t shirt"]).class_of == {"t-shirt": "t-shirt"}


@pytest.mark.slow
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(str.strip)
    )
)
def test_every_label_is_met_or_unknown_and_equal_names_always_meet(names: list[str]) -> None:
    names = list(dict.fromkeys(name.strip() for name in names))
    found = match(names, names)
    assert not found.unknown_labels
    assert not found.unused_classes
    assert set(found.class_of) == set(names)
    assert not match([], names).class_of


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("001.Black_footed_Albatross", "Black-footed albatross"),
        ("AnnualCrop", "annual crop"),
        ("n02085620-Chihuahua", "chihuahua"),
        ("07 barn owl", "barn owl"),
        ("Cr\u00e8me.Br\u00fbl\u00e9e", "creme brulee"),
        ("St. Bernard", "st bernard"),
        ("cafe\u0301/bar", "Cafe bar"),
    ],
)
def test_labels_of_known_data_sets_match(label: str, name: str) -> None:
    found = match([label, "yeti"], [name, "newt"])
    assert (found.class_of, found.folded) == ({label: name}, ((label, name),))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["001.owl", "owl"], ["owl"]),  # two labels of a data set are two classes
        (["001.owl", "002.owl"], ["owl"]),
        (["101 dalmatians"], ["dalmatians"]),
        (["\u304c"], ["\u304b"]),  # in Japanese the mark makes another letter
        (["2019"], ["20 19 x"]),
    ],
)
def test_what_is_not_sure_stays_unknown(labels: list[str], classes: list[str]) -> None:
    found = match(labels, classes)
    assert set(found.class_of) == set(labels) & set(classes)
    assert set(found.unknown_labels) == set(labels) - set(classes)


NAMES = st.lists(
    st.tuples(st.sampled_from(["", "1.", "02_", "n01234567-"]), st.sampled_from(["Tree", "tree", "OWL"]))
    .map("".join)
    .flatmap(
        lambda name: st.sampled_from([name, f"{name}_frog", f"{name}Frog", f"{name} frog", f"{name}-Frog"])
    ),
    max_size=6,
    unique=True,
)


@pytest.mark.slow
@given(NAMES, NAMES, st.randoms())
def test_folding_maps_only_where_one_class_fits_in_any_order(
    labels: list[str], classes: list[str], random: Random
) -> None:
    found = match(labels, classes)
    for label, name in found.class_of.items():
        if label == name:
            continue
        alike = [other for other in classes if fold(other) == fold(label)]
        assert alike == [name] or [other for other in classes if letters(other) == letters(label)] == [name]
    again = match(random.sample(labels, len(labels)), random.sample(classes, len(classes)))
    assert again.class_of == found.class_of
    assert set(again.unknown_labels) == set(found.unknown_labels)
    assert near_names(again) == near_names(found)


def test_near_names_make_an_alias_file(tmp_path: Path) -> None:
    labels = ["AnnualCrop", "SeaLake, large", "Zzz", "17", "tree frog"]
    matching = match(labels, ["annual crop land", "sea or lake", "tree frog", "owl"])
    near = {"AnnualCrop": "annual crop land", "SeaLake, large": "sea or lake"}
    assert near_names(matching) == near
    (tmp_path / "a.csv").write_text(alias_file(near))
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "\ufefflabel,class"
    assert read_aliases(tmp_path / "a.csv")[0] == near
    formulas = {"=AnnualCrop": "-annual", "'owl": "@owl"}
    (tmp_path / "b.csv").write_text(alias_file(formulas))
    assert read_aliases(tmp_path / "b.csv")[0] == formulas
    with pytest.raises(
        EvaluationError, match=r"near names: 'AnnualCrop' as 'annual crop land', 'SeaLake, large'"
    ):
        require(matching, allow_missing=False)
    with pytest.raises(
        EvaluationError, match=r"named by a list of the classes next to the data, classes\.txt"
    ):
        require(match(["0", "1"], ["owl"]), allow_missing=False)


def test_of_thousands_of_labels_those_with_a_word_in_common_are_compared() -> None:
    labels = [f"label{number} with frog{number}" for number in range(600)]
    classes = [f"class{number} frog{number}" for number in range(600)]
    near = near_names(match(labels, classes))
    assert all(name.split()[-1] == label.split()[-1] for label, name in near.items())


@given(st.text())
def test_folding_twice_is_folding_once(name: str) -> None:
    assert fold(fold(name)) == fold(name)


def test_what_is_missing_is_listed() -> None:
    labels = tuple(f"label {number}" for number in range(12))
    matching = Matching({"Owl": "owl"}, (("Owl", "owl"),), labels, ())
    with pytest.raises(EvaluationError) as caught:
        require(matching, allow_missing=False)
    assert str(caught.value) == (
        "labels without a class in the store: 'label 0', 'label 1', 'label 2', 'label 3', 'label 4',"
        " 'label 5', 'label 6', 'label 7', 'label 8', 'label 9' and 2 more: add them to the store, pass an"
        " alias file with --aliases, or score the rest with --allow-missing"
    )
    assert require(matching, allow_missing=True) == [
        "1 label matched after ignoring case, accents, separators and numbers in front: 'Owl' as 'owl'",
        "left out: " + str(caught.value).partition(": add them")[0],
    ]
    assert require(Matching({"owl": "owl"}), allow_missing=False) == []
    many = tuple((f"L{number}", f"l{number}") for number in range(7))
    (told,) = require(Matching(dict(many), many), allow_missing=False)
    assert told.endswith("'L4' as 'l4' and 2 more")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"n01": "owl", " n02 ": "tree frog", "n01": "owl"}'),
        ("a.jsonl", '{"label": "n01", "class": "owl"}\n{"class": "tree frog", "label": "n02"}'),
        ("a.csv", "label,class\nn01,owl\nn02,tree frog\n"),
        ("a.csv", "Class;Label\r\nowl;n01\r\ntree frog;n02\r\n"),
        ("a.yaml", "n01: owl\nn02: tree frog\n"),
        ("a.tsv", "class\tlabel\towner\nowl\tn01\t\ntree frog\tn02\tme\n"),
    ],
)
def test_alias_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_aliases(tmp_path / name)[0] == {"n01": "owl", "n02": "tree frog"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"a": "owl", "a": "newt"}', ", label 'a': 'a' stands for 'owl' and for 'newt': keep one"),
        ("a.csv", "label,class\na,owl\nb,x\na,newt\n", ", line 4: 'a' stands for 'owl' and for 'newt': keep"),
        ("a.json", '[["a", "owl"]]', ": expected the columns label and class, found no heading"),
        ("a.json", '{"a": ["owl"]}', ", label 'a': expected a label and a class, both strings"),
        ("a.json", '{"a": NaN}', ": not JSON: "),
        ("a.json", "[" * 100_000, ": not JSON: "),
        ("a.jsonl", '{"label": "a"}', ": expected the columns label and class, found 'label'"),
        (
            "a.jsonl",
            '{"label": "a", "class": "b"}\n{"label": null}',
            ", line 2: expected a label and a class, both strings",
        ),
        ("a.csv", "n01,owl\n", ": expected the columns label and class, found 'n01', 'owl'"),
        ("a.csv", "label,class\na,\n", ", line 2: expected a label and a class: a class name is empty"),
        ("a.csv", "label,class\na\n", ", line 2: expected a label and a class: a class name is empty"),
        ("a.txt", "a owl", ": expected the columns label and class, found 'a owl'"),
    ],
)
def test_what_is_no_alias_file(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(EvaluationError) as caught:
        read_aliases(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path}/{name}{message}")
    assert str(caught.value).count(str(tmp_path)) == 1


def test_aliases_that_change_nothing_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("label;class\nn01;owl\nn02;yeti\n")
    aliases, report = read_aliases(path)
    assert report == f"{path}: 2 aliases from columns 'label' and 'class', separated by ';'"
    assert check_aliases(path, aliases, ["n01"], ["owl"]) == [
        f"{path} has classes that are not in the store: 'yeti': correct them",
        f"{path}: no image has the label 'n02'",
    ]
    with pytest.raises(EvaluationError, match="'n01' is a label and 'owl' a class: swap the columns"):
        check_aliases(path, {"owl": "n01"}, ["n01"], ["owl"])
