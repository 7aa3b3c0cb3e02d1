"""The bodies of /v1/egress."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from domain.checks import Check, CheckStatus
from flows.check_egress import NO_FIXED_ADDRESS, Verification
from runtime.settings import EgressAddress

EgressReason = Annotated[str | None, Meta(description="What is wrong, in words; null when nothing is")]
Judgement = Annotated[
    CheckStatus,
    Meta(
        description="matches: seen from outside. differs: another address was seen. failed: the echo service "
        "gave no answer. unverified: there is no recent result"
    ),
]
SeenAddress = Annotated[str | None, Meta(description="Where our request came from, as the echo service saw it")]


class EgressAddressBody(Struct, frozen=True, kw_only=True):
    """A fixed address, and what the last check of it found. Zones with one NAT gateway share their address.

    `unverified` says that there is no recent result for this address; `failed` that the echo service gave no answer,
    which says nothing about the address.
    """

    availability_zone: Annotated[str, Meta(description="The zone whose traffic leaves from this address")]
    address: Annotated[str, Meta(description="What partners allowlist")]
    verdict: Judgement
    seen_address: SeenAddress
    reason: EgressReason
    last_checked_at: Annotated[datetime | None, Meta(description="When this address was last checked")]
    last_verified_at: Annotated[datetime | None, Meta(description="When this address was last seen from outside")]


class EgressBody(Struct, frozen=True):
    """The addresses that partners must allowlist; none where the stack cannot reach the internet."""

    addresses: Annotated[list[EgressAddressBody], Meta(description="One entry per Availability Zone")]
    reason: Annotated[str | None, Meta(description="Why there are none; null where there are")]


class VerifiedEgressBody(Struct, frozen=True, kw_only=True):
    """What the echo service saw just now. `matches` says that it is one of `addresses`."""

    addresses: Annotated[list[str], Meta(description="All published addresses, each once")]
    verdict: Judgement
    seen_address: SeenAddress
    reason: EgressReason
    checked_at: Annotated[datetime, Meta(description="When the echo service was asked")]


def egress_body(shown: Iterable[tuple[EgressAddress, Check]]) -> EgressBody:
    """The fixed addresses with what is known about each."""
    addresses = [
        EgressAddressBody(
            availability_zone=fixed.availability_zone,
            address=fixed.address,
            verdict=check.verdict,
            seen_address=check.seen,
            reason=check.reason,
            last_checked_at=check.checked_at,
            last_verified_at=check.verified_at,
        )
        for fixed, check in shown
    ]
    return EgressBody(addresses=addresses, reason=None if addresses else NO_FIXED_ADDRESS)


def verified_egress_body(verification: Verification) -> VerifiedEgressBody:
    """What was seen just now."""
    return VerifiedEgressBody(
        addresses=list(verification.published),
        verdict=verification.verdict,
        seen_address=verification.seen,
        reason=verification.reason,
        checked_at=verification.checked_at,
    )
