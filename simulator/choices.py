"""All that chance decides in a run comes from here, and is written down: the tape."""

import random
from collections.abc import Sequence

PERCENT = 100


class Choices:
    """Chooses by a seed, or as a tape says; beyond the end of a tape everything is benign.

    `tape` holds each choice that was made. The same tape leads to the same run, whatever the seed was. A number that is
    out of range, as happens in a tape that was shortened, counts as 0.
    """

    def __init__(self, seed: int | None = None, *, tape: Sequence[int] | None = None) -> None:
        if (seed is None) == (tape is None):
            raise ValueError("choices come from a seed or from a tape")
        self.tape: list[int] = []
        self._given = tape
        self._random = random.Random(seed).random

    def choose(self, count: int) -> int:
        """A number from 0 to `count` - 1; 0 is always the choice under which nothing goes wrong."""
        if count <= 1:
            return 0
        number = self._drawn(count)
        self.tape.append(number)
        return number

    def happens(self, percent: int) -> bool:
        """True in so many of a hundred cases."""
        return percent > 0 and self.choose(PERCENT) >= PERCENT - percent

    def of[T](self, options: Sequence[T]) -> T:
        """One of `options`, the first of which is the benign one."""
        return options[self.choose(len(options))]

    def _drawn(self, count: int) -> int:
        if self._given is None:
            return int(self._random() * count)
        place = len(self.tape)
        number = self._given[place] if place < len(self._given) else 0
        return number if 0 <= number < count else 0
