"""What makes values fast, to make and to define: `@value_class` in place of `@dataclass`.

A frozen dataclass sets each of its members through `object.__setattr__`, since its own raises; that was an eighth of
all that the worker does. And each dataclass has its methods compiled when its module is loaded, which was a third of
what loading our own modules takes; here only `__init__` is, the one that must be fast, and the other methods are shared
by all.

To mypy, `value_class` is `dataclass`, so that assigning to a member of a frozen value is an error in every file of the
project. At run time the class is an ordinary one with the equality, the hash and the text of a frozen one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as value_class
else:
    from dataclasses import dataclass, fields
    from functools import cache

    def value_class(*, frozen: bool, slots: bool, kw_only: bool):
        """The decorator for a frozen dataclass of these options that is not checked at run time."""
        shared = {"__eq__": _equals, "__hash__": _hash if frozen else None, "__repr__": _text}

        def decorate(cls):
            made = dataclass(slots=slots, kw_only=kw_only, eq=False, repr=False)(cls)
            for name, method in shared.items():
                if name not in vars(cls):
                    setattr(made, name, method)
            return made

        return decorate

    def _equals(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _compared(self) == _compared(other)

    def _hash(self):
        return hash(_compared(self))

    def _text(self):
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in _names_shown(self.__class__))
        return f"{self.__class__.__qualname__}({shown})"

    def _compared(value):
        return tuple([getattr(value, name) for name in _names_compared(value.__class__)])

    @cache
    def _names_compared(cls):
        return tuple(field.name for field in fields(cls) if field.compare)

    @cache
    def _names_shown(cls):
        return tuple(field.name for field in fields(cls) if field.repr)


__all__ = ["value_class"]
