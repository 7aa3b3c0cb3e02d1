"""The steps of a path, by name. The last one answers; those before it insist on something, or change the reply.

    /orders               201, says what it received; so does / for a POST
    /flaky?failures=2     503 (`status`) for the first calls of an idempotency key, then the rest of the path
    /mid-run?after=3      the rest of the path, but after 3 calls 401 (`status`) for one call (`failures`)
    /slow?seconds=3       waits, then the rest of the path
    /status/418           that status
    /hang-up              reads the request and closes the connection without an answer
    /ip                   the caller's address in plain text, as the echo service of the egress check

docs/partner.md lists all of them. The query has the parameters of every step.
"""

from local.partner.calls import Reply
from local.partner.gates import GATES
from local.partner.oauth import token
from local.partner.payments import PAYMENTS
from local.partner.query import BadParameter
from local.partner.troubles import TROUBLES
from local.partner.visit import STEPS_AT_MOST, PartnerVisit, PathStep, refused


def answer(visit: PartnerVisit) -> Reply:
    """The reply of the whole path. It may wait, as its steps ask."""
    try:
        if len(visit.left) > STEPS_AT_MOST:
            raise BadParameter(f"a path has {STEPS_AT_MOST} steps at most")
        return _next(visit)
    except BadParameter as error:
        return refused(400, "bad_parameter", str(error))


def _next(visit: PartnerVisit) -> Reply:
    if not visit.left and visit.call.method == "POST":
        return _orders(visit)
    step = STEPS.get(visit.left[0]) if visit.left else None
    if step is None:
        return Reply(
            status=404, content={"detail": "try /orders, /flaky, /slow, /status/418 or /hang-up", "all": _HINT}
        )
    return step(visit.behind(1))


def _orders(visit: PartnerVisit) -> Reply:
    call = visit.call
    received = {"method": call.method, "path": call.path, "body": call.body.decode("utf-8", "replace")}
    return Reply(status=201, content={"received": received})


def _flaky(visit: PartnerVisit) -> Reply:
    failures = visit.parameters.whole("failures", 2, at_most=1_000_000)
    status = visit.parameters.whole("status", 503, at_least=200, at_most=599)
    number = visit.bank.times("flaky", visit.call.idempotency_key)
    if number > failures and visit.left:
        return visit.go_on()
    return Reply(status=status if number <= failures else 200, content={"call": number})


def _mid_run(visit: PartnerVisit) -> Reply:
    after = visit.parameters.whole("after", 3, at_most=1_000_000)
    failures = visit.parameters.whole("failures", 1, at_most=1_000_000)
    status = visit.parameters.whole("status", 401, at_least=200, at_most=599)
    if after < visit.bank.times("mid-run", visit.call.path) <= after + failures:
        return refused(status, "mid_run", "not this time")
    return visit.go_on()


def _slow(visit: PartnerVisit) -> Reply:
    seconds = visit.parameters.seconds(3)
    visit.bank.wait(seconds)
    return visit.go_on() if visit.left else Reply(status=200, content={"slept_seconds": seconds})


def _status(visit: PartnerVisit) -> Reply:
    code = visit.left[0] if visit.left else ""
    if code.isascii() and code.isdecimal() and 200 <= int(code) <= 599:
        return Reply(status=int(code), content={"status": int(code)})
    return Reply(status=404, content={"detail": "a status is a number from 200 to 599"})


def _hang_up(visit: PartnerVisit) -> Reply:  # noqa: ARG001 - the signature of a step
    return Reply(status=None, content={})


STEPS: dict[str, PathStep] = {
    "orders": _orders,
    "flaky": _flaky,
    "mid-run": _mid_run,
    "slow": _slow,
    "status": _status,
    "hang-up": _hang_up,
    "token": token,
    **GATES,
    **PAYMENTS,
    **TROUBLES,
}
_HINT = sorted(STEPS)
