"""The project as the contract tests see it: its templates as written, translated by SAM, and rendered as a whole.

stack/render.py renders: intrinsic functions, conditions and nested stacks are worked out for given parameters of the
application, and references to resources become addresses (`WakeupQueue`, `Network.Vpc`, `Network.Vpc.VpcId`).
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from stack.network.from_templates import network
from stack.network.model import Network
from stack.render import Combination, Rendered, combinations, render, templates, translated, written

ROOT = Path(__file__).parents[2]
APPLICATION = "template.yaml"
NETWORK = "infra/network.yaml"
DATABASE = "infra/database.yaml"
OBSERVABILITY = "infra/observability.yaml"
CHECK_EGRESS = "infra/check-egress.yaml"

type Resources = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`texts` are the templates, `events` the names of the event files, `samconfig` and `makefile` texts too."""

    texts: Mapping[str, str]
    events: tuple[str, ...]
    samconfig: str
    makefile: str
    requirements: str

    def written(self, name: str) -> dict[str, Any]:
        """A template as it is written. Yours to change."""
        return _copied(written(self.texts[name]))

    def translated(self, name: str = APPLICATION) -> dict[str, Any]:
        """A SAM template, by default the application's, as SAM hands it to CloudFormation. Yours to change."""
        return _copied(translated(self.texts[name]))

    def sam_templates(self) -> list[str]:
        """The templates that SAM translates."""
        return [name for name in self.texts if "Transform" in written(self.texts[name])]

    def written_resource(self, address: str) -> dict[str, Any]:
        """A resource as its template has it, by its address. Yours to change."""
        stack, _, name = address.rpartition(".")
        resource: dict[str, Any] = self.written(self.application().templates[stack])["Resources"][name]
        return resource

    def application(self, **parameters: str) -> Rendered:
        """Everything, rendered for `parameters` of the application (the rest by default).

        Raises ValueError for parameters that are refused and references that lead nowhere.
        """
        return _rendered(tuple(self.texts.items()), tuple(sorted(parameters.items())))

    def network(self, **parameters: str) -> Network:
        """The VPC. Raises ValueError as above, and for what is not known how to read."""
        return _network(tuple(self.texts.items()), tuple(sorted(parameters.items())))

    def combinations(self) -> tuple[Combination, ...]:
        """Every topology, egress and stage, refused ones too."""
        return _combinations(tuple(self.texts.items()))

    def resources(self, name: str, **parameters: str) -> Resources:
        """The rendered resources of the stacks that a template makes, by address."""
        found = self.application(**parameters)
        stacks = {address for address, file in found.templates.items() if file == name}
        return {
            address: resource for address, resource in found.resources.items() if address.rpartition(".")[0] in stacks
        }

    def of_type(self, name: str, kind: str, **parameters: str) -> Resources:
        """Those of one type."""
        return {key: value for key, value in self.resources(name, **parameters).items() if value["Type"] == kind}

    def functions(self, **parameters: str) -> Resources:
        """The Lambda functions of the application and of the stacks nested in it, by address."""
        return self.application(**parameters).of_type("AWS::Lambda::Function")

    def stages(self) -> dict[str, dict[str, str]]:
        """Parameters of each stage in samconfig.toml, and of `default`, which has none."""
        tables = {stage: table for stage, table in tomllib.loads(self.samconfig).items() if stage != "version"}
        deployed = {stage: table["deploy"]["parameters"] for stage, table in tables.items() if "deploy" in table}
        overrides = {
            stage: dict(pair.split("=", 1) for pair in parameters["parameter_overrides"])
            for stage, parameters in deployed.items()
        }
        return {"default": {}, **overrides}


@cache
def load() -> Project:
    """The project in this directory."""
    return Project(
        texts=templates(),
        events=tuple(sorted(path.name for path in (ROOT / "events").iterdir())),
        samconfig=(ROOT / "samconfig.toml").read_text(encoding="utf-8"),
        makefile=(ROOT / "src/Makefile").read_text(encoding="utf-8"),
        requirements=(ROOT / "src/requirements.txt").read_text(encoding="utf-8"),
    )


type _Items = tuple[tuple[str, str], ...]


# Large enough for every combination of a few projects: rules follow each other on the same one.
@lru_cache(maxsize=256)
def _rendered(texts: _Items, parameters: _Items) -> Rendered:
    return render(dict(parameters), texts=dict(texts))


@lru_cache(maxsize=256)
def _network(texts: _Items, parameters: _Items) -> Network:
    return network(_rendered(texts, parameters))


@lru_cache(maxsize=8)
def _combinations(texts: _Items) -> tuple[Combination, ...]:
    return combinations(dict(texts))


def _copied(template: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(template))
    return copy
