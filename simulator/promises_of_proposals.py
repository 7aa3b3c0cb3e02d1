"""The promises of proposals (docs/api.md, "Approvals"): what needs four eyes has them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from simulator.trace import Broken

if TYPE_CHECKING:
    from simulator.promises import Facts

OPEN_FOR_SECONDS = 86_400
PREFIX = "proposal:"


def four_eyes(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md, "Approvals": such a job is made at most once, and only when another token approved it in time."""
    if not facts.evidence.four_eyes:
        return
    proposals = {str(row["proposal_id"]): row for row in facts.evidence.proposals}
    made = Counter(
        row["idempotency_key"].removeprefix(PREFIX)
        for row in facts.evidence.jobs
        if row["expected"]  # for others nobody else is needed
    )
    for name, count in made.items():
        if (proposal := proposals.get(name)) is None:
            yield Broken(promise="four eyes", text=f"a job of the key {name} was made without a proposal")
        elif count > 1:
            yield Broken(promise="four eyes", text=f"{count} jobs were made of one proposal")
        elif (why := _why_not(proposal)) is not None:
            yield Broken(promise="four eyes", text=f"a job was made {why}")


def _why_not(proposal: Mapping[str, Any]) -> str | None:
    """Why it must not have been made; None where it may."""
    if proposal["state"] not in ("approved", "done", "failed"):
        return f"of a proposal that is {proposal['state']}"
    if proposal["decided_by"] == proposal["created_by"]:
        return "approved by the token that had proposed it"
    if (proposal["decided_at"] - proposal["created_at"]).total_seconds() >= OPEN_FOR_SECONDS:
        return "approved when the proposal had expired"
    return None


def decided_proposals_hold_no_call(facts: "Facts") -> Iterator[Broken]:
    """docs/api.md, "Approvals": the call, which may hold credentials, is deleted when the proposal is decided."""
    for proposal in facts.evidence.proposals:
        decided = proposal["state"] in ("done", "failed", "rejected")
        if decided and proposal["sealed_request"] is not None:
            text = f"a proposal that is {proposal['state']} still holds the call"
            yield Broken(promise="decided proposals hold no call", text=text)


PROMISES_OF_PROPOSALS = (four_eyes, decided_proposals_hold_no_call)
