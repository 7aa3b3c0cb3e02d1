"""Numbers that people give to `make simulate` and its like. Each function raises ArgumentTypeError, in words."""

import argparse

HIGHEST_SEED = 2**32


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
