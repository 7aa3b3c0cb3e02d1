"""Standard Webhooks, HMACs by template, detached JWS: published vectors, and other implementations that check ours."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
import truelayer_signing
from hypothesis import given
from hypothesis import strategies as st
from joserfc.errors import JoseError

from domain.signing import (
    DetachedJws,
    Encoding,
    Form,
    HmacAlgorithm,
    JwsAlgorithm,
    KeyKind,
    MessageAlgorithm,
    MessageSignatures,
    SecretEncoding,
    StandardWebhooks,
    TemplatedHmac,
    TimestampFormat,
    WebhookVersion,
    key_kind,
    scheme,
)
from egress.signing.faults import NotSigned
from egress.signing.keys import (
    new_private_key,
    new_shared_secret,
    new_webhook_private_key,
    new_webhook_secret,
    shared_secret,
    webhook_private_key,
    webhook_secret,
)
from egress.signing.schemes import signed_headers
from tests.support.signing import (
    AT,
    SLACK_BODY,
    key_info,
    key_of,
    one_key,
    public_key,
    sign,
    unsigned,
    value,
    verify_jws,
    verify_message,
)

# Of the specification of Standard Webhooks.
V1_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
V1A_KEY = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
V1A_PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
KNOWN = {
    "message_id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "at": datetime.fromtimestamp(1614265330, tz=UTC),
    "body": b'{"test": 2432232314}',
}
V1_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A_SIGNATURE = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
V1A = StandardWebhooks(version=WebhookVersion.V1A)


def test_v1_is_the_known_answer() -> None:
    headers = sign(StandardWebhooks(), webhook_secret(V1_SECRET).secret, unsigned(**KNOWN))
    assert value(headers, "webhook-id") == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert value(headers, "webhook-timestamp") == "1614265330"
    assert value(headers, "webhook-signature") == V1_SIGNATURE


def test_v1a_is_the_known_answer() -> None:
    key = webhook_private_key(V1A_KEY)
    assert key.public == V1A_PUBLIC
    assert value(sign(V1A, key.secret, unsigned(**KNOWN)), "webhook-signature") == V1A_SIGNATURE


def test_both_kinds_and_both_keys_of_a_rotation_share_one_header() -> None:
    old, new = webhook_secret(V1_SECRET).secret, new_webhook_secret().secret
    v1 = scheme(StandardWebhooks(), name="v1", keys=[key_info("new"), key_info("old")])
    v1a = scheme(V1A, name="v1a", keys=[key_info("ed")])
    secrets = {"new": new, "old": old, "ed": webhook_private_key(V1A_KEY).secret}
    signatures = value(signed_headers(unsigned(**KNOWN), [v1, v1a], secrets=secrets), "webhook-signature").split(" ")
    assert [entry.partition(",")[0] for entry in signatures] == ["v1", "v1", "v1a"]
    assert signatures[1:] == [V1_SIGNATURE, V1A_SIGNATURE]


@pytest.mark.parametrize("position", [0, 1])
def test_the_package_of_standard_webhooks_accepts_either_key_of_a_rotation(position: int) -> None:
    keys = [new_webhook_secret(), new_webhook_secret()]
    both = scheme(StandardWebhooks(), name="s", keys=[key_info("0"), key_info("1")])
    sent = unsigned(at=datetime.now(tz=UTC))
    headers = signed_headers(sent, [both], secrets={"0": keys[0].secret, "1": keys[1].secret})
    verifier = standardwebhooks.Webhook(keys[position].text or "")
    assert verifier.verify(sent.body, dict(headers)) == {"amount": 5}
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verifier.verify(sent.body + b" ", dict(headers))


def test_v1a_verifies_with_the_public_key_alone() -> None:
    key = new_webhook_private_key()
    headers = sign(V1A, key.secret, unsigned())
    signature = base64.b64decode(value(headers, "webhook-signature").removeprefix("v1a,"))
    content = b"key-1." + value(headers, "webhook-timestamp").encode() + b'.{"amount": 5}'
    public_key(key.secret).verify(signature, content)
    assert key.public == "whpk_" + base64.b64encode(public_key(key.secret).public_bytes_raw()).decode()


def test_githubs_published_vector() -> None:
    """docs.github.com, "Validating webhook deliveries"."""
    form = TemplatedHmac(header="X-Hub-Signature-256", value="sha256={signature}")
    headers = sign(form, b"It's a Secret to Everybody", unsigned(body=b"Hello, World!"))
    assert value(headers, "X-Hub-Signature-256") == (
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    )


def test_slacks_published_vector() -> None:
    """docs.slack.dev, "Verifying requests from Slack"."""
    form = TemplatedHmac(
        header="X-Slack-Signature",
        signed="v0:{timestamp}:{body}",
        value="v0={signature}",
        timestamp_header="X-Slack-Request-Timestamp",
    )
    at = datetime.fromtimestamp(1531420618, tz=UTC)
    headers = sign(form, b"8f742231b10e8888abcd99yyyzzz85a5", unsigned(body=SLACK_BODY, at=at))
    assert value(headers, "X-Slack-Request-Timestamp") == "1531420618"
    assert value(headers, "X-Slack-Signature") == (
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    )


def test_stripes_scheme_with_both_keys_of_a_rotation() -> None:
    """docs.stripe.com has the scheme and no vector: one `v1` per secret, over the timestamp, a dot and the body."""
    form = TemplatedHmac(
        header="Stripe-Signature",
        signed="{timestamp}.{body}",
        value="t={timestamp},v1={signature}",
        repeat=",v1={signature}",
    )
    both = scheme(form, name="s", keys=[key_info("new"), key_info("old")])
    sent = unsigned()
    headers = signed_headers(sent, [both], secrets={"new": b"new-secret", "old": b"old-secret"})
    content = f"{sent.unix_seconds}.".encode() + sent.body
    new, old = (hmac.new(key, content, hashlib.sha256).hexdigest() for key in (b"new-secret", b"old-secret"))
    assert value(headers, "Stripe-Signature") == f"t={sent.unix_seconds},v1={new},v1={old}"


def test_shopifys_scheme() -> None:
    """shopify.dev has the scheme and no vector: base64 of the HMAC of the body."""
    form = TemplatedHmac(header="X-Shopify-Hmac-Sha256", encoding=Encoding.BASE64)
    expected = base64.b64encode(hmac.new(b"hush-hush-hush-hush", b'{"amount": 5}', "sha256").digest()).decode()
    assert value(sign(form, b"hush-hush-hush-hush", unsigned()), "X-Shopify-Hmac-Sha256") == expected


@pytest.mark.parametrize("algorithm", HmacAlgorithm)
@pytest.mark.parametrize("encoding", Encoding)
def test_every_hash_and_encoding(algorithm: HmacAlgorithm, encoding: Encoding) -> None:
    form = TemplatedHmac(header="X-Sig", algorithm=algorithm, encoding=encoding)
    raw = hmac.new(b"s" * 16, b'{"amount": 5}', algorithm.value).digest()
    written = {
        Encoding.HEX: raw.hex(),
        Encoding.BASE64: base64.b64encode(raw).decode(),
        Encoding.BASE64URL: base64.urlsafe_b64encode(raw).decode().rstrip("="),
    }
    assert value(sign(form, b"s" * 16, unsigned()), "X-Sig") == written[encoding]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (TimestampFormat.UNIX, "1772366400"),
        (TimestampFormat.UNIX_MS, "1772366400250"),
        (TimestampFormat.ISO8601, "2026-03-01T12:00:00Z"),
    ],
)
def test_every_form_of_the_timestamp_is_the_same_in_header_and_template(form: TimestampFormat, expected: str) -> None:
    hmac_form = TemplatedHmac(
        header="X-Sig", signed="{timestamp}", value="{timestamp} {signature}", timestamp_header="X-Time",
        timestamp_format=form,
    )  # fmt: skip
    headers = sign(hmac_form, b"s" * 16, unsigned())
    digest = hmac.new(b"s" * 16, expected.encode(), "sha256").hexdigest()
    assert value(headers, "X-Time") == expected
    assert value(headers, "X-Sig") == f"{expected} {digest}"


@given(body=st.binary(), secret=st.binary(min_size=1))
def test_any_bytes_are_signed_as_they_are(body: bytes, secret: bytes) -> None:
    form = TemplatedHmac(header="X-Sig", signed="{method}\n{path}\n{query}\n{id}\n{{}}{body}")
    headers = sign(form, secret, unsigned(body=body, url="https://a.example/b%2Fc/?d=%ff"))
    content = b"POST\n/b%2Fc/\nd=%ff\nkey-1\n{}" + body
    assert value(headers, "X-Sig") == hmac.new(secret, content, "sha256").hexdigest()


JWS_FORMS = [DetachedJws(algorithm=algorithm, header="x-jws-signature") for algorithm in JwsAlgorithm]


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")  # partners still ask for that name
@pytest.mark.parametrize("form", JWS_FORMS, ids=lambda form: form.algorithm.value)
def test_another_implementation_accepts_every_algorithm_of_jws(form: DetachedJws) -> None:
    text = value(sign(form, key_of(key_kind(form)).secret, unsigned()), "x-jws-signature")
    assert text.split(".")[1] == ""
    assert verify_jws(text, b'{"amount": 5}', form) == {"alg": form.algorithm.value, "kid": "id-of-k"}


OPEN_BANKING = DetachedJws(
    algorithm=JwsAlgorithm.PS256,
    header="x-jws-signature",
    members={
        "typ": "JOSE",
        "http://openbanking.org.uk/iat": "{timestamp}",
        "http://openbanking.org.uk/iss": "C=UK, ST=England, L=London, O=Acme Ltd.",
        "http://openbanking.org.uk/tan": "openbanking.org.uk",
    },
    critical=(
        "http://openbanking.org.uk/iat",
        "http://openbanking.org.uk/iss",
        "http://openbanking.org.uk/tan",
    ),
)


def test_another_implementation_accepts_a_jws_as_open_banking_wants_it() -> None:
    text = value(sign(OPEN_BANKING, key_of(KeyKind.RSA).secret, unsigned()), "x-jws-signature")
    assert verify_jws(text, b'{"amount": 5}', OPEN_BANKING) == {
        "alg": "PS256",
        "kid": "id-of-k",
        "typ": "JOSE",
        "http://openbanking.org.uk/iat": 1772366400,
        "http://openbanking.org.uk/iss": "C=UK, ST=England, L=London, O=Acme Ltd.",
        "http://openbanking.org.uk/tan": "openbanking.org.uk",
        "crit": list(OPEN_BANKING.critical),
    }


def test_an_unencoded_payload_says_so_in_crit_first() -> None:
    """Up to version 3.1.3 Open Banking wanted RFC 7797's b64: false."""
    form = replace(OPEN_BANKING, unencoded=True)
    body = bytes(range(256)) + b".."
    header = verify_jws(
        value(sign(form, key_of(KeyKind.RSA).secret, unsigned(body=body)), "x-jws-signature"), body, form
    )
    assert header["b64"] is False
    assert header["crit"] == ["b64", *OPEN_BANKING.critical]


def test_a_changed_body_is_noticed() -> None:
    text = value(sign(OPEN_BANKING, key_of(KeyKind.RSA).secret, unsigned()), "x-jws-signature")
    with pytest.raises(JoseError):
        verify_jws(text, b'{"amount": 6}', OPEN_BANKING)


TRUELAYER = DetachedJws(
    algorithm=JwsAlgorithm.ES512,
    header="Tl-Signature",
    payload="{method} {path}\n{headers}{body}",
    headers=("Idempotency-Key", "X-Custom"),
    members={"tl_version": "2", "tl_headers": "Idempotency-Key,X-Custom"},
)


def test_truelayers_own_package_accepts_its_signature() -> None:
    sent = unsigned(
        url="https://api.truelayer.example/v3/payments", headers=(("idempotency-key", "7"), ("X-Custom", "a"))
    )
    text = value(sign(TRUELAYER, key_of(KeyKind.P521).secret, sent), "Tl-Signature")
    verifier = (
        truelayer_signing.verify_with_pem(key_of(KeyKind.P521).public or "")
        .set_method(truelayer_signing.HttpMethod.POST)
        .set_path("/v3/payments")
        .add_headers({"Idempotency-Key": "7", "X-Custom": "a", "X-Other": "b"})
        .add_required_header("Idempotency-Key")
    )
    verifier.set_body('{"amount": 5}').verify(text)
    with pytest.raises(truelayer_signing.errors.TlSigningException):
        verifier.set_body('{"amount": 6}').verify(text)


def test_a_header_that_a_jws_signs_must_be_there() -> None:
    with pytest.raises(NotSigned, match="the header X-Custom, which the signature covers, is not in the request"):
        sign(TRUELAYER, key_of(KeyKind.P521).secret, unsigned(headers=(("Idempotency-Key", "7"),)))


def test_texts_of_a_header_are_templates_and_other_members_stay() -> None:
    form = DetachedJws(
        algorithm=JwsAlgorithm.ES256,
        header="X",
        members={
            "jti": "{id}",
            "htm": "{method} {path}?{query}",
            "at": "at {timestamp}",
            "n": 1,
            "l": ["{id}"],
            "f": None,
        },
    )
    header = verify_jws(value(sign(form, key_of(KeyKind.P256).secret, unsigned()), "X"), b'{"amount": 5}', form)
    assert {name: header[name] for name in form.members} == {
        "jti": "key-1",
        "htm": "POST /v1/payments?x=1",
        "at": "at 1772366400",
        "n": 1,
        "l": ["{id}"],
        "f": None,
    }


SINGLE: list[Form] = [TemplatedHmac(header="X-Sig"), DetachedJws(algorithm=JwsAlgorithm.ES256, header="X-Sig")]


@pytest.mark.parametrize("form", SINGLE, ids=lambda form: type(form).__name__)
def test_a_scheme_of_one_signature_signs_with_the_old_key_until_the_overlap_is_over(form: Form) -> None:
    kind = key_kind(form)
    new, old = (b"n" * 32, b"o" * 32) if kind is KeyKind.SECRET else (key_of(kind).secret, new_private_key(kind).secret)
    keys = [key_info("new"), key_info("old", expires_at=AT + timedelta(hours=1))]
    both = scheme(form, name="s", keys=keys)

    def used(at: datetime) -> str:
        text = value(signed_headers(unsigned(at=at), [both], secrets={"new": new, "old": old}), "X-Sig")
        if kind is not KeyKind.SECRET:
            return str(json.loads(base64.urlsafe_b64decode(text.split(".")[0] + "=="))["kid"])
        return "id-of-new" if text == hmac.new(new, b'{"amount": 5}', "sha256").hexdigest() else "id-of-old"

    assert used(AT + timedelta(minutes=59)) == "id-of-old"
    assert used(AT + timedelta(hours=1)) == "id-of-new"


def test_an_expired_key_signs_nothing_even_before_it_is_deleted() -> None:
    keys = [key_info("new"), key_info("old", expires_at=AT)]
    headers = signed_headers(unsigned(), [scheme(StandardWebhooks(), name="s", keys=keys)], secrets={"new": b"n" * 24})
    assert len(value(headers, "webhook-signature").split(" ")) == 1


def test_what_a_caller_sends_under_the_name_of_a_schemes_header_is_replaced() -> None:
    forms: list[Form] = [
        StandardWebhooks(),
        TemplatedHmac(header="X-Sig", timestamp_header="X-Time"),
        MessageSignatures(algorithm=MessageAlgorithm.HMAC_SHA256, components=("content-digest",)),
    ]
    names = ("WEBHOOK-ID", "webhook-Signature", "x-sig", "x-time", "signature-INPUT", "Signature", "content-digest")
    forged = tuple((name, "forged") for name in (*names, *names))
    headers = signed_headers(unsigned(headers=forged), [one_key(form) for form in forms], secrets={"k": b"k" * 32})
    assert "forged" not in [text for _, text in headers]
    assert len({name.lower() for name, _ in headers}) == len(headers)


def test_a_later_kind_covers_what_an_earlier_one_wrote_whatever_their_order_in_the_list() -> None:
    covering = MessageSignatures(
        algorithm=MessageAlgorithm.HMAC_SHA256, components=("webhook-signature", "x-sig", "content-digest")
    )
    forms: list[Form] = [covering, TemplatedHmac(header="X-Sig"), StandardWebhooks(), V1A]
    secrets = {"k": b"k" * 32, "ed": key_of(KeyKind.ED25519).secret}
    schemes = [one_key(form, ref="ed" if form is V1A else "k") for form in forms]
    headers = signed_headers(unsigned(), schemes, secrets=secrets)
    verify_message(covering.algorithm, b"k" * 32, method="POST", url=unsigned().url, headers=headers)


@pytest.mark.parametrize("encoding", SecretEncoding)
def test_a_new_shared_secret_is_read_back_as_the_same_key(encoding: SecretEncoding) -> None:
    made = new_shared_secret(encoding)
    assert made.text is not None
    assert shared_secret(made.text, encoding=encoding).secret == made.secret
    assert made.text not in repr(made)
