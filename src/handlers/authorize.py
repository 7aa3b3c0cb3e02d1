"""API Gateway REQUEST authorizer: bearer token in, policy and tenant out."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from domain import errors
from flows import tokens
from handlers import wiring
from runtime.observability import logger, observed


class CallRefused(Exception):
    """API Gateway answers 401 to an authorizer whose error message is exactly this word, and 500 to any other."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


@observed()
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The policy covers the whole stage, because API Gateway caches it for the token and not for the route.

    Raises DatabaseUnavailable where it cannot be checked: API Gateway answers 503 then (a gateway response of the
    template).
    """
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    try:
        caller = tokens.check(wiring.authorize(), authorization=headers.get("authorization", ""), now=wiring.utc_now())
    except errors.Unauthorized:
        logger.info("token refused")
        raise CallRefused from None  # Lambda logs what is raised: without the cause, which says no more
    return {
        "principalId": str(caller.tenant_id),
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": _whole_stage(event["methodArn"])}
            ],
        },
        "context": {
            "tenant_id": str(caller.tenant_id),
            "token_id": str(caller.token_id),
            "scopes": " ".join(caller.scopes),
            # Left out where the token is for all destinations; ids and names have no spaces in them.
            **({} if caller.destinations is None else {"destinations": " ".join(caller.destinations)}),
        },
    }


def _whole_stage(method_arn: str) -> str:
    """`arn:aws:execute-api:region:account:api/stage/METHOD/path` -> the same for all methods and paths."""
    api, stage = method_arn.split("/")[:2]
    return f"{api}/{stage}/*"
