"""`signing`: how requests to a destination are signed, and the rotation of its keys."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, assert_never

from msgspec import UNSET, Meta, Struct, UnsetType

from domain.errors import Fault
from domain.signing import (
    DEFAULT_OVERLAP_SECONDS,
    JWS_PAYLOAD_FIELDS,
    MAX_COMPONENTS,
    MAX_OVERLAP_SECONDS,
    MAX_SCHEMES,
    SIGNED_FIELDS,
    DetachedJws,
    DigestAlgorithm,
    Encoding,
    Form,
    HmacAlgorithm,
    JwsAlgorithm,
    MessageAlgorithm,
    MessageSignatures,
    Scheme,
    SecretEncoding,
    StandardWebhooks,
    TemplatedHmac,
    TimestampFormat,
    WebhookVersion,
    algorithm_of,
    component_fault,
    label_fault,
    member_faults,
    shares_headers,
    signs_from,
    text_fault,
    value_fault,
    written_headers,
)
from domain.templates import fields_in, template_fault, times_in
from egress.signing.given import GivenKey, read_key
from egress.signing.keys import KeyRefused
from flows.rotate import Rotation
from flows.signing import WantedScheme
from handlers.schemas.destinations.fields import FIELD_NAME, IS_HEADER, reserved

MEMBERS_LIMIT_BYTES = 4096  # of a header that is sent with each request
_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$(?!\n)"
_IS_NAME = {"must": "1 to 63 lower-case letters, digits, hyphens and underscores, the first no hyphen or underscore"}
_LONGEST_TEMPLATE = 1024
_LONGEST_KEY_ID = 256
_LONGEST_SECRET = 1024
_LONGEST_PEM = 8192  # what is longer than a key of 4096 bits is refused by a reason of its own

SchemeName = Annotated[
    str,
    Meta(
        pattern=_NAME,
        extra=_IS_NAME,
        description="By which a change and a rotation find the scheme. Without it the type, so that two schemes of one "
        "type need names",
    ),
]
KeyId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=_LONGEST_KEY_ID,
        description="What the partner knows the key by: keyid of RFC 9421, kid of a JWS. Without it one is made",
    ),
]
SecretText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=_LONGEST_SECRET,
        extra_json_schema={"writeOnly": True},
        description="A shared secret, or whsec_ and whsk_ of Standard Webhooks. Without a key one is made",
    ),
]
PrivateKeyText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=_LONGEST_PEM,
        extra_json_schema={"writeOnly": True},
        description="In PEM. Without a key one is made, and its public half shown",
    ),
]
Passphrase = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=_LONGEST_SECRET,
        extra_json_schema={"writeOnly": True},
        description="Of an encrypted private key. It is not stored",
    ),
]
HeaderName = Annotated[str, Meta(pattern=FIELD_NAME, extra=IS_HEADER, description="The header's name")]
Template = Annotated[str, Meta(max_length=_LONGEST_TEMPLATE)]
Component = Annotated[str, Meta(min_length=1, max_length=_LONGEST_KEY_ID)]


class _StandardWebhooks(Struct, frozen=True, kw_only=True):
    version: Annotated[
        WebhookVersion, Meta(description="v1 is HMAC-SHA256 with a shared secret, v1a is Ed25519 with a key pair")
    ] = WebhookVersion.V1


class _MessageSignatures(Struct, frozen=True, kw_only=True):
    algorithm: Annotated[MessageAlgorithm, Meta(description="Of RFC 9421 section 3.3")]
    components: Annotated[
        list[Component],
        Meta(
            max_length=MAX_COMPONENTS,
            description="What is covered: names of headers in lower case, @method, @target-uri, @authority, @scheme, "
            '@request-target, @path, @query and @query-param;name="...". A request without one of them is not sent. '
            "content-digest is computed",
        ),
    ]
    components_if_present: Annotated[
        list[Component],
        Meta(max_length=MAX_COMPONENTS, description="Covered where the request has them; content-digest with a body"),
    ] = []
    digest: Annotated[DigestAlgorithm, Meta(description="Of Content-Digest (RFC 9530)")] = DigestAlgorithm.SHA256
    label: Annotated[str, Meta(max_length=63, description="The signature's key in Signature-Input and Signature")] = (
        "sig1"
    )
    created: Annotated[bool, Meta(description="Whether the time of the attempt is a parameter")] = True
    expires_seconds: Annotated[
        Annotated[int, Meta(ge=1, le=86_400)] | None,
        Meta(description="After how many seconds the signature expires; null without that parameter"),
    ] = None
    nonce: Annotated[bool, Meta(description="Whether each signature has a nonce")] = False
    alg: Annotated[bool, Meta(description="Whether the algorithm is a parameter")] = False
    tag: Annotated[
        Annotated[str, Meta(max_length=_LONGEST_KEY_ID)] | None, Meta(description="The parameter tag; null without")
    ] = None


class _TemplatedHmac(Struct, frozen=True, kw_only=True):
    header: HeaderName
    signed: Annotated[
        Template,
        Meta(
            description="What is signed, with the fields {id}, {timestamp}, {method}, {path}, {query} and {body}; "
            "{{ and }} are braces"
        ),
    ] = "{body}"
    value: Annotated[
        Template,
        Meta(description="The header's value: {signature}, also {keyid} and the fields of `signed` but {body}"),
    ] = "{signature}"
    repeat: Annotated[
        Template,
        Meta(
            description="Appended to the value for each further key during a rotation, such as ,v1={signature}. Empty: "
            "the header carries one signature"
        ),
    ] = ""
    algorithm: Annotated[HmacAlgorithm, Meta(description="The hash function")] = HmacAlgorithm.SHA256
    encoding: Annotated[Encoding, Meta(description="How the signature is written")] = Encoding.HEX
    secret_encoding: Annotated[SecretEncoding, Meta(description="How the bytes of the secret are written")] = (
        SecretEncoding.TEXT
    )
    timestamp_header: Annotated[HeaderName | None, Meta(description="A header with the timestamp; null without")] = None
    timestamp_format: Annotated[
        TimestampFormat, Meta(description="Seconds or milliseconds since 1970, or RFC 3339 in UTC")
    ] = TimestampFormat.UNIX


class _DetachedJws(Struct, frozen=True, kw_only=True):
    algorithm: Annotated[JwsAlgorithm, Meta(description="Of RFC 7518, RFC 8037 or RFC 9864")]
    header: HeaderName
    payload: Annotated[
        Template,
        Meta(
            description="What is signed, with the fields of an HMAC and {headers}: a line `Name: value` per entry of "
            "`headers`"
        ),
    ] = "{body}"
    headers: Annotated[
        list[HeaderName], Meta(max_length=MAX_COMPONENTS, description="The headers that {headers} stands for")
    ] = []
    unencoded: Annotated[bool, Meta(description="b64: false of RFC 7797")] = False
    members: Annotated[
        dict[str, Any],
        Meta(
            description="Further members of the protected header. Texts are templates with the fields of an HMAC but "
            "{body}; {timestamp} alone becomes a number"
        ),
    ] = {}
    critical: Annotated[
        list[Component], Meta(max_length=MAX_COMPONENTS, description="Which members crit names; b64 is added by itself")
    ] = []


class NewStandardWebhooksBody(
    _StandardWebhooks,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="standard_webhooks",
):
    """The headers of Standard Webhooks: webhook-id, webhook-timestamp and webhook-signature."""

    name: SchemeName | UnsetType = UNSET
    keyid: KeyId | UnsetType = UNSET
    secret: SecretText | UnsetType = UNSET


class NewMessageSignaturesBody(
    _MessageSignatures,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="http_message_signatures",
):
    """HTTP Message Signatures: Signature-Input and Signature, and Content-Digest where it is covered."""

    name: SchemeName | UnsetType = UNSET
    keyid: KeyId | UnsetType = UNSET
    secret: SecretText | UnsetType = UNSET
    private_key: PrivateKeyText | UnsetType = UNSET
    passphrase: Passphrase | UnsetType = UNSET


class NewHmacBody(_TemplatedHmac, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="hmac"):
    """An HMAC in a header of the partner's own."""

    name: SchemeName | UnsetType = UNSET
    keyid: KeyId | UnsetType = UNSET
    secret: SecretText | UnsetType = UNSET


class NewJwsBody(
    _DetachedJws,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag="jws_detached",
):
    """A detached JWS in a header of the partner's own."""

    name: SchemeName | UnsetType = UNSET
    keyid: KeyId | UnsetType = UNSET
    private_key: PrivateKeyText | UnsetType = UNSET
    passphrase: Passphrase | UnsetType = UNSET


NewSchemeBody = NewStandardWebhooksBody | NewMessageSignaturesBody | NewHmacBody | NewJwsBody
NewSchemes = Annotated[
    list[NewSchemeBody],
    Meta(max_length=MAX_SCHEMES, description="How requests are signed: all of these schemes sign each request"),
]


class KeyBody(Struct, frozen=True, kw_only=True):
    """A key of a scheme, without what is secret of it."""

    keyid: Annotated[str, Meta(description="What the partner knows the key by")]
    algorithm: Annotated[str, Meta(description="What it signs with")]
    created_at: Annotated[datetime, Meta(description="When it was given or made")]
    signs_from: Annotated[
        datetime,
        Meta(description="From when on it signs: later than created_at where the header carries one signature"),
    ]
    expires_at: Annotated[datetime | None, Meta(description="Until when it signs; null for the current key")]
    public_key: Annotated[str | None, Meta(description="whpk_... or PEM; null for a shared secret")]
    secret: Annotated[
        str | UnsetType, Meta(description="A shared secret that this call made; it is never shown again")
    ] = UNSET


ShownName = Annotated[str, Meta(description="By which a change and a rotation find the scheme")]
ShownKeys = Annotated[list[KeyBody], Meta(description="The current key, then those whose overlap is not over")]


class StandardWebhooksBody(_StandardWebhooks, frozen=True, kw_only=True, tag_field="type", tag="standard_webhooks"):
    """Signs by Standard Webhooks."""

    name: ShownName
    keys: ShownKeys


class MessageSignaturesBody(
    _MessageSignatures, frozen=True, kw_only=True, tag_field="type", tag="http_message_signatures"
):
    """Signs by RFC 9421."""

    name: ShownName
    keys: ShownKeys


class HmacBody(_TemplatedHmac, frozen=True, kw_only=True, tag_field="type", tag="hmac"):
    """Signs with an HMAC in a header of the partner's own."""

    name: ShownName
    keys: ShownKeys


class JwsBody(_DetachedJws, frozen=True, kw_only=True, tag_field="type", tag="jws_detached"):
    """Signs with a detached JWS in a header of the partner's own."""

    name: ShownName
    keys: ShownKeys


SchemeBody = StandardWebhooksBody | MessageSignaturesBody | HmacBody | JwsBody
Schemes = Annotated[list[SchemeBody], Meta(description="How requests are signed, without what is secret")]


class RotationBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key for a scheme; without one it is made."""

    scheme: Annotated[
        SchemeName | UnsetType, Meta(description="The scheme's name; needed where the destination has several")
    ] = UNSET
    overlap_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_OVERLAP_SECONDS,
            description="For how long the earlier keys go on signing; 0 ends all of them at once",
        ),
    ] = DEFAULT_OVERLAP_SECONDS
    keyid: KeyId | UnsetType = UNSET
    secret: SecretText | UnsetType = UNSET
    private_key: PrivateKeyText | UnsetType = UNSET
    passphrase: Passphrase | UnsetType = UNSET


_FORMS: Mapping[type[Struct], type[Any]] = {
    NewStandardWebhooksBody: StandardWebhooks,
    NewMessageSignaturesBody: MessageSignatures,
    NewHmacBody: TemplatedHmac,
    NewJwsBody: DetachedJws,
}
_SHOWN: Mapping[type[Any], type[Any]] = {
    StandardWebhooks: StandardWebhooksBody,
    MessageSignatures: MessageSignaturesBody,
    TemplatedHmac: HmacBody,
    DetachedJws: JwsBody,
}


def faults(
    bodies: Sequence[NewSchemeBody], *, credentials: frozenset[str], key_header: str, at: str = "/signing"
) -> list[Fault]:
    """What the types alone cannot judge of the schemes, each by itself and together.

    `credentials` are the headers of the destination's credentials, `key_header` that of the idempotency key, both in
    lower case: no scheme may write them.
    """
    forms = [form_of(body) for body in bodies]
    found = [
        Fault(field=f"{at}/{position}{member}", detail=detail)
        for position, (body, form) in enumerate(zip(bodies, forms, strict=True))
        for member, detail in [*_form_faults(form), *_key_faults(body, form)]
    ]
    found += [Fault(field=f"{at}/{position}/name", detail=detail) for position, detail in _name_faults(bodies)]
    for position, form in enumerate(forms):
        taken = [_taken(form, other) for other in forms[:position]]
        clash = next(filter(None, taken), None) or _clash(form, credentials=credentials, key_header=key_header)
        if clash is not None:
            found.append(Fault(field=f"{at}/{position}{_place_of_header(form)}", detail=clash))
    return found


def domain(bodies: Sequence[NewSchemeBody]) -> list[WantedScheme]:
    """The schemes as the flows take them, once `faults` found none."""
    return [
        WantedScheme(
            name=name_of(body),
            form=(form := form_of(body)),
            key=read_key(form, given_key(body)),
            key_id=None if body.keyid is UNSET else body.keyid,
        )
        for body in bodies
    ]


def rotation(body: RotationBody) -> Rotation:
    """The rotation as its flow takes it."""
    return Rotation(
        scheme=None if body.scheme is UNSET else body.scheme,
        overlap_seconds=body.overlap_seconds,
        given=given_key(body),
        key_id=None if body.keyid is UNSET else body.keyid,
    )


def shown(schemes: Sequence[Scheme], *, texts: Mapping[str, str]) -> list[SchemeBody]:
    """What the API shows of schemes; `texts` are shared secrets that this very call made, by the name of the scheme
    whose current key they are."""
    return [_shown(one, texts) for one in schemes]


def form_of(body: NewSchemeBody) -> Form:
    """How the scheme signs."""
    kind = _FORMS[type(body)]
    form: Form = kind(**{name: _frozen(getattr(body, name)) for name in kind.__dataclass_fields__})
    return form


def name_of(body: NewSchemeBody) -> str:
    """Its name, or its type without one."""
    return str(body.__struct_config__.tag) if body.name is UNSET else body.name


def given_key(body: NewSchemeBody | RotationBody) -> GivenKey:
    """What the body says of a key."""
    texts = {name: getattr(body, name, UNSET) for name in ("secret", "private_key", "passphrase")}
    return GivenKey(**{name: None if text is UNSET else text for name, text in texts.items()})


def _shown(one: Scheme, texts: Mapping[str, str]) -> SchemeBody:
    form = one.form
    members = {name: _thawed(getattr(form, name)) for name in type(form).__dataclass_fields__}
    keys = [
        KeyBody(
            keyid=key.key_id,
            algorithm=algorithm_of(form),
            created_at=key.created_at,
            signs_from=signs_from(one, key),
            expires_at=key.expires_at,
            public_key=key.public_key,
            secret=texts.get(one.name, UNSET) if position == 0 else UNSET,
        )
        for position, key in enumerate(one.keys)
    ]
    body: SchemeBody = _SHOWN[type(form)](name=one.name, keys=keys, **members)
    return body


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _thawed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _form_faults(form: Form) -> Iterator[tuple[str, str]]:
    """Pointers below the scheme, and what is wrong there."""
    match form:
        case StandardWebhooks():
            return iter(())
        case MessageSignatures():
            return _of_message_signatures(form)
        case TemplatedHmac():
            return _of_hmac(form)
        case DetachedJws():
            return _of_jws(form)
        case _:
            assert_never(form)


def _of_message_signatures(form: MessageSignatures) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for member, components in (
        ("components", form.components),
        ("components_if_present", form.components_if_present),
    ):
        for position, component in enumerate(components):
            fault = "is covered already" if component in seen else component_fault(component)
            seen.add(component)
            if fault:
                yield f"/{member}/{position}", fault
    yield from _if_fault("/label", label_fault(form.label))
    yield from _if_fault("/tag", text_fault(form.tag or ""))


def _of_hmac(form: TemplatedHmac) -> Iterator[tuple[str, str]]:
    yield from _if_fault("/header", _header_fault(form.header))
    yield from _if_fault("/timestamp_header", _header_fault(form.timestamp_header or "X"))
    if (form.timestamp_header or "").lower() == form.header.lower():
        yield "/timestamp_header", "must not be the header of the signature"
    yield from _if_fault("/signed", _content_fault(form.signed, fields=SIGNED_FIELDS))
    yield from _if_fault("/value", value_fault(form.value))
    yield from _if_fault("/repeat", value_fault(form.repeat) if form.repeat else None)


def _of_jws(form: DetachedJws) -> Iterator[tuple[str, str]]:
    yield from _if_fault("/header", _header_fault(form.header))
    fault = _content_fault(form.payload, fields=JWS_PAYLOAD_FIELDS)
    yield from _if_fault("/payload", fault)
    if fault is None and bool(form.headers) != ("headers" in fields_in(form.payload)):
        yield "/headers", "must be given where the payload contains {headers}, and only there"
    faults = member_faults(form.members, form.critical)
    if not faults and len(json.dumps(dict(form.members))) > MEMBERS_LIMIT_BYTES:
        yield "/members", f"must have at most {MEMBERS_LIMIT_BYTES} bytes in all"
    yield from faults


def _content_fault(template: str, *, fields: Sequence[str]) -> str | None:
    """Why `template` cannot be what is signed. A body of 4 MiB a hundred times over would not fit into a worker."""
    repeated = [name for name in ("body", "headers") if times_in(template, name) > 1]
    return template_fault(template, fields=fields) or (f"must contain {{{repeated[0]}}} once" if repeated else None)


def _if_fault(member: str, fault: str | None) -> Iterator[tuple[str, str]]:
    if fault is not None:
        yield member, fault


def _header_fault(name: str) -> str | None:
    """Why a signature cannot be written into that header. `Authorization` can be: some partners want it there."""
    return None if name.lower() == "authorization" else reserved(name)


def _key_faults(body: NewSchemeBody, form: Form) -> Iterator[tuple[str, str]]:
    if body.keyid is not UNSET:
        yield from _if_fault("/keyid", text_fault(body.keyid))
    try:
        read_key(form, given_key(body))
    except KeyRefused as refused:
        yield f"/{refused.member}", refused.detail


def _name_faults(bodies: Sequence[NewSchemeBody]) -> Iterator[tuple[int, str]]:
    names = [name_of(body) for body in bodies]
    for position, name in enumerate(names):
        if name in names[:position]:
            yield position, "must differ from the names of the other schemes; without one it is the scheme's type"


def _taken(form: Form, other: Form) -> str | None:
    if shares_headers(form, other):
        return None
    if isinstance(form, MessageSignatures) and isinstance(other, MessageSignatures):
        return "must differ from the label of another scheme, and not begin with it and a hyphen"
    return "must write no header that another scheme writes" if written_headers(form) & written_headers(other) else None


def _clash(form: Form, *, credentials: frozenset[str], key_header: str) -> str | None:
    written = written_headers(form)
    if written & credentials:
        return "must write no header of the credentials"
    # Under that name Standard Webhooks sends the same key.
    if key_header in written and not (key_header == "webhook-id" and isinstance(form, StandardWebhooks)):
        return "must not write the header of the idempotency key"
    return None


def _place_of_header(form: Form) -> str:
    if isinstance(form, MessageSignatures):
        return "/label"
    return "" if isinstance(form, StandardWebhooks) else "/header"
