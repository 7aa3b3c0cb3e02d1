"""What is made of a failing seed: a smaller run that breaks the same promise, its lines, and its page."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from simulator import page
from simulator.choices import STREAMS
from simulator.run import run_tape
from simulator.setting import RealConnection
from simulator.shrinking import SECONDS, Tape, smallest, trimmed
from simulator.trace import Broken, Story, from_json, lines, to_json

REPORT_SECONDS = 2.0


def made_smaller(story: Story, connection: RealConnection, *, budget: int, report: Callable[[str], None]) -> Story:
    """A run that breaks the first promise that `story` broke, with as few choices as `budget` runs can find."""
    promise = story.broken[0].promise

    def fails(tape: Tape) -> bool:
        return any(broken.promise == promise for broken in run_tape(tape, connection).broken)

    try:
        tape = smallest(story.tape, fails, budget=budget, seconds=SECONDS, streams=STREAMS, report=_seldom(report))
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
    """The story's lines, where its page is, which is written, and the commands that repeat the seed and the story."""
    path = folder / f"{story.seed}.html"
    yield from lines(story)
    yield _drawn(story, path, again=again)
    yield _saved(story, path.with_suffix(".json"))
    yield f"To repeat the seed: {again}"


def told_again(story: Story, path: Path, *, again: str) -> Iterator[str]:
    """The same of a story that was saved at `path`, which stays as it is."""
    yield from lines(story)
    yield _drawn(story, path.with_suffix(".html"), again=again)


def read(path: Path) -> Story:
    """A story that was saved. Raises OSError, and ValueError for what is none."""
    try:
        return from_json(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no story that make simulate saved: {error}") from None


def _drawn(story: Story, path: Path, *, again: str) -> str:
    try:
        page.write(story, path, again=again)
    except OSError as error:
        return f"Its page could not be written: {error}"
    return f"To look at it: {path}"


def _saved(story: Story, path: Path) -> str:
    try:
        path.write_bytes(to_json(story))
    except OSError as error:
        return f"It could not be saved: {error}"
    return f"To play it again, also with other code: make simulate TAPE={path}"
