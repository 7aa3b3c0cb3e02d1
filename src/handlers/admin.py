"""For operators, by IAM invoke only. Each change is an entry of the audit log.

{"action": "create_tenant", "tenant": "acme"}
{"action": "list_tenants", "after": "acme"}
{"action": "issue_token", "tenant": "acme", "scopes": ["read", "send", "manage"], "expires_at": "2027-01-31T00:00:00Z",
 "destinations": ["bank"]}
{"action": "list_tokens", "tenant": "acme"}
{"action": "revoke_token", "token_id": "..."}
{"action": "verify_audit", "tenant": "acme"}
{"action": "seen_from", "address": "203.0.113.11"}
{"action": "set_approvals", "tenant": "acme", "above": 100}
"""

import secrets
from collections.abc import Callable
from datetime import datetime
from functools import partial
from ipaddress import IPv4Address
from typing import Annotated, Any
from uuid import UUID

import msgspec
from aws_lambda_powertools.utilities.typing import LambdaContext

from db import tenants
from db.proposals import set_approvals
from db.sightings import DESTINATIONS_OF_A_PAGE, seen_from
from domain.audit import STACK, Detail
from domain.errors import NotFound
from domain.ids import RANDOM_BYTES, DestinationId, TenantId, TokenId
from domain.scopes import ALL_SCOPES
from flows import tokens
from flows.audit import OPERATOR, Act, Actor, audited, where_done
from flows.audit_chain import verified
from handlers import wiring
from runtime.observability import logger, observed

TENANTS_OF_A_PAGE = 100
LEAST_SECONDS = 15.0  # a page of entries may take ten, where the database is busy


class CreateTenant(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="create_tenant"):
    """A tenant without a token; nothing changes where there is one of that name."""

    tenant: str


class ListTenants(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="list_tenants"):
    """All tenants by name, page by page: `after` is the `next` of the page before."""

    after: str = ""


class IssueToken(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="issue_token"):
    """A new token; the tenant is created if it does not exist."""

    tenant: str
    scopes: list[str] = msgspec.field(default_factory=lambda: list(ALL_SCOPES))
    expires_at: datetime | None = None
    destinations: list[str] | None = None


class ListTokens(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="list_tokens"):
    """All tokens of a tenant, oldest first and without their secrets, page by page: `after` is the `next` of the page
    before."""

    tenant: str
    after: UUID | None = None


class RevokeToken(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="revoke_token"):
    """The token is refused from now on, except for as long as API Gateway caches the authorizer's answer."""

    token_id: UUID


class VerifyAudit(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="verify_audit"):
    """Checks the audit log of a tenant, or without one that of the stack, behind the entry `after`."""

    tenant: str | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=10**18)] = 0


class SeenFrom(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="seen_from"):
    """Which destinations have answered to requests from an address, page by page: `after` is the `next` of the page
    before."""

    address: str
    after: UUID | None = None


class SetApprovals(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="set_approvals"):
    """From now on a tenant wants a second token's approval for replays and cancellations of more than `above`
    deliveries, and for other acts (docs/api.md, "Approvals"). None ends that."""

    tenant: str
    above: Annotated[int, msgspec.Meta(ge=0, le=2_147_483_647)] | None


Command = CreateTenant | ListTenants | IssueToken | ListTokens | RevokeToken | VerifyAudit | SeenFrom | SetApprovals


@observed()
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Carries out one command. Raises msgspec.ValidationError or an error of ours, which the invoker sees."""
    command = msgspec.convert(event, Command)
    return _DOES[type(command)](command, context)


def _create_tenant(command: CreateTenant, context: LambdaContext) -> dict[str, Any]:
    tokens.check_name(command.tenant)
    services = wiring.operators()
    now = services.clock()
    tenant_id = TenantId(services.new_id(now))
    act = _act(context, tenant_id, "tenant.created", on=tenant_id, details={"name": command.tenant})
    made = audited(
        lambda: tenants.create(services.database, tenant_id=tenant_id, name=command.tenant, now=now),
        lambda made: act if made.tenant_id == tenant_id else None,
        services=services,
    )
    return dict(msgspec.to_builtins(made))


def _list_tenants(command: ListTenants, _: LambdaContext) -> dict[str, Any]:
    page = tenants.page(wiring.admin(), after=command.after, limit=TENANTS_OF_A_PAGE)
    return {
        "tenants": msgspec.to_builtins(page),
        "next": page[-1].name if len(page) == TENANTS_OF_A_PAGE else None,
    }


def _issue(command: IssueToken, context: LambdaContext) -> dict[str, Any]:
    services = wiring.operators()
    wanted = tokens.WantedToken(
        tenant_name=command.tenant,
        scopes=tuple(command.scopes),
        expires_at=command.expires_at,
        destinations=None if command.destinations is None else tuple(command.destinations),
    )
    now, randomness = services.clock(), secrets.token_bytes(tokens.SECRET_BYTES + 2 * RANDOM_BYTES)
    issued = audited(
        lambda: tokens.issue(services.database, wanted, now=now, randomness=randomness),
        partial(_issued, context),
        services=services,
    )
    logger.info("token issued", token_id=str(issued.token_id), tenant=command.tenant)
    expires_at = None if issued.expires_at is None else issued.expires_at.isoformat()
    destination_ids = None if issued.destination_ids is None else list(map(str, issued.destination_ids))
    return {
        "token": issued.token,
        "token_id": str(issued.token_id),
        "tenant_id": str(issued.tenant_id),
        "scopes": list(issued.scopes),
        "expires_at": expires_at,
        "destination_ids": destination_ids,
    }


def _issued(context: LambdaContext, issued: tokens.IssuedToken) -> Act:
    details: dict[str, Detail] = {
        "scopes": " ".join(issued.scopes),
        "expires_at": None if issued.expires_at is None else issued.expires_at.isoformat(),
        "destinations": None if issued.destination_ids is None else " ".join(map(str, issued.destination_ids)),
    }
    return _act(context, issued.tenant_id, "token.issued", on=issued.token_id, details=details)


def _list_tokens(command: ListTokens, _: LambdaContext) -> dict[str, Any]:
    after = None if command.after is None else TokenId(command.after)
    page = tenants.tokens_of(wiring.admin(), tenant_name=command.tenant, after=after)
    return {
        "tokens": msgspec.to_builtins(page),
        "next": str(page[-1].token_id) if len(page) == tenants.TOKENS_OF_A_PAGE else None,
    }


def _revoke(command: RevokeToken, context: LambdaContext) -> dict[str, Any]:
    services, token_id = wiring.operators(), TokenId(command.token_id)
    now = services.clock()

    def revoke() -> tuple[datetime, TenantId | None]:
        return (
            tokens.revoke(services.database, token_id=token_id, now=now),
            tenants.tenant_of(services.database, token_id),
        )

    def act_of(revoked: tuple[datetime, TenantId | None]) -> Act | None:
        revoked_at, tenant_id = revoked
        is_new = tenant_id is not None and revoked_at == now
        return _act(context, tenant_id, "token.revoked", on=token_id) if is_new and tenant_id is not None else None

    revoked_at, _ = audited(revoke, act_of, services=services)
    return {"token_id": str(command.token_id), "revoked_at": revoked_at.isoformat()}


def _verify_audit(command: VerifyAudit, context: LambdaContext) -> dict[str, Any]:
    tenant_id = STACK
    if command.tenant is not None:
        tenant = tenants.find(wiring.admin(), name=command.tenant)
        if tenant is None:
            raise NotFound("tenant", command.tenant)
        tenant_id = tenant.tenant_id

    def has_time() -> bool:
        return context.get_remaining_time_in_millis() > LEAST_SECONDS * 1000

    found = verified(wiring.admin(), tenant_id, after=command.after, has_time=has_time)
    if found.fault is not None:
        logger.error("the audit log was changed", tenant_id=str(tenant_id), fault=found.fault)
    return {
        "tenant_id": str(tenant_id),
        "verified_to": found.sequence,
        "hash": found.hash.hex(),
        "fault": found.fault,
        "next": None if found.is_all or found.fault is not None else found.sequence,
    }


def _seen_from(command: SeenFrom, _: LambdaContext) -> dict[str, Any]:
    try:
        address = IPv4Address(command.address)
    except ValueError as error:
        raise msgspec.ValidationError(f"address must be an IPv4 address: {error}") from None
    after = None if command.after is None else DestinationId(command.after)
    found = seen_from(wiring.admin(), address=address, after=after)
    return {
        "address": str(address),
        "destinations": msgspec.to_builtins(found),
        "next": str(found[-1].destination_id) if len(found) == DESTINATIONS_OF_A_PAGE else None,
    }


def _set_approvals(command: SetApprovals, context: LambdaContext) -> dict[str, Any]:
    services = wiring.operators()
    tenant = tenants.find(services.database, name=command.tenant)
    if tenant is None:
        raise NotFound("tenant", command.tenant)
    act = _act(context, tenant.tenant_id, "tenant.approvals_set", on=tenant.tenant_id, details={"above": command.above})
    audited(
        lambda: set_approvals(services.database, tenant_name=command.tenant, above=command.above),
        where_done(act),
        services=services,
    )
    return {"tenant": command.tenant, "above": command.above}


def _act(
    context: LambdaContext, tenant_id: TenantId, what: str, *, on: UUID, details: dict[str, Detail] | None = None
) -> Act:
    """The id of the invocation leads to who made it, in CloudTrail."""
    actor = Actor(by=f"{OPERATOR}:{context.aws_request_id}")
    return Act(tenant_id=tenant_id, actor=actor, what=what, on=on, details=details or {})


_DOES: dict[type[Command], Callable[[Any, LambdaContext], dict[str, Any]]] = {
    CreateTenant: _create_tenant,
    ListTenants: _list_tenants,
    IssueToken: _issue,
    ListTokens: _list_tokens,
    RevokeToken: _revoke,
    VerifyAudit: _verify_audit,
    SeenFrom: _seen_from,
    SetApprovals: _set_approvals,
}
