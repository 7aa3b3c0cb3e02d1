"""Which trace contexts are passed on."""

import pytest

from domain.trace import with_trace

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def passed_on(*parents: str, states: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return list(with_trace((("X-Own", "1"),), parents=parents, states=states))[1:]


@pytest.mark.parametrize(
    "parent",
    [VALID, VALID[:-2] + "ff", "01" + VALID[2:], "01" + VALID[2:] + "-what-comes-later", "fe" + VALID[2:]],
)
def test_a_valid_parent_is_passed_on_as_it_is(parent: str) -> None:
    assert passed_on(parent) == [("traceparent", parent)]


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "ff" + VALID[2:],
        VALID.upper(),
        VALID + "-more",
        VALID + "\n",
        " " + VALID,
        VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        VALID.replace("00f067aa0ba902b7", "0" * 16),
        "01" + VALID[2:] + "more",
        "01" + VALID[2:] + "-a b",
        "01" + VALID[2:] + "-" + "x" * 201,
    ],
)
def test_one_that_is_not_valid_is_left_out_and_its_state_too(parent: str) -> None:
    assert passed_on(parent, states=("a=1",)) == []


def test_of_two_parents_none_is_passed_on() -> None:
    assert passed_on(VALID, VALID, states=("a=1",)) == []


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (("a=1",), "a=1"),
        (("a=1", " b=2 ,, t0@vendor=3"), "a=1,b=2,t0@vendor=3"),
        ((",".join(f"k{number}=1" for number in range(32)),), ",".join(f"k{number}=1" for number in range(32))),
        (("k=" + "v" * 255 + ",l=" + "v" * 252,), "k=" + "v" * 255 + ",l=" + "v" * 252),
    ],
)
def test_a_valid_state_is_passed_on_in_one_line(states: tuple[str, ...], state: str) -> None:
    assert passed_on(VALID, states=states) == [("traceparent", VALID), ("tracestate", state)]


@pytest.mark.parametrize(
    "states",
    [
        (),
        ("",),
        ("A=1",),
        ("a",),
        ("a=",),
        ("a=1=2",),
        ("a=\x01",),
        ("a=é",),
        (",".join(f"k{number}=1" for number in range(33)),),
        ("k=" + "v" * 255 + ",l=" + "v" * 253,),
    ],
)
def test_any_other_state_is_left_out(states: tuple[str, ...]) -> None:
    assert passed_on(VALID, states=states) == [("traceparent", VALID)]


@pytest.mark.parametrize("name", ["traceparent", "TraceParent", "Tracestate"])
def test_what_the_delivery_says_itself_stands(name: str) -> None:
    assert with_trace(((name, "own"),), parents=[VALID], states=["a=1"]) == ((name, "own"),)
