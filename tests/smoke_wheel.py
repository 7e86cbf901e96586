"""Checks an installed wheel from any folder: `python tests/smoke_wheel.py` in the environment that has it."""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path


def main() -> None:
    """Check the wheel's names, its shipped files, and that its demo works away from any checkout."""
    import fieldmarks
    from fieldmarks.paths import shipped

    package = Path(fieldmarks.__file__).parent
    assert "site-packages" in package.parts, f"this is a checkout, not a wheel: {package}"
    files = distribution("fieldmarks").files or []
    names = {file.parts[0] for file in files if ".." not in file.parts and ".dist-info" not in file.parts[0]}
    assert names == {"fieldmarks"}, f"top-level names: {names}"
    expected = [("prompts", "article.txt"), ("cache", "*.jsonl"), ("report", "*.css"), ("report", "*.js")]
    expected += [("report", "*.html.j2"), ("serve", "page.*")]
    for folder, pattern in expected:
        assert shipped(folder).parent == package, f"{folder} is outside the package"
        assert list(shipped(folder).glob(pattern)), f"{folder} lacks {pattern}"
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*") if path.suffix != ".pyc"}
    with tempfile.TemporaryDirectory() as out:
        program = str(Path(sys.executable).with_name("fieldmarks"))
        command = [program, "demo", "--json", "--out", f"{out}/demo"]
        shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert shown["images"] == 240, shown
    assert shown["accuracy_descriptors"] >= 0.95, shown
    after = {path: path.stat().st_mtime_ns for path in package.rglob("*") if path.suffix != ".pyc"}
    written = {path for path in after if "__pycache__" not in path.parts and after[path] != before.get(path)}
    assert not written, f"a run wrote into the installed package: {written}"
    print(f"wheel {fieldmarks.__version__} works: {shown}")


if __name__ == "__main__":
    main()
