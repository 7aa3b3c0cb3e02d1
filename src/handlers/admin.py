"""For operators, by IAM invoke only: issue, list and revoke tokens; see which partners have let an address in.

{"action": "issue_token", "tenant": "acme", "scopes": ["read", "send", "manage"], "expires_at": "2027-01-31T00:00:00Z",
 "destinations": ["bank"]}
{"action": "list_tokens", "tenant": "acme"}
{"action": "revoke_token", "token_id": "..."}
{"action": "seen_from", "address": "203.0.113.11"}
"""

import secrets
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any, assert_never
from uuid import UUID

import msgspec
from aws_lambda_powertools.utilities.typing import LambdaContext

from db.sightings import DESTINATIONS_OF_A_PAGE, seen_from
from db.tenants import tokens_of
from domain.ids import RANDOM_BYTES, DestinationId, TokenId
from domain.scopes import ALL_SCOPES
from flows import tokens
from handlers import wiring
from runtime.observability import logger, observed


class IssueToken(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="issue_token"):
    """A new token; the tenant is created if it does not exist."""

    tenant: str
    scopes: list[str] = msgspec.field(default_factory=lambda: list(ALL_SCOPES))
    expires_at: datetime | None = None
    destinations: list[str] | None = None


class ListTokens(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="list_tokens"):
    """All tokens of a tenant, without their secrets."""

    tenant: str


class RevokeToken(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="revoke_token"):
    """The token is refused from now on, except for as long as API Gateway caches the authorizer's answer."""

    token_id: UUID


class SeenFrom(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="seen_from"):
    """Which destinations have answered to requests from an address, page by page: `after` is the `next` of the page
    before."""

    address: str
    after: UUID | None = None


Command = IssueToken | ListTokens | RevokeToken | SeenFrom


@observed()
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Carries out one command. Raises msgspec.ValidationError or an error of ours, which the invoker sees."""
    command = msgspec.convert(event, Command)
    match command:
        case IssueToken():
            return _issue(command)
        case ListTokens():
            return {"tokens": msgspec.to_builtins(tokens_of(wiring.admin(), tenant_name=command.tenant))}
        case RevokeToken():
            revoked_at = tokens.revoke(wiring.admin(), token_id=TokenId(command.token_id), now=wiring.utc_now())
            return {"token_id": str(command.token_id), "revoked_at": revoked_at.isoformat()}
        case SeenFrom():
            return _seen_from(command)
        case _:
            assert_never(command)


def _seen_from(command: SeenFrom) -> dict[str, Any]:
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


def _issue(command: IssueToken) -> dict[str, Any]:
    issued = tokens.issue(
        wiring.admin(),
        tokens.WantedToken(
            tenant_name=command.tenant,
            scopes=tuple(command.scopes),
            expires_at=command.expires_at,
            destinations=None if command.destinations is None else tuple(command.destinations),
        ),
        now=wiring.utc_now(),
        randomness=secrets.token_bytes(tokens.SECRET_BYTES + 2 * RANDOM_BYTES),
    )
    logger.info("token issued", token_id=str(issued.token_id), tenant=command.tenant)
    return {
        "token": issued.token,
        "token_id": str(issued.token_id),
        "tenant_id": str(issued.tenant_id),
        "scopes": list(issued.scopes),
        "expires_at": None if issued.expires_at is None else issued.expires_at.isoformat(),
        "destination_ids": issued.destination_ids and list(map(str, issued.destination_ids)),
    }
