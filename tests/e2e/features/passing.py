"""Calls that are passed through."""

import pytest

from tests.e2e.conftest import Consumer, Holding
from tests.e2e.features.helpers import (
    METHODS,
    held,
    kind_of,
)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_passes_through_and_reports_its_outcome(
    user: Consumer, other: Holding, key: str, method: str
) -> None:
    head = method == "HEAD"
    with held(user, other, method, key=key) as running:
        in_flight = user.call(method, "/v1/via/other/hold", headers={"Idempotency-Key": key})
        assert (in_flight.status, kind_of(in_flight)) == (409, "" if head else "in-flight")
    assert (running.result().status, running.result().headers["sallyport-outcome"]) == (200, "answered")
    replayed = user.call(method, "/v1/via/other/hold", headers={"Idempotency-Key": key})
    assert replayed.headers["idempotency-replayed"] == "true"
    accepted = user.call(method, "/v1/via/partner/orders", headers={"Prefer": "respond-async"})
    assert (accepted.status, accepted.headers["preference-applied"]) == (202, "respond-async")
    for path, status, kind in (
        ("/v1/via/nobody/orders", 502, "partner-unreachable"),
        ("/v1/via/partner/hang-up", 504, "outcome-unknown"),
        ("/v1/via/no-such-destination/orders", 404, "not-found"),
        ("/v1/via/partner/..%2Forders", 422, "invalid-request"),
    ):
        answer = user.call(method, path)
        assert (answer.status, kind_of(answer)) == (status, "" if head else kind), path


def test_an_answer_that_cannot_be_returned_is_withheld(user: Consumer, key: str) -> None:
    headers = {"Idempotency-Key": key}
    assert user.call("GET", "/v1/via/other/large", headers=headers).status == 200
    again = user.call("GET", "/v1/via/other/large", headers=headers)
    assert (again.status, kind_of(again), again.headers["sallyport-outcome"]) == (
        409,
        "response-not-stored",
        "withheld",
    )
    odd = user.call("GET", "/v1/via/other/odd")
    assert (odd.status, kind_of(odd), odd.json["partner_status"]) == (502, "invalid-status", 799)
    huge = user.call("GET", "/v1/via/other/huge")
    assert (huge.status, kind_of(huge), huge.headers["sallyport-outcome"]) == (502, "response-too-large", "withheld")


def test_a_repeat_of_what_was_resolved_is_told_so(user: Consumer, key: str) -> None:
    headers = {"Idempotency-Key": key}
    lost = user.call("POST", "/v1/via/partner/hang-up", headers=headers)
    assert (lost.status, kind_of(lost)) == (504, "outcome-unknown")
    delivery_id = lost.headers["sallyport-delivery-id"]
    assert user.call("POST", f"/v1/deliveries/{delivery_id}/resolve", body={"as": "delivered"}).status == 200
    again = user.call("POST", "/v1/via/partner/hang-up", headers=headers)
    assert (again.status, kind_of(again), again.json["state"]) == (409, "settled", "delivered")
    assert user.delivery(delivery_id)["attempts_made"] == 1


def test_a_request_that_cannot_go_out_is_refused(user: Consumer) -> None:
    refused = user.call("HEAD", "/v1/via/partner/orders", body=b"a HEAD request carries none")
    assert (refused.status, refused.headers["sallyport-outcome"]) == (502, "refused")
    assert user.delivery(refused.headers["sallyport-delivery-id"])["attempts"][0]["outcome"] == "refused"
    unreachable = user.call("POST", "/v1/via/nobody/orders")
    assert user.delivery(unreachable.headers["sallyport-delivery-id"])["attempts"][0]["outcome"] == "unreachable"
