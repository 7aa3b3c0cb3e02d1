"""Partners' credentials: sealed for the database, unsealed for one attempt, and as headers.

What is not secret of them is in the destination's options, so that it can be shown without opening a seal.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, assert_never

from domain.auth import (
    Auth,
    AuthType,
    AwsSigV4Auth,
    BasicAuth,
    BearerAuth,
    HeaderAuth,
    NoAuth,
    OAuth2Auth,
    auth_type,
)
from domain.certificates import ClientCertificate
from domain.destinations import Destination
from domain.errors import Unsealable
from domain.ids import DestinationId
from domain.options import DestinationOptions
from domain.outcomes import Headers
from egress.sealing import SealKey, seal, unseal

CERTIFICATE = "certificate"  # the purpose of its seal


def auth_headers(auth: Auth) -> Headers:
    """The headers that carry `auth`. Basic is UTF-8, as RFC 7617 section 2.1 recommends.

    Those of a signature are made last (egress/aws_signature.py), and a token of OAuth 2.0 comes from the partner.
    """
    match auth:
        case NoAuth() | OAuth2Auth():
            return ()
        case BearerAuth(token=token):
            return (("Authorization", f"Bearer {token}"),)
        case BasicAuth(username=username, password=password):
            pair = base64.b64encode(f"{username}:{password}".encode()).decode()
            return (("Authorization", f"Basic {pair}"),)
        case HeaderAuth(headers=headers):
            return headers
        case AwsSigV4Auth(session_token=session_token):
            return (("X-Amz-Security-Token", session_token),) if session_token is not None else ()
        case _:
            assert_never(auth)


def with_auth(options: DestinationOptions, auth: Auth) -> DestinationOptions:
    """`options` with what is not secret of `auth`, and nothing of another."""
    header_names = tuple(name for name, _ in auth.headers) if isinstance(auth, HeaderAuth) else None
    return replace(
        options,
        header_names=header_names,
        aws=auth.scope if isinstance(auth, AwsSigV4Auth) else None,
        oauth=auth.client if isinstance(auth, OAuth2Auth) else None,
    )


def seal_auth(auth: Auth, *, destination_id: DestinationId, key: SealKey) -> bytes | None:
    """The secret of `auth` encrypted for the row of `destination_id`; None when there is none."""
    parts = _secret_parts(auth)
    if parts is None:
        return None
    return seal(json.dumps(parts).encode(), purpose=auth_type(auth), destination_id=destination_id, key=key)


def unseal_auth(destination: Destination, *, keys: Sequence[SealKey]) -> Auth:
    """The credentials of a destination; NoAuth where it has none.

    Raises Unsealable when none of `keys` opens them, or where there is nothing to open.
    """
    sealed, kind, destination_id = destination.sealed_credentials, destination.auth_type, destination.destination_id
    if sealed is None:
        if kind is AuthType.NONE:
            return NoAuth()
        raise Unsealable(f"the credentials of destination {destination_id} are missing")
    plain = unseal(sealed, purpose=kind, destination_id=destination_id, keys=keys)
    return _auth(kind, json.loads(plain), destination.options)


def seal_certificate(certificate: ClientCertificate, *, destination_id: DestinationId, key: SealKey) -> bytes:
    """A client certificate with its key, encrypted for the row of `destination_id`."""
    plain = json.dumps([certificate.chain, certificate.key]).encode()
    return seal(plain, purpose=CERTIFICATE, destination_id=destination_id, key=key)


def unseal_certificate(destination: Destination, *, keys: Sequence[SealKey]) -> ClientCertificate | None:
    """The client certificate of a destination; None where it has none. Raises Unsealable."""
    sealed, destination_id = destination.sealed_certificate, destination.destination_id
    if sealed is None:
        return None
    chain, key = json.loads(unseal(sealed, purpose=CERTIFICATE, destination_id=destination_id, keys=keys))
    return ClientCertificate(chain=chain, key=key)


def _secret_parts(auth: Auth) -> list[str | None] | None:
    match auth:
        case NoAuth():
            return None
        case BearerAuth(token=token):
            return [token]
        case BasicAuth(username=username, password=password):
            return [username, password]
        case HeaderAuth(headers=headers):
            return [part for pair in headers for part in pair]
        case AwsSigV4Auth(secret_access_key=secret_access_key, session_token=session_token):
            return [secret_access_key, session_token]
        case OAuth2Auth(secret=secret):
            return [secret]
        case _:
            assert_never(auth)


def _auth(kind: AuthType, parts: list[Any], options: DestinationOptions) -> Auth:
    match kind:
        case AuthType.NONE:
            return NoAuth()
        case AuthType.BEARER:
            return BearerAuth(token=parts[0])
        case AuthType.BASIC:
            return BasicAuth(username=parts[0], password=parts[1])
        case AuthType.HEADER:
            return HeaderAuth(headers=tuple(zip(parts[::2], parts[1::2], strict=True)))
        case AuthType.AWS_SIGV4 if options.aws is not None:
            return AwsSigV4Auth(scope=options.aws, secret_access_key=parts[0], session_token=parts[1])
        case AuthType.OAUTH2 if options.oauth is not None:
            return OAuth2Auth(client=options.oauth, secret=parts[0])
        case AuthType.AWS_SIGV4 | AuthType.OAUTH2:
            raise Unsealable(f"what is not secret of the credentials ({kind}) is missing")
        case _:
            assert_never(kind)
