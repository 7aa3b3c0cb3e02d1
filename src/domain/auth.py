"""How we authenticate to a partner: the kinds of credentials, each with its secret and what may be shown of it."""

from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from domain.outcomes import Headers
from domain.values import value_class


class AuthType(StrEnum):
    """The kinds of credentials, as the API and the database name them."""

    NONE = "none"
    BEARER = "bearer"
    BASIC = "basic"
    HEADER = "header"
    AWS_SIGV4 = "aws_sigv4"
    OAUTH2 = "oauth2"


class ClientAuthentication(StrEnum):
    """How a client authenticates to a token endpoint, by the names of IANA's registry (OAuth Token Endpoint
    Authentication Methods)."""

    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 - a name
    CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105 - a name
    PRIVATE_KEY_JWT = "private_key_jwt"
    TLS_CLIENT_AUTH = "tls_client_auth"


class AssertionAlgorithm(StrEnum):
    """How a client's assertion is signed, by the names of IANA's registry (JSON Web Signature Algorithms)."""

    RS256 = "RS256"
    PS256 = "PS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


@value_class(frozen=True, slots=True, kw_only=True)
class AwsScope:
    """What a signature of AWS Signature Version 4 is for, and by which access key."""

    region: str
    service: str
    access_key_id: str


@value_class(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """A client of OAuth 2.0 client credentials (RFC 6749 section 4.4), without its secret.

    `parameters` are sent to the token endpoint besides `scope` and `audience`. `algorithm`, `key_id` and
    `assertion_audience` are those of private_key_jwt (RFC 7523); without an audience that is the token_url.
    """

    token_url: str
    client_id: str
    client_authentication: ClientAuthentication
    scope: str | None = None
    audience: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    algorithm: AssertionAlgorithm | None = None
    key_id: str | None = None
    assertion_audience: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class NoAuth:
    """The partner needs no credentials."""


@value_class(frozen=True, slots=True, kw_only=True)
class BearerAuth:
    """`Authorization: Bearer <token>` (RFC 6750)."""

    token: str = field(repr=False)


@value_class(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """`Authorization: Basic ...` (RFC 7617)."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@value_class(frozen=True, slots=True, kw_only=True)
class HeaderAuth:
    """Headers of the partner's own, such as `X-Api-Key`: one or several, of different names."""

    headers: Headers = field(repr=False)


@value_class(frozen=True, slots=True, kw_only=True)
class AwsSigV4Auth:
    """AWS Signature Version 4. `session_token` belongs to temporary credentials."""

    scope: AwsScope
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@value_class(frozen=True, slots=True, kw_only=True)
class OAuth2Auth:
    """OAuth 2.0 client credentials. `secret` is the client's: a text, a private key in PEM, or "" where it
    authenticates with its certificate."""

    client: OAuthClient
    secret: str = field(repr=False)


type Auth = NoAuth | BearerAuth | BasicAuth | HeaderAuth | AwsSigV4Auth | OAuth2Auth


@value_class(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """An access token as the database has it, and who renews it.

    `basis` is a hash over what it was asked for with; a token of another basis is of no use any more. `usable_until`
    is a little before it ends, `renew_at` when a new one is to be fetched. A worker fetches one until
    `renewing_until`. All but that are None before the first. `replaceable_from` is when a 401 leads to another one,
    where that is not at once.
    """

    token_id: UUID | None
    sealed_token: bytes | None = field(repr=False)
    basis: bytes | None
    usable_until: datetime | None
    renew_at: datetime | None
    renewing_until: datetime | None
    replaceable_from: datetime | None = None

    def is_usable(self, *, basis: bytes, now: datetime) -> bool:
        """Whether it is a token for that basis, and has not ended."""
        return self.basis == basis and self.usable_until is not None and now < self.usable_until

    def needs_renewal(self, *, now: datetime) -> bool:
        """Whether a new one is due, and nobody is fetching it."""
        due = self.renew_at is None or self.renew_at <= now
        return due and (self.renewing_until is None or self.renewing_until <= now)


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
        case AwsSigV4Auth():
            return AuthType.AWS_SIGV4
        case OAuth2Auth():
            return AuthType.OAUTH2
        case _:
            assert_never(auth)
