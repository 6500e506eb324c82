"""The rows of the table, and how they are printed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement against another one of the same run, or a count.

    Attributes:
        what: what was measured.
        how: against what, and in which unit.
        ours: what was measured of this program, as text.
        theirs: what it is compared with, as text.
        result: the ratio, or the count.
        target: what must be reached.
        is_at_least: whether the target is the least, and not the most.
    """

    what: str
    how: str
    ours: str
    theirs: str
    result: float
    target: float
    is_at_least: bool = False

    @property
    def is_missed(self) -> bool:
        """Whether the target was not reached."""
        return self.result < self.target if self.is_at_least else self.result > self.target

    def __str__(self) -> str:
        bound = "at least" if self.is_at_least else "at most"
        missed = " MISSED" if self.is_missed else ""
        cells = (self.what, self.how, self.ours, self.theirs, f"{self.result:.3g}", f"{bound} {self.target:g}{missed}")
        return f"| {' | '.join(cells)} |"


def print_head() -> None:
    """Print the head of the table."""
    print("| what | against | this program | the other | result | target |")
    print("|---|---|---|---|---|---|")


def print_rows(rows: Iterable[Row]) -> None:
    """Print rows, each when it was measured."""
    for row in rows:
        print(row, flush=True)


def in_turn(rounds: int, *measurements: Callable[[], float], pick: Callable[[list[float]], float] = min) -> list[float]:
    """Measure in turn, so that a busy moment of the machine slows all of them down.

    Args:
        rounds: how often.
        measurements: each returns what it measured.
        pick: chooses among the rounds of one: by default the least, with which other programs interfered least.
    """
    found = [[measure() for measure in measurements] for _ in range(rounds)]
    return [pick(list(one)) for one in zip(*found, strict=True)]


def milliseconds(seconds: float) -> str:
    """Write a duration."""
    taken_ms = seconds * 1000
    return f"{taken_ms:,.0f} ms" if taken_ms >= 100 else f"{taken_ms:.3g} ms"
