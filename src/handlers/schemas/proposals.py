"""The bodies of /v1/proposals."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from domain.proposals import Proposal, ProposalState
from handlers.schemas.common import CreatedAt, Cursor


class ProposalBody(Struct, frozen=True, kw_only=True):
    """An act that waits for the approval of another token, or what came of it."""

    proposal_id: Annotated[UUID, Meta(description="The proposal's id")]
    act: Annotated[str, Meta(description="What is proposed, such as delivery.resolve")]
    target: Annotated[str, Meta(description="The path of the call that is proposed")]
    request: Annotated[
        dict[str, Any],
        Meta(description="Its body; of a destination's only the names of its members, as they may hold credentials"),
    ]
    state: Annotated[
        ProposalState,
        Meta(
            description="open: waits. approved: is being carried out. done, failed: was carried out, or refused then. "
            "rejected, expired: was not carried out"
        ),
    ]
    created_at: CreatedAt
    created_by: Annotated[str, Meta(description="The id of the token that proposed it")]
    expires_at: Annotated[datetime, Meta(description="Until when it can be approved")]
    decided_at: Annotated[datetime | None, Meta(description="When it was approved or rejected; null until then")]
    decided_by: Annotated[str | None, Meta(description="The id of the token that decided; null until then")]


class ApprovedBody(Struct, frozen=True, kw_only=True):
    """What came of an approved act: the answer that the call would have had, which is shown this once."""

    proposal: Annotated[ProposalBody, Meta(description="The proposal as it is now")]
    status: Annotated[int, Meta(ge=100, le=599, description="The status of that answer")]
    answer: Annotated[dict[str, Any], Meta(description="Its body; a problem where it was refused")]


class ProposalsBody(Struct, frozen=True):
    """A page of proposals, newest first."""

    proposals: Annotated[list[ProposalBody], Meta(description="The proposals of this page")]
    next_cursor: Cursor


def proposal_body(proposal: Proposal) -> ProposalBody:
    """What is shown of a proposal."""
    return ProposalBody(
        proposal_id=proposal.proposal_id,
        act=proposal.act,
        target=proposal.target,
        request=dict(proposal.request),
        state=proposal.state,
        created_at=proposal.created_at,
        created_by=proposal.created_by,
        expires_at=proposal.expires_at,
        decided_at=proposal.decided_at,
        decided_by=proposal.decided_by,
    )
