"""Reads from template.yaml what the local stack follows: functions, routes, authorizer, gateway responses, queues,
schedules, secrets, SSM parameters. Functions, schedules and SSM parameters also from the SAM templates nested in it.

Not CloudFormation: intrinsic functions are resolved as far as the parameters' values and the local stand-ins of
resources go. What needs the cloud (another stack's output, an ARN without a stand-in) comes out as `UNRESOLVED`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

PSEUDO_PARAMETERS = {
    "AWS::AccountId": "000000000000",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "sallyport",
    "AWS::URLSuffix": "amazonaws.com",
}


class _Unresolved:
    """The value of an intrinsic function that only the cloud can answer."""

    def __repr__(self) -> str:
        return "UNRESOLVED"


UNRESOLVED = _Unresolved()


class _NoValue:
    """The value of AWS::NoValue: what has it is left out."""

    def __repr__(self) -> str:
        return "NO_VALUE"


NO_VALUE = _NoValue()


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTemplate:
    """One AWS::Serverless::Function. `logical_id` is `CheckEgressA.Function` in the nested stack of that name.

    `names` are all variables that it has on AWS; `variables` holds those that could
    be resolved, as text."""

    logical_id: str
    handler: str
    timeout_seconds: int
    memory_mb: int
    names: frozenset[str]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRoute:
    """A path and method (or ANY) of the API and its function; `authorizer` is None for an open route."""

    path: str
    method: str
    function: str
    authorizer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizer:
    """A REQUEST authorizer. Its result is cached for `ttl_seconds` per set of values of `identity_headers`."""

    name: str
    function: str
    identity_headers: tuple[str, ...]
    ttl_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayResponse:
    """A response of API Gateway itself. `status` None means the kind's own; header values keep their quotes."""

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiTemplate:
    """The REST API."""

    stage: str
    routes: tuple[ApiRoute, ...]
    authorizers: Mapping[str, Authorizer]
    gateway_responses: Mapping[str, GatewayResponse]
    binary_media_types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTemplate:
    """One AWS::SQS::Queue. `dead_letter_queue` is a logical id, None for a queue without one."""

    logical_id: str
    visibility_timeout_seconds: int
    retention_seconds: int
    dead_letter_queue: str | None
    max_receives: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSource:
    """An SQS queue that invokes a function."""

    queue: str
    function: str
    batch_size: int
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretTemplate:
    """A text that Secrets Manager generates. `kinds` are the kinds of characters in it: each occurs at least once."""

    length: int
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SsmParameterTemplate:
    """One AWS::SSM::Parameter of type String, with the value that CloudFormation gives it at first."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTemplate:
    """A function that is invoked every `seconds`."""

    function: str
    seconds: int


_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")  # EventBridge user guide, "Rate expressions"
_UNIT_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the one in C where there is one
    """YAML with CloudFormation's short forms: !Ref x is {"Ref": x}, !GetAtt a.b is {"Fn::GetAtt": [a, b]}."""


def _short_form(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    else:
        raise yaml.constructor.ConstructorError(None, None, f"!{suffix} of an unknown kind", node.start_mark)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _short_form)


class Template:
    """`parameters` override the template's defaults; `resources` says what `Ref` of a resource gives locally, and
    `attributes` what `Fn::GetAtt` of one does, as {"Network.Outputs.ZoneA": "local-a"}."""

    def __init__(
        self,
        path: Path,
        *,
        parameters: Mapping[str, str] | None = None,
        resources: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        self._path = path
        self._content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506 - it is a SafeLoader
        defaults = {name: definition.get("Default", "") for name, definition in self._section("Parameters").items()}
        self._parameters: dict[str, Any] = {**PSEUDO_PARAMETERS, **defaults, **(parameters or {})}
        self._resource_values = dict(resources or {})
        self._attribute_values = dict(attributes or {})

    def functions(self) -> dict[str, FunctionTemplate]:
        """All functions by logical id, the Globals merged in as SAM does: maps are merged, the rest is replaced."""
        shared = self._section("Globals").get("Function", {})
        own = {
            name: self._function(name, _merged(shared, resource["Properties"]))
            for name, resource in self._of_type("AWS::Serverless::Function").items()
        }
        nested = (
            replace(function, logical_id=f"{stack}.{name}")
            for stack, template in self._nested().items()
            for name, function in template.functions().items()
        )
        return own | {function.logical_id: function for function in nested}

    def api(self) -> ApiTemplate:
        """The one REST API of the template."""
        ((_, resource),) = self._of_type("AWS::Serverless::Api").items()
        properties = resource["Properties"]
        authorizers = {
            name: self._authorizer(name, definition)
            for name, definition in properties.get("Auth", {}).get("Authorizers", {}).items()
        }
        return ApiTemplate(
            stage=str(self.resolved(properties["StageName"])),
            routes=tuple(self._routes(properties.get("Auth", {}).get("DefaultAuthorizer"))),
            authorizers=authorizers,
            gateway_responses={
                kind: self._gateway_response(definition)
                for kind, definition in properties.get("GatewayResponses", {}).items()
            },
            # SAM writes the slash of a media type as ~1.
            binary_media_types=tuple(kind.replace("~1", "/") for kind in properties.get("BinaryMediaTypes", ())),
        )

    def queues(self) -> dict[str, QueueTemplate]:
        """All queues by logical id, with SQS's own defaults where the template is silent. Raises ValueError for what is
        not emulated here."""
        return {name: self._queue(name, queue) for name, queue in self._of_type("AWS::SQS::Queue").items()}

    def event_sources(self) -> tuple[EventSource, ...]:
        """Every SQS event of every function. Raises ValueError for what is not emulated here."""
        return tuple(
            self._event_source(function, properties) for function, kind, properties in self._events() if kind == "SQS"
        )

    def schedules(self) -> tuple[ScheduleTemplate, ...]:
        """Every event of a function that comes at a rate."""
        own = [
            ScheduleTemplate(function=function, seconds=_seconds(properties["Schedule"]))
            for function, kind, properties in self._events()
            if kind == "Schedule"
        ]
        nested = [
            replace(schedule, function=f"{stack}.{schedule.function}")
            for stack, template in self._nested().items()
            for schedule in template.schedules()
        ]
        return (*own, *nested)

    def secrets(self) -> dict[str, SecretTemplate]:
        """All generated secrets by logical id. Raises ValueError for what is not emulated here."""
        return {
            name: _secret(self.resolved(secret["Properties"]["GenerateSecretString"]))
            for name, secret in self._of_type("AWS::SecretsManager::Secret").items()
        }

    def ssm_parameters(self) -> tuple[SsmParameterTemplate, ...]:
        """All SSM parameters. Raises ValueError for what is not emulated here."""
        own = [
            self._ssm_parameter(parameter["Properties"]) for parameter in self._of_type("AWS::SSM::Parameter").values()
        ]
        return (*own, *(parameter for nested in self._nested().values() for parameter in nested.ssm_parameters()))

    def resolved(self, value: Any) -> Any:
        """`value` with its intrinsic functions carried out, or UNRESOLVED in their place. What is AWS::NoValue is left
        out of lists and maps."""
        if isinstance(value, dict):
            if len(value) == 1 and (name := next(iter(value))) in self._intrinsics:
                return self._intrinsics[name](self, value[name])
            resolved = {key: self.resolved(element) for key, element in value.items()}
            return {key: element for key, element in resolved.items() if element is not NO_VALUE}
        if isinstance(value, list):
            return [element for element in map(self.resolved, value) if element is not NO_VALUE]
        return value

    def _section(self, name: str) -> dict[str, Any]:
        section: dict[str, Any] = self._content.get(name, {})
        return section

    def _nested(self) -> dict[str, "Template"]:
        """The nested SAM templates by the logical id of their stack; none of the others has what is read here."""
        stacks = self._of_type("AWS::CloudFormation::Stack")
        paths = {name: self._path.parent / stack["Properties"]["TemplateURL"] for name, stack in stacks.items()}
        return {
            name: Template(path, parameters=self.resolved(stacks[name]["Properties"].get("Parameters", {})))
            for name, path in paths.items()
            if "\nTransform:" in path.read_text(encoding="utf-8")
        }

    def _of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        return {name: resource for name, resource in self._section("Resources").items() if resource["Type"] == kind}

    def _function(self, name: str, properties: dict[str, Any]) -> FunctionTemplate:
        variables = self.resolved(properties.get("Environment", {}).get("Variables", {}))
        return FunctionTemplate(
            logical_id=name,
            handler=properties["Handler"],
            timeout_seconds=int(self.resolved(properties.get("Timeout", 3))),
            memory_mb=int(self.resolved(properties.get("MemorySize", 128))),
            names=frozenset(variables),
            variables={key: str(value) for key, value in variables.items() if value is not UNRESOLVED},
        )

    def _routes(self, default_authorizer: str | None) -> list[ApiRoute]:
        return [
            self._route(function, properties, default_authorizer)
            for function, kind, properties in self._events()
            if kind == "Api"
        ]

    def _events(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Each event of each function: the function's logical id, the event's type and properties."""
        for function, resource in self._of_type("AWS::Serverless::Function").items():
            for event in resource["Properties"].get("Events", {}).values():
                if event["Type"] not in _EVENT_PROPERTIES:
                    raise _not_emulated(event["Type"], of=f"an event of {function}")
                _require_emulated(event["Properties"], _EVENT_PROPERTIES[event["Type"]], of=f"an event of {function}")
                yield function, event["Type"], event["Properties"]

    def _event_source(self, function: str, properties: Mapping[str, Any]) -> EventSource:
        for name, emulated in (
            ("FunctionResponseTypes", ["ReportBatchItemFailures"]),
            ("MaximumBatchingWindowInSeconds", 0),
        ):
            if self.resolved(properties.get(name, 0)) != emulated:
                raise _not_emulated(f"{name} other than {emulated}", of=f"an event of {function}")
        scaling = properties.get("ScalingConfig", {})
        return EventSource(
            queue=_referred(properties["Queue"]),
            function=function,
            batch_size=int(properties.get("BatchSize", 10)),
            concurrency=int(self.resolved(scaling.get("MaximumConcurrency", 1000))),
        )

    @staticmethod
    def _route(function: str, properties: dict[str, Any], default_authorizer: str | None) -> ApiRoute:
        authorizer = properties.get("Auth", {}).get("Authorizer", default_authorizer)
        return ApiRoute(
            path=properties["Path"],
            method=properties["Method"].upper(),
            function=function,
            authorizer=None if authorizer == "NONE" else authorizer,
        )

    def _authorizer(self, name: str, definition: dict[str, Any]) -> Authorizer:
        identity = definition.get("Identity", {})
        return Authorizer(
            name=name,
            function=_referred(definition["FunctionArn"]),
            identity_headers=tuple(identity.get("Headers", ())),
            ttl_seconds=int(self.resolved(identity.get("ReauthorizeEvery", 300))),
        )

    def _gateway_response(self, definition: dict[str, Any]) -> GatewayResponse:
        status = self.resolved(definition.get("StatusCode"))
        return GatewayResponse(
            status=None if status is None else int(status),
            headers=self.resolved(definition.get("ResponseParameters", {}).get("Headers", {})),
            templates=self.resolved(definition.get("ResponseTemplates", {})),
        )

    def _queue(self, name: str, resource: dict[str, Any]) -> QueueTemplate:
        properties = resource.get("Properties", {})
        _require_emulated(properties, _QUEUE_PROPERTIES, of=name)
        redrive = properties.get("RedrivePolicy")
        return QueueTemplate(
            logical_id=name,
            visibility_timeout_seconds=int(self.resolved(properties.get("VisibilityTimeout", 30))),
            retention_seconds=int(self.resolved(properties.get("MessageRetentionPeriod", 345_600))),
            dead_letter_queue=_referred(redrive["deadLetterTargetArn"]) if redrive else None,
            max_receives=int(self.resolved(redrive["maxReceiveCount"])) if redrive else 0,
        )

    def _ssm_parameter(self, properties: Mapping[str, Any]) -> SsmParameterTemplate:
        _require_emulated(properties, _PARAMETER_PROPERTIES, of="an SSM parameter")
        if properties["Type"] != "String":
            raise _not_emulated(properties["Type"], of="an SSM parameter")
        return SsmParameterTemplate(
            name=str(self.resolved(properties["Name"])), value=str(self.resolved(properties["Value"]))
        )

    def _get_att(self, argument: Sequence[str]) -> Any:
        return self._attribute_values.get(".".join(argument), UNRESOLVED)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        return self._parameters.get(name, self._resource_values.get(name, UNRESOLVED))

    def _sub(self, argument: str | Sequence[Any]) -> Any:
        text, extra = (argument, {}) if isinstance(argument, str) else (argument[0], self.resolved(argument[1]))
        values = {name: extra.get(name, self._ref(name)) for name in re.findall(r"\$\{([^!}]+)\}", text)}
        if UNRESOLVED in values.values():
            return UNRESOLVED
        return re.sub(r"\$\{([^!}]+)\}", lambda found: str(values[found[1]]), text).replace("${!", "${")

    def _join(self, argument: Sequence[Any]) -> Any:
        separator, parts = argument[0], self.resolved(argument[1])
        if parts is UNRESOLVED or UNRESOLVED in parts:
            return UNRESOLVED
        return separator.join(str(part) for part in parts)

    def _if(self, argument: Sequence[Any]) -> Any:
        condition, when_true, when_false = argument
        return self.resolved(when_true if self._condition(condition) else when_false)

    def _condition(self, name: str) -> bool:
        return bool(self.resolved(self._section("Conditions")[name]))

    def _equals(self, argument: Sequence[Any]) -> bool:
        left, right = self.resolved(argument[0]), self.resolved(argument[1])
        return str(left) == str(right)

    _intrinsics: Mapping[str, Callable[..., Any]] = {
        "Ref": _ref,
        "Fn::GetAtt": _get_att,
        "Condition": _condition,
        "Fn::Sub": _sub,
        "Fn::Join": _join,
        "Fn::If": _if,
        "Fn::Equals": _equals,
        "Fn::Not": lambda self, argument: not self.resolved(argument[0]),
        "Fn::And": lambda self, argument: all(self.resolved(argument)),
        "Fn::Or": lambda self, argument: any(self.resolved(argument)),
        **dict.fromkeys(
            ("Fn::ImportValue", "Fn::Split", "Fn::Select", "Fn::Cidr", "Fn::GetAZs", "Fn::FindInMap"),
            lambda self, argument: UNRESOLVED,  # noqa: ARG005 - one signature for all
        ),
    }


# What this machine emulates of each, and what no function can see: names, descriptions, encryption, who may send.
_UNSEEN = frozenset({"Description", "Tags"})
_QUEUE_PROPERTIES = _UNSEEN | {
    "KmsMasterKeyId",
    "MessageRetentionPeriod",
    "QueueName",
    "RedriveAllowPolicy",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
}
_PARAMETER_PROPERTIES = _UNSEEN | {"Name", "Type", "Value"}
_EVENT_PROPERTIES = {
    "Api": frozenset({"Auth", "Method", "Path", "RestApiId"}),
    "SQS": frozenset(
        {"BatchSize", "FunctionResponseTypes", "MaximumBatchingWindowInSeconds", "Queue", "ScalingConfig"}
    ),
    "Schedule": _UNSEEN | {"Schedule"},
}


def _require_emulated(properties: Mapping[str, Any], known: frozenset[str], *, of: str) -> None:
    if unknown := properties.keys() - known:
        raise _not_emulated(", ".join(sorted(unknown)), of=of)


def _not_emulated(what: str, *, of: str) -> ValueError:
    return ValueError(f"the local stack does not emulate {what} of {of}")


# AWS::SecretsManager::Secret GenerateSecretString; an Exclude... property of each leaves it out.
_SECRET_KINDS = ("Lowercase", "Uppercase", "Numbers", "Punctuation")
_DEFAULT_SECRET_LENGTH = 32


def _secret(properties: Mapping[str, Any]) -> SecretTemplate:
    _require_emulated(
        properties, frozenset({"PasswordLength", *(f"Exclude{kind}" for kind in _SECRET_KINDS)}), of="a secret"
    )
    kinds = tuple(kind for kind in _SECRET_KINDS if not properties.get(f"Exclude{kind}"))
    return SecretTemplate(length=int(properties.get("PasswordLength", _DEFAULT_SECRET_LENGTH)), kinds=kinds)


def _seconds(rate: str) -> int:
    """Raises ValueError for what is no rate."""
    found = _RATE.fullmatch(rate)
    if found is None:
        raise ValueError(f"'{rate}' is no rate, such as rate(15 minutes)")
    return int(found[1]) * _UNIT_SECONDS[found[2]]


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    both = {**shared, **own}
    for name in shared.keys() & own.keys():
        if isinstance(shared[name], dict) and isinstance(own[name], dict):
            both[name] = _merged(shared[name], own[name])
    return both


def _referred(value: Mapping[str, Any]) -> str:
    """The logical id that a Ref or a GetAtt names."""
    ((_, target),) = value.items()
    return target if isinstance(target, str) else str(target[0])
