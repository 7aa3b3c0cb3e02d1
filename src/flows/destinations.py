"""Create and look up destinations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from db import destinations
from domain.auth import Auth, AuthType, OAuth2Auth, auth_type
from domain.certificates import ClientCertificate
from domain.destinations import Guarantee, ManagedDestination, Timeouts, is_reference
from domain.errors import Fault, InvalidRequest, NotFound
from domain.ids import DestinationId, TenantId
from domain.options import PLAIN, DestinationOptions
from domain.targets import base_url_fault
from egress.credentials import seal_auth, seal_certificate, with_auth
from flows.audit import Act, Actor, note_act
from flows.services import Services
from flows.signing import NO_SCHEMES, WantedScheme, schemes_with_keys, sealed_keys


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedDestination:
    """A destination as it was stored. `texts` are the shared secrets that were made with it, by the name of their
    scheme: nobody can be told them again."""

    destination: ManagedDestination
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)


def create(new: NewDestination, *, own_host: str, actor: Actor, services: Services) -> SavedDestination:
    """Stores a destination with its credentials and signing keys sealed.

    `own_host` is the name that this API was called by, which is not a third party. Raises InvalidRequest where our
    guard would refuse every request to a URL, NameTaken, SecretUnavailable and DatabaseUnavailable.
    """
    faults = list(_url_faults(new, own_host=own_host, services=services))
    if faults:
        raise InvalidRequest(*faults)
    saved = _sealed(new, services=services)
    destination = saved.destination
    destinations.insert(services.database, destination)
    act = Act(tenant_id=new.tenant_id, actor=actor, what="destination.created", on=destination.destination_id)
    note_act(act, services=services)
    return saved


def _url_faults(new: NewDestination, *, own_host: str, services: Services) -> Iterator[Fault]:
    """Of the URLs that requests go to: the base URL, and that of access tokens."""
    urls = {"/base_url": new.base_url}
    if isinstance(new.auth, OAuth2Auth):
        urls["/auth/token_url"] = new.auth.client.token_url
    for member, url in urls.items():
        fault = services.guard.check_url(url)
        if fault is None and member == "/base_url":
            fault = base_url_fault(url)
        if fault is None and urlsplit(url).hostname == own_host.lower():
            fault = "must not be this API itself"
        if fault is not None:
            yield Fault(field=member, detail=fault)


def find(reference: str, *, tenant_id: TenantId, services: Services) -> ManagedDestination:
    """The tenant's destination of that name or id. Raises NotFound."""
    if not is_reference(reference):
        raise NotFound("destination", reference)
    destination = destinations.find(services.database, tenant_id=tenant_id, reference=reference)
    if destination is None:
        raise NotFound("destination", reference)
    return destination


def _sealed(new: NewDestination, *, services: Services) -> SavedDestination:
    now = services.clock()
    destination_id = DestinationId(services.new_id(now))
    kind = auth_type(new.auth)
    # Without secrets the key is not needed: it is fetched at its first use.
    secret = (
        None if kind is AuthType.NONE else seal_auth(new.auth, destination_id=destination_id, key=services.seal_key)
    )
    certificate = new.client_certificate
    sealed_certificate = (
        None
        if certificate is None
        else seal_certificate(certificate, destination_id=destination_id, key=services.seal_key)
    )
    signing = schemes_with_keys(new.signing, stored=NO_SCHEMES, now=now, services=services)
    destination = ManagedDestination(
        destination_id=destination_id,
        tenant_id=new.tenant_id,
        name=new.name,
        base_url=new.base_url,
        auth_type=kind,
        sealed_credentials=secret,
        guarantee=new.guarantee,
        idempotent=new.idempotent,
        idempotency_header=new.idempotency_header,
        timeouts=new.timeouts,
        created_at=now,
        options=with_auth(replace(new.options, signing=signing.schemes or None), new.auth),
        sealed_certificate=sealed_certificate,
        sealed_signing=sealed_keys(signing, destination_id=destination_id, services=services),
    )
    return SavedDestination(destination=destination, texts=signing.texts)
