"""Why CloudFormation made no change set, in its own words, wherever it left them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

EARLY_VALIDATION = "AWS::EarlyValidation::"


def reason_of(client: Any, page: Mapping[str, Any]) -> str:
    """`page` is DescribeChangeSet's answer of one that failed; `client` is boto3's for CloudFormation.

    Of a nested one AWS gives the reason in the nested change set alone, and of its early validations only the name: the
    resource and the reason are in the events of the change set.
    """
    reason = str(page.get("StatusReason", "no reason given"))
    nested = re.search(r"arn:\S+:changeSet/\S+", reason)
    if nested and nested[0].rstrip(".,:") != page.get("ChangeSetId"):
        inner = client.describe_change_set(ChangeSetName=nested[0].rstrip(".,:"))
        return f"{inner.get('StackName')}: {reason_of(client, inner)}"
    if EARLY_VALIDATION not in reason:
        return reason
    return "\n  ".join([reason, *dict.fromkeys(_validations(client, str(page.get("ChangeSetId", ""))))])


def _validations(client: Any, change_set: str) -> Iterator[str]:
    """Each early validation that failed, with the resource that it is about."""
    pages = client.get_paginator("describe_events").paginate(ChangeSetName=change_set, Filters={"FailedEvents": True})
    for page in pages:
        for event in page.get("OperationEvents", ()):
            if event.get("EventType") == "VALIDATION_ERROR":
                yield _described(event)


def _described(event: Mapping[str, Any]) -> str:
    named = f" {event['PhysicalResourceId']}" if event.get("PhysicalResourceId") else ""
    place = f" at {event['ValidationPath']}" if event.get("ValidationPath") else ""
    return (
        f"{event.get('LogicalResourceId', 'the stack')} ({event.get('ResourceType', 'of no type')}{named}){place}: "
        f"{event.get('ValidationStatusReason', 'no reason given')}"
    )
