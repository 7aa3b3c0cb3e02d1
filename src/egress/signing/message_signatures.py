"""HTTP UnsignedRequest Signatures (RFC 9421) with Content-Digest (RFC 9530)."""

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import parse_qsl, quote, unquote_plus

from domain.outcomes import Headers
from domain.signing import DIGEST_HEADER, DigestAlgorithm, KeyInfo, MessageSignatures, query_parameter
from egress.signing.faults import NotSigned
from egress.signing.keys import signed
from egress.signing.unsigned import UnsignedRequest

_NONCE_BYTES = 16
_HASHES = {DigestAlgorithm.SHA256: hashlib.sha256, DigestAlgorithm.SHA512: hashlib.sha512}

_DERIVED: Mapping[str, Callable[[UnsignedRequest], str]] = {
    "@method": lambda request: request.method,
    "@target-uri": lambda request: f"{request.scheme}://{request.host}{request.target}",
    "@authority": lambda request: request.authority,
    "@scheme": lambda request: request.scheme,
    "@request-target": lambda request: request.target,
    "@path": lambda request: request.path,
    "@query": lambda request: f"?{request.query}",
}


def digest_header(forms: Iterable[MessageSignatures], body: bytes) -> Headers:
    """`Content-Digest` with an entry per algorithm of the `forms` that cover it; none where none does.

    A component that must be there is there for an empty body too; one that may be there is for a body alone.
    """
    covering = [form.digest for form in forms if _covers_digest(form, body)]
    entries = [f"{digest.value}=:{_digest(digest, body)}:" for digest in dict.fromkeys(covering)]
    return (("Content-Digest", ", ".join(entries)),) if entries else ()


def headers_of(
    form: MessageSignatures,
    keys: Sequence[tuple[KeyInfo, bytes]],
    request: UnsignedRequest,
    *,
    nonce: str | None = None,
) -> Headers:
    """`Signature-Input` and `Signature`, with one signature per key: the current key's under the label of `form`.

    Raises NotSigned where a component is missing or cannot be signed. Without `nonce` each signature has one of its
    own, where `form` asks for one.
    """
    inputs, signatures = [request.value_of("signature-input")], [request.value_of("signature")]
    for at, (info, key) in enumerate(keys):
        label = form.label if at == 0 else f"{form.label}-{at + 1}"
        parameters, base = signature_base(form, info, request, nonce=nonce)
        raw = signed(key, base, algorithm=form.algorithm)
        inputs.append(f"{label}={parameters}")
        signatures.append(f"{label}=:{base64.b64encode(raw).decode()}:")
    return (("Signature-Input", _joined(inputs)), ("Signature", _joined(signatures)))


def signature_base(
    form: MessageSignatures, info: KeyInfo, request: UnsignedRequest, *, nonce: str | None = None
) -> tuple[str, bytes]:
    """The value of @signature-params, and what is signed (RFC 9421 section 2.5). Raises NotSigned."""
    lines = _component_lines(form, request)
    parameters = _parameters(form, info, request, [identifier for identifier, _ in lines], nonce)
    base = "".join(f"{identifier}: {value}\n" for identifier, value in lines)
    return parameters, f'{base}"@signature-params": {parameters}'.encode("ascii")


def _covers_digest(form: MessageSignatures, body: bytes) -> bool:
    return DIGEST_HEADER in form.components or (DIGEST_HEADER in form.components_if_present and bool(body))


def _digest(algorithm: DigestAlgorithm, body: bytes) -> str:
    return base64.b64encode(_HASHES[algorithm](body).digest()).decode()


def _joined(entries: Sequence[str | None]) -> str:
    return ", ".join(entry for entry in entries if entry is not None)


def _component_lines(form: MessageSignatures, request: UnsignedRequest) -> list[tuple[str, str]]:
    """Identifier and value of each covered component (RFC 9421 section 2.5)."""
    lines = [(_identifier(component), _needed(component, request)) for component in form.components]
    for component in form.components_if_present:
        value = _value(component, request)
        if value is not None:
            lines.append((_identifier(component), value))
    for identifier, value in lines:
        if not value.isascii():
            raise NotSigned(f"the value of {identifier}, which the signature covers, is not ASCII")
    return lines


def _needed(component: str, request: UnsignedRequest) -> str:
    value = _value(component, request)
    if value is None:
        raise NotSigned(f"{component}, which the signature covers, is not in the request, or more than once")
    return value


def _identifier(component: str) -> str:
    name = query_parameter(component)
    return f'"{component}"' if name is None else f'"@query-param";name="{name}"'


def _value(component: str, request: UnsignedRequest) -> str | None:
    """Its value (RFC 9421 sections 2.1 and 2.2); None where the request has no such component."""
    name = query_parameter(component)
    if name is not None:
        return _query_value(name, request)
    derived = _DERIVED.get(component)
    return request.value_of(component) if derived is None else derived(request)


def _query_value(name: str, request: UnsignedRequest) -> str | None:
    """The value of a query parameter, encoded once more (section 2.2.8); None unless the query has it exactly once."""
    wanted = unquote_plus(name)
    pairs = parse_qsl(request.query, keep_blank_values=True)
    values = [value for found, value in pairs if found == wanted]
    # The set of application/x-www-form-urlencoded, except that a space is %20: of Python's "safe" a tilde is none.
    return quote(values[0], safe="*").replace("~", "%7E") if len(values) == 1 else None


def _parameters(
    form: MessageSignatures, info: KeyInfo, request: UnsignedRequest, identifiers: Sequence[str], nonce: str | None
) -> str:
    """The inner list of the covered components with its parameters (section 2.3), in the order of its examples."""
    parts = [f"({' '.join(identifiers)})"]
    if form.created:
        parts.append(f"created={request.unix_seconds}")
    if form.expires_seconds is not None:
        parts.append(f"expires={request.unix_seconds + form.expires_seconds}")
    parts.append(f"keyid={_string(info.key_id)}")
    if form.alg:
        parts.append(f"alg={_string(form.algorithm)}")
    if form.nonce:
        parts.append(f"nonce={_string(nonce or secrets.token_urlsafe(_NONCE_BYTES))}")
    if form.tag is not None:
        parts.append(f"tag={_string(form.tag)}")
    return ";".join(parts)


def _string(text: str) -> str:
    """A string of RFC 8941 section 3.3.3."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
