"""Makes a failing tape small: a short story in place of a long one, that breaks the same promise.

A tape is a list of choices. 0 is the choice in which nothing goes wrong, and beyond its end a tape is all zeros.
Simpler is a tape with fewer choices other than 0, then a shorter one, then one with lower choices; each step makes it
simpler.

Why not a library: hypothesis shrinks what it has found itself, and its public interface takes no list to start from;
picire deletes, and would not know that 0 is better than 7; shrinkray would bring two dozen packages, a runtime of
language models among them.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

from local.stopping import stoppable

type Tape = tuple[int, ...]

BUDGET_RUNS = 500
SECONDS = 120.0  # a run that never ends takes seconds
_CHUNKS = 32  # how many of one size are deleted one by one
_FEW = 4  # this low a choice is tried value by value
_STEP = 24  # about as many choices as one step of a run reads
_SHIFTS = tuple(shift for size in range(1, 9) for shift in (-size, size))  # how far choices may move to fit again


class _OutOfRuns(Exception):
    """The budget is spent; what was found so far is the answer."""


def smallest(
    tape: Sequence[int],
    fails: Callable[[Tape], bool],
    *,
    budget: int = BUDGET_RUNS,
    seconds: float = math.inf,
    streams: int = 1,
    report: Callable[[str], None] = print,
) -> Tape:
    """The simplest tape that was found with at most `budget` runs of `fails` in about so many seconds; always one
    that fails. Ctrl-C ends the search early; before the first run has ended, it raises KeyboardInterrupt.

    A tape of several `streams` has them in turn, as simulator/choices.py writes it.

    `fails` says whether a run of a tape breaks the promise in question; the same tape must always give the same answer,
    and so does this function. Raises ValueError where `tape` itself does not fail, or no run is allowed to see it.
    """
    if budget < 1:
        raise ValueError("at least one run is needed, to see that the tape fails")
    give_up_at = time.monotonic() + seconds
    search = _Search(fails=fails, runs_left=budget, give_up_at=give_up_at, streams=streams, report=report)
    try:
        with stoppable(KeyboardInterrupt):
            _go_through(search, tuple(tape))
    except (_OutOfRuns, KeyboardInterrupt):
        if not search.failed:
            raise  # nothing is known yet, and `best` is no tape that fails
        report(f"shrinking: stopped after run {search.runs}")
    return search.best


def _go_through(search: "_Search", tape: Tape) -> None:
    if not search.improves(tape):
        raise ValueError("this tape does not fail when it is run again")
    while _round(search):
        pass


@dataclass(slots=True, kw_only=True)
class _Search:
    """The simplest failing tape so far, and what was tried. Until a tape has `failed` there is no best one."""

    fails: Callable[[Tape], bool]
    runs_left: int
    give_up_at: float
    streams: int
    report: Callable[[str], None]
    best: Tape = ()
    failed: bool = False
    runs: int = 0
    tried: set[Tape] = field(default_factory=set)

    def improves(self, tape: Tape) -> bool:
        """Whether the tape fails, in which case it is the new best; one that was tried before is not tried again."""
        candidate = trimmed(tape)
        if candidate in self.tried:
            return False
        if not self.runs_left or (self.failed and time.monotonic() > self.give_up_at):
            raise _OutOfRuns
        self.tried.add(candidate)
        self.runs, self.runs_left = self.runs + 1, self.runs_left - 1
        if not self.fails(candidate):
            return False
        self.best, self.failed = candidate, True
        self.report(f"shrinking: {len(candidate)} choices, {len(_places(candidate))} not 0, after run {self.runs}")
        return True


def _round(search: _Search) -> bool:
    """All passes once; those that need many runs only where the others changed nothing."""
    passes, slow = (_PASSES, _SLOW) if search.streams == 1 else (_PASSES_OF_STREAMS, _SLOW_OF_STREAMS)
    changed = [simplify(search) for simplify in passes]
    return any(changed) or any(simplify(search) for simplify in slow)


def _cut_end(search: _Search) -> bool:
    tape = search.best
    return _most(len(tape), lambda count: tape[: len(tape) - count], search)


def _delete_chunks(search: _Search) -> bool:
    """Ever smaller ones. On a long tape not down to single choices: the other passes make it short first."""
    changed, size = False, len(search.best)
    smallest_size = max(1, len(search.best) // _CHUNKS)
    while size >= smallest_size:
        start = 0
        while start < len(search.best):
            tape = search.best
            if search.improves(tape[:start] + tape[start + size :]):
                changed = True
            else:
                start += size
        size //= 2
    return changed


def _zero_chunks(search: _Search) -> bool:
    """Ever smaller groups of choices that are not 0, in the order of the tape, down to single ones."""
    changed, size = False, len(_places(search.best))
    while size:
        done = 0  # of the choices that are not 0, those that were looked at and stay
        while chunk := _by_stream(search)[done : done + size]:
            if search.improves(_with(search.best, dict.fromkeys(chunk, 0))):
                changed = True
            else:
                done += size
        size //= 2
    return changed


def _zero_pairs(search: _Search) -> bool:
    """Two choices at once, of which neither can be 0 alone."""
    pairs = combinations(_by_stream(search), 2)
    return any(search.improves(_with(search.best, dict.fromkeys(pair, 0))) for pair in pairs)


def _close_gaps(search: _Search) -> bool:
    """Deletes zeros, as many as possible between each two other choices."""
    changed = False
    for place in reversed(_places(search.best)):
        changed |= _most(_zeros_before(place, search.best), partial(_closer, search.best, place), search)
    return changed


def _lower(search: _Search) -> bool:
    changed = False
    for place in reversed(_places(search.best)):
        tape, value = search.best, search.best[place]
        if any(search.improves(_with(tape, {place: low})) for low in range(1, min(value, _FEW))):
            changed = True
        else:
            changed |= _most(value - _FEW, partial(_lowered, tape, place), search)
    return changed


def _zero_and_realign(search: _Search) -> bool:
    """Zeroes single choices and moves what follows: after another choice a run reads its tape at other places."""
    for place in reversed(_places(search.best)):
        tape = search.best
        for shift in _SHIFTS:
            rest = tape[place + 1 :]
            moved = (0,) * shift + rest if shift > 0 else rest[-shift:]
            if search.improves((*tape[:place], 0, *moved)):
                return True
    return False


def _close_gaps_exactly(search: _Search) -> bool:
    """Deletes as many zeros as some step of the run reads, where fewer or more would not do."""
    for place in reversed(_places(search.best)):
        for count in range(min(_zeros_before(place, search.best), _STEP), 0, -1):
            if search.improves(_closer(search.best, place, count)):
                return True
    return False


_PASSES = (_cut_end, _delete_chunks, _zero_chunks, _close_gaps, _lower)
# To move choices is no use here: each stream would read another's.
_PASSES_OF_STREAMS = (_zero_chunks, _cut_end)
_SLOW_OF_STREAMS = (_zero_pairs, _lower)
_SLOW = (_zero_and_realign, _close_gaps_exactly)


def _most(limit: int, candidate: Callable[[int], Tape], search: _Search) -> bool:
    """Finds by bisection how much of something, from 1 to `limit`, may be taken away; whether anything was."""
    if limit <= 0:
        return False
    if search.improves(candidate(limit)):
        return True
    enough, too_much = 0, limit
    while too_much - enough > 1:
        middle = (enough + too_much) // 2
        enough, too_much = (middle, too_much) if search.improves(candidate(middle)) else (enough, middle)
    return enough > 0


def _by_stream(search: _Search) -> list[int]:
    """The places of choices that are not 0, those of a stream together."""
    return sorted(_places(search.best), key=lambda place: (place % search.streams, place))


def _zeros_before(place: int, tape: Tape) -> int:
    return next(count for count in range(place + 1) if place == count or tape[place - count - 1])


def _closer(tape: Tape, place: int, count: int) -> Tape:
    """Without `count` choices before the place."""
    return tape[: place - count] + tape[place:]


def _lowered(tape: Tape, place: int, less: int) -> Tape:
    return _with(tape, {place: tape[place] - less})


def _with(tape: Tape, changes: Mapping[int, int]) -> Tape:
    return tuple(changes.get(place, choice) for place, choice in enumerate(tape))


def _places(tape: Tape) -> list[int]:
    """Where the choices are that are not 0."""
    return [place for place, choice in enumerate(tape) if choice]


def trimmed(tape: Tape) -> Tape:
    """Without the zeros at its end, which change nothing."""
    places = _places(tape)
    return tape[: places[-1] + 1] if places else ()
