"""Calls that need an approval become proposals, and are made again when they have it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from aws_lambda_powertools.event_handler import Response

from domain.errors import ApprovalNeeded
from flows.approvals import propose
from handlers import wiring
from handlers.parsing import object_as_sent
from handlers.request import Request, actor_of
from handlers.schemas.proposals import proposal_body

_KEPT_HEADERS = ("content-type", "idempotency-key", "if-match")
_HIDDEN = "/v1/destinations"  # whose bodies may hold credentials


class StoredCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it was made, to the operation of `method` and `pattern`, with the `parts` of its path."""

    method: str
    pattern: str
    parts: dict[str, str]
    path: str
    stage_path: str
    host: str
    headers: list[tuple[str, str]]
    query: list[tuple[str, str]]
    body: bytes
    tenant: str
    scopes: list[str]
    token_id: str
    source_address: str | None
    destinations: list[str] | None

    def request(self, *, approval: UUID, proposed_at: datetime) -> Request:
        """The same call, approved."""
        return Request(
            method=self.method,
            path=self.path,
            stage_path=self.stage_path,
            host=self.host,
            headers=tuple(self.headers),
            query=tuple(self.query),
            body=self.body,
            tenant=self.tenant,
            scopes=frozenset(self.scopes),
            token_id=self.token_id,
            source_address=self.source_address,
            destinations=None if self.destinations is None else frozenset(self.destinations),
            approval=approval,
            proposed_at=proposed_at,
        )


def proposed(request: Request, *, pattern: str, parts: Mapping[str, str], needed: ApprovalNeeded) -> Response[Any]:
    """The answer to a call that is stored as a proposal."""
    call = StoredCall(
        method=request.method,
        pattern=pattern,
        parts=dict(parts),
        path=request.path,
        stage_path=request.stage_path,
        host=request.host,
        headers=[(name, value) for name, value in request.headers if name.lower() in _KEPT_HEADERS],
        query=list(request.query),
        body=request.body,
        tenant=request.tenant,
        scopes=sorted(request.scopes),
        token_id=request.token_id,
        source_address=request.source_address,
        destinations=None if request.destinations is None else sorted(request.destinations),
    )
    proposal = propose(
        needed.act,
        target=request.path,
        shown=_shown(request),
        call=msgspec.json.encode(call),
        tenant_id=request.tenant_id,
        actor=actor_of(request),
        services=wiring.api(),
    )
    return Response(
        status_code=202,
        content_type="application/json",
        body=msgspec.json.encode(proposal_body(proposal)).decode(),
        headers={"Location": f"{request.stage_path}/v1/proposals/{proposal.proposal_id}"},
    )


def _shown(request: Request) -> dict[str, object]:
    sent = object_as_sent(request.body) if request.body else {}
    return {"members": sorted(sent)} if request.path.startswith(_HIDDEN) else sent


def replayed(call: bytes, *, approval: UUID, proposed_at: datetime) -> tuple[StoredCall, Request]:
    """A stored call, and the request that it is made with."""
    stored = msgspec.json.decode(call, type=StoredCall)
    return stored, stored.request(approval=approval, proposed_at=proposed_at)
