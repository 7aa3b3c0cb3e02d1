"""Loads of a library's package only the modules that are asked for.

Powertools' packages import all that is in them when one of their modules is imported: the events of every service of
AWS, and the resolvers for five of them. That was a twelfth of what loading a function takes (docs/performance.md).
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


def load_in_parts(package: str, modules: Mapping[str, str]) -> None:
    """From now on importing `package` runs nothing of it, and one of its names loads the module that has it: that which
    `modules` says, by name. For any other name the package is run as it is, so that nothing of it is missing.

    Does nothing where it is imported already, or is not there.
    """
    spec = None if package in sys.modules else find_spec(package)
    if spec is None:
        return
    made = module_from_spec(spec)
    vars(made)["__getattr__"] = _Names(made, modules)
    sys.modules[package] = made
    parent, _, name = package.rpartition(".")
    setattr(sys.modules[parent], name, made)


class _Names:
    """What a module does for a name that it does not have (PEP 562)."""

    def __init__(self, package: ModuleType, modules: Mapping[str, str]) -> None:
        self._package = package
        self._modules = modules

    def __call__(self, name: str) -> Any:
        """The value, or the module of that name. Raises AttributeError where the package has none."""
        package = self._package
        if name in self._modules:
            return getattr(import_module(f"{package.__name__}.{self._modules[name]}"), name)
        if find_spec(f"{package.__name__}.{name}") is not None:
            return import_module(f"{package.__name__}.{name}")
        if (spec := package.__spec__) is None or spec.loader is None or "__getattr__" not in vars(package):
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
        del vars(package)["__getattr__"]
        spec.loader.exec_module(package)
        return getattr(package, name)
