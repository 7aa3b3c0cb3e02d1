"""Reads a change set, root and nested, and refuses to replace or delete what cannot be created again.

`make guard` checks a change set on AWS or recorded answers; `make deploy` runs the guard before it asks you. What it
cannot read it refuses: a nested stack without a change set of its own is not skipped, unless it holds nothing that
could be lost.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stack.aws import REPORTED, readable, region_name
from stack.deploy.change_sets import (
    STACK,
    ChangeCause,
    ChangeSet,
    ChangeSetSource,
    ChangeSetUnreadable,
    ExistingResource,
    LiveSource,
    RecordedSource,
    ResourceChange,
    read,
)

SHOWN_VALUE = 60  # characters of a property's value: a route or an id fits, a policy document does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """Why a type of resource is guarded: what its loss means, and what to do instead."""

    loss: str
    instead: str


# The stack policy (infra/stack-policy.json) denies the same types; a contract test holds the two together.
# Not here: a customer gateway (it only describes your end of the VPN; the connection that depends on it is here), the
# database's instances (the data is the cluster's), subnets (replacing one replaces a NAT gateway or the cluster, which
# are here) and log groups.
PROTECTED = {
    "AWS::EC2::EIP": Protection(
        loss="partners allowlist this address and drop what comes from another one",
        instead="leave it; to move it to another stack see docs/running.md#move-the-addresses-to-another-stack",
    ),
    "AWS::EC2::NatGateway": Protection(
        loss="nothing leaves without it, and a new one cannot have its address while the old one exists",
        instead="leave its subnet, address and mode as they are; to change the mode of egress see "
        "docs/changing-safely.md",
    ),
    "AWS::EC2::VPC": Protection(
        loss="everything in it would have to be created again, the database included",
        instead="leave VpcCidr as it is; create a second stack for another range",
    ),
    "AWS::RDS::DBCluster": Protection(
        loss="all deliveries are in it, and a new one is empty; at most a snapshot remains",
        instead="leave its name, engine, subnets, port and key as they are; to move the data see "
        "docs/changing-safely.md",
    ),
    "AWS::SecretsManager::Secret": Protection(
        loss="the credentials of destinations are sealed with it and open with no other",
        instead="leave the seal key as it is; see docs/people-and-database.md#the-seal-key",
    ),
    "AWS::SQS::Queue": Protection(
        loss="the wake-ups of deliveries are in it, and deliveries without one are not attempted",
        instead="leave its name and kind as they are, or move its messages by hand afterwards; see "
        "docs/changing-safely.md",
    ),
    "AWS::EC2::VPNGateway": Protection(
        loss="the VPN ends at it, and all traffic between the VPC and the corporate network passes it",
        instead="leave the topology and the VPN's parameters as they are",
    ),
    "AWS::EC2::VPNConnection": Protection(
        loss="a new one has other tunnel addresses and keys, which your network team must configure at their end",
        instead="leave CustomerGatewayAddress, CustomerGatewayAsn and VpnRouting as they are, or plan it with them",
    ),
    "AWS::ApiGateway::RestApi": Protection(
        loss="callers know its URL, and a new one has another",
        instead="leave it as it is; a custom domain (DomainName) gives callers a URL that stays",
    ),
    "AWS::ApiGateway::Stage": Protection(
        loss="its name is the first part of the path of the URL that callers know",
        instead="leave Stage as it is; create a second stack for another stage",
    ),
    "AWS::ApiGateway::DomainName": Protection(
        loss="callers know the API by this name, and nothing answers to it any more",
        instead="leave DomainName as it is until no caller uses it; see docs/changing-safely.md",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What would be lost. `what` is `replaced`, `deleted` and so on: a sentence goes on with it after the name."""

    address: str
    physical_id: str
    type: str
    what: str
    why: str

    @property
    def logical_id(self) -> str:
        return self.address.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardDecision:
    """`refused` and `unreadable` each forbid the deployment; `allowed` would be refused but for being named.

    `unseen` are the nested stacks that could not be read either, and in which nothing protected is: nothing can be lost
    there. `removed_stacks` has the addresses of nested stacks that would go as a whole.
    """

    refused: tuple[Harm, ...]
    allowed: tuple[Harm, ...]
    unreadable: tuple[str, ...]
    unseen: tuple[str, ...]
    unknown_names: tuple[str, ...]
    removed_stacks: tuple[str, ...]

    @property
    def passes(self) -> bool:
        return not self.refused and not self.unreadable


def decide(
    change_set: ChangeSet, source: ChangeSetSource, allow: Iterable[str] = (), *, skip_nested: bool = False
) -> GuardDecision:
    """`allow` has logical ids (`EgressAddressB`) or addresses (`Network.EgressAddressB`).

    `skip_nested` is for a change set that was created without those of nested stacks on purpose.
    """
    names, problems = set(allow), {} if skip_nested else dict(_problems(change_set))
    harmless = {change.address for change in problems if _holds_nothing(change, source)}  # two may say the same words
    unseen = tuple(problem for change, problem in problems.items() if change.address in harmless)
    unreadable = [problem for change, problem in problems.items() if change.address not in harmless]
    harms: list[Harm] = []
    for change in change_set.all_changes():
        try:
            harms += _harms(change, source)
        except ChangeSetUnreadable as problem:
            unreadable.append(f"{change.address} is removed with all its resources: {problem}")
    return GuardDecision(
        refused=tuple(harm for harm in harms if not names & _names(harm)),
        allowed=tuple(harm for harm in harms if names & _names(harm)),
        unreadable=tuple(unreadable),
        unseen=unseen,
        unknown_names=tuple(sorted(names - {name for harm in harms for name in _names(harm)})),
        removed_stacks=tuple(
            change.address for change in change_set.all_changes() if change.type == STACK and _effect(change)
        ),
    )


def _names(harm: Harm) -> set[str]:
    return {harm.address, harm.logical_id}


def _problems(change_set: ChangeSet) -> Iterator[tuple[ResourceChange, str]]:
    """The nested stacks whose change set cannot be read, with why."""
    for change in change_set.all_changes():
        if change.nested is not None and change.nested.problem:
            yield change, change.nested.problem


def _holds_nothing(change: ResourceChange, source: ChangeSetSource) -> bool:
    """Whether nothing protected is in a nested stack as it is, nor in those within; no where nobody can tell."""
    try:
        return not any(_harms_within(change.address, change.physical_id, "", source))
    except ChangeSetUnreadable:
        return False


def _harms(change: ResourceChange, source: ChangeSetSource) -> Iterator[Harm]:
    what = _effect(change)
    if not what:
        return
    if change.type == STACK:
        yield from _harms_within(
            change.address,
            change.physical_id,
            f"{what} together with {change.address}, or left behind where its own policy says so",
            source,
        )
    elif change.type in PROTECTED:
        yield Harm(
            address=change.address,
            physical_id=change.physical_id,
            type=change.type,
            what=what,
            why=_reason(change),
        )


def _harms_within(address: str, stack_id: str, what: str, source: ChangeSetSource) -> Iterator[Harm]:
    """The protected resources of a stack that is removed as a whole. Raises ChangeSetUnreadable."""
    for resource in source.resources(stack_id):
        inner = f"{address}.{resource.logical_id}"
        if resource.type == STACK:
            yield from _harms_within(inner, resource.physical_id, what, source)
        elif resource.type in PROTECTED:
            yield _lost(resource, inner, what)


def _lost(resource: ExistingResource, address: str, what: str) -> Harm:
    return Harm(
        address=address,
        physical_id=resource.physical_id,
        type=resource.type,
        what=what,
        why="the template no longer has it",
    )


def _effect(change: ResourceChange) -> str:
    """What happens to the existing resource; empty when it stays."""
    if change.action in ("Add", "Import"):
        return ""
    if change.action == "Remove":
        return _removed(change.policy)
    if change.action == "Dynamic":
        return "changed in a way that CloudFormation does not know yet"
    if change.drift == "DELETED":
        return "created again: someone has deleted it outside CloudFormation"
    return _replaced(change)


def _removed(policy: str) -> str:
    kept = {
        "Retain": "removed from the stack (it stays in the account)",
        "Snapshot": "deleted, leaving a snapshot",
    }
    return kept.get(policy, "deleted")


def _replaced(change: ResourceChange) -> str:
    if change.type == STACK and change.replacement in ("", "False"):
        return ""  # the changes in it are judged one by one
    recreations = {cause.recreation for cause in change.causes}
    if change.replacement == "True" or (not change.replacement and "Always" in recreations):
        return "replaced" + _left_behind(change.policy)
    if change.replacement == "Conditional" or change.policy.startswith("Replace") or "Conditionally" in recreations:
        return "replaced or not, which CloudFormation decides only while it deploys"
    return "" if change.replacement == "False" else "changed, and CloudFormation does not say whether it is replaced"


def _left_behind(policy: str) -> str:
    kept = {
        "ReplaceAndRetain": " (the old one stays in the account)",
        "ReplaceAndSnapshot": " (a snapshot of the old one stays)",
    }
    return kept.get(policy, "")


def _reason(change: ResourceChange) -> str:
    if change.action == "Remove":
        return "the template no longer has it, for these parameters"
    causes = [cause for cause in change.causes if cause.recreation != "Never"] or list(change.causes)
    return "; ".join(dict.fromkeys(map(_describe_cause, causes))) or "CloudFormation names no cause"


def _describe_cause(cause: ChangeCause) -> str:
    values = f" from {_short(cause.before)} to {_short(cause.after)}" if cause.before or cause.after else ""
    return f"{cause.name} changes{values}" + (f", because {cause.entity} does" if cause.entity else "")


def _short(value: str) -> str:
    shown = value if len(value) <= SHOWN_VALUE else f"{value[:SHOWN_VALUE]}..."
    return shown or "nothing"


# ---- Words -----------------------------------------------------------------------------------------------------------


def show(change_set: ChangeSet, decision: GuardDecision, console: Console) -> None:
    """A table of all changes, then each that is refused, with what to do instead."""
    marks = {harm.address: "refused" for harm in decision.refused} | {
        harm.address: "allowed" for harm in decision.allowed
    }
    console.print(_table(change_set, marks))
    for harm in decision.refused:
        console.print(_sentence(harm), markup=False, highlight=False, soft_wrap=True)
    for harm in decision.allowed:
        console.print(f"ALLOWED: {_headline(harm)}", markup=False, highlight=False, soft_wrap=True)
    for problem in decision.unseen:
        words = f"NOT SEEN: {problem}. Nothing protected is in it, so nothing protected can be lost there"
        console.print(words, markup=False, highlight=False, soft_wrap=True)
    for problem in decision.unreadable:
        console.print(f"UNREADABLE, therefore refused: {problem}", markup=False, highlight=False, soft_wrap=True)
    for name in decision.unknown_names:
        console.print(
            f"ALLOW names {name}, which this change set neither replaces nor deletes",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    console.print(_summary(change_set, decision), markup=False, highlight=False, soft_wrap=True)


def _table(change_set: ChangeSet, marks: dict[str, str]) -> Table:
    table = Table(title=f"What would change in {change_set.stack_name}")
    for head in ("Change", "Resource", "Type", "Guard"):
        table.add_column(head, overflow="fold")
    for change in change_set.all_changes():
        table.add_row(_verb(change), escape(change.address), escape(change.type), marks.get(change.address, ""))
    return table


def _verb(change: ResourceChange) -> str:
    replacing = {"True": "Replace", "Conditional": "Replace?"}
    return replacing.get(change.replacement, change.action) if change.action == "Modify" else change.action


def _headline(harm: Harm) -> str:
    return f"{harm.address} ({harm.physical_id or 'no id yet'}, {harm.type}) would be {harm.what}"


def _sentence(harm: Harm) -> str:
    protection = PROTECTED[harm.type]
    return (
        f"REFUSED: {_headline(harm)}.\n"
        f"  Why: {harm.why}.\n  What is lost: {protection.loss}.\n  Instead: {protection.instead}.\n"
        f"  On purpose: ALLOW={harm.logical_id}"
    )


def _summary(change_set: ChangeSet, decision: GuardDecision) -> str:
    changes = sum(1 for _ in change_set.all_changes())
    if decision.passes:
        return f"Passed: {changes} changes, none of which replaces or deletes a protected resource" + (
            f" but for {len(decision.allowed)} that ALLOW names" if decision.allowed else ""
        )
    return f"Refused: {len(decision.refused)} would be lost, {len(decision.unreadable)} cannot be read"


# ---- The command -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """0 passes, 1 refuses, 2 could not read the change set."""
    console, options = console or Console(), parser().parse_args(arguments)
    if not options.change_set and not options.recorded:
        words = "Which change set? CHANGE_SET=arn:..., or CHANGE_SET=name STACK=name, or RECORDED=folder"
        console.print(words, soft_wrap=True)
        return 2
    if not options.recorded and not options.stack and not options.change_set.startswith("arn:"):
        words = f"Whose change set is {options.change_set}? Add STACK=name, or give the change set's ARN"
        console.print(words, markup=False, highlight=False, soft_wrap=True)
        return 2
    try:
        source, change_set = _read_change_set(options)
        decision = decide(change_set, source, split_names(options.allow))
    except ChangeSetUnreadable as problem:
        console.print(f"Refused: {problem}", markup=False, highlight=False, soft_wrap=True)
        return 1
    except REPORTED as problem:
        console.print(
            f"The change set cannot be read from AWS: {readable(problem)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return 2
    show(change_set, decision, console)
    return 0 if decision.passes else 1


def split_names(text: str) -> list[str]:
    """`A,B` or `A B`."""
    return text.replace(",", " ").split()


def _read_change_set(options: argparse.Namespace) -> tuple[ChangeSetSource, ChangeSet]:
    if options.recorded:
        recorded = RecordedSource.load(Path(path) for path in options.recorded)
        return recorded, read(recorded, options.change_set or recorded.root())
    live = LiveSource(client=boto3.client("cloudformation", region_name=_region(options)))
    return live, read(live, options.change_set, options.stack)


def _region(options: argparse.Namespace) -> str | None:
    """The option, else the Region of the change set's ARN, else what the environment says."""
    parts = options.change_set.split(":")
    of_arn = parts[3] if parts[0] == "arn" and len(parts) > 3 else ""
    return region_name(options.region or of_arn)


def parser() -> argparse.ArgumentParser:
    """What make guard takes: each of its variables is an option here."""
    parser = argparse.ArgumentParser(prog="make guard", description=__doc__)
    parser.add_argument("--change-set", default="", help="ARN, or a name together with --stack")
    parser.add_argument("--stack", default="", help="the stack that the change set's name belongs to")
    parser.add_argument("--recorded", nargs="*", default=[], help="recorded answers instead of AWS: files or folders")
    parser.add_argument("--allow", default=os.environ.get("ALLOW", ""), help="what may be lost, by logical id")
    parser.add_argument("--region", default="")
    return parser


if __name__ == "__main__":
    sys.exit(main())
