"""An error in one line: what is wrong, what would be right, and whether the request may have happened."""

import httpx

from sallyport.cli.session import CommandSession
from sallyport.errors import (
    AnswerWithheld,
    GatewayAway,
    GatewayError,
    GatewayUnavailable,
    NotSallyport,
    RequestRefused,
    TokenRefused,
    UnknownOutcome,
)
from sallyport.version import VERSION

HEALTH_SECONDS = 5.0
NOTHING = "Nothing has happened."


def in_one_line(error: GatewayError, session: CommandSession) -> str:
    """For standard error."""
    said = _said(error, session).rstrip(".")
    return f"{said}. {happened(error)}"


def happened(error: GatewayError) -> str:
    """The sentence that every error ends with."""
    match error:
        case UnknownOutcome(delivery_id=None, idempotency_key=None):
            return "It may have happened: look before you repeat it."
        case UnknownOutcome(delivery_id=None, idempotency_key=key):
            return f"It may have happened: repeat it with --key {key}, which does nothing twice."
        case UnknownOutcome(delivery_id=delivery_id):
            return f"It may have happened: sallyport show {delivery_id}"
        case AnswerWithheld(delivery_id=delivery_id):
            return f"It has happened: sallyport show {delivery_id}"
        case _:
            return NOTHING


def _said(error: GatewayError, session: CommandSession) -> str:
    profile = session.profile
    match error:
        case TokenRefused():
            return (
                f"the token of profile {profile.name} was refused by {profile.url}: it was never issued, was revoked, "
                "or is over; ask an operator for another"
            )
        case RequestRefused(kind="not-found" | "method-not-allowed") if _is_about_the_path(error):
            return _no_such_call(error, profile.url)
        case RequestRefused(kind="invalid-request"):
            return f"{error}{_older(profile.url)}"
        case NotSallyport():
            return f"{error} ({profile.url})"
        case GatewayUnavailable(retry_after_seconds=seconds) if seconds is not None:
            return f"{error}; try again in {seconds:.0f} s"
        case GatewayAway():
            return str(error).removesuffix(". Nothing was sent")
        case _:
            return str(error)


def _is_about_the_path(error: RequestRefused) -> bool:
    return error.status == 405 or "nothing at this path" in str(error.members.get("detail", "")).lower()


def _no_such_call(error: RequestRefused, url: str) -> str:
    version = server_version(url)
    if version is None:
        return (
            f"there is no Sallyport at {url}: on API Gateway the URL ends with the stage, such as /prod, "
            "and behind a domain of your own or with make run it does not"
        )
    if version != VERSION:
        return f"the server runs Sallyport {version}, which does not know this call; this is sallyport {VERSION}"
    return f"{error}; the URL of the profile is {url}"


def _older(url: str) -> str:
    version = server_version(url)
    if version in (None, VERSION):
        return ""
    return f"; the server runs Sallyport {version}, and this is sallyport {VERSION}"


def server_version(url: str) -> str | None:
    """What /healthz says; None where that is not Sallyport's."""
    try:
        found = httpx.get(f"{url.rstrip('/')}/healthz", timeout=HEALTH_SECONDS).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    version = found.get("version") if isinstance(found, dict) else None
    return None if version is None else str(version)
