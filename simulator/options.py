"""What `make simulate` and `make simulate-mutants` take: seeds, and how many of them."""

import argparse
import secrets
from collections.abc import Iterator

SEEDS = 2**32  # so many there are, from 0 on


def count(text: str) -> int:
    """For argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seeds, such as 1000")
    return int(text)


def seed(text: str) -> int:
    """For argparse."""
    if not text.isdecimal() or int(text) >= SEEDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: a whole number below {SEEDS}")
    return int(text)


def random_seed() -> int:
    """One to begin with, where nobody named one."""
    return secrets.randbelow(SEEDS)


def seeds_from(first: int) -> Iterator[int]:
    """`first` and those after it, without an end; after the last one comes 0. All of them can be named again."""
    while True:
        yield first
        first = (first + 1) % SEEDS


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Such as "1 seed" and "1,000 seeds"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
