"""Every setting is what its reason says, and each rule notices the stacks that break it."""

import pytest

from tests.contract import rules_promises as rules
from tests.contract.changes import Change, Rule, added, name_of, resource, reworded, without
from tests.contract.project import APPLICATION, CHECK_EGRESS, DATABASE, NETWORK, OBSERVABILITY, load

ENDPOINTS, BASTION, FLOW_LOGS = "infra/endpoints.yaml", "infra/bastion-host.yaml", "infra/vpc-flow-logs.yaml"
UNREAD = """
  SomeId:
    Description: The VPC once more
    Value: !Ref Vpc
"""

BROKEN: dict[Rule, list[Change]] = {
    rules.every_statement_allows_what_it_promises: [
        resource(ENDPOINTS, "SecretsManagerEndpoint", "Effect: Allow", "Effect: Deny"),
        resource(ENDPOINTS, "SqsEndpoint", "StringEquals", "StringNotEquals"),
        resource(BASTION, "PeoplePolicy", "sallyport_readonly", "sallyport_owner"),
        resource(FLOW_LOGS, "FlowLogRole", "                  - logs:PutLogEvents\n", ""),
        resource(OBSERVABILITY, "AlarmTopicPolicy", "'false'", "'true'"),
        resource(APPLICATION, "KeyPolicy", "Effect: Allow", "Effect: Deny"),
        without(APPLICATION, "WakeupQueuePolicy"),
    ],
    rules.every_function_has_the_room_and_the_time_that_it_needs: [
        resource(APPLICATION, "AuthorizeFunction", "Timeout: 10", "Timeout: 100"),
        resource(APPLICATION, "ApiFunction", "MemorySize: 1024", "MemorySize: 128"),
        resource(APPLICATION, "AdminFunction", "[ReservesConcurrency, 1,", "[ReservesConcurrency, 10,"),
        resource(
            APPLICATION,
            "MigrateFunction",
            "!If [ReservesConcurrency, 1, !Ref AWS::NoValue]",
            "!If [ReservesConcurrency, !Ref AWS::NoValue, 1]",
        ),
    ],
    rules.every_setting_is_as_its_reason_says: [
        resource(
            APPLICATION, "FailedInvocationQueue", "      MessageRetentionPeriod: 1209600", "      DelaySeconds: 0"
        ),
        resource(APPLICATION, "WakeupQueue", "maxReceiveCount: 5", "maxReceiveCount: 50"),
        resource(DATABASE, "DatabaseReaderInstance", "PromotionTier: 1", "PromotionTier: 2"),
        resource(FLOW_LOGS, "FlowLog", "MaxAggregationInterval: 600", "MaxAggregationInterval: 601"),
        resource(BASTION, "Bastion", "HttpTokens: required", "HttpTokens: optional"),
        resource("infra/vpn.yaml", "VpnConnection", "{Value: 14}, ", "{Value: 2}, {Value: 14}, "),
        resource(ENDPOINTS, "ApiEndpoint", "PrivateDnsEnabled: false", "PrivateDnsEnabled: true"),
        without(OBSERVABILITY, "AlarmEmailSubscription"),
    ],
    rules.every_function_is_told_the_same: [
        resource(APPLICATION, "ApiFunction", "LEASE_SECONDS: '55'", "LEASE_SECONDS: '550'"),
        reworded(CHECK_EGRESS, "ALLOWED_PORTS: 80,443,8080,8443", "ALLOWED_PORTS: '443'"),
        resource(APPLICATION, "ApiFunction", "[HasInternet, !Ref EgressEchoUrl, '']", "[HasInternet, '', '']"),
    ],
    rules.what_one_function_makes_is_made_in_turn: [
        resource(APPLICATION, "ZoneIds", "    DependsOn: DefaultSecurityGroup ", "    # DefaultSecurityGroup "),
    ],
    rules.every_output_leads_where_it_says: [
        resource(APPLICATION, "DeadLetterQueueUrl", "!Ref DeadLetterQueue", "!Ref WakeupQueue"),
        resource(APPLICATION, "PeoplePolicyArn", "Outputs.PeoplePolicyArn", "Outputs.InstanceId"),
    ],
    rules.every_nested_output_is_read: [
        added(NETWORK, "Outputs", UNREAD),
    ],
    rules.every_nested_output_is_of_the_zone_in_its_name: [
        reworded(NETWORK, "    Value: !Ref NatGatewayB\n", "    Value: !Ref NatGatewayA\n"),
        reworded(
            NETWORK,
            "    Value: !GetAtt PrivateSubnetA.AvailabilityZone",
            "    Value: !GetAtt PrivateSubnetB.AvailabilityZone",
        ),
        reworded(
            NETWORK,
            "    Value: !If [UsesRegionalNat, !Ref RegionalNatGateway, !Ref NatGatewayA]\n",
            "    Value: !If [UsesRegionalNat, !Ref RegionalNatGateway, !Ref NatGatewayB]\n",
        ),
    ],
    rules.every_address_is_one_for_vpcs: [
        resource(NETWORK, "EgressAddressB", "      Domain: vpc\n", ""),
    ],
}


@pytest.mark.parametrize("rule", rules.RULES, ids=name_of)
def test_the_stack_keeps_the_promise(rule: Rule) -> None:
    assert rule(load()) == []


@pytest.mark.parametrize(
    ("rule", "change"), [(rule, change) for rule, changes in BROKEN.items() for change in changes], ids=name_of
)
def test_a_broken_promise_is_noticed(rule: Rule, change: Change) -> None:
    assert rule(change(load())) != []


def test_every_rule_has_a_broken_stack() -> None:
    assert [rule.__name__ for rule in rules.RULES if not BROKEN.get(rule)] == []
