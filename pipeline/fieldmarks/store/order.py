"""The order of a store's classes: that of the class lists they came from, else of first appearance.

Answers arrive in any order, and so do the lines. A generated line therefore holds the `position` of its
class, a number by which the classes of a store are sorted. The first list counts from 1. What a later list
adds gets numbers between those of its neighbours there, so that a class inserted into a list, or answered by
a later run, finds its place and no line has to be written again. A class keeps its number once it has one. A
class without, as a person types it, stands behind those that the file names before it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby


def ordered(names: Iterable[str], positions: Mapping[str, float]) -> list[str]:
    """Return names, which come in the order of first appearance, sorted by position.

    >>> ordered(["newt", "eft", "typed", "frog"], {"newt": 2, "frog": 1, "eft": 3})
    ['frog', 'newt', 'eft', 'typed']
    """
    places: dict[str, float] = {}
    highest = 0.0
    for name in names:
        places[name] = positions.get(name, highest)
        highest = max(highest, places[name])
    return sorted(places, key=places.__getitem__)


def positions_of(listed: Sequence[str], known: Mapping[str, float]) -> dict[str, float]:
    """Return the position of each class of a list, given those that the store's classes have.

    >>> positions_of(["ant", "frog", "newt", "eft"], {"frog": 1, "eft": 2})
    {'ant': 0.5, 'frog': 1, 'newt': 1.5, 'eft': 2}
    """
    taken = sorted(map(float, known.values()))
    above: dict[float, float] = {}  # a position, and the lowest of those that were given out right above it
    positions: dict[str, float] = {}
    before: float | None = None  # the position of the nearest class before that has one
    for is_known, group in groupby(listed, known.__contains__):
        names = list(group)
        if is_known:
            positions |= {name: known[name] for name in names}
            before = known[names[-1]]
            continue
        if before is None:
            first = next((known[name] for name in listed if name in known), None)
            low, high = _below(taken, first), first
        else:
            at = bisect_right(taken, before)
            low, high = before, above.get(before, taken[at] if at < len(taken) else None)
        step = 1 if high is None else (high - low) / (len(names) + 1)
        for place, name in enumerate(names, 1):
            number = low + step * place
            positions[name] = int(number) if float(number).is_integer() else number
        above[low] = positions[names[0]]
    return positions


def _below(taken: Sequence[float], position: float | None) -> float:
    """Return the highest of the positions below one; without one, the highest of all."""
    rest = taken if position is None else taken[: bisect_left(taken, position)]
    if rest:
        return rest[-1]
    return 0 if position is None or position > 0 else position - 1
