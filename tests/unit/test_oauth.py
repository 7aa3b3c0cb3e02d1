"""How a token is asked for, checked by other people's library, and what each answer of a token endpoint means."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from domain.auth import AssertionAlgorithm, ClientAuthentication, OAuth2Auth, OAuthClient
from domain.outcomes import Answered, Exchange, Outcome, Refused, Unknown, Unreachable
from egress.assertions import key_fault
from egress.oauth import FetchedToken, NoToken, token_of, token_request
from egress.request import OutboundRequest
from tests.egress.authorities import unencrypted

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
CLIENT = OAuthClient(
    token_url="https://bank.example/token",
    client_id="ac me:1",
    client_authentication=ClientAuthentication.CLIENT_SECRET_BASIC,
    scope="payments:read payments:write",
    audience="https://api.bank.example",
    parameters=(("resource", "a&b"),),
)
SECRET = "s3cret /+é"
KEYS: dict[AssertionAlgorithm, tuple[CertificateIssuerPrivateKeyTypes, type[Key]]] = {
    AssertionAlgorithm.RS256: (rsa.generate_private_key(65537, 2048), RSAKey),
    AssertionAlgorithm.PS256: (rsa.generate_private_key(65537, 2048), RSAKey),
    AssertionAlgorithm.ES256: (ec.generate_private_key(ec.SECP256R1()), ECKey),
    AssertionAlgorithm.EDDSA: (ed25519.Ed25519PrivateKey.generate(), OKPKey),
}


def asked(method: str, *, secret: str = SECRET, **members: Any) -> OutboundRequest:
    client = replace(CLIENT, client_authentication=ClientAuthentication(method), **members)
    auth = OAuth2Auth(client=client, secret=secret)
    return token_request(auth, owner="bank", tls=None, assertion_id="id-1", now=NOW)


def form(request: OutboundRequest) -> dict[str, str]:
    assert dict(request.headers)["Content-Type"] == "application/x-www-form-urlencoded"
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


WANTED = {
    "grant_type": "client_credentials",
    "scope": "payments:read payments:write",
    "audience": "https://api.bank.example",
    "resource": "a&b",
}


def test_client_secret_basic_encodes_both_parts_as_a_form_does() -> None:
    request = asked("client_secret_basic")
    scheme, _, pair = dict(request.headers)["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(pair)) == ("Basic", b"ac+me%3A1:s3cret+%2F%2B%C3%A9")
    assert form(request) == WANTED


def test_client_secret_post_sends_both_in_the_form() -> None:
    request = asked("client_secret_post")
    assert form(request) == WANTED | {"client_id": "ac me:1", "client_secret": SECRET}
    assert "Authorization" not in dict(request.headers)


def test_tls_client_auth_sends_the_client_s_id_alone() -> None:
    assert form(asked("tls_client_auth", secret="")) == WANTED | {"client_id": "ac me:1"}


def test_what_was_not_given_is_not_sent() -> None:
    request = asked("tls_client_auth", secret="", scope=None, audience=None, parameters=())
    assert form(request) == {"grant_type": "client_credentials", "client_id": "ac me:1"}


# RFC 9864 has other names for the same; token endpoints know this one.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", list(AssertionAlgorithm))
def test_an_assertion_is_one_that_another_library_verifies(algorithm: AssertionAlgorithm) -> None:
    key, kind = KEYS[algorithm]
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    request = asked("private_key_jwt", secret=unencrypted(key), algorithm=algorithm, key_id="key-1")
    sent = form(request)
    assert sent["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    token = jwt.decode(sent["client_assertion"], kind.import_key(public), algorithms=[algorithm.value])
    assert token.header == {"alg": algorithm.value, "typ": "JWT", "kid": "key-1"}
    assert token.claims == {
        "iss": "ac me:1",
        "sub": "ac me:1",
        "aud": "https://bank.example/token",
        "jti": "id-1",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 300,
    }
    assert unencrypted(key) not in request.body.decode()


def test_an_assertion_s_audience_and_kid_are_the_given_ones_or_none() -> None:
    key, kind = KEYS[AssertionAlgorithm.ES256]
    members = {"secret": unencrypted(key), "algorithm": AssertionAlgorithm.ES256, "assertion_audience": "issuer"}
    sent = form(asked("private_key_jwt", **members))["client_assertion"]
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    token = jwt.decode(sent, kind.import_key(public), algorithms=["ES256"])
    assert (token.claims["aud"], token.header) == ("issuer", {"alg": "ES256", "typ": "JWT"})


@pytest.mark.parametrize("algorithm", list(AssertionAlgorithm))
def test_a_key_fits_its_algorithm_alone(algorithm: AssertionAlgorithm) -> None:
    keys: list[Any] = [key for key, _ in KEYS.values()] + [ec.generate_private_key(ec.SECP384R1())]
    rsa_keys = {AssertionAlgorithm.RS256, AssertionAlgorithm.PS256}
    fits = [True] * 2 if algorithm in rsa_keys else [False] * 2
    fits += [algorithm is AssertionAlgorithm.ES256, algorithm is AssertionAlgorithm.EDDSA, False]
    assert [key_fault(key, algorithm) is None for key in keys] == fits


def test_a_token_request_is_not_repeated_by_itself_and_knows_its_secrets() -> None:
    request = asked("client_secret_post")
    assert not request.may_repeat
    assert SECRET in request.secrets
    assert request.timeouts.total_seconds == 5


# ---- answers ---------------------------------------------------------------------------------------------------------


def meaning(outcome: Outcome) -> FetchedToken | NoToken:
    return token_of(Exchange(outcome=outcome), secrets=(SECRET, "s3cret"))


def answer(body: Any, status: int = 200) -> FetchedToken | NoToken:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return meaning(Answered(status=status, body=raw))


TOKEN = {"access_token": "tok", "token_type": "Bearer", "expires_in": 600}


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 600),
        ({"token_type": "bearer"}, 600),
        ({"token_type": None}, 600),
        ({"expires_in": "3599"}, 3599),
        ({"expires_in": 0.5}, 0.5),
        ({"expires_in": None}, 300),
        ({"expires_in": 10**30}, 2_592_000),
        ({"scope": "other", "more": [1, {}]}, 600),
    ],
)
def test_a_token_is_taken_with_its_life(changes: dict[str, Any], seconds: float) -> None:
    body = {name: value for name, value in (TOKEN | changes).items() if value is not None}
    assert answer(body) == FetchedToken(access_token="tok", lasts_seconds=seconds)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"tok"',
        b"<html>login</html>",
        b"\xff\xfe",
        b"[" * 60_000,
        {},
        TOKEN | {"access_token": ""},
        TOKEN | {"access_token": None},
        TOKEN | {"access_token": ["tok"]},
        TOKEN | {"access_token": "a\r\nX-Evil: 1"},
        TOKEN | {"access_token": " tok"},
        TOKEN | {"access_token": "caf\u00e9"},
        TOKEN | {"access_token": "a" * 16_385},
        TOKEN | {"token_type": "DPoP"},
        TOKEN | {"token_type": 7},
        TOKEN | {"expires_in": 0},
        TOKEN | {"expires_in": -1},
        TOKEN | {"expires_in": "soon"},
        TOKEN | {"expires_in": [600]},
        TOKEN | {"more": "x" * 65_536},
    ],
)
def test_nonsense_is_no_token_and_is_not_repeated(body: Any) -> None:
    found = answer(body)
    assert isinstance(found, NoToken)
    assert found.reason.startswith("the token endpoint answered with")
    assert "Evil" not in found.reason


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, {"error": "invalid_scope"}, "status 400: invalid_scope"),
        (401, {"error": "invalid_client", "error_description": "s3cret is wrong"}, "invalid_client: ****** is wrong"),
        (400, {"error": "a\nb", "error_description": 7}, "status 400"),
        (500, b"<html>", "status 500"),
        (302, TOKEN, "status 302"),
        (201, TOKEN, "status 201"),
    ],
)
def test_an_error_is_said_in_the_server_s_words_without_secrets(status: int, body: Any, reason: str) -> None:
    found = answer(body, status)
    assert isinstance(found, NoToken)
    assert found.reason.endswith(reason)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Unreachable(reason="no connection"), "gave no answer: no connection"),
        (Unknown(reason="no answer within 5 s"), "gave no answer: no answer within 5 s"),
        (Refused(reason="10.0.0.1 is private"), "may not be called: 10.0.0.1 is private"),
        (Answered(status=200, body=b"{", capped=True), "more than 65,536 bytes"),
    ],
)
def test_no_answer_is_no_token(outcome: Outcome, words: str) -> None:
    found = meaning(outcome)
    assert isinstance(found, NoToken)
    assert words in found.reason
