"""For operators, by IAM invoke only: issue, list and revoke tokens.

{"action": "issue_token", "tenant": "acme", "scopes": ["read", "send", "manage"]}
{"action": "list_tokens", "tenant": "acme"}
{"action": "revoke_token", "token_id": "..."}
"""

import secrets
from typing import Any, assert_never
from uuid import UUID

import msgspec
from aws_lambda_powertools.utilities.typing import LambdaContext

from db.tenants import tokens_of
from domain.ids import RANDOM_BYTES, TokenId
from domain.scopes import ALL_SCOPES
from flows import tokens
from handlers import wiring
from runtime.observability import logger, observed


class IssueToken(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="issue_token"):
    """A new token; the tenant is created if it does not exist."""

    tenant: str
    scopes: list[str] = msgspec.field(default_factory=lambda: list(ALL_SCOPES))


class ListTokens(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="list_tokens"):
    """All tokens of a tenant, without their secrets."""

    tenant: str


class RevokeToken(msgspec.Struct, forbid_unknown_fields=True, tag_field="action", tag="revoke_token"):
    """The token is refused from now on, except for as long as API Gateway caches the authorizer's answer."""

    token_id: UUID


Command = IssueToken | ListTokens | RevokeToken


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
        case _:
            assert_never(command)


def _issue(command: IssueToken) -> dict[str, Any]:
    issued = tokens.issue(
        wiring.admin(),
        tenant_name=command.tenant,
        scopes=tuple(command.scopes),
        now=wiring.utc_now(),
        randomness=secrets.token_bytes(tokens.SECRET_BYTES + 2 * RANDOM_BYTES),
    )
    logger.info("token issued", token_id=str(issued.token_id), tenant=command.tenant)
    return {
        "token": issued.token,
        "token_id": str(issued.token_id),
        "tenant_id": str(issued.tenant_id),
        "scopes": list(issued.scopes),
    }
