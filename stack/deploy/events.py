"""What CloudFormation does, as it does it: the events of a stack and of those nested in it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stack.deploy.change_sets import STACK


class Follower:
    """Prints the events of a stack and of those nested in it as they come, until the stack has finished."""

    def __init__(
        self, *, client: Any, stack: str, print_line: Callable[[str], None], pause: Callable[[], None]
    ) -> None:
        """From now on: events up to the stack's latest are not of this deployment. The clock is CloudFormation's.

        `stack` is the name of one that exists; `client` is boto3's for CloudFormation.
        """
        self._client, self._stack, self._print_line, self._pause = client, stack, print_line, pause
        self._seen: set[str] = set()
        self._paths = {stack: ""}  # by the root's name and the nested ones' ids
        self._since = client.describe_stack_events(StackName=stack)["StackEvents"][0]["Timestamp"]
        self.failures: list[str] = []

    def follow(self) -> str:
        """The status that the stack ends with."""
        while True:
            for event in self._new():
                self._print_event(event)
                if _is_final(event, self._stack):
                    return str(event["ResourceStatus"])
            self._pause()

    def _new(self) -> Iterator[dict[str, Any]]:
        """Unseen events, oldest first; a nested stack is followed once an event names it."""
        events = [event for stack in list(self._paths) for event in self._unseen(stack)]
        for event in sorted(events, key=lambda event: event["Timestamp"]):
            self._follow_nested(event)
            yield event

    def _unseen(self, stack: str) -> list[dict[str, Any]]:
        unseen: list[dict[str, Any]] = []
        for page in self._client.get_paginator("describe_stack_events").paginate(StackName=stack):
            fresh = [event for event in page["StackEvents"] if self._is_fresh(event)]
            unseen += fresh
            if len(fresh) < len(page["StackEvents"]):
                break  # the newest come first, so the pages behind this one are older still
        self._seen |= {event["EventId"] for event in unseen}
        return [{**event, "Path": self._paths[stack]} for event in unseen]

    def _is_fresh(self, event: Mapping[str, Any]) -> bool:
        return event["Timestamp"] > self._since and event["EventId"] not in self._seen

    def _follow_nested(self, event: Mapping[str, Any]) -> None:
        physical_id = event.get("PhysicalResourceId", "")
        if event.get("ResourceType") == STACK and physical_id and physical_id != event["StackId"]:
            self._paths.setdefault(physical_id, f"{event['Path']}{event['LogicalResourceId']}.")

    def _print_event(self, event: Mapping[str, Any]) -> None:
        address = f"{event['Path']}{event['LogicalResourceId']}"
        line = f"{event['Timestamp']:%H:%M:%S} {event['ResourceStatus']} {address}"
        line += f": {event['ResourceStatusReason']}" if event.get("ResourceStatusReason") else ""
        self._print_line(line)
        if event["ResourceStatus"].endswith("_FAILED"):
            self.failures.append(line)


def _is_final(event: Mapping[str, Any], stack: str) -> bool:
    """Of the whole deployment: the stack's own event, after which nothing follows."""
    own = event["LogicalResourceId"] == stack and event.get("PhysicalResourceId") == event["StackId"]
    return own and not event["ResourceStatus"].endswith("_IN_PROGRESS")
