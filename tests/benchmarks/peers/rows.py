"""What the benchmark tells: rows with a goal and a measured figure, as text, JSON and Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import log
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: `figure` in `unit` against `goal`, at least or at most; a ratio has both sides."""

    name: str
    figure: float
    goal: float | None = None
    unit: str = "x"
    at_most: bool = False
    sides: tuple[float, float] | None = None  # ours and theirs, in `per`
    per: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether the goal is met; a row without one always is."""
        return self.goal is None or (self.figure <= self.goal if self.at_most else self.figure >= self.goal)

    def text(self) -> str:
        """Return the row for a terminal, and under it what is to be told beside."""
        wanted = "" if self.goal is None else f"{'<=' if self.at_most else '>='} {self.goal:g}{self.unit}"
        sides = "" if self.sides is None else f"{_short(self.sides[0])} : {_short(self.sides[1])} {self.per}"
        missed = "" if self.reached else "  missed"
        line = f"{self.name:<36}{wanted:>9}{_short(self.figure) + self.unit:>9}{missed:8} {sides}".rstrip()
        return "\n".join([line, *(f"    {key}: {value}" for key, value in self.beside.items())])


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], per: str, **more: Any) -> Row:
    """Return a row of how many times faster we are: the median over pairs of runs, given in seconds each."""
    figure = median(their / our for our, their in zip(ours, theirs, strict=True))
    return Row(name, figure, sides=(1 / median(ours), 1 / median(theirs)), per=per, **more)


def changed(ours: Sequence[Any], theirs: Sequence[Any]) -> str:
    """Return how many answers differ."""
    pairs = list(zip(ours, theirs, strict=False))  # the slower side has seen fewer pictures
    return f"{sum(our != their for our, their in pairs)} of {len(pairs)}"


def cosine_error(ours: str, theirs: str) -> float:
    """Return the largest 1 - cosine between the rows that two .npy files both have."""
    import numpy as np

    a, b = (np.load(path, allow_pickle=False).astype(np.float64) for path in (ours, theirs))
    rows = min(len(a), len(b))
    a, b = a[:rows], b[:rows]
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(np.abs(1 - cosines).max())


def exponent(times: Mapping[str, float]) -> float:
    """Return the power of the size with which the time grows, between the least and the largest size."""
    (least, first), *_, (most, last) = sorted((int(size), taken) for size, taken in times.items())
    return log(last / first) / log(most / least)


def head(machine: Mapping[str, str]) -> str:
    """Return what stands over the rows on a terminal."""
    named = "\n".join(f"{key:12} {value}" for key, value in machine.items())
    return f"{named}\n\n{'':36}{'goal':>9}{'measured':>9}{'':9}ours : theirs"


def markdown(rows: Iterable[Row], machine: Mapping[str, str], day: str) -> str:
    """Return the table for docs/speed.md, with the machine and the day above it."""
    named = ", ".join(f"{key} {value}" for key, value in machine.items() if key not in ("processor", "gpu"))
    lines = [
        f"### {_machine(machine)}",
        "",
        f"Measured on {day} ({named}), medians of interleaved runs:",
        "",
        "| compared with | fieldmarks | theirs | figure |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        ours, theirs = (f"{_short(side)} {row.per}" for side in row.sides) if row.sides else ("", "")
        lines.append(f"| {row.name} | {ours} | {theirs} | {_short(row.figure)}{row.unit} |")
    return "\n".join(lines)


def updated(page: str, section: str) -> str:
    """Return a page with a machine's section in the place of its older one, or as its last; others stay.

    A section begins with its "### " heading and ends before the next heading.
    """
    heading = section.partition("\n")[0]
    parts = re.split(r"(?m)^(?=#{1,3} )", page)
    kept = [f"{section}\n\n" if part.startswith(f"{heading}\n") else part for part in parts]
    if kept == parts:
        kept.append(f"{'' if page.endswith(chr(10) * 2) else chr(10)}{section}\n")
    return "".join(kept).rstrip("\n") + "\n"


def _machine(machine: Mapping[str, str]) -> str:
    gpu = f"{machine['gpu']}, " if "gpu" in machine else ""
    bf16 = machine["bf16"] if machine["bf16"] != "not native" else "no native bfloat16"
    return f"{gpu}{machine['cores'].partition(' ')[0]} cores of {machine['processor']} ({bf16})"


def plain(rows: Iterable[Row], machine: Mapping[str, str]) -> dict[str, Any]:
    """Return everything as plain data."""
    return {"machine": machine, "rows": [asdict(row) | {"reached": row.reached} for row in rows]}


def _short(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
