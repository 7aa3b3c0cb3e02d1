"""`auth`: the credentials of a destination."""

from typing import Annotated, assert_never

from msgspec import Meta, Struct

from domain.auth import Auth, AuthType, BasicAuth, BearerAuth, HeaderAuth, NoAuth
from domain.destinations import Destination
from domain.errors import Fault
from handlers.schemas.destinations.fields import FIELD_NAME, IS_HEADER, Secret, reserved, secret_faults


class NoAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="none"):
    """No credentials."""


class BearerAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="bearer"):
    """`Authorization: Bearer ...`"""

    token: Annotated[Secret, Meta(description="The token after `Bearer`")]


class BasicAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="basic"):
    """`Authorization: Basic ...`"""

    username: Annotated[Secret, Meta(description="Without a colon")]
    password: Annotated[Secret, Meta(description="The part after the colon")]


class HeaderAuthBody(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="header"):
    """A header of the partner's own."""

    name: Annotated[str, Meta(pattern=FIELD_NAME, extra=IS_HEADER, description="The header's name")]
    value: Annotated[Secret, Meta(description="The header's value")]


AuthBody = NoAuthBody | BearerAuthBody | BasicAuthBody | HeaderAuthBody


class AuthTypeBody(Struct, frozen=True):
    """The kind of credentials, without them."""

    type: Annotated[AuthType, Meta(description="Which kind they are")]


def faults(body: AuthBody, at: str = "/auth") -> list[Fault]:
    """Credentials become header values, so they are judged as such; no fault repeats the value."""
    match body:
        case NoAuthBody():
            return []
        case BearerAuthBody(token=token):
            return secret_faults({f"{at}/token": token})
        case BasicAuthBody(username=username, password=password):
            colon = [Fault(field=f"{at}/username", detail="must not contain ':' (RFC 7617)")] if ":" in username else []
            return [*colon, *secret_faults({f"{at}/username": username, f"{at}/password": password})]
        case HeaderAuthBody(name=name, value=value):
            fault = None if name.lower() == "authorization" else reserved(name)
            taken = [Fault(field=f"{at}/name", detail=fault)] if fault else []
            return [*taken, *secret_faults({f"{at}/value": value})]
        case _:
            assert_never(body)


def domain(body: AuthBody) -> Auth:
    """The credentials."""
    match body:
        case NoAuthBody():
            return NoAuth()
        case BearerAuthBody(token=token):
            return BearerAuth(token=token)
        case BasicAuthBody(username=username, password=password):
            return BasicAuth(username=username, password=password)
        case HeaderAuthBody(name=name, value=value):
            return HeaderAuth(headers=((name, value),))
        case _:
            assert_never(body)


def shown(destination: Destination) -> AuthTypeBody:
    """What the API shows of a destination's credentials."""
    return AuthTypeBody(type=destination.auth_type)


def header_names(body: AuthBody) -> frozenset[str]:
    """The headers that carry the credentials, in lower case."""
    match body:
        case NoAuthBody():
            return frozenset()
        case HeaderAuthBody(name=name):
            return frozenset({name.lower()})
        case _:
            return frozenset({"authorization"})
