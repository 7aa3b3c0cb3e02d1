"""Values that are made for each delivery: frozen to mypy, with the equality and the hash of frozen ones."""

from dataclasses import FrozenInstanceError, dataclass, field, replace

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
