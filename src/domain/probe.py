"""Verifying a destination: one harmless request, and what its end says about the way to the partner."""

from collections.abc import Mapping
from enum import StrEnum
from typing import assert_never

from domain.outcomes import Answered, FailedStep, Outcome, Refused, Unknown, Unreachable
from domain.values import value_class

PROBE_METHOD = "OPTIONS"
PROBE_METHOD_WITH_PATH = "GET"
DENYING_STATUSES = frozenset({401, 403, 407})


@value_class(frozen=True, slots=True, kw_only=True)
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
    NO_ACCESS_TOKEN = "no_access_token"  # noqa: S105 - the name of a result
    CREDENTIALS_UNUSABLE = "credentials_unusable"
    REFUSED_BY_GUARD = "refused_by_guard"
    NOT_SENT = "not_sent"


_FAILED: Mapping[FailedStep | None, ProbeResult] = {
    FailedStep.NAME: ProbeResult.NAME_NOT_RESOLVED,
    FailedStep.CONNECTION: ProbeResult.NOT_CONNECTED,
    FailedStep.TLS_REFUSED_BY_US: ProbeResult.TLS_REFUSED_BY_US,
    FailedStep.TLS_REFUSED_BY_PARTNER: ProbeResult.TLS_REFUSED_BY_PARTNER,
    FailedStep.TLS: ProbeResult.TLS_FAILED,
    FailedStep.TOKEN: ProbeResult.NO_ACCESS_TOKEN,
    FailedStep.CREDENTIALS: ProbeResult.CREDENTIALS_UNUSABLE,
    None: ProbeResult.NOT_SENT,
}


def probe_result(outcome: Outcome) -> ProbeResult:
    """What the end of the request says."""
    match outcome:
        case Answered(status=status):
            return ProbeResult.DENIED if status in DENYING_STATUSES else ProbeResult.ANSWERED
        case Unknown():
            return ProbeResult.NO_ANSWER
        case Refused():
            return ProbeResult.REFUSED_BY_GUARD
        case Unreachable(at=step):
            return _FAILED[step]
        case _:
            assert_never(outcome)
