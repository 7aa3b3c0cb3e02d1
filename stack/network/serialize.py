"""A Network as JSON and back, so that it can be looked at, kept, and realised elsewhere.

Written by hand because a route's target is one of several dataclasses, which the libraries here cannot tell apart
without changing them: each target is saved with the name of its class. All else follows from the types.
"""

import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal, TypeAliasType, Union, get_args, get_origin, get_type_hints

from stack.network.model import Network

_CLASS = "class"


class Unreadable(ValueError):
    """The text is not a saved Network; the words say what is wrong with it."""


def dump(network: Network) -> str:
    """Indented JSON."""
    return json.dumps(_plain(network), indent=1)


def load(text: str) -> Network:
    """Raises Unreadable."""
    try:
        loaded = _made(Network, json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"not a saved network: {error!r}") from error
    if not isinstance(loaded, Network):
        raise Unreadable("not a saved network")
    return loaded


def renamed(network: Network, names: Mapping[str, str]) -> Network:
    """With other ids for those that `names` has, wherever they stand."""
    changed: Network = _renamed(network, names)
    return changed


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _renamed(getattr(value, field.name), names) for field in fields(value)})
    if isinstance(value, tuple):
        return tuple(_renamed(member, names) for member in value)
    return names.get(value, value) if type(value) is str else value


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        name = _name(value)
        named = {_CLASS: name} if name.endswith(("Target", "Blackhole")) else {}
        return named | {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(member) for member in value]
    return str(value) if isinstance(value, (IPv4Address, IPv4Network, Enum)) else value


def _name(value: object) -> str:
    return type(value).__name__


def _made(wanted: Any, value: Any) -> Any:
    """`value` as `wanted`, a type of stack/network/model.py."""
    if isinstance(wanted, TypeAliasType):
        wanted = wanted.__value__
    if is_dataclass(wanted):
        return _dataclass(wanted, value)
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_made(kind, member) for kind, member in zip(kinds, value, strict=True))
    if origin in {Union, types.UnionType}:
        return _one_of(inner, value)
    known = value in inner if origin is Literal else type(value) is wanted or wanted not in {str, int, bool}
    if not known:
        raise ValueError(f"{value!r} is not {wanted}")
    return value if origin is Literal else wanted(value)


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    if isinstance(value, Mapping):
        classes = {kind.__name__: kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)}
        chosen = [kind for name, kind in classes.items() if value.get(_CLASS, name) == name]
        return _made(chosen[0], value) if len(chosen) == 1 else _unknown(value)
    for kind in (kind for kind in kinds if kind not in {types.NoneType, str}):
        try:
            return _made(kind, value)
        except ValueError:
            continue
    return value if str in kinds else _unknown(value)


def _unknown(value: Any) -> Any:
    raise ValueError(f"{value!r} is nothing that is known here")


def _dataclass(wanted: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no {wanted.__name__}")
    hints = _hints(wanted)
    given = {name: inner for name, inner in value.items() if name != _CLASS}
    return wanted(**{name: _made(hints[name], inner) for name, inner in given.items()})


@cache
def _hints(wanted: Any) -> dict[str, Any]:
    return get_type_hints(wanted)
