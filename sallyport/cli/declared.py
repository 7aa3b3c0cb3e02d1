"""What a file says that destinations are to be, and what would have to change. No call is made here."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")
HIDDEN = "(secret)"
_ABSENT = object()


class SecretText(str):
    """A text from the environment or a file: it is sent and not shown."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationChange:
    """What has to be done about one destination. `patch` is None where it does not exist yet."""

    name: str
    wanted: Mapping[str, Any]
    patch: Mapping[str, Any] | None
    lines: tuple[str, ...] = ()
    version: int | None = None

    @property
    def is_needed(self) -> bool:
        """Whether anything differs."""
        return self.patch is None or bool(self.patch)


def read(path: Path, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """The destinations of a file. Raises ClickException, naming what is wrong."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise click.ClickException(f"{path} cannot be read ({' '.join(str(error).split())})") from error
    listed = found.get("destinations") if isinstance(found, dict) else found
    if not isinstance(listed, list) or not all(isinstance(item, dict) and item.get("name") for item in listed):
        raise click.ClickException(f"{path} is a list of destinations, each with a name, or has one at 'destinations'")
    names = [str(item["name"]) for item in listed]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise click.ClickException(f"{path} has {twice[0]} twice")
    return [_resolved(item, path.parent, environment) for item in listed]


def _resolved(value: Any, folder: Path, environment: Mapping[str, str]) -> Any:
    """With the texts that `${env:NAME}` and `${file:path}` stand for."""
    if isinstance(value, dict):
        return {str(name): _resolved(item, folder, environment) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, folder, environment) for item in value]
    reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if reference is None:
        return value
    kind, name = reference.groups()
    return SecretText(_from_environment(name, environment) if kind == "env" else _from_file(folder / name))


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise click.ClickException(f"the variable {name}, which the file names, is not set")
    return environment[name]


def _from_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path}, which the file names, cannot be read ({error})") from error
    return text if "-----BEGIN" in text else text.removesuffix("\n")


def change(wanted: Mapping[str, Any], shown: Mapping[str, Any] | None, *, with_secrets: bool) -> DestinationChange:
    """What turns the destination that the API shows into the wanted one. Members that the file lacks stay.

    What is never shown, such as a token, cannot be compared: it is sent where something beside it differs, and
    `with_secrets` always.
    """
    name = str(wanted["name"])
    if shown is None:
        return DestinationChange(name=name, wanted=wanted, patch=None, lines=tuple(_added(wanted)))
    patch: dict[str, Any] = {}
    lines: list[str] = []
    for member, value in wanted.items():
        found = list(_differences(value, shown.get(member, _ABSENT), member, with_secrets=with_secrets))
        if found and member != "name":
            patch[member] = value
            lines += found
    return DestinationChange(name=name, wanted=wanted, patch=patch, lines=tuple(lines), version=shown["version"])


def _added(value: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"+ {name}: {_text(item)}" for name, item in value.items() if name != "name")


def _differences(wanted: Any, shown: Any, at: str, *, with_secrets: bool) -> Iterator[str]:
    if isinstance(wanted, SecretText) or shown is _ABSENT:
        if with_secrets:
            yield f"~ {at}: {_text(wanted)}"
    elif isinstance(wanted, dict) and isinstance(shown, dict):
        for name, item in wanted.items():
            yield from _differences(item, shown.get(name, _ABSENT), f"{at}.{name}", with_secrets=with_secrets)
    elif isinstance(wanted, list) and isinstance(shown, list) and len(wanted) == len(shown):
        for number, (item, one) in enumerate(zip(wanted, shown, strict=True)):
            yield from _differences(item, one, f"{at}[{number}]", with_secrets=with_secrets)
    elif wanted != shown:
        yield f"~ {at}: {_text(shown)} -> {_text(wanted)}"


def _text(value: Any) -> str:
    """For the diff; secrets are not in it."""
    if isinstance(value, SecretText):
        return HIDDEN
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)
