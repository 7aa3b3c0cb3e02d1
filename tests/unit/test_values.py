"""Values that are made for each delivery: frozen to mypy, with the equality and the hash of frozen ones."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from functools import cached_property
from threading import Barrier

import pytest

from domain.values import value_class


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordinary:
    name: str
    parts: tuple[str, ...] = ()
    hidden: str = field(default="", repr=False, compare=False)


@value_class(frozen=True, slots=True, kw_only=True)
class Fast:
    name: str
    parts: tuple[str, ...] = ()
    hidden: str = field(default="", repr=False, compare=False)


def test_what_mypy_refuses_is_not_checked_at_run_time() -> None:
    ordinary, fast = Ordinary(name="a"), Fast(name="a")
    with pytest.raises(FrozenInstanceError):
        ordinary.name = "b"  # type: ignore[misc]  # what this is about: mypy reports an ignore that it does not need
    fast.name = "b"  # type: ignore[misc]  # see above


def test_it_is_a_dataclass_like_the_frozen_one_otherwise() -> None:
    ordinary, fast = Ordinary(name="a", parts=("b",), hidden="c"), Fast(name="a", parts=("b",), hidden="c")
    assert repr(fast) == repr(ordinary).replace("Ordinary", "Fast")
    assert hash(fast) == hash(ordinary)
    assert fast == replace(fast, hidden="d") != replace(fast, name="d")
    assert not hasattr(fast, "__dict__")
    with pytest.raises(TypeError):
        Fast("a")  # type: ignore[call-arg]  # only by keyword


@value_class(frozen=True, slots=True, kw_only=True)
class Named:
    name: str = "unnamed"

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a name has letters")


@value_class(frozen=True, slots=True, kw_only=True)
class Listed(Named):
    """One with members of its own, which are made for each value."""

    parts: list[str] = field(default_factory=list)


@value_class(frozen=True, slots=False, kw_only=True)
class Remembering:
    name: str

    @cached_property
    def letters(self) -> int:
        return len(self.name)


def test_members_of_a_base_class_and_what_it_checks_are_those_of_a_dataclass() -> None:
    one, other = Listed(name="a"), Listed()
    one.parts.append("b")
    assert (one.name, one.parts, other.name, other.parts) == ("a", ["b"], "unnamed", [])
    assert [member.name for member in fields(Listed)] == ["name", "parts"]
    assert not hasattr(one, "__dict__")
    with pytest.raises(ValueError, match="letters"):
        Listed(name="")
    with pytest.raises(TypeError, match="surplus"):
        Listed(surplus=1)  # type: ignore[call-arg]  # what this is about


def test_one_that_remembers_has_a_place_for_it() -> None:
    assert Remembering(name="abc").letters == 3


def test_nothing_is_compiled_before_the_first_value_and_then_once() -> None:
    @value_class(frozen=True, slots=True, kw_only=True)
    class Fresh:
        name: str = "a"

    first = Fresh.__init__
    assert Fresh(name="b").name == "b"
    compiled = Fresh.__init__
    assert compiled is not first
    assert Fresh().name == "a"
    assert Fresh.__init__ is compiled


def test_threads_may_make_the_first_value_at_once() -> None:
    for _ in range(20):

        @value_class(frozen=True, slots=True, kw_only=True)
        class Fresh:
            parts: list[str] = field(default_factory=list)

        together = Barrier(4)

        def made(kind: Callable[[], object] = Fresh, together: Barrier = together) -> object:
            together.wait(60)
            return kind()

        with ThreadPoolExecutor(4) as threads:
            results = [future.result() for future in [threads.submit(made) for _ in range(4)]]
        assert results == [Fresh()] * 4


@pytest.mark.parametrize("name", ["value", "args", "members", "later", "cls", "instance"])
def test_a_member_may_have_any_name(name: str) -> None:
    """The first value is made through a function of ours, whose own names are others'."""
    bare = type("Named", (), {"__annotations__": {name: int}})
    named: Callable[..., object] = value_class(frozen=True, slots=True, kw_only=True)(bare)
    assert [getattr(named(**{name: number}), name) for number in (1, 2)] == [1, 2]
