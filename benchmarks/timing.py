"""Rates of two ways of doing the same, alternating in one run."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

WARM_UP = 2.5  # seconds: DataLoader workers have started and their queues are as full as they will be


@dataclass
class Row:
    """One line of the table. It holds when ratio ≥ target, or ≤ where `at_most`, or always without a target."""

    row: str
    usual: float
    ours: float
    ratio: float
    target: float | None
    unit: str
    note: str = ""
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the target is reached."""
        return self.target is None or (self.ratio <= self.target if self.at_most else self.ratio >= self.target)


def rate(step: Callable[[], object], units: int, seconds: float = 3.0) -> float:
    """Units per second of a step that handles so many: after a warm-up, over at least that time."""
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP:
        step()
    start, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        step()
        steps += 1
    return units * steps / elapsed


def paired(usual: Callable[[], object], ours: Callable[[], object], rounds: int = 25) -> tuple[float, float, float]:
    """As `alternate`, for small differences: one step of each by turns. Medians of the seconds, and of ours / usual."""

    def seconds(step: Callable[[], object]) -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    for step in (usual, ours):
        step()
    pairs = [(seconds(usual), seconds(ours)) for _ in range(rounds)]
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(b / a for a, b in pairs)


def alternate(
    usual: Callable[[], float], ours: Callable[[], float], rounds: int = 3, inverse: bool = False
) -> tuple[float, float, float]:
    """Medians of both measurements and of their ratios, round by round: a slow minute hits both sides of a ratio.

    The ratio is ours / usual, or with `inverse` (for seconds) usual / ours.
    """
    pairs = [(usual(), ours()) for _ in range(rounds)]
    ratios = [b / a for a, b in pairs]
    ratio = median(1 / r for r in ratios) if inverse else median(ratios)
    return median(a for a, _ in pairs), median(b for _, b in pairs), ratio
