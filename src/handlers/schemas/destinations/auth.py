"""`auth`: the credentials of a destination."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, assert_never

from msgspec import UNSET, Meta, Struct, UnsetType

from domain.auth import (
    AssertionAlgorithm,
    Auth,
    AuthType,
    AwsScope,
    AwsSigV4Auth,
    BasicAuth,
    BearerAuth,
    ClientAuthentication,
    HeaderAuth,
    NoAuth,
    OAuth2Auth,
    OAuthClient,
)
from domain.destinations import Destination
from domain.errors import Fault
from domain.outcomes import Headers
from egress.assertions import key_fault
from egress.certificates import PemFault, key_pem, private_key
from handlers.schemas.destinations.fields import FIELD_NAME, IS_HEADER, Secret, reserved, secret_faults

MOST_HEADERS = 10
MOST_PARAMETERS = 20
_ASCII = re.compile(r"[ -~]*")
_SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")  # RFC 6749 section 3.3
# What a token request says by itself (RFC 6749, RFC 7523).
_PARAMETERS_OF_OURS = frozenset(
    {
        *("grant_type", "scope", "audience", "client_id", "client_secret"),
        *("client_assertion", "client_assertion_type"),
    }
)
_BY_KEY = ClientAuthentication.PRIVATE_KEY_JWT
_BY_SECRET = frozenset({ClientAuthentication.CLIENT_SECRET_BASIC, ClientAuthentication.CLIENT_SECRET_POST})

Text = Annotated[str, Meta(min_length=1, max_length=2048)]
PrivateKey = Annotated[str, Meta(min_length=1, max_length=8192, extra_json_schema={"writeOnly": True})]
HeaderName = Annotated[str, Meta(pattern=FIELD_NAME, extra=IS_HEADER, description="The header's name")]
Region = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9-]{1,40}$(?!\n)",
        extra={"must": "a Region of AWS: 1 to 40 lower-case letters, digits and hyphens"},
        description="The Region that the signature is for",
    ),
]
Service = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9-]{1,40}$(?!\n)",
        extra={"must": "a service of AWS: 1 to 40 lower-case letters, digits and hyphens"},
        description="The service that the signature is for, such as execute-api",
    ),
]
AccessKeyId = Annotated[
    str,
    Meta(
        pattern=r"^\w{16,128}$(?!\n)",
        extra={"must": "an access key id of AWS: 16 to 128 letters, digits and underscores"},
        description="Of the access key that signs",
    ),
]
TokenUrl = Annotated[str, Meta(max_length=2048, description="The token endpoint; through the same guard as requests")]
ClientId = Annotated[
    str, Meta(min_length=1, max_length=2048, description="What the token endpoint knows the client by")
]
Method = Annotated[ClientAuthentication, Meta(description="How the client authenticates to the token endpoint")]
Scope = Annotated[
    Text, Meta(description="What the token is to be good for, separated by blanks (RFC 6749 section 3.3)")
]
Audience = Annotated[Text, Meta(description="The parameter audience of the token request")]
Parameters = Annotated[
    dict[Annotated[str, Meta(max_length=200)], Annotated[str, Meta(max_length=2000)]],
    Meta(max_length=MOST_PARAMETERS, description="Further parameters of the token request; not secret"),
]
Algorithm = Annotated[AssertionAlgorithm, Meta(description="How the client's assertion is signed")]
KeyId = Annotated[Text, Meta(description="The kid of the client's assertion")]
AssertionAudience = Annotated[Text, Meta(description="The aud of the client's assertion; the token_url without it")]


class NoAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="none"):
    """No credentials."""


class BearerAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="bearer"):
    """`Authorization: Bearer ...`"""

    token: Annotated[Secret, Meta(description="The token after `Bearer`")]


class BasicAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="basic"):
    """`Authorization: Basic ...`"""

    username: Annotated[Secret, Meta(description="Without a colon")]
    password: Annotated[Secret, Meta(description="The part after the colon")]


class HeaderPairBody(Struct, frozen=True, forbid_unknown_fields=True):
    """One of several headers."""

    name: HeaderName
    value: Annotated[Secret, Meta(description="The header's value")]


class HeaderAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="header"):
    """Headers of the partner's own: one by `name` and `value`, or several as `headers`."""

    name: HeaderName | UnsetType = UNSET
    value: Annotated[Secret, Meta(description="The header's value")] | UnsetType = UNSET
    headers: Annotated[
        list[HeaderPairBody] | UnsetType,
        Meta(description="Up to ten headers, instead of `name` and `value`"),
    ] = UNSET


class AwsSigV4AuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="aws_sigv4"):
    """A signature of AWS Signature Version 4."""

    region: Region
    service: Service
    access_key_id: AccessKeyId
    secret_access_key: Annotated[Secret, Meta(description="Of the access key that signs")]
    session_token: Annotated[Secret, Meta(description="Of temporary credentials")] | UnsetType = UNSET


class OAuth2AuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="oauth2"):
    """An access token by OAuth 2.0 client credentials, fetched and renewed by Sallyport."""

    token_url: TokenUrl
    client_id: ClientId
    client_authentication: Method = ClientAuthentication.CLIENT_SECRET_BASIC
    client_secret: (
        Annotated[Secret, Meta(description="With client_secret_basic and client_secret_post")] | UnsetType
    ) = UNSET
    private_key: Annotated[PrivateKey, Meta(description="In PEM, with private_key_jwt")] | UnsetType = UNSET
    passphrase: Annotated[Secret, Meta(description="Of an encrypted private key. It is not stored")] | UnsetType = UNSET
    algorithm: Algorithm | UnsetType = UNSET
    key_id: KeyId | UnsetType = UNSET
    assertion_audience: AssertionAudience | UnsetType = UNSET
    scope: Scope | UnsetType = UNSET
    audience: Audience | UnsetType = UNSET
    parameters: Parameters = {}


AuthBody = NoAuthBody | BearerAuthBody | BasicAuthBody | HeaderAuthBody | AwsSigV4AuthBody | OAuth2AuthBody


class HeaderNameBody(Struct, frozen=True):
    """A header that carries credentials, without its value."""

    name: HeaderName


class AuthTypeBody(Struct, frozen=True, kw_only=True):
    """The kind of credentials, and what is not secret of them."""

    type: Annotated[AuthType, Meta(description="Which kind they are")]
    headers: Annotated[list[HeaderNameBody], Meta(description="The headers that carry them")] | UnsetType = UNSET
    region: Region | UnsetType = UNSET
    service: Service | UnsetType = UNSET
    access_key_id: AccessKeyId | UnsetType = UNSET
    token_url: TokenUrl | UnsetType = UNSET
    client_id: ClientId | UnsetType = UNSET
    client_authentication: Method | UnsetType = UNSET
    algorithm: Algorithm | UnsetType = UNSET
    key_id: KeyId | UnsetType = UNSET
    assertion_audience: AssertionAudience | UnsetType = UNSET
    scope: Scope | UnsetType = UNSET
    audience: Audience | UnsetType = UNSET
    parameters: Parameters | UnsetType = UNSET


def faults(body: AuthBody, at: str = "/auth", *, has_certificate: bool = False) -> list[Fault]:
    """Credentials become header values, so they are judged as such; no fault repeats the value.

    `has_certificate` says that the destination has a client certificate.
    """
    match body:
        case NoAuthBody():
            return []
        case BearerAuthBody(token=token):
            return secret_faults({f"{at}/token": token})
        case BasicAuthBody(username=username, password=password):
            colon = [Fault(field=f"{at}/username", detail="must not contain ':' (RFC 7617)")] if ":" in username else []
            return [*colon, *secret_faults({f"{at}/username": username, f"{at}/password": password})]
        case HeaderAuthBody():
            return list(_of_headers(body, at))
        case AwsSigV4AuthBody():
            return list(_of_aws(body, at))
        case OAuth2AuthBody():
            return [*_of_oauth(body, at, has_certificate=has_certificate), *_of_secrets(body, at)]
        case _:
            assert_never(body)


def domain(body: AuthBody) -> Auth:
    """The credentials, once `faults` found none."""
    match body:
        case NoAuthBody():
            return NoAuth()
        case BearerAuthBody(token=token):
            return BearerAuth(token=token)
        case BasicAuthBody(username=username, password=password):
            return BasicAuth(username=username, password=password)
        case HeaderAuthBody():
            return HeaderAuth(headers=_headers(body))
        case AwsSigV4AuthBody():
            scope = AwsScope(region=body.region, service=body.service, access_key_id=body.access_key_id)
            return AwsSigV4Auth(
                scope=scope, secret_access_key=body.secret_access_key, session_token=_given(body.session_token)
            )
        case OAuth2AuthBody():
            return OAuth2Auth(client=_client(body), secret=_oauth_secret(body))
        case _:
            assert_never(body)


def shown(destination: Destination) -> AuthTypeBody:
    """What the API shows of a destination's credentials."""
    options = destination.options
    members: dict[str, Any] = {}
    if options.header_names is not None:
        members = {"headers": [HeaderNameBody(name=name) for name in options.header_names]}
    elif options.aws is not None:
        members = _public(options.aws)
    elif options.oauth is not None:
        members = _public(options.oauth)
    return AuthTypeBody(type=destination.auth_type, **members)


def whole(credentials: Auth) -> dict[str, Any]:
    """The credentials as they would be sent again, secrets and all: never for an answer."""
    match credentials:
        case NoAuth():
            return {"type": "none"}
        case BearerAuth(token=token):
            return {"type": "bearer", "token": token}
        case BasicAuth(username=username, password=password):
            return {"type": "basic", "username": username, "password": password}
        case HeaderAuth(headers=((name, value),)):
            return {"type": "header", "name": name, "value": value}
        case HeaderAuth(headers=headers):
            return {"type": "header", "headers": [{"name": name, "value": value} for name, value in headers]}
        case AwsSigV4Auth():
            secrets = {"secret_access_key": credentials.secret_access_key, "session_token": credentials.session_token}
            return {"type": "aws_sigv4", **_public(credentials.scope), **_without_nones(secrets)}
        case OAuth2Auth(client=client, secret=secret):
            member = "private_key" if client.client_authentication is _BY_KEY else "client_secret"
            return {"type": "oauth2", **_public(client), **({member: secret} if secret else {})}
        case _:
            assert_never(credentials)


def _public(part: AwsScope | OAuthClient) -> dict[str, Any]:
    """What is not secret of credentials, as it is sent and shown."""
    members = _without_nones({name: getattr(part, name) for name in part.__dataclass_fields__})
    return members | {"parameters": dict(part.parameters)} if isinstance(part, OAuthClient) else members


def _without_nones(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def header_names(body: AuthBody) -> frozenset[str]:
    """The headers that carry the credentials, in lower case."""
    match body:
        case NoAuthBody():
            return frozenset()
        case HeaderAuthBody():
            return frozenset(name.lower() for name, _ in _headers(body))
        case AwsSigV4AuthBody():
            return frozenset({"authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"})
        case _:
            return frozenset({"authorization"})


def _headers(body: HeaderAuthBody) -> Headers:
    """As they are sent; what is missing is left out."""
    if body.headers is not UNSET:
        return tuple((header.name, header.value) for header in body.headers)
    return ((body.name, body.value),) if body.name is not UNSET and body.value is not UNSET else ()


def _of_headers(body: HeaderAuthBody, at: str) -> Iterator[Fault]:
    singles = {"name": body.name, "value": body.value}
    if body.headers is not UNSET:
        for name in (name for name, given in singles.items() if given is not UNSET):
            yield Fault(field=f"{at}/{name}", detail="must be left out where there is headers")
        if not 1 <= len(body.headers) <= MOST_HEADERS:
            yield Fault(field=f"{at}/headers", detail=f"must have 1 to {MOST_HEADERS} headers")
        for number, header in enumerate(body.headers):
            yield from _of_header(header.name, header.value, f"{at}/headers/{number}")
            if header.name.lower() in {other.name.lower() for other in body.headers[:number]}:
                yield Fault(field=f"{at}/headers/{number}/name", detail="must differ from the names of the others")
        return
    for name in (name for name, given in singles.items() if given is UNSET):
        yield Fault(field=f"{at}/{name}", detail="is missing; or give headers instead of name and value")
    for name, value in _headers(body):
        yield from _of_header(name, value, at)


def _of_header(name: str, value: str, at: str) -> Iterator[Fault]:
    fault = None if name.lower() == "authorization" else reserved(name)
    if fault:
        yield Fault(field=f"{at}/name", detail=fault)
    yield from secret_faults({f"{at}/value": value})


def _of_aws(body: AwsSigV4AuthBody, at: str) -> Iterator[Fault]:
    for name in ("secret_access_key", "session_token"):
        if not _ASCII.fullmatch(_given(getattr(body, name)) or ""):
            yield Fault(field=f"{at}/{name}", detail="must be ASCII without control characters")


def _of_oauth(body: OAuth2AuthBody, at: str, *, has_certificate: bool) -> Iterator[Fault]:
    if not _ASCII.fullmatch(body.client_id):
        yield Fault(field=f"{at}/client_id", detail="must be ASCII without control characters")
    if body.scope is not UNSET and not _SCOPE.fullmatch(body.scope):
        yield Fault(field=f"{at}/scope", detail="must be scopes by RFC 6749 section 3.3, separated by single blanks")
    for name in sorted(_PARAMETERS_OF_OURS & body.parameters.keys()):
        yield Fault(field=f"{at}/parameters/{name}", detail="is a parameter of its own")
    if body.client_authentication is ClientAuthentication.TLS_CLIENT_AUTH:
        if not has_certificate:
            yield Fault(field="/client_certificate", detail="is missing: the client is to authenticate with it")
        if not body.token_url.lower().startswith("https://"):
            yield Fault(field=f"{at}/token_url", detail="must begin with https:// for tls_client_auth")


def _of_secrets(body: OAuth2AuthBody, at: str) -> Iterator[Fault]:
    """Each way to authenticate has members that it needs, and others that it has no use for."""
    by_key, by_secret = body.client_authentication is _BY_KEY, body.client_authentication in _BY_SECRET
    needed = {"client_secret": by_secret, "private_key": by_key, "algorithm": by_key}
    for name, needs in needed.items():
        if needs and getattr(body, name) is UNSET:
            yield Fault(field=f"{at}/{name}", detail=f"is missing: {body.client_authentication} needs it")
    of_others = [name for name, needs in needed.items() if not needs]
    of_others += [] if by_key else ["passphrase", "key_id", "assertion_audience"]
    for name in of_others:
        if getattr(body, name) is not UNSET:
            yield Fault(field=f"{at}/{name}", detail=f"must be left out: {body.client_authentication} does not use it")
    if by_key and body.private_key is not UNSET:
        yield from (Fault(field=f"{at}/{name}", detail=detail) for name, detail in _key_faults(body))


def _key_faults(body: OAuth2AuthBody) -> Iterator[tuple[str, str]]:
    found: list[PemFault] = []
    key = private_key(_given(body.private_key) or "", _given(body.passphrase), faults=found)
    names: Mapping[str, str] = {"key": "private_key"}
    yield from ((names.get(fault.member, fault.member), fault.detail) for fault in found)
    if key is not None and body.algorithm is not UNSET and (fault := key_fault(key, body.algorithm)) is not None:
        yield "private_key", fault


def _client(body: OAuth2AuthBody) -> OAuthClient:
    return OAuthClient(
        token_url=body.token_url,
        client_id=body.client_id,
        client_authentication=body.client_authentication,
        scope=_given(body.scope),
        audience=_given(body.audience),
        parameters=tuple(body.parameters.items()),
        algorithm=_given(body.algorithm),
        key_id=_given(body.key_id),
        assertion_audience=_given(body.assertion_audience),
    )


def _oauth_secret(body: OAuth2AuthBody) -> str:
    if body.client_authentication is not _BY_KEY:
        return _given(body.client_secret) or ""
    key = private_key(_given(body.private_key) or "", _given(body.passphrase), faults=[])
    return "" if key is None else key_pem(key)


def _given[T](member: T | UnsetType) -> T | None:
    return None if member is UNSET else member
