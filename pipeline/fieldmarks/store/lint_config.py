"""What a project sets for lint, in TOML, and the files of worked examples.

[tool.fieldmarks.lint]
ignore = ["FM105", "two-meanings"]
max-words = 12
shared-by = 3
hurts-by = 5
examples = "prompts/few-shot.txt"
severity = { hedge = "hint" }
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fieldmarks.bounds import read_text
from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.lint import Finding, lint
from fieldmarks.store.lint_rules import RULES, Settings, Severity

_KEYS: Final[dict[str, type]] = {
    "ignore": list,
    "max-words": int,
    "shared-by": int,
    "hurts-by": int,
    "examples": str,
    "severity": dict,
}
MAX_FILE: Final = 1 << 20  # bytes
TokenCount = tuple[Callable[[str], int], int]  # counts a text's tokens; the most that the model reads

_CODES: Final = {key: rule.code for rule in RULES for key in (rule.code, rule.name)}


@dataclass(frozen=True, slots=True)
class Config:
    """What a project's file says of lint; None is what it leaves open."""

    ignore: frozenset[str] = frozenset()  # codes
    severity: Mapping[str, Severity] = field(default_factory=dict)  # by code
    max_words: int | None = None
    shared_by: int | None = None
    hurts_by: int | None = None
    examples: Path | None = None


def project_config(path: Path | None = None) -> Config:
    """Read a project's file, or the working folder's `pyproject.toml` if there is one. Raises StoreError."""
    if path is not None:
        return read_config(path)
    here = Path("pyproject.toml")
    return read_config(here) if here.is_file() else Config()


def lint_store(
    entries: Sequence[Entry], config: Config, tokens: TokenCount | None = None, *, only: str | None = None
) -> list[Finding]:
    """Return what is wrong with a store's entries, or with the class `only`, by a project's settings.

    Raises StoreError for its files.
    """
    plain = Settings()
    settings = Settings(
        max_words=plain.max_words if config.max_words is None else config.max_words,
        shared_by=plain.shared_by if config.shared_by is None else config.shared_by,
        hurts_by=plain.hurts_by if config.hurts_by is None else config.hurts_by,
        examples=read_examples(config.examples) if config.examples else frozenset(),
        tokens=tokens[0] if tokens else None,
        max_tokens=tokens[1] if tokens else plain.max_tokens,
    )
    return lint(entries, settings, ignore=config.ignore, severity=config.severity, only=only)


def read_config(path: Path) -> Config:
    """Read a project's file. Raises StoreError for a file that is missing or wrong."""
    text = read_text(path, MAX_FILE, StoreError)
    try:
        table: Any = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is not TOML: {error}") from error
    for key in ("tool", "fieldmarks", "lint"):
        table = table.get(key, {})
        if not isinstance(table, dict):
            raise StoreError(f"{path}: {key!r} should be a table")
    for key, value in table.items():
        if key not in _KEYS:
            raise StoreError(f"{path}: tool.fieldmarks.lint knows no {key!r}, only {', '.join(_KEYS)}")
        if type(value) is not _KEYS[key]:
            raise StoreError(f"{path}: {key} should be a {_KEYS[key].__name__}, not {value!r}")
    severity = {code(key, path): _severity(path, one) for key, one in table.get("severity", {}).items()}
    return Config(
        ignore=codes(table.get("ignore", ()), path),
        severity=severity,
        max_words=table.get("max-words"),
        shared_by=table.get("shared-by"),
        hurts_by=table.get("hurts-by"),
        examples=path.parent / table["examples"] if "examples" in table else None,
    )


def codes(names: Iterable[object], where: object) -> frozenset[str]:
    """Return the codes of rules given by code or name. Raises StoreError for an unknown one."""
    return frozenset(code(name, where) for name in names)


def code(name: object, where: object) -> str:
    """Return the code of a rule given by code or name. Raises StoreError for an unknown one."""
    if not isinstance(name, str) or name not in _CODES:
        raise StoreError(f"{where}: there is no rule {name!r}: `fieldmarks store lint --rules` shows them")
    return _CODES[name]


def read_examples(path: Path) -> frozenset[str]:
    """Return the bullets of a prompt's worked examples: the lines that begin with "-" and say more.

    Raises StoreError if the file cannot be read or has none.
    """
    text = read_text(path, MAX_FILE, StoreError)
    found = frozenset(re.findall(r"^[ \t]*-[ \t]*(\S.*?)[ \t]*\r?$", text, re.MULTILINE))
    if not found:
        raise StoreError(f"{path} has no worked example: write each bullet on a line that begins with '-'")
    return found


def _severity(path: Path, name: object) -> Severity:
    known = {one.name.lower(): one for one in Severity}
    if not isinstance(name, str) or name not in known:
        raise StoreError(f"{path}: severity is one of {', '.join(known)}, not {name!r}")
    return known[name]
