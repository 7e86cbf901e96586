"""Evaluations side by side: each arm of a run with its lead over the same arm of the first run.

    comparison = compare([("a.json", Evaluation.load("a.json")), ("b.json", Evaluation.load("b.json"))])
    comparison.groups[0].rows[1].lead        # top-1 of run b over run a, on the same images

A lead is paired: its interval comes from resampling images, each with what both runs answered, as the
intervals within a run do (`metrics.difference`), so two runs may differ although their own intervals overlap.
That needs the same images with the same labels among the same classes, in whatever order. A run for which
this does not hold is shown with the reason and without a lead.

Arms of one name are the same arm, and so are `descriptors` of a run with one preset and `descriptors paper`
of a run with several where both read the same texts in the same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation import metrics
from fieldmarks.evaluation.results import ArmResult, Difference, Evaluation, distinct_of
from fieldmarks.evaluation.summary import doubt, lead_text
from fieldmarks.paths import last_name
from fieldmarks.text import counted

Order = NDArray[np.int64]
MAX_FACT: Final = 200  # characters


@dataclass(frozen=True, slots=True)
class Run:
    """An evaluation by its name, and why its answers cannot be paired with the first run's, if so."""

    name: str
    evaluation: Evaluation
    obstacle: str | None

    @property
    def facts(self) -> dict[str, str]:
        """What was evaluated, as far as the settings tell: store or classifier, model and images."""
        return facts_of(self.evaluation.settings)


@dataclass(frozen=True, slots=True)
class Row:
    """An arm of the run of this index, and its lead over the same arm of the first run, where both pair."""

    run: int
    arm: ArmResult
    lead: Difference | None


@dataclass(frozen=True, slots=True)
class Group:
    """What the runs that have this arm reach with it, in their order; its name is that of the first run."""

    arm: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs in the order given, and their arms in groups of one name."""

    runs: tuple[Run, ...]
    groups: tuple[Group, ...]

    @property
    def differing(self) -> dict[str, tuple[str, ...]]:
        """What was set otherwise in some run, by term, with each run's value in their order."""
        found = [_set(run.evaluation.settings) for run in self.runs]
        terms = dict.fromkeys(term for values in found for term in values)
        rows = {term: tuple(values.get(term, "none") for values in found) for term in terms}
        return {term: values for term, values in rows.items() if len(set(values)) > 1}

    @property
    def difference(self) -> str | None:
        """In what the runs differ, as a sentence; None where they were set alike."""
        parts = [f"{term} {' / '.join(values)}" for term, values in self.differing.items()]
        return f"Differs in: {'; '.join(parts)}." if parts else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Which runs are not compared, and why."""
        return tuple(f"{run.name} is not compared: {run.obstacle}" for run in self.runs if run.obstacle)

    def sentences(self) -> tuple[str, ...]:
        """Return for each comparable run after the first what its arm in question gains over the first run's.

        Where the first run has no such arm, as one of another preset among several, the sentence says so.
        """
        first, *others = self.runs
        leads = {(row.arm.name, row.run): row.lead for group in self.groups for row in group.rows}
        return tuple(
            _sentence(first, run, leads[run.evaluation.arm.name, number])
            for number, run in enumerate(others, 1)
            if run.obstacle is None
        )


def facts_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what was evaluated, by term, as far as an evaluation's settings tell."""
    data = settings.get("data")
    data = data if isinstance(data, Mapping) else {}
    digest = settings.get("store_sha256")
    values = {
        "Store": settings.get("store"),
        "Classifier": settings.get("classifier"),
        "Model": settings.get("model"),
        "Images": data.get("spec") or data.get("embeddings"),
    }
    facts = {term: value[:MAX_FACT] for term, value in values.items() if isinstance(value, str)}
    if "Model" in facts:
        facts["Model"] = last_name(facts["Model"])
    if "Store" in facts and isinstance(digest, str):
        facts["Store"] += f" ({digest[:12]})"
    return facts


_WORDING: Final = {  # terms of what was asked for in an evaluation, by its settings' names
    "presets": "preset",
    "aggregates": "aggregate",
    "text": "text",
    "with_name": "with-name",
    "concept": "concept",
    "templates": "templates",
    "seeds": "seeds",
}


def _set(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what an evaluation was set to do, by term, in words; what was not set is left out."""
    parts = {name: settings.get(name) for name in ("wanted", "data", "computed")}
    wanted, data, computed = (part if isinstance(part, Mapping) else {} for part in parts.values())
    values: dict[str, Any] = {term.lower(): value for term, value in facts_of(settings).items()}
    values |= {term: wanted.get(name) for name, term in _WORDING.items()}
    values |= {"sentences": settings.get("sentences")}
    values |= {term: data.get(term) for term in ("split", "limit")}
    values |= {term: computed.get(term) for term in ("dtype", "engine", "decode")}
    if isinstance(values["seeds"], list):
        values["seeds"] = len(values["seeds"])
    return {
        term: _in_words(value)[:MAX_FACT] for term, value in values.items() if value not in (None, [], False)
    }


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def compare(runs: Sequence[tuple[str, Evaluation]]) -> Comparison:
    """Set evaluations side by side, each with the name to show. Raises EvaluationError without any."""
    if not runs:
        raise EvaluationError("there is nothing to compare: pass at least one evaluation")
    (first_name, first), *_ = runs
    orders = [_order(first_name, first, evaluation) for _, evaluation in runs]
    described = tuple(
        Run(name, evaluation, order if isinstance(order, str) else None)
        for (name, evaluation), order in zip(runs, orders, strict=True)
    )
    groups: dict[str, list[Row]] = {}
    for number, (run, order) in enumerate(zip(described, orders, strict=True)):
        for arm in run.evaluation.arms:
            rows = groups.setdefault(_group(arm, run, groups), [])
            baseline = rows[0].arm if number and rows and not rows[0].run else None
            rows.append(Row(number, arm, _lead(described[0], run, arm, baseline, order)))
    return Comparison(described, tuple(Group(name, tuple(rows)) for name, rows in groups.items()))


def _group(arm: ArmResult, run: Run, groups: Mapping[str, Sequence[Row]]) -> str:
    """Return the name of the group that an arm belongs to, which may be a new one.

    Of several presets an arm of descriptors bears the preset's name, and of one it does not: where no arm of
    an earlier run has its name, it belongs to the one that reads the same texts in the same way.
    """
    if arm.name in groups or not _is_of_descriptors(arm):
        return arm.name
    own = {other.name for other in run.evaluation.arms}
    for name, (row, *_) in groups.items():
        other = row.arm
        same = (other.text, other.aggregate) == (arm.text, arm.aggregate) and _is_of_descriptors(other)
        if same and name not in own:
            return name
    return arm.name


def _is_of_descriptors(arm: ArmResult) -> bool:
    return arm.name.split(" ")[0] == "descriptors"


def _lead(
    first: Run, run: Run, arm: ArmResult, baseline: ArmResult | None, order: Order | str
) -> Difference | None:
    """Return the lead of a run's arm over that of the first run; None without a pair of them."""
    if baseline is None or isinstance(order, str):
        return None
    place = np.argsort(order)  # of each image of this run among the first's
    groups = (tuple(sorted(place[list(group)].tolist())) for group in run.evaluation.repeats)
    distinct = distinct_of(len(order), [*first.evaluation.repeats, *groups])
    return metrics.compare(arm.hits()[:, order], baseline, distinct, to=first.name)


def _order(first_name: str, first: Evaluation, other: Evaluation) -> Order | str:
    """Return the index in another run of each of the first run's images (N,), or why they do not pair."""
    missing, more = set(first.classes) - set(other.classes), set(other.classes) - set(first.classes)
    if missing or more:
        parts = [f"{counted(len(more), 'class')} more"] if more else []
        parts += [f"{counted(len(missing), 'class')} fewer"] if missing else []
        return f"it has {' and '.join(parts)} to choose from than {first_name}"
    pairs = [
        (first.images, other.images),
        (_below_their_folder(first.images), _below_their_folder(other.images)),  # if it was moved
    ]
    names, others = max(pairs, key=lambda pair: len(set(pair[0]) & set(pair[1])))
    if names != others and (len(set(names)) < len(names) or len(set(others)) < len(others)):
        return f"several of its images have one name, so they cannot be told apart in {first_name}"
    if foreign := set(others) - set(names):
        return f"{len(foreign):,} of its {counted(len(others), 'image')} are not in {first_name}"
    if lacking := set(names) - set(others):
        return f"it lacks {len(lacking):,} of the {counted(len(names), 'image')} of {first_name}"
    where = {name: index for index, name in enumerate(others)}
    order = np.arange(len(names)) if names == others else np.array([where[name] for name in names], np.int64)
    labels = [other.classes[label] for label in other.labels[order]]
    relabelled = sum(label != first.classes[own] for label, own in zip(labels, first.labels, strict=True))
    if relabelled:
        return f"{counted(relabelled, 'image')} have other labels than in {first_name}"
    if _files(first) != _files(other) and _files(first) and _files(other):
        return f"its image files are not those of {first_name}: some have the same name and another size"
    return order


def _below_their_folder(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of files relative to the folder that holds them all."""
    parts = [name.split("/") for name in names]
    ends = (min(parts)[:-1], max(parts)[:-1])  # folders that these two share, all between them share
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False)))
    return tuple("/".join(path[shared:]) for path in parts)


def _files(evaluation: Evaluation) -> str | None:
    """Return the digest of a folder's names and sizes, as the run noted it."""
    data = evaluation.settings.get("data")
    if not isinstance(data, dict) or data.get("kind") != "folder":
        return None
    digest = data.get("fingerprint")
    return digest if isinstance(digest, str) else None


def _sentence(first: Run, run: Run, lead: Difference | None) -> str:
    arm = run.evaluation.arm.name
    if lead is None:
        methods = ", ".join(other.name for other in first.evaluation.arms)
        return f"{run.name} vs {first.name}: no difference for {arm}, as {first.name} has only {methods}."
    figures, doubts = lead_text(lead), doubt(lead)
    if doubts:
        return f"{run.name} vs {first.name}, {arm}: {figures}{doubts}."
    more = "more" if lead.value > 0 else "fewer"
    return f"{run.name} classifies {more} images correctly than {first.name} with {arm}: {figures}."
