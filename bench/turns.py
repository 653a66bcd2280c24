"""Arms that are measured in turn, and the rows of the table, each of which compares two of them."""

import enum
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from programs import Figures

# Measures once, in the turn of this number.
Arm = Callable[[int], Figures]
# What the arms gave in one turn, by name.
Turn = dict[str, Figures]


class Kind(enum.Enum):
    """What the ratio is, and on which side of the bar it should be."""

    # Ours over theirs, at least the bar.
    MORE = "more"
    # Theirs over ours, at least the bar: how many times less.
    TIMES_LESS = "times less"
    # Ours over theirs, at most the bar.
    AT_MOST = "at most"

    def ratio(self, ours: float, theirs: float) -> float:
        return theirs / ours if self is Kind.TIMES_LESS else ours / theirs

    def holds(self, ratio: float, bar: float) -> bool:
        return ratio <= bar if self is Kind.AT_MOST else ratio >= bar


@dataclass
class Row:
    name: str
    what: str
    unit: str
    kind: Kind
    # None: the row only tells.
    bar: float | None
    # What it needs.
    arms: list[str]
    # Ours and theirs, for each turn.
    pairs: Callable[[list[Turn]], list[tuple[float, float]]]

    def result(self, turns: list[Turn]) -> dict:
        pairs = self.pairs(turns)
        ratios = [self.kind.ratio(*pair) for pair in pairs]
        median = statistics.median(ratios)
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "ours": [ours for ours, _ in pairs],
            "theirs": [theirs for _, theirs in pairs],
            "ratio": median,
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "kind": self.kind.value,
            "bar": self.bar,
            "holds": None if self.bar is None else self.kind.holds(median, self.bar),
        }


def compare(
    name: str,
    what: str,
    ours: str,
    theirs: str | list[str],
    bar: float | None,
    figure: str = "images_per_sec",
    unit: str = "images/s",
    kind: Kind = Kind.MORE,
) -> Row:
    """One figure of two arms. Of several arms of theirs, the one with the best median stands for all."""
    others = [theirs] if isinstance(theirs, str) else theirs

    def pairs(turns: list[Turn]) -> list[tuple[float, float]]:
        best = max if kind is Kind.MORE else min
        other = best(others, key=lambda arm: statistics.median(turn[arm][figure] for turn in turns))
        return [(turn[ours][figure], turn[other][figure]) for turn in turns]

    return Row(name, what, unit, kind, bar, [ours, *others], pairs)


@dataclass
class Group:
    """Arms that follow each other in every turn, so that what is compared is measured within a minute or two."""

    name: str
    arms: dict[str, Arm]
    rows: list[Row]
    # Instead of as many as were asked for.
    turns: int | None = None


@dataclass
class Measured:
    """A group's turns so far, and why arms that failed did."""

    turns: list[Turn] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def result(self, row: Row) -> dict:
        whole = [turn for turn in self.turns if all(arm in turn for arm in row.arms)]
        failed = [f"{arm}: {self.failures[arm]}" for arm in row.arms if arm in self.failures]
        if whole:
            cut_short = {"failed_later": "; ".join(failed)} if failed else {}
            return row.result(whole) | {"turns": len(whole)} | cut_short
        return {"name": row.name, "what": row.what, "failed": "; ".join(failed) or "not measured"}
