"""Partners' credentials: their kinds, sealed for the database and unsealed for one attempt, and as headers."""

import base64
import json
from collections.abc import Sequence
from typing import assert_never

from domain.destinations import Auth, AuthType, BasicAuth, BearerAuth, HeaderAuth, NoAuth
from domain.errors import Unsealable
from domain.ids import DestinationId
from domain.outcomes import Headers
from egress.sealing import SealKey, seal, unseal


def auth_type(auth: Auth) -> AuthType:
    """The kind of `auth`, as the API and the database name it."""
    match auth:
        case NoAuth():
            return AuthType.NONE
        case BearerAuth():
            return AuthType.BEARER
        case BasicAuth():
            return AuthType.BASIC
        case HeaderAuth():
            return AuthType.HEADER
        case _:
            assert_never(auth)


def auth_headers(auth: Auth) -> Headers:
    """The headers that carry `auth`. Basic is UTF-8, as RFC 7617 section 2.1 recommends."""
    match auth:
        case NoAuth():
            return ()
        case BearerAuth(token=token):
            return (("Authorization", f"Bearer {token}"),)
        case BasicAuth(username=username, password=password):
            pair = base64.b64encode(f"{username}:{password}".encode()).decode()
            return (("Authorization", f"Basic {pair}"),)
        case HeaderAuth(name=name, value=value):
            return ((name, value),)
        case _:
            assert_never(auth)


def seal_auth(auth: Auth, *, destination_id: DestinationId, key: SealKey) -> bytes | None:
    """`auth` encrypted for the row of `destination_id`; None when there are none."""
    plain = _plain(auth)
    return None if plain is None else seal(plain, purpose=auth_type(auth), destination_id=destination_id, key=key)


def unseal_auth(
    sealed: bytes | None, *, auth_type: AuthType, destination_id: DestinationId, keys: Sequence[SealKey]
) -> Auth:
    """The credentials that `seal_auth` was given, for the same row; NoAuth for None where `auth_type` is none.

    Raises Unsealable when none of `keys` opens it, or where there is nothing to open.
    """
    if sealed is None:
        if auth_type is AuthType.NONE:
            return NoAuth()
        raise Unsealable(f"the credentials of destination {destination_id} are missing")
    return _auth(auth_type, unseal(sealed, purpose=auth_type, destination_id=destination_id, keys=keys))


def _plain(auth: Auth) -> bytes | None:
    match auth:
        case NoAuth():
            return None
        case BearerAuth(token=token):
            parts = [token]
        case BasicAuth(username=username, password=password):
            parts = [username, password]
        case HeaderAuth(name=name, value=value):
            parts = [name, value]
        case _:
            assert_never(auth)
    return json.dumps(parts).encode()


def _auth(kind: AuthType, plain: bytes) -> Auth:
    parts = json.loads(plain)
    match kind:
        case AuthType.NONE:
            return NoAuth()
        case AuthType.BEARER:
            return BearerAuth(token=parts[0])
        case AuthType.BASIC:
            return BasicAuth(username=parts[0], password=parts[1])
        case AuthType.HEADER:
            return HeaderAuth(name=parts[0], value=parts[1])
        case _:
            assert_never(kind)
