"""Many deliveries at once: dry runs, replays, cancellations and their jobs."""

from typing import Any

from local.stack import Stack
from tests.e2e.conftest import Consumer, eventually
from tests.e2e.features.helpers import after_an_hour, created, ended, issued, kind_of

ACTS = ("pause", "resume", "cancel")
SLOWEST = 0.001  # a second: such a job looks at one delivery at first, and at the next one a quarter of an hour later
MOST_UNFINISHED = 10


def move(user: Consumer, job: dict[str, Any], act: str) -> str:
    """The state that the job is in afterwards, or the kind of the problem."""
    answer = user.call("POST", f"/v1/jobs/{job['job_id']}/{act}")
    return str(answer.json["state"]) if answer.status == 200 else kind_of(answer)


def done(user: Consumer, job: dict[str, Any]) -> dict[str, Any]:
    """The job when it is."""
    path = f"/v1/jobs/{job['job_id']}"
    return eventually(lambda: shown if (shown := user.call("GET", path).json)["state"] == "done" else None)


def test_a_replay_is_counted_created_once_paused_resumed_and_canceled(stack: Stack, user: Consumer, key: str) -> None:
    name = created(user, stack, "features-replay")
    failed = [ended(user, name, "/status/422") for _ in range(2)]
    body = {
        "state": "failed",
        "since": after_an_hour(-1),
        "until": after_an_hour(),
        "destination": name,
        "outcome": "answered",
        "status_class": 4,
        "rate": SLOWEST,
    }
    counted = user.call("POST", "/v1/replays", body={**body, "dry_run": True})
    assert (counted.status, counted.json["count"], counted.json["sample"]) == (200, 2, failed), counted.body
    first, again = (user.call("POST", "/v1/replays", body=body, headers={"Idempotency-Key": key}) for _ in range(2))
    assert (first.status, again.headers["idempotency-replayed"]) == (201, "true"), first.body
    job = first.json
    assert (job["job_id"], job["act"], job["expected"]) == (again.json["job_id"], "replay", 2)
    assert [move(user, job, act) for act in ACTS] == ["paused", "running", "canceled"]
    assert [move(user, job, act) for act in ACTS[:2]] == ["wrong-state"] * 2


def test_what_is_pending_is_canceled_by_a_job(stack: Stack, user: Consumer, key: str) -> None:
    name = created(user, stack, "features-cancellation")
    waits: dict[str, Any] = {"destination": name, "path": "/orders", "not_before": after_an_hour()}
    pending = [user.deliver(**waits).json["delivery_id"] for _ in range(2)]
    body = {"since": after_an_hour(-1), "until": after_an_hour(), "destination": name}
    counted = user.call("POST", "/v1/cancellations", body={**body, "dry_run": True})
    assert (counted.status, counted.json["count"]) == (200, 2), counted.body
    job = user.call("POST", "/v1/cancellations", body=body, headers={"Idempotency-Key": key}).json
    assert (job["act"], job["rate"]) == ("cancel", None)
    assert (done(user, job)["changed"], [user.delivery(each)["state"] for each in pending]) == (2, ["canceled"] * 2)
    assert [move(user, job, act) for act in ACTS] == ["wrong-state"] * 3
    newest = user.call("GET", "/v1/jobs?limit=1").json
    assert newest["jobs"][0]["job_id"] == job["job_id"]
    assert user.call("GET", f"/v1/jobs?limit=1&cursor={newest['next_cursor']}").json["jobs"] != newest["jobs"]


def test_a_tenant_has_ten_unfinished_jobs_and_no_more(stack: Stack, user: Consumer) -> None:
    """Of its own, so that the others can have theirs. Each job leaves deliveries to those after it."""
    busy = issued(stack, user, "features-busy")
    name = created(busy, stack, "busy")
    for _ in range(MOST_UNFINISHED + 2):
        ended(busy, name, "/status/422")
    body = {"state": "failed", "since": after_an_hour(-1), "rate": SLOWEST}
    jobs = []
    for _ in range(MOST_UNFINISHED):
        made = busy.call("POST", "/v1/replays", body=body)
        assert made.status == 201, made.body
        assert move(busy, made.json, "pause") == "paused"
        jobs.append(made.json)
    for refused in (
        busy.call("POST", "/v1/replays", body=body),
        busy.call("POST", "/v1/cancellations", body={"since": body["since"]}),
    ):
        assert (refused.status, kind_of(refused)) == (409, "too-many-jobs")
    assert {move(busy, job, "cancel") for job in jobs} == {"canceled"}
