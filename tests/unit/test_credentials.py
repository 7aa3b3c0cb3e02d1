"""Sealed credentials: they open for their own row and key alone, and never show."""

import base64
import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from domain.auth import (
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
    auth_type,
)
from domain.certificates import TlsOptions
from domain.destinations import Destination, Guarantee, Timeouts
from domain.errors import Unsealable
from domain.ids import DestinationId, TenantId
from domain.options import PLAIN, DestinationOptions
from egress.credentials import auth_headers, seal_auth, unseal_auth, with_auth
from egress.sealing import SealKey

KEY = SealKey(bytes(range(32)))
OTHER_KEY = SealKey(bytes(32))
HERE = DestinationId(UUID(int=1))
ELSEWHERE = DestinationId(UUID(int=2))

AWS = AwsScope(region="eu-central-1", service="execute-api", access_key_id="AKID")
CLIENT = OAuthClient(
    token_url="https://bank.example/token",
    client_id="sallyport",
    client_authentication=ClientAuthentication.CLIENT_SECRET_BASIC,
    scope="payments",
    parameters=(("resource", "https://bank.example"),),
)
AUTHS: list[Auth] = [
    BearerAuth(token="tok-en"),
    BasicAuth(username="user:name", password="pass:wörd"),
    HeaderAuth(headers=(("X-Api-Key", "k€y"),)),
    HeaderAuth(headers=(("X-Api-Key", "k€y"), ("X-Api-Secret", "secret"))),
    AwsSigV4Auth(scope=AWS, secret_access_key="s3cret"),
    AwsSigV4Auth(scope=AWS, secret_access_key="s3cret", session_token="token"),
    OAuth2Auth(client=CLIENT, secret="s3cret"),
]


def sealed(auth: Auth, *, destination_id: DestinationId = HERE, key: SealKey = KEY) -> bytes:
    value = seal_auth(auth, destination_id=destination_id, key=key)
    assert value is not None
    return value


def opened(
    value: bytes | None,
    kind: AuthType,
    *,
    destination_id: DestinationId = HERE,
    keys: list[SealKey] | None = None,
    options: DestinationOptions = PLAIN,
) -> Auth:
    destination = Destination(
        destination_id=destination_id,
        tenant_id=TenantId(UUID(int=3)),
        name="bank",
        base_url="https://bank.example",
        auth_type=kind,
        sealed_credentials=value,
        guarantee=Guarantee.AUTO,
        idempotent=False,
        idempotency_header="Idempotency-Key",
        timeouts=Timeouts(),
        created_at=datetime(2026, 11, 27, tzinfo=UTC),
        options=options,
    )
    return unseal_auth(destination, keys=[KEY] if keys is None else keys)


@pytest.mark.parametrize("auth", AUTHS)
def test_what_is_sealed_opens_as_it_was_beside_what_is_shown_of_it(auth: Auth) -> None:
    assert opened(sealed(auth), auth_type(auth), options=with_auth(PLAIN, auth)) == auth


@pytest.mark.parametrize("auth", AUTHS)
def test_what_is_shown_of_one_kind_is_nothing_of_another(auth: Auth) -> None:
    before = replace(PLAIN, header_names=("X-Old",), aws=AWS, oauth=CLIENT, tls=TlsOptions())
    assert with_auth(before, auth) == replace(with_auth(PLAIN, auth), tls=TlsOptions())
    assert "s3cret" not in repr(with_auth(before, auth))


def test_a_kind_whose_shown_part_is_missing_does_not_open() -> None:
    for auth in AUTHS[4:]:
        with pytest.raises(Unsealable, match="is missing"):
            opened(sealed(auth), auth_type(auth))


def test_no_credentials_need_no_seal() -> None:
    assert seal_auth(NoAuth(), destination_id=HERE, key=KEY) is None
    assert opened(None, AuthType.NONE) == NoAuth()


@given(st.text(), st.text())
def test_any_text_survives(username: str, password: str) -> None:
    auth = BasicAuth(username=username, password=password)
    assert opened(sealed(auth), AuthType.BASIC) == auth


def test_the_format_is_version_key_nonce_and_aes_256_gcm() -> None:
    value = sealed(BearerAuth(token="tok-en"))
    assert value[0] == 1
    assert value[1:5] == KEY.key_id == hashlib.sha256(b"sallyport key id" + KEY.secret).digest()[:4]
    plain = AESGCM(KEY.secret).decrypt(value[5:17], value[17:], HERE.bytes + b"bearer")
    assert plain == b'["tok-en"]'


def test_what_libsodium_sealed_still_opens() -> None:
    """PyNaCl 1.6.2 sealed this value, in the version of Sallyport before `cryptography`."""
    value = bytes.fromhex("01603744ef4661777298df45867140b5ed8759408eaf4a64f96b2547f466b3735bbc83cdcde8be8acc60c1")
    assert opened(value, AuthType.BEARER) == BearerAuth(token="tok-en")


def test_a_seal_around_nothing_opens_as_no_credentials() -> None:
    nonce = bytes(12)
    value = b"\x01" + KEY.key_id + nonce + AESGCM(KEY.secret).encrypt(nonce, b"[]", HERE.bytes + b"none")
    assert opened(value, AuthType.NONE) == NoAuth()


@pytest.mark.parametrize(
    ("auth", "kind"),
    list(
        zip(
            [NoAuth(), *AUTHS],
            ["none", "bearer", "basic", "header", "header", "aws_sigv4", "aws_sigv4", "oauth2"],
            strict=True,
        )
    ),
)
def test_each_kind_has_its_name(auth: Auth, kind: str) -> None:
    assert auth_type(auth) == kind


def test_no_two_sealed_values_are_equal() -> None:
    values = {sealed(AUTHS[0]) for _ in range(50)}
    assert len({value[5:17] for value in values}) == 50


@pytest.mark.parametrize("auth", AUTHS)
def test_it_opens_for_its_own_row_only(auth: Auth) -> None:
    with pytest.raises(Unsealable, match=str(ELSEWHERE)):
        opened(sealed(auth), auth_type(auth), destination_id=ELSEWHERE)


def test_it_opens_as_its_own_kind_only() -> None:
    for kind in (AuthType.BASIC, AuthType.HEADER, AuthType.NONE):
        with pytest.raises(Unsealable):
            opened(sealed(BearerAuth(token="x")), kind)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_no_byte_of_it_can_be_changed(place: int, change: int) -> None:
    value = bytearray(sealed(AUTHS[1]))
    value[place % len(value)] ^= change
    with pytest.raises(Unsealable):
        opened(bytes(value), AuthType.BASIC)


@pytest.mark.parametrize("value", [None, b"", b"\x01", b"\x02" + bytes(60), bytes(60), b"\x01" + bytes(31)])
def test_bytes_that_are_no_seal_do_not_open(value: bytes | None) -> None:
    with pytest.raises(Unsealable):
        opened(value, AuthType.BEARER)


def test_the_key_is_found_among_several() -> None:
    value = sealed(AUTHS[0])
    assert opened(value, AuthType.BEARER, keys=[OTHER_KEY, KEY]) == AUTHS[0]
    for keys in ([], [OTHER_KEY]):
        with pytest.raises(Unsealable, match="no key opens"):
            opened(value, AuthType.BEARER, keys=keys)


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (NoAuth(), ()),
        (BearerAuth(token="abc"), (("Authorization", "Bearer abc"),)),
        (
            BasicAuth(username="Aladdin", password="open sesame"),  # the example of RFC 7617 section 2
            (("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),),
        ),
        (
            BasicAuth(username="test", password="123£"),  # the example of RFC 7617 section 2.1
            (("Authorization", "Basic dGVzdDoxMjPCow=="),),
        ),
        (HeaderAuth(headers=(("X-Api-Key", "abc"),)), (("X-Api-Key", "abc"),)),
        (HeaderAuth(headers=(("A", "1"), ("B", "2"))), (("A", "1"), ("B", "2"))),
        (AwsSigV4Auth(scope=AWS, secret_access_key="s"), ()),
        (
            AwsSigV4Auth(scope=AWS, secret_access_key="s", session_token="t"),
            (("X-Amz-Security-Token", "t"),),
        ),
        (OAuth2Auth(client=CLIENT, secret="s"), ()),
    ],
)
def test_credentials_become_headers(auth: Auth, headers: tuple[tuple[str, str], ...]) -> None:
    assert auth_headers(auth) == headers


def test_nothing_secret_shows_in_what_might_be_logged() -> None:
    shown = repr([KEY, *AUTHS])
    for secret in (
        "tok-en",
        "pass",
        "user:name",
        "k€y",
        "s3cret",
        repr(KEY.secret),
        KEY.secret.hex(),
        base64.b64encode(KEY.secret).decode(),
    ):
        assert secret not in shown
