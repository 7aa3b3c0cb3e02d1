"""Sallyport's client: `Sallyport` and `AsyncSallyport` for the API, and what sends a partner's SDK through the gateway.

The transports are in `sallyport.httpx_transport` and `sallyport.requests_adapter`; docs/client.md shows both.
"""

from sallyport.client import AsyncSallyport, Sallyport
from sallyport.errors import (
    AnswerLost,
    AnswerWithheld,
    GatewayAway,
    GatewayError,
    GatewayUnavailable,
    NotSallyport,
    PartnerUnreachable,
    RequestRefused,
    StillRunning,
    TokenRefused,
    UnknownOutcome,
)
from sallyport.keys import new_key, under_key
from sallyport.version import VERSION

__all__ = [
    "VERSION",
    "AnswerLost",
    "AnswerWithheld",
    "AsyncSallyport",
    "GatewayAway",
    "GatewayError",
    "GatewayUnavailable",
    "NotSallyport",
    "PartnerUnreachable",
    "RequestRefused",
    "Sallyport",
    "StillRunning",
    "TokenRefused",
    "UnknownOutcome",
    "new_key",
    "under_key",
]
