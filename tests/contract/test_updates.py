"""Whatever changes between two deployments, the stack keeps these rules; each rule notices the stacks that break it."""

import pytest

from tests.contract import rules_updates as rules
from tests.contract.cases import choices
from tests.contract.changes import Change, Rule, added, name_of, resource, reworded, together
from tests.contract.project import APPLICATION, DATABASE, NETWORK, ROOT, load

ENDPOINTS, VPN = "infra/endpoints.yaml", "infra/vpn.yaml"


def dropped_without(group: str, condition: str) -> Change:
    """A security group, and its output, that exist under a condition alone."""
    return together(
        resource(NETWORK, group, "    Properties:", f"    Condition: {condition}\n    Properties:"),
        resource(NETWORK, f"{group}Id", "    Value:", f"    Condition: {condition}\n    Value:"),
    )


def passed_under(parameter: str, group: str, condition: str) -> Change:
    """The root passes it under the same condition."""
    value = f"!GetAtt Network.Outputs.{group}Id"
    return resource(APPLICATION, "Endpoints", f"{parameter}: {value}", f"{parameter}: !If [{condition}, {value}, '']")


AN_ADDRESS = """
  AddressIsGiven:
    Assertions:
      - Assert: !Not [!Equals [!Ref AddressA, '']]
        AssertDescription: An address is needed"""

BROKEN: dict[Rule, list[Change]] = {
    rules.no_stack_deletes_what_a_sibling_uses: [
        dropped_without("BastionSecurityGroup", "HasBastion"),
        dropped_without("EgressCheckSecurityGroup", "HasInternet"),
        together(
            dropped_without("EndpointSecurityGroup", "HasServiceEndpoints"),
            passed_under("EndpointSecurityGroupId", "EndpointSecurityGroup", "HasServiceEndpoints"),
        ),
        together(
            dropped_without("ApiEndpointSecurityGroup", "HasPrivateApi"),
            passed_under("ApiEndpointSecurityGroupId", "ApiEndpointSecurityGroup", "HasPrivateApi"),
        ),
    ],
    rules.nested_parameters_admit_what_is_not_known_yet: [
        reworded(VPN, "  VpcId:\n    Type: String", "  VpcId:\n    Type: AWS::EC2::VPC::Id"),
        resource(
            NETWORK, "VpcCidr", "    Type: String\n", "    Type: String\n    AllowedPattern: ^10[.]64[.]0[.]0/16$\n"
        ),
        resource(DATABASE, "WriterZone", "    Type: String\n", "    Type: String\n    AllowedValues: [us-east-1a]\n"),
        resource(APPLICATION, "BastionHost", "al2023-ami-kernel-default-${Architecture}", "${Api}"),
    ],
    rules.nested_templates_work_with_what_is_not_known_yet: [
        added(NETWORK, "Rules", AN_ADDRESS),
        resource(DATABASE, "DatabaseSubnetGroup", "!Ref SubnetIds", "[!Select [1, !Ref SubnetIds]]"),
    ],
}


# What stays when a stack is deleted, by the words of the page about it.
STAYING = {
    "AWS::ApiGateway::Account": "the account's setting that names it",
    "AWS::EC2::EIP": "each fixed address that the stack allocated",
    "AWS::IAM::Role": "API Gateway's log role",
    "AWS::RDS::DBCluster": "a final snapshot of the database",
    "AWS::SecretsManager::Secret": "the seal key, a secret",
}


def test_the_page_about_deletion_lists_all_that_stays() -> None:
    page = (ROOT / "docs/changing-safely.md").read_text(encoding="utf-8").partition("## Delete a stack")[2]
    staying = {
        resource["Type"]
        for _, parameters in choices(load())
        for resource in load().application(**parameters).resources.values()
        if resource.get("DeletionPolicy", "Delete") != "Delete"
    }
    assert staying == STAYING.keys()
    assert [words for words in STAYING.values() if words not in " ".join(page.split())] == []


def test_nothing_is_retained_of_a_first_deployment_that_fails() -> None:
    """There can be nothing of value in it yet, and a secret or an address would be billed from then on."""
    retained = {
        address
        for _, parameters in choices(load())
        for address, resource in load().application(**parameters).resources.items()
        if resource.get("DeletionPolicy") == "Retain"
    }
    assert retained == set()


@pytest.mark.parametrize("rule", rules.RULES, ids=name_of)
def test_updates_keep_the_rule(rule: Rule) -> None:
    assert rule(load()) == []


@pytest.mark.parametrize(
    ("rule", "change"), [(rule, change) for rule, changes in BROKEN.items() for change in changes], ids=name_of
)
def test_a_broken_update_is_noticed(rule: Rule, change: Change) -> None:
    assert rule(change(load())) != []


def test_every_rule_is_shown_to_notice_something() -> None:
    assert BROKEN.keys() == set(rules.RULES)
