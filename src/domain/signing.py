"""How requests to a destination are signed: its schemes, their keys, and what happens to them when a key is rotated.

Secret keys are not here: they are sealed in a column of their own, under the `ref` of their `KeyInfo`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from domain.templates import fields_in, template_fault
from domain.values import value_class

MAX_SCHEMES = 5
MAX_KEYS = 5  # of one scheme: the current one, and those of rotations whose overlaps are not over
MAX_COMPONENTS = 50
MAX_MEMBER_LEVELS = 5  # of a member of a JWS header
DEFAULT_OVERLAP_SECONDS = 86_400
MAX_OVERLAP_SECONDS = 30 * 86_400
SIGNED_FIELDS = ("id", "timestamp", "method", "path", "query", "body")
DIGEST_HEADER = "content-digest"
WEBHOOK_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
MESSAGE_HEADERS = ("signature-input", "signature")
# What a request has besides header fields (RFC 9421 section 2.2); @status belongs to responses.
_DERIVED = frozenset({"@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"})
_QUERY_PARAMETER = r'@query-param;name="((?:[A-Za-z0-9*\-._]|%[0-9A-F]{2})*)"'
_FIELD_NAME = r"[!#$%&'*+\-.^_`|~0-9a-z]+"
# They concern one connection (RFC 9110 section 7.6.1), or are what the signature is written into.
_NEVER_COVERED = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
    | set(MESSAGE_HEADERS)
)
_LABEL = r"[a-z*][a-z0-9_\-.*]{0,62}"  # RFC 8941 section 3.1.2: the key of a dictionary
_TEXT = r"[\x20-\x7e]*"  # RFC 8941 section 3.3.3: a string
# RFC 7515 section 4.1: what a header has by itself, which `crit` must not name (section 4.1.11).
_OWN_MEMBERS = ("alg", "kid", "b64", "crit")
_REGISTERED = frozenset(
    {"jku", "jwk", "kid", "x5u", "x5c", "x5t", "x5t#S256", "typ", "cty", "crit", "alg", "enc", "zip"}
)


class KeyKind(StrEnum):
    """What a key is, whatever signs with it."""

    SECRET = "secret"  # noqa: S105 - the name of a kind
    ED25519 = "ed25519"
    P256 = "p256"
    P384 = "p384"
    P521 = "p521"
    RSA = "rsa"


class WebhookVersion(StrEnum):
    """The signatures of Standard Webhooks: `v1` is HMAC-SHA256, `v1a` Ed25519."""

    V1 = "v1"
    V1A = "v1a"


class MessageAlgorithm(StrEnum):
    """The algorithms of RFC 9421 section 3.3."""

    ED25519 = "ed25519"
    ECDSA_P256_SHA256 = "ecdsa-p256-sha256"
    ECDSA_P384_SHA384 = "ecdsa-p384-sha384"
    RSA_PSS_SHA512 = "rsa-pss-sha512"
    RSA_V1_5_SHA256 = "rsa-v1_5-sha256"
    HMAC_SHA256 = "hmac-sha256"


class JwsAlgorithm(StrEnum):
    """Of RFC 7518 section 3.1, RFC 8037 and RFC 9864, which renamed `EdDSA` to `Ed25519`, those that banks use."""

    PS256 = "PS256"
    RS256 = "RS256"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    EDDSA = "EdDSA"
    ED25519 = "Ed25519"


class HmacAlgorithm(StrEnum):
    """The hash functions of an HMAC; `sha1` is for partners who know nothing newer."""

    SHA256 = "sha256"
    SHA512 = "sha512"
    SHA1 = "sha1"


class DigestAlgorithm(StrEnum):
    """The digests of RFC 9530 section 5 that are not deprecated."""

    SHA256 = "sha-256"
    SHA512 = "sha-512"


class Encoding(StrEnum):
    """How bytes are written in a header; `base64url` without padding."""

    HEX = "hex"
    BASE64 = "base64"
    BASE64URL = "base64url"


class SecretEncoding(StrEnum):
    """How a shared secret's bytes are read from the text that partner and client exchange."""

    TEXT = "text"
    HEX = "hex"
    BASE64 = "base64"


class TimestampFormat(StrEnum):
    """How the time of an attempt is written: seconds or milliseconds since 1970, or `2026-03-01T12:00:00Z`."""

    UNIX = "unix"
    UNIX_MS = "unix_ms"
    ISO8601 = "iso8601"


@value_class(frozen=True, slots=True, kw_only=True)
class StandardWebhooks:
    """The headers `webhook-id`, `webhook-timestamp` and `webhook-signature` (standardwebhooks.com)."""

    version: WebhookVersion = WebhookVersion.V1


@value_class(frozen=True, slots=True, kw_only=True)
class MessageSignatures:
    """`Signature-Input` and `Signature` of RFC 9421.

    Each of `components` must be in the request, or it is not sent; those of `components_if_present` are covered where
    they are there, `content-digest` among them where there is a body. `expires_seconds` are counted from `created`.
    """

    algorithm: MessageAlgorithm
    components: tuple[str, ...]
    components_if_present: tuple[str, ...] = ()
    digest: DigestAlgorithm = DigestAlgorithm.SHA256
    label: str = "sig1"
    created: bool = True
    expires_seconds: int | None = None
    nonce: bool = False
    alg: bool = False
    tag: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class TemplatedHmac:
    """One header with an HMAC of what the template `signed` gives.

    `value` is the header's value, with `{signature}` in it; `repeat`, where it is not empty, is appended for each
    further key that signs during a rotation.
    """

    header: str
    signed: str = "{body}"
    value: str = "{signature}"
    repeat: str = ""
    algorithm: HmacAlgorithm = HmacAlgorithm.SHA256
    encoding: Encoding = Encoding.HEX
    secret_encoding: SecretEncoding = SecretEncoding.TEXT
    timestamp_header: str | None = None
    timestamp_format: TimestampFormat = TimestampFormat.UNIX


@value_class(frozen=True, slots=True, kw_only=True)
class DetachedJws:
    """One header with a JWS whose payload is left out (RFC 7515 appendix F).

    `payload` is a template of what is signed; its field `{headers}` stands for a line `Name: value` per entry of
    `headers`. `unencoded` is RFC 7797's `b64: false`. `members` are further ones of the protected header, and their
    texts are templates; one that is `{timestamp}` alone becomes a number. `critical` is `crit` without `b64`.
    """

    algorithm: JwsAlgorithm
    header: str
    payload: str = "{body}"
    headers: tuple[str, ...] = ()
    unencoded: bool = False
    members: Mapping[str, object] = field(default_factory=dict)
    critical: tuple[str, ...] = ()


type Form = StandardWebhooks | MessageSignatures | TemplatedHmac | DetachedJws


@value_class(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """What may be known of a key. `ref` finds its secret; `key_id` is what the partner knows it by.

    `expires_at` is None for the current key, and the end of the overlap for one that it replaced. `public_key` is
    `whpk_...` or PEM; None for a shared secret.
    """

    ref: str
    key_id: str
    created_at: datetime
    expires_at: datetime | None = None
    public_key: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One scheme of a destination: a name, its keys from the newest to the oldest, and exactly one of the four forms.

    Four members rather than a union, since a union of dataclasses has no form in JSON that says which it is.
    """

    name: str
    keys: tuple[KeyInfo, ...]
    standard_webhooks: StandardWebhooks | None = None
    http_message_signatures: MessageSignatures | None = None
    hmac: TemplatedHmac | None = None
    jws_detached: DetachedJws | None = None

    @property
    def form(self) -> Form:
        """How it signs."""
        form = self.standard_webhooks or self.http_message_signatures or self.hmac or self.jws_detached
        if form is None:
            raise ValueError("a scheme must have a form")
        return form


def scheme(form: Form, *, name: str, keys: Sequence[KeyInfo]) -> Scheme:
    """The scheme of that form."""
    match form:
        case StandardWebhooks():
            return Scheme(name=name, keys=tuple(keys), standard_webhooks=form)
        case MessageSignatures():
            return Scheme(name=name, keys=tuple(keys), http_message_signatures=form)
        case TemplatedHmac():
            return Scheme(name=name, keys=tuple(keys), hmac=form)
        case DetachedJws():
            return Scheme(name=name, keys=tuple(keys), jws_detached=form)
        case _:
            assert_never(form)


_KINDS: Mapping[object, KeyKind] = {
    WebhookVersion.V1A: KeyKind.ED25519,
    MessageAlgorithm.ED25519: KeyKind.ED25519,
    MessageAlgorithm.ECDSA_P256_SHA256: KeyKind.P256,
    MessageAlgorithm.ECDSA_P384_SHA384: KeyKind.P384,
    MessageAlgorithm.RSA_PSS_SHA512: KeyKind.RSA,
    MessageAlgorithm.RSA_V1_5_SHA256: KeyKind.RSA,
    JwsAlgorithm.PS256: KeyKind.RSA,
    JwsAlgorithm.RS256: KeyKind.RSA,
    JwsAlgorithm.ES256: KeyKind.P256,
    JwsAlgorithm.ES384: KeyKind.P384,
    JwsAlgorithm.ES512: KeyKind.P521,
    JwsAlgorithm.EDDSA: KeyKind.ED25519,
    JwsAlgorithm.ED25519: KeyKind.ED25519,
}


def algorithm_of(form: Form) -> str:
    """The algorithm's name, as the scheme's own specification has it."""
    return form.version.value if isinstance(form, StandardWebhooks) else form.algorithm.value


def key_kind(form: Form) -> KeyKind:
    """What kind of key it signs with."""
    algorithm = form.version if isinstance(form, StandardWebhooks) else form.algorithm
    return _KINDS.get(algorithm, KeyKind.SECRET)


def carries_several(form: Form) -> bool:
    """Whether a request can carry the signatures of several keys at once."""
    match form:
        case StandardWebhooks() | MessageSignatures():
            return True
        case TemplatedHmac():
            return bool(form.repeat)
        case DetachedJws():
            return False
        case _:
            assert_never(form)


def signing_keys(scheme: Scheme, *, now: datetime) -> tuple[KeyInfo, ...]:
    """The keys that sign at `now`, the newest first; exactly one where the scheme carries one signature alone.

    That is then the oldest whose overlap is not over: the partner has until the end of the overlap to install the
    next one.
    """
    usable = tuple(key for key in scheme.keys if key.expires_at is None or now < key.expires_at)
    return usable if carries_several(scheme.form) else usable[-1:]


def signs_from(scheme: Scheme, key: KeyInfo) -> datetime:
    """From when on `key` signs: when it was made, or when the last of the older ones expires (`signing_keys`)."""
    older = scheme.keys[scheme.keys.index(key) + 1 :]
    expiries = [one.expires_at for one in older if one.expires_at is not None]
    return key.created_at if carries_several(scheme.form) else max([key.created_at, *expiries])


def rotated(scheme: Scheme, new: KeyInfo, *, now: datetime, overlap: timedelta) -> Scheme:
    """The scheme with `new` as its current key. The earlier ones sign until `now + overlap` at the most."""
    end = now + overlap
    earlier = tuple(
        replace(key, expires_at=end if key.expires_at is None else min(end, key.expires_at)) for key in scheme.keys
    )
    return unexpired(replace(scheme, keys=(new, *earlier)), now=now)


def unexpired(scheme: Scheme, *, now: datetime) -> Scheme:
    """The scheme without the keys whose overlap is over."""
    return replace(scheme, keys=tuple(key for key in scheme.keys if key.expires_at is None or now < key.expires_at))


def written_headers(form: Form) -> frozenset[str]:
    """The headers that the scheme writes, in lower case: nobody else's value of them is sent."""
    match form:
        case StandardWebhooks():
            return frozenset(WEBHOOK_HEADERS)
        case MessageSignatures():
            covered = (*form.components, *form.components_if_present)
            return frozenset((*MESSAGE_HEADERS, *(name for name in covered if name == DIGEST_HEADER)))
        case TemplatedHmac():
            return frozenset(name.lower() for name in (form.header, form.timestamp_header) if name is not None)
        case DetachedJws():
            return frozenset({form.header.lower()})
        case _:
            assert_never(form)


def shares_headers(form: Form, other: Form) -> bool:
    """Whether two schemes may write the same headers: lists of signatures, in which each has an entry of its own."""
    match form, other:
        case (StandardWebhooks(), StandardWebhooks()):
            return form.version is not other.version
        case (MessageSignatures(), MessageSignatures()):
            # `label-2` is the second signature of `label` during a rotation.
            return not f"{form.label}-".startswith(f"{other.label}-") and not f"{other.label}-".startswith(
                f"{form.label}-"
            )
        case _:
            return False


def component_fault(component: str) -> str | None:
    """Why a signature of a request cannot cover `component`, as RFC 9421 section 2 writes it; None when it can."""
    if component in _DERIVED or re.fullmatch(_QUERY_PARAMETER, component):
        return None
    if component.startswith("@query-param"):
        return 'must be written as @query-param;name="...", with the name percent-encoded (RFC 9421 section 2.2.8)'
    if component.startswith("@"):
        return f"a request has no such component; there are {', '.join(sorted(_DERIVED))} and @query-param"
    if component == "host":
        return "must be @authority, which a request has in every version of HTTP"
    if component in _NEVER_COVERED:
        return "is written by the client, the connection or the signature itself, so no signature can cover it"
    if not re.fullmatch(_FIELD_NAME, component):
        return "must be the name of a header in lower case, without parameters"
    return None


def query_parameter(component: str) -> str | None:
    """The name, percent-encoded, of the query parameter that `component` means; None where it means something else."""
    match = re.fullmatch(_QUERY_PARAMETER, component)
    return match[1] if match else None


def label_fault(label: str) -> str | None:
    """Why `label` cannot be a signature's label; None when it can."""
    return (
        None if re.fullmatch(_LABEL, label) else "must be 1 to 63 of a-z, 0-9, _, -, . and *, and begin with a-z or *"
    )


def text_fault(text: str) -> str | None:
    """Why `text` cannot be a key id, a tag or part of a header; None when it can."""
    return None if re.fullmatch(_TEXT, text) else "must be ASCII without control characters"


def member_faults(members: Mapping[str, object], critical: Iterable[str]) -> list[tuple[str, str]]:
    """What is wrong with the members of a JWS header, and with `crit`: a JSON pointer below the scheme, and why. Only
    names of ours are repeated: one of the others may be a secret in the wrong place.
    """
    faults = []
    for position, (name, value) in enumerate(members.items(), start=1):
        if name in _OWN_MEMBERS:
            faults.append((f"/members/{name}", "is set by the scheme itself"))
        elif fault := _member_fault(value):
            faults.append(("/members", f"member {position} {fault}"))
    for at, name in enumerate(critical):
        if name in _REGISTERED or name == "b64":
            faults.append((f"/critical/{at}", "must not be a member of RFC 7515 itself, and b64 is added where needed"))
        elif name not in members:
            faults.append((f"/critical/{at}", "must be one of the members"))
    return faults


def _member_fault(value: object) -> str | None:
    if _is_deeper(value, MAX_MEMBER_LEVELS):
        return f"must not be nested more than {MAX_MEMBER_LEVELS} levels deep"
    return template_fault(value, fields=JWS_MEMBER_FIELDS) if isinstance(value, str) else None


def _is_deeper(value: object, levels: int) -> bool:
    """Whether lists and objects are nested more than `levels` deep. Whoever reads it back must not run out of stack."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(_is_deeper(one, levels - 1) for one in inner))


JWS_MEMBER_FIELDS = tuple(name for name in SIGNED_FIELDS if name != "body")
JWS_PAYLOAD_FIELDS = (*SIGNED_FIELDS, "headers")
VALUE_FIELDS = ("signature", "keyid", *JWS_MEMBER_FIELDS)


def value_fault(template: str) -> str | None:
    """Why `template` cannot be the value of a signature's header; None when it can."""
    fault = text_fault(template) or template_fault(template, fields=VALUE_FIELDS)
    if fault is None and "signature" not in fields_in(template):
        return "must contain {signature}"
    return fault
