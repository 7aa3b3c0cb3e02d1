"""What each choice of parameters changes in all that is created, written down: choices.json.

A condition that holds where it should not, the two sides of an `Fn::If` the wrong way round, a resource that another
choice creates: each changes what is noted of a choice. Who changes what a choice does reads here what else it does now.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stack.render import Rendered
from tests.contract.cases import choices
from tests.contract.project import load

LEDGER = Path(__file__).with_name("choices.json")
PROJECT = load()
LONGEST = 120
DEFAULT = "public-private single dev"
# Only people and scanners read them.
TOLD = {"Description", "AlarmDescription", "Metadata", "Tags", "GroupDescription"}
# What no rule needs in every topology.
MORE = {
    "public-private with a large database": {"DatabaseMinCapacity": "1", "DatabaseMaxCapacity": "16"},
    "public-private with a bastion on x86": {"Bastion": "yes", "Architecture": "x86_64"},
}

type Values = Mapping[str, Any]


@cache
def all_choices() -> Mapping[str, Mapping[str, str]]:
    """By name. What is chosen beside the topology, in the first topology that takes it, and in others where a condition
    holds, or does not, that did elsewhere.
    """
    found: dict[str, Mapping[str, str]] = {}
    seen: set[tuple[str, bool]] = set()
    for name, parameters in [*choices(PROJECT), *MORE.items()]:
        beside, others = name.partition(" with ")[2], {each.partition(" with ")[2] for each in found}
        truths = set(PROJECT.application(**parameters).conditions.items())
        if not beside or beside not in others or truths - seen:
            found[name] = parameters
            seen |= truths
    return found


def noted() -> dict[str, Any]:
    ledger: dict[str, Any] = json.loads(LEDGER.read_text(encoding="utf-8"))
    return ledger


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value below one, by its path; the members of lists by what names them, where something does."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in TOLD:
                yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list) and value and all(isinstance(member, Mapping) for member in value):
        for place, member in enumerate(value):
            yield from leaves(member, f"{path}.{member.get('Sid') or member.get('Name') or place}")
    else:
        yield path, value


@cache
def values(name: str) -> Values:
    """Of everything that a choice creates, and its outputs."""
    rendered: Rendered = PROJECT.application(**all_choices()[name])
    found = {path: value for address, made in rendered.resources.items() for path, value in leaves(made, address)}
    return found | {f"Outputs {name}": value for name, value in rendered.outputs.items()}


def before(name: str) -> str:
    """What a choice is compared with: the one that has all the same but its last word, or what comes with it."""
    topology, _, beside = name.partition(" with ")
    if beside:
        return f"{topology} single dev"
    topology, egress, stage = name.split()
    if stage != "dev":
        return f"{topology} {egress} dev"
    return f"{topology} single dev" if egress != "single" else DEFAULT


def difference(old: Values, new: Values) -> dict[str, Any]:
    """What is created besides and no more, by address, and what else is another value."""
    made, was = _addresses(new), _addresses(old)
    both = made & was
    changed = {
        path: [short(old.get(path)), short(new.get(path))]
        for path in sorted({*old, *new})
        if path.partition(".")[0] not in made ^ was and _address(path, both) and old.get(path) != new.get(path)
    }
    return {"makes": sorted(made - was), "makes no more": sorted(was - made), "changes": changed}


def short(value: Any) -> Any:
    """Of long texts, such as those of a dashboard, a digest."""
    text = json.dumps(value, sort_keys=True)
    return value if len(text) <= LONGEST else f"{len(text)} bytes, {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _addresses(found: Values) -> set[str]:
    return {path.removesuffix(".Type") for path in found if path.endswith(".Type") and ".Properties." not in path}


def _address(path: str, both: set[str]) -> bool:
    parts = path.split(".")
    return path.startswith("Outputs ") or any(".".join(parts[:end]) in both for end in range(1, len(parts)))


@pytest.mark.parametrize("name", [name for name in all_choices() if name != DEFAULT])
def test_a_choice_changes_what_is_noted_and_nothing_else(name: str, tmp_path: Path) -> None:
    found, suggested = json.loads(json.dumps(difference(values(before(name)), values(name)))), tmp_path / "choice.json"
    suggested.write_text(json.dumps({name: found}, indent=1, sort_keys=True), encoding="utf-8")
    assert found == noted().get(name), f"if that is meant, note {suggested} in {LEDGER.name}"


def test_nothing_is_noted_of_a_choice_that_is_gone() -> None:
    assert noted().keys() - all_choices().keys() == set()


def test_each_condition_holds_in_one_choice_and_not_in_another() -> None:
    found: dict[str, set[bool]] = {}
    for parameters in all_choices().values():
        for address, holds in PROJECT.application(**parameters).conditions.items():
            found.setdefault(address, set()).add(holds)
    assert {address for address, seen in found.items() if len(seen) == 1} == set()
