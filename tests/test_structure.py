"""The house keeps its shape: which floor may import which, no cycles, and what stays out of the start-up."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import fieldmarks

PACKAGE = Path(__file__).resolve().parents[1] / "pipeline" / "fieldmarks"
Floors = Sequence[set[str]]

# A part may import those below it in this list; those on one line do not know each other.
FLOORS: Floors = [
    {"errors"},
    {"choices", "debris", "extras", "hub", "paths", "records", "text"},
    {"tables"},
    {"class_lists"},
    {"store"},
    {"generation", "classification"},
    {"data"},
    {"evaluation", "retrieval"},
    {"learning", "scale"},
    {"report"},
    {"demo", "serve"},
    {"cli"},
]
HEAVY = {
    "torch",
    "transformers",
    "openai",
    "numpy",
    "rich",
    "PIL",
    "orjson",
    "filelock",
    "safetensors",
    "msgspec",
    "scipy",
    "sklearn",
    "matplotlib",
    "datasets",
    "openvino",
    "ray",
    "starlette",
    "uvicorn",
    "httptools",
}
LONGEST = 500  # lines of a module
NO_CONCEPTS = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}


@cache
def imports(package: Path) -> dict[str, set[str]]:
    """Return what each module of a package imports, as dotted names: functions and type checking included.

    `from a.b import c` is the module a.b.c where there is one, else a.b; a package's name is its `__init__`.
    """
    files = {_dotted(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: _imported(path, set(files)) - {name} for name, path in files.items()}


def upward_imports(package: Path, floors: Floors) -> list[str]:
    """Return each import of a part of the package that is not below the importing part."""
    floor = {part: number for number, parts in enumerate(floors) for part in parts}
    wrong = []
    for name, imported in imports(package).items():
        _, part, *_ = [*name.split("."), "", ""]
        if part in ("", "__main__"):  # these two stand outside: they start the house or name its parts
            continue
        assert part in floor, f"{name} is on no floor: add {part!r} to FLOORS"
        others = {other.split(".")[1] for other in imported if other.startswith(f"{package.name}.")}
        wrong += [
            f"{name} imports {other}" for other in sorted(others - {part}) if floor[other] >= floor[part]
        ]
    return wrong


def import_cycle(package: Path) -> list[str]:
    """Return the modules of a cycle, the first of them again at the end; nothing where there is none.

    The package's own `__init__` is left out: it loads its public names when they are used.
    """
    modules = imports(package).keys() - {package.name}
    graph = {name: imports(package)[name] & modules for name in modules}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _dotted(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, modules: set[str]) -> set[str]:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: imports are absolute here"
            assert node.level == 0, f"{path}: imports are absolute here"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= {name if name in modules else node.module for name in names}
    return imported


def test_imports_point_downwards() -> None:
    assert len(imports(PACKAGE)) > 20
    assert upward_imports(PACKAGE, FLOORS) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    assert import_cycle(PACKAGE) == []


def test_the_package_knows_neither_its_training_nor_its_tests() -> None:
    roots = {name: {other.split(".")[0] for other in imported} for name, imported in imports(PACKAGE).items()}
    assert [name for name, others in roots.items() if others & {"training", "tests"}] == []


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small package with a floor for errors, one for a store of two modules, and one for a cli."""
    package = tmp_path / "house"
    (package / "store").mkdir(parents=True)
    for name, text in {
        "__init__.py": "from house.store import open_file\n",
        "errors.py": "import os\n",
        "store/__init__.py": "from house.store.file import open_file\n",
        "store/file.py": "from house import errors\nfrom house.store.durable import write\n",
        "store/durable.py": "from house import __version__\nfrom house.errors import Problem\n",
        "cli.py": "import house.store.file\nfrom house.store import open_file\n",
    }.items():
        (package / name).write_text(text)
    return package


HOUSE_FLOORS: Floors = [{"errors"}, {"store"}, {"cli"}]


def test_a_house_in_order_has_no_upward_import_and_no_cycle(house: Path) -> None:
    assert upward_imports(house, HOUSE_FLOORS) == []
    assert import_cycle(house) == []


@pytest.mark.parametrize(
    "line",
    ["import house.cli", "from house import cli", "from house.cli import main", "import house.cli as c"],
)
def test_an_upward_import_is_found(house: Path, line: str) -> None:
    (house / "store/durable.py").write_text(f"def write():\n    {line}\n")
    assert upward_imports(house, HOUSE_FLOORS) == ["house.store.durable imports cli"]


def test_an_import_from_the_same_floor_is_found(house: Path) -> None:
    (house / "errors.py").write_text("from house.records import Entry\n")
    (house / "records.py").write_text("")
    assert upward_imports(house, [{"errors", "records"}, {"store"}, {"cli"}]) == [
        "house.errors imports records"
    ]


@pytest.mark.parametrize("line", ["from house.store.file import read", "from house.store import file"])
def test_a_cycle_within_a_package_is_found_where_a_function_hides_it(house: Path, line: str) -> None:
    (house / "store/durable.py").write_text(f"def write():\n    {line}\n")
    assert set(import_cycle(house)) == {"house.store.durable", "house.store.file"}


def test_a_cycle_through_a_packages_init_is_found(house: Path) -> None:
    (house / "store/durable.py").write_text("from house.store import open_file\n")
    assert "house.store" in import_cycle(house)


def test_a_part_on_no_floor_is_named(house: Path) -> None:
    (house / "attic.py").write_text("")
    with pytest.raises(AssertionError, match="'attic'"):
        upward_imports(house, HOUSE_FLOORS)


def test_store_knows_neither_openai_nor_torch() -> None:
    roots = {
        other.split(".")[0]
        for name, imported in imports(PACKAGE).items()
        if name.startswith("fieldmarks.store")
        for other in imported
    }
    assert "orjson" in roots
    assert roots & {"openai", "torch", "transformers"} == set()


def test_no_module_is_longer_than_a_concept() -> None:
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path.relative_to(PACKAGE)): lines for path, lines in sizes.items() if lines > LONGEST} == {}


def test_every_module_is_named_after_a_concept() -> None:
    assert [name for name in imports(PACKAGE) if NO_CONCEPTS & set(name.split("."))] == []


def _modules_loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh process has loaded after some code."""
    script = f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(shown.stderr.split())


def _loaded_by(code: str) -> set[str]:
    """Return the top-level names of those modules."""
    return {name.split(".")[0] for name in _modules_loaded_by(code)}


@pytest.mark.parametrize("code", ["import fieldmarks", "import fieldmarks.cli"])
def test_start_up_loads_nothing_heavy(code: str) -> None:
    assert _loaded_by(code) & HEAVY == set()


def test_the_list_of_commands_imports_none_of_them() -> None:
    script = "from fieldmarks.cli import main\nmain(['--help'], standalone_mode=False)"
    code = f"try:\n    exec({script!r})\nexcept SystemExit:\n    pass"
    loaded = {name for name in _modules_loaded_by(code) if name.startswith("fieldmarks.cli.")}
    assert loaded == {"fieldmarks.cli.root", "fieldmarks.cli.console"}


def test_a_store_from_python_loads_no_library_of_models() -> None:
    loaded = _loaded_by("import fieldmarks\nfieldmarks.Store('demo').names()")
    assert "orjson" in loaded
    assert loaded & {"torch", "transformers", "openai", "numpy"} == set()


def test_public_names_are_sorted_and_can_all_be_had() -> None:
    assert fieldmarks.__all__ == sorted(fieldmarks.__all__) == dir(fieldmarks)
    assert set(fieldmarks.__all__) == {*fieldmarks._PLACES, "__version__"}


@pytest.mark.parametrize("name", sorted(fieldmarks._PLACES))
def test_a_public_name_explains_itself(name: str) -> None:
    public = getattr(fieldmarks, name)
    assert public is getattr(import_module(fieldmarks._PLACES[name]), name)
    assert public.__doc__
    assert not public.__doc__.startswith(f"{name}("), "a dataclass without a docstring of its own"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Stroe'"):
        getattr(fieldmarks, "Stroe")  # noqa: B009
