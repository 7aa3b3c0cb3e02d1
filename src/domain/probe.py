"""Verifying a destination: one harmless request, and what its end says about the way to the partner."""

from dataclasses import dataclass
from enum import StrEnum

from domain.outcomes import Answered, Exchange, Refused, Unknown

PROBE_METHOD = "OPTIONS"
PROBE_METHOD_WITH_PATH = "GET"
DENYING_STATUSES = frozenset({401, 403, 407})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """The path that is asked for with GET, instead of OPTIONS for the base URL."""

    path: str


class ProbeResult(StrEnum):
    """How far a request came."""

    ANSWERED = "answered"
    DENIED = "denied"
    NO_ANSWER = "no_answer"
    TLS_REFUSED_BY_US = "tls_refused_by_us"
    TLS_REFUSED_BY_PARTNER = "tls_refused_by_partner"
    TLS_FAILED = "tls_failed"
    NOT_CONNECTED = "not_connected"
    NAME_NOT_RESOLVED = "name_not_resolved"
    NOT_SENT = "not_sent"


_NOT_CONNECTED = "no connection"
# How the reasons begin that egress/tls.py, egress/transfer.py and egress/addresses.py give, or end.
_BEGINNINGS = {
    "TLS: we refused": ProbeResult.TLS_REFUSED_BY_US,
    "TLS: the partner refused": ProbeResult.TLS_REFUSED_BY_PARTNER,
    "TLS:": ProbeResult.TLS_FAILED,
    _NOT_CONNECTED: ProbeResult.NOT_CONNECTED,
    "the name servers do not answer": ProbeResult.NAME_NOT_RESOLVED,
}
_UNRESOLVED = " does not resolve"


def probe_result(exchange: Exchange) -> ProbeResult:
    """What the end of the request says."""
    outcome = exchange.outcome
    match outcome:
        case Answered(status=status):
            return ProbeResult.DENIED if status in DENYING_STATUSES else ProbeResult.ANSWERED
        case Unknown():
            return ProbeResult.NO_ANSWER
        case Refused():
            return ProbeResult.NOT_SENT
    if outcome.reason.endswith(_UNRESOLVED):
        return ProbeResult.NAME_NOT_RESOLVED
    if outcome.reason.startswith(_NOT_CONNECTED) and exchange.timings.connect_ms is not None:
        return ProbeResult.TLS_FAILED  # the connection stood, and was still not one that could be used
    known = (result for beginning, result in _BEGINNINGS.items() if outcome.reason.startswith(beginning))
    return next(known, ProbeResult.NOT_SENT)
