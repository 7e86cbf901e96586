"""The house keeps its shape: which floor may import which, and what stays out of the start-up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "pipeline" / "fieldmarks"

# A part may import those below it in this list; those on one line do not know each other.
FLOORS = [
    {"errors"},
    {"bounds", "choices", "debris", "hub", "paths", "records", "text"},
    {"tables"},
    {"class_lists"},
    {"store"},
    {"generation", "classification"},
    {"data"},
    {"evaluation"},
    {"report"},
    {"demo"},
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
}


def _floor(part: str) -> int:
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def _imports(path: Path) -> set[str]:
    """Return every module that a file imports, at whatever depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _own_parts(modules: set[str]) -> set[str]:
    names = {name.split(".")[1] for name in modules if name.startswith("fieldmarks.")}
    return {name for name in names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}


def _faults(path: Path) -> list[str]:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return []
    imported = _own_parts(_imports(path)) - {part}
    wrong = {other for other in imported if _floor(other) >= _floor(part)}
    return [f"{path.relative_to(PACKAGE)} imports {other}" for other in sorted(wrong)]


@pytest.mark.slow
def test_imports_point_downwards() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 20
    assert [fault for path in files for fault in _faults(path)] == []


def test_an_upward_import_is_found(tmp_path: Path) -> None:
    assert _own_parts({"fieldmarks.cli", "fieldmarks", "os", "fieldmarks.store.file"}) == {"cli", "store"}
    assert _floor("generation") == _floor("classification") > _floor("store") > _floor("errors")


def test_store_knows_neither_openai_nor_torch() -> None:
    roots = {name.split(".")[0] for path in PACKAGE.glob("store/*.py") for name in _imports(path)}
    assert roots & {"openai", "torch", "transformers"} == set()


def test_no_module_is_longer_than_a_concept() -> None:
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path.relative_to(PACKAGE)): lines for path, lines in sizes.items() if lines > 500} == {}


@pytest.mark.parametrize("code", ["import fieldmarks", "import fieldmarks.cli"])
def test_start_up_loads_nothing_heavy(code: str) -> None:
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in shown.stdout.split()} & HEAVY == set()
