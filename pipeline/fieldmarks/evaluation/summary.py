"""The summary of an evaluation in plain sentences: what was gained, and whether chance gains as much."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.evaluation import metrics
from fieldmarks.evaluation.results import ArmResult, Difference, Estimate
from fieldmarks.text import counted

FEW_IMAGES: Final = 100
SIGNIFICANT: Final = 0.05
MINUS: Final = "\u2212"
RANDOM: Final = ("waffle", "random-words")  # controls of texts that mean nothing
WITHOUT_P: Final = "An arm of several draws has no McNemar’s p, which compares two lists of answers."
_CALLED: Final[Mapping[str, str]] = {
    "name": "bare names",
    "photo": "“a photo of a …”",
    "concept": "prompts with the concept",
    "waffle": "random words",
    "random-words": "as many random words as descriptors",
    "swapped": "descriptors shuffled between classes",
}


def sentences(arms: Sequence[ArmResult], distinct: NDArray[np.int64] | None = None) -> tuple[str, ...]:
    """Return what the arms' figures say, in sentences that claim no more than the intervals allow.

    `distinct` are the indices (n,) of the images that repeat no other one, by default all.
    """
    once = np.arange(len(arms[0].runs[0].rank)) if distinct is None else distinct
    subject = next((arm for arm in arms if arm.role == "subject"), None)
    plain = sorted((arm for arm in arms if arm.role != "control"), key=lambda arm: arm.role != "subject")
    controls = [arm for arm in arms if arm.role == "control"]
    compared = any(arm.difference for arm in arms)
    lines = [_over(arm) for arm in plain if arm.difference or not compared]
    lines += [_beside(subject, control, once) if subject else _over(control) for control in controls]
    if any(len(control.runs) == 1 for control in controls):
        lines.append(
            "With a single draw, the intervals cover the choice of images alone: more --seeds show how much"
            " draws differ."
        )
    if len(once) < FEW_IMAGES:
        are = "is" if len(once) == 1 else "are"
        images = counted(len(once), "image" if len(once) == len(arms[0].runs[0].rank) else "distinct image")
        lines.append(f"{images} {are} few: only a large difference can show.")
    return tuple(lines)


def verdict(arms: Sequence[ArmResult], distinct: NDArray[np.int64] | None = None) -> str:
    """Return in one plain sentence whether descriptors help, and whether they do so by what they say.

    It is that of the first reading of the descriptors. A gain counts as due to what they say if it also
    exceeds that of random texts. `distinct` is as for `sentences`.
    """
    once = np.arange(len(arms[0].runs[0].rank)) if distinct is None else distinct
    subject = next((arm for arm in arms if arm.role == "subject"), None)
    if subject is None or subject.difference is None:
        return "These are accuracies only: there is no baseline with which descriptors are compared."
    difference, name = subject.difference, _called(subject.name)
    if difference.low <= 0 <= difference.high:
        return f"{name} make no significant difference on these images."
    if difference.high < 0:
        return f"{name} do harm on these images."
    if doubt(difference):
        return f"{name} may help, but it may be chance."
    random = [arm for arm in arms if arm.name in RANDOM]
    beaten = [metrics.lead_of(subject.hits(), arm.hits(), once).low > 0 for arm in random]
    if not random:
        return f"{name} help; whether random words would too was not measured."
    if all(beaten):
        return f"{name} help, and more than random words do."
    return f"{name} help, but not significantly more than random words."


def points(share: float) -> str:
    """Return a share in points, with one digit."""
    return f"{100 * share:.1f}".replace("-0.0", "0.0").replace("-", MINUS)


def signed(share: float) -> str:
    """Return a difference of shares in points, with its sign; what rounds to zero has none."""
    text = points(share)
    return text if text.startswith(MINUS) or text == "0.0" else f"+{text}"


def _called_in_a_sentence(name: str) -> str:
    return _CALLED.get(name, f"“{name}”")


def _over(arm: ArmResult) -> str:
    """Return what an arm gains or loses over the baseline; without one, what it reaches."""
    if arm.difference is None:
        reach = "reaches" if arm.name == "photo" else "reach"  # the others are called in the plural
        ends = f"{points(arm.top1.low)}–{points(arm.top1.high)}"
        return f"{_called(arm.name)} {reach} {points(arm.top1.value)}% (95% CI {ends})."
    versus = f" vs {_called_in_a_sentence(arm.difference.to)}"
    return f"{_called(arm.name)}: {lead_text(arm.difference, versus)}{doubt(arm.difference)}."


def lead_text(difference: Difference, versus: str = "") -> str:
    low, high = signed(difference.low), signed(difference.high)
    return f"{signed(difference.value)} points{versus} (95% CI {low} to {high})"


def doubt(difference: Difference) -> str:
    """Return what speaks against a difference: its interval, or a test that is more careful with few."""
    if difference.low <= 0 <= difference.high:
        return ": no significant difference"
    if difference.p is not None and difference.p >= SIGNIFICANT:
        return f", but McNemar’s p is {difference.p:.2f}: it may be chance"
    return ""


def _beside(subject: ArmResult, control: ArmResult, distinct: NDArray[np.int64]) -> str:
    """Return how a control does, and whether descriptors beat it."""
    if control.difference:
        versus = f" vs {_called_in_a_sentence(control.difference.to)}"
        begun = f"{_called(control.name)}: {lead_text(control.difference, versus)}"
    else:
        begun = _over(control).removesuffix(".")
    lead = metrics.lead_of(subject.hits(), control.hits(), distinct)
    name = _called(subject.name)
    name = name[0].lower() + name[1:]
    if lead.low > 0:
        return f"{begun}; {name} beat them by {points(lead.value)} points (95% CI {_ends(lead)})."
    if lead.high < 0:
        behind = Estimate(-lead.value, -lead.high, -lead.low)
        return f"{begun}; {name} trail them by {points(behind.value)} points (95% CI {_ends(behind)})."
    ends = f"{signed(lead.low)} to {signed(lead.high)}"
    return f"{begun}; {name} are not significantly different from them (95% CI {ends})."


def _called(name: str) -> str:
    """Return an arm as the subject of a sentence."""
    _, _, reading = name.partition(" ")
    called = _CALLED.get(name, name)
    return f"Descriptors ({reading})" if reading else called[0].upper() + called[1:]


def _ends(estimate: Estimate) -> str:
    return f"{points(estimate.low)}–{points(estimate.high)}"
