"""A CloudFormation change set with all that is nested in it, as plain values: from AWS or from recorded answers.

Reads what DescribeChangeSet says (https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_Change.html).
What cannot be read is not left out: it stands as `problem` of its change set, for a guard that passed over it would
guard nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import ClientError

STACK = "AWS::CloudFormation::Stack"
EMPTY_REASONS = ("didn't contain changes", "No updates are to be performed")  # AWS says so in the reason alone

type Page = Mapping[str, Any]


class Unreadable(ValueError):
    """What was to be read is not there, or is not what it should be. Says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One reason for a change. `recreation` is Never, Conditionally or Always; `entity` is what changed further up.

    `before` and `after` are empty where AWS does not tell them.
    """

    name: str
    recreation: str
    entity: str = ""
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
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
    causes: tuple[Cause, ...]
    nested: "ChangeSet | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet:
    """`problem` says why it could not be read; the changes are then unknown and not none."""

    stack_name: str
    changes: tuple[Change, ...]
    problem: str = ""

    def everything(self) -> Iterator[Change]:
        """All changes, those of a nested stack after the nested stack's own."""
        for change in self.changes:
            yield change
            if change.nested is not None:
                yield from change.nested.everything()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A resource that a stack has now."""

    logical_id: str
    physical_id: str
    type: str


class Source(Protocol):
    """Where answers come from. Both raise Unreadable."""

    def pages(self, change_set: str, stack: str) -> Sequence[Page]:
        """All pages of one change set; `stack` may be empty where `change_set` is an ARN."""

    def held(self, stack_id: str) -> Sequence[Held]:
        """What a stack holds now, nested stacks among it."""


# ---- Reading ---------------------------------------------------------------------------------------------------------


def read(source: Source, change_set: str, stack: str = "") -> ChangeSet:
    """The change set and all that is nested in it. Raises Unreadable when the outermost one cannot be read."""
    pages = source.pages(change_set, stack)
    if pages[0].get("ParentChangeSetId"):
        raise Unreadable(f"{change_set} is nested in another change set; give {pages[0].get('RootChangeSetId')}")
    found = _change_set(source, pages, "")
    if found.problem:
        raise Unreadable(found.problem)
    return found


def _change_set(source: Source, pages: Sequence[Page], path: str) -> ChangeSet:
    first = pages[0]
    problem = _problem(first)
    said = [] if problem else [change["ResourceChange"] for page in pages for change in page.get("Changes", [])]
    return ChangeSet(
        stack_name=first.get("StackName", ""),
        changes=tuple(_change(source, item, path) for item in said),
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
        return f"the change set of {page.get('StackName')} is obsolete: the stack has changed since; make it again"
    return ""


def _change(source: Source, said: Page, path: str) -> Change:
    address = f"{path}{said['LogicalResourceId']}"
    return Change(
        address=address,
        physical_id=said.get("PhysicalResourceId", ""),
        type=said["ResourceType"],
        action=said["Action"],
        replacement=said.get("Replacement", ""),
        policy=said.get("PolicyAction", ""),
        drift=said.get("ResourceDriftStatus", ""),
        causes=tuple(_causes(said.get("Details", []))),
        nested=_nested(source, said, address) if said["ResourceType"] == STACK else None,
    )


def _causes(details: Iterable[Page]) -> Iterator[Cause]:
    for detail in details:
        target = detail.get("Target", {})
        yield Cause(
            name=target.get("Name") or target.get("Attribute", ""),
            recreation=target.get("RequiresRecreation", "Never"),
            entity=detail.get("CausingEntity", ""),
            before=target.get("BeforeValue", ""),
            after=target.get("AfterValue", ""),
        )


def _nested(source: Source, said: Page, address: str) -> ChangeSet | None:
    """None for a nested stack that is new or goes: what goes is in `Source.held`, what is new takes nothing away."""
    if said["Action"] in ("Add", "Remove"):
        return None
    change_set = said.get("ChangeSetId", "")
    if not change_set:
        return _unread(f"{address} has no change set of its own: make it with IncludeNestedStacks")
    try:
        return _change_set(source, source.pages(change_set, ""), f"{address}.")
    except Unreadable as problem:
        return _unread(f"{address}: {problem}")


def _unread(problem: str) -> ChangeSet:
    return ChangeSet(stack_name="", changes=(), problem=problem)


# ---- Sources ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """AWS itself. `client` is boto3's for CloudFormation."""

    client: Any

    def pages(self, change_set: str, stack: str) -> Sequence[Page]:
        """With the values of properties, where the account's CloudFormation tells them."""
        pages: list[Page] = []
        token: dict[str, str] = {}
        name = {"StackName": stack} if stack else {}
        while not pages or token:
            page = self._asked(
                self.client.describe_change_set, ChangeSetName=change_set, IncludePropertyValues=True, **name, **token
            )
            pages.append(page)
            token = {"NextToken": page["NextToken"]} if page.get("NextToken") else {}
        return pages

    def held(self, stack_id: str) -> Sequence[Held]:
        """ListStackResources, all pages."""
        found: list[Held] = []
        token: dict[str, str] = {}
        while True:
            page = self._asked(self.client.list_stack_resources, StackName=stack_id, **token)
            found += [_held(item) for item in page["StackResourceSummaries"] if _is_there(item)]
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}

    def _asked(self, call: Any, **arguments: Any) -> Page:
        try:
            page: Page = call(**arguments)
        except ClientError as failure:
            if failure.response["Error"]["Code"] in ("ChangeSetNotFound", "ValidationError"):
                raise Unreadable(failure.response["Error"]["Message"]) from None
            raise
        return page


def _held(item: Page) -> Held:
    return Held(
        logical_id=item["LogicalResourceId"],
        physical_id=item.get("PhysicalResourceId", ""),
        type=item["ResourceType"],
    )


def _is_there(item: Page) -> bool:
    return item.get("ResourceStatus") not in ("DELETE_COMPLETE", "DELETE_SKIPPED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Answers that were saved as JSON, one to a file, in any order.

    `aws cloudformation describe-change-set` for each change set (all pages), and `describe-stack-resources` for nested
    stacks that go.
    """

    answers: tuple[Page, ...]

    @classmethod
    def load(cls, paths: Iterable[Path]) -> "Recorded":
        """Files, and the JSON files of folders. Raises Unreadable."""
        paths = tuple(paths)
        files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
        if not files:
            places = ", ".join(map(str, paths))
            raise Unreadable(f"no recorded answer (*.json of aws cloudformation describe-change-set) is in {places}")
        return cls(answers=tuple(map(_loaded, files)))

    def root(self) -> str:
        """The id of the change set that is nested in no other. Raises Unreadable unless there is one."""
        outermost: set[str] = {
            page["ChangeSetId"] for page in self.answers if _is_page(page) and not page.get("ParentChangeSetId")
        }
        if len(outermost) != 1:
            raise Unreadable(f"the recorded answers have {len(outermost)} outermost change sets; there must be one")
        return next(iter(outermost))

    def pages(self, change_set: str, stack: str) -> Sequence[Page]:
        """The recorded pages in whatever order. All but one of them point to a next one."""
        pages = [
            page for page in self.answers if _is_page(page) and change_set in _names(page) and stack in _stacks(page)
        ]
        if not pages:
            raise Unreadable(f"the change set {change_set} was not recorded")
        if sum("NextToken" in page for page in pages) != len(pages) - 1:
            raise Unreadable(f"not all pages of the change set {change_set} were recorded")
        return pages

    def held(self, stack_id: str) -> Sequence[Held]:
        """From a recorded answer of describe-stack-resources."""
        lists = [answer["StackResources"] for answer in self.answers if "StackResources" in answer]
        items = [item for resources in lists for item in resources if item.get("StackId") == stack_id]
        if not items:
            raise Unreadable(f"what the stack {stack_id} holds was not recorded")
        return [_held(item) for item in items if _is_there(item)]


def _loaded(path: Path) -> Page:
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise Unreadable(f"{path} cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        raise Unreadable(f"{path} cannot be read: {problem}") from None
    if not isinstance(answer, dict) or not (_is_page(answer) or "StackResources" in answer):
        raise Unreadable(f"{path} is no answer of describe-change-set or describe-stack-resources")
    plain: Page = _without_nulls(answer)
    return plain


def _without_nulls(value: Any) -> Any:
    """The AWS CLI prints null for what the answer does not have."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _is_page(answer: Page) -> bool:
    return "ChangeSetId" in answer


def _names(page: Page) -> tuple[str, str]:
    return page["ChangeSetId"], page.get("ChangeSetName", "")


def _stacks(page: Page) -> tuple[str, str, str]:
    """What the stack may be called; nothing at all where the change set's ARN says enough."""
    return "", page.get("StackName", ""), page.get("StackId", "")
