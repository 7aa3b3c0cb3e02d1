"""Does the outside still see our fixed address? Asked on a schedule in each zone; shown, and asked again, by the API.

Nothing here knows of the database: an idle one stays paused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from domain.checks import Check, CheckStatus, NotObserved, Observation, Observed, as_of, checked, judge, unverified
from domain.errors import ChecksUnavailable
from egress.check_store import CheckStore
from egress.client import Client
from egress.echo import observe
from runtime.metrics import Metric
from runtime.observability import count, count_by, logger
from runtime.settings import EgressAddress, SettingsError

NO_FIXED_ADDRESS = "this stack has no way to the internet, and so no fixed address"


@dataclass(frozen=True, kw_only=True)
class EgressChecks:
    """What a check works with. `addresses` are the published ones, none where there is no way to the internet."""

    client: Client
    store: CheckStore
    echo_url: str
    addresses: tuple[EgressAddress, ...]
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was seen just now, from the zone that happened to serve the call: any published address is right there."""

    published: tuple[str, ...]
    verdict: CheckStatus
    seen: str | None
    reason: str | None
    checked_at: datetime


def check(zone: str, *, checks: EgressChecks) -> Check:
    """Asks the echo service from `zone`, counts and logs what it says, and keeps it.

    The counts are made before anything is kept: an alarm needs no SSM. Raises SettingsError for a zone that has no
    published address, and ChecksUnavailable where the result cannot be kept.
    """
    published = _published(zone, checks.addresses)
    found = observe(checks.client, checks.echo_url)
    result = checked(found, published=published, previous=_previous(zone, checks=checks), now=checks.clock())
    _count(found, result, zone=zone)
    checks.store.store(zone, result)
    return result


def shown(*, checks: EgressChecks) -> list[tuple[EgressAddress, Check]]:
    """Each published address with what is known about it. Where SSM is out of reach nothing is, and the reason says
    so.
    """
    now, addresses = checks.clock(), checks.addresses
    kept = _lately(now, checks=checks)
    if isinstance(kept, str):
        return [(item, unverified(item.address, reason=kept)) for item in addresses]
    return [(item, as_of(now, kept.get(item.availability_zone), published=item.address)) for item in addresses]


def verify(*, checks: EgressChecks) -> Verified:
    """Asks the echo service now. Keeps nothing: the zone is not known to a function that may run in either."""
    published = tuple(dict.fromkeys(item.address for item in checks.addresses))
    if not published:
        return Verified(
            published=(), verdict=CheckStatus.UNVERIFIED, seen=None, reason=NO_FIXED_ADDRESS, checked_at=checks.clock()
        )
    found = observe(checks.client, checks.echo_url)
    verdict, reason = judge(found, published=published)
    return Verified(published=published, verdict=verdict, seen=_seen(found), reason=reason, checked_at=checks.clock())


def _published(zone: str, addresses: tuple[EgressAddress, ...]) -> str:
    found = next((item.address for item in addresses if item.availability_zone == zone), None)
    if found is None:
        raise SettingsError(f"AVAILABILITY_ZONE must be a zone of EGRESS_ADDRESSES, '{zone}' is none")
    return found


def _previous(zone: str, *, checks: EgressChecks) -> Check | None:
    try:
        return checks.store.results([zone]).get(zone)
    except ChecksUnavailable as error:
        logger.warning("last egress check is out of reach", zone=zone, reason=str(error))
        return None


def _lately(now: datetime, *, checks: EgressChecks) -> Mapping[str, Check] | str:
    """What is kept, or in words why nobody knows."""
    if not checks.addresses:
        return {}
    try:
        return checks.store.cached_results([item.availability_zone for item in checks.addresses], now=now)
    except ChecksUnavailable as error:
        logger.warning("egress checks are out of reach", reason=str(error))
        return str(error)


def _count(found: Observation, result: Check, *, zone: str) -> None:
    """EgressCheckFailed by every check, EgressAddressMatches by those that saw an address.

    The alarms in infra/observability.yaml lean on that: a check that failed says nothing about the address.
    """
    count_by("zone", zone)
    count(Metric.EGRESS_CHECK_FAILED, int(isinstance(found, NotObserved)))
    if isinstance(found, Observed):
        count(Metric.EGRESS_ADDRESS_MATCHES, int(result.verdict is CheckStatus.MATCHES))
    log = logger.info if result.verdict is CheckStatus.MATCHES else logger.error
    log(
        "egress address checked",
        zone=zone,
        verdict=result.verdict,
        published=result.published,
        seen=result.seen,
        reason=result.reason,
    )


def _seen(found: Observation) -> str | None:
    return found.address if isinstance(found, Observed) else None
