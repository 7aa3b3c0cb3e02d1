"""The egress check keeps its rules in every choice of parameters, and each rule notices the stacks that break it."""

import pytest

from tests.contract import rules_egress as rules
from tests.contract.changes import Change, Rule, name_of, resource, reworded, without
from tests.contract.project import APPLICATION, CHECK_EGRESS, NETWORK, OBSERVABILITY, load

PROJECT = load()
BROKEN: dict[Rule, list[Change]] = {
    rules.the_two_checks_differ_by_their_zone_alone: [
        resource(APPLICATION, "CheckEgressA", "!Ref EgressEchoUrl", "https://echo.example.com/"),
        resource(APPLICATION, "CheckEgressB", "Outputs.EgressCheckSecurityGroupId", "Outputs.BastionSecurityGroupId"),
    ],
    rules.the_checks_have_the_settings_of_all_functions: [
        reworded(CHECK_EGRESS, "LogFormat: Text", "LogFormat: JSON"),
        reworded(
            APPLICATION, "    Runtime: python3.13\n", "    Runtime: python3.13\n    EphemeralStorage: {Size: 512}\n"
        ),
        reworded(CHECK_EGRESS, "POWERTOOLS_SERVICE_NAME: !Ref ApplicationStackName", "POWERTOOLS_SERVICE_NAME: check"),
    ],
    rules.each_zone_is_checked_from_inside: [
        resource(APPLICATION, "CheckEgressA", "Outputs.PrivateSubnetAId", "Outputs.PrivateSubnetBId"),
        resource(APPLICATION, "CheckEgressB", "Outputs.ZoneB", "Outputs.ZoneA"),
        resource(APPLICATION, "CheckEgressB", "    Condition: HasInternet\n", "    Condition: IsProd\n"),
    ],
    rules.every_function_publishes_the_same_addresses: [
        resource(
            APPLICATION,
            "CheckEgressA",
            "!GetAtt Network.Outputs.EgressAddresses",
            "us-east-1a=192.0.2.1,us-east-1b=192.0.2.1",
        ),
        resource(APPLICATION, "AttemptFunction", "!GetAtt Network.Outputs.EgressAddresses", "us-east-1a=192.0.2.1"),
        resource(NETWORK, "EgressAddresses", "${ZoneB}=${OfB}", "${ZoneA}=${OfB}"),
    ],
    rules.functions_can_tell_which_address_is_theirs: [
        without(APPLICATION, "ZoneIds"),
        resource(APPLICATION, "ZoneIds", "    Condition: HasSeveralAddresses\n", "    Condition: HasNatGatewayB\n"),
        resource(APPLICATION, "ZoneIds", "    Condition: HasSeveralAddresses\n", "    Condition: HasInternet\n"),
        resource(APPLICATION, "ZoneIds", "Outputs.ZoneB", "Outputs.ZoneA"),
        resource(APPLICATION, "AttemptFunction", "HasSeveralAddresses, !GetAtt", "HasNatGatewayB, !GetAtt"),
        resource(APPLICATION, "ApiFunction", "!GetAtt ZoneIds.ZoneIds, ''", "!GetAtt ZoneIds.ZoneIds, none"),
    ],
    rules.checks_come_often_enough_for_their_results: [
        reworded(CHECK_EGRESS, "rate(15 minutes)", "rate(1 hour)"),
        reworded(CHECK_EGRESS, "rate(15 minutes)", "rate(5 minutes)"),
        reworded(CHECK_EGRESS, "MaximumRetryAttempts: 0", "MaximumRetryAttempts: 2"),
    ],
    rules.results_are_kept_where_the_api_looks: [
        resource(APPLICATION, "ApiFunction", "/sallyport/${AWS::StackName}/egress", "/${AWS::StackName}/egress"),
        resource(APPLICATION, "CheckEgressA", "/sallyport/${AWS::StackName}/egress", "/${AWS::StackName}"),
        reworded(CHECK_EGRESS, "!Ref EgressResultsPath", "/sallyport/egress"),
        resource(CHECK_EGRESS, "Result", "${EgressResultsPath}/${Zone}", "${EgressResultsPath}/zone"),
        resource(CHECK_EGRESS, "Result", "DeletionPolicy: Delete", "DeletionPolicy: Retain"),
    ],
    rules.the_check_is_not_told_where_the_database_is: [
        reworded(
            CHECK_EGRESS,
            "          AVAILABILITY_ZONE:",
            "          DATABASE_HOST: db.example.com\n          AVAILABILITY_ZONE:",
        ),
    ],
    rules.alarms_watch_what_the_checks_count: [
        resource(OBSERVABILITY, "EgressAddressAlarmA", "Value: !Ref ZoneA", "Value: !Ref ZoneB"),
        resource(OBSERVABILITY, "EgressCheckAlarmB", "EgressCheckFailed", "EgressChecksFailed"),
        without(OBSERVABILITY, "EgressCheckAlarmA"),
        resource(OBSERVABILITY, "EgressCheckAlarmA", "        - {Name: service, Value: !Ref ApiName}\n", ""),
    ],
    rules.the_default_group_of_the_vpc_is_emptied: [
        resource(APPLICATION, "DefaultSecurityGroup", "    DependsOn: DefaultSecurityGroupPolicy\n", ""),
        resource(
            APPLICATION, "DefaultSecurityGroup", "Outputs.DefaultSecurityGroupId", "Outputs.DatabaseSecurityGroupId"
        ),
    ],
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_check_keeps_the_rule(rule: Rule) -> None:
    assert rule(PROJECT) == []


@pytest.mark.parametrize(
    ("rule", "change"), [(rule, change) for rule, changes in BROKEN.items() for change in changes], ids=name_of
)
def test_a_broken_check_is_noticed(rule: Rule, change: Change) -> None:
    assert rule(change(PROJECT)) != []


def test_every_rule_is_shown_to_notice_something() -> None:
    assert BROKEN.keys() == set(rules.RULES)
