"""Lint: finds problems in a store's descriptors and fixes those that can be fixed safely.

    config = project_config()  # tool.fieldmarks.lint in ./pyproject.toml, if there is one
    for finding in lint(store.entries(), config):
        print(finding.name, finding.message)

A project's settings, in TOML:

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
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fieldmarks.errors import StoreError
from fieldmarks.paths import read_text
from fieldmarks.records import Entry
from fieldmarks.store.edits import Change, Stamp, apply
from fieldmarks.store.file import Store
from fieldmarks.store.lint_rules import RULES, Config, Listing, Rule, Severity, chatter, clean, token_count
from fieldmarks.text import comparable

MAX_FILE: Final = 1 << 20  # bytes

_KEYS: Final[dict[str, type]] = {
    "ignore": list,
    "max-words": int,
    "shared-by": int,
    "hurts-by": int,
    "examples": str,
    "severity": dict,
}
_CODES: Final = {key: rule.code for rule in RULES for key in (rule.code, rule.name)}
_LEVELS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.HINT: "notice"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem with a class, or with its descriptor number `number`, from 1."""

    rule: Rule
    severity: Severity
    name: str
    message: str
    number: int | None = None
    descriptor: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as a JSON object."""
        severity = self.severity.name.lower()
        rule = {"code": self.rule.code, "rule": self.rule.name, "severity": severity, "class": self.name}
        where = {} if self.number is None else {"number": self.number, "descriptor": self.descriptor}
        return rule | where | {"message": self.message}


def lint(entries: Iterable[Entry], config: Config | None = None, *, only: str | None = None) -> list[Finding]:
    """Return the findings, class by class, or only those of the class `only`, still compared with all."""
    config = config or Config()
    listing = Listing(list(entries), config)
    rules = [rule for rule in RULES if rule.code not in config.ignore]
    return [
        Finding(
            rule,
            config.severity.get(rule.code, rule.severity),
            entry.name,
            message,
            None if at is None else at + 1,
            None if at is None else entry.descriptors[at],
        )
        for entry in listing.entries
        if only in (None, entry.name)
        for rule in rules
        for at, message in rule.find(entry, listing)
    ]


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings each rule has, if any, in the order of `RULES`."""
    numbers = Counter(finding.rule.code for finding in findings)
    return {rule.code: numbers[rule.code] for rule in RULES if numbers[rule.code]}


def by_number(findings: Iterable[Finding]) -> dict[int | None, list[Finding]]:
    """Return one class's findings by descriptor number, with None for those of the class itself."""
    groups: dict[int | None, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.number, []).append(finding)
    return groups


def grouped(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Group findings for display: equal ones about the same descriptor together, the most severe first."""
    groups: dict[tuple[Any, ...], list[Finding]] = {}
    for finding in findings:
        about = "" if finding.descriptor is None else comparable(finding.descriptor)
        key = (-finding.severity, finding.rule.code, about, finding.message)
        groups.setdefault(key, []).append(finding)
    order = sorted(groups, key=lambda key: (*key[:2], -len(groups[key])))
    return [groups[key] for key in order]


def by_class(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Return the findings of each class that has any."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.name, []).append(finding)
    return groups


def fix(store: Store, config: Config, stamp: Stamp, *, dry_run: bool = False) -> list[Change]:
    """Fix what can be fixed safely, class by class, in one change."""
    return apply(
        store, lambda now: [fixed(entry, config.ignore, stamp) for entry in now.entries()], dry_run=dry_run
    )


def fixed(entry: Entry, ignore: Collection[str], stamp: Stamp) -> Entry | None:
    """Return the line without debris, chat filler, repeats and empty descriptors, or None if it has none."""
    texts = list(entry.descriptors)
    if "FM204" not in ignore:
        texts = [clean(text) for text in texts]
    if "FM202" not in ignore:
        texts = [text for text in texts if not chatter(text)]
    if "FM102" not in ignore:
        texts = [text for text in texts if text.strip()]
    if "FM103" not in ignore:
        texts = list({comparable(text): text for text in reversed(texts)}.values())[::-1]
    if tuple(texts) == entry.descriptors:
        return None
    return stamp.curated(entry, texts, entry.rejected)


def command_config(path: str | None, ignore: Iterable[str], examples: str | None, clip: str | None) -> Config:
    """Return the project's settings with those of a command line applied. Raises StoreError, ModelError."""
    config = project_config(Path(path) if path else None, Path(examples) if examples else None)
    config = replace(config, ignore=config.ignore | codes(ignore, "--ignore"))
    if clip is None:
        return config
    tokens, most = token_count(clip)
    return replace(config, tokens=tokens, max_tokens=most)


def project_config(path: Path | None = None, examples: Path | None = None) -> Config:
    """Read the settings in a project's file, by default `./pyproject.toml` if there is one.

    `examples` overrides the project's own. Raises StoreError for a missing or invalid file.
    """
    if path is None and (here := Path("pyproject.toml")).is_file():
        path = here
    table = {} if path is None else _table(path)
    if examples is None and path is not None and "examples" in table:
        examples = path.parent / table["examples"]
    numbers = {key.replace("-", "_"): value for key, value in table.items() if _KEYS[key] is int}
    return Config(
        ignore=codes(table.get("ignore", ()), path),
        severity={code(key, path): _severity(path, name) for key, name in table.get("severity", {}).items()},
        examples=frozenset() if examples is None else read_examples(examples),
        **numbers,
    )


def _table(path: Path) -> dict[str, Any]:
    """Return a project's lint settings. Raises StoreError for a missing or invalid file."""
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
            raise StoreError(
                f"{path}: unknown key {key!r} in tool.fieldmarks.lint: expected {', '.join(_KEYS)}"
            )
        if type(value) is not _KEYS[key]:
            raise StoreError(f"{path}: {key} should be a {_KEYS[key].__name__}, not {value!r}")
    return dict(table)


def codes(names: Iterable[object], where: object) -> frozenset[str]:
    """Return the codes of rules given by code or name. Raises StoreError for an unknown one."""
    return frozenset(code(name, where) for name in names)


def code(name: object, where: object) -> str:
    """Return the code of a rule given by code or name. Raises StoreError for an unknown one."""
    if not isinstance(name, str) or name not in _CODES:
        raise StoreError(f"{where}: unknown rule {name!r}: `fieldmarks store lint --rules` shows them")
    return _CODES[name]


def read_examples(path: Path) -> frozenset[str]:
    """Return the bullets of a prompt's worked examples: the lines that begin with "-" and are not empty.

    Raises StoreError if the file cannot be read or has no bullets.
    """
    text = read_text(path, MAX_FILE, StoreError)
    bullets = frozenset(re.findall(r"^[ \t]*-[ \t]*(\S.*?)[ \t]*\r?$", text, re.MULTILINE))
    if not bullets:
        raise StoreError(f"{path} has no worked example: write each bullet on a line that begins with '-'")
    return bullets


def _severity(path: object, name: object) -> Severity:
    known = {level.name.lower(): level for level in Severity}
    if not isinstance(name, str) or name not in known:
        raise StoreError(f"{path}: severity is one of {', '.join(known)}, not {name!r}")
    return known[name]


def exit_code(findings: Iterable[Finding], least: Severity = Severity.ERROR) -> int:
    """Return 1 if a finding has at least this severity, else 0."""
    return int(any(finding.severity >= least for finding in findings))


def annotations(store: Store, findings: Iterable[Finding]) -> Iterator[str]:
    """Yield each finding as a GitHub workflow command that points to its line in the store."""
    numbers = store.line_numbers()
    file = _escaped(str(store.path), ",:")
    for finding in findings:
        rule = finding.rule
        where = f"file={file},line={numbers[finding.name]},title={rule.code} {rule.name}"
        subject = finding.name if finding.descriptor is None else f"{finding.name}, {finding.descriptor!r}"
        yield f"::{_LEVELS[finding.severity]} {where}::{_escaped(f'{subject}: {finding.message}')}"


def _escaped(text: str, also: str = "") -> str:
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
