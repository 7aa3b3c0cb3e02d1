"""Values that are made for each delivery, and what makes them fast: `@value_class` in place of `@dataclass`.

A frozen dataclass sets each of its members through `object.__setattr__`, since its own raises. That was an eighth of
all that the worker does. To mypy, `value_class` is `dataclass`, so that assigning to a member of a frozen value is an
error in every file of the project. At run time the class is an ordinary one with the equality and the hash of a frozen
one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as value_class
else:
    from dataclasses import dataclass

    def value_class(*, frozen: bool, slots: bool, kw_only: bool):
        """The decorator for a frozen dataclass of these options that is not checked at run time."""
        return dataclass(slots=slots, kw_only=kw_only, unsafe_hash=frozen)


__all__ = ["value_class"]
