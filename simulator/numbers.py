"""What people give to `make simulate` and its like, and numbers that these print. Functions for argparse raise
ArgumentTypeError, in words."""

import argparse
import re
import secrets
from collections.abc import Iterator
from typing import NoReturn

HIGHEST_SEED = 2**32


class OneLineParser(argparse.ArgumentParser):
    """Says of what it does not understand one line, which names options as make does: N for --n."""

    def error(self, message: str) -> NoReturn:
        named = re.sub(r"argument --([a-z-]+)", lambda found: found[1].upper().replace("-", "_"), message)
        self.exit(2, f"{self.prog}: {named}\n")


def count(text: str) -> int:
    """How many of something."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on, such as 1000")
    return int(text)


def seed(text: str) -> int:
    """The seed of a run."""
    if not text.isdecimal() or int(text) >= HIGHEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: a whole number below {HIGHEST_SEED}")
    return int(text)


def random_seed() -> int:
    """One to begin with, where nobody named one."""
    return secrets.randbelow(HIGHEST_SEED)


def seeds_from(first: int) -> Iterator[int]:
    """`first` and those after it, without an end; after the last one comes 0. So all of them can be named again."""
    while True:
        yield first
        first = (first + 1) % HIGHEST_SEED


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Such as "1 seed" and "1,000 seeds"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
