"""All that chance decides in a run comes from here, and is written down: the tape.

What is done for one caller draws from a stream of its own, down to the last fault and the last answer, and so do each
poller, the incidents and the operator; what a run has at all is drawn apart, so that a new feature leaves the seeds
alone that do not have it. So a caller can be taken out of a run, and the others still get what they got:
that is what makes a failing tape small (simulator/shrinking.py). The tape has the streams in turn: its first STREAMS
numbers are the first choice of each, and so on.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

PERCENT = 100
STREAMS = 32
COMMON, POLLERS, JOBS, FEATURES, MANAGERS, OPERATOR, INCIDENTS = (
    0,
    21,
    25,
    28,
    29,
    30,
    31,
)  # callers have 1 to 20, pollers 21 to 24


class Choices:
    """Chooses by a seed, or as a tape says; beyond the end of a tape everything is benign.

    `tape` holds each choice that was made. The same tape leads to the same run, whatever the seed was. A number that is
    out of range, as happens in a tape that was shortened, counts as 0. `stream` is the one that is drawn from.
    """

    def __init__(self, seed: int | None = None, *, tape: Sequence[int] | None = None) -> None:
        if (seed is None) == (tape is None):
            raise ValueError("choices come from a seed or from a tape")
        self.stream = COMMON
        self._made: list[list[int]] = [[] for _ in range(STREAMS)]
        self._given = tape
        self._random = random.Random(seed).random
        self._random_features = random.Random(f"features of {seed}").random

    def choose(self, count: int) -> int:
        """A number from 0 to `count` - 1; 0 is always the choice under which nothing goes wrong."""
        if count <= 1:
            return 0
        number = self._drawn(count)
        self._made[self.stream].append(number)
        return number

    def happens(self, percent: int) -> bool:
        """True in so many of a hundred cases."""
        return percent > 0 and self.choose(PERCENT) >= PERCENT - percent

    def of[T](self, options: Sequence[T]) -> T:
        """One of `options`, the first of which is the benign one."""
        return options[self.choose(len(options))]

    @contextmanager
    def of_stream(self, stream: int) -> Iterator[None]:
        """Draws from that stream meanwhile."""
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    @property
    def tape(self) -> list[int]:
        """All choices that were made, without the zeros at the end."""
        tape = [0] * (STREAMS * max(map(len, self._made)))
        for stream, made in enumerate(self._made):
            tape[stream : STREAMS * len(made) : STREAMS] = made
        while tape and not tape[-1]:
            tape.pop()
        return tape

    def _drawn(self, count: int) -> int:
        if self._given is None:
            drawn = self._random_features if self.stream == FEATURES else self._random
            return int(drawn() * count)
        place = STREAMS * len(self._made[self.stream]) + self.stream
        number = self._given[place] if place < len(self._given) else 0
        return number if 0 <= number < count else 0
