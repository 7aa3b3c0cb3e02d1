"""The client for Python against the whole local stack, with and without asyncio."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from local.stack import Stack
from sallyport import (
    AsyncSallyport,
    GatewayUnavailable,
    RequestRefused,
    Sallyport,
    TokenRefused,
    UnknownOutcome,
)
from tests.e2e.conftest import Consumer

NOBODYS = "01a203c7-77fb-788f-a3b0-54d47b8c9561"


@pytest.fixture(scope="module")
def api(stack: Stack, consumer: Consumer) -> Iterator[Sallyport]:
    with Sallyport(stack.url, consumer.token) as api:
        yield api


def test_a_delivery_is_sent_waited_for_and_listed(api: Sallyport, key: str) -> None:
    sent = api.send("partner", path="/orders", body={"amount": 2**60}, key=key, metadata={"n": 2**60})
    assert api.wait(sent["delivery_id"])["state"] == "delivered"
    (found,) = api.deliveries(idempotency_key=key)
    assert found["metadata"] == {"n": 2**60}
    assert api.send("partner", path="/orders", body={"amount": 2**60}, key=key)["delivery_id"] == sent["delivery_id"]


def test_a_wait_ends_with_its_time(api: Sallyport) -> None:
    sent = api.send("partner", path="/orders", not_before=_tomorrow())
    assert api.wait(sent["delivery_id"], seconds=1)["state"] == "pending"
    assert api.cancel(sent["delivery_id"])["state"] == "canceled"


def _tomorrow() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


def test_an_unknown_delivery_is_resolved(api: Sallyport) -> None:
    sent = api.send("partner", path="/lose/payments", wait_seconds=20)
    assert sent["state"] == "unknown"
    with pytest.raises(RequestRefused, match="does not say how its partner is asked") as refused:
        api.ask(sent["delivery_id"])
    assert refused.value.kind == "no-question"
    assert api.resolve(sent["delivery_id"], "failed", note="not on their statement")["state"] == "failed"
    assert api.retry(sent["delivery_id"])["state"] in ("pending", "failed")


def test_a_destination_is_made_changed_and_verified(api: Sallyport, stack: Stack) -> None:
    made = api.create_destination({"name": "of-the-client", "base_url": stack.partner.url})
    changed = api.change_destination("of-the-client", {"idempotent": True}, version=made["version"])
    assert changed["idempotent"]
    with pytest.raises(RequestRefused) as outdated:
        api.change_destination("of-the-client", {"idempotent": None}, version=made["version"])
    assert outdated.value.kind == "precondition-failed"
    assert api.verify("of-the-client")["result"] == "answered"
    with pytest.raises(GatewayUnavailable) as soon:
        api.verify("of-the-client")
    assert soon.value.retry_after_seconds is not None
    assert "of-the-client" in [item["name"] for item in api.destinations()]
    assert api.destination("of-the-client")["version"] == 2


def test_addresses_and_replays_are_calls_too(api: Sallyport) -> None:
    assert "addresses" in api.egress()
    counted = api.replay(state="failed", since="2026-01-01T00:00:00Z", until="2026-01-01T00:00:01Z", dry_run=True)
    assert counted["count"] == 0


def test_a_wrong_token_is_an_error_of_its_own(stack: Stack) -> None:
    with Sallyport(stack.url, "spt_" + "A" * 43) as stranger, pytest.raises(TokenRefused):
        stranger.show(NOBODYS)


def test_all_of_it_works_in_an_event_loop_too(stack: Stack, consumer: Consumer, key: str) -> None:
    async def use() -> None:
        async with AsyncSallyport(stack.url, consumer.token) as api:
            sent = await api.send("partner", path="/orders", body="x", key=key)
            assert (await api.wait(sent["delivery_id"]))["state"] == "delivered"
            assert [item["delivery_id"] async for item in api.deliveries(idempotency_key=key)] == [sent["delivery_id"]]
            lost = await api.send("partner", path="/lose/payments", wait_seconds=20)
            with pytest.raises(RequestRefused):
                await api.ask(lost["delivery_id"])
            assert (await api.resolve(lost["delivery_id"], "failed"))["state"] == "failed"
            assert (await api.retry(lost["delivery_id"]))["attempts_made"] >= 1
            later = await api.send("partner", path="/orders", not_before=_tomorrow())
            assert (await api.cancel(later["delivery_id"]))["state"] == "canceled"
            assert (await api.destination("partner"))["name"] == "partner"
            made = await api.create_destination({"name": "of-the-loop", "base_url": stack.partner.url})
            changed = await api.change_destination("of-the-loop", {"idempotent": True}, version=made["version"])
            assert changed["version"] == made["version"] + 1
            assert "of-the-loop" in [item["name"] async for item in api.destinations()]
            assert (await api.verify("of-the-loop"))["result"] == "answered"
            assert "addresses" in await api.egress()
            assert "verdict" in await api.verify_egress()
            job = await api.replay(state="failed", since="2026-01-01T00:00:00Z", until="2026-01-01T00:00:01Z")
            assert (await api.job(job["job_id"]))["expected"] == 0
            with pytest.raises(RequestRefused) as refused:
                await api.show(NOBODYS)
            assert refused.value.kind == "not-found"
            assert not isinstance(refused.value, UnknownOutcome)

    asyncio.run(use())
