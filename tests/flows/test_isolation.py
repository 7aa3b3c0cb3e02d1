"""One delivery of three meets a fault that nobody foresaw, at every step: the two others know nothing of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from domain.auth import BearerAuth, auth_type
from domain.deliveries import Claim
from domain.ids import DeliveryId
from domain.outcomes import OutcomeKind
from egress import client as egress_client
from egress.credentials import seal_auth
from egress.transfer import Run
from flows import attempt, judge, prepare, settle
from flows.accept import accept
from flows.deliver import deliver
from runtime.observability import logger
from tests.egress.servers import Partner, Script
from tests.support.gateway import Gateway
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]
type Break = Callable[[pytest.MonkeyPatch], None]

ODD = "/odd"
SECRET = "the-partners-secret"


def breaks(place: object, name: str, *, at: Callable[..., bool]) -> Break:
    """Has `name` of `place` raise where `at` says of its arguments that they are those of the odd delivery."""
    original: Callable[..., Any] = getattr(place, name)

    def broken(*arguments: Any, **options: Any) -> Any:
        if at(*arguments, **options):
            raise OverflowError(f"a message that quotes {SECRET}")
        return original(*arguments, **options)

    return lambda monkeypatch: monkeypatch.setattr(place, name, broken)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that breaks, and what then becomes of the odd delivery: outcome and state, and whether it was sent."""

    name: str
    breaks: Break
    outcome: OutcomeKind
    state: str
    sent: bool = True


def of_odd_claim(claim: Claim, *_: Any, **__: Any) -> bool:
    return claim.path == ODD


STEPS = [
    Step(
        name="open credentials",
        breaks=breaks(prepare, "_with_credentials", at=of_odd_claim),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
    ),
    Step(
        name="build headers",
        breaks=breaks(prepare, "_headers", at=of_odd_claim),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
    ),
    Step(
        name="build the url",
        breaks=breaks(prepare, "partner_url", at=lambda _url, **parts: parts["path"] == ODD),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
    ),
    Step(
        name="check the request",
        breaks=breaks(egress_client, "fault_in_request", at=lambda request: request.url.endswith(ODD)),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
    ),
    Step(
        name="set the transfer up",
        breaks=breaks(Run, "_set", at=lambda run, **_: run.transfer.request.url.endswith(ODD)),
        outcome=OutcomeKind.UNREACHABLE,
        state="pending",
        sent=False,
    ),
    Step(
        name="read how the transfer ended",
        breaks=breaks(Run, "_outcome", at=lambda run, _ended: run.transfer.request.url.endswith(ODD)),
        outcome=OutcomeKind.UNKNOWN,
        state="unknown",
    ),
    Step(
        name="judge by the headers",
        breaks=breaks(judge, "verdict", at=lambda outcome, **_: ("X-Odd", "yes") in getattr(outcome, "headers", ())),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
    Step(
        name="judge at all",
        breaks=breaks(judge, "_decided", at=lambda claim, _outcome, **_: claim.path == ODD),
        outcome=OutcomeKind.ANSWERED,
        state="unknown",
    ),
    Step(
        name="store the response",
        breaks=breaks(judge, "stored_response", at=lambda answer, **_: ("X-Odd", "yes") in answer.headers),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
    Step(
        name="log",
        breaks=breaks(settle, "_entry", at=lambda judged: judged.claim.path == ODD),
        outcome=OutcomeKind.ANSWERED,
        state="delivered",
    ),
]


def answers_oddly(line: Any) -> None:
    """As any partner; of the odd delivery with a header more."""
    while request := line.read_request():
        odd = b"X-Odd: yes\r\n" if request.startswith(b"POST /odd ") else b""
        line.send(b"HTTP/1.1 200 OK\r\n%sContent-Length: 2\r\n\r\nok" % odd)


def three(gateway: Gateway, partner: StartPartner) -> tuple[Partner, list[DeliveryId]]:
    """Three deliveries with credentials, the odd one in the middle."""
    server = partner(answers_oddly)
    made = gateway.destination(server.url())
    auth = BearerAuth(token=SECRET)
    sealed = seal_auth(auth, destination_id=made.destination_id, key=gateway.services.seal_key)
    gateway.sql("UPDATE destination SET auth_type = %s, sealed_credentials = %s", auth_type(auth).value, sealed)
    paths = ("/first", ODD, "/last")
    found = [accept(gateway.new(path=path), wait_seconds=None, services=gateway.services) for path in paths]
    return server, [claim.delivery.delivery_id for claim in found]


def outcomes(gateway: Gateway) -> dict[str, tuple[str, str]]:
    rows = gateway.sql("SELECT path, outcome, state FROM delivery JOIN attempt USING (delivery_id)")
    return {row["path"]: (row["outcome"], row["state"]) for row in rows}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_fault_in_one_delivery_is_its_own(
    gateway: Gateway,
    partner: StartPartner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: Step,
) -> None:
    server, _ = three(gateway, partner)
    step.breaks(monkeypatch)
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(logger, "error", lambda _, extra: told.append(extra))

    attempt.attempt_due(gateway.queue.take(), services=gateway.services)

    fine = ("answered", "delivered")
    assert outcomes(gateway) == {"/first": fine, ODD: (step.outcome, step.state), "/last": fine}
    assert any(request.startswith(b"POST /odd ") for request in server.requests) == step.sent
    assert len(server.requests) == 2 + step.sent
    assert gateway.queue.delays() == ([5] if step.state == "pending" else [])
    assert {line["error"] for line in told} == {"OverflowError"}  # loud,
    assert SECRET not in str(told) + capsys.readouterr().out  # and without the exception's own words
    stored = gateway.sql("SELECT reason FROM attempt WHERE outcome <> 'answered'")
    assert SECRET not in str(stored)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_the_fault_names_its_delivery(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    _, (_, odd, _) = three(gateway, partner)
    step.breaks(monkeypatch)
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(logger, "error", lambda _, extra: told.append(extra))
    monkeypatch.setattr(
        settle, "log_each", lambda _, entries: told.extend(msgspec.structs.asdict(entry) for entry in entries)
    )
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert str(odd) in {str(line.get("delivery_id")) for line in told}


def test_when_the_client_itself_fails_the_outcome_is_unknown(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(gateway, partner)
    monkeypatch.setattr(gateway.services.client, "send_all", lambda _: 1 // 0)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert set(outcomes(gateway).values()) == {("unknown", "unknown")}


def test_a_client_that_failed_once_works_again(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(gateway, partner)
    with monkeypatch.context() as broken:
        next(step for step in STEPS if step.name == "set the transfer up").breaks(broken)
        attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    gateway.clock.forward(5)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    assert {row["state"] for row in gateway.sql("SELECT state FROM delivery")} == {"delivered"}


@pytest.mark.parametrize("step", [step for step in STEPS if step.sent], ids=lambda step: step.name)
def test_a_waiting_caller_gets_an_answer_all_the_same(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    gateway.destination(partner(answers_oddly).url())
    step.breaks(monkeypatch)
    progress = deliver(gateway.new(path=ODD), wait_seconds=10, services=gateway.services)
    assert progress.attempts[0].outcome == step.outcome
    assert gateway.delivery()["state"] == step.state == progress.delivery.state.value


@pytest.mark.parametrize(
    "when", ["Thu, 01 Jan 99999999999999999999 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:00 +99999999999999999"]
)
def test_a_retry_after_beyond_the_calendar_does_not_break_other_records(
    gateway: Gateway, partner: StartPartner, when: str
) -> None:
    gateway.destination(partner(answers(503, b"", f"Retry-After: {when}")).url())
    gateway.destination(partner(answers(200)).url(), name="second")
    for destination in ("partner", "second"):
        accept(gateway.new(destination=destination), wait_seconds=None, services=gateway.services)
    attempt.attempt_due(gateway.queue.take(), services=gateway.services)
    states = gateway.sql("SELECT name, delivery.state FROM delivery JOIN destination USING (destination_id)")
    assert {row["name"]: row["state"] for row in states} == {"partner": "pending", "second": "delivered"}
    assert gateway.queue.delays() == [5]


def test_two_destinations_at_one_partner_share_no_connection(gateway: Gateway, partner: StartPartner) -> None:
    """They may be two tenants', and what one makes the partner say must not reach the other."""
    there = partner(answers(200))
    for name in ("one", "two"):
        gateway.destination(there.url(), name=name)
    for name in ("one", "one", "two"):
        deliver(gateway.new(destination=name, method="GET", body=b""), wait_seconds=20, services=gateway.services)
    assert (len(there.requests), there.connections) == (3, 2)
