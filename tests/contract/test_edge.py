"""The edge keeps its rules, and so do keys, traces and unawaited events; each rule notices the stacks that break it."""

import pytest

from tests.contract import rules_edge as rules
from tests.contract.changes import Change, Rule, resource, reworded, without
from tests.contract.project import APPLICATION, load
from tests.contract.rules_edge import EDGE

PROJECT = load()
MIGRATION_EVENTS = "          OnFailure: {Type: SQS, Destination: !GetAtt FailedInvocationQueue.Arn}\n"
BROKEN: dict[Rule, list[Change]] = {
    rules.the_edge_is_there_when_it_is_asked_for: [
        resource(EDGE, "CustomDomainRecord", "    Condition: HasHostedZone\n", "    Condition: HasDomain\n"),
        without(EDGE, "WebAccessControlListLogging"),
    ],
    rules.the_firewall_judges_no_body_and_stands_before_the_stage: [
        reworded(
            EDGE, "{Name: SizeRestrictions_BODY, ActionToUse: {Count: {}}}", "{Name: Other, ActionToUse: {Count: {}}}"
        ),
        reworded(
            EDGE, "{Name: Log4JRCE_BODY, ActionToUse: {Count: {}}}", "{Name: Log4JRCE_BODY, ActionToUse: {Block: {}}}"
        ),
        reworded(EDGE, "Name: ReactJSRCE_BODY", "Name: Other"),
        reworded(EDGE, "AWSManagedRulesAmazonIpReputationList", "AWSManagedRulesPHPRuleSet"),
        reworded(EDGE, "Limit: !Ref WebAclRate", "Limit: 100"),
        reworded(EDGE, "stages/${ApiStageName}", "stages/*"),
    ],
    rules.the_firewall_shows_no_credentials: [
        reworded(EDGE, "        - {SingleHeader: {Name: authorization}}\n", ""),
        reworded(EDGE, "        - {QueryString: {}}\n", ""),
        reworded(
            EDGE,
            "MetricName: common, SampledRequestsEnabled: false",
            "MetricName: common, SampledRequestsEnabled: true",
        ),
    ],
    rules.the_name_takes_current_tls_and_is_the_only_one: [
        reworded(EDGE, "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09", "TLS_1_0"),
        reworded(
            APPLICATION, "DisableExecuteApiEndpoint: !If [HasDomain, true, false]", "DisableExecuteApiEndpoint: false"
        ),
        resource(APPLICATION, "AttemptFunction", ",${DomainName}", ""),
        resource(APPLICATION, "ApiUrl", "!Sub https://${DomainName}", "!Sub https://${Api}"),
    ],
    rules.a_key_of_ones_own_encrypts_everything_that_rests: [
        resource(
            APPLICATION, "ApiLogGroup", "      KmsKeyId: !If [HasKmsKey, !Ref KmsKeyArn, !Ref AWS::NoValue]\n", ""
        ),
        resource(EDGE, "WebAccessLogGroup", "      KmsKeyId: !If [HasKmsKey, !Ref KmsKeyArn, !Ref AWS::NoValue]\n", ""),
        reworded(APPLICATION, "    KmsKeyArn: !If [HasKmsKey, !Ref KmsKeyArn, !Ref AWS::NoValue]\n", ""),
    ],
    rules.functions_may_use_the_key_and_no_other: [
        resource(APPLICATION, "KeyPolicy", "Resource: !Ref KmsKeyArn", "Resource: '*'"),
        resource(APPLICATION, "AttemptRole", "'kms:GenerateDataKey'", "'kms:ReEncryptFrom'"),
        resource(APPLICATION, "AdminRole", "        - !If [HasKmsKey, !Ref KeyPolicy, !Ref AWS::NoValue]\n", ""),
    ],
    rules.traces_are_taken_when_asked_for: [
        reworded(APPLICATION, "TracingEnabled: !If [Traces, true, false]", "TracingEnabled: false"),
        resource(APPLICATION, "AdminRole", "        - !If [Traces, !Ref TracingPolicy, !Ref AWS::NoValue]\n", ""),
        reworded(APPLICATION, "Tracing: !If [Traces, Active, PassThrough]", "Tracing: Active"),
        reworded(
            APPLICATION,
            "!If [TracesWithOpenTelemetry, /opt/otel-instrument, !Ref AWS::NoValue]",
            "/opt/otel-instrument",
        ),
    ],
    rules.events_that_nobody_waits_for_are_bounded_and_kept: [
        resource(
            APPLICATION,
            "MigrateFunction",
            MIGRATION_EVENTS,
            "          OnFailure: {Type: SQS, Destination: !GetAtt DeadLetterQueue.Arn}\n",
        ),
        resource(APPLICATION, "MigrateFunction", "MaximumEventAgeInSeconds: 600", "MaximumEventAgeInSeconds: 3600"),
        resource(APPLICATION, "MigrateFunction", "MaximumRetryAttempts: 1", "MaximumRetryAttempts: 2"),
    ],
    rules.dead_letters_come_from_the_one_queue: [
        resource(APPLICATION, "WakeupQueue", "${AWS::StackName}-wakeups", "${AWS::StackName}-others"),
        resource(APPLICATION, "FailedInvocationQueue", "redrivePermission: denyAll", "redrivePermission: allowAll"),
    ],
    rules.snapshots_are_made_of_the_api_alone: [
        resource(APPLICATION, "ApiFunction", "!If [UsesSnapStart, PublishedVersions, None]", "PublishedVersions"),
        resource(
            APPLICATION,
            "AdminFunction",
            "      MemorySize:",
            "      SnapStart: {ApplyOn: PublishedVersions}\n      MemorySize:",
        ),
        resource(APPLICATION, "SnapshotsHoldNoLayer", "!Ref SnapStart, 'yes'", "!Ref SnapStart, 'never'"),
    ],
}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_edge_keeps_the_rule(rule: Rule) -> None:
    assert rule(PROJECT) == []


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        pytest.param(rule, change, id=f"{rule.__name__}-{place}")
        for rule, changes in BROKEN.items()
        for place, change in enumerate(changes)
    ],
)
def test_a_broken_edge_is_noticed(rule: Rule, change: Change) -> None:
    assert rule(change(PROJECT)) != []


def test_every_rule_is_shown_to_notice_something() -> None:
    assert BROKEN.keys() == set(rules.RULES)
