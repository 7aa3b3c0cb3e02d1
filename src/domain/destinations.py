"""Destinations: the third parties a tenant may call, and how."""

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from domain.auth import AuthType
from domain.ids import DestinationId, TenantId
from domain.options import PLAIN, DestinationOptions
from domain.values import value_class

MAX_TOTAL_SECONDS = 25  # a synchronous call must end before API Gateway's 29 s
MIN_TIMEOUT_SECONDS = 0.1  # a name lookup and a handshake alone take some hundredths
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110 section 9.2.2
_REFERENCE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}|[0-9A-Fa-f-]{36}")


class Guarantee(StrEnum):
    """What happens after an outcome that leaves open whether the partner acted.

    `at_least_once` tries again; `at_most_once` holds the delivery in state `unknown`, also after an answer such as 504
    that leaves it open (domain/retry.py); `auto` tries again where a repeat is harmless (an idempotent method, or a
    destination that is idempotent by its own account) and otherwise holds where no answer came.
    """

    AUTO = "auto"
    AT_LEAST_ONCE = "at_least_once"
    AT_MOST_ONCE = "at_most_once"


class RepeatRule(StrEnum):
    """After which attempts the same request may be sent again: what a guarantee means for one delivery.

    `always`: after any. `when_answered`: not after one whose request was sent and got no answer.
    `when_not_processed`: nor after an answer that leaves open whether the partner acted.
    """

    ALWAYS = "always"
    WHEN_ANSWERED = "when_answered"
    WHEN_NOT_PROCESSED = "when_not_processed"


@value_class(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines of one attempt, in seconds: to connect (with TLS), to the first byte of the answer, and in all."""

    connect_seconds: float = 5.0
    first_byte_seconds: float = 15.0
    total_seconds: float = 20.0


class DestinationState(StrEnum):
    """`active`: what is due is sent. `paused`: deliveries are accepted and wait. `disabled`: new ones are refused, and
    those that are pending wait.
    """

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class Transition(StrEnum):
    """What a token may do to a destination's state."""

    PAUSE = "pause"
    RESUME = "resume"
    DISABLE = "disable"
    ENABLE = "enable"


# By state, what may be done and which state it leads to. What leads to the same state changes nothing.
TRANSITIONS: Mapping[DestinationState, Mapping[Transition, DestinationState]] = {
    DestinationState.ACTIVE: {
        Transition.PAUSE: DestinationState.PAUSED,
        Transition.RESUME: DestinationState.ACTIVE,
        Transition.DISABLE: DestinationState.DISABLED,
        Transition.ENABLE: DestinationState.ACTIVE,
    },
    DestinationState.PAUSED: {
        Transition.PAUSE: DestinationState.PAUSED,
        Transition.RESUME: DestinationState.ACTIVE,
        Transition.DISABLE: DestinationState.DISABLED,
    },
    DestinationState.DISABLED: {
        Transition.DISABLE: DestinationState.DISABLED,
        Transition.ENABLE: DestinationState.ACTIVE,
    },
}
GONE = "partner answered 410"  # who disabled it, where no token did


@value_class(frozen=True, slots=True, kw_only=True)
class Destination:
    """A third party as an attempt needs it.

    What is secret is sealed (egress/credentials.py), each value for its purpose; None where it has none: the
    credentials, the client certificate with its key, the keys that requests are signed with.
    """

    destination_id: DestinationId
    tenant_id: TenantId
    name: str
    base_url: str
    auth_type: AuthType
    sealed_credentials: bytes | None = field(repr=False)
    guarantee: Guarantee
    idempotent: bool
    idempotency_header: str
    timeouts: Timeouts
    created_at: datetime
    options: DestinationOptions = PLAIN
    sealed_certificate: bytes | None = field(default=None, repr=False)
    sealed_signing: bytes | None = field(default=None, repr=False)


@value_class(frozen=True, slots=True, kw_only=True)
class ManagedDestination(Destination):
    """A destination as those see it who manage it. The defaults are those of a new one.

    `version` counts its changes from 1. `state_changed_by` is the id of a token, or says that the partner did it; None,
    as the time and perhaps the reason, where the state never changed. `credentials_changed_at` is None where they are
    as they were when it was created.
    """

    state: DestinationState = DestinationState.ACTIVE
    state_reason: str | None = None
    state_changed_at: datetime | None = None
    state_changed_by: str | None = None
    version: int = 1
    credentials_changed_at: datetime | None = None


def is_reference(text: str) -> bool:
    """Whether `text` has the form of a destination's name or id; database and queue do not accept arbitrary text."""
    return _REFERENCE.fullmatch(text) is not None


def repeat_rule(*, guarantee: Guarantee, idempotent: bool, method: str) -> RepeatRule:
    """The rule for a request of this method to a destination with this guarantee."""
    match guarantee:
        case Guarantee.AT_LEAST_ONCE:
            return RepeatRule.ALWAYS
        case Guarantee.AT_MOST_ONCE:
            return RepeatRule.WHEN_NOT_PROCESSED
        case Guarantee.AUTO:
            harmless = idempotent or method in IDEMPOTENT_METHODS
            return RepeatRule.ALWAYS if harmless else RepeatRule.WHEN_ANSWERED
        case _:
            assert_never(guarantee)
