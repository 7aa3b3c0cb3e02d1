"""The whole application for given parameters, as one set of resources.

What CloudFormation would create is evaluated here without an account: SAM's own library translates the root template
(cached, since it does not depend on the parameters), and the functions below resolve parameters, Rules, conditions and
intrinsic functions of the root and of every nested stack. Nested stacks are followed both ways: a parameter of a nested
template is what the root passes, `GetAtt Network.Outputs.VpcId` is what the nested template outputs. Values are
evaluated when they are needed, so the order of the stacks does not matter; a circular reference is an error.

What only AWS can know stands as a `Symbol`, the address of what will tell it: `Network.Vpc` for a Ref, and
`Network.EgressAddressA.PublicIp` for an attribute. An attribute that the template itself sets (a subnet's CidrBlock) is
known. Parameters are text, as they are to CloudFormation.

The package cloud-radar renders single templates and was tried first; docs/adr/0010 says where it does not hold (it
drops every empty text, evaluates both branches of an If, does not miss a resource whose condition is false, and knows
neither Rules, AllowedValues of numbers nor nested stacks). The tests compare the two where it does.
"""

import base64
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from ipaddress import IPv4Network
from itertools import islice, product
from pathlib import Path
from typing import Any

import boto3
import yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import intrinsics_multi_constructor

ROOT = Path(__file__).parents[1]
APPLICATION = "template.yaml"
REGION = "us-east-1"
ACCOUNT = "555555555555"
STACK_NAME = "sallyport"
STACK_GUID = "51af3dc0-da77-11e4-872e-1234567db123"  # how the ARN of a stack ends
STAGES = ("dev", "staging", "prod")
TOPOLOGIES = ("public-private", "internet-accessible", "on-premises", "internal-only")
EGRESSES = ("single", "per-az", "regional")
# What a topology or a stage asks for besides its name. The public addresses are from the ranges for documentation.
NEEDS: Mapping[str, Mapping[str, str]] = {
    "internet-accessible": {"DeveloperCidr": "198.51.100.0/24"},
    "on-premises": {"CorporateCidr": "172.20.0.0/16", "CustomerGatewayAddress": "198.51.100.7"},
    "internal-only": {"AllowedPrivateCidrs": "10.200.0.0/16"},
    "prod": {"DatabaseMinCapacity": "0.5", "DatabaseMaxCapacity": "8"},
}

logging.getLogger("samtranslator").setLevel(logging.ERROR)  # it warns of a feature toggle that only AWS has


class ParametersRefused(ValueError):
    """The parameters are refused, in the words of the parameter or the Rule that refuses them."""


class Dangling(ValueError):
    """Something is referred to that does not exist for these parameters. Names each place and what is missing."""


class Symbol(str):
    """A value that only AWS knows, such as an id, or a text that holds one."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One application. Addresses name the stack and the resource: `ApiFunction`, `Network.Vpc`.

    `parameters` are the root's, defaults included. `outputs` are the root's by name and the nested stacks' by address
    (`Network.VpcId`). `templates` name the file of each stack by its address, the root's being ''. `conditions` say
    which hold, by address too.
    """

    parameters: Mapping[str, str]
    resources: Mapping[str, dict[str, Any]]
    outputs: Mapping[str, Any]
    templates: Mapping[str, str]
    conditions: Mapping[str, bool] = field(default_factory=dict)

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The resources of a type, by address."""
        return {address: resource for address, resource in self.resources.items() if resource["Type"] == kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """A choice of topology, egress and stage with what it needs. `refused` are the words that refuse it, or None."""

    name: str
    parameters: Mapping[str, str]
    refused: str | None


def render(
    parameters: Mapping[str, str] | None = None, *, texts: Mapping[str, str] | None = None, region: str = REGION
) -> Rendered:
    """The application for `parameters` (defaults for the rest) from `texts`, the templates by path (ours by default).

    Raises ParametersRefused for parameters that a template does not accept, Dangling for references to nothing, and
    ValueError for a circular reference or an intrinsic function that is not known here.
    """
    stack = TemplateEvaluation(APPLICATION, texts or templates(), parameters or {}, region)
    stack.admit()
    resources, outputs, files = stack.made()
    if stack.faults:
        raise Dangling("; ".join(dict.fromkeys(stack.faults)))
    return Rendered(
        parameters={name: str(stack.value_of(name)) for name in stack.declared},
        resources=resources,
        outputs=outputs,
        templates=files,
        conditions=dict(stack.truths()),
    )


def check(
    parameters: Mapping[str, str],
    *,
    template: str = APPLICATION,
    texts: Mapping[str, str] | None = None,
    region: str = REGION,
) -> None:
    """Raises ParametersRefused for what the parameters and Rules of one template refuse, the root's by default."""
    TemplateEvaluation(template, texts or templates(), parameters, region).admit()


def combinations(texts: Mapping[str, str] | None = None) -> tuple[Combination, ...]:
    """Every topology with every egress in every stage, 36 in all; those that the Rules refuse say so."""
    return tuple(_combination(*choice, texts) for choice in product(TOPOLOGIES, EGRESSES, STAGES))


def _combination(topology: str, egress: str, stage: str, texts: Mapping[str, str] | None) -> Combination:
    parameters = {"Topology": topology, "Egress": egress, "Stage": stage}
    for choice in (topology, stage):
        parameters |= NEEDS.get(choice, {})
    try:
        check(parameters, texts=texts)
        refused = None
    except ParametersRefused as error:
        refused = str(error)
    return Combination(name=f"{topology} {egress} {stage}", parameters=parameters, refused=refused)


def templates() -> dict[str, str]:
    """The texts of our templates by path: template.yaml and infra/*.yaml."""
    paths = [ROOT / APPLICATION, *sorted((ROOT / "infra").glob("*.yaml"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the one in C where there is one
    """Knows CloudFormation's short forms, as SAM reads them."""


_Loader.add_multi_constructor("!", intrinsics_multi_constructor)


# Rules about changed templates render many texts once.
_CACHED = 32


@lru_cache(maxsize=_CACHED)
def written(text: str) -> dict[str, Any]:
    """A template as it stands, functions in their long form (`Fn::GetAtt`). Shared: do not change it."""
    parsed: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506  (it is a safe loader)
    return parsed


@lru_cache(maxsize=_CACHED)
def translated(text: str) -> dict[str, Any]:
    """The application's template as SAM passes it to CloudFormation. Shared: do not change it."""
    template = json.loads(json.dumps(written(text)))
    # SAM puts the defaults of parameters where some properties refer to them. Without defaults the references stay.
    defaults = {
        name: parameter.pop("Default")
        for name, parameter in template.get("Parameters", {}).items()
        if "Default" in parameter
    }
    for functions in _with_code(template):
        functions["CodeUri"] = "s3://bucket/key"  # SAM translates only what was uploaded
    made: dict[str, Any] = json.loads(
        json.dumps(Translator({}, Parser(), boto_session=_session()).translate(template, {}))
    )
    for name, default in defaults.items():
        made["Parameters"][name]["Default"] = default
    return made


@cache
def _session() -> Any:
    """SAM asks it for the partition."""
    return boto3.Session(region_name=REGION)


def _with_code(template: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every place of a SAM template that names code."""
    everywhere = template.get("Globals", {}).get("Function", {})
    single = [
        resource.get("Properties", {})
        for resource in template["Resources"].values()
        if "Serverless::Function" in resource["Type"]
    ]
    yield from (place for place in [everywhere, *single] if "CodeUri" in place)


# ---- One stack, evaluated on demand


class _Absent:
    """AWS::NoValue: whatever has this value is left out."""


_ABSENT = _Absent()
_MISSING = object()


class TemplateEvaluation:
    """One template with the values passed to it. `prefix` is its address with a dot, '' for the root."""

    def __init__(
        self,
        path: str,
        texts: Mapping[str, str],
        given: Mapping[str, Any],
        region: str,
        *,
        address: str = "",
        parent: "TemplateEvaluation | None" = None,
    ) -> None:
        if path not in texts:
            raise ValueError(f"{address} names the template {path}, which does not exist")
        template = written(texts[path])
        if "Transform" in template:
            template = translated(texts[path])
        self.path, self.texts, self.region = path, texts, region
        self.address, self.parent = address, parent
        self.prefix = f"{address}." if address else ""
        self.given = given
        self.declared: dict[str, Any] = template.get("Parameters", {})
        self.rules: dict[str, Any] = template.get("Rules", {})
        self.conditions: dict[str, Any] = template.get("Conditions", {})
        self.mappings: dict[str, Any] = template.get("Mappings", {})
        self.resources: dict[str, Any] = template.get("Resources", {})
        self.outputs: dict[str, Any] = template.get("Outputs", {})
        self.faults: list[str] = parent.faults if parent else []
        self._known: dict[tuple[str, str], Any] = {}  # values of parameters, conditions and outputs, and nested stacks
        self._where = ""

    # ---- what refuses

    def admit(self) -> None:
        """Raises ParametersRefused for the first parameter or Rule at fault."""
        for name in self.given:
            if name not in self.declared:
                raise ParametersRefused(f"{self.prefix}{name} is not a parameter of {self.path}")
        for name, declared in self.declared.items():
            if name not in self.given and "Default" not in declared:
                raise ParametersRefused(f"{self.prefix}{name} must be given: {declared.get('Description', '')}")
            refuse(f"{self.prefix}{name}", declared, self.value_of(name))
        for rule in self.rules.values():
            if self._asked("RuleCondition", rule):
                self._assert(rule)

    def _asked(self, key: str, rule: Mapping[str, Any]) -> bool:
        return key not in rule or self._is_true(rule[key])

    def _assert(self, rule: Mapping[str, Any]) -> None:
        for assertion in rule["Assertions"]:
            if not self._is_true(assertion["Assert"]):
                raise ParametersRefused(self.prefix + str(assertion.get("AssertDescription", assertion["Assert"])))

    # ---- what is made

    def made(self) -> tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, str]]:
        """All resources, outputs and template files of this stack and those within it, by address."""
        resources: dict[str, dict[str, Any]] = {}
        outputs = {
            f"{self.prefix}{name}": self.output(name) for name in self.outputs if self.exists(self.outputs, name)
        }
        files = {self.address: self.path}
        for name in self.resources:
            if not self.exists(self.resources, name):
                continue
            resources[f"{self.prefix}{name}"] = self._resource(name)
            nested = self._nested(name)
            if nested:
                nested.admit()
                inner_resources, inner_outputs, inner_files = nested.made()
                resources |= inner_resources
                outputs |= inner_outputs
                files |= inner_files
        return resources, outputs, files

    def truths(self) -> Iterator[tuple[str, bool]]:
        """Whether each condition holds, of this stack and of those within it, by address."""
        yield from ((f"{self.prefix}{name}", self.condition(name)) for name in self.conditions)
        for name in self.resources:
            if self.exists(self.resources, name) and (nested := self._nested(name)):
                yield from nested.truths()

    def _resource(self, name: str) -> dict[str, Any]:
        resource = self.resources[name]
        made = {"Type": resource["Type"], "Properties": self._properties(name, resource.get("Properties", {}))}
        made |= {key: resource[key] for key in ("DeletionPolicy", "UpdateReplacePolicy") if key in resource}
        if "Metadata" in resource:
            made["Metadata"] = self._placed(f"{self.prefix}{name}.Metadata", resource["Metadata"])
        needs = resource.get("DependsOn", [])
        needs = [needs] if isinstance(needs, str) else needs
        for other in needs:
            # Of what is not created AWS says that nothing is created either that depends on it (Condition attribute).
            if not self.exists(self.resources, other):
                self._fault(f"{self.prefix}{name}.DependsOn", other)
        made["DependsOn"] = [f"{self.prefix}{other}" for other in needs]
        return made

    def _properties(self, name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
        made = {}
        for key, value in properties.items():
            before, self._where = self._where, f"{self.prefix}{name}.{key}"
            evaluated = self.value(value)
            self._where = before
            if evaluated is not _ABSENT:
                made[key] = evaluated
        return made

    def exists(self, section: Mapping[str, Any], name: str) -> bool:
        """Whether a resource or output of this template exists under these parameters."""
        return name in section and ("Condition" not in section[name] or self.condition(section[name]["Condition"]))

    def _nested(self, name: str) -> "TemplateEvaluation | None":
        resource = self.resources[name]
        if resource["Type"] != "AWS::CloudFormation::Stack":
            return None
        nested: TemplateEvaluation = self._once(
            "stack",
            name,
            lambda: TemplateEvaluation(
                str(resource["Properties"]["TemplateURL"]),
                self.texts,
                resource["Properties"].get("Parameters", {}),
                self.region,
                address=f"{self.prefix}{name}",
                parent=self,
            ),
        )
        return nested

    # ---- values by name

    def value_of(self, name: str) -> Any:
        """A parameter: what was passed or its default, as text; a Symbol where only AWS knows it."""
        return self._once("parameter", name, lambda: self._parameter(name))

    def _parameter(self, name: str) -> Any:
        if name not in self.given:
            return _text(self.declared[name].get("Default", ""))
        if not self.parent:
            return _text(self.given[name])
        before, self.parent._where = self.parent._where, f"{self.address}.Parameters.{name}"
        value = self.parent.value(self.given[name])
        self.parent._where = before
        return _text(self.declared[name].get("Default", "")) if value is _ABSENT else _text(value)

    def condition(self, name: str) -> bool:
        """Whether a condition holds."""
        if name not in self.conditions:
            raise ValueError(f"{self.path} has no condition {name}")
        return bool(self._once("condition", name, lambda: self._is_true(self.conditions[name])))

    def output(self, name: str) -> Any:
        """The value of an output, which must exist."""
        return self._once("output", name, lambda: self._placed(f"{self.prefix}{name}", self.outputs[name]["Value"]))

    def _placed(self, where: str, written: Any) -> Any:
        before, self._where = self._where, where
        value = self.value(written)
        self._where = before
        return value

    def _once(self, kind: str, name: str, work: Callable[[], Any]) -> Any:
        key = (kind, name)
        if key not in self._known:
            self._known[key] = _MISSING
            self._known[key] = work()
        if self._known[key] is _MISSING:
            raise ValueError(f"{self.prefix}{name} refers to itself: a circular dependency")
        return self._known[key]

    # ---- values as written

    def value(self, written: Any) -> Any:
        """What a part of the template comes to; `_ABSENT` where it comes to nothing."""
        if isinstance(written, list):
            return [part for part in map(self.value, written) if part is not _ABSENT]
        if not isinstance(written, dict):
            return written
        if len(written) == 1:
            ((name, argument),) = written.items()
            if name in _FUNCTIONS:
                return _FUNCTIONS[name](self, argument)
            if name.startswith("Fn::"):
                raise ValueError(f"{name} is not known here ({self._where})")
        pairs = ((key, self.value(part)) for key, part in written.items())
        return {key: part for key, part in pairs if part is not _ABSENT}

    def _is_true(self, written: Any) -> bool:
        """A condition or a Rule's assertion."""
        if isinstance(written, dict) and "Condition" in written:
            return self.condition(written["Condition"])
        value = self.value(written)
        return value if isinstance(value, bool) else str(value).lower() == "true"

    def ref(self, name: str) -> Any:
        """Parameter, pseudo parameter or resource."""
        if name in self.declared:
            return self._listed(name) if _is_list(self.declared[name]["Type"]) else self.value_of(name)
        if name.startswith("AWS::"):
            return self._pseudo(name)
        return self._symbol(name, "")

    def _listed(self, name: str) -> list[Any]:
        return _members(self.value_of(name))

    def _pseudo(self, name: str) -> Any:
        stack_name = f"{STACK_NAME}-{self.address.replace('.', '-')}" if self.address else STACK_NAME
        known = {
            "AWS::AccountId": ACCOUNT,
            "AWS::NoValue": _ABSENT,
            "AWS::NotificationARNs": [],
            "AWS::Partition": "aws",
            "AWS::Region": self.region,
            "AWS::StackId": Symbol(f"arn:aws:cloudformation:{self.region}:{ACCOUNT}:stack/{stack_name}/{STACK_GUID}"),
            "AWS::StackName": stack_name,
            "AWS::URLSuffix": "amazonaws.com",
        }
        if name not in known:
            raise ValueError(f"{name} is not known here ({self._where})")
        return known[name]

    def attribute(self, name: str, attribute: str) -> Any:
        """An attribute of a resource: known where the template sets it, or a nested stack outputs it."""
        if not self.exists(self.resources, name):
            return self._fault(self._where, f"{name}.{attribute}")
        nested = self._nested(name)
        if nested and attribute.startswith("Outputs."):
            output = attribute.removeprefix("Outputs.")
            if not nested.exists(nested.outputs, output):
                return self._fault(self._where, f"{name}.{attribute}")
            return nested.output(output)
        properties = self.resources[name].get("Properties", {})
        if attribute in properties:
            return self._once("attribute", f"{name}.{attribute}", lambda: self.value(properties[attribute]))
        return self._symbol(name, f".{attribute}")

    def _symbol(self, name: str, attribute: str) -> Symbol:
        if not self.exists(self.resources, name):
            return self._fault(self._where, f"{name}{attribute}")
        return Symbol(f"{self.prefix}{name}{attribute}")

    def _fault(self, where: str, missing: str) -> Symbol:
        self.faults.append(f"{where or self.path} refers to {self.prefix}{missing}, which does not exist")
        return Symbol(f"{self.prefix}{missing}")


# ---- What refuses a parameter


def refuse(name: str, declared: Mapping[str, Any], value: Any) -> None:
    """Raises ParametersRefused unless `value` fits the declaration. Symbols fit: their values are not known yet."""
    values = _members(value) if _is_list(declared["Type"]) else [value]
    for member in values:
        if isinstance(member, Symbol):
            continue
        for words in _misfits(declared, str(member)):
            raise ParametersRefused(f"{name}: {declared.get('ConstraintDescription', words)} (got {member!r})")


def _misfits(declared: Mapping[str, Any], value: str) -> Iterator[str]:
    allowed = [_text(choice) for choice in declared.get("AllowedValues", [value])]
    if value not in allowed:
        yield f"must be one of {', '.join(repr(choice) for choice in allowed)}"
    if not re.fullmatch(str(declared.get("AllowedPattern", "(?s:.*)")), value):
        yield f"must match {declared['AllowedPattern']}"
    if not int(declared.get("MinLength", 0)) <= len(value) <= int(declared.get("MaxLength", len(value))):
        yield f"must have {declared.get('MinLength', 0)} to {declared.get('MaxLength', 'any number of')} characters"
    if "Number" in declared["Type"]:
        yield from _number_misfits(declared, value)


def _number_misfits(declared: Mapping[str, Any], value: str) -> Iterator[str]:
    if not re.fullmatch(r"-?\d+(\.\d+)?", value):
        yield "must be a number"
        return
    least, most = declared.get("MinValue", "-inf"), declared.get("MaxValue", "inf")
    if not float(least) <= float(value) <= float(most):
        yield f"must be a number from {least} to {most}"


def _is_list(kind: str) -> bool:
    return kind == "CommaDelimitedList" or kind.startswith("List<")


# ---- Intrinsic functions


def _text(value: Any) -> Any:
    """A value as CloudFormation writes it into a text. A list is joined with commas, as a nested stack gets it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return _join(",", value)
    return str(value)


def _join(delimiter: str, parts: list[Any]) -> str:
    joined = delimiter.join(_text(part) for part in parts)
    return Symbol(joined) if any(isinstance(part, Symbol) for part in parts) else joined


def _split(delimiter: str, value: Any) -> list[Any]:
    kind: type[str] = Symbol if isinstance(value, Symbol) else str
    return [kind(part) for part in str(value).split(delimiter)] if str(value) else []


def _members(value: Any) -> list[Any]:
    """Of a parameter that is a list; CloudFormation trims them."""
    return [type(member)(member.strip()) for member in _split(",", value)]


def _fn_if(stack: TemplateEvaluation, argument: Any) -> Any:
    name, then, otherwise = argument
    return stack.value(then if stack.condition(name) else otherwise)


def _fn_get_att(stack: TemplateEvaluation, argument: Any) -> Any:
    name, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
    return stack.attribute(name, stack.value(attribute))


def _fn_sub(stack: TemplateEvaluation, argument: Any) -> Any:
    text, named = (argument, {}) if isinstance(argument, str) else argument
    values = {name: stack.value(value) for name, value in named.items()}
    parts: list[Any] = []
    place = 0
    for match in re.finditer(r"\$\{(!?)([^}]+)\}", text):
        parts.append(text[place : match.start()])
        parts.append(f"${{{match[2]}}}" if match[1] else _substitute(stack, match[2].strip(), values))
        place = match.end()
    return _join("", [*parts, text[place:]])


def _substitute(stack: TemplateEvaluation, name: str, values: Mapping[str, Any]) -> Any:
    if name in values:
        return values[name]
    if "." in name:
        return _fn_get_att(stack, name)
    return stack.ref(name)


def _fn_join(stack: TemplateEvaluation, argument: Any) -> Any:
    delimiter, parts = argument
    return _join(delimiter, stack.value(parts))


def _fn_split(stack: TemplateEvaluation, argument: Any) -> Any:
    delimiter, text = argument
    value = stack.value(text)
    return _split(delimiter, value) or [""]


def _fn_select(stack: TemplateEvaluation, argument: Any) -> Any:
    index, choices = argument
    values = stack.value(choices)
    place = int(stack.value(index))
    if isinstance(values, Symbol):
        return Symbol(f"{values}[{place}]")  # an attribute that is a list, which only AWS knows
    if not isinstance(values, list):
        raise ValueError(f"Select of {values!r}, which is no list ({stack._where})")
    if len(values) == 1 and isinstance(values[0], Symbol) and place > 0:
        return Symbol(f"{values[0]}[{place}]")  # a part of a text that only AWS knows, such as an ARN
    if not 0 <= place < len(values):
        raise ValueError(f"there is no item {place} in {values} ({stack._where})")
    return values[place]


def _fn_cidr(stack: TemplateEvaluation, argument: Any) -> Any:
    block, count, bits = (stack.value(part) for part in argument)
    subnets = IPv4Network(block).subnets(new_prefix=32 - int(bits))
    ranges = [str(subnet) for subnet in islice(subnets, int(count))]
    if len(ranges) < int(count):
        raise ValueError(f"{block} has no {count} ranges of {bits} bits ({stack._where})")
    return ranges


def _fn_get_azs(stack: TemplateEvaluation, argument: Any) -> Any:
    """Stand-ins: which zones there are differs by Region and account, two there are in each."""
    region = stack.value(argument) or stack.region
    return [f"{region}{letter}" for letter in "abc"]


def _fn_find_in_map(stack: TemplateEvaluation, argument: Any) -> Any:
    name, first, second = (stack.value(part) for part in argument)
    return stack.mappings[name][first][second]


def _fn_base64(stack: TemplateEvaluation, argument: Any) -> Any:
    value = stack.value(argument)
    encoded = base64.b64encode(str(value).encode()).decode()
    return Symbol(encoded) if isinstance(value, Symbol) else encoded


def _fn_equals(stack: TemplateEvaluation, argument: Any) -> bool:
    left, right = (_text(stack.value(part)) for part in argument)
    return bool(left == right)


def _fn_contains(stack: TemplateEvaluation, argument: Any) -> bool:
    texts, wanted = (stack.value(part) for part in argument)
    return _text(wanted) in [_text(part) for part in texts]


def _fn_each_member_equals(stack: TemplateEvaluation, argument: Any) -> bool:
    texts, wanted = (stack.value(part) for part in argument)
    return all(_text(part) == _text(wanted) for part in texts)


def _fn_each_member_in(stack: TemplateEvaluation, argument: Any) -> bool:
    texts, allowed = ([_text(text) for text in stack.value(part)] for part in argument)
    return all(text in allowed for text in texts)


def _fn_ref_all(stack: TemplateEvaluation, argument: Any) -> list[Any]:
    """The values of all parameters of a type."""
    return [stack.value_of(name) for name, declared in stack.declared.items() if declared["Type"] == argument]


def _fn_value_of(stack: TemplateEvaluation, argument: Any) -> Symbol:
    """An attribute of what a parameter names, such as the VPC of a subnet: only AWS knows it."""
    name, attribute = argument
    return Symbol(f"{stack.value_of(name)}.{attribute}")


_FUNCTIONS: Mapping[str, Callable[[TemplateEvaluation, Any], Any]] = {
    "Ref": lambda stack, name: stack.ref(name),
    "Fn::And": lambda stack, parts: all(stack._is_true(part) for part in parts),
    "Fn::Base64": _fn_base64,
    "Fn::Cidr": _fn_cidr,
    "Fn::Contains": _fn_contains,
    "Fn::EachMemberEquals": _fn_each_member_equals,
    "Fn::EachMemberIn": _fn_each_member_in,
    "Fn::Equals": _fn_equals,
    "Fn::FindInMap": _fn_find_in_map,
    "Fn::GetAZs": _fn_get_azs,
    "Fn::GetAtt": _fn_get_att,
    "Fn::If": _fn_if,
    "Fn::Join": _fn_join,
    "Fn::Not": lambda stack, parts: not stack._is_true(parts[0]),
    "Fn::Or": lambda stack, parts: any(stack._is_true(part) for part in parts),
    "Fn::RefAll": _fn_ref_all,
    "Fn::Select": _fn_select,
    "Fn::Split": _fn_split,
    "Fn::Sub": _fn_sub,
    "Fn::ValueOf": _fn_value_of,
}
