"""Undo, redo and restore, each by appending lines.

A class's lines are read as a timeline of steps, done and undone. Nothing goes back past a line whose
predecessors compaction has removed. For one class, each command is a pure function from its history to the
line to append; without a class, `undo` and `redo` apply to all classes that one command changed.
"""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from fieldmarks.errors import StoreError
from fieldmarks.records import CURATED, FAILED, GENERATED, Entry, class_name
from fieldmarks.store.descriptor_effects import is_measurement
from fieldmarks.store.edits import IMPORT, Change, Plan, Stamp, apply, find, removed
from fieldmarks.store.file import Store
from fieldmarks.store.lines import ANSWER, END, PERSONAL, RESTORED, kind_of
from fieldmarks.store.reviewing import is_review


@dataclass(frozen=True, slots=True)
class Step:
    """What one command did to a class: its last line, and the line that is current from then on.

    `undone_by` is the line that undid it, if any.
    """

    line: Entry | None
    state: Entry | None
    undone_by: Entry | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The done steps of a class, oldest first, and the undone steps, of which the last is redone next.

    The first done step is the class as it was before any change that the file still has. `cut` is the line
    whose past compaction has removed, if any.
    """

    done: list[Step]
    undone: list[Step]
    cut: Entry | None = None

    @classmethod
    def of(cls, history: Sequence[Entry]) -> Self:
        """Read the steps from a class's lines, oldest first.

        An `undo` line moves the last step from `done` to `undone`, a `redo` line moves it back; any other
        line that changes what is current is a new step and ends redo. All lines of a command are one step.
        """
        done, undone = [Step(None, None)], list[Step]()
        personal = answer = cut = None
        for line in history:
            kind = kind_of(line)
            personal = line if kind == PERSONAL else None if kind in (END, RESTORED) else personal
            answer = line if kind in (ANSWER, RESTORED) else None if kind == END else answer
            state = personal or answer
            last = done[-1]
            if _is_cut_off(line, last.state):
                undone.clear()
                cut, before = line, _without_mark(line)
                done = [Step(None, before)] * (before is not None) + [Step(line, state)]
            elif line.redo and undone:
                undone.pop()
                done.append(Step(line, state))
            elif line.undo and not line.redo:
                if len(done) > 1:
                    undone.append(replace(done.pop(), undone_by=line))
                done[-1] = Step(done[-1].line, state)
            elif state is not last.state:
                undone.clear()
                same = last.line is not None and line.change is not None and last.line.change == line.change
                if same and len(done) > 1:
                    done.pop()
                done.append(Step(line, state))
        return cls(done, undone, cut)

    def undoable(self) -> Entry | None:
        """Return the line that an undo reverts, or None; a class's first line only if a command made it."""
        *before, step = self.done
        if not before or step.line is None:
            return None
        is_change = len(before) > 1 or before[0].state is not None or step.line.change is not None
        return step.line if is_change else None

    def is_at_cut(self) -> bool:
        """Return whether the last done step cannot be undone because compaction has removed its past."""
        return self.cut is not None and len(self.done) == 1


def undone(history: Sequence[Entry], stamp: Stamp) -> Entry | None:
    """Return the line that restores what was current before the last change, or None if there is no change.

    A second undo goes one change further back.
    """
    timeline = Timeline.of(history)
    line = timeline.undoable()
    if line is None:
        return None
    return _brought_back(history, timeline.done[-2].state, stamp, undo=True)


def _is_cut_off(line: Entry, before: Entry | None) -> bool:
    """Return whether compaction removed what a line changed: the line says so, or annotates another list."""
    if is_measurement(line) or is_review(line):
        return line.compacted or before is None or before.descriptors != line.descriptors
    return line.compacted


def _without_mark(line: Entry) -> Entry | None:
    """Return a measurement or review line as it was before, without what it added; None for others."""
    if is_measurement(line):
        return replace(line, measured=None)
    return replace(line, review=None, reviewed=None) if is_review(line) else None


def redone(history: Sequence[Entry], stamp: Stamp) -> Entry | None:
    """Return the line that restores what the last undo reverted, or None if there is nothing to redo.

    A generated line carries `undo` too, so that every reader lets it take precedence over a person's earlier
    lines.
    """
    steps = Timeline.of(history).undone
    if not steps:
        return None
    state = steps[-1].state
    answer = state is not None and state.origin == GENERATED
    return _brought_back(history, state, stamp, undo=answer, redo=True)


def restored(history: Sequence[Entry], number: int, stamp: Stamp) -> Entry | None:
    """Return the line that makes line `number`, from 1, of a class's history current again, as a person's.

    Returns None if it is current already. Raises StoreError for a number out of range, and for lines without
    a list: failed answers and removals.
    """
    name = history[0].name
    if not 1 <= number <= len(history):
        lines = f"lines 1–{len(history)}" if len(history) > 1 else "line 1 only"
        raise StoreError(f"the history of class {name!r} has {lines}, no line {number}")
    line = history[number - 1]
    if line.removed:
        remedy = "to remove it again, use `fieldmarks store drop STORE CLASS --all`"
        raise StoreError(f"line {number} of class {name!r} removed the class: {remedy}")
    if line.origin == FAILED:
        raise StoreError(f"line {number} of class {name!r} is a failed answer and has no descriptors")
    if line is Timeline.of(history).done[-1].state:
        return None
    back = stamp.curated(line, line.descriptors, line.rejected)
    return replace(back, note=stamp.note or f"restored line {number}")


def _brought_back(
    history: Sequence[Entry], state: Entry | None, stamp: Stamp, *, undo: bool = False, redo: bool = False
) -> Entry:
    line = removed(history[-1], stamp) if state is None else stamp.put(state)
    return replace(line, undo=undo, redo=redo)


def undo(
    store: Store, name: str | None, stamp: Stamp, *, dry_run: bool = False, plan: Plan | None = None
) -> list[Change]:
    """Undo the last change of a class or, without a class, the last command in all classes that it changed.

    Raises StoreError if nothing is left to undo or, with a `plan`, if the change is no longer the planned
    one.
    """
    return _reverse(
        store,
        lambda now: [undone(now.history(each), stamp) for each in lines_to_undo(now, name)],
        f"{_place(store, name)}: nothing left to undo",
        dry_run=dry_run,
        plan=plan,
    )


def redo(
    store: Store, name: str | None, stamp: Stamp, *, dry_run: bool = False, plan: Plan | None = None
) -> list[Change]:
    """Restore what the last undo reverted: in a class or, without a class, in all classes that it changed.

    Raises StoreError if nothing was undone or, with a `plan`, if the change is no longer the planned one.
    """
    return _reverse(
        store,
        lambda now: [redone(now.history(each), stamp) for each in lines_to_redo(now, name)],
        f"{_place(store, name)}: nothing to redo",
        dry_run=dry_run,
        plan=plan,
    )


def restore(store: Store, name: str, number: int, stamp: Stamp, *, dry_run: bool = False) -> list[Change]:
    """Make line `number`, from 1, of a class's history the current one again."""
    return apply(
        store, lambda now: [restored(now.history(_any_class(now, name)), number, stamp)], dry_run=dry_run
    )


def _reverse(
    store: Store,
    make: Callable[[Store], Iterable[Entry | None]],
    nothing: str,
    *,
    dry_run: bool,
    plan: Plan | None,
) -> list[Change]:
    def lines(now: Store) -> list[Entry]:
        entries = [entry for entry in make(now) if entry is not None]
        if not entries:
            raise StoreError(nothing)
        return entries

    return apply(store, lines, dry_run=dry_run, plan=plan)


def lines_to_undo(store: Store, name: str | None) -> dict[str, Entry]:
    """Return, by class, the lines that `undo` reverts: of one class, or of the last command not undone.

    Raises StoreError if compaction has removed what was there before.
    """
    timelines = _Timelines(store)
    if name is not None:
        name = _any_class(store, name)
        line = timelines[name].undoable()
        if timelines[name].is_at_cut() or (line is not None and timelines.has_lost_past(name)):
            raise StoreError(_gone(store, name))
        return {} if line is None else {name: line}
    lines: dict[str, Entry] = {}
    change = None
    for line in store.newest_first():
        if lines and line.change != change:
            break
        if line.change is None:
            continue
        timeline = timelines[line.name]
        if timeline.is_at_cut() and timeline.cut == line:
            raise StoreError(_gone(store, line.name))
        if timeline.undoable() == line:
            if timelines.has_lost_past(line.name):
                raise StoreError(_gone(store, line.name))
            lines[line.name], change = line, line.change
    return dict(reversed(lines.items()))


def lines_to_redo(store: Store, name: str | None) -> dict[str, Entry]:
    """Return, by class, the lines that `redo` restores: of one class, or of the last undo not redone.

    A command after that undo, on any class, ends redo for the store as a whole.
    """
    if name is not None:
        name = _any_class(store, name)
        timeline = Timeline.of(store.history(name))
        if timeline.is_at_cut() and timeline.cut is not None and timeline.cut.undo:
            raise StoreError(_gone(store, name, "what the last undo reverted"))
        return {name: line} if timeline.undone and (line := timeline.undone[-1].line) else {}
    timelines = _Timelines(store)
    lines: dict[str, Entry] = {}
    change = None
    for line in store.newest_first():
        if lines and line.change != change:
            break
        if line.redo:
            continue
        if line.undo:
            steps = timelines[line.name].undone
            if steps and steps[-1].undone_by == line and steps[-1].line is not None:
                lines[line.name], change = steps[-1].line, line.change
        elif line.change is not None:
            break
    return dict(reversed(lines.items()))


def _gone(store: Store, name: str, what: str = "what was there before its last change") -> str:
    remedy = f"`fieldmarks store history {shlex.quote(store.name)} {shlex.quote(name)}` shows what is left"
    return f"{store.name}, class {name!r}: {what} is gone since the store was compacted; {remedy}"


class _Timelines(dict[str, Timeline]):
    """The timelines of a store's classes, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __missing__(self, name: str) -> Timeline:
        self[name] = Timeline.of(self._store.history(name))
        return self[name]

    def has_lost_past(self, name: str) -> bool:
        """Return whether the last step of a class only seems to be its first.

        Files compacted before version 0.2 have no `compacted`. The evidence is what only a change to an
        earlier line leaves behind: a command that begins a class writes a bare line, unless it imports or
        renames, and renaming also leaves the removal of the old name.
        """
        if any(step.line or step.state for step in self[name].done[:-1]):
            return False
        first, *_ = history = self._store.history(name)
        line = next(line for line in history if line.origin != FAILED)
        if line.change is None or line.change.startswith(IMPORT) or line.removed:
            return False
        past = (line.rejected, line.prompt, line.model, line.measured, line.weights, line.ids, line.parent)
        is_later = line.undo or line.redo or first.origin == GENERATED  # a failed answer can be parsed again
        is_renamed = bool(line.note and line.note.startswith("renamed from "))
        if line.origin == CURATED:
            is_later = is_later or any(past) or line.position is not None or is_renamed
        return is_later and line.change not in self._removals

    @cached_property
    def _removals(self) -> set[str | None]:
        return {line.change for line in self._store.newest_first() if line.removed}


def _any_class(store: Store, name: str) -> str:
    """Return the name of a class that the store has or had. Raises StoreError, suggesting the closest."""
    return find(store.all_names(), class_name(name), store.name)


def _place(store: Store, name: str | None) -> str:
    return f"{store.name}" if name is None else f"{store.name}, class {class_name(name)!r}"
