"""Jobs: many deliveries are replayed or canceled, a page at a time."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from db import jobs
from domain import jobs as rules
from domain.errors import DatabaseUnavailable, QueueUnavailable
from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from tests.egress.servers import Partner, Script
from tests.support.api import NOBODYS_ID, Api, Functions, Reply, attempt_batch
from tests.support.partners import answers, answers_in_turn, takes_and_closes
from wakeups.sqs import WakeupQueue, encode

type StartPartner = Callable[[Script], Partner]

SINCE = "2026-01-01T00:00:00Z"


def look(functions: Functions) -> None:
    """The worker with all messages, whether they are due or not."""
    now = datetime.now(UTC)
    attempt_batch([encode(replace(wakeup, due_at=now)) for wakeup in functions.queue.take()])


def step(functions: Functions, job: str) -> list[Wakeup]:
    """Makes one step of a job; the messages that it queued."""
    functions.queue.take()
    wakeup = Wakeup(delivery_id=DeliveryId(UUID(job)), due_at=datetime.now(UTC), group="job", of_job=True)
    attempt_batch([encode(wakeup)])
    return functions.queue.take()


def finish(functions: Functions, api: Api, job: str) -> dict[str, Any]:
    """Makes all steps of a job that has no rate to keep, and nothing else; the job as it is then."""
    for _ in range(50):
        if (shown := api.get(f"/v1/jobs/{job}").json)["state"] != "running":
            return dict(shown)
        step(functions, job)
    raise AssertionError("it does not come to an end")


def made(functions: Functions, api: Api, count: int, **fields: Any) -> list[str]:
    """So many deliveries that have been attempted, the oldest first."""
    ids = [api.create_delivery(**fields).json["delivery_id"] for _ in range(count)]
    look(functions)
    functions.queue.take()
    return ids


def replay(api: Api, state: str, **fields: Any) -> Reply:
    return api.post("/v1/replays", {"state": state, "since": SINCE, **fields})


def states(api: Api) -> list[str]:
    """Of all deliveries, the oldest first."""
    return [each["state"] for each in reversed(api.get("/v1/deliveries?limit=200").json["deliveries"])]


def acts(functions: Functions) -> list[tuple[str, dict[str, Any]]]:
    lines = [json.loads(line) for line in functions.log.getvalue().splitlines()]
    return [
        (line["what"], line["details"]) for line in lines if line["message"] == "act" and "destin" not in line["what"]
    ]


def test_a_dry_run_counts_and_changes_nothing(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(answers_in_turn(400, 500, 404)).url(), retry={"schedule": [0]})
    ids = made(functions, api, 3)
    found = replay(api, "failed", dry_run=True)
    assert found.status == 200
    shown = api.get("/v1/deliveries").json["deliveries"]
    assert found.json == {
        "count": 3,
        "may_have_happened": 1,
        "oldest": shown[-1]["created_at"],
        "newest": shown[0]["created_at"],
        "sample": ids,
    }
    assert replay(api, "failed", dry_run=True, status_class=5).json["count"] == 1
    assert replay(api, "failed", dry_run=True, outcome="unreachable").json["count"] == 0
    assert replay(api, "failed", dry_run=True, until="2026-01-02T00:00:00Z").json["sample"] == []
    assert states(api) == ["failed"] * 3
    assert functions.queue.take() == []
    assert api.get("/v1/jobs").json == {"jobs": [], "next_cursor": None}


def test_what_failed_is_replayed_under_its_key_in_pages_at_a_rate(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PAGE", 2)
    server = partner(answers_in_turn(*[400] * 5, 200))
    api.destination(server.url())
    ids = made(functions, api, 5)
    created = replay(api, "failed", rate=0.5)
    job = created.json
    assert (created.status, created.header("Location")) == (201, f"/dev/v1/jobs/{job['job_id']}")
    assert (job["state"], job["act"], job["deliveries"], job["expected"]) == ("running", "replay", "failed", 5)
    newer = api.create_delivery().json["delivery_id"]  # it is not part of it

    deliveries = [wakeup for wakeup in step(functions, job["job_id"]) if not wakeup.of_job]
    assert [str(wakeup.delivery_id) for wakeup in deliveries] == ids[:2]
    rows = [api.get(f"/v1/deliveries/{each}").json for each in ids[:2]]
    due = [datetime.fromisoformat(row["next_attempt_at"]) for row in rows]
    assert due == [wakeup.due_at for wakeup in deliveries]
    assert due[1] - due[0] == timedelta(seconds=2)
    shown = api.get(f"/v1/jobs/{job['job_id']}").json
    assert (shown["changed"], shown["state"]) == (2, "running")

    (early,) = step(functions, job["job_id"])  # a second message makes no step before its time
    assert early.due_at + timedelta(seconds=60) == due[1] + timedelta(seconds=2)
    for _ in range(2):
        shift(functions, seconds=-10)
        step(functions, job["job_id"])
    shown = api.get(f"/v1/jobs/{job['job_id']}").json
    assert (shown["state"], shown["changed"], shown["skipped"]) == ("done", 5, 0)
    assert step(functions, job["job_id"]) == []
    assert states(api) == ["pending"] * 6
    assert acts(functions)[0] == ("replay.created", {"act": "replay", "state": "failed", "expected": 5})
    assert acts(functions)[-1] == ("job.done", {"act": "replay", "state": "failed", "changed": 5, "skipped": 0})
    for each in (*ids, newer):
        retry(functions, api, each)
    assert states(api) == ["delivered"] * 6
    keys = [key_of(request) for request in server.requests]
    assert (sorted(keys[:5]), keys[5:]) == (ids, [*ids, newer])


def retry(functions: Functions, api: Api, delivery: str) -> None:
    """Sends one that waits for its time."""
    assert api.call("POST", f"/v1/deliveries/{delivery}/retry").status == 200
    look(functions)


def key_of(request: bytes) -> str:
    (line,) = [line for line in request.split(b"\r\n") if line.lower().startswith(b"idempotency-key:")]
    return line.partition(b": ")[2].decode()


def shift(functions: Functions, *, seconds: float) -> None:
    """As if a job had been made due earlier or later."""
    with psycopg.connect(functions.database.admin_url) as connection:
        connection.execute("UPDATE job SET paced_until = paced_until + make_interval(secs => %s)", [seconds])


def test_what_was_delivered_is_repeated_as_new_deliveries(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    ids = made(functions, api, 2, metadata={"order": "17"}, ordering_key="account", body=[1, 2])
    retry(functions, api, ids[1])
    job = replay(api, "delivered").json["job_id"]
    functions.queue.take()
    messages = step(functions, job)
    assert api.get(f"/v1/jobs/{job}").json["changed"] == 2
    repeats = api.get("/v1/deliveries").json["deliveries"][:2]
    assert [each["replay_of"] for each in repeats] == ids[::-1]
    assert [str(wakeup.delivery_id) for wakeup in messages] == [each["delivery_id"] for each in repeats[::-1]]
    for each in repeats:
        assert each["idempotency_key"] == each["delivery_id"]
        assert (each["metadata"], each["ordering_key"], each["attempts_made"]) == ({"order": "17"}, "account", 0)
    for each in repeats[::-1]:
        retry(functions, api, each["delivery_id"])
    assert states(api) == ["delivered"] * 4
    bodies = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
    assert bodies == [b"[1, 2]"] * 4
    assert len({key_of(request) for request in server.requests}) == 4


def test_what_is_unknown_is_resolved_as_again(functions: Functions, api: Api, partner: StartPartner) -> None:
    api.destination(partner(takes_and_closes).url())
    (delivery,) = made(functions, api, 1)
    assert replay(api, "unknown", dry_run=True).json["may_have_happened"] == 1
    finish(functions, api, replay(api, "unknown").json["job_id"])
    shown = api.get(f"/v1/deliveries/{delivery}").json
    assert (shown["state"], shown["resolution"]) == ("pending", "again")
    assert shown["resolved_by"] == f"token:{(api.authorizer or {})['token_id']}"


def test_many_are_canceled_and_those_behind_them_go_on(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PAGE", 2)
    server = partner(answers(200))
    api.destination(server.url())
    api.destination(server.url(), name="other")
    later = {"not_before": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    for _ in range(3):
        api.create_delivery(ordering_key="account", **later)
    api.create_delivery(destination="other", **later)
    assert cancel(api, destination="partner", dry_run=True).json["count"] == 3
    job = cancel(api, destination="partner").json
    assert (job["act"], job["rate"], job["expected"], job["destination"]) == ("cancel", None, 3, "partner")
    behind = api.create_delivery(ordering_key="account").json["delivery_id"]
    shown = finish(functions, api, job["job_id"])
    assert (shown["state"], shown["changed"], shown["skipped"]) == ("done", 3, 0)
    assert states(api) == ["canceled"] * 3 + ["pending"] * 2
    retry(functions, api, behind)
    assert states(api)[-1] == "delivered"
    assert len(server.requests) == 1


def cancel(api: Api, **fields: Any) -> Reply:
    return api.post("/v1/cancellations", {"since": SINCE, **fields})


def test_what_has_changed_since_the_job_was_created_is_left(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers_in_turn(400, 400, 400, 400))
    api.destination(server.url())
    first, second = made(functions, api, 2)
    job = replay(api, "failed").json["job_id"]
    functions.queue.take()
    retry(functions, api, first)  # and failed again
    shown = finish(functions, api, job)
    assert (shown["changed"], shown["skipped"]) == (1, 1)
    assert [api.get(f"/v1/deliveries/{each}").json["state"] for each in (first, second)] == ["failed", "pending"]


def test_a_job_is_paused_resumed_and_canceled(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PAGE", 1)
    api.destination(partner(answers(400)).url())
    made(functions, api, 3)
    job = replay(api, "failed", rate=100).json["job_id"]
    step(functions, job)

    def move(transition: str) -> Reply:
        return api.call("POST", f"/v1/jobs/{job}/{transition}")

    assert move("pause").json["state"] == "paused"
    assert move("pause").json["state"] == "paused"
    assert step(functions, job) == []
    assert states(api).count("pending") == 1
    assert move("resume").json["state"] == "running"
    assert [wakeup.of_job for wakeup in functions.queue.wakeups()] == [True, True]
    shift(functions, seconds=-1)
    step(functions, job)
    assert states(api).count("pending") == 2
    canceled = move("cancel").json
    assert (canceled["state"], canceled["changed"]) == ("canceled", 2)
    assert canceled["finished_at"] is not None
    assert step(functions, job) == []
    for transition in ("pause", "resume"):
        refused = move(transition)
        assert (refused.status, refused.kind) == (409, "wrong-state")
        assert (refused.json["state"], refused.json["possible"]) == ("canceled", [])
    assert move("cancel").json == canceled
    assert [what for what, _ in acts(functions)] == ["replay.created", "job.paused", "job.resumed", "job.canceled"]


@pytest.mark.parametrize("fails_at", ["listed", "send_again"])
def test_a_step_that_fails_is_made_later(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    api.destination(partner(answers(400)).url())
    made(functions, api, 2)
    job = replay(api, "failed").json["job_id"]
    with monkeypatch.context() as patched:

        def fails(*_: object, **__: object) -> None:
            raise DatabaseUnavailable("away", retry_after_seconds=5)

        patched.setattr(f"flows.jobs.table.{fails_at}", fails)
        left = step(functions, job)
    assert [wakeup.of_job for wakeup in left][-1:] == [True]
    assert states(api) == ["failed", "failed"]
    assert finish(functions, api, job)["changed"] == 2


def test_a_worker_that_stops_after_its_step_leaves_a_message_with_which_the_job_goes_on(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PAGE", 2)
    api.destination(partner(answers(400)).url())
    made(functions, api, 5)
    job = replay(api, "failed", rate=100).json["job_id"]
    functions.queue.take()
    wakeup = Wakeup(delivery_id=DeliveryId(UUID(job)), due_at=datetime.now(UTC), group="job", of_job=True)
    with monkeypatch.context() as patched:

        class Dies(BaseException):
            pass

        def dies(*_: object, **__: object) -> None:
            raise Dies

        patched.setattr("flows.jobs.wake", dies)  # after the statement, before the next message
        with pytest.raises(Dies):
            attempt_batch([encode(wakeup)])
    shift(functions, seconds=-10)
    assert [wakeup.of_job for wakeup in functions.queue.take()] == [False, False]
    for _ in range(2):
        step(functions, job)  # SQS delivers it again
        shift(functions, seconds=-10)
    shown = api.get(f"/v1/jobs/{job}").json
    assert (shown["state"], shown["changed"], shown["skipped"]) == ("done", 5, 0)


def test_a_fault_of_ours_in_a_step_does_not_keep_the_deliveries_of_the_batch(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url())
    job = replay(api, "failed").json["job_id"]
    functions.sql("UPDATE job SET rate = 1e-300, of_state = 'delivered'")
    made(functions, api, 1)
    functions.sql(
        "UPDATE job SET until_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff', created_at = now(), state = 'running', "
        "finished_at = NULL, after_id = since_id"
    )
    functions.queue.take()
    api.create_delivery()
    wakeup = Wakeup(delivery_id=DeliveryId(UUID(job)), due_at=datetime.now(UTC), group="job", of_job=True)
    attempt_batch([encode(wakeup), *(encode(each) for each in functions.queue.take())])
    assert states(api) == ["delivered", "delivered"]
    assert [each.of_job for each in functions.queue.wakeups()] == [True]
    assert api.get(f"/v1/jobs/{job}").json["state"] == "running"


def test_a_queue_that_fails_makes_no_job_and_no_step(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.destination(partner(answers(400)).url())
    made(functions, api, 1)
    job = replay(api, "failed").json["job_id"]

    def fails(*_: object, **__: object) -> None:
        raise QueueUnavailable("away", retry_after_seconds=5)

    with monkeypatch.context() as patched:
        patched.setattr(WakeupQueue, "send", fails)
        assert replay(api, "failed").status == 503
        step(functions, job)
    assert len(api.get("/v1/jobs").json["jobs"]) == 1
    assert states(api) == ["failed"]
    assert finish(functions, api, job)["changed"] == 1


def test_without_a_second_message_a_job_waits_for_its_first(
    functions: Functions, api: Api, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.destination(partner(answers(400)).url())
    made(functions, api, 1)
    monkeypatch.setattr(WakeupQueue, "send_some", lambda _, wakeups, **__: frozenset(range(len(wakeups))))
    assert replay(api, "failed").status == 201
    assert "the job waits for its first message" in functions.log.getvalue()
    assert [wakeup.of_job for wakeup in functions.queue.wakeups()] == [True]


def test_a_job_that_others_cancel_meanwhile_is_not_paused(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replay(api, "failed").json["job_id"]
    move, others = jobs.move, [lambda: api.call("POST", f"/v1/jobs/{job}/cancel")]

    def second(*arguments: Any, **keywords: Any) -> object:
        if others:
            assert others.pop()().status == 200
        return move(*arguments, **keywords)

    monkeypatch.setattr(jobs, "move", second)
    refused = api.call("POST", f"/v1/jobs/{job}/pause")
    assert (refused.kind, refused.json["state"]) == ("wrong-state", "canceled")
    assert [what for what, _ in acts(functions)] == ["replay.created", "job.canceled"]


def test_of_two_who_pause_a_job_at_once_one_is_noted(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replay(api, "failed").json["job_id"]
    move, others = jobs.move, [lambda: api.call("POST", f"/v1/jobs/{job}/pause")]

    def second(*arguments: Any, **keywords: Any) -> object:
        if others:
            assert others.pop()().json["state"] == "paused"
        return move(*arguments, **keywords)

    monkeypatch.setattr(jobs, "move", second)
    assert api.call("POST", f"/v1/jobs/{job}/pause").json["state"] == "paused"
    assert [what for what, _ in acts(functions)] == ["replay.created", "job.paused"]
    entries = api.get("/v1/audit?what=job.paused").json["entries"]
    assert [entry["on"] for entry in entries] == [job]


def test_a_job_that_others_resume_meanwhile_says_what_is_possible(
    functions: Functions, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replay(api, "failed").json["job_id"]

    def resumed(database: Any, job_id: Any, *, tenant_id: Any, **_: Any) -> object:
        return jobs.find(database, job_id, tenant_id=tenant_id), False

    monkeypatch.setattr(jobs, "move", resumed)
    refused = api.call("POST", f"/v1/jobs/{job}/pause")
    assert (refused.json["state"], refused.json["possible"]) == ("running", ["pause", "cancel"])


def test_a_repeated_call_makes_one_job(functions: Functions, api: Api) -> None:
    key = ("Idempotency-Key", "replay-1")
    first = api.post("/v1/replays", {"state": "failed", "since": SINCE}, headers=[key])
    again = api.post("/v1/replays", {"state": "failed", "since": SINCE}, headers=[key])
    assert (again.status, again.json) == (201, first.json)
    assert (first.header("Idempotency-Replayed"), again.header("Idempotency-Replayed")) == (None, "true")
    other = api.post("/v1/replays", {"state": "unknown", "since": SINCE}, headers=[key])
    assert (other.status, other.kind, other.json["job_id"]) == (422, "key-reused", first.json["job_id"])
    assert functions.other_api.post("/v1/replays", {"state": "failed", "since": SINCE}, headers=[key]).status == 201
    assert [each["job_id"] for each in api.get("/v1/jobs").json["jobs"]] == [first.json["job_id"]]


def test_a_tenant_has_ten_unfinished_jobs_at_the_most(functions: Functions, api: Api) -> None:
    jobs = [replay(api, "failed").json["job_id"] for _ in range(10)]
    refused = replay(api, "failed")
    assert (refused.status, refused.kind) == (409, "too-many-jobs")
    assert replay(functions.other_api, "failed").status == 201
    api.call("POST", f"/v1/jobs/{jobs[0]}/cancel")
    assert replay(api, "failed").status == 201


def test_jobs_are_listed_page_by_page_and_strangers_learn_nothing(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    destination = api.destination(partner(answers(400)).url())["destination_id"]
    made(functions, api, 1)
    jobs = [replay(api, "failed").json["job_id"] for _ in range(3)]
    first = api.get("/v1/jobs?limit=2").json
    second = api.get(f"/v1/jobs?limit=2&cursor={first['next_cursor']}").json
    assert [each["job_id"] for each in (*first["jobs"], *second["jobs"])] == jobs[::-1]
    assert second["next_cursor"] is None
    stranger = functions.other_api
    assert stranger.get("/v1/jobs").json["jobs"] == []
    assert stranger.get(f"/v1/jobs?cursor={first['next_cursor']}").json["jobs"] == []
    nobody = stranger.get(f"/v1/jobs/{NOBODYS_ID}")
    assert (nobody.status, nobody.body) == (404, stranger.get(f"/v1/jobs/{jobs[0]}").body)
    for transition in ("pause", "resume", "cancel"):
        assert stranger.call("POST", f"/v1/jobs/{jobs[0]}/{transition}").body == nobody.body
    assert replay(stranger, "failed", dry_run=True).json["count"] == 0
    for reference in (destination, "partner", NOBODYS_ID):
        assert replay(stranger, "failed", destination=reference).kind == "not-found"
    for call in (
        lambda caller: replay(caller, "failed"),
        lambda caller: cancel(caller, dry_run=True),
        lambda caller: caller.call("POST", f"/v1/jobs/{jobs[0]}/pause"),
    ):
        assert call(functions.api_with("read", "send")).kind == "forbidden"
    assert functions.api_with("manage").get("/v1/jobs").kind == "forbidden"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"state": "failed"},  # a replay without bounds
        {"since": SINCE},
        {"state": "failed", "since": None},
        {"state": "failed", "since": "2026-01-01T00:00:00"},
        {"state": "failed", "since": "2999-01-01T00:00:00Z"},
        {"state": "failed", "since": SINCE, "until": SINCE},
        {"state": "pending", "since": SINCE},
        {"state": "canceled", "since": SINCE},
        {"state": "failed\n", "since": SINCE},
        {"state": "failed", "since": SINCE, "rate": 0},
        {"state": "failed", "since": SINCE, "rate": 0.0009},
        {"state": "failed", "since": SINCE, "rate": 1e-300},  # its next step would lie beyond the calendar
        {"state": "failed", "since": SINCE, "rate": 100.1},
        {"state": "failed", "since": SINCE, "rate": "fast"},
        {"state": "failed", "since": SINCE, "outcome": "lost"},
        {"state": "failed", "since": SINCE, "status_class": 0},
        {"state": "failed", "since": SINCE, "dry_run": "yes"},
        {"state": "failed", "since": SINCE, "destinations": ["partner"]},
    ],
)
def test_a_replay_without_bounds_or_with_wrong_ones_is_refused(
    functions: Functions, api: Api, body: dict[str, Any]
) -> None:
    assert api.post("/v1/replays", body).kind == "invalid-request"
    if body != {"since": SINCE}:
        assert api.post("/v1/cancellations", body).kind == "invalid-request"
    assert api.get("/v1/jobs").json["jobs"] == []


def test_what_a_new_delivery_could_not_be_sent_to_is_skipped(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    api.destination(partner(answers(200)).url())
    made(functions, api, 1)
    api.call("POST", "/v1/destinations/partner/disable")
    shown = finish(functions, api, replay(api, "delivered").json["job_id"])
    assert (shown["changed"], shown["skipped"]) == (0, 1)
