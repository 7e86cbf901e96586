"""Which arm plays which part in what is shown: the one in question, the one compared with, the controls."""

from fieldmarks.evaluation.results import ArmResult, Evaluation
from fieldmarks.evaluation.summary import is_described


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
