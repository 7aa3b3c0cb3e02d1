"""What a partner's network team needs to let our requests in, and what will change."""

from datetime import date, datetime

from domain.values import value_class


@value_class(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What the operator published: whom to ask, and addresses that come later. `begins_on` is the day on which requests
    may begin to leave from `addresses`; it is None, and they are empty, while no change is announced."""

    contact: str | None = None
    addresses: tuple[str, ...] = ()
    begins_on: date | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class AllowlistedAddress:
    """An address that requests leave from now.

    `since` is the first check of it that this stack made, None before that; `verified_at` the last time that it was
    seen from outside, None where it never was.
    """

    address: str
    availability_zones: tuple[str, ...]
    since: datetime | None
    verified_at: datetime | None

    @property
    def cidr(self) -> str:
        """The range that has this one IPv4 address, as firewalls take it."""
        return f"{self.address}/32"


@value_class(frozen=True, slots=True, kw_only=True)
class Allowlist:
    """All of it at `issued_at`. `public_key` (whpk_...) verifies the document's signature."""

    addresses: tuple[AllowlistedAddress, ...]
    announcement: Announcement
    ports: tuple[int, ...]
    tls_versions: tuple[str, ...]
    public_key: str
    issued_at: datetime
