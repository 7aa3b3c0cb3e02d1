"""What the API shows of an attempt: each value in its place."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from domain.deliveries import Attempt, StoredResponse
from domain.ids import AttemptId, DeliveryId
from domain.outcomes import OutcomeKind, Timings
from handlers.schemas.attempts import attempt_body

ATTEMPT = Attempt(
    attempt_id=AttemptId(UUID(int=1)),
    delivery_id=DeliveryId(UUID(int=2)),
    number=3,
    outcome=OutcomeKind.ANSWERED,
    reason=None,
    started_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    timings=Timings(dns_ms=1.00049, connect_ms=2.00051, tls_ms=3.4444, first_byte_ms=4.5555, total_ms=5.66666),
    remote_address="203.0.113.9",
    egress_address="198.51.100.10",
    response=StoredResponse(
        status=201,
        headers=(("X-A", "1"), ("X-A", "2")),
        body=b"yes",
        length_bytes=3,
        sha256=b"\xab" * 32,
        truncated=True,
    ),
)


def test_every_value_is_shown_in_its_place_and_times_to_the_microsecond() -> None:
    assert msgspec.to_builtins(attempt_body(ATTEMPT)) == {
        "attempt_id": "00000000-0000-0000-0000-000000000001",
        "number": 3,
        "kind": "send",
        "outcome": "answered",
        "reason": None,
        "started_at": "2026-03-01T12:00:00Z",
        "timings": {"dns_ms": 1.0, "connect_ms": 2.001, "tls_ms": 3.444, "first_byte_ms": 4.556, "total_ms": 5.667},
        "remote_address": "203.0.113.9",
        "egress_address": "198.51.100.10",
        "response": {
            "status": 201,
            "headers": {"X-A": ["1", "2"]},
            "body": "yes",
            "body_base64": None,
            "length_bytes": 3,
            "sha256": "ab" * 32,
            "truncated": True,
        },
    }


def test_what_there_is_not_is_null() -> None:
    nothing = replace(ATTEMPT, timings=Timings(), response=None, reason="no connection", remote_address=None)
    shown = msgspec.to_builtins(attempt_body(nothing))
    assert (shown["response"], shown["reason"], shown["remote_address"]) == (None, "no connection", None)
    assert shown["timings"] == {
        "dns_ms": None, "connect_ms": None, "tls_ms": None, "first_byte_ms": None, "total_ms": 0.0
    }  # fmt: skip
