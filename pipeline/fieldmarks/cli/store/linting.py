"""`store lint`: find problems in a store, for people, programs and CI."""

import click

from fieldmarks.cli.console import conclude, emit
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import change_options, complete_store, json_option


@click.command()
@click.argument("store", metavar="STORE", required=False, shell_complete=complete_store)
@click.option("--rules", is_flag=True, help="Print the table of rules and exit.")
@click.option("--ignore", metavar="RULE", multiple=True, help="Skip a rule, by code or name; repeatable.")
@click.option(
    "--config",
    metavar="FILE.toml",
    help="Read [tool.fieldmarks.lint] from this file (default: ./pyproject.toml).",
)
@click.option(
    "--examples", metavar="FILE", help="A prompt's worked examples, whose '-' lines must not be repeated."
)
@click.option(
    "--clip",
    metavar="MODEL",
    help="Count tokens with this CLIP model's tokenizer: a folder or a Hugging Face id.",
)
@click.option(
    "--fail-on",
    type=click.Choice(("error", "warning", "hint")),
    help="Exit 1 on findings at or above this severity (default: error).",
)
@click.option("--strict", is_flag=True, help="The same as --fail-on warning.")
@click.option(
    "--fix",
    is_flag=True,
    help="Fix what can be fixed safely: stray characters, chat filler, duplicates, empty descriptors.",
)
@click.option("--github", is_flag=True, help="Print annotations for GitHub Actions.")
@change_options
@json_option
@click.pass_context
def lint(
    context: click.Context,
    store: str | None,
    rules: bool,
    ignore: tuple[str, ...],
    config: str | None,
    examples: str | None,
    clip: str | None,
    fail_on: str | None,
    strict: bool,
    fix: bool,
    github: bool,
    note: str | None,
    by: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Find problems in a store.

    Exits with 1 if it finds an error or, with --fail-on, a warning or a hint. The table has one row for each
    finding, with all its classes; the most severe come first.

    --fix appends the fixes as lines that `store undo` reverts, shows them, and then prints the remaining
    problems.

    \b
    Examples:
      fieldmarks store lint imagenette --fail-on warning
      fieldmarks store lint mine.jsonl --ignore shared --examples few-shot.txt
      fieldmarks store lint mine.jsonl --fix --dry-run
    """
    from fieldmarks.store import Store, lint
    from fieldmarks.store.edits import Stamp
    from fieldmarks.store.lint_rules import Severity

    if rules:
        stores.rules(as_json=as_json)
        conclude("Listed the rules; `fieldmarks store lint STORE` applies them")
        return
    if store is None:
        raise click.UsageError("Missing argument 'STORE'.")
    if fail_on is not None and strict:
        raise click.UsageError("give either --strict or --fail-on")
    least = Severity["WARNING" if strict else (fail_on or "error").upper()]
    opened = Store(store)
    settings = lint.command_config(config, ignore, examples, clip)
    if fix and not dry_run:
        opened.check_writable()
    if fix:
        changes = lint.fix(opened, settings, Stamp.of_user(by, note or "lint --fix"), dry_run=dry_run)
        stores.changes(changes, dry_run=dry_run, quiet=as_json or github, final=False)
        if not dry_run:
            stores.closing(store, changes, final=False)
    findings = lint.lint(opened.entries(), settings)
    if as_json:
        for finding in findings:
            emit(finding.to_dict())
    elif github:
        for text in lint.annotations(opened, findings):
            stores.line(text)
    else:
        stores.findings(findings)
    conclude(stores.counts_of_findings(findings))
    context.exit(lint.exit_code(findings, least))
