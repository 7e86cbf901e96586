"""Lint over a whole store: from what a project sets to findings, remedies and CI's annotations."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from fieldmarks.store.changes import Change, apply
from fieldmarks.store.curate import Stamp
from fieldmarks.store.jsonl import Store
from fieldmarks.store.lint import Finding, mended
from fieldmarks.store.lint_config import Config, TokenCount, codes, lint_store, project_config
from fieldmarks.store.lint_rules import Severity
from fieldmarks.store.tokens import token_count

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
