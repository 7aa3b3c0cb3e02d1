"""The allowlist that partners get: signed with the stack's own key. Nothing here uses the database."""

import base64
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from domain.allowlist import Allowlist, AllowlistedAddress, Announcement
from domain.certificates import TlsVersion
from domain.checks import Check
from domain.values import value_class
from egress.seal_keys import SealKeyRing
from egress.signing.keys import Key, signed, webhook_private_key
from flows.check_egress import EgressChecks
from runtime.settings import EgressAddress


@value_class(frozen=True, slots=True, kw_only=True)
class AllowlistSources:
    """What the document is made of. `seal_keys` raises SecretUnavailable; `ports` are those of partners."""

    checks: EgressChecks
    seal_keys: SealKeyRing
    ports: tuple[int, ...]


def allowlist(*, sources: AllowlistSources) -> Allowlist:
    """What is true now. Raises ChecksUnavailable and SecretUnavailable: a document that is signed has all of it."""
    checks = sources.checks
    now, zones = checks.clock(), [fixed.availability_zone for fixed in checks.addresses]
    stored = checks.store.cached_results(zones, now=now) if zones else {}
    return Allowlist(
        addresses=_addresses(checks.addresses, stored),
        announcement=checks.store.announcement(now=now) if zones else Announcement(),
        ports=sources.ports,
        tls_versions=tuple(version.value for version in TlsVersion),
        public_key=_key(sources).public or "",
        issued_at=now,
    )


def signature(body: bytes, *, document_id: UUID, issued_at: datetime, sources: AllowlistSources) -> Mapping[str, str]:
    """The headers of Standard Webhooks (v1a, Ed25519) over exactly these bytes. Raises SecretUnavailable."""
    identity, timestamp = str(document_id), str(int(issued_at.timestamp()))
    content = f"{identity}.{timestamp}.".encode() + body
    raw = signed(_key(sources).secret, content, algorithm="ed25519")
    return {
        "webhook-id": identity,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1a,{base64.b64encode(raw).decode()}",
    }


def _key(sources: AllowlistSources) -> Key:
    seed = sources.seal_keys.allowlist_seed
    return webhook_private_key(f"whsk_{base64.b64encode(seed).decode()}")


def _addresses(published: tuple[EgressAddress, ...], stored: Mapping[str, Check]) -> tuple[AllowlistedAddress, ...]:
    """Each address once, with all zones whose traffic leaves from it."""
    zones: dict[str, list[str]] = {}
    for fixed in published:
        zones.setdefault(fixed.address, []).append(fixed.availability_zone)
    return tuple(_address(address, tuple(names), stored) for address, names in zones.items())


def _address(address: str, zones: tuple[str, ...], stored: Mapping[str, Check]) -> AllowlistedAddress:
    checks = [stored[zone] for zone in zones if zone in stored and stored[zone].published == address]
    return AllowlistedAddress(
        address=address,
        availability_zones=zones,
        since=min((check.since for check in checks if check.since is not None), default=None),
        verified_at=max((check.verified_at for check in checks if check.verified_at is not None), default=None),
    )
