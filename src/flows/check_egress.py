"""The egress check: whether the outside still sees our fixed address. It runs on a schedule in each zone; the API shows
the results, and runs it on request.

Nothing here uses the database: an idle one stays paused.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from domain.checks import Check, CheckStatus, NotObserved, Observation, Observed, as_of, checked, judge, unverified
from domain.errors import ChecksUnavailable
from domain.values import value_class
from egress.check_store import CheckStore
from egress.client import Client
from egress.echo import observe
from runtime.metrics import Metric
from runtime.observability import count, count_by, logger
from runtime.settings import EgressAddress, SettingsError

NO_FIXED_ADDRESS = "this stack cannot reach the internet, and so has no fixed address"


@value_class(frozen=True, slots=False, kw_only=True)
class EgressChecks:
    """What a check needs. `addresses` are the published ones, none where the stack cannot reach the internet."""

    client: Client
    store: CheckStore
    echo_url: str
    addresses: tuple[EgressAddress, ...]
    clock: Callable[[], datetime]


@value_class(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was seen just now, from the zone that happened to serve the call: any published address is right."""

    published: tuple[str, ...]
    verdict: CheckStatus
    seen: str | None
    reason: str | None
    checked_at: datetime


def check(zone: str, *, checks: EgressChecks) -> Check:
    """Asks the echo service from `zone`; counts, logs and stores the result.

    It is counted before it is stored: the alarms do not depend on SSM. Raises SettingsError for a zone that has no
    published address, and ChecksUnavailable where the result cannot be stored.
    """
    published = _published(zone, checks.addresses)
    observation = observe(checks.client, checks.echo_url)
    result = checked(observation, published=published, previous=_previous(zone, checks=checks), now=checks.clock())
    _count(observation, result, zone=zone)
    checks.store.store(zone, result)
    return result


def shown(*, checks: EgressChecks) -> list[tuple[EgressAddress, Check]]:
    """Each published address with what is known about it. Where SSM is not available nothing is, and the reason says
    so."""
    now, addresses = checks.clock(), checks.addresses
    stored = _stored_results(now, checks=checks)
    if isinstance(stored, str):
        return [(fixed, unverified(fixed.address, reason=stored)) for fixed in addresses]
    return [(fixed, as_of(now, stored.get(fixed.availability_zone), published=fixed.address)) for fixed in addresses]


def verify(*, checks: EgressChecks) -> Verification:
    """Asks the echo service now. Stores nothing: the function may run in either zone, and does not know in which."""
    published = tuple(dict.fromkeys(fixed.address for fixed in checks.addresses))
    if not published:
        return Verification(
            published=(), verdict=CheckStatus.UNVERIFIED, seen=None, reason=NO_FIXED_ADDRESS, checked_at=checks.clock()
        )
    observation = observe(checks.client, checks.echo_url)
    verdict, reason = judge(observation, published=published)
    return Verification(
        published=published, verdict=verdict, seen=_seen(observation), reason=reason, checked_at=checks.clock()
    )


def _published(zone: str, addresses: tuple[EgressAddress, ...]) -> str:
    address = next((fixed.address for fixed in addresses if fixed.availability_zone == zone), None)
    if address is None:
        raise SettingsError(f"AVAILABILITY_ZONE must be a zone of EGRESS_ADDRESSES, '{zone}' is not")
    return address


def _previous(zone: str, *, checks: EgressChecks) -> Check | None:
    try:
        return checks.store.results([zone]).get(zone)
    except ChecksUnavailable as error:
        logger.warning("the last egress check is not available", zone=zone, reason=str(error))
        return None


def _stored_results(now: datetime, *, checks: EgressChecks) -> Mapping[str, Check] | str:
    """The stored results, or why they are not available."""
    if not checks.addresses:
        return {}
    try:
        return checks.store.cached_results([fixed.availability_zone for fixed in checks.addresses], now=now)
    except ChecksUnavailable as error:
        logger.warning("egress checks are not available", reason=str(error))
        return str(error)


def _count(observation: Observation, result: Check, *, zone: str) -> None:
    """EgressCheckFailed by every check, EgressAddressMatches by those that saw an address.

    The alarms in infra/observability.yaml rely on that: a check that failed says nothing about the address.
    """
    count_by("zone", zone)
    count(Metric.EGRESS_CHECK_FAILED, int(isinstance(observation, NotObserved)))
    if isinstance(observation, Observed):
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


def _seen(observation: Observation) -> str | None:
    return observation.address if isinstance(observation, Observed) else None
