"""Reads a change set, root and nested, and refuses what would replace or delete what cannot be made again.

`make guard` asks it about a change set on AWS or about recorded answers; `make deploy` asks it before it asks you. It
says no when it cannot see: a nested stack without a change set of its own is not passed over.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stack.deploy.change_sets import STACK, Cause, Change, ChangeSet, Held, Live, Recorded, Source, Unreadable, read

SHOWN_VALUE = 60  # characters of a property's value: a route or an id fits, a policy document does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """Why a type of resource is guarded: what is lost with it, and what to do instead."""

    loss: str
    instead: str


# The stack policy (infra/stack-policy.json) denies the same types; a contract test holds the two together.
# Not here: a customer gateway (it describes your end of the VPN and is quickly made again; what hangs on it, the
# connection, is here), the database's instances (the data is the cluster's), subnets (they take a NAT gateway or the
# cluster with them, which are here) and log groups.
PROTECTED = {
    "AWS::EC2::EIP": Protection(
        loss="partners allowlist this address and drop what comes from another one",
        instead="leave it; to move it to another stack see docs/running.md#move-the-addresses-to-another-stack",
    ),
    "AWS::EC2::NatGateway": Protection(
        loss="nothing leaves without it, and a new one cannot have its address while the old one holds it",
        instead="leave its subnet, address and mode as they are; to change the mode of egress see "
        "docs/changing-safely.md",
    ),
    "AWS::EC2::VPC": Protection(
        loss="all that is in it would have to be made again, the database among it",
        instead="leave VpcCidr as it is; make a second stack beside this one for another range",
    ),
    "AWS::RDS::DBCluster": Protection(
        loss="all deliveries are in it, and a new one is empty; what remains is a snapshot at most",
        instead="leave its name, engine, subnets, port and key as they are; to move the data see "
        "docs/changing-safely.md",
    ),
    "AWS::SecretsManager::Secret": Protection(
        loss="the credentials of destinations are sealed with it and open with no other",
        instead="leave the seal key as it is; see docs/people-and-database.md#the-seal-key",
    ),
    "AWS::SQS::Queue": Protection(
        loss="the wake-ups of deliveries are in it, and deliveries without one stand still",
        instead="leave its name and kind as they are, or move its messages by hand afterwards; see "
        "docs/changing-safely.md",
    ),
    "AWS::EC2::VPNGateway": Protection(
        loss="the VPN ends at it, and so does every way between the VPC and the corporate network",
        instead="leave the topology and the VPN's parameters as they are",
    ),
    "AWS::EC2::VPNConnection": Protection(
        loss="a new one has other tunnel addresses and keys, which your network's people must then enter at their end",
        instead="leave CustomerGatewayAddress, CustomerGatewayAsn and VpnRouting as they are, or plan it with them",
    ),
    "AWS::ApiGateway::RestApi": Protection(
        loss="callers know its URL, and a new one has another",
        instead="leave it as it is; a custom domain (DomainName) makes its URL your own",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What would be lost. `what` is `replaced`, `deleted` and so on, as a sentence goes on after the name."""

    address: str
    physical_id: str
    type: str
    what: str
    why: str

    @property
    def logical_id(self) -> str:
        return self.address.rpartition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`refused` and `unreadable` each forbid the deployment; `allowed` would be refused but for being named.

    `going` has the addresses of nested stacks that would go as a whole.
    """

    refused: tuple[Harm, ...]
    allowed: tuple[Harm, ...]
    unreadable: tuple[str, ...]
    unknown_names: tuple[str, ...]
    going: tuple[str, ...]

    @property
    def passes(self) -> bool:
        return not self.refused and not self.unreadable


def judge(change_set: ChangeSet, source: Source, allow: Iterable[str] = (), *, blind: bool = False) -> Verdict:
    """`allow` has logical ids (`EgressAddressB`) or addresses (`Network.EgressAddressB`).

    `blind` is for a change set that was made without those of nested stacks on purpose: they are passed over then.
    """
    names, unreadable = set(allow), [] if blind else list(_problems(change_set))
    harms: list[Harm] = []
    for change in change_set.everything():
        try:
            harms += _harms(change, source)
        except Unreadable as problem:
            unreadable.append(f"{change.address} goes with all that it holds: {problem}")
    return Verdict(
        refused=tuple(harm for harm in harms if not names & _names(harm)),
        allowed=tuple(harm for harm in harms if names & _names(harm)),
        unreadable=tuple(unreadable),
        unknown_names=tuple(sorted(names - {name for harm in harms for name in _names(harm)})),
        going=tuple(change.address for change in change_set.everything() if change.type == STACK and _what(change)),
    )


def _names(harm: Harm) -> set[str]:
    return {harm.address, harm.logical_id}


def _problems(change_set: ChangeSet) -> Iterator[str]:
    nested = (change.nested for change in change_set.everything())
    return (inner.problem for inner in nested if inner is not None and inner.problem)


def _harms(change: Change, source: Source) -> Iterator[Harm]:
    what = _what(change)
    if not what:
        return
    if change.type == STACK:
        yield from _inside(
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
            why=_why(change),
        )


def _inside(address: str, stack_id: str, what: str, source: Source) -> Iterator[Harm]:
    """What a stack holds that goes, whole. Raises Unreadable."""
    for held in source.held(stack_id):
        inner = f"{address}.{held.logical_id}"
        if held.type == STACK:
            yield from _inside(inner, held.physical_id, what, source)
        elif held.type in PROTECTED:
            yield _gone(held, inner, what)


def _gone(held: Held, address: str, what: str) -> Harm:
    return Harm(
        address=address, physical_id=held.physical_id, type=held.type, what=what, why="the template has it no more"
    )


def _what(change: Change) -> str:
    """What becomes of the resource that exists now; empty when it stays."""
    if change.action in ("Add", "Import"):
        return ""
    if change.action == "Remove":
        return _removed(change.policy)
    if change.action == "Dynamic":
        return "changed in a way that CloudFormation cannot tell yet"
    if change.drift == "DELETED":
        return "made anew: someone has deleted it behind the stack's back"
    return _replaced(change)


def _removed(policy: str) -> str:
    kept = {
        "Retain": "taken out of the stack (it stays in the account)",
        "Snapshot": "deleted, leaving a snapshot",
    }
    return kept.get(policy, "deleted")


def _replaced(change: Change) -> str:
    if change.type == STACK and change.replacement in ("", "False"):
        return ""  # what is in it speaks for itself
    recreations = {cause.recreation for cause in change.causes}
    if change.replacement == "True" or (not change.replacement and "Always" in recreations):
        return "replaced" + _left_behind(change.policy)
    if change.replacement == "Conditional" or change.policy.startswith("Replace") or "Conditionally" in recreations:
        return "replaced, if it comes to that (CloudFormation knows only while it deploys)"
    return "" if change.replacement == "False" else "changed, and CloudFormation does not say whether it is replaced"


def _left_behind(policy: str) -> str:
    kept = {
        "ReplaceAndRetain": " (the old one stays in the account)",
        "ReplaceAndSnapshot": " (a snapshot of the old one stays)",
    }
    return kept.get(policy, "")


def _why(change: Change) -> str:
    if change.action == "Remove":
        return "the template has it no more, for these parameters"
    causes = [cause for cause in change.causes if cause.recreation != "Never"] or list(change.causes)
    return "; ".join(dict.fromkeys(map(_said, causes))) or "CloudFormation names no cause"


def _said(cause: Cause) -> str:
    values = f" from {_short(cause.before)} to {_short(cause.after)}" if cause.before or cause.after else ""
    return f"{cause.name} changes{values}" + (f", because {cause.entity} does" if cause.entity else "")


def _short(value: str) -> str:
    shown = value if len(value) <= SHOWN_VALUE else f"{value[:SHOWN_VALUE]}..."
    return shown or "nothing"


# ---- Words -----------------------------------------------------------------------------------------------------------


def show(change_set: ChangeSet, verdict: Verdict, console: Console) -> None:
    """A table of all changes, then each that is refused, with what to do instead."""
    marks = {harm.address: "refused" for harm in verdict.refused} | {
        harm.address: "allowed" for harm in verdict.allowed
    }
    console.print(_table(change_set, marks))
    for harm in verdict.refused:
        console.print(_sentence(harm), markup=False, highlight=False, soft_wrap=True)
    for harm in verdict.allowed:
        console.print(f"ALLOWED: {_headline(harm)}", markup=False, highlight=False, soft_wrap=True)
    for problem in verdict.unreadable:
        console.print(f"UNREADABLE, therefore refused: {problem}", markup=False, highlight=False, soft_wrap=True)
    for name in verdict.unknown_names:
        console.print(
            f"ALLOW names {name}, which this change set does not harm", markup=False, highlight=False, soft_wrap=True
        )
    console.print(_summary(change_set, verdict), markup=False, highlight=False, soft_wrap=True)


def _table(change_set: ChangeSet, marks: dict[str, str]) -> Table:
    table = Table(title=f"What would change in {change_set.stack_name}")
    for head in ("Change", "Resource", "Type", "Guard"):
        table.add_column(head, overflow="fold")
    for change in change_set.everything():
        table.add_row(_verb(change), escape(change.address), escape(change.type), marks.get(change.address, ""))
    return table


def _verb(change: Change) -> str:
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


def _summary(change_set: ChangeSet, verdict: Verdict) -> str:
    changes = sum(1 for _ in change_set.everything())
    if verdict.passes:
        return f"Passed: {changes} changes, none of which replaces or deletes what must stay" + (
            f" but for {len(verdict.allowed)} that ALLOW names" if verdict.allowed else ""
        )
    return f"Refused: {len(verdict.refused)} would be lost, {len(verdict.unreadable)} cannot be read"


# ---- The command -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None, console: Console | None = None) -> int:
    """0 passes, 1 refuses, 2 could not ask."""
    console, given = console or Console(), _parser().parse_args(arguments)
    if not given.change_set and not given.recorded:
        words = "Which change set? CHANGE_SET=arn:..., or CHANGE_SET=name STACK=name, or RECORDED=folder"
        console.print(words, soft_wrap=True)
        return 2
    if not given.recorded and not given.stack and not given.change_set.startswith("arn:"):
        words = f"Whose change set is {given.change_set}? Add STACK=name, or give the change set's ARN"
        console.print(words, markup=False, highlight=False, soft_wrap=True)
        return 2
    try:
        source, change_set = _asked(given)
        verdict = judge(change_set, source, names_of(given.allow))
    except Unreadable as problem:
        console.print(f"Refused: {problem}", markup=False, highlight=False, soft_wrap=True)
        return 1
    except (BotoCoreError, ClientError) as problem:
        console.print(f"AWS could not be asked: {problem}", markup=False, highlight=False, soft_wrap=True)
        return 2
    show(change_set, verdict, console)
    return 0 if verdict.passes else 1


def names_of(text: str) -> list[str]:
    """`A,B` or `A B`."""
    return text.replace(",", " ").split()


def _asked(given: argparse.Namespace) -> tuple[Source, ChangeSet]:
    if given.recorded:
        recorded = Recorded.load(Path(path) for path in given.recorded)
        return recorded, read(recorded, given.change_set or recorded.root())
    live = Live(client=boto3.client("cloudformation", region_name=_region(given)))
    return live, read(live, given.change_set, given.stack)


def _region(given: argparse.Namespace) -> str | None:
    """As said, or as the change set's ARN or the environment has it; boto3 itself does not read AWS_REGION."""
    parts = given.change_set.split(":")
    of_arn = parts[3] if parts[0] == "arn" and len(parts) > 3 else ""
    return given.region or of_arn or os.environ.get("AWS_REGION") or None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make guard", description=__doc__)
    parser.add_argument("--change-set", default="", help="ARN, or a name together with --stack")
    parser.add_argument("--stack", default="", help="the stack that the change set's name belongs to")
    parser.add_argument("--recorded", nargs="*", default=[], help="saved answers instead of AWS: files or folders")
    parser.add_argument("--allow", default=os.environ.get("ALLOW", ""), help="what may be lost, by logical id")
    parser.add_argument("--region", default="")
    return parser


if __name__ == "__main__":
    sys.exit(main())
