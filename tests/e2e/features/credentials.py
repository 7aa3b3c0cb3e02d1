"""Credentials of all kinds, access tokens and TLS."""

import base64
import hashlib
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from cryptography.x509 import load_pem_x509_certificate

from domain.auth import AssertionAlgorithm
from local.partner import Call
from local.partner.bank import Bank
from local.stack import Stack
from tests.e2e.conftest import Consumer
from tests.e2e.features.helpers import (
    PASSPHRASE,
    WAIT,
    PrivateKey,
    change,
    client_certificate,
    created,
    door,
    encrypted,
    kind_of,
    pem,
    received,
)

PRIVATE_KEYS: dict[AssertionAlgorithm, Callable[[], PrivateKey]] = {
    AssertionAlgorithm.RS256: lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    AssertionAlgorithm.PS256: lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    AssertionAlgorithm.ES256: lambda: ec.generate_private_key(ec.SECP256R1()),
    AssertionAlgorithm.EDDSA: Ed25519PrivateKey.generate,
}


def test_several_headers_carry_the_credentials(stack: Stack, user: Consumer) -> None:
    pairs = [{"name": "X-Client-Id", "value": "acme"}, {"name": "X-Client-Secret", "value": "of-a-bank"}]
    name = created(user, stack, "features-headers", auth={"type": "header", "headers": pairs})
    sent = user.deliver(destination=name, path="/orders", headers=WAIT).json
    arrived = received(stack.partner, sent).headers
    assert (arrived["x-client-id"], arrived["x-client-secret"]) == ("acme", "of-a-bank")


def test_a_request_is_signed_for_aws_as_its_own_library_would(stack: Stack, user: Consumer) -> None:
    auth = {
        "type": "aws_sigv4",
        "region": "eu-central-1",
        "service": "execute-api",
        "access_key_id": "AKIDEXAMPLE26NOV",
        "secret_access_key": "of-the-warehouse",
        "session_token": "of-temporary-credentials",
    }
    name = created(user, stack, "features-aws", auth=auth)
    sent = user.deliver(destination=name, path="/orders", query="a=1", body={"a": 1}, headers=WAIT)
    assert sent.json["state"] == "delivered"
    call = received(stack.partner, sent.json)
    assert call.headers["x-amz-security-token"] == auth["session_token"]
    assert call.headers["authorization"] == signed_by_botocore(call, auth)


def signed_by_botocore(call: Call, auth: Mapping[str, str]) -> str:
    """The Authorization header that botocore makes of the same request, signed at the same time."""
    names = call.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    signed = {name: call.headers[name] for name in names if name != "host"}
    request = AWSRequest(method=call.method, url=call.url, data=call.body, headers=signed)
    request.context["timestamp"] = call.headers["x-amz-date"]
    credentials = Credentials(auth["access_key_id"], auth["secret_access_key"])
    signer = SigV4Auth(credentials, auth["service"], auth["region"])
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    scope = f"Credential={signer.scope(request)}"
    return f"AWS4-HMAC-SHA256 {scope}, SignedHeaders={';'.join(names)}, Signature={signature}"


@pytest.fixture
def bank(stack: Stack) -> Iterator[Bank]:
    """With the credentials from before afterwards, for the stack is that of all tests."""
    before = stack.partner.bank.accepted
    yield stack.partner.bank
    stack.partner.bank.accept(lambda _: before)


def pays_by_oauth(
    stack: Stack, user: Consumer, name: str, auth: Mapping[str, Any], **members: Any
) -> dict[str, list[str]]:
    """A payment with a token that the bank issued for it; returns what it was asked for the token with."""
    before = stack.partner.bank.counters["tokens_issued"]
    destination = created(user, stack, name, auth={"type": "oauth2", "client_id": "demo", **auth}, **members)
    paid = user.deliver(destination=destination, path="/payments", body={"amount": 10}, headers=WAIT)
    assert paid.json["state"] == "delivered", paid.body
    assert stack.partner.bank.counters["tokens_issued"] == before + 1
    asked, call = list(stack.partner.calls)[-2:]
    assert (asked.url, call.path.rpartition("/")[2]) == (auth["token_url"], "payments")
    scheme, _, token = call.headers["authorization"].partition(" ")
    assert (scheme, stack.partner.bank.tokens.get(token) is None) == ("Bearer", False)
    return parse_qs(asked.body.decode())


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_token_is_fetched_with_a_secret(stack: Stack, user: Consumer, method: str) -> None:
    auth = {
        "token_url": f"{stack.partner.url}/token/{method}",
        "client_authentication": method,
        "client_secret": "demo-secret",
        "scope": "payments:write",
        "audience": "https://api.bank.example",
        "parameters": {"resource": "payments"},
    }
    name = f"features-{method.replace('_', '-')}"
    form = pays_by_oauth(stack, user, name, auth, base_url=f"{stack.partner.url}/oauth")
    assert (form["scope"], form["audience"]) == ([auth["scope"]], [auth["audience"]])
    assert form["resource"] == ["payments"]
    assert ("client_secret" in form) == (method == "client_secret_post")


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # partners still ask for that name
@pytest.mark.parametrize("algorithm", AssertionAlgorithm)
def test_a_token_is_fetched_with_a_signed_assertion(
    stack: Stack, user: Consumer, bank: Bank, algorithm: AssertionAlgorithm
) -> None:
    key = PRIVATE_KEYS[algorithm]()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    bank.accept(lambda accepted: replace(accepted, public_keys=(("acme-2026", public),)))
    url = f"{stack.partner.url}/token/private_key_jwt"
    auth = {
        "token_url": url,
        "client_authentication": "private_key_jwt",
        "private_key": encrypted(key),
        "passphrase": PASSPHRASE,
        "algorithm": algorithm,
        "key_id": "acme-2026",
        "assertion_audience": url,
    }
    name = f"features-jwt-{algorithm.lower()}"
    form = pays_by_oauth(stack, user, name, auth, base_url=f"{stack.partner.url}/oauth")
    header = json.loads(base64.urlsafe_b64decode(form["client_assertion"][0].partition(".")[0] + "=="))
    assert (header["alg"], header["kid"]) == (algorithm, "acme-2026")


def test_a_token_is_fetched_with_a_certificate_and_counts_with_it_alone(stack: Stack, user: Consumer) -> None:
    auth = {
        "token_url": f"{door(stack, 'mtls')}/token/tls_client_auth",
        "client_authentication": "tls_client_auth",
    }
    form = pays_by_oauth(
        stack,
        user,
        "features-mtls",
        auth,
        base_url=f"{door(stack, 'mtls')}/oauth/certificate",
        client_certificate=client_certificate(stack),
        tls={"ca": pem(stack, "ca.pem"), "minimum_version": "1.3"},
    )
    assert form["client_id"] == ["demo"]
    assert stack.partner.certificates is not None
    shown = stack.partner.certificates.clients["client"].certificate.public_bytes(Encoding.DER)
    assert [call.certificate for call in list(stack.partner.calls)[-2:]] == [shown, shown]


def test_a_partner_without_the_pinned_key_is_not_trusted(stack: Stack, user: Consumer) -> None:
    """And one with the certificate, given later, is asked by it."""
    certificate = load_pem_x509_certificate(
        ssl.get_server_certificate(("127.0.0.1", stack.partner.doors["tls"][0])).encode()
    )
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    right, wrong = (base64.b64encode(hashlib.sha256(content).digest()).decode() for content in (key, b"another"))
    tls = {"ca": pem(stack, "ca.pem"), "pins": [f"sha256/{wrong}"], "minimum_version": "1.2"}
    name = created(user, stack, "features-tls", base_url=door(stack, "tls"), tls=tls)
    refused = user.call("POST", f"/v1/via/{name}/orders")
    assert (refused.status, kind_of(refused)) == (502, "partner-unreachable")
    changed = change(user, name, {"tls": tls | {"pins": [f"sha256/{right}"]}})
    assert changed.status == 200, changed.body
    passed = user.call("POST", f"/v1/via/{name}/orders")
    assert passed.status == 201
    call = received(stack.partner, user.delivery(passed.headers["sallyport-delivery-id"]))
    assert (call.scheme, call.certificate) == ("https", None)
    changed = change(user, name, {"client_certificate": client_certificate(stack)})
    assert changed.json["client_certificate"]["subject"] == "CN=demo-client", changed.body
