"""Lint: what is wrong with a store's descriptors, and the remedies that are safe. Pure functions.

What a project sets for lint, in TOML, and the files of worked examples.

[tool.fieldmarks.lint]
ignore = ["FM105", "two-meanings"]
max-words = 12
shared-by = 3
hurts-by = 5
examples = "prompts/few-shot.txt"
severity = { hedge = "hint" }

Lint over a whole store: from what a project sets to findings, remedies and CI's annotations.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from fieldmarks.bounds import read_text
from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store.curate import Stamp, comparable
from fieldmarks.store.edits import Change, apply
from fieldmarks.store.file import Store
from fieldmarks.store.lint_rules import RULES, Listing, Rule, Settings, Severity, chatter, mend, token_count


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: of a class, or of its descriptor number `number`, from 1."""

    rule: Rule
    severity: Severity
    name: str
    message: str
    number: int | None = None
    descriptor: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON has it."""
        severity = self.severity.name.lower()
        found = {"code": self.rule.code, "rule": self.rule.name, "severity": severity, "class": self.name}
        where = {} if self.number is None else {"number": self.number, "descriptor": self.descriptor}
        return found | where | {"message": self.message}


def lint(
    entries: Iterable[Entry],
    settings: Settings | None = None,
    *,
    ignore: Collection[str] = (),
    severity: Mapping[str, Severity] | None = None,
    only: str | None = None,
) -> list[Finding]:
    """Return what is wrong, class by class, or with the class `only`.

    `ignore` and `severity` go by the codes of rules.
    """
    listing = Listing(list(entries), settings or Settings())
    severity = severity or {}
    rules = [rule for rule in RULES if rule.code not in ignore]
    return [
        Finding(
            rule,
            severity.get(rule.code, rule.severity),
            entry.name,
            message,
            None if at is None else at + 1,
            None if at is None else entry.descriptors[at],
        )
        for entry in listing.entries
        if only in (None, entry.name)
        for rule in rules
        for at, message in rule.check(entry, listing)
    ]


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how often each rule found something, in the table's order."""
    found = Counter(one.rule.code for one in findings)
    return {rule.code: found[rule.code] for rule in RULES if found[rule.code]}


def by_number(findings: Iterable[Finding]) -> dict[int | None, list[Finding]]:
    """Return one class's findings by the number of the descriptor, None for those of the class itself."""
    found: dict[int | None, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.number, []).append(finding)
    return found


def by_class(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Return the findings of each class that has any."""
    found: dict[str, list[Finding]] = {}
    for one in findings:
        found.setdefault(one.name, []).append(one)
    return found


def mended(entry: Entry, ignore: Collection[str], stamp: Stamp) -> Entry | None:
    """Return the line without debris, chatter, repeats and empty descriptors, or None if it has none."""
    kept: Sequence[str] = entry.descriptors
    if "FM204" not in ignore:
        kept = [mend(one) for one in kept]
    if "FM202" not in ignore:
        kept = [one for one in kept if not chatter(one)]
    if "FM102" not in ignore:
        kept = [one for one in kept if one.strip()]
    if "FM103" not in ignore:
        kept = list({comparable(one): one for one in reversed(kept)}.values())[::-1]
    if tuple(kept) == entry.descriptors:
        return None
    return stamp.curated(entry, kept, entry.rejected)


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


_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.HINT: "notice"}


@dataclass(frozen=True)
class Check:
    """A way to lint: a project's settings, and how to count tokens."""

    config: Config
    tokens: TokenCount | None = None

    @classmethod
    def of(cls, config: str | None, ignore: Iterable[str], examples: str | None, clip: str | None) -> Self:
        """Make a check of what a command line says over what the project's file says.

        Raises StoreError, ModelError.
        """
        settings = project_config(Path(config) if config else None)
        settings = replace(settings, ignore=settings.ignore | codes(ignore, "--ignore"))
        if examples:
            settings = replace(settings, examples=Path(examples))
        return cls(settings, token_count(clip) if clip else None)

    def findings(self, store: Store) -> list[Finding]:
        """Return what is wrong with the lines in force."""
        return lint_store(list(store.entries()), self.config, self.tokens)

    def fix(self, store: Store, stamp: Stamp, *, dry_run: bool = False) -> list[Change]:
        """Mend what is safe to mend, class by class, in one change."""
        ignore = self.config.ignore
        return apply(
            store,
            lambda now: [line for one in now.entries() if (line := mended(one, ignore, stamp))],
            dry_run=dry_run,
        )


def exit_code(findings: Iterable[Finding], *, strict: bool) -> int:
    """Return 1 if something is an error, or with `strict` a warning, else 0."""
    return int(any(one.severity >= (Severity.WARNING if strict else Severity.ERROR) for one in findings))


def annotations(store: Store, findings: Iterable[Finding]) -> Iterator[str]:
    """Yield each finding as a workflow command of GitHub's, with the line of the store that it is about."""
    numbers = store.line_numbers()
    for one in findings:
        file = _escaped(str(store.path), ",:")
        where = f"file={file},line={numbers[one.name]},title={one.rule.code} {one.rule.name}"
        about = one.name if one.descriptor is None else f"{one.name}, {one.descriptor!r}"
        yield f"::{_LEVELS[one.severity]} {where}::{_escaped(f'{about}: {one.message}')}"


def _escaped(text: str, also: str = "") -> str:
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
