"""Every number that src is set by, written down a second time.

A test that imports a limit and compares with it passes whatever the limit is. Who changes a number changes its line
here, and looks at what else speaks of it: docs, templates and the other numbers that it must fit.
"""

import ast
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parent.parent.parent / "src"

# By module and name.
NUMBERS: dict[str, dict[str, Any]] = {
    "db/attempts.py": {
        "MOST_SMALLINT": 32_767,
        "PASSED_SECONDS": 5,
    },
    "db/connection.py": {
        "_CLIENT_OPTIONS": {"connect_timeout": 5, "tcp_user_timeout": 10000, "application_name": "sallyport"},
        "CONNECT_TIMEOUT_SECONDS": 5,
        "RETRY_AFTER_SECONDS": 10,
        "MAX_IDLE_SECONDS": 240,
        "TRY_SECONDS": 4.0,
        "CALL_SECONDS": 9.0,
    },
    "db/jobs.py": {"COUNTED": 100_000, "SAMPLE": 10},
    "db/deliveries.py": {
        "COUNTED_DELIVERIES": 100,
        "COUNTED_DESTINATIONS": 500,
        "PAUSED_RETRY_AFTER_SECONDS": 60,
        "DELETED_FOR_SECONDS": 60,
        "BUSY_SECONDS": 1,
        "MOST_READ": 2000,
        "_SUCCESS_CLASS": 2,
        "_MOMENT": timedelta(milliseconds=1),
    },
    "db/retention.py": {
        "PAGE": 500,
    },
    "db/sealed_values.py": {
        "ROWS_OF_A_PAGE": 100,
    },
    "db/migrations/__init__.py": {
        "LOCK_WAIT_SECONDS": 3,
        "LOCK_TRIES": 10,
        "PAUSE_SECONDS": 1.0,
        "_LOCK_KEY": 7_255_496,
    },
    "db/tenants.py": {"TOKENS_OF_A_PAGE": 1000},
    "db/sightings.py": {
        "DELIVERIES_LOOKED_AT": 100,
        "ATTEMPTS_LOOKED_AT": 25,
        "DESTINATIONS_OF_A_PAGE": 50,
    },
    "domain/bodies.py": {
        "_WINDOW_BITS": {"gzip": 31, "x-gzip": 31, "deflate": 15},
        "STORED_RESPONSE_BYTES": 65_536,
        "INFLATED_LIMIT_BYTES": 33_554_432,
        "MOST_MEMBERS": 1000,
        "FEED_BYTES": 16_384,
        "STORED_HEADERS": 100,
        "STORED_HEADER_BYTES": 16_384,
        "LONGEST_HEADER_CHARACTERS": 4096,
        "_STEP_BYTES": 65_536,
    },
    "flows/bus.py": {"PUT_BACK_SECONDS": 30},
    "wakeups/event_bus.py": {"BATCH_ENTRIES": 10, "PUT_SECONDS": 5.0},
    "flows/checkpoints.py": {"RECENT_DAYS": 31, "NAME_LETTERS": 16},
    "runtime/checkpoint_bucket.py": {"PUT_SECONDS": 5.0, "_OK": 200},
    "domain/certificates.py": {"EXPIRING_DAYS": (7, 30)},
    "domain/checks.py": {
        "LONGEST_AGE": timedelta(hours=1),
    },
    "domain/deliveries.py": {
        "ASYNC_ATTEMPTS": 10,
        "PASS_THROUGH_ATTEMPTS": 1,
    },
    "domain/events.py": {
        "EVENT_AFTER_SECONDS": 1,
    },
    "domain/destinations.py": {
        "MAX_TOTAL_SECONDS": 25,
        "MIN_TIMEOUT_SECONDS": 0.1,
    },
    "domain/ids.py": {
        "RANDOM_BYTES": 10,
        "_RANDOM_BITS": (1 << 80) - 1 - (0xF << 76) - (0x3 << 62),
    },
    "domain/control.py": {"CHANGED_WITHIN_SECONDS": 45},
    "domain/proposals.py": {"OPEN_FOR_SECONDS": 86_400, "MOST_OPEN": 100},
    "domain/jobs.py": {"STEP_SECONDS": 10.0, "PAGE": 200, "MOST_UNFINISHED": 10, "STEPPED_WITHIN_SECONDS": 60},
    "domain/limits.py": {
        "MIN_RATE": 0.001,
        "MAX_RATE": 1000.0,
        "MAX_BURST": 1000,
        "MAX_CONCURRENCY": 200,
        "USUAL_WORKERS": 5,
        "SLOW_SECONDS": 3.0,
        "_SHARE": 0.4,
        "MIN_WINDOW_SECONDS": 1,
        "MAX_WINDOW_SECONDS": 3600,
        "MIN_OPEN_SECONDS": 1,
        "MAX_OPEN_SECONDS": 3600,
        "MAX_MINIMUM_ATTEMPTS": 10_000,
        "_REQUEST_TIMEOUT": 408,
        "_TOO_MANY_REQUESTS": 429,
        "_SERVER_ERROR": 500,
    },
    "domain/masks.py": {
        "LEAST_SECRET_CHARACTERS": 4,
        "_LONGEST_ESCAPE_BYTES": 10,
    },
    "domain/ordering.py": {
        "MAX_ORDERING_KEY": 200,
    },
    "domain/questions.py": {
        "READ_BYTES": 1_048_576,
        "ABOUT_THE_QUESTION": frozenset({401, 403, 407, 408, 421, 425, 426, 428, 429, 431}),
        "LEAST_SILENT_SECONDS": 30.0,
        "MOST_SILENT_SECONDS": 60.0,
        "MOST_RANK": 7,
        "LONGEST_SILENT_SECONDS": 43_200.0,
        "OFTEN_FOR_SECONDS": 86_400.0,
        "GIVE_UP_SECONDS": 2_592_000.0,
        "MOMENT_SECONDS": 5.0,
    },
    "domain/redaction.py": {"READ_BYTES": 262_144},
    "domain/retention.py": {"LONGEST_DAYS": 3650},
    "domain/reconcile.py": {
        "USUAL_AFTER_SECONDS": (30.0, 300.0, 1800.0, 7200.0),
        "USUAL_ABSENT_AFTER_SECONDS": 600.0,
    },
    "domain/retry.py": {
        "SCHEDULE_SECONDS": (
            0,
            5,
            300,
            1800,
            7200,
            18_000,
            36_000,
            50_400,
            72_000,
            86_400,
        ),
        "JITTER": 0.2,
        "RETRY_AFTER_CAP_SECONDS": 86_400,
        "RETRIABLE_STATUSES": frozenset({408, 425, 429, 500, 502, 503, 504}),
        "AMBIGUOUS_STATUSES": frozenset({408, 500, 502, 504}),
        "LASTING_STATUSES": frozenset({501, 505, 506, 508, 510, 511}),
        "_SERVER_ERROR": 500,
        "_LONGEST_RETRY_AFTER": 1000,
        "_MOST_RETRY_AFTER": 10,
    },
    "domain/targets.py": {
        "_SLASHES": {8260: "/", 8725: "/", 10744: "/", 8726: "\\", 10741: "\\"},
        "_USUAL_PORTS": {"http": 80, "https": 443},
        "_MOST_DECODINGS": 8,
    },
    "domain/signing.py": {
        "MAX_SCHEMES": 5,
        "MAX_KEYS": 5,
        "MAX_COMPONENTS": 50,
        "MAX_MEMBER_LEVELS": 5,
        "DEFAULT_OVERLAP_SECONDS": 86_400,
        "MAX_OVERLAP_SECONDS": 2_592_000,
    },
    "domain/wakeups.py": {
        "LONGEST_DELAY_SECONDS": 900,
        "MISS_DELAYS_SECONDS": (
            1,
            45,
        ),
        "ROW_COMES_WITHIN_SECONDS": 45,
        "LEAST_LOOK_SECONDS": 60,
        "MOST_LOOK_SECONDS": 43_200,
    },
    "domain/windows.py": {
        "MAX_WINDOWS": 20,
    },
    "egress/addresses.py": {
        "DEFAULT_PORTS": {"http": 80, "https": 443},
        "_ISATAP": frozenset({24_318, 33_578_750}),
        "_MAX_URL_CHARACTERS": 16_384,
        "_MAX_NAME_CHARACTERS": 253,
        "REMEMBERED": 1000,
    },
    "egress/assertions.py": {
        "LIFE_SECONDS": 300,
        "_P256_BYTES": 32,
        "_PSS_SALT_BYTES": 32,
    },
    "egress/certificates.py": {
        "MOST_CERTIFICATES": 10,
        "MOST_ROOTS": 50,
        "LEAST_RSA_BITS": 2048,
        "MOST_RSA_BITS": 4096,
        "MOST_KEY_CHARACTERS": 4500,
        "MOST_ROUNDS": 1_000_000,
        "_LONGEST_NAME": 500,
    },
    "egress/check_store.py": {
        "_SECONDS": 2.0,
        "_RETRY_AFTER_SECONDS": 5,
        "CACHED_FOR": timedelta(seconds=30),
        "INCOMPLETE_CACHED_FOR": timedelta(seconds=3),
    },
    "egress/connection_policy.py": {
        "IDLE_CONNECTION_SECONDS": 15,
        "LONGEST_CONNECTION_SECONDS": 60,
        "SMALL_BUFFER_BYTES": 16_384,
        "_OF_HTTP_1": frozenset({1, 2}),
    },
    "egress/echo.py": {
        "_LONGEST_ANSWER_BYTES": 64,
    },
    "egress/engine.py": {
        "_WAKE_BYTES": 4096,
    },
    "egress/lookups.py": {
        "MOST_THREADS": 32,
    },
    "egress/headers.py": {
        "LONGEST_REMEMBERED_LINE": 64,
    },
    "egress/response.py": {
        "RESPONSE_CAP_BYTES": 4_194_304,
        "_SWITCHING": 101,
        "_STATUS_BYTES": 16,
    },
    "egress/oauth.py": {
        "MOST_TOKEN_CHARACTERS": 16_384,
        "MOST_ANSWER_BYTES": 65_536,
        "ASSUMED_SECONDS": 300,
        "MOST_SECONDS": 2_592_000,
        "_LONGEST_DETAIL": 200,
    },
    "egress/sealing.py": {
        "FORMAT_VERSION": 1,
        "KEY_BYTES": 32,
        "_KEY_ID_BYTES": 4,
        "_NONCE_BYTES": 12,
        "_TAG_BYTES": 16,
        "_HEAD_BYTES": 17,
        "_LEAST_SECRET_CHARACTERS": 32,
    },
    "egress/seal_key_store.py": {
        "TEXT_CHARACTERS": 64,
        "_WRITE_SECONDS": 5.0,
        "_RETRY_AFTER_SECONDS": 5,
    },
    "egress/seal_keys.py": {
        "FRESH_SECONDS": 60.0,
        "STALE_SECONDS": 1800.0,
        "AGAIN_SECONDS": 30.0,
        "MOST_KEYS": 5,
        "_SECRET_SECONDS": 5.0,
        "_RETRY_AFTER_SECONDS": 5,
        "_SEED_BYTES": 32,
    },
    "egress/signing/keys.py": {
        "NEW_RSA_BITS": 3072,
        "NEW_SECRET_BYTES": 32,
        "LEAST_WEBHOOK_BYTES": 24,
        "MOST_WEBHOOK_BYTES": 64,
        "LEAST_SECRET_BYTES": 16,
        "_ED25519_BYTES": 32,
    },
    "egress/signing/message_signatures.py": {"_NONCE_BYTES": 16},
    "egress/sockets.py": {
        "OPEN_CONNECTIONS": 100,
        "_ENDING": 8192,
        "_ENDED": 8248,
    },
    "egress/tls.py": {
        "_ALERTS": {
            10: "unexpected message",
            20: "bad record MAC",
            22: "record overflow",
            40: "handshake failure",
            42: "bad certificate",
            43: "unsupported certificate",
            44: "certificate revoked",
            45: "certificate expired",
            46: "certificate unknown",
            47: "illegal parameter",
            48: "unknown CA",
            49: "access denied",
            50: "decode error",
            51: "decrypt error",
            70: "protocol version",
            71: "insufficient security",
            80: "internal error",
            86: "inappropriate fallback",
            109: "missing extension",
            110: "unsupported extension",
            112: "unrecognized name",
            115: "unknown PSK identity",
            116: "certificate required",
            120: "no application protocol",
        },
        "_CERTIFICATE": 11,
        "_CERTIFICATE_REQUEST": 13,
        "_FINISHED": 20,
        "_FATAL": 2,
        "_HEAD_BYTES": 4,
        "_ALERT_BYTES": 2,
        "_ABOUT_CERTIFICATE": frozenset({40, 42, 43, 44, 45, 46, 48, 49, 51, 116}),
    },
    "egress/transfer.py": {
        "_LONGEST_DETAIL": 200,
        "_TLS_REFUSALS": frozenset({60, 90}),
        "_TLS_FAILURES": frozenset({35, 43, 58, 59, 60, 77, 90}),
        "_HTTP2_STREAM": 92,
        "_TOO_LARGE": 100,
    },
    "flows/accept.py": {
        "CALL_SECONDS": 28.0,
    },
    "flows/ask.py": {"BUSY_SECONDS": 2, "PAUSED_SECONDS": 60},
    "flows/attempt.py": {
        "WORKER_SECONDS": 45.0,
        "SETTLE_SECONDS": 14.0,
        "PUT_BACK_SECONDS": 30,
        "JUDGE_SECONDS": 4.0,
        "CARRIED_PUT_BACK_SECONDS": 5,
        "NEXT_JOB_SECONDS": 1,
        "RETRY_AFTER_SECONDS": 5,
        "CARRIED_SECONDS": 4.0,
    },
    "flows/deliver.py": {
        "WATCH_SECONDS": 0.1,
        "MOST_WATCH_SECONDS": 2.0,
        "RETRY_AFTER_SECONDS": 2,
        "RECORD_SECONDS": 10.0,
        "LEAST_RECORD_SECONDS": 1.0,
    },
    "flows/jobs.py": {"PUT_BACK_SECONDS": 30},
    "handlers/routes/proposals.py": {"REFUSED_FROM": 400},
    "flows/destination_states.py": {
        "WAKE_BEFORE_SECONDS": 7.0,
        "WAKE_SECONDS": 17.0,
        "WAKE_AHEAD_SECONDS": 15.0,
        "CANCEL_SECONDS": 15.0,
        "CANCEL_PAGE": 1000,
    },
    "flows/destinations.py": {
        "CHANGE_TRIES": 5,
        "RETRY_AFTER_SECONDS": 1,
        "CHANGE_WAKE_SECONDS": 10.0,
    },
    "flows/early_recording.py": {
        "GRACE_SECONDS": 1.0,
    },
    "flows/oauth.py": {
        "WAIT_SECONDS": 8.0,
        "LEASE_SECONDS": 15.0,
        "PAUSES_SECONDS": (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        "AGAIN_SECONDS": 30.0,
        "RENEWED_BEFORE": 0.2,
        "LEAST_RENEWED_BEFORE_SECONDS": 30.0,
        "_MARGIN_SECONDS": 5.0,
    },
    "flows/groups.py": {
        "REMEMBERED_NAMES": 1000,
    },
    "flows/migrate.py": {
        "PAUSE_SECONDS": 3.0,
    },
    "flows/network.py": {
        "PAUSE_SECONDS": 5.0,
    },
    "flows/judge.py": {
        "GONE_STATUS": 410,
        "LAPSE_SECONDS": 30.0,
    },
    "flows/settle.py": {
        "PAUSE_SECONDS": 1.0,
        "CARRY_SECONDS": 8.0,
        "CARRIED_AFTER_SECONDS": 10,
        "LONGEST_LEASE_SECONDS": 60,
    },
    "handlers/attempt.py": {
        "SEALING_SECONDS": 25.0,
    },
    "flows/audit_chain.py": {
        "PAGE": 5000,
    },
    "db/tallies.py": {"MOST_UNFINISHED": 1000},
    "domain/trace.py": {"STATE_LIMIT": 512, "STATE_MEMBERS": 32},
    "domain/stats.py": {"CLASS_RATIO": 1.2},
    "flows/tallies.py": {"MOST_STEPS": 4, "STEP_ATTEMPTS": 5000},
    "flows/tally_look.py": {"COUNT_SECONDS": 240.0},
    "flows/seal_attempts.py": {
        "INTERVAL_ATTEMPTS": 2000,
        "LEAF_BYTES": 32,
    },
    "flows/seal_schedule.py": {"SEAL_SECONDS": 240.0},
    "flows/redrive.py": {
        "STEP_SECONDS": 25.0,
    },
    "handlers/admin.py": {
        "LEAST_SECONDS": 15.0,
        "TENANTS_OF_A_PAGE": 100,
    },
    "flows/tokens.py": {
        "MOST_DESTINATIONS": 20,
        "SECRET_BYTES": 32,
    },
    "flows/wake_waiting.py": {
        "PAGE": 500,
        "FEW_AHEAD_SECONDS": 3.0,
    },
    "flows/beside.py": {"FIRST_SHARE": 0.25},
    "flows/overdue_look.py": {"LOOK_SECONDS": 900.0, "LOOKS": 4, "OVERDUE_SECONDS": 1800.0},
    "flows/rotate_seal_key.py": {
        "ANNOUNCED_SECONDS": 60.0,
        "RETIRED_AFTER_SECONDS": 3600.0,
        "STEP_SECONDS": 15.0,
        "MOST_SHOWN": 20,
        "_TRIES": 5,
    },
    "flows/retention.py": {
        "WALK_SECONDS": 86_400.0,
        "LOOK_SECONDS": 600.0,
        "TURN_SECONDS": 20.0,
        "TURN_PAGES": 10,
        "PAGES_SECONDS": 2.0,
        "TAKEN_SECONDS": 60.0,
        "RESERVE_SECONDS": 15.0,
    },
    "flows/wake_overdue.py": {
        "WORKER_SECONDS": 45.0,
        "_BATCH_SECONDS": 11.0,
    },
    "handlers/answers.py": {
        "LAMBDA_ANSWER_BYTES": 6_291_556,
        "ANSWER_BYTES": 6_200_000,
        "_SURELY_SMALL_CHARACTERS": 250_000,
    },
    "handlers/migrate.py": {
        "RESERVE_SECONDS": 30.0,
        "GRACE_SECONDS": 5.0,
    },
    "handlers/network.py": {
        "RESERVE_SECONDS": 60.0,
    },
    "handlers/paging.py": {
        "DEFAULT_LIMIT": 50,
        "MOST": 200,
    },
    "handlers/parsing.py": {
        "_MOST_POSITIONS": 10,
        "_MOST_ITEMS": 100,
    },
    "handlers/problems.py": {
        "FAULTS_SHOWN": 100,
    },
    "handlers/request.py": {
        "BODY_LIMIT_BYTES": 4_194_304,
        "_LONG_WAIT_DIGITS": 6,
    },
    "handlers/routes/audit.py": {
        "EXPORT_LINES": 5000,
        "MAX_TEXT": 200,
    },
    "handlers/routes/deliveries.py": {
        "MOST_MEMBERS": 10,
    },
    "handlers/routes/via.py": {
        "TARGET_LIMIT": 14_000,
        "HIGHEST_STATUS": 599,
        "NOT_MODIFIED": 304,
    },
    "handlers/schemas/deliveries.py": {
        "METADATA_LIMIT_BYTES": 4096,
        "SYNC_RESPONSE_BYTES": 4_194_304,
        "NOT_BEFORE_LIMIT": timedelta(days=30),
        "CLOCK_SKEW": timedelta(minutes=5),
    },
    "handlers/schemas/destinations/auth.py": {
        "MOST_HEADERS": 10,
        "MOST_PARAMETERS": 20,
    },
    "handlers/schemas/destinations/tls.py": {
        "MOST_PINS": 10,
        "_SHA256_BYTES": 32,
    },
    "handlers/schemas/destinations/signing.py": {
        "MEMBERS_LIMIT_BYTES": 4096,
        "_LONGEST_TEMPLATE": 1024,
        "_LONGEST_KEY_ID": 256,
        "_LONGEST_SECRET": 1024,
        "_LONGEST_PEM": 8192,
    },
    "flows/probes.py": {"REMEMBERED_PROBES": 1000},
    "flows/verify_destination.py": {"ANSWER_SECONDS": 1.0, "APART_SECONDS": 5.0},
    "domain/probe.py": {"DENYING_STATUSES": frozenset({401, 403, 407})},
    "handlers/schemas/destinations/redact.py": {"MOST": 50},
    "handlers/schemas/destinations/allow.py": {"MOST_PATHS": 50, "MOST_METHODS": 7},
    "handlers/schemas/destinations/reconcile.py": {
        "HEADER_LIMIT": 2000,
        "LIMIT_BYTES": 65_536,
        "MOST_QUESTIONS": 20,
        "LONGEST_GAP_SECONDS": 604_800,
        "MOST_RULES": 20,
        "MOST_CONDITIONS": 10,
        "MOST_VALUES": 50,
        "NOT_FOUND": (404, 410),
    },
    "handlers/schemas/destinations/retry.py": {
        "MOST_ATTEMPTS": 20,
        "LONGEST_DELAY_SECONDS": 604_800,
        "MOST_STATUSES": 50,
    },
    "handlers/schemas/headers.py": {
        "HEADERS_LIMIT_BYTES": 16_384,
        "HEADERS_LIMIT": 100,
    },
    "runtime/aws.py": {
        "RDS_TOKEN_SECONDS": 900,
        "_RETRY_PAUSE_SECONDS": 0.1,
        "_CONNECT_SECONDS": 3.0,
        "_REUSED_SHARE": 1 / 3,
        "_MAX_IDLE_SECONDS": 50,
        "_LONGEST_MESSAGE": 500,
        "_ANSWER_LIMIT_BYTES": 2_097_152,
        "_UNSENT": frozenset({6, 7, 35, 60}),
    },
    "runtime/cloudformation.py": {
        "ANSWER_TIMEOUT_SECONDS": 5,
        "PAUSES_SECONDS": (
            1.0,
            2.0,
        ),
        "_REASON_BYTES": 1000,
    },
    "runtime/credentials.py": {
        "FETCH_SECONDS": 2.0,
        "RENEWED_BEFORE_EXPIRY_SECONDS": 300.0,
        "_ANSWER_LIMIT_BYTES": 65_536,
    },
    "runtime/deadline.py": {
        "CUT_SECONDS": 2.0,
    },
    "runtime/ec2.py": {
        "CONNECT_SECONDS": 3,
        "ANSWER_SECONDS": 10,
        "TRIES": 3,
    },
    "runtime/emf.py": {
        "_RESOLUTION_SECONDS": 60,
    },
    "runtime/log_lines.py": {
        "_OWN_ATTRIBUTES": 21,  # of CPython 3.13
    },
    "runtime/zones.py": {
        "ANSWER_SECONDS": 0.5,
    },
    "wakeups/sqs.py": {
        "BATCH_ENTRIES": 10,
        "BATCH_LIMIT_BYTES": 250_000,
        "MESSAGE_LIMIT_BYTES": 240_000,
        "SEND_SECONDS": 5.0,
        "RETRY_AFTER_SECONDS": 5,
    },
}


def numbers(module: str) -> Iterator[str]:
    """The constants of a module that are a number, a length of time, a collection of numbers, or a table of numbers."""
    for statement in ast.parse((SOURCE / module).read_text()).body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=value)
            ):
                if name.isupper() and (is_number(value_of(module, name)) or is_table(value)):
                    yield name


def value_of(module: str, name: str) -> Any:
    return getattr(import_module(module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")), name)


def is_number(value: object) -> bool:
    if isinstance(value, tuple | frozenset):
        return bool(value) and all(is_number(member) for member in value)
    return isinstance(value, int | float | timedelta) and not isinstance(value, bool)


def is_table(written: ast.expr | None) -> bool:
    """Whether it is written as a mapping from numbers or to numbers, of single values."""
    parts = [*written.keys, *written.values] if isinstance(written, ast.Dict) else []
    plain = all(isinstance(part, ast.Constant | ast.Name) for part in parts)
    return plain and any(isinstance(part, ast.Constant) and is_number(part.value) for part in parts)


@pytest.mark.parametrize("module", sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.glob("**/*.py")))
def test_the_numbers_of_a_module_are_those_that_are_written_down(module: str) -> None:
    assert {name: value_of(module, name) for name in numbers(module)} == NUMBERS.get(module, {})


def test_no_number_is_written_down_for_a_module_that_is_gone() -> None:
    assert [module for module in NUMBERS if not (SOURCE / module).is_file()] == []
