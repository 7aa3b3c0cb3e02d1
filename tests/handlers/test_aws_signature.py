"""Deliveries to AWS's own services: signed over all that is sent, and not with the words of a caller."""

from collections.abc import Callable

from tests.egress.servers import Partner, Script
from tests.egress.test_aws_signatures import SCOPE, SECRET, TEMPORARY, Arrived, verifies
from tests.support.api import Api, Functions
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

AUTH = {
    "type": "aws_sigv4",
    "region": SCOPE.region,
    "service": SCOPE.service,
    "access_key_id": SCOPE.access_key_id,
    "secret_access_key": SECRET,
    "session_token": TEMPORARY.session_token,
}
WEBHOOKS = {"type": "standard_webhooks"}


def test_a_delivery_is_signed_as_aws_verifies_it(functions: Functions, api: Api, partner: StartPartner) -> None:
    server = partner(verifies(TEMPORARY))
    api.destination(server.url(), auth=AUTH)
    made = api.create_delivery(("Prefer", "wait=5"), query="b=2&a=1")
    assert (made.status, made.json["state"]) == (200, "delivered")
    assert SECRET not in functions.log.getvalue() + str(functions.sql("SELECT * FROM destination"))


def test_headers_of_a_caller_do_not_take_the_place_of_the_signatures_own(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(verifies(TEMPORARY))
    api.destination(server.url(), auth=AUTH)
    theirs = {"X-Amz-Date": "20200101T000000Z", "x-amz-security-token": "another", "X-Amz-Target": "Orders.Put"}
    made = api.create_delivery(("Prefer", "wait=5"), headers=theirs)
    assert (made.status, made.json["state"]) == (200, "delivered")
    arrived = Arrived.of(server.requests[0])
    assert arrived.header("x-amz-security-token") == TEMPORARY.session_token
    assert arrived.header("x-amz-date") > "2026"
    assert arrived.header("x-amz-target") == "Orders.Put"


def test_what_cannot_be_signed_otherwise_is_not_signed_for_aws_either(
    functions: Functions, api: Api, partner: StartPartner
) -> None:
    server = partner(answers(200))
    api.destination(server.url(), auth=AUTH, signing=[WEBHOOKS])
    functions.sql("UPDATE destination SET sealed_signing = '\\x01'")
    api.create_delivery()
    functions.work()
    (attempt,) = functions.attempts()
    assert (attempt["outcome"], server.requests) == ("unreachable", [])
    assert attempt["reason"] == "the request could not be signed with the destination's keys; nothing was sent"
