"""The stack policy, the guard and the templates agree on what must stay."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from stack.deploy.change_sets import STACK
from stack.deploy.guard import PROTECTED
from stack.deploy.stack_policy import DENIED_ACTIONS, POLICY, PROTECTED_STACKS
from stack.render import Rendered, combinations, render, templates, translated

STATEMENTS = json.loads(POLICY.read_text(encoding="utf-8"))["Statement"]
ALLOWED = [combination.parameters for combination in combinations() if combination.refused is None]
VPN = {"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16"}
VPN |= {"CorporateCidr": "172.20.0.0/16", "CustomerGatewayAddress": "198.51.100.7"}
EVERYTHING = [*ALLOWED, VPN]
# What stays behind when the stack goes, for other reasons than that it could not be made again.
LEFT_BEHIND = {
    "ApiGatewayLogWriterRole": "other APIs of the account may use it by then",
    "ApiGatewayAccount": "it is the account's, not ours",
}


def policy_types() -> list[str]:
    (denial,) = [statement for statement in STATEMENTS if statement["Effect"] == "Deny"]
    types: list[str] = denial["Condition"]["StringEquals"]["ResourceType"]
    return types


def template_types() -> set[str]:
    texts = dict(templates())
    root = translated(texts.pop("template.yaml"))
    everything = [root, *(json.loads(json.dumps(_parsed(text))) for text in texts.values())]
    return {resource["Type"] for template in everything for resource in template["Resources"].values()}


def _parsed(text: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml_parse(text)
    return found


def stateful(rendered: Rendered) -> dict[str, str]:
    """Address and type of what its own policies keep: DeletionPolicy or UpdateReplacePolicy is more than Delete."""
    keeping = ("Retain", "RetainExceptOnCreate", "Snapshot")
    return {
        address: resource["Type"]
        for address, resource in rendered.resources.items()
        if {resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")} & set(keeping)
    }


def test_the_policy_allows_all_but_the_two_losses() -> None:
    allow, deny = STATEMENTS
    assert (allow["Effect"], allow["Action"], allow["Resource"]) == ("Allow", "Update:*", "*")
    assert (deny["Effect"], deny["Action"], deny["Resource"]) == ("Deny", DENIED_ACTIONS, "*")
    assert allow["Principal"] == deny["Principal"] == "*"


def test_policy_and_guard_name_the_same_types() -> None:
    assert policy_types() == list(PROTECTED)


def test_every_type_of_the_policy_is_in_a_template() -> None:
    assert set(policy_types()) - template_types() == set()


@pytest.mark.parametrize("parameters", EVERYTHING, ids=[" ".join(resource.values()) for resource in EVERYTHING])
def test_what_keeps_state_is_in_the_policy(parameters: Mapping[str, str]) -> None:
    kept = stateful(render(parameters))
    assert kept, "nothing keeps state?"
    unguarded = {address for address, kind in kept.items() if kind not in PROTECTED}
    assert unguarded - set(LEFT_BEHIND) == set()


def test_what_is_left_behind_for_other_reasons_exists() -> None:
    assert set(LEFT_BEHIND) <= set(stateful(render({})))


def test_the_nested_stacks_that_may_not_go_are_those_that_hold_what_must_stay() -> None:
    holding = {
        address.partition(".")[0]
        for parameters in EVERYTHING
        for address, resource in render(parameters).resources.items()
        if "." in address and resource["Type"] in PROTECTED
    }
    assert holding == set(PROTECTED_STACKS)


# Properties of what must stay that wait for another nested stack's outputs, and may: they change without a replacement.
MAY_WAIT = {("Database", "DatabaseCluster", "VpcSecurityGroupIds")}


def waiting(texts: Mapping[str, str]) -> set[tuple[str, str, str]]:
    """Nested stack, resource and property: what is known to CloudFormation only once another nested stack is done.

    When it makes a change set it takes each of these for a change, and where that would replace the resource, for a
    replacement that may come (https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/759).
    """
    found = set[tuple[str, str, str]]()
    for stack, nested in _parsed(texts["template.yaml"])["Resources"].items():
        if nested["Type"] != STACK:
            continue
        given = nested["Properties"].get("Parameters", {})
        late = {name for name, value in given.items() if "Outputs." in json.dumps(value)}
        for name, resource in _parsed(texts[nested["Properties"]["TemplateURL"]])["Resources"].items():
            if resource["Type"] in PROTECTED:
                properties = resource.get("Properties", {})
                found |= {(stack, name, key) for key, value in properties.items() if late & _referred(value)}
    return found


def _referred(value: Any) -> set[str]:
    """The names in every Ref of a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return set().union(*({inner} if key == "Ref" else _referred(inner) for key, inner in items))


def test_no_replacement_of_what_must_stay_waits_for_another_nested_stack() -> None:
    assert waiting(templates()) == MAY_WAIT


def test_a_name_that_waits_for_another_nested_stack_is_noticed() -> None:
    texts = dict(templates())
    name = "      DBClusterIdentifier: !Ref SecurityGroupId\n      Engine: aurora-postgresql\n"
    texts["infra/database.yaml"] = texts["infra/database.yaml"].replace("      Engine: aurora-postgresql\n", name, 1)
    assert ("Database", "DatabaseCluster", "DBClusterIdentifier") in waiting(texts)


def test_a_resource_that_keeps_state_and_is_in_no_policy_is_noticed() -> None:
    texts = dict(templates())
    table = "\n  Ledger:\n    Type: AWS::DynamoDB::Table\n    DeletionPolicy: Retain\n    UpdateReplacePolicy: Retain\n"
    texts["infra/database.yaml"] = texts["infra/database.yaml"].replace("\nResources:\n", f"\nResources:\n{table}")
    assert stateful(render({}, texts=texts))["Database.Ledger"] not in PROTECTED
