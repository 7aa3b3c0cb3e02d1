"""Every kind of signature, and the rotation of keys."""

import base64
import hmac
from typing import Any

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from domain.signing import DetachedJws, JwsAlgorithm, MessageAlgorithm
from local.partner import Call
from local.stack import Stack
from tests.e2e.conftest import Consumer
from tests.e2e.features.helpers import (
    WAIT,
    kind_of,
    received,
)
from tests.support.signing import public_key_of_public_pem, verify_jws, verify_message


def hmac_scheme(algorithm: str, encoding: str, secret_encoding: str, timestamp_format: str) -> dict[str, Any]:
    return {
        "type": "hmac",
        "name": f"hmac-{algorithm}",
        "header": f"X-{algorithm}",
        "signed": "{timestamp}.{id}.{method} {path}?{query}.{body}",
        "value": "t={timestamp},s={signature}",
        "repeat": ",s={signature}",
        "algorithm": algorithm,
        "encoding": encoding,
        "secret_encoding": secret_encoding,
        "timestamp_header": f"X-{algorithm}-Time",
        "timestamp_format": timestamp_format,
    }


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # partners still ask for that name
def test_each_kind_of_signature_reaches_the_partner_and_verifies_there(stack: Stack, user: Consumer) -> None:
    """With keys that the gateway made: what the partner knows of them is what the API showed."""
    hmacs = [
        hmac_scheme("sha256", "hex", "text", "unix"),
        hmac_scheme("sha512", "base64", "hex", "unix_ms"),
        hmac_scheme("sha1", "base64url", "base64", "iso8601"),
    ]
    webhooks = [{"type": "standard_webhooks", "name": version, "version": version} for version in ("v1", "v1a")]
    messages = [
        {
            "type": "http_message_signatures",
            "name": algorithm,
            "algorithm": algorithm,
            "label": f"sig{number}",
            "components": ["@method", "@authority", "@path", "@query", "content-digest", "webhook-signature"],
            "components_if_present": ["content-type", "x-sha1"],
            "digest": "sha-512" if number % 2 else "sha-256",
            "expires_seconds": 60,
            "nonce": True,
            "alg": True,
            "tag": algorithm,
        }
        for number, algorithm in enumerate(MessageAlgorithm)
    ]
    tokens = [
        {
            "type": "jws_detached",
            "name": f"jws-{algorithm.lower()}-{number}",
            "algorithm": algorithm,
            "header": f"X-Jws-{algorithm}",
        }
        for number, algorithm in enumerate(JwsAlgorithm)
    ]
    parts = [[*webhooks, *messages[:3]], [*webhooks, *messages[3:]], [*hmacs, *tokens[:2]], tokens[2:]]
    for number, signing in enumerate(parts):
        body = {"name": f"signed-{number}", "base_url": stack.partner.url, "signing": signing}
        created = user.call("POST", "/v1/destinations", body=body)
        assert created.status == 201, created.body
        sent = user.deliver(destination=body["name"], path="/orders", query="a=%7e", body={"a": 1}, headers=WAIT)
        assert sent.json["state"] == "delivered", sent.body
        for one in created.json["signing"]:
            must_verify(one, received(stack.partner, sent.json), url=f"{stack.partner.url}/orders?a=%7e")


def test_a_key_is_rotated_and_both_sign_until_the_overlap_is_over(stack: Stack, user: Consumer) -> None:
    body = {"name": "rotating", "base_url": stack.partner.url, "signing": [{"type": "standard_webhooks"}]}
    made = user.call("POST", "/v1/destinations", body=body).json
    rotation = {"scheme": "standard_webhooks", "overlap_seconds": 3600, "keyid": "second"}
    rotated = user.call("POST", "/v1/destinations/rotating/rotate-secret", body=rotation)
    assert rotated.status == 200, rotated.body
    secrets = [answer["signing"][0]["keys"][0]["secret"] for answer in (made, rotated.json)]
    call = received(
        stack.partner, user.deliver(destination="rotating", path="/orders", body={"a": 1}, headers=WAIT).json
    )
    for secret in secrets:
        standardwebhooks.Webhook(secret).verify(call.body, dict(call.headers))
    given = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "overlap_seconds": 0}
    late = user.call("POST", "/v1/destinations/rotating/rotate-secret", body=given, headers={"If-Match": '"1"'})
    assert (late.status, kind_of(late)) == (412, "precondition-failed")
    version = {"If-Match": user.call("GET", "/v1/destinations/rotating").headers["etag"]}
    assert user.call("POST", "/v1/destinations/rotating/rotate-secret", body=given, headers=version).status == 200
    sent = user.deliver(destination="rotating", path="/orders", body={"a": 1}, headers=WAIT)
    assert sent.status == 200, sent.body
    assert len(received(stack.partner, sent.json).headers["webhook-signature"].split(" ")) == 1


def test_a_key_pair_is_rotated_to_a_given_one(user: Consumer) -> None:
    signing = [{"type": "jws_detached", "algorithm": "ES256", "header": "X-Jws"}]
    body = {"name": "rotating-pair", "base_url": "https://bank.example", "signing": signing}
    assert user.call("POST", "/v1/destinations", body=body).status == 201
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
    )
    given = {"private_key": key.decode(), "passphrase": "open sesame"}
    answer = user.call("POST", "/v1/destinations/rotating-pair/rotate-secret", body=given)
    assert answer.status == 200, answer.body
    assert [key["expires_at"] is None for key in answer.json["signing"][0]["keys"]] == [True, False]


def test_every_member_of_a_signature_is_taken(user: Consumer) -> None:
    """Those of the document's examples, which have all of them."""
    document = user.call("GET", "/openapi.json").json
    content = document["paths"]["/v1/destinations"]["post"]["requestBody"]["content"]["application/json"]
    for name, example in content["examples"].items():
        if signing := example["value"].get("signing"):
            body = {"name": f"features-{name}", "base_url": "https://bank.example", "signing": signing}
            assert user.call("POST", "/v1/destinations", body=body).status == 201


def must_verify(scheme: dict[str, Any], call: Call, *, url: str) -> None:
    """Fails unless the partner can check the signature of `scheme` with what the API showed of its key."""
    (key,) = scheme["keys"]
    headers = tuple(call.headers.items())
    match scheme["type"]:
        case "standard_webhooks" if scheme["version"] == "v1":
            standardwebhooks.Webhook(key["secret"]).verify(call.body, dict(headers))
        case "standard_webhooks":
            content = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
            raw = base64.b64decode(call.headers["webhook-signature"].partition("v1a,")[2])
            public = base64.b64decode(key["public_key"].removeprefix("whpk_"))
            Ed25519PublicKey.from_public_bytes(public).verify(raw, content)
        case "http_message_signatures":
            label = scheme["label"]
            alone = tuple(
                (name, next(part for part in text.split(", ") if part.startswith(f"{label}=")))
                if name in ("signature", "signature-input")
                else (name, text)
                for name, text in headers
            )
            algorithm = MessageAlgorithm(scheme["algorithm"])
            secret = key.get("secret")
            public_key = base64.b64decode(secret) if secret else public_key_of_public_pem(key["public_key"])
            verify_message(algorithm, public_key, method=call.method, url=url, headers=alone, body=call.body)
        case "hmac":
            must_verify_hmac(scheme, call)
        case _:
            verify_jws(
                call.headers[scheme["header"].lower()],
                call.body,
                DetachedJws(algorithm=JwsAlgorithm(scheme["algorithm"]), header=scheme["header"]),
                pem=key["public_key"],
            )


def must_verify_hmac(scheme: dict[str, Any], call: Call) -> None:
    secret = scheme["keys"][0]["secret"]
    raw = {"text": str.encode, "hex": bytes.fromhex, "base64": base64.b64decode}[scheme["secret_encoding"]](secret)
    stamp = call.headers[scheme["timestamp_header"].lower()]
    content = f"{stamp}.{call.idempotency_key}.{call.method} /orders?a=%7e.".encode() + call.body
    digest = hmac.digest(raw, content, scheme["algorithm"])
    written = {
        "hex": digest.hex(),
        "base64": base64.b64encode(digest).decode(),
        "base64url": base64.urlsafe_b64encode(digest).decode().rstrip("="),
    }
    assert call.headers[scheme["header"].lower()] == f"t={stamp},s={written[scheme['encoding']]}"
