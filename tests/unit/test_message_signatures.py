"""RFC 9421: its own vectors, and what an independent implementation makes of our signatures."""

import base64
import hashlib
from typing import Any
from urllib.parse import quote

import cryptography.exceptions
import pytest
from http_message_signatures import InvalidSignature
from hypothesis import given
from hypothesis import strategies as st

from domain.signing import (
    DigestAlgorithm,
    KeyKind,
    MessageAlgorithm,
    MessageSignatures,
    SecretEncoding,
    component_fault,
    key_kind,
    scheme,
)
from egress.signing.faults import NotSigned
from egress.signing.keys import private_key, shared_secret
from egress.signing.message_signatures import digest_header, headers_of, signature_base
from egress.signing.schemes import signed_headers
from egress.signing.unsigned import UnsignedRequest
from tests.support import rfc9421
from tests.support.rfc9421 import VECTORS, Vector
from tests.support.signing import (
    ALGORITHMS,
    key_info,
    key_of,
    one_key,
    public_key,
    public_key_of_pem,
    sign,
    unsigned,
    value,
    verify_message,
)

PEMS = {
    "test-key-rsa-pss": rfc9421.TEST_KEY_RSA_PSS,
    "test-key-ecc-p256": rfc9421.TEST_KEY_ECC_P256,
    "test-key-ed25519": rfc9421.TEST_KEY_ED25519,
}
SECRET = base64.b64decode(rfc9421.TEST_SHARED_SECRET)
MANY = ("@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query", "content-digest")


def secret_of(vector: Vector) -> bytes:
    if vector.form.algorithm is MessageAlgorithm.HMAC_SHA256:
        return shared_secret(rfc9421.TEST_SHARED_SECRET, encoding=SecretEncoding.BASE64).secret
    return private_key(PEMS[vector.key_id], passphrase=None, kind=key_kind(vector.form)).secret


def verifying_key(vector: Vector) -> Any:
    return SECRET if vector.key_id == "test-shared-secret" else public_key_of_pem(PEMS[vector.key_id])


def request_of(vector: Vector) -> UnsignedRequest:
    headers = (*vector.headers, *digest_header([vector.form], vector.body))
    return unsigned(method=vector.method, url=vector.url, headers=headers, body=vector.body, at=rfc9421.CREATED_AT)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.section)
def test_the_parameters_are_those_of_the_rfc(vector: Vector) -> None:
    parameters, _ = signature_base(vector.form, key_info(key_id=vector.key_id), request_of(vector), nonce=vector.nonce)
    assert parameters == vector.signature_input


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.section)
def test_the_rfcs_own_signature_is_one_of_what_we_sign(vector: Vector) -> None:
    _, base = signature_base(vector.form, key_info(key_id=vector.key_id), request_of(vector), nonce=vector.nonce)
    verifier = ALGORITHMS[vector.form.algorithm](public_key=verifying_key(vector))
    verifier.verify(signature=base64.b64decode(vector.signature), message=base)
    with pytest.raises(cryptography.exceptions.InvalidSignature):
        verifier.verify(signature=base64.b64decode(vector.signature), message=base + b" ")


@pytest.mark.parametrize("vector", [vector for vector in VECTORS if vector.repeats], ids=lambda vector: vector.section)
def test_a_deterministic_signature_is_the_rfcs_byte_for_byte(vector: Vector) -> None:
    info = key_info(key_id=vector.key_id)
    headers = headers_of(vector.form, [(info, secret_of(vector))], request_of(vector), nonce=vector.nonce)
    assert headers == (
        ("Signature-Input", f"{vector.form.label}={vector.signature_input}"),
        ("Signature", f"{vector.form.label}=:{vector.signature}:"),
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.section)
def test_another_implementation_accepts_our_signature_of_each_vector(vector: Vector) -> None:
    sent = unsigned(
        method=vector.method, url=vector.url, headers=vector.headers, body=vector.body, at=rfc9421.CREATED_AT
    )
    headers = sign(vector.form, secret_of(vector), sent, key_id=vector.key_id)
    headers = (*headers, ("content-length", str(len(vector.body))))
    (result,) = verify_message(
        vector.form.algorithm, verifying_key(vector), method=vector.method, url=vector.url, headers=headers
    )
    assert result.parameters["keyid"] == vector.key_id


def test_the_rfcs_request_has_the_digest_that_it_says() -> None:
    form = MessageSignatures(
        algorithm=MessageAlgorithm.ED25519, components=("content-digest",), digest=DigestAlgorithm.SHA512
    )
    assert digest_header([form], b'{"hello": "world"}') == (
        (
            "Content-Digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
    )


def test_the_digest_of_rfc_9530_is_ours() -> None:
    """Appendix D of RFC 9530: `{"hello": "world"}` and a line feed."""
    form = MessageSignatures(algorithm=MessageAlgorithm.ED25519, components=("content-digest",))
    assert digest_header([form], b'{"hello": "world"}\n') == (
        ("Content-Digest", "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
    )


@pytest.mark.parametrize("algorithm", MessageAlgorithm)
def test_another_implementation_accepts_every_algorithm(algorithm: MessageAlgorithm) -> None:
    form = MessageSignatures(
        algorithm=algorithm,
        components=(*MANY, "content-type", "content-length", "user-agent"),
        alg=True,
        nonce=True,
        expires_seconds=60,
        tag='a "quoted\\ tag',
    )
    kind = key_kind(form)
    secret = SECRET if kind is KeyKind.SECRET else key_of(kind).secret
    public = SECRET if kind is KeyKind.SECRET else public_key(secret)
    sent = unsigned()
    signed = sign(form, secret, sent)
    on_the_wire = (*signed, ("content-length", "13"), ("user-agent", sent.value_of("user-agent") or ""))
    (result,) = verify_message(
        algorithm, public, method="POST", url=sent.url, headers=on_the_wire, body=b'{"amount": 5}'
    )
    assert result.parameters["tag"] == 'a "quoted\\ tag'
    assert result.parameters["expires"] == result.parameters["created"] + 60
    with pytest.raises(InvalidSignature):
        verify_message(algorithm, public, method="PUT", url=sent.url, headers=on_the_wire)


def test_both_keys_of_a_rotation_sign_under_labels_of_their_own() -> None:
    form = MessageSignatures(algorithm=MessageAlgorithm.HMAC_SHA256, components=("@method",), tag="t")
    both = scheme(form, name="s", keys=[key_info("new"), key_info("old")])
    headers = signed_headers(unsigned(), [both], secrets={"new": b"n" * 32, "old": b"o" * 32})
    assert [part.partition("=")[0] for part in value(headers, "Signature").split(", ")] == ["sig1", "sig1-2"]
    for label, secret in (("sig1", b"n" * 32), ("sig1-2", b"o" * 32)):
        alone = [
            (name, next(part for part in text.split(", ") if part.startswith(f"{label}=")))
            for name, text in headers
            if name.startswith("Signature")
        ]
        verify_message(form.algorithm, secret, method="POST", url=unsigned().url, headers=tuple(alone))


def test_two_schemes_share_the_headers_and_the_digest() -> None:
    first = MessageSignatures(algorithm=MessageAlgorithm.HMAC_SHA256, components=("content-digest",), label="a")
    second = MessageSignatures(
        algorithm=MessageAlgorithm.HMAC_SHA256,
        components=("content-digest",),
        label="b",
        digest=DigestAlgorithm.SHA512,
    )
    headers = signed_headers(unsigned(), [one_key(first), one_key(second)], secrets={"k": SECRET})
    entries = value(headers, "Content-Digest").split(", ")
    assert [entry.partition("=")[0] for entry in entries] == ["sha-256", "sha-512"]
    assert [part.partition("=")[0] for part in value(headers, "Signature").split(", ")] == ["a", "b"]
    # Both cover the header as it is sent, with both digests.
    for label in ("a", "b"):
        alone = tuple(
            (name, next(part for part in text.split(", ") if part.startswith(f"{label}=")))
            if name.startswith("Signature")
            else (name, text)
            for name, text in headers
        )
        verify_message(first.algorithm, SECRET, method="POST", url=unsigned().url, headers=alone)


def test_a_component_that_is_missing_is_an_error_unless_it_may_be() -> None:
    needed = MessageSignatures(algorithm=MessageAlgorithm.HMAC_SHA256, components=("x-request-id",))
    with pytest.raises(NotSigned, match="x-request-id, which the signature covers, is not in the request"):
        sign(needed, SECRET, unsigned())
    wanted = MessageSignatures(
        algorithm=MessageAlgorithm.HMAC_SHA256, components=("@method",), components_if_present=("x-request-id",)
    )
    assert "x-request-id" not in value(sign(wanted, SECRET, unsigned()), "Signature-Input")
    with_it = unsigned(headers=(("X-Request-Id", "7"),))
    assert '("@method" "x-request-id")' in value(sign(wanted, SECRET, with_it), "Signature-Input")


def test_a_digest_that_may_be_there_is_left_out_without_a_body() -> None:
    form = MessageSignatures(
        algorithm=MessageAlgorithm.HMAC_SHA256, components=("@method",), components_if_present=("content-digest",)
    )
    empty = sign(form, SECRET, unsigned(body=b"", headers=(("Content-Digest", "sha-256=:of-the-caller:"),)))
    assert "content-digest" not in {name.lower() for name, _ in empty}
    digest = base64.b64encode(hashlib.sha256(b'{"amount": 5}').digest()).decode()
    assert value(sign(form, SECRET, unsigned()), "Content-Digest") == f"sha-256=:{digest}:"


def test_a_digest_that_must_be_there_is_one_of_the_empty_body_too() -> None:
    form = MessageSignatures(algorithm=MessageAlgorithm.HMAC_SHA256, components=("content-digest",))
    digest = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    assert value(sign(form, SECRET, unsigned(body=b"")), "Content-Digest") == f"sha-256=:{digest}:"


def test_a_value_that_is_not_ascii_cannot_be_covered() -> None:
    form = MessageSignatures(algorithm=MessageAlgorithm.HMAC_SHA256, components=("x-name",))
    with pytest.raises(NotSigned, match='"x-name", which the signature covers, is not ASCII'):
        sign(form, SECRET, unsigned(headers=(("X-Name", "caf\xe9"),)))


@pytest.mark.parametrize(
    ("query", "name", "expected"),
    [
        # RFC 9421 section 2.2.8 has these three.
        ("var=this%20is%20a%20big%0Amultiline%20value", "var", "this%20is%20a%20big%0Amultiline%20value"),
        ("var=x&bar=with+plus+whitespace", "bar", "with%20plus%20whitespace"),
        ("fa%C3%A7ade%22%3A%20=something", "fa%C3%A7ade%22%3A%20", "something"),
        ("a=%2A~-._", "a", "*%7E-._"),
        ("a=", "a", ""),
        ("a", "a", ""),
    ],
)
def test_a_query_parameter_is_encoded_as_the_rfc_shows(query: str, name: str, expected: str) -> None:
    form = MessageSignatures(
        algorithm=MessageAlgorithm.HMAC_SHA256, components=(f'@query-param;name="{name}"',), created=False
    )
    url = f"https://a.example/?{query}"
    _, base = signature_base(form, key_info(), unsigned(url=url))
    assert base.decode().splitlines()[0] == f'"@query-param";name="{name}": {expected}'
    verify_message(form.algorithm, SECRET, method="POST", url=url, headers=sign(form, SECRET, unsigned(url=url)))


@pytest.mark.parametrize("query", ["a=1&a=2", "b=1", ""])
def test_a_query_parameter_must_be_there_once(query: str) -> None:
    form = MessageSignatures(algorithm=MessageAlgorithm.HMAC_SHA256, components=('@query-param;name="a"',))
    with pytest.raises(NotSigned, match="@query-param"):
        sign(form, SECRET, unsigned(url=f"https://a.example/?{query}"))


@given(
    query=st.lists(
        st.tuples(st.sampled_from(["a", "b%20c", "%C3%BC"]), st.text("ab0+~*-._=é/?")),
        max_size=4,
    )
)
def test_any_query_parameter_is_covered_as_the_other_implementation_covers_it(query: list[tuple[str, str]]) -> None:
    text = "&".join(f"{name}={quote(given, safe='+~*-._/?')}" for name, given in query)
    url = f"https://a.example/p?{text}"
    names = {name for name, _ in query if [other for other, _ in query].count(name) == 1}
    form = MessageSignatures(
        algorithm=MessageAlgorithm.HMAC_SHA256,
        components=("@query", *(f'@query-param;name="{name}"' for name in sorted(names))),
    )
    verify_message(form.algorithm, SECRET, method="POST", url=url, headers=sign(form, SECRET, unsigned(url=url)))


@pytest.mark.parametrize(
    ("url", "authority", "target_uri", "query"),
    [
        ("https://Bank.Example:443/a%2Fb?x=%7e", "bank.example", "https://Bank.Example/a%2Fb?x=%7e", "?x=%7e"),
        ("http://bank.example:443", "bank.example:443", "http://bank.example:443/", "?"),
        ("https://[2001:DB8::1]:8443/", "[2001:db8::1]:8443", "https://[2001:DB8::1]:8443/", "?"),
        ("HTTPS://bank.example?x", "bank.example", "https://bank.example/?x", "?x"),
    ],
)
def test_the_authority_has_its_normal_form_and_the_target_is_as_sent(
    url: str, authority: str, target_uri: str, query: str
) -> None:
    form = MessageSignatures(algorithm=MessageAlgorithm.HMAC_SHA256, components=("@authority", "@target-uri", "@query"))
    _, base = signature_base(form, key_info(), unsigned(url=url))
    assert base.decode().splitlines()[:3] == [
        f'"@authority": {authority}',
        f'"@target-uri": {target_uri}',
        f'"@query": {query}',
    ]


@pytest.mark.parametrize(
    ("component", "fault"),
    [
        ("@status", "a request has no such component"),
        ("@query-param", "must be written as @query-param"),
        ('@query-param;name="a b"', "must be written as @query-param"),
        ("@METHOD", "a request has no such component"),
        ("@signature-params", "a request has no such component"),
        ("host", "must be @authority"),
        ("signature", "no signature can cover it"),
        ("transfer-encoding", "no signature can cover it"),
        ("Content-Type", "in lower case"),
        ("content-type;sf", "without parameters"),
        ("", "must be the name of a header"),
        ("a\nb", "must be the name of a header"),
    ],
)
def test_what_cannot_be_covered_says_why(component: str, fault: str) -> None:
    assert fault in (component_fault(component) or "")


@pytest.mark.parametrize("component", ["@method", '@query-param;name="a%20b"', "content-digest", "x-id", "webhook-id"])
def test_what_can_be_covered_has_no_fault(component: str) -> None:
    assert component_fault(component) is None
