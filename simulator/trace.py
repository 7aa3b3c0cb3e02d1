"""What happened in one run of the simulator: its events in virtual time, and the promises that it broke."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

FAULT = "fault"  # the kind of every event that the schedule did to somebody; others are named by whoever logs them
ARRIVAL = "arrival"  # the kind of every event in which a request arrives at a partner
DAY_SECONDS = 86_400
_SHORT_NAME = 8  # how much of a delivery's id tells it from the others of a run


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    `at_seconds` is virtual time since the run began. `actor` is one of "caller 1", "worker 2", ..., "queue",
    "database", "partner", "faults" and "operator"; `to` is the actor that the event reaches, where it reaches one (an
    arrow in the page). `text` is what happened, in words. `delivery` is None where it is about none or all of them.

    `knows` is what actors know of `delivery` from this event on, such as {"database": "sending, 1 attempt"}; an actor
    that is not in it knows what it knew before.
    """

    at_seconds: float
    actor: str
    kind: str
    text: str
    delivery: str | None = None
    to: str | None = None
    knows: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A promise that did not hold: its name, such as "at most once", and what happened instead, in a sentence."""

    promise: str
    text: str
    delivery: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One run: `tape` is all that chance decided in it, so the run can be repeated without its seed."""

    seed: int
    tape: tuple[int, ...]
    events: tuple[Event, ...]
    broken: tuple[Broken, ...] = ()


def to_json(story: Story) -> bytes:
    return msgspec.json.encode(story)


def from_json(text: bytes) -> Story:
    """Raises msgspec.ValidationError and msgspec.DecodeError for what is no story."""
    return msgspec.json.decode(text, type=Story)


def lines(story: Story) -> Iterator[str]:
    """One line per event in columns (virtual time, actor, delivery if there are several, text), then the promises."""
    columns = [_columns(event, names=short_names(story)) for event in story.events]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    for time, *words, text in columns:
        padded = [word.ljust(width) for word, width in zip(words, widths[1:], strict=False) if width]
        yield "  ".join([time.rjust(widths[0]), *padded, text])
    for broken in story.broken:
        yield f"BROKEN  {broken.promise}: {one_line(broken.text)}"


def short_names(story: Story) -> Mapping[str, str]:
    """What to call each delivery of a run that has several: the end of its id, or all of it where ends are alike."""
    ids = {event.delivery: None for event in story.events if event.delivery is not None}
    ends = {delivery: delivery[-_SHORT_NAME:] for delivery in ids}
    return ends if len(set(ends.values())) == len(ids) else {delivery: delivery for delivery in ids}


def clock_time(seconds: float) -> str:
    """Virtual time as a clock shows it: 00:01:02.500, and 2d 00:01:02.500 after two days."""
    days, milliseconds = divmod(round(seconds * 1000), DAY_SECONDS * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    shown = f"{minutes // 60:02}:{minutes % 60:02}:{rest / 1000:06.3f}"
    return f"{days}d {shown}" if days else shown


def one_line(text: str) -> str:
    """Without line ends and other control characters, which a terminal would obey."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).strip()


def _columns(event: Event, *, names: Mapping[str, str]) -> tuple[str, str, str, str]:
    delivery = names[event.delivery] if event.delivery is not None and len(names) > 1 else ""
    actor = f"{event.actor} > {event.to}" if event.to else event.actor
    return clock_time(event.at_seconds), one_line(actor), one_line(delivery), one_line(event.text)
