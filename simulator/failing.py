"""What is made of a failing seed: a smaller run that breaks the same promise, its lines, and its page."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from simulator import page
from simulator.choices import STREAMS
from simulator.run import run_tape
from simulator.setting import RealConnection
from simulator.shrinking import Tape, smallest, trimmed
from simulator.trace import Broken, Story, lines, to_json

REPORT_SECONDS = 2.0


def made_smaller(story: Story, connection: RealConnection, *, budget: int, report: Callable[[str], None]) -> Story:
    """A run that breaks the first promise that `story` broke, with as few choices as `budget` runs can find."""
    promise = story.broken[0].promise

    def fails(tape: Tape) -> bool:
        return any(broken.promise == promise for broken in run_tape(tape, connection).broken)

    try:
        tape = smallest(story.tape, fails, budget=budget, streams=STREAMS, report=_seldom(report))
    except ValueError as error:
        report(f"shrinking: {error}")
        return story
    small = run_tape(tape, connection)
    return replace(small, seed=story.seed, tape=trimmed(small.tape), broken=_first(promise, small))


def _first(promise: str, story: Story) -> tuple[Broken, ...]:
    """What was looked for comes first."""
    return tuple(sorted(story.broken, key=lambda broken: broken.promise != promise))


def _seldom(report: Callable[[str], None]) -> Callable[[str], None]:
    """Not each step: a line now and then says that it goes on."""
    last_at = -REPORT_SECONDS

    def reported(text: str) -> None:
        nonlocal last_at
        if " stopped " in text or time.monotonic() - last_at >= REPORT_SECONDS:
            report(text)
            last_at = time.monotonic()

    return reported


def told(story: Story, folder: Path, *, again: str) -> Iterator[str]:
    """The story's lines, where its page is, which is written, and the command that repeats it."""
    yield from lines(story)
    yield _drawn(story, folder / f"{story.seed}.html", again=again)
    yield f"To repeat the seed: {again}"


def _drawn(story: Story, path: Path, *, again: str) -> str:
    try:
        page.write(story, path, again=again)
        path.with_suffix(".json").write_bytes(to_json(story))
    except OSError as error:
        return f"Its page could not be written: {error}"
    return f"To look at it: {path}"
