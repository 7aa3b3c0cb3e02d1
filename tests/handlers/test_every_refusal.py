"""Every refusal that a caller or an operator may see: alone, with all else valid, and beside the nearest that is taken.

tests/unit/test_refusals.py has those of src/handlers/schemas/; here are those of all other modules of src. The last
test fails for one that has neither a case here nor a test that NEEDS_MORE names.
"""

import ast
import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeGuard

import pytest

from domain import errors
from domain.errors import Fault, SallyportError
from domain.events import EVENT_KEY_PREFIX
from domain.scopes import ALL_SCOPES
from flows.ask import _need_question as need_question
from flows.seal_attempts import seal_attempts
from handlers import admin, authorize, schemas, wiring
from handlers import api as function
from handlers.request import BODY_LIMIT_BYTES
from handlers.routes.via import TARGET_LIMIT
from tests.egress.servers import Partner, Script
from tests.support.api import (
    NOBODYS_ID,
    Api,
    Context,
    Functions,
    Reply,
    attempt_batch,
    authorizer_context,
    authorizer_event,
    issue,
    reply,
)
from tests.support.partners import answers
from wakeups.sqs import encode

ROOT = Path(errors.__file__).parents[1]
SINCE = "2026-01-01T00:00:00Z"
WEBHOOKS = {"type": "standard_webhooks"}
A_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
QUESTION = {"path": "/orders/{idempotency_key}", "received": [{"status": 200}]}
# What is not about the call: something that is needed does not answer, or is lost.
OUTAGES = {errors.Unavailable, errors.StatementRefused, errors.Unsealable}
# Refusals for which two things must happen at once, or something must be lost, and the tests that make it happen.
NEEDS_MORE = {
    "flows/approvals.py propose TooManyProposals": "test_approvals.py::test_without_the_setting_nothing_waits",
    "flows/ask.py _refusal DestinationPaused": "test_ask.py::test_nothing_is_asked_of_a_destination_that_takes_nothing",
    "flows/ask.py _refusal Disabled": "test_ask.py::test_nothing_is_asked_of_a_destination_that_takes_nothing",
    "flows/ask.py _refusal NotNow": "test_ask.py::test_its_limits_hold",
    "flows/ask.py _refusal BeingAsked": "test_ask.py::test_while_it_is_being_asked_about_nobody_else_asks",
    "flows/control.py _refusal PayloadGone": "test_expunge.py::test_what_is_expunged_between_the_look_and_the_decision",
    "flows/destinations.py _signed": "test_signing.py::test_keys_that_cannot_be_opened_can_all_be_given_again",
    "flows/rotate.py _stored": "test_signing.py::test_keys_that_cannot_be_opened_cannot_be_rotated",
    "flows/rotate_seal_key.py retire": "test_rotate_seal_key.py::test_what_is_not_over_is_not_retired",
    "handlers/migrate.py handler": "test_migrate.py::test_an_event_of_unknown_origin_migrates_nothing",
    "handlers/migrate.py _done": "test_migrate.py::test_an_event_that_is_not_understood_is_a_failure_with_a_reason",
    "handlers/migrate.py _latest": "test_migrate.py::test_an_event_that_is_not_understood_is_a_failure_with_a_reason",
    "handlers/routes/via.py _stored": "test_via.py::test_an_answer_that_was_cut_when_it_was_stored_is_not_played_back",
}


@dataclass(kw_only=True)
class World:
    """A partner that answers, and destinations that lead to it, each with a name of its own."""

    functions: Functions
    url: str
    names: Iterator[str] = field(default_factory=lambda: (f"bank-{number}" for number in count()))

    @property
    def api(self) -> Api:
        return self.functions.api

    def destination(self, **fields: Any) -> str:
        """The name of a new one."""
        return str(self.api.destination(self.url, **{"name": next(self.names), **fields})["name"])

    def delivery(self, destination: str | None = None, **fields: Any) -> str:
        made = self.api.create_delivery(destination=destination or self.destination(), **fields)
        return str(made.json["delivery_id"])

    def ended(self, state: str = "failed", **fields: Any) -> str:
        """A delivery in that state, which it was brought into by hand."""
        delivery = self.delivery(**fields)
        self.functions.sql(
            "UPDATE delivery SET state = %s, finished_at = now() WHERE delivery_id = %s", state, delivery
        )
        return delivery

    def work(self) -> None:
        now = datetime.now(UTC)
        attempt_batch([encode(replace(wakeup, due_at=now)) for wakeup in self.functions.queue.take()])

    def second(self) -> Api:
        """Another token of the same tenant."""
        return replace(self.api, authorizer=authorizer_context(issue("acme")))


def only(refused: Reply, problem: str | list[str], *taken: Reply) -> None:
    """That the first is refused, for this alone, and the others are not."""
    assert (refused.faults if isinstance(problem, list) else refused.kind) == problem, refused.body
    assert [each.status for each in taken if each.status >= 300] == [], [each.body for each in taken]


def by_operator(problem: type[SallyportError], fields: list[str], wrong: dict[str, Any], right: dict[str, Any]) -> None:
    with pytest.raises(problem) as refused:
        admin.handler(wrong, Context())
    assert [fault.field for fault in getattr(refused.value, "faults", ())] == fields
    admin.handler(right, Context())


CASES: list[Callable[[World], None]] = []


def case(made: Callable[[World], None]) -> Callable[[World], None]:
    CASES.append(made)
    return made


@case
def what_no_operation_takes(w: World) -> None:
    get, delivery = w.api.get, w.delivery()
    only(get("/v1/jobs?x=1"), ["query"], get("/v1/jobs"))
    cancel = f"/v1/deliveries/{delivery}/cancel"
    only(w.api.call("POST", cancel, body=b"{}"), "malformed-request", w.api.call("POST", cancel))
    only(
        w.functions.api_with("send", "manage").get("/v1/jobs"),
        "forbidden",
        w.functions.api_with("read").get("/v1/jobs"),
    )
    only(get("/v1/jobs?limit=1&limit=1"), ["limit"], get("/v1/jobs?limit=1"))
    only(get("/v1/jobs?limit=0"), ["limit"], get("/v1/jobs?limit=1"))
    only(get("/v1/jobs?limit=201"), ["limit"], get("/v1/jobs?limit=200"))
    only(get("/v1/jobs?cursor=x"), ["cursor"], get("/v1/jobs?cursor=AaIDx3f7eI-gs1TUe4yVYQ"))
    only(get(f"/v1/deliveries/{delivery}?cursor=x"), ["cursor"], get(f"/v1/deliveries/{delivery}?cursor=1"))


@case
def what_cannot_be_read(w: World) -> None:
    name = w.destination()

    def sent(rest: bytes) -> Reply:
        return w.api.call("POST", "/v1/deliveries", body=b'{"destination": "%s"%s' % (name.encode(), rest))

    for wrong, right in (
        (b', "metadata": {"a": "\xe9"}}', b', "metadata": {"a": "\xc3\xa9"}}'),
        (b"", b"}"),
        (b', "metadata": {"a": ' + b"9" * 5000 + b"}}", b', "metadata": {"a": ' + b"9" * 300 + b"}}"),
        (b', "body": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b', "body": ' + b"[" * 100 + b"]" * 100 + b"}"),
        (b', "path": "/a", "path": "/b"}', b', "path": "/a"}'),
        (b', "metadata": {"a": 1e999}}', b', "metadata": {"a": 1e99}}'),
        (b', "metadata": {"a": NaN}}', b', "metadata": {"a": null}}'),
    ):
        only(sent(wrong), "malformed-request", sent(right))
    only(sent(b', "metadata": {"a": "\\ud800"}}'), ["/metadata"], sent(b', "metadata": {"a": "\\ud83d\\ude00"}}'))
    only(sent(b', "paths": "/a"}'), [""], sent(b', "path": "/a"}'))
    only(sent(b', "path": 1}'), ["/path"], sent(b', "path": "/1"}'))
    whole = w.api.call("POST", "/v1/deliveries", body=b'{"destination": "%s"}' % name.encode())
    for body in (b" ", b"[]"):
        only(w.api.call("POST", "/v1/deliveries", body=body), "malformed-request", whole)
    only(w.api.post("/v1/deliveries", {"path": "/a"}), ["/destination"], whole)


@case
def what_is_no_event_of_text(w: World) -> None:
    def called(method: str, path: str, **changed: Any) -> Reply:
        return reply(function.handler({**w.api.event(method, path), **changed}, Context()))

    headers = [{"X-A": ["\ud800"]}, {"X-A": ["\u00e9"]}]
    only(called("GET", "/v1/jobs", multiValueHeaders=headers[0]), "malformed-request",
         called("GET", "/v1/jobs", multiValueHeaders=headers[1]))  # fmt: skip
    body = json.dumps({"destination": w.destination()})
    wrong = called("POST", "/v1/deliveries", body="\u00e9" + body, isBase64Encoded=True)
    right = called("POST", "/v1/deliveries", body=b64encode(body.encode()).decode(), isBase64Encoded=True)
    only(wrong, "malformed-request", right)
    frame = json.dumps({"destination": w.destination(), "body": ""})
    longest = frame.replace('""', f'"{"x" * (BODY_LIMIT_BYTES - len(frame))}"')
    only(w.api.call("POST", "/v1/deliveries", body=longest.encode() + b" "), "too-large",
         w.api.call("POST", "/v1/deliveries", body=longest.encode()))  # fmt: skip


@case
def a_token_for_some_destinations(w: World) -> None:
    ours, other = w.destination(), w.destination()
    token = admin.handler({"action": "issue_token", "tenant": "acme", "destinations": [ours]}, Context())["token"]
    api = replace(w.api, authorizer=authorizer_context(str(token)))
    only(api.get("/v1/deliveries"), "forbidden", api.get(f"/v1/deliveries?destination={ours}"))
    only(api.get(f"/v1/destinations/{other}"), "not-found", api.get(f"/v1/destinations/{ours}"))
    deliveries = [w.delivery(name) for name in (other, ours)]
    theirs, shown = (api.get(f"/v1/deliveries/{delivery}") for delivery in deliveries)
    only(theirs, "not-found", shown)


@case
def a_token(w: World) -> None:
    def called(authorization: str) -> dict[str, Any]:
        return authorize.handler(authorizer_event(authorization), Context())

    for wrong in (
        f"Basic {w.functions.token}",
        f"Bearer {w.functions.token[:-1]}-",
        f"Bearer {issue('initech')[::-1]}",
    ):
        with pytest.raises(authorize.CallRefused):
            called(wrong)
    known = w.functions.token
    with pytest.raises(authorize.CallRefused):
        called(f"Bearer {known[:-1]}{'a' if known[-1] != 'a' else 'b'}")
    assert called(f"Bearer {known}")["principalId"]


@case
def keys_of_callers(w: World) -> None:
    name = w.destination()

    def keyed(key: str, **fields: Any) -> Reply:
        return w.api.create_delivery(("Idempotency-Key", key), destination=name, **fields)

    only(keyed("a b"), "malformed-request", keyed("a-b"))
    only(keyed(f"{EVENT_KEY_PREFIX}a"), "malformed-request", keyed(f"a{EVENT_KEY_PREFIX}"))
    only(keyed("a-b", body="other"), "key-reused", keyed("a-b"))
    counted = {"state": "failed", "since": SINCE, "dry_run": True}
    counts = [w.api.post("/v1/replays", counted, headers=[("Idempotency-Key", key)]) for key in ("a b", "a-b")]
    only(counts[0], "malformed-request", counts[1])
    target, headers = f"/v1/via/{name}/a", [("Idempotency-Key", "c")]
    begun = w.api.call("POST", target, headers=[*headers, ("Prefer", "respond-async")])
    refused = w.api.call("POST", target, headers=headers)
    w.work()
    only(refused, "in-flight", begun, w.api.call("POST", target, headers=headers))
    replay = {"state": "failed", "since": SINCE}
    jobs = [w.api.post("/v1/replays", {**replay, "rate": rate}, headers=headers) for rate in (1, 2, 1)]
    only(jobs[1], "key-reused", jobs[0], jobs[2])


@case
def what_is_not_there(w: World) -> None:
    get, name, job = w.api.get, w.destination(), w.api.post("/v1/replays", {"state": "failed", "since": SINCE}).json
    for nothing in ("x", NOBODYS_ID):
        only(get(f"/v1/jobs/{nothing}"), "not-found", get(f"/v1/jobs/{job['job_id']}"))
    only(get(f"/v1/deliveries/{NOBODYS_ID}"), "not-found", get(f"/v1/deliveries/{w.delivery(name)}"))
    cancel = "/v1/deliveries/{}/cancel".format
    expunge = "/v1/deliveries/{}/expunge".format
    only(w.api.call("POST", cancel(NOBODYS_ID)), "not-found", w.api.call("POST", cancel(w.delivery(name))))
    only(w.api.call("POST", expunge(NOBODYS_ID)), "not-found", w.api.call("POST", expunge(w.ended())))
    for nothing in ("a%20b", "nobody"):
        only(get(f"/v1/destinations/{nothing}"), "not-found", get(f"/v1/destinations/{name}"))
        only(get(f"/v1/stats?destination={nothing}"), "not-found", get(f"/v1/stats?destination={name}"))
    for nothing in ("a b", "nobody"):
        only(w.api.create_delivery(destination=nothing), "not-found", w.api.create_delivery(destination=name))


@case
def filters_of_deliveries(w: World) -> None:
    get, members = w.api.get, [f"metadata[{number}]=1" for number in range(11)]
    for wrong, field_at_fault, right in (
        ("state=x", "state", "state=failed"),
        ("ordering_key=", "ordering_key", "ordering_key=a"),
        ("&".join(members), "metadata", "&".join(members[1:])),
        ("metadata[a]=1&metadata[a]=1", "metadata", "metadata[a]=1&metadata[b]=1"),
        ("status=0xx", "status", "status=1xx"),
        ("may_have_happened=1", "may_have_happened", "may_have_happened=true"),
        ("since=2026-01-01", "since", f"since={SINCE}"),
        ("since=2026-01-01T00:00:00", "since", f"since={SINCE}"),
    ):
        only(get(f"/v1/deliveries?{wrong}"), [field_at_fault], get(f"/v1/deliveries?{right}"))
    delivery = w.delivery()
    only(get(f"/v1/deliveries/{delivery}?wait=26"), ["wait"], get(f"/v1/deliveries/{delivery}?wait=0"))
    name = w.destination()
    waiting = [
        w.api.create_delivery(*prefer, destination=name, not_before=in_an_hour())
        for prefer in ([("Prefer", "wait=1")], [])
    ]
    only(waiting[0], ["/not_before"], waiting[1])


def in_an_hour() -> str:
    now = datetime.now(UTC)
    return datetime.fromtimestamp(now.timestamp() + 3600, UTC).isoformat()


@case
def filters_of_the_audit_log(w: World) -> None:
    w.api.call("POST", f"/v1/via/{w.destination()}/a")
    seal_attempts(services=wiring.attempt())
    get = w.api.get
    seal = get("/v1/audit?what=attempts.sealed").json["entries"][0]["on"]
    for wrong, field_at_fault, right in (
        ("/v1/audit?cursor=x", "cursor", "/v1/audit?cursor=1"),
        ("/v1/audit?on=", "on", "/v1/audit?on=a"),
        ("/v1/audit?since=2026-01-01", "since", f"/v1/audit?since={SINCE}"),
        ("/v1/audit?since=2026-01-01T00:00:00", "since", f"/v1/audit?since={SINCE}"),
        ("/v1/audit/export?after=x", "after", "/v1/audit/export?after=0"),
        ("/v1/audit/attempts", "seal", f"/v1/audit/attempts?seal={seal}"),
    ):
        only(get(wrong), [field_at_fault], get(right))
    only(get(f"/v1/audit/attempts?seal={NOBODYS_ID}"), "not-found", get(f"/v1/audit/attempts?seal={seal}"))


@case
def calls_that_are_passed_through(w: World) -> None:
    def called(name: str, rest: str, method: str = "POST") -> Reply:
        return w.api.call(method, f"/v1/via/{name}/{rest}")

    name = w.destination()
    only(called(name, "a/..;/b"), ["path"], called(name, "a/b"))
    room = TARGET_LIMIT - len("/?a=")
    only(called(name, "?a=" + "x" * (room + 2)), ["path"], called(name, "?a=" + "x" * 100))
    allowing = w.destination(allow={"methods": ["POST"], "paths": ["/a"]})
    only(called(allowing, "a", "GET"), "not-allowed", called(allowing, "a"))
    only(called(allowing, "b"), "not-allowed", called(allowing, "a"))
    limited = w.destination(limits={"rate": 0.001, "burst": 1})
    taken = called(limited, "a")
    only(called(limited, "a"), "would-wait", taken)
    held = w.destination()
    for transition, kind, back in (
        ("pause", "destination-paused", "resume"),
        ("disable", "destination-disabled", "enable"),
    ):
        w.api.call("POST", f"/v1/destinations/{held}/{transition}")
        refused = called(held, "a")
        w.api.call("POST", f"/v1/destinations/{held}/{back}")
        only(refused, kind, called(held, "a"))


@case
def destinations(w: World) -> None:
    def created(**fields: Any) -> Reply:
        return w.api.post("/v1/destinations", {"name": next(w.names), "base_url": w.url, **fields})

    def patched(reference: str, /, *headers: tuple[str, str], **fields: Any) -> Reply:
        return w.api.call("PATCH", f"/v1/destinations/{reference}", json=fields, headers=headers)

    name, other = w.destination(), w.destination()
    only(created(base_url="ftp://bank.example"), ["/base_url"], created(base_url="https://bank.example"))
    windows = [
        [{"days": ["mon"], "from": "08:00", "to": "16:00", "time_zone": zone}]
        for zone in ("Mars/North", "Europe/Berlin")
    ]
    only(created(windows=windows[0]), ["/windows/0/time_zone"], created(windows=windows[1]))
    only(created(events_to="nobody"), ["/events_to"], created(events_to=other))
    only(patched(name, events_to=name), ["/events_to"], patched(name, events_to=other))
    only(created(name=name), "name-taken", created())
    only(patched(name, name=other), "name-taken", patched(name, name=name))
    only(
        patched(name, ("If-Match", '"9"'), idempotent=True),
        "precondition-failed",
        patched(name, ("If-Match", "*"), idempotent=True),
    )
    path = f"/v1/destinations/{name}"
    again = w.api.call("POST", f"{path}/verify")
    only(w.api.call("POST", f"{path}/verify"), "too-soon", again)
    w.api.call("POST", f"{path}/disable")
    refused = w.api.call("POST", f"{path}/pause")
    w.api.call("POST", f"{path}/enable")
    only(refused, "wrong-state", w.api.call("POST", f"{path}/pause"))
    w.delivery(other)
    other_path = f"/v1/destinations/{other}"
    only(w.api.call("DELETE", f"{other_path}?pending=x"), ["pending"])
    only(w.api.call("DELETE", f"{other_path}?pending=cancel", headers=[("If-Match", '"9"')]), "precondition-failed")
    only(
        w.api.call("DELETE", other_path), "deliveries-unfinished", w.api.call("DELETE", f"{other_path}?pending=cancel")
    )


@case
def rotations(w: World) -> None:
    def rotated(name: str, *headers: tuple[str, str], **fields: Any) -> Reply:
        return w.api.post(f"/v1/destinations/{name}/rotate-secret", fields, headers=headers)

    name = w.destination(signing=[{**WEBHOOKS, "secret": A_SECRET}])
    other = A_SECRET.replace("Mf", "Ng")
    only(rotated(w.destination()), ["/scheme"], rotated(name, overlap_seconds=0))
    only(rotated(name, scheme="x"), ["/scheme"], rotated(name, scheme="standard_webhooks", overlap_seconds=0))
    only(rotated(name, keyid="\u00e9"), ["/keyid"], rotated(name, keyid="e", overlap_seconds=0))
    only(rotated(name, secret="whsec_AA=="), ["/secret"], rotated(name, secret=other, overlap_seconds=0))
    only(rotated(name, secret=other), ["/secret"], rotated(name, secret=A_SECRET, overlap_seconds=0))
    stale = rotated(name, ("If-Match", '"99"'), overlap_seconds=0)
    only(stale, "precondition-failed", rotated(name, ("If-Match", "*"), overlap_seconds=0))
    for _ in range(4):
        rotated(name, overlap_seconds=600)
    only(rotated(name, overlap_seconds=600), ["/overlap_seconds"], rotated(name, overlap_seconds=0))


@case
def decisions(w: World) -> None:
    def act(delivery: str, name: str, **fields: Any) -> Reply:
        return w.api.call("POST", f"/v1/deliveries/{delivery}/{name}", json=fields or None)

    name = w.destination()
    only(
        act(w.delivery(name), "resolve", **{"as": "failed"}),
        "wrong-state",
        act(w.ended("unknown"), "resolve", **{"as": "failed"}),
    )
    only(act(w.delivery(name), "expunge"), "wrong-state", act(w.ended(), "expunge"))
    gone, whole = w.ended(), w.ended()
    act(gone, "expunge")
    only(act(gone, "retry"), "payload-gone", act(whole, "retry"))
    orphan = w.ended(destination=(lost := w.destination()))
    w.api.call("DELETE", f"/v1/destinations/{lost}")
    only(act(orphan, "retry"), "destination-deleted", act(w.ended(), "retry"))
    left = w.ended("unknown", destination=(asked := w.destination(reconcile=QUESTION)))
    looks = [lambda: w.api.call("DELETE", f"/v1/destinations/{asked}")]

    def look(*arguments: Any, **keywords: Any) -> None:  # it is deleted between the look and the question
        need_question(*arguments, **keywords)
        if looks:
            assert looks.pop()().status == 200

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.ask._need_question", look)
        only(act(left, "ask"), "destination-deleted")
    only(act(left, "ask"), "destination-deleted")
    asking = w.destination(reconcile=QUESTION)
    only(act(w.ended("unknown"), "ask"), "no-question", act(w.ended("unknown", destination=asking), "ask"))
    only(act(w.ended(destination=asking), "ask"), "wrong-state", act(w.ended("unknown", destination=asking), "ask"))


@case
def jobs(w: World) -> None:
    def job() -> Reply:
        return w.api.post("/v1/cancellations", {"since": SINCE})

    begun = job().json["job_id"]
    last = next(made for made in iter(job, None) if made.status != 201)
    canceled = w.api.call("POST", f"/v1/jobs/{begun}/cancel")
    only(last, "too-many-jobs", canceled, job())
    refused = w.api.call("POST", f"/v1/jobs/{begun}/pause")
    newest = w.api.get("/v1/jobs").json["jobs"][0]["job_id"]
    only(refused, "wrong-state", w.api.call("POST", f"/v1/jobs/{newest}/pause"))


@case
def approvals(w: World) -> None:
    by_operator(
        errors.NotFound, [],
        {"action": "set_approvals", "tenant": "nobody", "above": 1},
        {"action": "set_approvals", "tenant": "acme", "above": 1},
    )  # fmt: skip
    proposals = [w.api.post(f"/v1/deliveries/{w.ended('unknown')}/resolve", {"as": "failed"}).json for _ in range(2)]
    first, second = (proposal["proposal_id"] for proposal in proposals)
    other = w.second()
    only(w.api.get(f"/v1/proposals/{NOBODYS_ID}"), "not-found", w.api.get(f"/v1/proposals/{first}"))
    only(
        w.api.call("POST", f"/v1/proposals/{first}/approve"),
        "same-token",
        other.call("POST", f"/v1/proposals/{first}/approve"),
    )
    refused = other.call("POST", f"/v1/proposals/{first}/reject")
    only(refused, "wrong-state", other.call("POST", f"/v1/proposals/{second}/reject"))
    admin.handler({"action": "set_approvals", "tenant": "acme", "above": None}, Context())


@case
def files_of_the_console(w: World) -> None:
    only(w.api.get("/console/1/none.js"), "not-found", w.api.get("/console/1/app.js"))


@case
def operators(w: World) -> None:
    by_operator(
        errors.NotFound,
        [],
        {"action": "verify_audit", "tenant": "nobody"},
        {"action": "verify_audit", "tenant": "acme"},
    )
    by_operator(
        errors.InvalidRequest,
        ["/tenant"],
        {"action": "create_tenant", "tenant": "A"},
        {"action": "create_tenant", "tenant": "a"},
    )
    token = {"action": "issue_token", "tenant": "acme"}
    name = w.destination()
    for wrong, at, right in (
        ({"tenant": "Acme"}, "/tenant", {}),
        ({"scopes": ["admin"]}, "/scopes", {"scopes": list(ALL_SCOPES)}),
        ({"expires_at": "2026-01-01T00:00:00Z"}, "/expires_at", {"expires_at": "2100-01-01T00:00:00Z"}),
        ({"destinations": []}, "/destinations", {"destinations": [name]}),
        ({"destinations": [name, "nobody"]}, "/destinations/1", {"destinations": [name]}),
    ):
        by_operator(errors.InvalidRequest, [at], {**token, **wrong}, {**token, **right})
    issued = admin.handler(token, Context())["token_id"]
    revoke = {"action": "revoke_token"}
    by_operator(errors.NotFound, [], {**revoke, "token_id": NOBODYS_ID}, {**revoke, "token_id": issued})


@pytest.fixture
def world(functions: Functions, partner: Callable[[Script], Partner]) -> World:
    return World(functions=functions, url=partner(answers(200)).url())


type Site = tuple[str, int, str]


def refusals() -> set[str]:
    """The names of the errors that refuse, and of the fault of a field."""

    def below(kind: type[SallyportError]) -> Iterator[type[SallyportError]]:
        for other in kind.__subclasses__():
            if other not in OUTAGES or other is errors.DestinationPaused:
                yield from (other, *below(other))

    return {kind.__name__ for kind in below(SallyportError)} | {"DestinationPaused", "Fault"}


def sites() -> Iterator[Site]:
    """Where one is made: file and line, and what it is."""
    names = refusals()
    for path in sorted(ROOT.rglob("*.py")):
        if path == Path(errors.__file__) or Path(schemas.__file__).parent in path.parents:
            continue
        inside = f"{path.relative_to(ROOT)} "
        for made_in in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(made_in, ast.FunctionDef):
                for node in filter(is_made, ast.walk(made_in)):
                    kind = name_of(node)
                    if kind in names:
                        yield str(path), node.lineno, f"{inside}{made_in.name} {kind}"


def is_made(node: ast.AST) -> TypeGuard[ast.Call | ast.Raise]:
    return isinstance(node, ast.Call | ast.Raise)


def name_of(node: ast.Call | ast.Raise) -> str | None:
    """What is made here, as a call or by `raise` alone."""
    made = node.func if isinstance(node, ast.Call) else node.exc
    if isinstance(made, ast.Attribute) and isinstance(made.value, ast.Name) and made.value.id == "errors":
        return made.attr
    return made.id if isinstance(made, ast.Name) else None


def test_every_refusal_has_a_case(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made_at: set[tuple[str, int]] = set()
    Fault(field="", detail="")  # the first of a class changes how it is made
    make_fault = Fault.__init__

    def note() -> None:
        frame = sys._getframe(2)
        while frame.f_code.co_filename == errors.__file__ and frame.f_back is not None:
            frame = frame.f_back
        made_at.add((frame.f_code.co_filename, frame.f_lineno))

    def noted_error(self: SallyportError, *arguments: object) -> None:
        note()
        Exception.__init__(self, *arguments)

    def noted_fault(self: Fault, **members: str) -> None:
        note()
        make_fault(self, **members)

    monkeypatch.setattr(SallyportError, "__init__", noted_error)
    monkeypatch.setattr(Fault, "__init__", noted_fault)
    for made in CASES:
        made(world)
    found = set(sites())
    assert len(found) > 100
    missing = {label for path, line, label in found if (path, line) not in made_at}
    elsewhere = {label for label in missing for known in NEEDS_MORE if label.startswith(known)}
    assert missing - elsewhere == set()
    unneeded = {known for known in NEEDS_MORE if not any(label.startswith(known) for label in missing)}
    assert unneeded == set()


@pytest.mark.parametrize("named", sorted(set(NEEDS_MORE.values())))
def test_what_needs_more_has_its_test(named: str) -> None:
    file, _, name = named.partition("::")
    assert f"def {name}" in (Path(__file__).parent / file).read_text(encoding="utf-8")
