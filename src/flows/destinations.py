"""Create, find and change destinations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit

from db import destinations
from domain.auth import Auth, AuthType, OAuth2Auth, auth_type
from domain.certificates import ClientCertificate
from domain.destinations import Guarantee, ManagedDestination, Timeouts, is_reference
from domain.errors import Fault, InvalidRequest, NotFound, Outdated, Unavailable, Unsealable
from domain.ids import DestinationId, TenantId
from domain.options import PLAIN, DestinationOptions
from domain.signing import Scheme
from domain.targets import base_url_fault
from domain.values import value_class
from egress.credentials import seal_auth, seal_certificate, unseal_auth, with_auth
from flows.approvals import need_approval_of_change
from flows.audit import Act, Actor, audited, where_done
from flows.services import Services
from flows.signing import NO_SCHEMES, WantedScheme, schemes_with_keys, sealed_keys, stored_schemes, without_expired_keys
from flows.wake_waiting import wake_waiting
from runtime.observability import logger

KEYS_LOST = "must give each scheme a key: the stored ones cannot be opened any more"
CHANGE_TRIES = 5  # of others' changes at the same time, each can make one of these fail
RETRY_AFTER_SECONDS = 1
CHANGE_WAKE_SECONDS = 10.0
# What deliveries may wait for, and what may have been why its circuit breaker opened.
FLOW_MEMBERS = frozenset({"limits", "circuit_breaker", "windows", "ordering"})
FLOW_MEMBERS |= {"base_url", "auth", "client_certificate", "tls", "timeouts"}
# By member, the options that belong to what is sealed: a change that leaves that as it is leaves these too.
OPTIONS_OF_SECRETS = {
    "auth": ("header_names", "aws", "oauth"),
    "client_certificate": ("certificate",),
    "signing": ("signing",),
}


# The members with URLs that requests go to.
BASE_URL = "/base_url"
EVENTS_TO = "/events_to"
TOKEN_URL = "/auth/token_url"  # noqa: S105 - a pointer


@value_class(frozen=True, slots=True, kw_only=True)
class NewDestination:
    """A destination that a caller asks for, its form already validated."""

    tenant_id: TenantId
    name: str
    base_url: str
    auth: Auth = field(repr=False)
    guarantee: Guarantee
    idempotent: bool
    idempotency_header: str
    timeouts: Timeouts
    options: DestinationOptions = PLAIN
    client_certificate: ClientCertificate | None = None
    signing: Sequence[WantedScheme] = ()
    events_to: str | None = None  # the name or id of the destination that is told


@value_class(frozen=True, slots=True, kw_only=True)
class SavedDestination:
    """A destination as it was stored. `texts` are the shared secrets that were made with it, by the name of their
    scheme: nobody can be told them again."""

    destination: ManagedDestination
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)


@value_class(frozen=True, slots=True, kw_only=True)
class Change:
    """What a caller makes of a destination; `members` are the names of what is different, none where nothing is.

    Of what is sealed (auth, client_certificate, signing) the new one counts only where it is among these.
    """

    new: NewDestination
    members: tuple[str, ...]


# From a destination as it is, and what returns its credentials, to what is to become of it.
type Changing = Callable[[ManagedDestination, Callable[[], Auth]], Change]


def create(new: NewDestination, *, own_host: str, actor: Actor, services: Services) -> SavedDestination:
    """Stores a destination with its credentials and signing keys sealed.

    `own_host` is the name that this API was called by, which is not a third party. Raises InvalidRequest where our
    guard would refuse every request to a URL, NameTaken, SecretUnavailable and DatabaseUnavailable.
    """
    new, told_faults = _telling(new, services=services)
    faults = [
        *url_faults(_urls(new), own_host=own_host, services=services),
        *zone_faults(_time_zones(new), services=services),
        *told_faults,
    ]
    if faults:
        raise InvalidRequest(*faults)
    saved = _sealed(new, services=services)
    destination = saved.destination
    act = Act(tenant_id=new.tenant_id, actor=actor, what="destination.created", on=destination.destination_id)
    audited(partial(destinations.insert, services.database, destination), lambda _: act, services=services)
    return saved


def url_faults(urls: Mapping[str, str], *, own_host: str, services: Services) -> Iterator[Fault]:
    """What is wrong with the URLs that requests go to, by their members: the base URL, and that of access tokens."""
    for member, url in urls.items():
        fault = services.guard.check_url(url)
        if fault is None and member == BASE_URL:
            fault = base_url_fault(url)
        if fault is None and urlsplit(url).hostname == own_host.lower():
            fault = "must not be this API itself"
        if fault is not None:
            yield Fault(field=member, detail=fault)


def _urls(new: NewDestination) -> Mapping[str, str]:
    urls = {BASE_URL: new.base_url}
    return urls | {TOKEN_URL: new.auth.client.token_url} if isinstance(new.auth, OAuth2Auth) else urls


def zone_faults(time_zones: Sequence[str], *, services: Services) -> list[Fault]:
    """Of sending windows in time zones that the database does not know: it is the one that decides when they open."""
    if not time_zones:
        return []
    unknown = destinations.unknown_zones(services.database, set(time_zones))
    return [
        Fault(field=f"/windows/{position}/time_zone", detail="must be the name of an IANA time zone")
        for position, time_zone in enumerate(time_zones)
        if time_zone in unknown
    ]


def _time_zones(new: NewDestination) -> list[str]:
    return [window.time_zone for window in new.options.windows or ()]


def events_faults(reference: str | None, *, tenant_id: TenantId, services: Services) -> list[Fault]:
    """What is wrong with the destination that is to be told."""
    if reference is None or _told(reference, tenant_id=tenant_id, services=services):
        return []
    return [Fault(field=EVENTS_TO, detail="must be the name or id of another destination")]


def _told(reference: str, *, tenant_id: TenantId, services: Services) -> ManagedDestination | None:
    if not is_reference(reference):
        return None
    return destinations.find(services.database, tenant_id=tenant_id, reference=reference)


def _telling(new: NewDestination, *, services: Services) -> tuple[NewDestination, list[Fault]]:
    """With the id of the destination that is told; and what is wrong with that."""
    if new.events_to is None:
        return new, []
    told = _told(new.events_to, tenant_id=new.tenant_id, services=services)
    if told is None:
        return new, events_faults(new.events_to, tenant_id=new.tenant_id, services=services)
    return replace(new, options=replace(new.options, events_to=told.destination_id)), []


def _told_of(current: ManagedDestination, change: Change, *, services: Services) -> tuple[NewDestination, list[Fault]]:
    """The same of a change. One that is named already stays so, though it may have been deleted."""
    if "events_to" not in change.members:
        return replace(change.new, options=replace(change.new.options, events_to=current.options.events_to)), []
    new, faults = _telling(change.new, services=services)
    if new.options.events_to == current.destination_id:
        faults = [Fault(field=EVENTS_TO, detail="must not be the destination itself")]
    return new, faults


def find(reference: str, *, tenant_id: TenantId, services: Services, deleted: bool = False) -> ManagedDestination:
    """The tenant's destination of that name or id; with `deleted` also one that was deleted, by its id. Raises
    NotFound."""
    if not is_reference(reference):
        raise NotFound("destination", reference)
    found = destinations.find(services.database, tenant_id=tenant_id, reference=reference, deleted=deleted)
    if found is None:
        raise NotFound("destination", reference)
    return found


def change(
    reference: str,
    *,
    tenant_id: TenantId,
    expected: frozenset[int] | None,
    changing: Changing,
    own_host: str,
    actor: Actor,
    services: Services,
) -> SavedDestination:
    """Changes a destination by what `changing` makes of it, which is called again where somebody else was quicker: so
    of two changes at the same time none is lost. `expected` are the versions that it may be at; None for any.

    Deliveries that are pending use the destination as it is when they are sent. Raises NotFound, Outdated, NameTaken,
    InvalidRequest, SecretUnavailable, DatabaseUnavailable, and Unavailable where others change it all the time.
    """
    for _ in range(CHANGE_TRIES):
        current = find(reference, tenant_id=tenant_id, services=services)
        if expected is not None and current.version not in expected:
            raise Outdated(version=current.version)
        wanted = changing(current, partial(_credentials, current, services=services))
        if not wanted.members:
            return SavedDestination(destination=current)
        new, told_faults = _told_of(current, wanted, services=services)
        wanted = replace(wanted, new=new)
        faults = [
            *url_faults(_urls(new), own_host=own_host, services=services),
            *zone_faults(_time_zones(new), services=services),
            *told_faults,
        ]
        if found := [fault for fault in faults if fault.field.split("/")[1] in wanted.members]:
            raise InvalidRequest(*found)
        need_approval_of_change(wanted.members, tenant_id=tenant_id, actor=actor, services=services)
        saved = _changed(current, wanted, services=services)
        act = Act(
            tenant_id=tenant_id,
            actor=actor,
            what="destination.changed",
            on=current.destination_id,
            members=wanted.members,
        )
        store = partial(destinations.change, services.database, saved.destination)
        if audited(store, where_done(act), services=services):
            if FLOW_MEMBERS.intersection(wanted.members):
                _wake(saved.destination, services=services)
            return saved
    raise Unavailable("the destination is being changed by others", retry_after_seconds=RETRY_AFTER_SECONDS)


def _wake(destination: ManagedDestination, *, services: Services) -> None:
    """Deliveries that waited for limits that have changed. It is late, not lost, what is not woken here."""
    end_at = services.clock() + timedelta(seconds=CHANGE_WAKE_SECONDS)
    try:
        wake_waiting(destination, ahead_seconds=0.0, after=None, end_at=end_at, services=services)
    except Unavailable:
        logger.exception("deliveries wait for their own messages")


def _credentials(destination: ManagedDestination, *, services: Services) -> Auth:
    """As they are stored. Raises Unsealable, and SecretUnavailable where the key cannot be fetched."""
    return unseal_auth(destination, keys=services.seal_keys.opening(destination.sealed_credentials))


def _changed(current: ManagedDestination, change: Change, *, services: Services) -> SavedDestination:
    """The next version of `current`."""
    new, destination_id = change.new, current.destination_id
    kept = (names for member, names in OPTIONS_OF_SECRETS.items() if member not in change.members)
    changed = replace(
        current,
        name=new.name,
        base_url=new.base_url,
        guarantee=new.guarantee,
        idempotent=new.idempotent,
        idempotency_header=new.idempotency_header,
        timeouts=new.timeouts,
        options=replace(new.options, **{name: getattr(current.options, name) for names in kept for name in names}),
        version=current.version + 1,
    )
    if "auth" in change.members:
        changed = replace(
            changed,
            auth_type=auth_type(new.auth),
            sealed_credentials=_sealed_auth(new.auth, destination_id, services=services),
            options=with_auth(changed.options, new.auth),
            credentials_changed_at=services.clock(),
        )
    if "client_certificate" in change.members:
        changed = replace(
            changed,
            sealed_certificate=_sealed_certificate(new.client_certificate, destination_id, services=services),
            credentials_changed_at=services.clock(),
        )
    if "signing" in change.members:
        return _signed(changed, new.signing, signing_before=current.options.signing or (), services=services)
    return SavedDestination(destination=without_expired_keys(changed, services=services))


def _signed(
    changed: ManagedDestination,
    wanted: Sequence[WantedScheme],
    *,
    signing_before: tuple[Scheme, ...],
    services: Services,
) -> SavedDestination:
    """With the schemes that are wanted; those that it has already keep their keys.

    Raises InvalidRequest where a key is to be kept that cannot be opened any more: then each scheme needs a new one.
    """
    try:
        before = replace(changed, options=replace(changed.options, signing=signing_before))
        stored = stored_schemes(before, services=services)
    except Unsealable:
        if any(one.key is None for one in wanted):
            raise InvalidRequest(Fault(field="/signing", detail=KEYS_LOST)) from None
        stored = NO_SCHEMES
    signing = schemes_with_keys(wanted, stored=stored, now=services.clock(), services=services)
    destination = replace(
        changed,
        options=replace(changed.options, signing=signing.schemes or None),
        sealed_signing=sealed_keys(signing, destination_id=changed.destination_id, services=services),
    )
    return SavedDestination(destination=destination, texts=signing.texts)


def _sealed_auth(auth: Auth, destination_id: DestinationId, *, services: Services) -> bytes | None:
    """Without credentials the key is not needed: it is fetched at its first use."""
    if auth_type(auth) is AuthType.NONE:
        return None
    return seal_auth(auth, destination_id=destination_id, key=services.seal_key)


def _sealed_certificate(
    certificate: ClientCertificate | None, destination_id: DestinationId, *, services: Services
) -> bytes | None:
    if certificate is None:
        return None
    return seal_certificate(certificate, destination_id=destination_id, key=services.seal_key)


def _sealed(new: NewDestination, *, services: Services) -> SavedDestination:
    now = services.clock()
    destination_id = DestinationId(services.new_id(now))
    certificate = new.client_certificate
    signing = schemes_with_keys(new.signing, stored=NO_SCHEMES, now=now, services=services)
    destination = ManagedDestination(
        destination_id=destination_id,
        tenant_id=new.tenant_id,
        name=new.name,
        base_url=new.base_url,
        auth_type=auth_type(new.auth),
        sealed_credentials=_sealed_auth(new.auth, destination_id, services=services),
        guarantee=new.guarantee,
        idempotent=new.idempotent,
        idempotency_header=new.idempotency_header,
        timeouts=new.timeouts,
        created_at=now,
        options=with_auth(replace(new.options, signing=signing.schemes or None), new.auth),
        sealed_certificate=_sealed_certificate(certificate, destination_id, services=services),
        sealed_signing=sealed_keys(signing, destination_id=destination_id, services=services),
    )
    return SavedDestination(destination=destination, texts=signing.texts)
