"""What must hold between one deployment and the next, whatever changes. Each rule returns its faults; none is good.

CloudFormation deletes what an update no longer has at its end, each nested stack for itself and without regard to the
others. A deletion that AWS refuses, because something outside still uses the resource, is tried three times and then
skipped, and the update is reported as a success.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stack.render import Rendered
from tests.contract.cases import choices
from tests.contract.project import APPLICATION, Project

# What names a resource without holding it: AWS deletes a NAT gateway whose metrics an alarm still watches.
NAMING = {
    "AWS::ApiGateway::RestApi",  # EC2 deletes an endpoint that an API is still associated with
    "AWS::CloudFormation::Stack",  # passes the name on; who gets it is looked at
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Lambda::Function",  # in its environment and description; its VpcConfig is looked at
    "AWS::Lambda::Version",
    "AWS::RDS::EventSubscription",  # news of an instance that is gone do not come
}
STAYING = {"Retain", "RetainExceptOnCreate"}


def no_stack_deletes_what_a_sibling_uses(project: Project) -> list[str]:
    """For every pair of choices: what another stack uses in the first is there in the second, or its stack is not.

    That a pair exists is that one choice uses the resource and another has its stack without it: so every choice is
    looked at once. A stack that goes as a whole is the root's to delete, in the order of its dependencies.
    """
    users: dict[str, tuple[str, str]] = {}
    absent: dict[str, str] = {}
    rendered = [(name, project.application(**parameters)) for name, parameters in choices(project)]
    for name, application in rendered:
        for user, used in _uses_across_stacks(application):
            users.setdefault(used, (name, user))
    for name, application in rendered:
        for used in users:
            if used not in application.resources and used.rpartition(".")[0] in application.templates:
                absent.setdefault(used, name)
    return [
        f"{users[used][1]} uses {used} with {users[used][0]}, which {name} deletes" for used, name in absent.items()
    ]


def _uses_across_stacks(application: Rendered) -> Iterator[tuple[str, str]]:
    """Each resource that holds one of another stack, and that. Not the root's, whose order follows dependencies."""
    for user, resource in application.resources.items():
        for used in _names_in(_holding(resource), application):
            is_of_another = "." in used and user.rpartition(".")[0] != used.rpartition(".")[0]
            if is_of_another and application.resources[used].get("DeletionPolicy") not in STAYING:
                yield user, used


def _holding(resource: Mapping[str, Any]) -> Any:
    """The properties by which a resource holds others."""
    if resource["Type"] == "AWS::Lambda::Function":
        return resource["Properties"].get("VpcConfig", {})
    return {} if resource["Type"] in NAMING else resource["Properties"]


def _names_in(value: Any, application: Rendered) -> Iterator[str]:
    """The addresses that a value is made of: `Network.Vpc` and that of `Network.Vpc.VpcId`."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _names_in(inner, application)
    elif isinstance(value, list):
        for inner in value:
            yield from _names_in(inner, application)
    else:
        for word in re.findall(r"[A-Za-z0-9]+\.[A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*", str(value)):
            yield from (name for name in (word, word.rpartition(".")[0]) if name in application.resources)


# ---- Nested change sets
# CloudFormation makes those of all nested stacks before anything is changed. What another resource will tell stands in
# them as a text of CloudFormation's own, which no pattern admits and no id of AWS is: such a change set fails, and the
# guard is blind for it.

LIMITS_OF_THE_ROOT = ("AllowedPattern", "ConstraintDescription", "MaxLength")
FROM_PARAMETERS = "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"
PLAIN_TYPES = ("String", "CommaDelimitedList")


def nested_parameters_admit_what_is_not_known_yet(project: Project) -> list[str]:
    """Patterns and AWS's own types stand in the root alone, which is looked at first and with its values."""
    faults = []
    for name, nested, given in nested_stacks(project):
        for key, declared in project.written(nested)["Parameters"].items():
            faults += [f"{nested}: {key} has {limit}" for limit in LIMITS_OF_THE_ROOT if limit in declared]
            is_told = _is_told_by_a_resource(given.get(key), project)
            if "AWS::" in declared["Type"] and (is_told or declared["Type"] != FROM_PARAMETERS):
                faults.append(f"{nested}: {key} is looked up in AWS")
            if is_told and (declared["Type"] not in PLAIN_TYPES or "AllowedValues" in declared):
                faults.append(f"{name}.{key} is told by a resource and takes only some values")
    return faults


def nested_templates_work_with_what_is_not_known_yet(project: Project) -> list[str]:
    """No Rule is about it, and nothing selects a part of it: a list of several is one text before it is known."""
    faults = []
    for _, nested, given in nested_stacks(project):
        told = {key for key, value in given.items() if _is_told_by_a_resource(value, project)}
        template = project.written(nested)
        faults += [
            f"{nested}: the Rule {rule} is about {key}"
            for rule, body in template.get("Rules", {}).items()
            for key in sorted(told & set(_references(body)))
        ]
        faults += [
            f"{nested}: a part of {key} is selected"
            for part in _functions({**template["Resources"], **template.get("Outputs", {})}, "Fn::Select")
            for key in sorted(told & set(_references(part)))
        ]
    return faults


def nested_stacks(project: Project) -> list[tuple[str, str, dict[str, Any]]]:
    """Logical id, file and parameters of each nested stack."""
    return [
        (name, resource["Properties"]["TemplateURL"], resource["Properties"].get("Parameters", {}))
        for name, resource in project.written(APPLICATION)["Resources"].items()
        if resource["Type"] == "AWS::CloudFormation::Stack" and resource["Properties"]["TemplateURL"] in project.texts
    ]


def _is_told_by_a_resource(value: Any, project: Project) -> bool:
    known = project.written(APPLICATION)["Parameters"].keys()
    names = {name for name in _references(value) if not name.startswith("AWS::")}
    return bool(names - known) or any(True for _ in _functions(value, "Fn::GetAtt"))


def _references(value: Any) -> Iterator[str]:
    """The names that a part of a template refers to, by Ref, GetAtt or within a Sub."""
    for name in _functions(value, "Ref"):
        yield str(name)
    for text in _functions(value, "Fn::Sub"):
        words, own = (text[0], text[1]) if isinstance(text, list) else (text, {})
        yield from (name.partition(".")[0] for name in re.findall(r"\$\{([\w:.]+)\}", words) if name not in own)


def _functions(value: Any, name: str) -> Iterator[Any]:
    """The arguments of each use of a function, those within others too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from _functions(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _functions(inner, name)


RULES = [
    no_stack_deletes_what_a_sibling_uses,
    nested_parameters_admit_what_is_not_known_yet,
    nested_templates_work_with_what_is_not_known_yet,
]
