"""Proposals: acts that wait for the approval of another token."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from domain.ids import ProposalId, TenantId
from domain.values import value_class

OPEN_FOR_SECONDS = 86_400
MOST_OPEN = 100  # proposals of a tenant at once


class ProposalState(StrEnum):
    """`open -> approved -> done | failed`, or from `open` to `rejected` or `expired`. What is `approved` is being
    carried out, or whoever approved it stopped before it was."""

    OPEN = "open"
    APPROVED = "approved"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Decision(StrEnum):
    """What another token does with a proposal."""

    APPROVE = "approve"
    REJECT = "reject"


PROPOSAL_POSSIBLE: Mapping[ProposalState, tuple[str, ...]] = {
    ProposalState.OPEN: ("approve", "reject"),
    ProposalState.APPROVED: (),
    ProposalState.DONE: (),
    ProposalState.FAILED: (),
    ProposalState.REJECTED: (),
    ProposalState.EXPIRED: (),
}


@value_class(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An act that somebody proposed: `act` on `target`, which is the path of the call. `request` is what others may see
    of its body: no credentials. `created_by` and `decided_by` are ids of tokens.
    """

    proposal_id: ProposalId
    tenant_id: TenantId
    act: str
    target: str
    request: Mapping[str, object]
    state: ProposalState
    created_at: datetime
    created_by: str
    expires_at: datetime
    decided_at: datetime | None = None
    decided_by: str | None = None
