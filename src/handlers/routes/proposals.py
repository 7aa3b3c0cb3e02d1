"""/v1/proposals: acts that wait for the approval of another token."""

import json
from typing import Any

from aws_lambda_powertools.event_handler import Response

from db import proposals as table
from domain.errors import SallyportError, Unavailable
from domain.ids import ProposalId
from domain.proposals import Proposal
from domain.scopes import MANAGE, READ
from flows import approvals as flow
from handlers import wiring
from handlers.answers import fitting
from handlers.operations import Operation, OperationResponse, as_json, new_router, serves
from handlers.paging import CURSOR, LIMIT, cursor_of, limit_of, next_cursor
from handlers.problems import problem_of, respond
from handlers.proposing import replayed
from handlers.request import Request, actor_of, uuid_of
from handlers.routes import view_of
from handlers.schemas.proposals import ApprovedBody, ProposalBody, ProposalsBody, proposal_body

router = new_router()

SHOWN = OperationResponse(description="The proposal", body=ProposalBody)
REFUSED_FROM = 400  # the first status that says that a call was refused


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/proposals",
        summary="List proposals, newest first",
        scope=READ,
        parameters=(LIMIT, CURSOR),
        responses={200: OperationResponse(description="A page of proposals", body=ProposalsBody)},
    ),
)
def list_proposals(request: Request) -> Response[Any]:
    """Keyset pagination."""
    services, limit, before = wiring.api(), limit_of(request), cursor_of(request)
    found = table.page(
        services.database,
        tenant_id=request.tenant_id,
        before=None if before is None else ProposalId(before),
        limit=limit + 1,
        now=services.clock(),
    )
    shown = fitting([proposal_body(proposal) for proposal in found[:limit]])
    following = next_cursor([proposal.proposal_id for proposal in found], limit=len(shown))
    return as_json(200, ProposalsBody(shown, following))


@serves(
    router,
    Operation(
        method="GET",
        path="/v1/proposals/<proposal_id>",
        summary="Show a proposal",
        scope=READ,
        responses={200: SHOWN},
        problems=("not-found",),
    ),
)
def show_proposal(request: Request, proposal_id: str) -> Response[Any]:
    """As it is now."""
    return as_json(200, proposal_body(_found(request, proposal_id)))


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/proposals/<proposal_id>/approve",
        summary="Approve a proposal",
        description="By another token than the one that made it. The proposed call is made now, and its answer is in "
        "this one. Where it could not be made because something was unavailable, the same token approves once more.",
        scope=MANAGE,
        responses={200: OperationResponse(description="What came of it", body=ApprovedBody)},
        problems=("not-found", "same-token", "wrong-state"),
    ),
)
def approve(request: Request, proposal_id: str) -> Response[Any]:
    """Carries it out."""
    services, proposal = wiring.api(), _found(request, proposal_id)
    call = flow.approve(proposal, actor=actor_of(request), services=services)
    stored, made = replayed(call, approval=proposal.proposal_id, proposed_at=proposal.created_at)
    answer = _answer(made, stored.method, stored.pattern, stored.parts)
    flow.finish(proposal, done=answer.status_code < REFUSED_FROM, services=services)
    shown = ApprovedBody(
        proposal=proposal_body(_found(request, proposal_id)),
        status=answer.status_code,
        answer=json.loads(answer.body or "{}"),
    )
    return as_json(200, shown)


def _answer(made: Request, method: str, pattern: str, parts: dict[str, str]) -> Response[Any]:
    """Raises Unavailable, so that it can be tried again; all else that it is refused for is its answer."""
    try:
        return view_of(method, pattern)(made, **parts)
    except Unavailable:
        raise
    except SallyportError as error:
        return respond(problem_of(error))


@serves(
    router,
    Operation(
        method="POST",
        path="/v1/proposals/<proposal_id>/reject",
        summary="Reject a proposal",
        description="It is not carried out. The token that made it can take it back by this.",
        scope=MANAGE,
        responses={200: SHOWN},
        problems=("not-found", "wrong-state"),
    ),
)
def reject(request: Request, proposal_id: str) -> Response[Any]:
    """Ends it."""
    flow.reject(_found(request, proposal_id), actor=actor_of(request), services=wiring.api())
    return as_json(200, proposal_body(_found(request, proposal_id)))


def _found(request: Request, proposal_id: str) -> Proposal:
    wanted = ProposalId(uuid_of(proposal_id, noun="proposal"))
    return flow.find(wanted, tenant_id=request.tenant_id, services=wiring.api())
