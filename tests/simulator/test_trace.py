"""A story, as JSON and as lines."""

import msgspec
import pytest

from simulator.trace import FAULT, Broken, Event, Story, clock_time, from_json, lines, to_json

STORY = Story(
    seed=7,
    tape=(0, 3, 1),
    events=(
        Event(at_seconds=0, actor="caller 1", kind="call", text="POST /v1/deliveries", delivery="d-1"),
        Event(
            at_seconds=0.25, actor="database", kind="row", text="stored", delivery="d-1", knows={"database": "pending"}
        ),
        Event(at_seconds=90_061.5, actor="faults", kind=FAULT, text="crashes it", to="worker 2"),
    ),
    broken=(Broken(promise="at most once", text="it arrived twice", delivery="d-1"),),
)


def test_a_story_survives_json() -> None:
    assert from_json(to_json(STORY)) == STORY


def test_json_that_is_no_story_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="events"):
        from_json(b'{"seed": 1, "tape": []}')


def test_one_line_per_event_in_columns_and_the_promise_below() -> None:
    assert list(lines(STORY)) == [
        "   00:00:00.000  caller 1           POST /v1/deliveries",
        "   00:00:00.250  database           stored",
        "1d 01:01:01.500  faults > worker 2  crashes it",
        "BROKEN  at most once: it arrived twice",
    ]


def test_where_there_are_several_deliveries_each_line_names_its_own() -> None:
    events = (
        Event(at_seconds=0, actor="queue", kind="message", text="takes it", delivery="0192-aaaaaaaaaaaa-first"),
        Event(at_seconds=1, actor="queue", kind="message", text="takes it", delivery="0192-aaaaaaaaaaaa-second"),
        Event(at_seconds=2, actor="queue", kind="fault", text="down"),
    )
    assert list(lines(Story(seed=1, tape=(), events=events))) == [
        "00:00:00.000  queue  aa-first  takes it",
        "00:00:01.000  queue  a-second  takes it",
        "00:00:02.000  queue            down",
    ]


def test_deliveries_whose_ids_end_alike_are_named_in_full() -> None:
    events = [Event(at_seconds=0, actor="queue", kind="x", text=".", delivery=f"{n}-aaaaaaaaaaaa") for n in (1, 2)]
    assert [line.split()[2] for line in lines(Story(seed=1, tape=(), events=tuple(events)))] == [
        "1-aaaaaaaaaaaa",
        "2-aaaaaaaaaaaa",
    ]


def test_an_event_stays_on_its_line_and_leaves_the_terminal_alone() -> None:
    event = Event(at_seconds=0, actor="partner", kind="x", text="says\r\nHTTP/1.1 200\x1b[2J\u2028end")
    assert list(lines(Story(seed=1, tape=(), events=(event,)))) == ["00:00:00.000  partner  says HTTP/1.1 200 [2J end"]


def test_a_story_in_which_nothing_happened_has_no_lines() -> None:
    assert list(lines(Story(seed=1, tape=(), events=()))) == []


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "00:00:00.000"), (59.9996, "00:01:00.000"), (3599.5, "00:59:59.500"), (86_400, "1d 00:00:00.000")],
)
def test_virtual_time(seconds: float, shown: str) -> None:
    assert clock_time(seconds) == shown
