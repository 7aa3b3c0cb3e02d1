"""The examples of the OpenAPI document: whole bodies that fit together, made of the types that the API answers with.

The examples of single properties are taken from them, so that they cannot differ. Requests work unchanged against `make
run`, whose demo destination is `partner`. They are made when the document is requested, not on import.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict, replace

from domain.auth import AssertionAlgorithm, AuthType, ClientAuthentication
from domain.certificates import TlsVersion
from domain.checks import CheckStatus
from domain.deliveries import ASYNC_ATTEMPTS, AttemptKind, Payload, Resolution, State, WaitingFor
from domain.destinations import DestinationState, Guarantee
from domain.jobs import JobAct, JobState
from domain.outcomes import OutcomeKind
from domain.probe import ProbeResult
from domain.proposals import ProposalState
from domain.signing import JwsAlgorithm, MessageAlgorithm
from domain.stats import BreakerState
from handlers.descriptions import ALL_TITLES, EXAMPLE_ID, KINDS
from handlers.problems import TYPE_PREFIX
from handlers.schemas.about import HealthBody
from handlers.schemas.allowlist import (
    AllowlistBody,
    AllowlistedAddressBody,
    AnnouncedAddressBody,
    NextChangeBody,
)
from handlers.schemas.attempts import AttemptBody, ResponseBody, TimingsBody
from handlers.schemas.audit import AuditBody, AuditEntryBody
from handlers.schemas.deliveries import (
    DeliveriesBody,
    DeliveryBody,
    DeliveryDetailsBody,
    DeliveryPatchBody,
    NewDeliveryBody,
    ResolutionBody,
)
from handlers.schemas.destinations import (
    DeletedDestinationBody,
    DestinationBody,
    DestinationsBody,
    NewDestinationBody,
    ReasonBody,
)
from handlers.schemas.destinations.allow import AllowBody
from handlers.schemas.destinations.auth import AuthTypeBody, HeaderNameBody
from handlers.schemas.destinations.certificate import ClientCertificateBody
from handlers.schemas.destinations.flow import CircuitBreakerBody, Day, LimitsBody, OrderingBody, WindowBody
from handlers.schemas.destinations.patch import DestinationPatchBody
from handlers.schemas.destinations.reconcile import ConditionBody, ReconcileBody, RuleBody
from handlers.schemas.destinations.redact import RedactBody
from handlers.schemas.destinations.retention import RetentionBody
from handlers.schemas.destinations.retry import RetryBody, StatusesBody
from handlers.schemas.destinations.signing import (
    HmacBody,
    JwsBody,
    KeyBody,
    MessageSignaturesBody,
    RotationBody,
    StandardWebhooksBody,
)
from handlers.schemas.destinations.timeouts import TimeoutsBody
from handlers.schemas.destinations.tls import TlsBody
from handlers.schemas.destinations.verify import VerificationBody, VerifyBody
from handlers.schemas.egress import EgressAddressBody, EgressBody, VerifiedEgressBody
from handlers.schemas.jobs import DryRunBody, JobBody, JobsBody, NewCancellationBody, NewReplayBody
from handlers.schemas.problems import ProblemBody
from handlers.schemas.proposals import ApprovedBody, ProposalBody, ProposalsBody
from handlers.schemas.stats import (
    DestinationStatsBody,
    LatencyBody,
    PeriodBody,
    StatsBody,
    UnfinishedBody,
)
from runtime.version import VERSION

_AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
_DELIVERY = UUID(EXAMPLE_ID)
_DESTINATION = UUID("01a203c3-0d5e-7c11-8a4f-3f1d6f0b7a20")
_TOKEN = UUID("01a203c1-9b1c-7d23-b1de-8f3c0c7e51aa")
_CURSOR = "AaIDx3f7eI-gs1TUe4yVYQ"

_AUDIT_ENTRY = AuditEntryBody(
    sequence=42,
    entry_id=UUID("01a203c5-3b10-7f52-9c3d-2b8f6f4e1d33"),
    at=_AT,
    what="destination.changed",
    on=str(_DESTINATION),
    by=str(_TOKEN),
    source_address="198.51.100.7",
    members=["timeouts"],
    details={},
    previous="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    hash="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
)

# Made for this document, and opened by the passphrase of the examples below.
_ENCRYPTED_KEY = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBB+Sz5JOLGcluhQYNd3
XzF/AgIIADAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQvw0KbOB4xdwDvEAS
Wo2iGARAohuWPv7sCp947xf17H2nne+8umsrAvSdkuho//O1OeE/AdofHxwhw6Tp
Ww1ewgL8Wa8qldOUO9u5JispE5Yj4w==
-----END ENCRYPTED PRIVATE KEY-----
"""
_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUZNU8VPoNyaiH1MvfbGOv01iuCTgwCgYIKoZIzj0EAwIw
MDELMAkGA1UEBhMCREUxEjAQBgNVBAoMCUFjbWUgR21iSDENMAsGA1UEAwwEYWNt
ZTAgFw0yNTAxMDEwMDAwMDBaGA8yMTI1MDEwMTAwMDAwMFowMDELMAkGA1UEBhMC
REUxEjAQBgNVBAoMCUFjbWUgR21iSDENMAsGA1UEAwwEYWNtZTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABDUaB7jJdF5FDbkbAHqSD4U52ApXHMUac2n0AEhMknBk
PEDtntA/KRWpWgKDQ7jkM75P7gQpZQH8UKnh2tt0t2CjEzARMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAOZQrxK4eWPGq19SVNfJnajNBw9XlmlP
jVKER2n7WXsxAiAMT71RwCn3BO8jnKyq3cUmFxtS0wpNKz0H3x2Q30m+cQ==
-----END CERTIFICATE-----
"""
_KEY_OF_CERTIFICATE = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIH0MF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBC0eLXZk5U0596h5RlV
WW/ZAgIIADAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQTjaeNUmQOfPabGEq
B2Q1EASBkFHUVqiTv8oquWRfRVp6xSIDTr9QrW9oQ7RR0FS2wzQhajifvkJwKY59
H/PCPcl56ankjT0doXlgmcXxlYhWzLs5siKLebIN3uQakbHaazk0bP/hZjitFqE3
LV/ERBYDnXzE5rX8UhWl9zrx6CaZ9QyaR3X2SN4/u7hTUvsmsksi2FH/NoWWAQdZ
tJ4tDw+AdA==
-----END ENCRYPTED PRIVATE KEY-----
"""
_PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\n...\n-----END PUBLIC KEY-----\n"
_ITS_PASSPHRASE = "of-the-example"  # noqa: S105 - of the keys above, which protect nothing

REQUESTS: Mapping[type[Struct], Mapping[str, Mapping[str, Any]]] = {
    NewDeliveryBody: {
        "json": {"destination": "partner", "path": "/orders", "body": {"amount": 10}},
        "text": {
            "destination": "partner",
            "method": "PUT",
            "path": "/orders",
            "query": "dry=1",
            "headers": {"Content-Type": "text/plain", "Accept-Language": ["en", "de"]},
            "body": "amount=10",
            "metadata": {"order": "4711"},
        },
        "bytes": {
            "destination": "partner",
            "path": "/orders",
            "headers": {"Content-Type": "application/octet-stream"},
            "body_base64": "AAEC/w==",
        },
    },
    NewDestinationBody: {
        "bearer": {
            "name": "example-bank",
            "base_url": "https://api.bank.example/v1",
            "auth": {"type": "bearer", "token": "what-the-bank-gave-you"},
        },
        "basic": {
            "name": "example-post",
            "base_url": "https://api.post.example",
            "auth": {"type": "basic", "username": "sallyport", "password": "what-the-post-gave-you"},
            "timeouts": {"connect_seconds": 3, "first_byte_seconds": 10, "total_seconds": 15},
        },
        "header": {
            "name": "example-courier",
            "base_url": "https://api.courier.example",
            "auth": {"type": "header", "name": "X-Api-Key", "value": "what-the-courier-gave-you"},
            "guarantee": "at_most_once",
        },
        "headers": {
            "name": "example-insurer",
            "base_url": "https://api.insurer.example",
            "auth": {
                "type": "header",
                "headers": [
                    {"name": "X-Client-Id", "value": "acme"},
                    {"name": "X-Client-Secret", "value": "what-the-insurer-gave-you"},
                ],
            },
        },
        "aws": {
            "name": "example-warehouse",
            "base_url": "https://api.warehouse.example/prod",
            "auth": {
                "type": "aws_sigv4",
                "region": "eu-central-1",
                "service": "execute-api",
                "access_key_id": "AKIDEXAMPLE26NOV",
                "secret_access_key": "what-the-warehouse-gave-you",
                "session_token": "of-temporary-credentials",
            },
        },
        "oauth2": {
            "name": "example-clearing-house",
            "base_url": "https://api.clearing.example/v2",
            "auth": {
                "type": "oauth2",
                "token_url": "https://login.clearing.example/oauth/token",
                "client_id": "acme",
                "client_authentication": "client_secret_post",
                "client_secret": "what-the-clearing-house-gave-you",
                "scope": "payments:read payments:write",
                "audience": "https://api.clearing.example",
                "parameters": {"resource": "payments"},
            },
        },
        "certificate": {
            "name": "example-central-bank",
            "base_url": "https://api.central-bank.example",
            "auth": {
                "type": "oauth2",
                "token_url": "https://login.central-bank.example/token",
                "client_id": "acme",
                "client_authentication": "private_key_jwt",
                "private_key": _KEY_OF_CERTIFICATE,
                "passphrase": _ITS_PASSPHRASE,
                "algorithm": "ES256",
                "key_id": "acme-2026",
                "assertion_audience": "https://login.central-bank.example",
            },
            "client_certificate": {
                "certificate": _CERTIFICATE,
                "key": _KEY_OF_CERTIFICATE,
                "passphrase": _ITS_PASSPHRASE,
            },
            "tls": {
                "ca": _CERTIFICATE,
                "pins": ["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="],
                "minimum_version": "1.3",
            },
        },
        "none": {
            "name": "example-weather",
            "base_url": "https://api.weather.example",
            "auth": {"type": "none"},
            "idempotent": True,
            "idempotency_header": "Request-Id",
            "retry": {"schedule": [0, 60, 3600], "statuses": {"add": [409], "remove": [500]}, "give_up_after": 86_400},
            "allow": {"methods": ["GET", "POST"], "paths": ["/orders"]},
            "verify": {"path": "/health"},
        },
        "reconcile": {
            "name": "example-house-bank",
            "base_url": "https://house-bank.example",
            "guarantee": "at_most_once",
            "reconcile": {
                "path": "/payments/{idempotency_key}",
                "after": [30, 300, 1800, 7200],
                "received": [
                    {
                        "status": 200,
                        "where": [
                            {"pointer": "/key", "values": ["{idempotency_key}"]},
                            {"pointer": "/state", "values": ["executed", "booked"]},
                        ],
                    }
                ],
                "rejected": [{"status": 200, "where": [{"pointer": "/state", "values": ["rejected"]}]}],
                "absent": [{"status": 404, "where": [{"pointer": "/code", "values": ["payment_not_found"]}]}],
                "absent_after": 600,
                "on_absent": "again",
            },
        },
        "redact": {
            "name": "example-acquirer",
            "base_url": "https://acquirer.example",
            "redact": {"headers": ["X-Card-Token"], "pointers": ["/card/number", "/card/holder"]},
            "retention": {"bodies_days": 7, "responses_days": 30},
        },
        "limits": {
            "name": "example-clearing",
            "base_url": "https://clearing.example",
            "limits": {"rate": 0.5, "burst": 3, "concurrency": 2},
            "circuit_breaker": {
                "failure_ratio": 0.5,
                "window_seconds": 30,
                "minimum_attempts": 10,
                "open_seconds": 60,
            },
            "windows": [
                {
                    "days": ["mon", "tue", "wed", "thu", "fri"],
                    "from": "08:00",
                    "to": "16:30",
                    "time_zone": "Europe/Berlin",
                }
            ],
            "ordering": {"after_failure": "skip"},
        },
        "webhooks": {
            "name": "example-subscriber",
            "base_url": "https://hooks.subscriber.example",
            "signing": [
                {"type": "standard_webhooks", "version": "v1a"},
                {
                    "type": "standard_webhooks",
                    "version": "v1",
                    "name": "with-a-secret",
                    "secret": "whsec_c2lnbmVkLWJ5LXRoZS1leGFtcGxlLW9mLTIwMjU=",
                    "keyid": "2025",
                },
            ],
        },
        "hmac": {
            "name": "example-payments",
            "base_url": "https://payments.example",
            "signing": [
                {
                    "type": "hmac",
                    "name": "as-stripe-does",
                    "header": "Stripe-Signature",
                    "signed": "{timestamp}.{body}",
                    "value": "t={timestamp},v1={signature}",
                    "repeat": ",v1={signature}",
                    "algorithm": "sha256",
                    "encoding": "hex",
                    "secret": "what-you-agreed-on-with-them",
                    "secret_encoding": "text",
                    "keyid": "2026",
                    "timestamp_header": "X-Timestamp",
                    "timestamp_format": "unix",
                }
            ],
        },
        "rfc-9421": {
            "name": "example-settlement",
            "base_url": "https://settlement.example",
            "signing": [
                {
                    "type": "http_message_signatures",
                    "name": "ours",
                    "algorithm": "ed25519",
                    "keyid": "acme-2026",
                    "private_key": _ENCRYPTED_KEY,
                    "passphrase": _ITS_PASSPHRASE,
                    "components": ["@method", "@target-uri", "content-digest"],
                    "components_if_present": ["content-type"],
                    "digest": "sha-256",
                    "label": "sig1",
                    "created": True,
                    "expires_seconds": 300,
                    "nonce": True,
                    "alg": True,
                    "tag": "clearing",
                },
                {
                    "type": "http_message_signatures",
                    "name": "shared",
                    "algorithm": "hmac-sha256",
                    "secret": "c2lnbmVkLWJ5LXRoZS1leGFtcGxlLW9mLTIwMjY=",
                    "components": ["@authority"],
                    "label": "sig2",
                },
            ],
        },
        "jws": {
            "name": "example-open-banking",
            "base_url": "https://bank.example/open-banking",
            "signing": [
                {
                    "type": "jws_detached",
                    "name": "open-banking",
                    "algorithm": "EdDSA",
                    "keyid": "of-the-directory",
                    "private_key": _ENCRYPTED_KEY,
                    "passphrase": _ITS_PASSPHRASE,
                    "header": "x-jws-signature",
                    "payload": "{headers}{body}",
                    "headers": ["Content-Type"],
                    "unencoded": False,
                    "members": {
                        "typ": "JOSE",
                        "http://openbanking.org.uk/iat": "{timestamp}",
                        "http://openbanking.org.uk/iss": "acme",
                        "http://openbanking.org.uk/tan": "openbanking.org.uk",
                    },
                    "critical": [
                        "http://openbanking.org.uk/iat",
                        "http://openbanking.org.uk/iss",
                        "http://openbanking.org.uk/tan",
                    ],
                }
            ],
        },
    },
    RotationBody: {
        "made": {"scheme": "standard_webhooks", "overlap_seconds": 86_400},
        "given": {
            "scheme": "with-a-secret",
            "keyid": "2027",
            "secret": "whsec_YW5vdGhlci1zZWNyZXQtb2YtdGhlLWV4YW1wbGU=",
            "overlap_seconds": 0,
        },
    },
    DestinationPatchBody: {
        "deadlines": {"timeouts": {"total_seconds": 10, "connect_seconds": None, "first_byte_seconds": None}},
        "credentials": {"auth": {"type": "bearer", "token": "the-one-that-comes-next"}},
        "defaults": {"guarantee": None, "idempotent": None},
    },
    ReasonBody: {"reason": {"reason": "until their cut-off"}},
    NewReplayBody: {
        "count": {"state": "failed", "since": "2026-11-02T00:00:00Z", "destination": "partner", "dry_run": True},
        "failed": {
            "state": "failed",
            "since": "2026-11-02T00:00:00Z",
            "until": "2026-11-03T00:00:00Z",
            "destination": "partner",
            "outcome": "answered",
            "status_class": 5,
            "rate": 5,
        },
        "delivered": {"state": "delivered", "since": "2026-11-02T00:00:00Z", "until": "2026-11-02T00:10:00Z"},
    },
    NewCancellationBody: {
        "count": {"since": "2026-11-02T00:00:00Z", "dry_run": True},
        "pending": {
            "since": "2026-11-02T00:00:00Z",
            "until": "2026-11-02T00:10:00Z",
            "destination": "partner",
        },
    },
    DeliveryPatchBody: {"now": {"not_before": None}},
    ResolutionBody: {
        "delivered": {"as": "delivered", "note": "it is on their statement of today"},
        "failed": {"as": "failed"},
        "again": {"as": "again", "note": "they know nothing of it, says their desk"},
    },
}


def requests(kind: type[Struct]) -> dict[str, Any]:
    """The examples of a request body, as OpenAPI lists them."""
    return {name: {"value": dict(value)} for name, value in REQUESTS[kind].items()}


def shared() -> dict[str, Any]:
    """The examples of response bodies, each once, for the components: by their type, or by kind and status."""
    bodies = {type(body).__name__: {"value": msgspec.to_builtins(body)} for body in _answers()}
    problems = {
        f"{kind}-{status}": {"value": problem(kind, status)} for kind in KINDS for status in KINDS[kind].statuses
    }
    return bodies | problems


def problem(kind: str, status: int) -> dict[str, Any]:
    """An example of a kind of problem."""
    described = KINDS[kind]
    return {
        "type": TYPE_PREFIX + kind,
        "title": ALL_TITLES[kind],
        "status": status,
        "detail": described.detail,
        **described.members,
    }


def properties() -> dict[str, dict[str, Any]]:
    """The example of each property of each schema, as JSON: the first that is not null, or null."""
    examples: dict[str, dict[str, Any]] = {}
    requested = [msgspec.convert(raw, kind) for kind, raws in REQUESTS.items() for raw in raws.values()]
    for body in (*requested, *_answers(), _in_bytes(), _problem_body(), _rotation_of_a_pair()):
        for part in _parts(body):
            known = examples.setdefault(type(part).__name__, {})
            names = zip(part.__struct_fields__, part.__struct_encode_fields__, strict=True)
            for name, value in ((encoded, getattr(part, member)) for member, encoded in names):
                if value is not UNSET and known.get(name) in (None, "", {}, []):
                    known[name] = msgspec.to_builtins(value)
    patched, whole = examples[DestinationPatchBody.__name__], examples[NewDestinationBody.__name__]
    examples[DestinationPatchBody.__name__] = patched | {
        name: value for name, value in whole.items() if patched.get(name) is None
    }
    return examples


def _parts(value: object) -> Iterator[Struct]:
    """`value` with all structs in it, the whole first."""
    if isinstance(value, Struct):
        yield value
        for inner in asdict(value).values():
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)


def _answers() -> tuple[Struct, ...]:
    delivery = _pending()
    return (
        _destination(),
        DestinationsBody([_destination(), *_other_destinations()], _CURSOR),
        DeletedDestinationBody(destination_id=_DESTINATION, canceled=3, unfinished=1),
        VerificationBody(
            method="GET",
            path="/health",
            result=ProbeResult.NOT_CONNECTED,
            partner_status=None,
            reason="no connection within 5 s",
            partner_certificate=None,
            remote_address="198.51.100.20",
            egress_address="203.0.113.10",
            total_ms=5001.2,
            verified_at=_AT,
        ),
        VerificationBody(
            method="GET",
            path="/health",
            result=ProbeResult.DENIED,
            partner_status=403,
            reason=None,
            partner_certificate=None,
            remote_address="198.51.100.20",
            egress_address="203.0.113.10",
            total_ms=59.5,
            verified_at=_AT,
        ),
        delivery,
        _delivered(),
        DeliveriesBody([delivery], _CURSOR),
        DryRunBody(
            count=120,
            may_have_happened=7,
            oldest=_AT,
            newest=_AT + timedelta(hours=3),
            sample=[_DELIVERY],
        ),
        _proposal(),
        ProposalsBody([_proposal()], _CURSOR),
        ApprovedBody(proposal=_proposal(), status=200, answer={"delivery_id": EXAMPLE_ID, "state": "failed"}),
        _job(),
        JobsBody([_job()], _CURSOR),
        EgressBody(addresses=[_egress_address()], reason=None),
        VerifiedEgressBody(
            addresses=["203.0.113.10"],
            verdict=CheckStatus.MATCHES,
            seen_address="203.0.113.10",
            reason=None,
            checked_at=_AT,
        ),
        _allowlist(),
        HealthBody(status="ok", version=VERSION),
        AuditBody([_AUDIT_ENTRY], "41"),
        _stats(),
    )


def _stats() -> StatsBody:
    period = PeriodBody(
        ended={"delivered": 1200, "failed": 3},
        attempts={"answered": 1210, "unreachable": 4},
        latency_ms=LatencyBody(p50=38.3, p95=95.4, p99=237.4),
    )
    of_bank = DestinationStatsBody(
        destination_id=_DESTINATION,
        destination="partner",
        state=DestinationState.ACTIVE,
        circuit_breaker=BreakerState.CLOSED,
        circuit_breaker_open_until=None,
        unfinished=UnfinishedBody(count=12, is_all=True, oldest_created_at=_AT, waiting_for={"rate_limit": 9}),
        last_hour=period,
        last_day=period,
        last_30_days=period,
    )
    return StatsBody(as_of=_AT, counted_until=_AT, destinations=[of_bank], next_cursor=None)


def _other_destinations() -> list[DestinationBody]:
    """With credentials of other kinds."""
    headers = AuthTypeBody(type=AuthType.HEADER, headers=[HeaderNameBody(name="X-Api-Key")])
    aws = AuthTypeBody(
        type=AuthType.AWS_SIGV4, region="eu-central-1", service="execute-api", access_key_id="AKIDEXAMPLE26NOV"
    )
    return [
        replace(_destination(), name=name, auth=auth, client_certificate=None, tls=None, signing=[])
        for name, auth in (("courier", headers), ("warehouse", aws))
    ]


def _destination() -> DestinationBody:
    return DestinationBody(
        destination_id=_DESTINATION,
        name="partner",
        base_url="https://api.partner.example/v1",
        auth=AuthTypeBody(
            type=AuthType.OAUTH2,
            token_url="https://login.partner.example/token",  # noqa: S106 - an address
            client_id="acme",
            client_authentication=ClientAuthentication.PRIVATE_KEY_JWT,
            algorithm=AssertionAlgorithm.ES256,
            key_id="acme-2026",
            assertion_audience="https://login.partner.example",
            scope="payments",
            audience="https://api.partner.example",
            parameters={"resource": "payments"},
        ),
        client_certificate=ClientCertificateBody(
            subject="CN=acme,O=Acme GmbH,C=DE",
            issuer="CN=acme,O=Acme GmbH,C=DE",
            serial_number="64d53c54fa0dc9a887d4cbdf6c63afd358ae0938",
            not_before=datetime(2025, 1, 1, tzinfo=UTC),
            not_after=datetime(2125, 1, 1, tzinfo=UTC),
            sha256="49f5f1585e4ef07ec53ccd57374a29da4a8794ae607775ce06eee1a1ad8dd0ee",
        ),
        tls=TlsBody(
            ca=_CERTIFICATE,
            pins=["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="],
            minimum_version=TlsVersion.TLS_1_3,
        ),
        timeouts=TimeoutsBody(connect_seconds=5.0, first_byte_seconds=15.0, total_seconds=20.0),
        guarantee=Guarantee.AUTO,
        idempotent=False,
        idempotency_header="Idempotency-Key",
        signing=[_webhooks(), _message_signatures(), _hmac(), _jws()],
        retry=RetryBody(schedule=[0, 60, 3600], statuses=StatusesBody(add=[409], remove=[500]), give_up_after=86_400.0),
        allow=AllowBody(methods=["GET", "POST"], paths=["/orders"]),
        verify=VerifyBody(path="/health"),
        limits=LimitsBody(rate=5.0, burst=10, concurrency=4),
        circuit_breaker=CircuitBreakerBody(),
        windows=[WindowBody(days=[Day.MON, Day.FRI], opens="08:00", closes="16:30", time_zone="Europe/Berlin")],
        ordering=OrderingBody(),
        reconcile=ReconcileBody(
            path="/payments/{idempotency_key}",
            received=[_rule(200, "/state", "executed")],
            rejected=[_rule(200, "/state", "rejected")],
            absent=[_rule(404, "/code", "payment_not_found")],
        ),
        redact=RedactBody(headers=["X-Card-Token"], pointers=["/card/number"]),
        events_to=_DESTINATION,
        retention=RetentionBody(bodies_days=7, responses_days=30),
        state=DestinationState.PAUSED,
        state_reason="until their cut-off",
        state_changed_at=_AT,
        state_changed_by=str(_TOKEN),
        version=2,
        created_at=_AT - timedelta(days=1),
    )


def _rule(status: int, pointer: str, *values: str) -> RuleBody:
    return RuleBody(status=status, where=[ConditionBody(pointer=pointer, values=list(values))])


def _webhooks() -> StandardWebhooksBody:
    return StandardWebhooksBody(
        name="standard_webhooks",
        keys=[
            _key("v1", secret="whsec_c2lnbmVkLWJ5LXRoZS1leGFtcGxlLW9mLTIwMjY="),  # noqa: S106 - of an example
            replace(_key("v1"), expires_at=_AT + timedelta(days=1)),
        ],
    )


def _message_signatures() -> MessageSignaturesBody:
    return MessageSignaturesBody(
        name="ours",
        algorithm=MessageAlgorithm.ED25519,
        components=["@method", "@target-uri", "content-digest"],
        components_if_present=["content-type"],
        expires_seconds=300,
        tag="clearing",
        keys=[replace(_key("ed25519"), public_key=_PUBLIC_KEY)],
    )


def _hmac() -> HmacBody:
    return HmacBody(name="hmac", header="X-Signature", timestamp_header="X-Timestamp", keys=[_key("sha256")])


def _jws() -> JwsBody:
    return JwsBody(
        name="jws_detached",
        algorithm=JwsAlgorithm.PS256,
        header="x-jws-signature",
        payload="{headers}{body}",
        headers=["Content-Type"],
        members={"iat": "{timestamp}"},
        critical=["iat"],
        keys=[replace(_key("PS256"), public_key=_PUBLIC_KEY)],
    )


def _key(algorithm: str, secret: str | UnsetType = UNSET) -> KeyBody:
    return KeyBody(
        keyid="2026",
        algorithm=algorithm,
        created_at=_AT,
        signs_from=_AT,
        expires_at=None,
        public_key=None,
        secret=secret,
    )


def _pending() -> DeliveryBody:
    return DeliveryBody(
        **_delivery_fields(),
        state=State.PENDING,
        attempts_made=0,
        next_attempt_at=_AT,
        waiting_for=WaitingFor.DESTINATION_PAUSED,
        finished_at=None,
        kept_until=None,
        resolution=None,
        resolved_by=None,
        resolved_at=None,
        note=None,
    )


def _delivered() -> DeliveryDetailsBody:
    response = _response()
    return DeliveryDetailsBody(
        **_delivery_fields(),
        state=State.DELIVERED,
        attempts_made=2,
        next_attempt_at=None,
        waiting_for=None,
        finished_at=_AT + timedelta(seconds=6),
        kept_until=_AT + timedelta(days=90, seconds=6),
        resolution=Resolution.AGAIN,
        resolved_by=f"token:{_TOKEN}",
        resolved_at=_AT + timedelta(seconds=5),
        note="they know nothing of it, says their desk",
        attempts=[
            _attempt(1, outcome=OutcomeKind.UNREACHABLE, reason="the connection was refused", response=None),
            _attempt(2, outcome=OutcomeKind.ANSWERED, reason=None, response=response),
        ],
        response=response,
        next_cursor=None,
    )


def _delivery_fields() -> dict[str, Any]:
    return {
        "delivery_id": _DELIVERY,
        "destination": "partner",
        "destination_id": _DESTINATION,
        "method": "POST",
        "path": "/orders",
        "query": "dry=1",
        "headers": {"Content-Type": "application/json"},
        "metadata": {"order": "4711"},
        "idempotency_key": "order-4711",
        "attempts_allowed": ASYNC_ATTEMPTS,
        "waits_until": None,
        "next_question_at": None,
        "ordering_key": "customer-17",
        "replay_of": None,
        "payload": Payload.WHOLE,
        "event": None,
        "event_id": None,
        "created_at": _AT,
    }


def _proposal() -> ProposalBody:
    return ProposalBody(
        proposal_id=UUID("01a203d1-1c2d-7a4b-8e5f-6a7b8c9d0e1f"),
        act="delivery.resolve",
        target=f"/v1/deliveries/{EXAMPLE_ID}/resolve",
        request={"as": "failed"},
        state=ProposalState.DONE,
        created_at=_AT,
        created_by=str(_TOKEN),
        expires_at=_AT + timedelta(days=1),
        decided_at=_AT + timedelta(minutes=5),
        decided_by="01a203c1-aa0c-7e15-9c2d-5b6f7a8091a2",
    )


def _job() -> JobBody:
    return JobBody(
        job_id=UUID("01a203d0-6a2b-7e3f-9d0c-2b7a4e5f6a10"),
        act=JobAct.REPLAY,
        state=JobState.RUNNING,
        deliveries=State.FAILED,
        destination="partner",
        outcome=OutcomeKind.ANSWERED,
        status_class=5,
        rate=5.0,
        expected=120,
        changed=50,
        skipped=2,
        created_at=_AT,
        created_by=f"token:{_TOKEN}",
        finished_at=None,
    )


def _attempt(number: int, *, outcome: OutcomeKind, reason: str | None, response: ResponseBody | None) -> AttemptBody:
    sent = response is not None
    return AttemptBody(
        attempt_id=UUID(int=_DELIVERY.int + number),
        number=number,
        kind=AttemptKind.SEND,
        outcome=outcome,
        reason=reason,
        started_at=_AT + timedelta(seconds=5 * (number - 1)),
        timings=TimingsBody(
            dns_ms=1.204,
            connect_ms=8.51 if sent else None,
            tls_ms=21.337 if sent else None,
            first_byte_ms=58.92 if sent else None,
            total_ms=59.488 if sent else 9.02,
        ),
        remote_address="198.51.100.20",
        egress_address="203.0.113.10" if sent else None,
        response=response,
    )


def _response() -> ResponseBody:
    return ResponseBody(
        status=201,
        headers={"Content-Type": "application/json", "Set-Cookie": ["a=1", "b=2"]},
        body='{"id":7}',
        body_base64=None,
        length_bytes=8,
        sha256="a3c90e3b7448d23d9eacebd0ebf15cae100e21f9b2c688f3f9d238edcd26d67f",
        truncated=False,
    )


def _in_bytes() -> ResponseBody:
    return replace(_response(), body=None, body_base64="AAEC/w==")


def _egress_address() -> EgressAddressBody:
    return EgressAddressBody(
        availability_zone="eu-central-1a",
        address="203.0.113.10",
        verdict=CheckStatus.MATCHES,
        seen_address="203.0.113.10",
        reason=None,
        last_checked_at=_AT,
        last_verified_at=_AT,
    )


def _allowlist() -> AllowlistBody:
    return AllowlistBody(
        issued_at=_AT,
        addresses=[
            AllowlistedAddressBody(
                address="203.0.113.10",
                cidr="203.0.113.10/32",
                availability_zones=["eu-central-1a", "eu-central-1b"],
                since=_AT,
                last_verified_at=_AT,
            )
        ],
        reason=None,
        ports=[80, 443, 8080, 8443],
        tls_versions=["1.2", "1.3"],
        contact="network@example.com",
        next_change=NextChangeBody(
            addresses=[AnnouncedAddressBody(address="203.0.113.11", cidr="203.0.113.11/32")], begins_on=_AT.date()
        ),
        public_key="whpk_IpYPcR1nQ8dR2vdmzrZJnLG3wEIxZTAX/yDeT/BY3Fg=",
    )


def _rotation_of_a_pair() -> RotationBody:
    return RotationBody(private_key=_ENCRYPTED_KEY, passphrase=_ITS_PASSPHRASE)


def _problem_body() -> ProblemBody:
    return msgspec.convert(problem("invalid-request", 422), ProblemBody)
