"""`fieldmarks classify --sort-into`: sort images into a folder per label."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.choices import SortAction
from fieldmarks.cli.console import counting, say, shown
from fieldmarks.cli.images import say_failure
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from fieldmarks.classification.result_files import Result
    from fieldmarks.classification.results import Failure
    from fieldmarks.classification.sorting import Row, SortedFolder, Step

Command = Callable[..., None]
DONE = {"copy": "copied", "move": "moved", "link": "linked"}


def sorting_options(command: Command) -> Command:
    """Add the options for sorting images into folders."""
    for option in (
        click.option(
            "--dry-run", is_flag=True, help="With --sort-into: print what would go where; change nothing."
        ),
        click.option("--link", is_flag=True, help="With --sort-into: make symlinks instead of copies."),
        click.option(
            "--move", is_flag=True, help="With --sort-into: move the images instead of copying them."
        ),
        click.option(
            "--sort-into",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Also copy each image to DIR/LABEL/, with metadata.csv (a Hugging Face imagefolder);"
            " `fieldmarks unsort DIR` undoes it. Nothing is overwritten: a name that is taken gets a number.",
        ),
    ):
        command = option(command)
    return command


def check(options: Mapping[str, Any], images: tuple[str, ...]) -> None:
    """Raise an error for mutually exclusive options, or a folder that cannot be sorted into."""
    folder = options["sort_into"]
    for name in ("move", "link", "dry_run"):
        if options[name] and not folder:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --sort-into DIR")
    if options["move"] and options["link"]:
        raise click.UsageError("give either --move or --link")
    if not folder:
        return
    from fieldmarks.classification.sorting import check_folder

    real = os.path.realpath(folder)
    if inner := next((image for image in images if _lies_in(image, real) and Path(image).is_dir()), None):
        raise click.UsageError(
            f"{inner} would be sorted into itself: pass another --sort-into, such as {inner}-sorted"
        )
    check_folder(folder)


class Sorter:
    """Collects the results of a run, and sorts the images when all have been classified."""

    def __init__(self, folder: "SortedFolder", options: Mapping[str, Any]) -> None:
        self._folder = folder
        self._real = os.path.realpath(folder.path)
        self._action: SortAction = "move" if options["move"] else "link" if options["link"] else "copy"
        self._is_dry = options["dry_run"]
        self._rows: list[Row] = []
        self._paths: dict[str, str] = {}  # by name, for images whose path is not Unicode
        self._left_out = 0
        self._taken: set[str] = set()  # files, with links resolved
        self._repeated = 0
        self._done: list[Step] = []
        self.failures: list[Failure] = []

    def outside(self, paths: "Iterator[str | Failure]") -> "Iterator[str | Failure]":
        """Yield the paths except those of images that have already been sorted."""
        from fieldmarks.classification.sources import name_of

        for path in paths:
            if isinstance(path, str):
                if _lies_in(os.path.dirname(path), self._real):  # noqa: PTH120
                    self._left_out += 1
                    continue
                if (name := name_of(path, 0)) != path:
                    self._paths[name] = path
            yield path

    def add(self, result: "Result") -> None:
        """Add one result; unreadable images stay where they are, and each file is added once."""
        from fieldmarks.classification.result_files import csv_cells
        from fieldmarks.classification.results import Failure

        if isinstance(result, Failure):
            return
        file = os.path.realpath(self._paths.get(result.image, result.image))
        if file in self._taken:
            self._repeated += 1
            return
        self._taken.add(file)
        self._rows.append(csv_cells(result))

    def sort(self) -> None:
        """Carry out all steps, or print them in a dry run."""
        from fieldmarks.classification.results import Failure, reporting
        from fieldmarks.classification.sorting import split_name

        if not self._rows:
            return  # not even a folder is created
        steps = self._folder.plan(self._rows, self._action, lambda image: self._paths.get(image, image))
        try:
            with (
                closing(steps if self._is_dry else self._folder.carry_out(steps)) as taken,
                shown(sys.stderr, counting("sorted"), bar=not self._is_dry) as show,
            ):
                for step in reporting(taken, len(self._rows), show):
                    if isinstance(step, Failure):
                        say_failure(step)
                        self.failures.append(step)
                        continue
                    self._done.append(step)
                    if self._is_dry:
                        click.echo(_planned(step))
        except KeyboardInterrupt:
            say(f"{self.summary()}.")
            raise
        if name := split_name(self._folder.name_of(step) for step in self._done):
            say(
                f"Note: the library `datasets` takes {name} for a split of its own: load the folder with"
                f' load_dataset("imagefolder", data_files="{self._folder.path}/**")'
            )

    def summary(self) -> str:
        """Return what was done, or would be, in one sentence."""
        folder = self._folder.path
        new = [step for step in self._done if not step.is_there]
        folders = len({step.target.parent for step in new})
        there = f", {len(self._done) - len(new):,} already there" if len(new) < len(self._done) else ""
        before = f", left out {counted(self._left_out, 'image')} sorted before" if self._left_out else ""
        before += f", left out {counted(self._repeated, 'image')} given twice" if self._repeated else ""
        verb = f"Would have {DONE[self._action]}" if self._is_dry else DONE[self._action].capitalize()
        undo = f"; `fieldmarks unsort {shlex.quote(str(folder))}` undoes it"
        undo = undo if new and not self._is_dry else ""
        counts = f"{counted(len(new), 'image')} into {counted(folders, 'folder')} of {folder}"
        return f"{verb} {counts}{there}{before}{undo}"


def _planned(step: "Step") -> str:
    target = f"{printable(step.source)} -> {printable(str(step.target))}"
    return f"{target} (already there)" if step.is_there else target


def _lies_in(path: str, folder: str) -> bool:
    """Whether a path, with links resolved, is a folder or inside it; `folder` is already resolved."""
    return os.path.commonpath((os.path.realpath(path or os.curdir), folder)) == folder
