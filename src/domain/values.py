"""What makes values fast, to make and to define: `@value_class` in place of `@dataclass`.

A frozen dataclass sets each of its members through `object.__setattr__`, since its own raises; that was an eighth of
all that the worker does. And each dataclass has its methods compiled when its module is loaded, which was a third of
what loading our own modules takes. Here most methods are shared by all classes, and `__init__`, the one that must be
fast, is compiled by `dataclass` itself when the first value is made: a process makes values of a few classes only.

To mypy, `value_class` is `dataclass`, so that assigning to a member of a frozen value is an error in every file of the
project. At run time the class is an ordinary one with the equality, the hash and the text of a frozen one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as value_class
else:
    from dataclasses import dataclass, fields
    from functools import cache

    _OF_EVERY_CLASS = ("__dict__", "__weakref__")

    def value_class(*, frozen: bool, slots: bool, kw_only: bool):
        """The decorator for a frozen dataclass of these options that is not checked at run time."""
        shared = {"__eq__": _equals, "__hash__": _hash if frozen else None, "__repr__": _text}

        def decorate(bare):
            written = {name: value for name, value in vars(bare).items() if name not in _OF_EVERY_CLASS}
            members = written.get("__annotations__", {})
            later = _Later(bare, written, kw_only=kw_only)
            described = {name: value for name, value in written.items() if name not in members}
            if slots:
                described["__slots__"] = [name for name in members if not hasattr(bare.__base__, name)]
            described |= {"__init__": later.init(), "__dataclass_fields__": later, "__qualname__": bare.__qualname__}
            later.made = type(bare)(bare.__name__, bare.__bases__, shared | described)
            return later.made

        return decorate

    class _Later:
        """What `dataclass` makes of a class: compiled when a value is made, or the class is asked for its fields."""

        def __init__(self, bare, written, *, kw_only):
            self._bare, self._written, self._kw_only = bare, written, kw_only
            self.made = None

        def __get__(self, _instance, _owner):
            self._complete()
            return self.made.__dataclass_fields__

        def init(self):
            """An `__init__` that puts the compiled one into its own place."""

            def first(value, /, *args, **members):  # a member may be called `value` too
                self._complete()
                self.made.__init__(value, *args, **members)

            return first

        def _complete(self):
            """Two threads may do so at once, each with a class of its own."""
            # With a docstring, as dataclass would write one from the signature.
            written = {**self._written, "__doc__": self._bare.__name__}
            bare = type(self._bare)(self._bare.__name__, self._bare.__bases__, written)
            whole = dataclass(kw_only=self._kw_only, eq=False, repr=False, match_args=False)(bare)
            for name in ("__init__", "__dataclass_params__", "__dataclass_fields__"):
                setattr(self.made, name, vars(whole)[name])

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
