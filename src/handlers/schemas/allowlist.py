"""The body of /v1/egress/allowlist."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from flows.check_egress import NO_FIXED_ADDRESS

if TYPE_CHECKING:
    from domain.allowlist import Allowlist

OneAddress = Annotated[str, Meta(description="What to allow")]
AsRange = Annotated[str, Meta(description="The same as a range of one address")]


class AllowlistedAddressBody(Struct, frozen=True, kw_only=True):
    """An address that requests leave from now."""

    address: OneAddress
    cidr: AsRange
    availability_zones: Annotated[list[str], Meta(description="The zones whose traffic leaves from it")]
    since: Annotated[
        datetime | None,
        Meta(description="The first check of it that this stack made, a quarter of an hour after it was published"),
    ]
    last_verified_at: Annotated[datetime | None, Meta(description="When it was last seen from outside")]


class AnnouncedAddressBody(Struct, frozen=True, kw_only=True):
    """An address that requests will leave from."""

    address: OneAddress
    cidr: AsRange


class NextChangeBody(Struct, frozen=True, kw_only=True):
    """Addresses that are added. To allow them early does no harm."""

    addresses: Annotated[list[AnnouncedAddressBody], Meta(description="Those that come in addition")]
    begins_on: Annotated[date | None, Meta(description="The first day on which requests may leave from them")]


class AllowlistBody(Struct, frozen=True, kw_only=True):
    """What a partner's network team needs: the addresses that requests leave from, and what will change."""

    issued_at: Annotated[datetime, Meta(description="When this was true")]
    addresses: Annotated[list[AllowlistedAddressBody], Meta(description="All of them are in use")]
    reason: Annotated[str | None, Meta(description="Why there are none; null where there are")]
    ports: Annotated[list[int], Meta(description="The partners' TCP ports that requests may go to")]
    tls_versions: Annotated[list[str], Meta(description="The versions of TLS that requests may use")]
    contact: Annotated[str | None, Meta(description="Whom to ask")]
    next_change: Annotated[NextChangeBody | None, Meta(description="What is announced; null where nothing is")]
    public_key: Annotated[
        str, Meta(description="The stack's Ed25519 key (`whpk_`), which verifies the header `webhook-signature`")
    ]


def allowlist_body(allowlist: "Allowlist") -> AllowlistBody:
    """The document as JSON has it."""
    announced = allowlist.announcement
    return AllowlistBody(
        issued_at=allowlist.issued_at,
        addresses=[
            AllowlistedAddressBody(
                address=entry.address,
                cidr=entry.cidr,
                availability_zones=list(entry.availability_zones),
                since=entry.since,
                last_verified_at=entry.verified_at,
            )
            for entry in allowlist.addresses
        ],
        reason=None if allowlist.addresses else NO_FIXED_ADDRESS,
        ports=list(allowlist.ports),
        tls_versions=list(allowlist.tls_versions),
        contact=announced.contact,
        next_change=_next_change(announced.addresses, announced.begins_on),
        public_key=allowlist.public_key,
    )


def _next_change(addresses: tuple[str, ...], begins_on: date | None) -> NextChangeBody | None:
    if not addresses:
        return None
    bodies = [AnnouncedAddressBody(address=address, cidr=f"{address}/32") for address in addresses]
    return NextChangeBody(addresses=bodies, begins_on=begins_on)
