"""Attempts in the audit log: sealed by the worker, exported by the API, and verified by the offline verifier."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flows import seal_attempts as flow
from flows import seal_schedule
from flows.seal_attempts import INTERVAL_ATTEMPTS, seal_attempts
from flows.seal_schedule import SEAL_SECONDS
from handlers import wiring
from sallyport_audit.__main__ import verify
from sallyport_audit.chain import Tampered
from tests.egress.servers import Partner, Script
from tests.support.api import NOBODYS_ID, Functions
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]


@pytest.fixture
def attempted(functions: Functions, partner: StartPartner) -> Functions:
    """Three deliveries of the first tenant and one of the second, each attempted once."""
    there = partner(answers(200, body=b'{"ok": true}'))
    for api, number in ((functions.api, 3), (functions.other_api, 1)):
        api.destination(there.url())
        for _ in range(number):
            assert api.create_delivery().status == 202
    functions.work()
    return functions


def seal() -> int | None:
    return seal_attempts(services=wiring.attempt())


def seals(functions: Functions) -> list[str]:
    entries = functions.api.get("/v1/audit?what=attempts.sealed").json["entries"]
    return [entry["on"] for entry in reversed(entries)]


def exported(functions: Functions) -> list[bytes]:
    """The log, and the attempts of all intervals."""
    targets = ["/v1/audit/export", *(f"/v1/audit/attempts?seal={seal_id}" for seal_id in seals(functions))]
    return [line for target in targets for line in functions.api.get(target).body.splitlines(keepends=True)]


def test_attempts_are_sealed_by_tenant_and_verified(attempted: Functions) -> None:
    assert seal() == 4
    assert "3 of 3 attempts of 1 intervals" in verify(exported(attempted), complete=True)
    assert seal() == 0
    assert [row["what"] for row in attempted.sql("SELECT what FROM audit_entry WHERE what = 'attempts.sealed'")] == (
        ["attempts.sealed"] * 2
    )


def test_each_interval_begins_where_the_last_one_ended(attempted: Functions) -> None:
    seal()
    for _ in range(2):
        attempted.api.create_delivery()
        attempted.work()
        seal()
    assert "5 of 5 attempts of 3 intervals" in verify(exported(attempted), complete=True)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE attempt SET status = 500",
        "UPDATE attempt SET response_sha256 = sha256('x')",
        "UPDATE attempt SET started_at = started_at + interval '1 microsecond'",
        "UPDATE attempt SET remote_address = '192.0.2.1'",
        "UPDATE attempt SET headers_sha256 = sha256('x')",
        "UPDATE delivery SET fingerprint = sha256('x')",
        "UPDATE attempt_seal SET leaves = leaves || sha256('x')",
        "INSERT INTO attempt SELECT delivery_id, 2, gen_random_uuid(), outcome, reason, started_at, dns_ms, connect_ms,"
        " tls_ms, first_byte_ms, total_ms, remote_address, egress_address, status, response_headers, response_body,"
        " response_length, response_sha256, response_truncated, moved_lease_id FROM attempt;"
        " UPDATE attempt SET recorded_in = (SELECT min(recorded_in) FROM attempt)",
    ],
)
def test_what_is_changed_after_it_was_sealed_is_found(attempted: Functions, tampering: str) -> None:
    seal()
    attempted.sql(tampering)
    with pytest.raises(Tampered):
        verify(exported(attempted))


def test_an_attempt_that_is_gone_is_counted(attempted: Functions) -> None:
    seal()
    attempted.sql("DELETE FROM attempt WHERE delivery_id = (SELECT max(delivery_id::text)::uuid FROM delivery)")
    attempted.sql("DELETE FROM attempt WHERE delivery_id = (SELECT min(delivery_id::text)::uuid FROM delivery)")
    lines = exported(attempted)
    assert "2 of 3 attempts" in verify(lines)
    with pytest.raises(Tampered, match="1 of 3 sealed attempts are missing"):
        verify(lines, complete=True)


def test_bodies_and_headers_that_are_deleted_break_nothing(attempted: Functions) -> None:
    seal()
    for _ in range(2):
        attempted.sql("UPDATE attempt SET response_body = '', response_headers = '[]'")
    attempted.sql("DELETE FROM delivery_body")
    assert "3 of 3 attempts" in verify(exported(attempted), complete=True)


def test_a_truth_that_comes_late_is_sealed_again(attempted: Functions) -> None:
    """The attempt as it was sealed first is gone then, and only then."""
    seal()
    attempted.sql(
        "UPDATE attempt SET outcome = 'unknown', reason = 'lapsed', recorded_in = DEFAULT, status = NULL,"
        " response_headers = NULL, response_body = NULL, response_truncated = NULL"
    )
    seal()
    assert "3 of 6 attempts of 2 intervals" in verify(exported(attempted))


def test_what_a_transaction_writes_that_still_runs_is_sealed_later(attempted: Functions) -> None:
    with wiring.attempt().database.connection().transaction():
        wiring.attempt().database.connection().execute("UPDATE attempt SET recorded_in = DEFAULT")
        attempted.api.create_delivery()
        assert seal() == 0
    assert seal() == 4


def test_an_interval_ends_with_a_transaction(attempted: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two were asked for; the four were recorded together."""
    monkeypatch.setattr("flows.seal_attempts.INTERVAL_ATTEMPTS", 2)
    attempted.api.create_delivery()
    attempted.work()
    assert [seal(), seal(), seal()] == [4, 1, 0]
    assert "4 of 4 attempts of 2 intervals" in verify(exported(attempted), complete=True)


def test_of_two_who_seal_one_does(attempted: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    from db import seals as table

    store, told = table.store, []

    def stores_behind_another(*arguments: Any, **keywords: Any) -> Any:
        monkeypatch.setattr(table, "store", store)
        told.append(seal())
        return store(*arguments, **keywords)

    monkeypatch.setattr(table, "store", stores_behind_another)
    assert seal() is None
    assert told == [4]
    assert len(seals(attempted)) == 1


def test_a_worker_seals_every_few_minutes_beside_its_work(
    attempted: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempted.work()
    assert seals(attempted) == []
    schedule = wiring.seal_schedule()
    later = wiring.utc_now() + timedelta(seconds=SEAL_SECONDS + 1)
    monkeypatch.setattr(schedule, "_clock", lambda: later)
    attempted.work(seconds_left=19.0)
    assert seals(attempted) == []  # too little time is left
    attempted.work()
    attempted.work()
    assert len(seals(attempted)) == 1
    lines = [json.loads(line) for line in attempted.log.getvalue().splitlines()]
    assert [line["audit_sequence"] for line in lines if line["message"] == "attempts sealed"] == [3, 3]


def test_another_tenants_interval_does_not_exist(attempted: Functions) -> None:
    seal()
    (seal_id,) = seals(attempted)
    answers_ = [attempted.other_api.get(f"/v1/audit/attempts?seal={name}") for name in (seal_id, NOBODYS_ID, "x")]
    assert {(answer.status, answer.json["detail"]) for answer in answers_} == {(404, "there is no such seal")}
    assert attempted.api.get("/v1/audit/attempts").faults == ["seal"]
    assert INTERVAL_ATTEMPTS >= 1000


def test_a_worker_seals_at_once_again_while_intervals_are_full(
    attempted: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (flow, seal_schedule):
        monkeypatch.setattr(module, "INTERVAL_ATTEMPTS", 2)
    for _ in range(4):  # each in a transaction of its own
        attempted.api.create_delivery()
        attempted.work()
    services, now = wiring.attempt(), wiring.attempt().clock()
    schedule = seal_schedule.SealSchedule(clock=lambda: now, chance=lambda: 1.0)
    schedule.run(services=services)
    assert seals(attempted) == []  # not when this process begins
    now += timedelta(seconds=SEAL_SECONDS)
    for _ in range(5):
        schedule.run(services=services)
    assert "7 of 7 attempts of 3 intervals" in verify(exported(attempted), complete=True)
    assert seal() == 0
