"""The printed figures: medians, ratios and their spread."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Ours relative to the other side, over interleaved rounds: the median, and the minimum and the maximum of any
    round."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio(ours: Sequence[float], others: Sequence[float]) -> Ratio:
    """Round by round, so that what slows a round down slows both of its sides."""
    rounds = [mine / other for mine, other in zip(ours, others, strict=True)]
    return Ratio(middle=median(rounds), least=min(rounds), most=max(rounds))


def spread(values: Sequence[float], *, digits: int = 2) -> str:
    """`median (least to most)`."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def heading(text: str) -> None:
    """Prints the heading of a part."""
    say(f"\n## {text}\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table."""
    say(markdown(columns, rows))


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up on a terminal."""
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (columns, rule, *rows)
    )


def skipped(what: str, why: str) -> None:
    """Prints prominently that a part did not run."""
    say(f"\n!!! SKIPPED: {what}: {why}\n")


def say(line: str) -> None:
    """Prints at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
