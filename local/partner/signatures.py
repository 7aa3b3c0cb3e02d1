"""Verifies signatures, with code that shares nothing with what makes them: the standard library and well-kept packages.

Packages are imported where they are used, so that `make run` starts as fast without a signature.
"""

import hashlib
import hmac
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from local.partner.bank import Bank
from local.partner.calls import Call
from local.partner.keys import JWS_ALGORITHMS, public_key
from local.partner.query import BadParameter, StepParameters

if TYPE_CHECKING:
    from http_message_signatures.algorithms import HTTPSignatureAlgorithm
    from joserfc.jwk import Key

TOLERANCE_SECONDS = 300  # as Standard Webhooks recommends


class BadSignature(Exception):
    """What is wrong with it, for the caller."""


type Verifier = Callable[[Call, Bank], None]


def _standard_webhooks(call: Call, bank: Bank) -> None:
    """v1 with the signing secret, or v1a with the public key `standard-webhooks`; one good signature of several is
    enough. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""
    identity, timestamp = _header(call, "webhook-id"), _header(call, "webhook-timestamp")
    _fresh(timestamp, bank)
    signed = f"{identity}.{timestamp}.".encode() + call.body
    secret = _decoded(bank.accepted.signing_secret.removeprefix("whsec_"))
    for signature in _header(call, "webhook-signature").split():
        version, _, encoded = signature.partition(",")
        if version == "v1" and hmac.compare_digest(_decoded(encoded), hmac.digest(secret, signed, "sha256")):
            return
        if version == "v1a" and _ed25519(bank, encoded, signed):
            return
    raise BadSignature("no signature of webhook-signature is right")


def _ed25519(bank: Bank, encoded: str, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = dict(bank.accepted.public_keys).get("standard-webhooks", "")
    if not key.startswith("whpk_"):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(_decoded(key.removeprefix("whpk_"))).verify(_decoded(encoded), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _github(call: Call, bank: Bank) -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    scheme, _, signature = _header(call, "x-hub-signature-256").partition("=")
    _compare(f"{scheme}={signature}", "sha256=" + _hmac(bank, call.body).hex())


def _stripe(call: Call, bank: Bank) -> None:
    """https://docs.stripe.com/webhooks#verify-manually"""
    parts = [part.partition("=")[::2] for part in _header(call, "stripe-signature").split(",")]
    timestamp = dict(parts).get("t", "")
    _fresh(timestamp, bank)
    expected = _hmac(bank, f"{timestamp}.".encode() + call.body).hex()
    # During a rotation there is a signature by each key, and any of them will do.
    if not any(name == "v1" and hmac.compare_digest(given.encode(), expected.encode()) for name, given in parts):
        raise BadSignature("the signature is wrong")


def _shopify(call: Call, bank: Bank) -> None:
    """https://shopify.dev/docs/apps/build/webhooks/subscribe/https"""
    _compare(_header(call, "x-shopify-hmac-sha256"), b64encode(_hmac(bank, call.body)).decode())


def _slack(call: Call, bank: Bank) -> None:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    timestamp = _header(call, "x-slack-request-timestamp")
    _fresh(timestamp, bank)
    signed = f"v0:{timestamp}:".encode() + call.body
    _compare(_header(call, "x-slack-signature"), "v0=" + _hmac(bank, signed).hex())


def _http_message(call: Call, bank: Bank) -> None:
    """RFC 9421 by the package http-message-signatures. The signature covers at least the method, the target and, where
    there is a body, its digest. During a rotation there is a signature by each key, and any of them will do."""
    problem = "signature-input has no signature"
    for alone, parameters in _each_signature(call):
        try:
            _verify_message(alone, parameters, bank)
        except BadSignature as error:
            problem = str(error)
        else:
            return
    raise BadSignature(problem)


def _each_signature(call: Call) -> Iterator[tuple[Call, Mapping[str, object]]]:
    """The request with each of its signatures alone, and the parameters of that one."""
    import http_sf

    inputs, signatures = _members(call, "signature-input"), _members(call, "signature")
    for label in inputs.keys() & signatures.keys():
        alone = {
            "signature-input": http_sf.ser({label: inputs[label]}),
            "signature": http_sf.ser({label: signatures[label]}),
        }
        yield replace(call, headers={**call.headers, **alone}), inputs[label][1]


def _members(call: Call, name: str) -> dict[str, Any]:
    """Those of a header that is a dictionary (RFC 9651), with their parameters behind them."""
    import http_sf

    try:
        parsed: Any = http_sf.parse(_header(call, name).encode(), tltype="dictionary")
    except ValueError as error:
        raise BadSignature(f"{name} cannot be read: {error}") from error
    return dict(parsed)


def _verify_message(call: Call, parameters: Mapping[str, object], bank: Bank) -> None:
    from http_message_signatures import HTTPMessageVerifier, MappingKeyResolver, algorithms
    from http_message_signatures.exceptions import HTTPMessageSignaturesException

    known = {algorithm.algorithm_id: algorithm for algorithm in _of_rfc_9421(algorithms)}
    named, key_id = parameters.get("alg"), parameters.get("keyid")
    if named not in known:
        raise BadSignature("Signature-Input names no algorithm (alg) of RFC 9421")
    shared = {str(key_id): _shared(bank)} if named == "hmac-sha256" else {}
    known_keys = {name: pem.encode() for name, pem in bank.accepted.public_keys}
    keys = MappingKeyResolver(public_keys=known_keys | shared, private_keys={})
    verifier = HTTPMessageVerifier(signature_algorithm=known[str(named)], key_resolver=keys)
    message = _HttpMessage(method=call.method, url=call.url, headers=dict(call.headers))
    try:
        results = verifier.verify(message, require_components=("@method",), body=call.body)
    except (HTTPMessageSignaturesException, ValueError) as error:
        raise BadSignature(f"{type(error).__name__}: {error}") from error
    if not any({'"@target-uri"', '"@path"'} & set(result.covered_components) for result in results):
        raise BadSignature("the signature covers neither @target-uri nor @path")


@dataclass(slots=True, kw_only=True)
class _HttpMessage:
    method: str
    url: str
    headers: dict[str, str]


def _of_rfc_9421(algorithms: ModuleType) -> Iterator["type[HTTPSignatureAlgorithm]"]:
    base = algorithms.HTTPSignatureAlgorithm
    for value in vars(algorithms).values():
        if isinstance(value, type) and issubclass(value, base) and value is not base:
            yield value


def _jws(call: Call, bank: Bank) -> None:
    """A detached JWS over the body in x-jws-signature, its payload encoded (RFC 7515 appendix F) or not (RFC 7797)."""
    from joserfc import errors, jws

    protected, _, signature = _header(call, "x-jws-signature").partition("..")
    if not signature:
        raise BadSignature("x-jws-signature is no detached JWS")
    try:
        header = jws.extract_compact(f"{protected}..{signature}".encode(), payload=b"").headers()
        encoded = header.get("b64") is not False
        payload = urlsafe_b64encode(call.body).rstrip(b"=").decode() if encoded else ""
        key = _public_key(bank, str(header.get("kid", "")))
        jws.deserialize_compact(
            f"{protected}.{payload}.{signature}", key, algorithms=JWS_ALGORITHMS, payload=None if encoded else call.body
        )
    except (errors.JoseError, ValueError) as error:
        raise BadSignature(f"{type(error).__name__}: {error}") from error


def _truelayer(call: Call, bank: Bank) -> None:
    """Tl-Signature, by TrueLayer's own package; the idempotency key must be covered.
    https://github.com/TrueLayer/truelayer-signing/blob/main/request-signing-v2.md"""
    import truelayer_signing

    text = _header(call, "tl-signature")
    try:
        pem = _public_pem(bank, truelayer_signing.extract_jws_header(text).kid)
        truelayer_signing.verify_with_pem(pem).set_method(truelayer_signing.HttpMethod(call.method)).set_path(
            call.path
        ).add_headers(dict(call.headers)).add_required_header("Idempotency-Key").set_body(
            call.body.decode("utf-8", "replace")
        ).verify(text)
    except BadSignature:
        raise
    except Exception as error:  # what the package raises of a text that is no JWS is not one kind
        raise BadSignature(f"{type(error).__name__}: {error}") from error


def verify_template(call: Call, bank: Bank, parameters: StepParameters) -> None:
    """A partner's own HMAC: the value of `header` is `prefix`, and in `encoding` that of the template `signed`, whose
    fields are {timestamp}, out of `timestamp_header`, {method}, {path} (with the query), {body} and {id}, which is the
    idempotency key."""
    algorithm, encoding = parameters.text("hash", "sha256"), parameters.text("encoding", "hex")
    encode = {"hex": bytes.hex, "base64": lambda digest: b64encode(digest).decode()}.get(encoding)
    if algorithm not in ("sha256", "sha384", "sha512") or encode is None:
        raise BadParameter("hash is sha256, sha384 or sha512, encoding is hex or base64")
    template = parameters.text("signed", "{body}")
    values = {
        "{method}": call.method.encode(),
        "{path}": call.path.encode(),
        "{id}": call.idempotency_key.encode(),
        "{body}": call.body,
    }
    if "{timestamp}" in template:
        timestamp = _header(call, parameters.text("timestamp_header", "x-timestamp").lower())
        _fresh(timestamp, bank)
        values["{timestamp}"] = timestamp.encode()
    parts = re.split(f"({'|'.join(map(re.escape, values))})", template)
    signed = b"".join(values.get(part, part.encode()) for part in parts)
    expected = parameters.text("prefix", "") + encode(hmac.digest(_shared(bank), signed, algorithm))
    _compare(_header(call, parameters.text("header", "x-signature").lower()), expected)


def _public_key(bank: Bank, key_id: str) -> "Key":
    return public_key(_public_pem(bank, key_id))


def _public_pem(bank: Bank, key_id: str) -> str:
    pem = dict(bank.accepted.public_keys).get(key_id)
    if pem is None:
        raise BadSignature("the key id is not known")
    return pem


def _hmac(bank: Bank, signed: bytes) -> bytes:
    return hmac.digest(_shared(bank), signed, hashlib.sha256)


def _shared(bank: Bank) -> bytes:
    """The signing secret as bytes: one that begins with whsec_ is base64, another one is its own text."""
    text = bank.accepted.signing_secret
    return _decoded(text.removeprefix("whsec_")) if text.startswith("whsec_") else text.encode()


def _header(call: Call, name: str) -> str:
    if name not in call.headers:
        raise BadSignature(f"{name} is missing")
    return call.headers[name]


def _fresh(timestamp: str, bank: Bank) -> None:
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise BadSignature("the timestamp is no Unix time")
    if abs(int(timestamp) - bank.clock()) > TOLERANCE_SECONDS:
        raise BadSignature(f"the timestamp is more than {TOLERANCE_SECONDS} s away")


def _compare(given: str, expected: str) -> None:
    if not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        raise BadSignature("the signature is wrong")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except NoBase64:
        raise BadSignature("a signature or a key is no base64") from None


SCHEMES: dict[str, Verifier] = {
    "standard-webhooks": _standard_webhooks,
    "http-message": _http_message,
    "jws": _jws,
    "truelayer": _truelayer,
    "github": _github,
    "stripe": _stripe,
    "shopify": _shopify,
    "slack": _slack,
}
