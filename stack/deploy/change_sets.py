"""A CloudFormation change set with those nested in it, as plain values: from AWS or from recorded answers.

Reads the answers of DescribeChangeSet (https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_Change.html).
What cannot be read is not left out: it becomes the `problem` of its change set, so that the guard refuses it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import ClientError

from stack.aws import readable
from stack.stack_states import is_there

STACK = "AWS::CloudFormation::Stack"
EMPTY_REASONS = ("didn't contain changes", "No updates are to be performed")  # AWS says so in the reason alone

type Page = Mapping[str, Any]


class ChangeSetUnreadable(ValueError):
    """A change set or a stack's resources cannot be read; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeCause:
    """One reason for a change. `recreation` is Never, Conditionally or Always; `entity` is what caused it.

    `before` and `after` are empty where AWS does not give them.
    """

    name: str
    recreation: str
    entity: str = ""
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceChange:
    """What would happen to one resource. `address` is its path, `Network.Vpc`; `physical_id` is empty before it exists.

    `action`, `replacement`, `policy` and `drift` are AWS's words (Action, Replacement, PolicyAction and
    ResourceDriftStatus), empty where it says none. `nested` belongs to nested stacks alone.
    """

    address: str
    physical_id: str
    type: str
    action: str
    replacement: str
    policy: str
    drift: str
    causes: tuple[ChangeCause, ...]
    nested: "ChangeSet | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet:
    """`problem` says why it could not be read; the changes are then unknown and not none."""

    stack_name: str
    changes: tuple[ResourceChange, ...]
    problem: str = ""

    def all_changes(self) -> Iterator[ResourceChange]:
        """All changes; those within a nested stack follow the change of that stack."""
        for change in self.changes:
            yield change
            if change.nested is not None:
                yield from change.nested.all_changes()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingResource:
    """A resource of a stack as it is."""

    logical_id: str
    physical_id: str
    type: str


class ChangeSetSource(Protocol):
    """Where answers come from. Both raise ChangeSetUnreadable."""

    def pages(self, change_set: str, stack: str) -> Sequence[Page]:
        """All pages of one change set; `stack` may be empty where `change_set` is an ARN."""

    def resources(self, stack_id: str) -> Sequence[ExistingResource]:
        """The resources of a stack as it is, nested stacks included."""


# ---- Reading ---------------------------------------------------------------------------------------------------------


def read(source: ChangeSetSource, change_set: str, stack: str = "") -> ChangeSet:
    """The change set and all that is nested in it. Raises ChangeSetUnreadable when the outermost one cannot be read."""
    pages = source.pages(change_set, stack)
    if pages[0].get("ParentChangeSetId"):
        raise ChangeSetUnreadable(
            f"{change_set} is nested in another change set; give {pages[0].get('RootChangeSetId')}"
        )
    outermost = _change_set(source, pages, "")
    if outermost.problem:
        raise ChangeSetUnreadable(outermost.problem)
    return outermost


def _change_set(source: ChangeSetSource, pages: Sequence[Page], path: str) -> ChangeSet:
    first = pages[0]
    problem = _problem(first)
    described = [] if problem else [change["ResourceChange"] for page in pages for change in page.get("Changes", [])]
    return ChangeSet(
        stack_name=first.get("StackName", ""),
        changes=tuple(_change(source, change, path) for change in described),
        problem=problem,
    )


def _problem(page: Page) -> str:
    """Why the change set cannot be judged; nothing for one that is complete or changes nothing."""
    status, reason = page.get("Status", ""), page.get("StatusReason", "")
    if status == "FAILED" and any(words in reason for words in EMPTY_REASONS):
        return ""
    if status != "CREATE_COMPLETE":
        return f"the change set of {page.get('StackName')} is {status or 'of no status'}: {reason or 'no reason given'}"
    if page.get("ExecutionStatus") == "OBSOLETE":
        return f"the change set of {page.get('StackName')} is obsolete: the stack has changed since; create it again"
    return ""


def _change(source: ChangeSetSource, change: Page, path: str) -> ResourceChange:
    address = f"{path}{change['LogicalResourceId']}"
    return ResourceChange(
        address=address,
        physical_id=change.get("PhysicalResourceId", ""),
        type=change["ResourceType"],
        action=change["Action"],
        replacement=change.get("Replacement", ""),
        policy=change.get("PolicyAction", ""),
        drift=change.get("ResourceDriftStatus", ""),
        causes=tuple(_causes(change.get("Details", []))),
        nested=_nested(source, change, address) if change["ResourceType"] == STACK else None,
    )


def _causes(details: Iterable[Page]) -> Iterator[ChangeCause]:
    for detail in details:
        target = detail.get("Target", {})
        yield ChangeCause(
            name=target.get("Name") or target.get("Attribute", ""),
            recreation=target.get("RequiresRecreation", "Never"),
            entity=detail.get("CausingEntity", ""),
            before=target.get("BeforeValue", ""),
            after=target.get("AfterValue", ""),
        )


def _nested(source: ChangeSetSource, change: Page, address: str) -> ChangeSet | None:
    """None for a nested stack that is new or removed: ChangeSetSource.resources has what is lost with the latter."""
    if change["Action"] in ("Add", "Remove"):
        return None
    change_set = change.get("ChangeSetId", "")
    if not change_set:
        return _unreadable(f"{address} has no change set of its own: create it with IncludeNestedStacks")
    try:
        return _change_set(source, source.pages(change_set, ""), f"{address}.")
    except ChangeSetUnreadable as problem:
        return _unreadable(f"{address}: {problem}")


def _unreadable(problem: str) -> ChangeSet:
    return ChangeSet(stack_name="", changes=(), problem=problem)


# ---- Sources ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSource:
    """AWS itself. `client` is boto3's for CloudFormation."""

    client: Any

    def pages(self, change_set: str, stack: str) -> Sequence[Page]:
        """With the values of properties, where CloudFormation gives them."""
        pages: list[Page] = []
        token: dict[str, str] = {}
        name = {"StackName": stack} if stack else {}
        while not pages or token:
            page = self._call(
                self.client.describe_change_set, ChangeSetName=change_set, IncludePropertyValues=True, **name, **token
            )
            pages.append(page)
            token = {"NextToken": page["NextToken"]} if page.get("NextToken") else {}
        return pages

    def resources(self, stack_id: str) -> Sequence[ExistingResource]:
        """ListStackResources, all pages."""
        resources: list[ExistingResource] = []
        token: dict[str, str] = {}
        while True:
            page = self._call(self.client.list_stack_resources, StackName=stack_id, **token)
            resources += [
                _existing_resource(summary) for summary in page["StackResourceSummaries"] if is_there(summary)
            ]
            if not page.get("NextToken"):
                return resources
            token = {"NextToken": page["NextToken"]}

    def _call(self, call: Any, **arguments: Any) -> Page:
        try:
            page: Page = call(**arguments)
        except ClientError as failure:
            if failure.response["Error"]["Code"] == "ChangeSetNotFound":
                raise ChangeSetUnreadable(failure.response["Error"]["Message"]) from None
            if failure.response["Error"]["Code"] == "ValidationError":
                raise ChangeSetUnreadable(readable(failure, self.client.meta.region_name)) from None
            raise
        return page


def _existing_resource(summary: Page) -> ExistingResource:
    return ExistingResource(
        logical_id=summary["LogicalResourceId"],
        physical_id=summary.get("PhysicalResourceId", ""),
        type=summary["ResourceType"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSource:
    """Answers recorded as JSON, one to a file, in any order.

    `aws cloudformation describe-change-set` for each change set (all pages), and `describe-stack-resources` for nested
    stacks that are removed.
    """

    answers: tuple[Page, ...]

    @classmethod
    def load(cls, paths: Iterable[Path]) -> "RecordedSource":
        """Files, and the JSON files of folders. Raises ChangeSetUnreadable."""
        paths = tuple(paths)
        files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
        if not files:
            places = ", ".join(map(str, paths))
            raise ChangeSetUnreadable(
                f"no recorded answer (*.json of aws cloudformation describe-change-set) is in {places}"
            )
        return cls(answers=tuple(map(_load, files)))

    def root(self) -> str:
        """The id of the change set that is nested in no other. Raises ChangeSetUnreadable unless there is one."""
        outermost: set[str] = {
            page["ChangeSetId"] for page in self.answers if _is_page(page) and not page.get("ParentChangeSetId")
        }
        if len(outermost) != 1:
            raise ChangeSetUnreadable(
                f"the recorded answers have {len(outermost)} outermost change sets; there must be one"
            )
        return next(iter(outermost))

    def pages(self, change_set: str, stack: str) -> Sequence[Page]:
        """The recorded pages in whatever order. All but one of them point to a next one."""
        pages = [
            page for page in self.answers if _is_page(page) and change_set in _names(page) and stack in _stacks(page)
        ]
        if not pages:
            raise ChangeSetUnreadable(f"the change set {change_set} was not recorded")
        if sum("NextToken" in page for page in pages) != len(pages) - 1:
            raise ChangeSetUnreadable(f"not all pages of the change set {change_set} were recorded")
        return pages

    def resources(self, stack_id: str) -> Sequence[ExistingResource]:
        """From a recorded answer of describe-stack-resources."""
        lists = [answer["StackResources"] for answer in self.answers if "StackResources" in answer]
        matching = [resource for resources in lists for resource in resources if resource.get("StackId") == stack_id]
        if not matching:
            raise ChangeSetUnreadable(f"the resources of the stack {stack_id} were not recorded")
        return [_existing_resource(resource) for resource in matching if is_there(resource)]


def _load(path: Path) -> Page:
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ChangeSetUnreadable(f"{path} cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise ChangeSetUnreadable(f"{path} cannot be read: {problem}") from None
    if not isinstance(answer, dict) or not (_is_page(answer) or "StackResources" in answer):
        raise ChangeSetUnreadable(f"{path} is no answer of describe-change-set or describe-stack-resources")
    plain: Page = _without_nulls(answer)
    return plain


def _without_nulls(value: Any) -> Any:
    """The AWS CLI prints null for what the answer does not have."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _is_page(answer: Page) -> bool:
    return "ChangeSetId" in answer


def _names(page: Page) -> tuple[str, str]:
    return page["ChangeSetId"], page.get("ChangeSetName", "")


def _stacks(page: Page) -> tuple[str, str, str]:
    """The names of the stack; the empty one fits where the change set's ARN identifies it."""
    return "", page.get("StackName", ""), page.get("StackId", "")
