"""The outcome of one attempt: a value, never an exception."""

from dataclasses import field
from enum import StrEnum
from typing import assert_never

from domain.certificates import CertificateFacts
from domain.values import value_class

type Headers = tuple[tuple[str, str], ...]


@value_class(frozen=True, slots=True, kw_only=True)
class Answered:
    """The partner answered.

    `body` holds the bytes as they came over the wire (still content-encoded), at most the cap of the request;
    `complete` is False when reading stopped at the cap, which `capped` says, and where TLS ended in a way that leaves
    open whether more was to come. `secrets` are the credentials that were sent, which must not be stored where the
    partner sent them back (domain/masks.py).
    """

    status: int
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)
    complete: bool = True
    capped: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False, compare=False)


class FailedStep(StrEnum):
    """The step at which nothing could be sent: the name was not resolved; no connection was made; TLS failed, where one
    side refused the other's certificate or by other means; or what the request needs of our own was not there: an
    access token, or credentials and keys that can be used.
    """

    NAME = "name"
    CONNECTION = "connection"
    TLS_REFUSED_BY_US = "tls_refused_by_us"
    TLS_REFUSED_BY_PARTNER = "tls_refused_by_partner"
    TLS = "tls"
    TOKEN = "token"  # noqa: S105 - the name of a step
    CREDENTIALS = "credentials"


@value_class(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """Nothing of the request was sent: no address, no connection, no TLS.

    `at` is the step that failed, None where it was none of these; `towards` is the first address that a connection was
    tried to, where there was one; `shown` the certificate that the partner showed, where TLS failed after it.
    """

    reason: str
    at: FailedStep | None = field(default=None, compare=False)
    towards: str | None = field(default=None, compare=False)
    shown: CertificateFacts | None = field(default=None, compare=False)


@value_class(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The request, or some of it, was sent and no complete answer came: the partner may or may not have acted."""

    reason: str


@value_class(frozen=True, slots=True, kw_only=True)
class Refused:
    """Our own guard refused the request; nothing was sent."""

    reason: str


type Outcome = Answered | Unreachable | Unknown | Refused


class OutcomeKind(StrEnum):
    """The kinds of outcomes, as the database and the API name them."""

    ANSWERED = "answered"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    REFUSED = "refused"


def outcome_kind(outcome: Outcome) -> OutcomeKind:
    """The kind of `outcome`."""
    match outcome:
        case Answered():
            return OutcomeKind.ANSWERED
        case Unreachable():
            return OutcomeKind.UNREACHABLE
        case Unknown():
            return OutcomeKind.UNKNOWN
        case Refused():
            return OutcomeKind.REFUSED
        case _:
            assert_never(outcome)


@value_class(frozen=True, slots=True, kw_only=True)
class Timings:
    """Milliseconds since the attempt began until each step was done; None where it was not reached."""

    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float = 0.0


@value_class(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request on the wire: its outcome, how long it took, and the address it was sent to.

    `remote_address` is the address that was connected to, None where no connection was made.
    """

    outcome: Outcome
    timings: Timings = Timings()
    remote_address: str | None = None
