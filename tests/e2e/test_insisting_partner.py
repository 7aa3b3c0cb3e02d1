"""A bank that insists on tokens, certificates and signatures, which it verifies by code that is not ours."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from local.partner.bank import Bank
from local.stack import Stack
from tests.e2e.conftest import Consumer

END = "-----END CERTIFICATE-----\n"


def pays(consumer: Consumer, destination: dict[str, Any], key: str, path: str) -> Any:
    """The delivery of a payment by this destination, once nothing more happens to it."""
    made = consumer.call("POST", "/v1/destinations", body=destination)
    assert made.status == 201, made.body
    body = {"destination": destination["name"], "path": path, "method": "POST", "body": {"amount": 10}}
    accepted = consumer.call("POST", "/v1/deliveries", body=body, headers={"Idempotency-Key": key})
    return consumer.finished(accepted.json["delivery_id"])


def url(stack: Stack, door: str) -> str:
    scheme = "http" if door == "http" else "https"
    return f"{scheme}://127.0.0.1:{stack.partner.doors[door][0]}"


def pem(stack: Stack, name: str) -> str:
    assert stack.partner.certificates is not None
    return stack.partner.certificates.files()[name].decode()


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_bank_that_insists_on_oauth_is_paid_and_a_revoked_token_is_renewed_once(
    consumer: Consumer, stack: Stack, key: str, method: str
) -> None:
    auth = {
        "type": "oauth2", "token_url": f"{url(stack, 'http')}/token/{method}", "client_id": "demo",
        "client_secret": "demo-secret", "client_authentication": method,
    }  # fmt: skip
    destination = {"name": f"oauth-{key[-12:]}", "base_url": f"{url(stack, 'http')}/oauth", "auth": auth}
    before = stack.partner.bank.counters["tokens_issued"]
    delivery = pays(consumer, destination, key, "/payments")
    assert (delivery["state"], len(delivery["attempts"])) == ("delivered", 1)
    stack.partner.bank.tokens.clear()  # in mid-run: the token was good until now
    again = {"destination": destination["name"], "path": "/payments", "method": "POST", "body": {"amount": 20}}
    accepted = consumer.call("POST", "/v1/deliveries", body=again, headers={"Idempotency-Key": f"{key}-2"})
    renewed = consumer.finished(accepted.json["delivery_id"])
    assert (renewed["state"], len(renewed["attempts"])) == ("delivered", 1)
    assert stack.partner.bank.counters["tokens_issued"] == before + 2
    assert [len(stack.partner.bank.ledger.page(limit=9, key=paid)) for paid in (key, f"{key}-2")] == [1, 1]


def test_a_bank_that_insists_on_a_client_certificate_is_paid(consumer: Consumer, stack: Stack, key: str) -> None:
    certificate, _, key_pem = pem(stack, "client.pem").partition(END)
    destination = {
        "name": f"mtls-{key[-12:]}", "base_url": f"{url(stack, 'mtls')}/certificate",
        "client_certificate": {"certificate": f"{certificate}{END}", "key": key_pem},
        "tls": {"ca": pem(stack, "ca.pem")},
    }  # fmt: skip
    assert pays(consumer, destination, key, "/payments")["state"] == "delivered"


@pytest.mark.parametrize("door", ["expired", "wrong-name", "unknown-ca", "mtls"])
def test_a_bank_that_cannot_be_trusted_or_does_not_trust_us_is_unreachable_and_not_paid(
    consumer: Consumer, stack: Stack, key: str, door: str
) -> None:
    name = f"{door}-{key[-12:]}"
    destination = {"name": name, "base_url": url(stack, door), "tls": {"ca": pem(stack, "ca.pem")}}
    assert consumer.call("POST", "/v1/destinations", body=destination).status == 201
    answer = consumer.call("POST", f"/v1/via/{name}/payments", body=b"{}", headers={"Idempotency-Key": key})
    assert (answer.status, answer.json["type"]) == (502, "urn:sallyport:problem:partner-unreachable")
    assert stack.partner.bank.ledger.find(key) is None


SECRET = "a secret of sixteen bytes or more"
# How the bank calls a scheme, and the destination's.
SCHEMES: dict[str, dict[str, Any]] = {
    "github": {"type": "hmac", "header": "X-Hub-Signature-256", "value": "sha256={signature}", "secret": SECRET},
    "shopify": {"type": "hmac", "header": "X-Shopify-Hmac-SHA256", "encoding": "base64", "secret": SECRET},
    "slack": {
        "type": "hmac", "header": "X-Slack-Signature", "signed": "v0:{timestamp}:{body}", "value": "v0={signature}",
        "timestamp_header": "X-Slack-Request-Timestamp", "secret": SECRET,
    },
    "stripe": {
        "type": "hmac", "header": "Stripe-Signature", "signed": "{timestamp}.{body}",
        "value": "t={timestamp},v1={signature}", "secret": SECRET,
    },
    "http-message": {
        "type": "http_message_signatures", "algorithm": "ed25519", "keyid": "k1", "alg": True,
        "components": ["@method", "@target-uri", "content-digest"],
    },
    "jws": {"type": "jws_detached", "algorithm": "ES256", "header": "x-jws-signature", "keyid": "k1"},
}  # fmt: skip


@pytest.fixture
def bank(stack: Stack) -> Iterator[Bank]:
    """With the credentials from before afterwards, for the stack is that of all tests."""
    before = stack.partner.bank.accepted
    yield stack.partner.bank
    stack.partner.bank.accept(lambda _: before)


def test_a_bank_that_insists_on_standard_webhooks_is_paid(
    consumer: Consumer, stack: Stack, key: str, bank: Bank
) -> None:
    scheme = {"type": "standard_webhooks", "secret": bank.accepted.signing_secret}
    destination = {
        "name": f"signed-{key[-12:]}",
        "base_url": f"{url(stack, 'http')}/signed/standard-webhooks",
        "signing": [scheme],
    }
    assert pays(consumer, destination, key, "/payments")["state"] == "delivered"
    assert bank.ledger.find(key) is not None


@pytest.mark.parametrize("name", SCHEMES)
def test_a_bank_that_insists_on_a_signature_is_paid_and_another_key_is_refused(
    consumer: Consumer, stack: Stack, key: str, bank: Bank, name: str
) -> None:
    destination = {
        "name": f"{name}-{key[-12:]}",
        "base_url": f"{url(stack, 'http')}/signed/{name}",
        "signing": [SCHEMES[name]],
    }
    bank.accept(lambda accepted: replace(accepted, signing_secret="of somebody else", public_keys=()))
    refused = pays(consumer, destination, key, "/payments")
    assert (refused["state"], refused["attempts"][0]["response"]["status"]) == ("failed", 401)
    assert bank.ledger.find(key) is None
    (scheme,) = consumer.call("GET", f"/v1/destinations/{destination['name']}").json["signing"]
    public = scheme["keys"][0]["public_key"] or ""
    bank.accept(lambda accepted: replace(accepted, signing_secret=SECRET, public_keys=(("k1", public),)))
    body = {"destination": destination["name"], "path": "/payments", "method": "POST", "body": {"amount": 10}}
    accepted = consumer.call("POST", "/v1/deliveries", body=body, headers={"Idempotency-Key": f"{key}-2"})
    assert consumer.finished(accepted.json["delivery_id"])["state"] == "delivered"
    assert bank.ledger.find(f"{key}-2") is not None
