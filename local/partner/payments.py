"""Payments, and how their bank answers when it is asked what became of one."""

from typing import Any

from local.partner.calls import Reply
from local.partner.ledger import Payment, PaymentKeyReused
from local.partner.visit import PartnerVisit, PathStep, refused

_PAGE_AT_MOST = 100


def _payments(visit: PartnerVisit) -> Reply:
    """POST makes one, once for each idempotency key; GET /payments/KEY and GET /payments?key=KEY ask about them."""
    if visit.call.method not in ("GET", "HEAD"):
        return _made(visit)
    return _asked(visit, visit.left[0]) if visit.left else _page(visit)


def _made(visit: PartnerVisit) -> Reply:
    rejects, late = "rejects" in visit.marks, "acts-late" in visit.marks
    try:
        payment, before = visit.bank.ledger.do(
            visit.call,
            state="rejected" if rejects else "executed",
            honours_key="careless" not in visit.marks,
            delay_seconds=visit.parameters.seconds(5) if late else 0,
        )
    except PaymentKeyReused:
        return refused(422, "key_reused", "this Idempotency-Key came before with another request")
    replayed = (("Idempotent-Replayed", "true"),) if before else ()
    if late and payment.seen_from > visit.bank.clock():
        return Reply(status=202, content={"state": "accepted", "key": payment.key}, headers=replayed)
    if payment.state == "rejected":
        return Reply(status=422, content={"code": "insufficient_funds", **_public(payment)}, headers=replayed)
    return Reply(status=201, content=_public(payment), headers=replayed)


def _asked(visit: PartnerVisit, key: str) -> Reply:
    payment = visit.bank.ledger.find(key, lag_seconds=_lag(visit))
    if "another" in visit.marks:
        other = {"number": 0, "key": f"not-{key}", "state": "executed"}
        return Reply(status=200, content=other)
    if payment is None:
        return refused(404, "payment_not_found", "there is no payment with this key")
    return Reply(status=200, content=_public(payment))


def _page(visit: PartnerVisit) -> Reply:
    """`limit` at a time (20), `after` a number; `key` for those of one key alone."""
    parameters = visit.parameters
    limit = parameters.whole("limit", 20, at_least=1, at_most=_PAGE_AT_MOST)
    after = parameters.whole("after", 0, at_most=10**12)
    key = parameters.text("key", "") or None
    found = visit.bank.ledger.page(after=after, limit=limit + 1, key=key, lag_seconds=_lag(visit))
    payments, more = found[:limit], len(found) > limit
    return Reply(
        status=200,
        content={
            "payments": [_public(payment) for payment in payments],
            "next": f"{visit.call.path}?after={payments[-1].number}&limit={limit}" if more else None,
        },
    )


def _lag(visit: PartnerVisit) -> float:
    return visit.parameters.seconds(5) if "lagging" in visit.marks else 0


def _public(payment: Payment) -> dict[str, Any]:
    return {"number": payment.number, "key": payment.key, "state": payment.state, "done_at": payment.done_at}


def _ledger(visit: PartnerVisit) -> Reply:
    """What was really done, newest first: also what no reply said."""
    limit = visit.parameters.whole("limit", 100, at_least=1, at_most=1000)
    return Reply(status=200, content={"payments": [payment.shown() for payment in visit.bank.ledger.newest(limit)]})


def _marked(mark: str) -> PathStep:
    return lambda visit: visit.go_on(mark)


# Steps before /payments: how the bank works, and how its records lag.
PAYMENTS: dict[str, PathStep] = {
    "payments": _payments,
    "ledger": _ledger,
    "careless": _marked("careless"),
    "rejects": _marked("rejects"),
    "acts-late": _marked("acts-late"),
    "lagging": _marked("lagging"),
    "another": _marked("another"),
}
