"""What can go wrong with a call, by what it means for the caller's request.

    GatewayError
    ├── UnknownOutcome         it may have happened: do not send it again under another key
    │   ├── AnswerLost         the gateway's own answer was lost on its way to us
    │   └── StillRunning       the attempt has not ended yet
    ├── AnswerWithheld         it has happened: the partner answered, and its answer cannot be passed on
    ├── PartnerUnreachable     nothing was sent to the partner
    ├── RequestRefused         the gateway refused the call; nothing was recorded or changed
    │   └── TokenRefused       it does not know the token
    ├── GatewayUnavailable     the gateway cannot take the call at the moment; nothing was accepted
    ├── GatewayAway            the gateway could not be reached; nothing was sent
    └── NotSallyport           whatever answers at this address is not Sallyport's API

None of them is a time-out in Python's sense, nor an error of httpx or requests: code that repeats a request after one
of those does not repeat it after an unknown outcome. One exception, in the transports alone: where nothing was sent,
the error is a connection error of the library too, because a repeat is harmless then.
"""

from collections.abc import Mapping
from typing import Any


class GatewayError(Exception):
    """The root. `may_have_happened` says whether the partner may have acted on the request."""

    may_have_happened = False

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnknownOutcome(GatewayError):
    """The request may have been carried out or not, and nobody here knows.

    Ask the partner, by `idempotency_key`, which it received; or look at the delivery. `delivery_id` is None where the
    answer that would have named it was lost: the same call under the same key leads to the same delivery.
    """

    may_have_happened = True

    def __init__(
        self,
        message: str,
        *,
        delivery_id: str | None,
        idempotency_key: str | None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.delivery_id = delivery_id
        self.idempotency_key = idempotency_key


class AnswerLost(UnknownOutcome):
    """The call was sent and the gateway's answer did not arrive. Under its idempotency key it can be repeated."""


class StillRunning(UnknownOutcome):
    """The first call under this key, or this call's own attempt, has not ended: look at the delivery."""


class AnswerWithheld(GatewayError):
    """The partner answered with `partner_status`, and its answer cannot be passed on whole."""

    may_have_happened = True

    def __init__(self, message: str, *, delivery_id: str | None, partner_status: int | None) -> None:
        super().__init__(message)
        self.delivery_id = delivery_id
        self.partner_status = partner_status


class PartnerUnreachable(GatewayError):
    """Nothing was sent to the partner: it can be sent again. `delivery_id` is the delivery that says why."""

    def __init__(self, message: str, *, delivery_id: str | None = None) -> None:
        super().__init__(message)
        self.delivery_id = delivery_id


class RequestRefused(GatewayError):
    """The gateway refused. `kind` is the last part of the problem's `type`, as docs/problems.md lists them."""

    def __init__(self, message: str, *, kind: str, status: int, members: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.members = members


class TokenRefused(RequestRefused):
    """The token was never issued, has been revoked, or is over."""


class GatewayUnavailable(GatewayError):
    """Something that the gateway needs is unavailable, or it is told to be slower. Try again later."""

    def __init__(self, message: str, *, kind: str, status: int, retry_after_seconds: float | None) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.kind = kind
        self.status = status


class GatewayAway(GatewayError):
    """No connection to the gateway came about. `layer` is the one at fault: dns, tcp, tls or address."""

    def __init__(self, message: str, *, layer: str) -> None:
        super().__init__(message)
        self.layer = layer


class NotSallyport(GatewayError):
    """What answers is something else, or its stage prefix is missing."""
