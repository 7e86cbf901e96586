"""The plain sentences at the end of an evaluation: what was gained, and whether chance gains as much.

Which arm plays which part in what is shown: the one in question, the one compared with, the controls.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from fieldmarks.evaluation import metrics
from fieldmarks.evaluation.results import ArmResult, Difference, Estimate, Evaluation
from fieldmarks.text import counted

FEW_PICTURES: Final = 100
SIGNIFICANT: Final = 0.05
CONTROLS: Final = ("waffle", "swapped")
_CALLED: Final[Mapping[str, str]] = {
    "name": "bare names",
    "photo": "'a photo of a'",
    "concept": "prompts with the concept",
    "waffle": "random words",
    "swapped": "other classes' descriptors",
}


def sentences(arms: Sequence[ArmResult]) -> tuple[str, ...]:
    """Return what the arms' figures say, in sentences that claim no more than the intervals allow."""
    main = next((arm for arm in arms if is_described(arm.name)), None)
    plain = [arm for arm in arms if arm.name not in CONTROLS]
    said = [_over(arm) for arm in sorted(plain, key=lambda arm: not is_described(arm.name)) if arm.difference]
    if not any(arm.difference for arm in arms):
        said = [_alone(arm) for arm in plain]
    for control in arms:
        if control.name in CONTROLS:
            said.append(_beside(main, control) if main else _over(control))
    if any(arm.name in CONTROLS and len(arm.runs) == 1 for arm in arms):
        said.append(
            "Of one draw the intervals are of its pictures alone: more --seeds show how far draws differ."
        )
    pictures = len(arms[0].runs[0].rank)
    if pictures < FEW_PICTURES:
        are = "is" if pictures == 1 else "are"
        said.append(f"{counted(pictures, 'picture')} {are} few: a difference has to be large to show.")
    return tuple(said)


def is_described(name: str) -> bool:
    """Whether an arm of this name reads the store's descriptors."""
    return name.split(" ")[0] == "descriptors"


def points(share: float) -> str:
    """Return a share in points, with one digit."""
    return f"{100 * share:.1f}".replace("-0.0", "0.0")


def _over(arm: ArmResult) -> str:
    """Return what an arm gains or loses over the one that it is compared with, if any."""
    if arm.difference is None:
        return _alone(arm)
    gains = _gains(arm.difference, _CALLED[arm.difference.to])
    return f"{_called(arm.name)} {gains}{_doubt(arm.difference)}."


def _doubt(difference: Difference) -> str:
    """Return what speaks against a difference: its interval, or a test that is more careful with few."""
    if difference.low <= 0 <= difference.high:
        return ": no difference is shown"
    if difference.p is not None and difference.p >= SIGNIFICANT:
        return f", but McNemar's p is {difference.p:.2f}: it may be chance"
    return ""


def _alone(arm: ArmResult) -> str:
    reach = "reaches" if arm.name == "photo" else "reach"  # the others are called in the plural
    return f"{_called(arm.name)} {reach} {points(arm.top1.value)} %, interval {_ends(arm.top1)}."


def _beside(main: ArmResult, control: ArmResult) -> str:
    """Return how a control does, and whether descriptors lead it."""
    if control.difference:
        begun = f"{_called(control.name)} {_gains(control.difference)}"
    else:
        begun = _alone(control).removesuffix(".")
    lead = metrics.difference(_hits(main), _hits(control))
    name = _called(main.name)
    who = name[0].lower() + name[1:]
    if lead.low > 0:
        told = f"{who} lead them by {points(lead.value)}, interval {_ends(lead)}"
    elif lead.high < 0:
        told = f"{who} are {points(-lead.value)} behind them, interval {_ends(lead, -1)}"
    else:
        told = f"the difference between them and {who} is not significant, interval {_ends(lead)}"
    return f"{begun}; {told}."


def _called(name: str) -> str:
    """Return an arm as the subject of a sentence."""
    _, _, way = name.partition(" ")
    return f"Descriptors ({way})" if way else _CALLED.get(name, name).capitalize()


def _gains(difference: Difference, than: str | None = None) -> str:
    """Return a gain, or a loss as a number above zero, with its interval."""
    over, against = ("", "") if than is None else (f" points over {than}", f" points against {than}")
    if points(difference.value).startswith("-"):
        return f"lose {points(-difference.value)}{against}, interval {_ends(difference, -1)}"
    return f"gain {points(difference.value)}{over}, interval {_ends(difference)}"


def _ends(one: Estimate | Difference, sign: int = 1) -> str:
    low, high = (points(one.low), points(one.high)) if sign > 0 else (points(-one.high), points(-one.low))
    return f"{low} to {high}"


def _hits(arm: ArmResult) -> metrics.Hits:
    return np.stack([run.rank < 1 for run in arm.runs])  # (R, N)


def reference(evaluation: Evaluation) -> ArmResult | None:
    """Return the arm that the others are compared with; None where nothing is compared."""
    compared = {arm.difference.to for arm in evaluation.arms if arm.difference}
    return next((arm for arm in evaluation.arms if arm.name in compared), None)


def subject(evaluation: Evaluation) -> ArmResult:
    """Return the arm in question: the first of descriptors, else the last that is no control."""
    base = reference(evaluation)
    others = [arm for arm in evaluation.arms if arm is not base] or [*evaluation.arms]
    described = [arm for arm in others if is_described(arm.name)]
    certain = [arm for arm in others if not is_control(arm)]
    return next(iter(described or certain[::-1] or others))


def is_control(arm: ArmResult) -> bool:
    """Tell whether an arm is random: its texts are drawn anew by each of its seeds."""
    return any(run.seed is not None for run in arm.runs)
