"""Access tokens of OAuth 2.0, shared by all workers through the database and renewed by one of them at a time.

A claim brings the token along, so that as long as it is good no statement is added. A token is renewed before it ends:
whoever takes the renewal waits for the new one, all others go on with the old one. Where there is none that is good,
one worker fetches it, and those that need it too look for it in the database until it is there. All this happens on
threads beside the batch, whose other requests are sent meanwhile.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import field, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from db import oauth_tokens as table
from domain.auth import OAuth2Auth, OAuthClient, StoredToken
from domain.deliveries import Claim
from domain.destinations import Destination, Timeouts
from domain.errors import DatabaseUnavailable, StatementRefused, Unsealable
from domain.outcomes import FailedStep, Headers, Unreachable
from domain.values import value_class
from egress.client import OutboundRequest, PendingRequest
from egress.oauth import TIMEOUTS, FetchedToken, NoToken, token_of, token_request
from egress.seal_keys import SealKeyRing
from egress.sealing import seal, unseal
from egress.tls import RequestTls
from flows.services import Services
from runtime.isolation import isolated
from runtime.observability import logger

PURPOSE = "access_token"
WAIT_SECONDS = 8.0  # for a token, our own call or another worker's
LEASE_SECONDS = 15.0  # longer than a call takes, and than a worker waits
PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)  # between two looks for another worker's token
AGAIN_SECONDS = 30.0  # after a renewal that failed while the token is still good, and after one that did not help
RENEWED_BEFORE = 1 / 5  # of its life, and no less than this:
LEAST_RENEWED_BEFORE_SECONDS = 30.0
_MARGIN_SECONDS = 5.0  # clocks differ, and a request takes its time
IN_TIME = "none came in time"

type Complete = Callable[[Headers], OutboundRequest | Unreachable]


@value_class(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A token that can be sent. `fresh` says that it was not the one that the claim brought. Before `replaceable_from`
    a 401 leads to no other one."""

    token_id: UUID
    value: str = field(repr=False)
    fresh: bool
    replaceable_from: datetime | None = None

    def is_replaceable(self, *, now: datetime) -> bool:
        """Whether another one is fetched after a 401. One that replaced a refused one, and is refused as well, is not
        for a while: or a partner that takes no token would cost a call of the token endpoint for each batch."""
        return self.replaceable_from is None or self.replaceable_from <= now

    @property
    def headers(self) -> Headers:
        """RFC 6750 section 2.1."""
        return (("Authorization", f"Bearer {self.value}"),)


@value_class(frozen=True, slots=True, kw_only=True)
class NoAccessToken:
    """Why there is none. The text repeats no secret."""

    reason: str


@value_class(frozen=True, slots=True, kw_only=True)
class _Need:
    """What a token is needed for, and with: all of it that of one destination."""

    destination: Destination
    auth: OAuth2Auth
    tls: RequestTls | None
    owner: str
    timeouts: Timeouts
    keys: SealKeyRing

    @property
    def basis(self) -> bytes:
        """What makes a token another one."""
        destination = self.destination
        return token_basis(self.auth.client, destination.sealed_credentials, destination.sealed_certificate)


def token_basis(client: OAuthClient, credentials: bytes | None, certificate: bytes | None) -> bytes:
    """What makes a token another one: whom it is asked of, and with which secrets, as they are sealed."""
    return hashlib.sha256(repr((client, (credentials or b"", certificate or b""))).encode()).digest()


class AccessTokens:
    """Those that one batch needs. Each is asked for once, however many requests need it."""

    def __init__(self, *, keys: SealKeyRing | None, services: Services) -> None:
        self._keys = keys
        self._services = services
        self._renewals: dict[tuple[UUID, UUID | None], _Renewal] = {}

    def request(
        self, claim: Claim, auth: OAuth2Auth, *, draft: OutboundRequest, complete: Complete
    ) -> OutboundRequest | PendingRequest | Unreachable:
        """The request of `claim`, complete where there is a good token. Raises Unsealable.

        `draft` is the request without the token; `complete` makes it with the headers of the token, or says why there
        is none.
        """
        if self._keys is None:
            raise Unsealable("the seal key is not available")
        timeouts = Timeouts(
            connect_seconds=min(TIMEOUTS.connect_seconds, draft.timeouts.total_seconds),
            first_byte_seconds=min(TIMEOUTS.first_byte_seconds, draft.timeouts.total_seconds),
            total_seconds=min(TIMEOUTS.total_seconds, draft.timeouts.total_seconds),
        )
        need = _Need(
            destination=claim.destination,
            auth=auth,
            tls=draft.tls,
            owner=draft.owner,
            timeouts=timeouts,
            keys=self._keys,
        )
        now = self._services.clock()
        old = _opened(claim.token, need, fresh=False, now=now)
        if old is not None and claim.token is not None and not claim.token.needs_renewal(now=now):
            return self._completed(old, need, complete)
        instead_of = claim.token.token_id if claim.token is not None else None
        return self._pending(need, complete, draft=draft, instead_of=instead_of, old=old)

    def _completed(self, token: AccessToken, need: _Need, complete: Complete) -> OutboundRequest | Unreachable:
        """With a new token in place of one that the claim brought, should that be answered 401."""
        request = complete(token.headers)
        if token.fresh or not token.is_replaceable(now=self._services.clock()) or isinstance(request, Unreachable):
            return request
        pending = self._pending(need, complete, draft=request, instead_of=token.token_id, old=None, after_401=True)
        return replace(request, after_401=pending)

    def _pending(
        self,
        need: _Need,
        complete: Complete,
        *,
        draft: OutboundRequest,
        instead_of: UUID | None,
        old: AccessToken | None,
        after_401: bool = False,
    ) -> PendingRequest:
        def begin(callback: Callable[[OutboundRequest | Unreachable], None]) -> None:
            place = (need.destination.destination_id, instead_of)
            if place not in self._renewals:
                work = partial(
                    _obtained, need, instead_of=instead_of, old=old, after_401=after_401, services=self._services
                )
                self._renewals[place] = _Renewal(work)
            self._renewals[place].ask(lambda token: callback(self._result(token, need, complete, after_401=after_401)))

        late = _unreachable(IN_TIME, after_401=after_401)
        return PendingRequest(draft=draft, begin=begin, within_seconds=WAIT_SECONDS, late=late)

    def _result(
        self, token: AccessToken | NoAccessToken, need: _Need, complete: Complete, *, after_401: bool
    ) -> OutboundRequest | Unreachable:
        if isinstance(token, NoAccessToken):
            return _unreachable(token.reason, after_401=after_401)
        work = partial(self._completed, token, need, complete)
        return isolated(
            work,
            otherwise=lambda error: _unreachable(_fault(error), after_401=after_401),
            step="complete with an access token",
        )


class _Renewal:
    """Gets one token, on a thread of its own, for all who ask."""

    def __init__(self, work: Callable[[], AccessToken | NoAccessToken]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[AccessToken | NoAccessToken], None]] | None = None
        self._result: AccessToken | NoAccessToken | None = None

    def ask(self, callback: Callable[[AccessToken | NoAccessToken], None]) -> None:
        """Calls `callback` with the token: at once where it is there, else later on the other thread."""
        with self._lock:
            if self._result is None:
                self._begin(callback)
                return
        callback(self._result)

    def _begin(self, callback: Callable[[AccessToken | NoAccessToken], None]) -> None:
        if self._callbacks is not None:
            self._callbacks.append(callback)
            return
        self._callbacks = [callback]
        threading.Thread(target=self._run, name="access token", daemon=True).start()

    def _run(self) -> None:
        result = isolated(self._work, otherwise=lambda error: NoAccessToken(reason=_fault(error)), step="access token")
        with self._lock:
            self._result = result
            callbacks = self._callbacks or []
        for callback in callbacks:
            callback(result)


def _obtained(
    need: _Need, *, instead_of: UUID | None, old: AccessToken | None, after_401: bool, services: Services
) -> AccessToken | NoAccessToken:
    """A token other than `instead_of`, or where that is not to be had now the `old` one, which is still good."""
    try:
        return _renewed(need, instead_of=instead_of, old=old, after_401=after_401, services=services)
    except (DatabaseUnavailable, StatementRefused) as error:
        logger.warning("no access token", destination_id=str(need.destination.destination_id), reason=str(error))
        return old or NoAccessToken(reason=str(error))


def _renewed(
    need: _Need, *, instead_of: UUID | None, old: AccessToken | None, after_401: bool, services: Services
) -> AccessToken | NoAccessToken:
    """Fetches the token or waits for another worker that does. Raises DatabaseUnavailable and StatementRefused."""
    destination_id = need.destination.destination_id
    renewal_id, awaited = services.new_id(services.clock()), None
    for pause_seconds in PAUSES_SECONDS:
        now = services.clock()
        until = now + timedelta(seconds=LEASE_SECONDS)
        found = table.take(
            services.database, destination_id, renewal_id=renewal_id, instead_of=instead_of, until=until, now=now
        )
        if found is not None and found.ours:
            return _fetched(need, renewal_id=renewal_id, old=old, after_401=after_401, services=services)
        if found is not None:
            token = _opened(found.token, need, fresh=True, now=now)
            if token is not None and token.token_id != instead_of:
                return token
            if found.failed_renewal_id is not None and found.failed_renewal_id == awaited:
                return NoAccessToken(reason=str(found.failure))
            awaited, instead_of = found.renewal_id, found.token.token_id if found.token is not None else None
        if old is not None:
            return old
        services.sleep(pause_seconds)
    return NoAccessToken(reason="another worker is fetching one, and has not finished")


def _fetched(
    need: _Need, *, renewal_id: UUID, old: AccessToken | None, after_401: bool, services: Services
) -> AccessToken | NoAccessToken:
    """The renewal is ours."""
    now = services.clock()
    request = token_request(need.auth, owner=need.owner, tls=need.tls, assertion_id=str(renewal_id), now=now)
    (exchange,) = services.client.send_all([replace(request, timeouts=need.timeouts)])
    token = token_of(exchange, secrets=request.secrets)
    if isinstance(token, NoToken):
        return _failed(need, token, renewal_id=renewal_id, old=old, services=services)

    def store() -> None:
        stored = _stored(token, need, token_id=renewal_id, after_401=after_401, asked_at=now)
        table.store(services.database, need.destination.destination_id, stored, renewal_id=renewal_id)

    isolated(store, otherwise=lambda _: None, step="store an access token")
    return AccessToken(token_id=renewal_id, value=token.access_token, fresh=True)


def _failed(
    need: _Need, failure: NoToken, *, renewal_id: UUID, old: AccessToken | None, services: Services
) -> AccessToken | NoAccessToken:
    destination_id = need.destination.destination_id
    logger.warning("no access token", destination_id=str(destination_id), reason=failure.reason)
    again_at = services.clock() + timedelta(seconds=AGAIN_SECONDS)
    table.fail(services.database, destination_id, renewal_id=renewal_id, failure=failure.reason, again_at=again_at)
    return old or NoAccessToken(reason=failure.reason)


def _stored(token: FetchedToken, need: _Need, *, token_id: UUID, after_401: bool, asked_at: datetime) -> StoredToken:
    life = token.lasts_seconds
    renewed_before = min(max(life * RENEWED_BEFORE, LEAST_RENEWED_BEFORE_SECONDS), life / 2)
    return StoredToken(
        token_id=token_id,
        sealed_token=seal(
            token.access_token.encode(),
            purpose=PURPOSE,
            destination_id=need.destination.destination_id,
            key=need.keys.sealing,
        ),
        basis=need.basis,
        usable_until=asked_at + timedelta(seconds=life - min(_MARGIN_SECONDS, life / 10)),
        renew_at=asked_at + timedelta(seconds=life - renewed_before),
        renewing_until=None,
        replaceable_from=asked_at + timedelta(seconds=AGAIN_SECONDS) if after_401 else None,
    )


def _opened(stored: StoredToken | None, need: _Need, *, fresh: bool, now: datetime) -> AccessToken | None:
    """The token, where there is one that is good."""
    if stored is None or not stored.is_usable(basis=need.basis, now=now):
        return None
    if stored.sealed_token is None or stored.token_id is None:
        return None
    try:
        keys = need.keys.opening(stored.sealed_token)
        value = unseal(stored.sealed_token, purpose=PURPOSE, destination_id=need.destination.destination_id, keys=keys)
    except Unsealable:  # by another key: a new token takes its place
        return None
    return AccessToken(
        token_id=stored.token_id, value=value.decode(), fresh=fresh, replaceable_from=stored.replaceable_from
    )


def _unreachable(reason: str, *, after_401: bool) -> Unreachable:
    """A 401 says that nothing was done, so what follows it is as if nothing had been sent."""
    if after_401:
        reason = f"the partner answered 401, and there is no new access token: {reason}"
        return Unreachable(reason=reason, at=FailedStep.TOKEN)
    return Unreachable(reason=f"no access token: {reason}; nothing was sent", at=FailedStep.TOKEN)


def _fault(error: Exception) -> str:
    return f"a fault of the gateway itself ({type(error).__name__})"
