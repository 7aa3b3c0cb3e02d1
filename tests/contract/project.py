"""The project as the contract tests see it: its templates as written, translated by SAM, and rendered.

SAM's own library translates, cloud-radar renders: intrinsic functions and conditions are resolved for given parameters,
references to resources become their logical ids (`Vpc`, `Vpc.CidrBlock`, `Network.Outputs.VpcId`).
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from cloud_radar.cf.unit import Template, functions
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
APPLICATION = "template.yaml"
NETWORK = "infra/network.yaml"
DATABASE = "infra/database.yaml"
OBSERVABILITY = "infra/observability.yaml"
REGION = "us-east-1"
ZONES = ["us-east-1a", "us-east-1b", "us-east-1c"]
# What the functions of nested templates are given when nothing else is said.
STAND_INS = {
    DATABASE: {
        "SubnetIds": "subnet-0a1b2c3d4e5f60718,subnet-1a1b2c3d4e5f60718",
        "SecurityGroupId": "sg-0a1b2c3d4e5f60718",
        "WriterZone": "us-east-1a",
        "ReaderZone": "us-east-1b",
        "ProxySubnetIds": "",
        "ProxySecurityGroupId": "",
        "MinCapacity": "0",
        "MaxCapacity": "2",
        "BackupRetentionDays": "1",
        "DeletionProtection": "false",
        "LogRetentionDays": "30",
    },
    OBSERVABILITY: {
        "Stage": "dev",
        "ApiName": "sallyport",
        "ApiAccessLogGroupName": "access",
        "ApiFunctionName": "api",
        "AuthorizeFunctionName": "authorize",
        "AttemptFunctionName": "attempt",
        "WakeupQueueName": "wakeups",
        "DeadLetterQueueName": "dead-letters",
    },
}

functions.REGION_DATA = [{"code": REGION, "zones": ZONES}]  # else it would fetch the list from the internet

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
        return _parsed(self.texts[name])

    def functions(self) -> Resources:
        """The Lambda functions, translated, by logical id."""
        return self.of_type(APPLICATION, "AWS::Lambda::Function")

    def of_type(self, name: str, kind: str, **parameters: str) -> Resources:
        """The rendered resources of a type in a template."""
        return {key: value for key, value in self.resources(name, **parameters).items() if value["Type"] == kind}

    def resources(self, name: str, **parameters: str) -> Resources:
        """All rendered resources of a template for `parameters` (the rest by default)."""
        resources: Resources = self.rendered(name, **parameters)["Resources"]
        return resources

    def rendered(self, name: str, **parameters: str) -> dict[str, Any]:
        """The whole rendered template. Raises ValueError for a parameter that the template does not accept."""
        return _rendered(self.texts[name], name, tuple(sorted((STAND_INS.get(name, {}) | parameters).items())))

    def translated(self) -> dict[str, Any]:
        """The application's template as SAM hands it to CloudFormation, not rendered. Yours to change."""
        return _translated(self.texts[APPLICATION])

    def stages(self) -> dict[str, dict[str, str]]:
        """Parameters of each stage in samconfig.toml, and of `default`, which has none."""
        tables = {stage: table for stage, table in tomllib.loads(self.samconfig).items() if stage != "version"}
        deployed = {stage: table["deploy"]["parameters"] for stage, table in tables.items() if "deploy" in table}
        overrides = {
            stage: dict(pair.split("=", 1) for pair in parameters["parameter_overrides"])
            for stage, parameters in deployed.items()
        }
        return {"default": {}, **overrides}


def load() -> Project:
    """The project in this directory."""
    names = [APPLICATION, *sorted(f"infra/{path.name}" for path in (ROOT / "infra").glob("*.yaml"))]
    return Project(
        texts={name: (ROOT / name).read_text(encoding="utf-8") for name in names},
        events=tuple(sorted(path.name for path in (ROOT / "events").iterdir())),
        samconfig=(ROOT / "samconfig.toml").read_text(encoding="utf-8"),
        makefile=(ROOT / "src/Makefile").read_text(encoding="utf-8"),
        requirements=(ROOT / "src/requirements.txt").read_text(encoding="utf-8"),
    )


def reworded(name: str, old: str, new: str, *, count: int = 1) -> Callable[[Project], Project]:
    """A change to the text of a template: `old`, which must be there, becomes `new` in the first `count` places."""

    def change(project: Project) -> Project:
        assert old in project.texts[name], f"{name} no longer has: {old}"
        return replace(project, texts={**project.texts, name: project.texts[name].replace(old, new, count)})

    return change


def _parsed(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse(text)
    return parsed


@cache
def _rendered(text: str, name: str, parameters: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    template = _translated(text) if name == APPLICATION else _plain(_parsed(text))
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::EC2::VPC":
            block = dict(parameters).get("VpcCidr") or template["Parameters"]["VpcCidr"]["Default"]
            resource["Metadata"] = {"Cloud-Radar": {"attribute-values": {"CidrBlock": block}}}
        if resource["Type"] == "AWS::RDS::DBProxy":
            arn = f"arn:aws:rds:{REGION}:555555555555:db-proxy:prx-0123456789abcdef0"
            resource["Metadata"] = {"Cloud-Radar": {"attribute-values": {"DBProxyArn": arn}}}
    _demand_allowed_values(template["Parameters"], dict(parameters))
    rendered: dict[str, Any] = Template(template).render(dict(parameters), region=REGION)
    return rendered


def _demand_allowed_values(known: dict[str, Any], given: dict[str, str]) -> None:
    """cloud-radar asks for a number's bounds, but not for its AllowedValues."""
    for name in given.keys() & known.keys():
        allowed = [str(value) for value in known[name].get("AllowedValues", [given[name]])]
        if given[name] not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {given[name]}")


def _translated(text: str) -> dict[str, Any]:
    translated: dict[str, Any] = json.loads(_translation(text))
    return translated


@cache
def _translation(text: str) -> str:
    template = _plain(_parsed(text))
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"  # SAM translates only what was uploaded
    return json.dumps(Translator({}, Parser()).translate(template, {}))


def _plain(value: Any) -> Any:
    """Plain dicts and lists: neither library takes the other's own kinds."""
    return json.loads(json.dumps(value))
