"""Lists and tables as people have them: each is read right, or refused with the remedy."""

import csv
import io
import json
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fieldmarks.class_lists import ClassList, class_list
from fieldmarks.errors import ClassNameError, FieldmarksError, TableError
from fieldmarks.records import class_name
from fieldmarks.store.formats import Imported, load
from fieldmarks.tables import parse_table

NAMES = ("Tree frog", "Blässhuhn", "Frog, tree", "red fox")
LATIN = ("Hyla arborea", "Fulica atra", "Hyla; sp.", "Vulpes vulpes")
MARKS = {
    "Tree frog": ["bulging eyes", "grey, mottled skin"],
    "Blässhuhn": ["white bill"],
    "red fox": ["bushy tail; white tip"],
}

DELIMITERS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252")
ENDS = ("\n", "\r\n", "\r")


def _read(data: str | bytes, name: str, column: str | None = None) -> ClassList:
    data = data.encode() if isinstance(data, str) else data
    return class_list(parse_table(data, name, name[name.rfind(".") :] if "." in name else ""), column)


def _import(data: str | bytes, name: str, columns: Sequence[str] = ()) -> Imported:
    data = data.encode() if isinstance(data, str) else data
    return load(parse_table(data, name, name[name.rfind(".") :]), columns)


def _table(rows: Sequence[Sequence[str]], delimiter: str, end: str = "\r\n") -> str:
    whole = io.StringIO()
    csv.writer(whole, delimiter=delimiter, lineterminator=end).writerows(rows)
    return whole.getvalue()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize(
    "heading",
    [
        ("class", "latin name", "n"),
        ("Latin name", "Common_Name", "Count"),
        ("id", "scientificName", "SPECIES"),
        ("", "Bird label", "Notizen"),
        ("Nr", "Klasse", "Fundort"),
        ("nom", "nom latin", "n"),
        ("lugar", "número", "Nombre"),
        None,
    ],
)
def test_a_column_of_names_among_others(
    heading: tuple[str, ...] | None, delimiter: str, encoding: str
) -> None:
    """160 combinations of delimiter, encoding, heading and order of columns."""
    heading = heading or ("7", "x", "Tree frog")
    at = {"class": 0, "Common_Name": 1, "SPECIES": 2, "Bird label": 1, "Klasse": 1, "nom": 0, "Nombre": 2}
    place = next((at[name] for name in heading if name in at), 2)
    rows = [list(heading)] if heading[0] != "7" else []
    for number, (name, latin) in enumerate(zip(NAMES, LATIN, strict=True)):
        others = iter(
            (f"{number}", latin if "atin" in "".join(heading) or "scien" in "".join(heading) else "")
        )
        rows.append([name if column == place else next(others) for column in range(3)])
    for suffix in (".csv", ".txt", ".tsv", ""):
        text = _table(rows, delimiter)
        assert _read(text.encode(encoding), f"list{suffix}").names == NAMES


@pytest.mark.parametrize(
    ("end", "encoding", "suffix"), list(product(ENDS, ENCODINGS, (".txt", "", ".csv", ".list")))
)
def test_one_name_a_line(end: str, encoding: str, suffix: str) -> None:
    """60 combinations; a name with a comma stands in quotes where the file is called .csv."""
    lines = [f'"{name}"' if suffix == ".csv" and "," in name else name for name in NAMES]
    listed = _read(f"{end}{end.join(lines)}{end}{end}".encode(encoding), f"list{suffix}")
    assert listed.names == NAMES
    assert listed.report.startswith(f"list{suffix}: 4 classes, one per line")
    listed = _read(f"Common name{end}{end.join(lines)}".encode(encoding), f"list{suffix}")
    assert listed.names == NAMES
    assert listed.report.startswith(f"list{suffix}: 4 classes from column 'Common name'")


OBJECTS = [{"id": place, "name": name, "supercategory": "animal"} for place, name in enumerate(NAMES)]
VALUES: dict[str, object] = {
    "list": NAMES,
    "objects": OBJECTS,
    "COCO": {"images": [], "categories": OBJECTS},
    "data.yaml": {"path": "x", "train": "images", "nc": 4, "names": list(NAMES)},
    "data.yaml with numbers": {"train": "images", "names": dict(enumerate(NAMES))},
    "numbers to names": dict(enumerate(NAMES)),
    "names to numbers": {name: place for place, name in enumerate(NAMES)},
    "config.json": {"id2label": dict(enumerate(NAMES)), "label2id": dict.fromkeys(NAMES, 0)},
    "ImageNet": {place: [f"n{place:08}", name] for place, name in enumerate(NAMES)},
    "WordNet ids": {f"n{place:08}": name for place, name in enumerate(NAMES)},
    "columns": {"Latin": list(LATIN), "class": list(NAMES)},
    "rows": [[f"n{place:08}", name] for place, name in enumerate(NAMES)],
}


@pytest.mark.parametrize("suffix", [".json", ".txt", ".yaml"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("kind", VALUES)
def test_json_and_what_is_yaml_too(kind: str, indent: int | None, suffix: str) -> None:
    text = json.dumps(VALUES[kind], ensure_ascii=False, indent=indent)
    assert _read(text, f"list{suffix}").names == NAMES
    if suffix != ".yaml":
        assert _read(text.encode("utf-16"), f"list{suffix}").names == NAMES


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", "\n".join(json.dumps(name) for name in NAMES)),
        ("a.jsonl", "\n".join(json.dumps({"n": 1, "label": name}) for name in NAMES)),
        ("a.json", "\n".join(json.dumps({"class": name, "descriptors": ["x"]}) for name in NAMES)),
        ("a.yml", "\n".join(f"- {name}" for name in NAMES)),
        ("a.yml", "# birds\nnames:\n" + "\n".join(f"  {place}: {name}" for place, name in enumerate(NAMES))),
        ("a.yml", "\n".join(f"{name}:" for name in NAMES)),
        ("a.txt", "\n".join(f"- {name}" for name in NAMES)),
        ("a.txt", "\n".join(f"{place} {name}" for place, name in enumerate(NAMES))),
        ("a.txt", "\n".join(f"{place}: {name}" for place, name in enumerate(NAMES, 1))),
        ("a.txt", "\n".join(f"{place}. {name}" for place, name in enumerate(NAMES, 1))),
        ("a.txt", "\n".join(f"{place} {place:03}.{name}" for place, name in enumerate(NAMES, 1))),
        ("a.txt", "\n".join(f"n{place:08} {name}" for place, name in enumerate(NAMES))),
        ("a.txt", "\n".join(f"{place}\t{name}" for place, name in enumerate(NAMES))),
        ("a.txt", "\n".join(f"({place}) {name}" for place, name in enumerate(NAMES, 1))),
        ("a.txt", "".join(f'"{name}"\n' for name in NAMES)),
        ("a.csv", "\ufeff\ufeffclass;id\n" + "".join(f"{name};x\n" for name in NAMES)),
        ("a.txt", "".join(f"{name};\n" for name in NAMES)),
        ("a.csv", "sep=;\r\nName;Ort\r\n" + "".join(f"{name};Teich\r\n" for name in NAMES)),
        ("a.csv", "class;;;\r\n" + "".join(f"{name};;;\r\n" for name in NAMES)),
        ("a.csv", "".join(f"{place};{name}\r\n" for place, name in enumerate(NAMES))),
        ("a.csv", ";Vogel\n" + "".join(f"{place};{name}\n" for place, name in enumerate(NAMES))),
        ("a.csv", 'class,notes\nTree frog,"in a\nbook, # 3"\n' + _table([[n, "x"] for n in NAMES[1:]], ",")),
        ("a.csv", 'class\n"Tree\nfrog"\n' + "".join(f'"{name}"\n' for name in NAMES[1:])),
        ("a.csv", "# made by hand\n\nclass;id\n" + "".join(f"{name};x\n" for name in NAMES) + "# end\n"),
        ("a.md", "| Name | Latin |\n|---|:--|\n" + "".join(f"| {name} | x |\n" for name in NAMES)),
        ("a.txt", "Common name, Latin name\n" + _table([[name, " Rana"] for name in NAMES], ",")),
        ("a.txt", "\n".join([NAMES[0].replace(" ", "\u00a0"), *NAMES[1:], "  # the rest", "\u00a0"])),
    ],
)
def test_other_forms(name: str, text: str) -> None:
    assert _read(text, name).names == NAMES


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "frog,Hyla\nfox,Vulpes\n",
            "has several columns that could name the classes: column 1 (frog, fox)",
        ),
        ("a.csv", "tench, Tinca tinca\ngoldfish, Carassius\n", "pass --column with a heading or a number"),
        ("a.csv", "Species;Common name\nHyla;frog\n", "column 'Species' (Hyla), column 'Common name' (frog)"),
        ("a.txt", "tree frog,Hyla\nred fox,Vulpes\n", "several columns"),
        (
            "a.csv",
            "class\nFrog, tree\n",
            "a.csv, line 2: expected 1 cell as in line 1, found 2: quote a cell",
        ),
        ("a.csv", "class\n", "has the heading 'class' and contains no class name"),
        ("a.txt", "cat, dog, fox", "a.txt, line 1: several names on one line: write one per line"),
        ("a.txt", "Birds:\n- owl\n- newt\n", "a.txt, line 1: 'Birds:' ends with a colon"),
        (
            "a.txt",
            "birds\n- owl\n- newt\n",
            "a.txt, line 2: '- owl' begins with a list marker, others do not",
        ),
        ("a.txt", "3 frog\n17 fox\n5 owl\n", "every name begins with a number, such as '3 frog': remove"),
        (
            "a.txt",
            "n01440764\nn01443537\n",
            "lists WordNet ids, such as 'n01440764': add a column with their names",
        ),
        ("a.txt", "a.jpg\nb.png\n", "lists image files"),
        ("a.txt", "photos/a.jpg 0\nphotos/b.jpg 1\n", "lists image files"),
        ("a.txt", "frog: green\nfox: red\n", "has two parts on every line, such as 'frog: green'"),
        ("a.txt", "frog = 0\nfox = 1\n", "has two parts on every line, such as 'frog = 0'"),
        ("a.txt", "'frog'\n'fox'\n", "has every name in quotes: remove them"),
        ("a.csv", "Vogel\nAmsel\nMeise\n", "begins with 'Vogel', a heading or a class"),
        (
            "a.csv",
            "Bird\nrobin\nwren\ntit\nowl\n",
            "a heading or a class: pass --column 'Bird' for a heading",
        ),
        ("a.txt", "['frog', 'fox']", "write one name per line, or strings in double quotes"),
        ("a.json", '{"frog": ["a"], "fox": ["b"]}', "column 'keys' (frog, fox), column 'values' (a, b)"),
        (
            "a.json",
            '{"names": ["a"], "labels": ["b"]}',
            "has names under names, labels: pass --column with one",
        ),
        ("a.json", '[["a"], {"b": 1}]', "has lists and objects: write all in one form"),
        ("a.json", '["a", null, true]', "a.json, item 3: expected a class name, found true or false"),
        ("a.json", "3", "is a single JSON value"),
        ("a.yaml", "a: &x [b]\nc: *x\n", "a.yaml, line 2: an alias (*x): write the names out"),
        ("a.yaml", "a: [b\n", "a.yaml, line 2: not YAML"),
        ("a.yaml", "[" * 30, "nested over 20 levels"),
        ("a.csv", 'class,id\n"a"b,1\n', "line 2: text after a closing quote: write a quote"),
        ("a.csv", 'class,id\n"ab,1\n', "line 2: a quoted cell is not closed"),
        (
            "a.csv",
            "a,b;c\nd,e;f\n",
            "could be separated by ',' or ';': write a heading such as class,descriptor",
        ),
        ("a.csv", ",".join("abcdefghijk" * 100), "1 rows of 1,100 columns"),
        ("a.csv", "", "contains no class name"),
        (
            "a.txt",
            b"PK\x03\x04rest",
            "a.txt is a zip archive: unpack it and pass the file inside",
        ),
        ("a.txt", b"%PDF-1.7", "is a PDF document"),
        ("a.csv", b"<!DOCTYPE html><table>", "is a web page or XML"),
        ("a.csv", "Имя\nволк\n".encode("cp1251"), "line 1: byte 0xC8 is not UTF-8: save the file as UTF-8"),
        ("a.csv", "Grünfink\nBlässhuhn\n".encode("mac-roman"), "line 1: byte 0x9F is not UTF-8"),
        ("a.csv", "Żuraw\nwróbel\nłoś\n".encode("cp1250"), "is not UTF-8"),
        ("a.csv", "日本の蛙\n".encode("shift-jis"), "is not UTF-8"),
        ("a.csv", b"fr\0og\n", "line 1: a NUL byte"),
    ],
)
def test_what_is_not_certain_is_refused(name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(FieldmarksError) as caught:
        _read(text, name)
    assert str(caught.value).startswith(name)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "column", "names"),
    [
        ("frog,Hyla\nfox,Vulpes\n", "2", ("Hyla", "Vulpes")),
        ("Bird,Beleg\nfrog,Hyla\n", "bird", ("frog",)),
        ("Species;Common name\nHyla;frog\n", "COMMON_NAME", ("frog",)),
        ("Bird\nrobin\nwren\ntit\nowl\n", "Bird", ("robin", "wren", "tit", "owl")),
        ("Bird\nrobin\nwren\ntit\nowl\n", "1", ("Bird", "robin", "wren", "tit", "owl")),
        ('{"frog": ["a"], "fox": ["b"]}', "keys", ("frog", "fox")),
        ('{"frog": ["a"], "fox": ["b"]}', "values", ("a", "b")),
        ('{"frog": ["a"], "fox": ["b"]}', "fox", ("b",)),
    ],
)
def test_the_user_names_the_column(text: str, column: str, names: tuple[str, ...]) -> None:
    assert _read(text, "a.csv", column).names == names
    with pytest.raises(TableError, match=r"has no column 'Fisch'; it has column .*: pass --column"):
        _read(text, "a.csv", "Fisch")


def test_what_was_understood_is_one_line() -> None:
    text = "Common name;Site\r\nFrog;Pond\r\nfrog;Wood\r\n# x\r\n;Wood\r\nNewt;Pond\r\nNewt;Pond\r\n"
    assert _read(text.encode("utf-16"), "a.csv").report == (
        "a.csv: 2 classes from column 'Common name', separated by ';', UTF-16, 1 comment line left out;"
        " 1 row without a name left out; 2 repeated names left out: 'frog' (as 'Frog'), 'Newt'"
    )
    assert (
        _read("0 a\n1 b\n", "a.txt").report
        == "a.txt: 2 classes, one per line; without the numbers before them"
    )
    with pytest.raises(
        ClassNameError, match=r"^a\.txt, line 2: class name 'a.x1bb' has the control character"
    ):
        _read("frog\na\x1bb\n", "a.txt")


IMPORTS = [[name, mark] for name, marks in MARKS.items() for mark in marks]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize(
    "heading",
    [
        ("class", "descriptor"),
        ("Feature", "Species"),
        ("Name", "Ort", "Merkmal"),
        ("field mark", "Seen", "Common name"),
        ("descripción", "Clase"),
        ("Bird", "Feature"),
        None,
    ],
)
def test_imports_in_any_form(heading: tuple[str, ...] | None, delimiter: str, encoding: str) -> None:
    """140 combinations of delimiter, encoding, heading and order of columns."""
    rows: list[list[str]] = [] if heading is None else [list(heading)]
    reverse = heading is not None and heading[-1] in {"Species", "Common name", "Clase"}
    for name, mark in IMPORTS:
        cells = [mark, name] if reverse else [name, mark]
        rows.append([cells[0], "3", cells[1]] if heading is not None and len(heading) == 3 else cells)
    assert _import(_table(rows, delimiter).encode(encoding), "a.csv").lists == MARKS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "class,mark 1,mark 2\nfrog,wet,green\nfox,red,\n"),
        ("a.csv", "class,mark,mark\nfrog,wet,green\nfox,red,\n"),
        ("a.csv", "mark_1;mark_2;class\nwet;green;frog\nred;;fox\n"),
        ("a.csv", "class,features\nfrog,wet; green\nfox,red\n"),
        ("a.csv", 'class,features\nfrog,"- wet\n- green"\nfox,red\n'),
        ("a.csv", 'class,features\nfrog,"[""wet"", ""green""]"\nfox,"[""red""]"\n'),
        ("a.csv", "Species,Features\nfrog,wet\nfrog,green\nfox,red\n"),
        (
            "a.jsonl",
            '{"class": "frog", "descriptors": ["wet", "green"]}\n{"class": "fox", "descriptors": ["red"]}',
        ),
        (
            "a.json",
            '[{"mark": "wet", "class": "frog"}, {"class": "frog", "mark": "green"},'
            ' {"class": "fox", "mark": "red"}]',
        ),
        ("a.yaml", "frog: [wet, green]\nfox:\n  - red\n"),
    ],
)
def test_several_descriptors_a_row(name: str, text: str) -> None:
    assert _import(text, name).lists == {"frog": ["wet", "green"], "fox": ["red"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Common name;Latin name\nfrog;Hyla\n",
            "it is not clear which columns hold the class and its descriptors",
        ),
        ("image,label\na.png,frog\n", "which columns"),
        ("class,feature,description\nfrog,a,b\n", "which columns"),
        (
            'class,features\nfrog,"wet, green"\nfox,red\n',
            "column 'features' may have several descriptors in a cell",
        ),
        (
            "Species,Feature\nfrog,wet; green\nfox,red; small\n",
            "column 'Feature' may have several descriptors",
        ),
        (
            "Vogel;Aussehen\nAmsel;schwarz\nMeise;blau\n",
            "the first row, 'Vogel' and 'Aussehen', may be a heading",
        ),
        ("wet,frog\ngreen,frog\nred,fox\n", "the second column has repeated values"),
        ("frog,wet,green\n", "line 1: expected 2 columns (class, descriptor), found 3"),
        ("frog\nfox\n", "line 1: expected 2 columns (class, descriptor), found 1"),
        ("class,features\nfrog,[wet]\n", "'[wet]' is not a JSON list"),
        ('[{"class": "frog", "mark": 3}]', "item 1: expected a descriptor, found a number"),
        (
            '[{"class": "a", "marks": ["b"]}, {"class": "a", "marks": ["b"]}]',
            "item 2: class 'a' occurs twice",
        ),
    ],
)
def test_imports_that_are_not_certain(text: str, message: str) -> None:
    with pytest.raises(FieldmarksError) as caught:
        _import(text, "a.csv")
    assert message in str(caught.value)


WORDS = st.text(st.characters(categories=["L", "N", "P", "Zs"], codec="utf-8"), min_size=1, max_size=12)


def _is_plain(name: str) -> bool:
    """Whether a name needs no quotes and is no heading, number or list mark, which other tests have."""
    try:
        return class_name(name) == name and name[0].isalpha() and not set(name) & set('"\u00a0\u202f\u2007:#')
    except ClassNameError:
        return False


PLAIN = st.lists(WORDS.filter(_is_plain), min_size=2, max_size=6, unique_by=lambda name: name.casefold()).map(
    tuple
)


@pytest.mark.slow
@given(
    PLAIN,
    st.sampled_from(DELIMITERS),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(ENDS),
)
def test_any_names_in_any_table_come_back(
    names: tuple[str, ...], delimiter: str, encoding: str, end: str
) -> None:
    rows = [["Site", "Class"], *(["pond", name] for name in names)]
    assert _read(_table(rows, delimiter, end).encode(encoding), "a.csv").names == names
    assert _read(json.dumps(names), "a.json").names == names
    assert _read(json.dumps({"names": names}, ensure_ascii=False), "a.yaml").names == names


@given(PLAIN, st.sampled_from(ENDS))
def test_any_names_one_a_line_come_back_or_are_refused(names: tuple[str, ...], end: str) -> None:
    assume(not any(mark in name for mark in ",;|" for name in names))
    try:
        listed = _read(end.join(names).encode(), "a.txt")
    except TableError:
        return
    assert listed.names in {names, names[1:]}
    assert listed.names == names or "from column" in listed.report


@given(
    st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
    st.sampled_from(["csv", "txt", "json", "yaml"]),
)
def test_no_bytes_end_in_anything_but_names_or_an_error(data: bytes, suffix: str) -> None:
    for reading in (_read, _import):
        try:
            line = reading(data, f"a.{suffix}").report
        except FieldmarksError as error:
            line = str(error)
        assert line.startswith(f"a.{suffix}")


@pytest.mark.slow
def test_large_tables_take_linear_time_and_bounded_memory() -> None:
    names = tuple(f"class {number} a" for number in range(100_000))
    assert _read("\n".join(names), "a.txt").names == names
    assert len(_read("name,n\n" + "\n".join(f"{name},1" for name in names), "a.csv").names) == 100_000
    with pytest.raises(TableError, match=r"100,001 rows of 1,000 columns: expected one class per row"):
        _read("," * 999 + "x\n" + "a\n" * 100_000, "a.csv")
    with pytest.raises(TableError, match="2,000 rows of 2,000 columns"):
        _read(json.dumps([{f"k{number}": "x"} for number in range(2000)]), "a.json")


@pytest.mark.parametrize("kind", ["class", "name", "species", "image", "item"])
@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_a_numbered_name_is_no_heading(kind: str, suffix: str) -> None:
    names = tuple(f"{kind} {number:03}" for number in range(5))
    assert _read("\n".join(names), f"names.{suffix}").names == names


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        (
            "a.csv",
            "Artenliste;;\r\n\r\nNr.;Name;Ort\r\n1;Frosch;Wald\r\n2;Kröte;Ort\r\n",
            ("Frosch", "Kröte"),
        ),
        ("a.csv", "My species\nName,Place\nfrog,wood\ntoad,pond\n", ("frog", "toad")),
        ("a.csv", "Amphibians,,\nFamily,Species,Place\nHylidae,frog,x\n,newt,y\n", ("frog", "newt")),
        ("a.txt", "- [ ] frog\n- [x] toad\n", ("frog", "toad")),
        ("a.txt", "0=frog\n1=toad\n", ("frog", "toad")),
        ("a.txt", "a) frog\nb) toad\n", ("frog", "toad")),
        ("a.txt", "I. frog\nII. toad\nIII. newt\n", ("frog", "toad", "newt")),
    ],
)
def test_titles_and_marks_are_left_out(name: str, text: str, names: tuple[str, ...]) -> None:
    assert _read(text, name).names == names


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "Vögel;;\nalpha;beta;gamma\n1;Amsel;Wald\n2;Star;Ort\n",
            "line 1: one cell, 'Vögel', above rows",
        ),
        (
            "a.csv",
            "class,n\nfrog,2\ntoad,3\n,\nSource: a book,\n",
            "line 5: 'Source: a book' stands alone below",
        ),
        ("a.csv", "class,n\nfrog,2\ntoad,3\nTotal,5\n", "line 4: 'Total' is a total, not a class"),
        ("a.csv", "class,n\n#N/A,2\ntoad,3\n", "line 2: the spreadsheet error '#N/A' instead of text"),
        ("a.csv", "class\n#BEZUG!\n", "line 2: the spreadsheet error '#BEZUG!'"),
        ("a.txt", "frog\n---\ntoad\n", "line 2: '---' is a separator, not a name"),
        ("a.py", "classes = [\n    'frog',\n]\n", "line 1: 'classes = [' is program code"),
        (
            "a.txt",
            "N° Espèce\n1 grenouille\n2 crapaud\n",
            "line 1: 'N° Espèce' has no number, unlike the others",
        ),
        ("a.txt", "frog 0\ntoad 1\n", "line 1: every name ends with a number, such as 'frog 0'"),
        ("a.csv", "frog,toad,newt\n", "line 1: all names are on one line: write one per line"),
        ("a.tsv", 'class\tn\n"frog\t1\ntoad\t2\n', "line 2: a quoted cell is not closed"),
        ("a.docx", "PK\x03\x04 word/document.xml", "is a Word document: save it as plain text"),
        ("a.xlsx", "PK\x03\x04 xl/workbook.xml", "is an Excel workbook: export the sheet as CSV"),
        ("a.html", "<ul><li>frog</li></ul>", "is a web page"),
    ],
)
def test_what_spreadsheets_leave_behind_is_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(FieldmarksError, match="^" + name) as caught:
        _read(text, name)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class,features,\nfrog,wet,green\n",
            "no heading above column 3 (green), beside the descriptors: pass --columns 1,2,3",
        ),
        ("class,mark\nfrog,#NAME?\n", "line 2: the spreadsheet error '#NAME?'"),
        ("class,mark\nfrog,wet\n#N/A,green\n", "line 3: the spreadsheet error '#N/A'"),
        (
            "class,mark\nfrog,wet\n,green\n",
            "line 3: no class beside a descriptor, as in rows below a merged cell",
        ),
        ('class,mark\nfrog,"wet\ngreen"\nfox,red\n', "may have several descriptors in a cell"),
        ("frog,wet,green\nfox,red,\n", "found 3: pass --columns with two column numbers, such as 1,2"),
    ],
)
def test_imports_that_would_lose_something_are_refused(text: str, message: str) -> None:
    with pytest.raises(FieldmarksError) as caught:
        _import(text, "a.csv")
    assert message in str(caught.value)


def test_numbers_in_a_cell_and_a_title_are_left_out_of_an_import() -> None:
    text = 'Marks;\nclass;descriptors\nfrog;"1. wet\n2. green"\n'
    assert _import(text, "a.csv").lists == {"frog": ["wet", "green"]}


def test_an_import_tells_what_may_be_meant_otherwise() -> None:
    report = _import("class,descriptor\nFrog,wet; green\nfrog,red; dry\n", "a.csv").report
    assert "each cell is one descriptor: name the column descriptors" in report
