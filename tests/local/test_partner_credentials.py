"""The demo partner insists: credentials, tokens, certificates and signatures, each refused when it is wrong."""

import hashlib
import hmac
import json
import ssl
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import pytest
import truelayer_signing
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms
from joserfc import jws, jwt
from joserfc.jwk import Key, import_key

from local.partner import Partner
from local.partner.bank import Accepted, Bank
from local.partner.oauth import JWT_BEARER, METHODS
from tests.support.demo_partner import Answered, ask, connected, running_partner, trusting

ACCEPTED = Accepted()
FORM = {"grant_type": "client_credentials"}


@pytest.fixture(scope="module")
def shared_partner() -> Iterator[Partner]:
    with running_partner(doors=True) as partner:
        yield partner


@pytest.fixture
def partner(shared_partner: Partner) -> Partner:
    """As it was at its start."""
    shared_partner.bank.reset()
    return shared_partner


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


# ---- Credentials


@pytest.mark.parametrize(
    ("gate", "good", "bad"),
    [
        ("bearer", {"Authorization": "Bearer demo-token"}, {"Authorization": "Bearer other"}),
        ("bearer", {"Authorization": "bearer demo-token"}, {"Authorization": "demo-token"}),
        ("basic", {"Authorization": basic("demo", "demo-password")}, {"Authorization": basic("demo", "x")}),
        ("basic", {"Authorization": basic("demo", "demo-password")}, {"Authorization": "Basic ?"}),
        ("header", {"X_Api_Key": "demo-key"}, {"X_Api_Key": "other"}),
        ("header", {"x_api_key": "demo-key"}, {}),
    ],
)
def test_it_insists_on_credentials(partner: Partner, gate: str, good: dict[str, str], bad: dict[str, str]) -> None:
    refused = ask(partner, f"/{gate}/payments", "a=1", headers=bad)
    assert (refused.status, bool(refused.header("WWW-Authenticate"))) == (401, True)
    assert len(partner.bank.ledger) == 0
    assert ask(partner, f"/{gate}/payments", "a=1", headers=good).status == 201
    assert len(partner.bank.ledger) == 1


def test_gates_stand_one_behind_the_other(partner: Partner) -> None:
    both = {"Authorization": "Bearer demo-token", "X_Api_Key": "demo-key"}
    assert ask(partner, "/bearer/header/orders", headers=both).status == 201
    for missing in both:
        assert (
            ask(partner, "/bearer/header/orders", headers={key: both[key] for key in both if key != missing}).status
            == 401
        )


def test_nothing_of_credentials_is_reported() -> None:
    lines: list[str] = []
    with running_partner(lines=lines) as partner:
        ask(partner, "/bearer/orders?token=s3cret", headers={"Authorization": "Bearer s3cret", "X_Api_Key": "s3cret"})
    assert lines == ["partner: 127.0.0.1 POST /bearer/orders auth=Bearer,x-api-key key=- -> 401"]


# ---- Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How a client authenticates: members of the form, headers, and the port with its certificate."""

    form: dict[str, str]
    authorization: str = ""
    door: str = "http"


def assertion(partner: Partner, key: Any, **changes: object) -> str:
    claims = {"iss": "demo", "sub": "demo", "exp": int(time.time()) + 60, "jti": "j1"}
    claims |= {"aud": f"http://127.0.0.1:{partner.port}/token/private_key_jwt", **changes}
    return jwt.encode({"alg": "ES256", "kid": "client-key"}, claims, jose_key(key))


def private_pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def jose_key(key: Any) -> Key:
    kind: Literal["EC", "OKP", "RSA"] = "RSA"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        kind = "EC"
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        kind = "OKP"
    return import_key(private_pem(key), kind)


def public_pem(key: Any) -> str:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem.decode()


def client_for(method: str, partner: Partner) -> Client:
    """One that authenticates in this way."""
    secret = {"client_id": "demo", "client_secret": "demo-secret"}
    match method:
        case "client_secret_basic":
            return Client(form=FORM, authorization=basic("demo", "demo-secret"))
        case "client_secret_post":
            return Client(form=FORM | secret)
        case "private_key_jwt":
            key = ec.generate_private_key(ec.SECP256R1())
            partner.bank.accept(lambda _: Accepted(public_keys=(("client-key", public_pem(key)),)))
            signed = {"client_assertion_type": JWT_BEARER, "client_assertion": assertion(partner, key)}
            return Client(form=FORM | signed)
        case _:
            return Client(form=FORM | {"client_id": "demo"}, door="mtls")


def token(partner: Partner, path: str, client: Client, tls: ssl.SSLContext | None = None) -> Answered:
    headers = {"Authorization": client.authorization} if client.authorization else {}
    return ask(partner, path, urlencode(client.form), door=client.door, tls=tls, headers=headers)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("demanded", METHODS)
def test_a_token_is_issued_to_a_client_that_authenticates_as_demanded(
    partner: Partner, tmp_path: Path, method: str, demanded: str
) -> None:
    client = client_for(method, partner)
    tls = trusting(partner, tmp_path, client="client") if client.door == "mtls" else None
    path = f"/token/{method}" if method == demanded else f"/token/{demanded}"
    answered = token(partner, path, client, tls)
    if method != demanded:
        assert (answered.status, answered.json["error"]) == (401, "invalid_client")
        return
    assert (answered.status, answered.json["token_type"], answered.json["expires_in"]) == (200, "Bearer", 300)
    assert answered.header("Cache-Control") == "no-store"
    headers = {"Authorization": f"Bearer {answered.json['access_token']}"}
    assert ask(partner, "/oauth/payments", "a=1", door=client.door, tls=tls, headers=headers).status == 201
    assert partner.bank.counters["tokens_issued"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"}, {"sub": "other"}, {"aud": "https://elsewhere.example/token"}, {"exp": 1}, {"exp": "soon"},
        {"exp": 99_999_999_999}, {"aud": None},
    ],
)  # fmt: skip
def test_an_assertion_with_a_wrong_claim_is_refused(partner: Partner, changes: dict[str, object]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    partner.bank.accept(lambda _: Accepted(public_keys=(("client-key", public_pem(key)),)))
    form = FORM | {"client_assertion_type": JWT_BEARER, "client_assertion": assertion(partner, key, **changes)}
    assert token(partner, "/token/private_key_jwt", Client(form=form)).status == 401
    assert partner.bank.counters["tokens_issued"] == 0


def test_an_assertion_counts_once_and_only_with_the_right_key(partner: Partner) -> None:
    client = client_for("private_key_jwt", partner)
    statuses = [token(partner, "/token/private_key_jwt", client).status for _ in range(2)]
    assert statuses == [200, 401]
    form = FORM | {"client_assertion_type": JWT_BEARER}
    stranger = assertion(partner, ec.generate_private_key(ec.SECP256R1()), jti="j2")
    for wrong in (stranger, "no.jwt", "", stranger.replace(".", "")):
        answered = token(partner, "/token", Client(form=form | {"client_assertion": wrong}))
        assert answered.status == 401, wrong


def test_two_ways_at_once_and_another_grant_are_refused(partner: Partner) -> None:
    both = Client(form=client_for("client_secret_post", partner).form, authorization=basic("demo", "demo-secret"))
    assert token(partner, "/token", both).json["error"] == "invalid_client"
    assert token(partner, "/token", Client(form={"grant_type": "password"})).json["error"] == "unsupported_grant_type"


def test_a_token_expires_and_can_be_revoked() -> None:
    now = [time.time()]
    with running_partner(bank=Bank(clock=lambda: now[0])) as partner:
        client = client_for("client_secret_basic", partner)
        issued = token(partner, "/token?expires_in=30", client).json["access_token"]
        headers = {"Authorization": f"Bearer {issued}"}
        assert ask(partner, "/oauth/orders", headers=headers).status == 201
        now[0] += 30
        assert ask(partner, "/oauth/orders", headers=headers).json["code"] == "invalid_token"
        issued = token(partner, "/token", client).json["access_token"]
        headers = {"Authorization": f"Bearer {issued}"}
        assert ask(partner, "/oauth/orders", headers=headers).status == 201
        assert ask(partner, "/control/revoke", "{}").status == 200
        assert ask(partner, "/oauth/orders", headers=headers).status == 401
        assert partner.bank.counters["tokens_issued"] == 2


def test_a_token_is_bound_to_the_certificate_that_it_was_issued_to(partner: Partner, tmp_path: Path) -> None:
    ours, others = (trusting(partner, tmp_path, client=name) for name in ("client", "other-client"))
    issued = token(partner, "/token", client_for("tls_client_auth", partner), ours).json["access_token"]
    headers = {"Authorization": f"Bearer {issued}"}
    assert ask(partner, "/oauth/orders", door="mtls", tls=ours, headers=headers).status == 201
    assert ask(partner, "/oauth/orders", door="mtls", tls=others, headers=headers).status == 401
    assert ask(partner, "/oauth/orders", headers=headers).status == 401


def test_a_token_endpoint_can_be_as_bad_as_any_path(partner: Partner) -> None:
    client = client_for("client_secret_basic", partner)
    assert token(partner, "/nonsense/token", client).body.startswith(b"<html>")
    assert "access_token" not in token(partner, "/token?without=access_token", client).json
    assert token(partner, "/token?type=MAC", client).json["token_type"] == "MAC"
    assert token(partner, "/hang/headers/token?seconds=0", client).raw == b""


# ---- Certificates


def test_only_a_client_of_its_own_ca_is_let_in(partner: Partner, tmp_path: Path) -> None:
    known = trusting(partner, tmp_path, client="client")
    assert ask(partner, "/certificate/orders", door="mtls", tls=known).status == 201
    for name in ("expired-client", "unknown-client", None):
        with pytest.raises(OSError):  # noqa: PT011 - an alert of TLS or a reset, as it comes
            ask(partner, "/certificate/orders", door="mtls", tls=trusting(partner, tmp_path, client=name))
    assert ask(partner, "/certificate/orders", door="tls", tls=known).status == 403


@pytest.mark.parametrize(
    ("door", "reason"),
    [("expired", "has expired"), ("wrong-name", "IP address mismatch"), ("unknown-ca", "unable to get local issuer")],
)
def test_a_caller_that_verifies_refuses_its_bad_certificates(
    partner: Partner, tmp_path: Path, door: str, reason: str
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        ask(partner, "/orders", door=door, tls=trusting(partner, tmp_path))


def test_a_handshake_may_hang(partner: Partner, tmp_path: Path) -> None:
    with connected(partner, door="tls-hangs") as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            trusting(partner, tmp_path).wrap_socket(connection, server_hostname="127.0.0.1")


# ---- Signatures: made here by packages or by hand, verified there

BODY = b'{"amount": 10}'
SECRET = "a signing secret"


def hmac_sha256(secret: bytes, signed: bytes) -> bytes:
    return hmac.digest(secret, signed, hashlib.sha256)


def standard_webhooks(body: bytes, at: int) -> dict[str, str]:
    digest = hmac_sha256(SECRET.encode(), f"m1.{at}.".encode() + body)
    signature = f"v1,{b64encode(b'old').decode()} v1,{b64encode(digest).decode()}"
    return {"webhook_id": "m1", "webhook_timestamp": str(at), "webhook_signature": signature}


def github(body: bytes, at: int) -> dict[str, str]:
    return {"X_Hub_Signature_256": "sha256=" + hmac_sha256(SECRET.encode(), body).hex()}


def stripe(body: bytes, at: int) -> dict[str, str]:
    return {"Stripe_Signature": f"t={at},v1={hmac_sha256(SECRET.encode(), f'{at}.'.encode() + body).hex()}"}


def shopify(body: bytes, at: int) -> dict[str, str]:
    return {"X_Shopify_Hmac_Sha256": b64encode(hmac_sha256(SECRET.encode(), body)).decode()}


def slack(body: bytes, at: int) -> dict[str, str]:
    signature = "v0=" + hmac_sha256(SECRET.encode(), f"v0:{at}:".encode() + body).hex()
    return {"X_Slack_Request_Timestamp": str(at), "X_Slack_Signature": signature}


HMACS: dict[str, Callable[[bytes, int], dict[str, str]]] = {
    "standard-webhooks": standard_webhooks, "github": github, "stripe": stripe, "shopify": shopify, "slack": slack,
}  # fmt: skip


def secret_of(scheme: str) -> str:
    return "whsec_" + b64encode(SECRET.encode()).decode() if scheme == "standard-webhooks" else SECRET


@pytest.mark.parametrize("scheme", HMACS)
def test_an_hmac_over_these_bytes_and_this_time_is_taken_and_no_other(partner: Partner, scheme: str) -> None:
    partner.bank.accept(lambda _: Accepted(signing_secret=secret_of(scheme)))
    now = int(time.time())
    headers = HMACS[scheme](BODY, now)
    assert ask(partner, f"/signed/{scheme}/orders", BODY, headers=headers).status == 201
    assert ask(partner, f"/signed/{scheme}/orders", BODY + b" ", headers=headers).status == 401
    for missing in headers:
        others = {name: value for name, value in headers.items() if name != missing}
        assert ask(partner, f"/signed/{scheme}/orders", BODY, headers=others).status == 401
    if scheme in {"standard-webhooks", "stripe", "slack"}:
        assert ask(partner, f"/signed/{scheme}/orders", BODY, headers=HMACS[scheme](BODY, now - 400)).status == 401


@pytest.mark.parametrize("known", [0, 1])
def test_during_a_rotation_either_of_stripes_signatures_is_taken(partner: Partner, known: int) -> None:
    """The newest key signs first, and the partner may have any of them."""
    partner.bank.accept(lambda _: Accepted(signing_secret=SECRET))
    at = int(time.time())
    signed = f"{at}.".encode() + BODY
    keys = [b"another key of sixteen bytes or more"] * 2
    keys[known] = SECRET.encode()
    value = f"t={at}," + ",".join(f"v1={hmac_sha256(key, signed).hex()}" for key in keys)
    assert ask(partner, "/signed/stripe/orders", BODY, headers={"Stripe_Signature": value}).status == 201
    assert ask(partner, "/signed/stripe/orders", b"{}", headers={"Stripe_Signature": value}).status == 401


def test_the_known_answer_of_standard_webhooks_is_taken() -> None:
    with running_partner(bank=Bank(clock=lambda: 1614265330.0)) as partner:
        headers = {
            "webhook_id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook_timestamp": "1614265330",
            "webhook_signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
        assert ask(partner, "/signed/standard-webhooks/orders", b'{"test": 2432232314}', headers=headers).status == 201


def test_an_ed25519_signature_of_standard_webhooks_is_taken(partner: Partner) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    known = (("standard-webhooks", "whpk_" + b64encode(public).decode()),)
    partner.bank.accept(lambda _: Accepted(public_keys=known))
    at = str(int(time.time()))
    signature = "v1a," + b64encode(key.sign(f"m1.{at}.".encode() + BODY)).decode()
    headers = {"webhook_id": "m1", "webhook_timestamp": at, "webhook_signature": signature}
    assert ask(partner, "/signed/standard-webhooks/orders", BODY, headers=headers).status == 201
    assert ask(partner, "/signed/standard-webhooks/orders", b"{}", headers=headers).status == 401


KEYS: dict[str, tuple[Any, Callable[[], Any]]] = {
    "ed25519": (algorithms.ED25519, ed25519.Ed25519PrivateKey.generate),
    "ecdsa-p256-sha256": (algorithms.ECDSA_P256_SHA256, lambda: ec.generate_private_key(ec.SECP256R1())),
    "rsa-pss-sha512": (algorithms.RSA_PSS_SHA512, lambda: rsa.generate_private_key(65537, 2048)),
    "rsa-v1_5-sha256": (algorithms.RSA_V1_5_SHA256, lambda: rsa.generate_private_key(65537, 2048)),
    "hmac-sha256": (algorithms.HMAC_SHA256, lambda: None),
}


@dataclass(slots=True, kw_only=True)
class Message:
    """What the package signs."""

    method: str
    url: str
    headers: dict[str, str]


def signed_message(partner: Partner, algorithm: str, covered: tuple[str, ...]) -> dict[str, str]:
    """The headers of a request with a signature by a key that the partner knows as k1."""
    kind, make = KEYS[algorithm]
    key = make()
    secret = SECRET.encode() if key is None else private_pem(key)
    public = () if key is None else (("k1", public_pem(key)),)
    partner.bank.accept(lambda _: Accepted(signing_secret=SECRET, public_keys=public))
    url = f"http://127.0.0.1:{partner.port}/signed/http-message/orders"
    message = Message(method="POST", url=url, headers={})
    keys = MappingKeyResolver(public_keys={}, private_keys={"k1": secret})
    signer = HTTPMessageSigner(signature_algorithm=kind, key_resolver=keys)
    signer.sign(message, key_id="k1", covered_component_ids=covered, body=BODY)
    return {name.replace("-", "_"): value for name, value in message.headers.items()}


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_signature_of_rfc_9421_is_taken_and_one_for_another_body_is_not(partner: Partner, algorithm: str) -> None:
    headers = signed_message(partner, algorithm, ("@method", "@target-uri"))
    assert ask(partner, "/signed/http-message/orders", BODY, headers=headers).status == 201
    assert ask(partner, "/signed/http-message/orders", b"{}", headers=headers).status == 401
    assert ask(partner, "/signed/http-message/orders", BODY, method="PUT", headers=headers).status == 401
    assert ask(partner, "/signed/http-message/lose/orders", BODY, headers=headers).status == 401
    partner.bank.accept(lambda _: Accepted())
    assert ask(partner, "/signed/http-message/orders", BODY, headers=headers).status == 401


@pytest.mark.parametrize(("before", "now"), [("ed25519", "ed25519"), ("hmac-sha256", "rsa-pss-sha512")])
@pytest.mark.parametrize("known_is_first", [True, False])
def test_of_the_signatures_of_a_rotation_any_will_do(
    partner: Partner, before: str, now: str, known_is_first: bool
) -> None:
    """By the old key and the new one, of which the partner knows one."""
    unknown = signed_message(partner, before, ("@method", "@target-uri"))
    known = signed_message(partner, now, ("@method", "@target-uri"))
    unknown = {name: value.replace("pyhms=", "old=").replace('"k1"', '"k0"') for name, value in unknown.items()}
    both = [known, unknown] if known_is_first else [unknown, known]
    assert known["Signature"].startswith("pyhms=")
    headers = known | {name: ", ".join(one[name] for one in both) for name in ("Signature_Input", "Signature")}
    assert ask(partner, "/signed/http-message/orders", BODY, headers=headers).status == 201
    assert ask(partner, "/signed/http-message/orders", b"{}", headers=headers).status == 401
    wrong = headers | {name: unknown[name] for name in ("Signature_Input", "Signature")}
    assert ask(partner, "/signed/http-message/orders", BODY, headers=wrong).status == 401


@pytest.mark.parametrize("covered", [("@method",), ("@target-uri",)])
def test_a_signature_that_covers_too_little_is_refused(partner: Partner, covered: tuple[str, ...]) -> None:
    headers = signed_message(partner, "ed25519", covered)
    assert ask(partner, "/signed/http-message/orders", BODY, headers=headers).status == 401


@pytest.mark.parametrize(
    "value", ["", "x", "sig1=()", 'sig1=("@method");alg="none"', 'sig1=();alg="ed25519";keyid="k"']
)
def test_a_signature_input_that_is_none_is_refused(partner: Partner, value: str) -> None:
    headers = {"Signature_Input": value, "Signature": "sig1=:AAAA:"}
    assert ask(partner, "/signed/http-message/orders", BODY, headers=headers).status == 401


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "RS256", "Ed25519"])
def test_a_detached_jws_is_taken_whether_its_payload_is_encoded_or_not(
    partner: Partner, algorithm: str, encoded: bool
) -> None:
    key = {
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }.get(algorithm, lambda: rsa.generate_private_key(65537, 2048))()
    partner.bank.accept(lambda _: Accepted(public_keys=(("k1", public_pem(key)),)))
    header = {"alg": algorithm, "kid": "k1"} | ({} if encoded else {"b64": False, "crit": ["b64"]})
    compact = jws.serialize_compact(header, BODY, jose_key(key), algorithms=[algorithm])
    protected, _, signature = compact.partition(".")[0], "", compact.rpartition(".")[2]
    detached = {"x_jws_signature": f"{protected}..{signature}"}
    assert ask(partner, "/signed/jws/orders", BODY, headers=detached).status == 201
    assert ask(partner, "/signed/jws/orders", b"{}", headers=detached).status == 401


@pytest.mark.parametrize("value", ["", "a.b.c", "..", "a..b", urlsafe_b64encode(b'{"alg":"none"}').decode() + "..x"])
def test_what_is_no_jws_is_refused(partner: Partner, value: str) -> None:
    assert ask(partner, "/signed/jws/orders", BODY, headers={"x_jws_signature": value}).status == 401


def test_a_partner_may_have_an_hmac_of_its_own(partner: Partner) -> None:
    """With each of the parameters that `signing` of type hmac has, and with none."""
    assert ask(partner, "/control/accept", json.dumps({"signing_secret": SECRET})).status == 200
    now = int(time.time())
    query = "?header=X-Bank&prefix=v1%3D&encoding=base64&hash=sha512&timestamp_header=X-At"
    path = "/signed/hmac/orders"
    template = "&signed=%7Bmethod%7D.%7Bpath%7D.%7Btimestamp%7D.%7Bid%7D.%7Bbody%7D"

    def headers(at: int) -> dict[str, str]:
        signed = f"POST.{path}.{at}.key-1.".encode() + BODY
        digest = b64encode(hmac.digest(SECRET.encode(), signed, "sha512")).decode()
        return {"X-Bank": f"v1={digest}", "X-At": str(at), "Idempotency-Key": "key-1"}

    assert ask(partner, path + query + template, BODY, headers=headers(now)).status == 201
    assert ask(partner, path + query + template, BODY + b" ", headers=headers(now)).status == 401
    assert ask(partner, path + query + template, BODY, headers=headers(now) | {"Idempotency-Key": "2"}).status == 401
    assert ask(partner, path + query + template, BODY, headers=headers(now - 400)).status == 401
    assert ask(partner, path + query, BODY, headers={}).status == 401
    assert ask(partner, f"{path}?encoding=morse", BODY, headers={}).status == 400
    simple = {"X-Signature": hmac_sha256(SECRET.encode(), BODY).hex()}
    assert ask(partner, path, BODY, headers=simple).status == 201


def test_truelayers_signature_is_verified_by_its_own_package(partner: Partner) -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    assert ask(partner, "/control/accept", json.dumps({"public_keys": {"ours": public}})).status == 200
    path = "/signed/truelayer/orders"

    def signed(*names: str, key_id: str = "ours") -> dict[str, str]:
        known = {"Idempotency-Key": "key-1"}
        signer = truelayer_signing.sign_with_pem(key_id, pem).set_path(path).set_body(BODY.decode())
        return known | {"Tl-Signature": signer.add_headers({name: known[name] for name in names}).sign()}

    good = signed("Idempotency-Key")
    assert ask(partner, path, BODY, headers=good).status == 201
    assert ask(partner, path, b"{}", headers=good).status == 401
    assert ask(partner, path, BODY, headers=good | {"Idempotency-Key": "key-2"}).status == 401
    assert ask(partner, path, BODY, headers=signed()).status == 401  # the key is not covered
    assert ask(partner, path, BODY, headers=signed("Idempotency-Key", key_id="theirs")).status == 401
    assert ask(partner, path, BODY, headers={"Tl-Signature": "nonsense"}).status == 401
