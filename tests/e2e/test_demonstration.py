"""The destination that `make run` makes follows its partner from run to run, unless it is the user's own."""

from collections.abc import Iterator

import pytest

from local.demonstration import DESTINATION, make_destination
from local.stack import Stack
from tests.e2e.conftest import Consumer

PATH = f"/v1/destinations/{DESTINATION}"


@pytest.fixture(autouse=True)
def as_before(consumer: Consumer, stack: Stack) -> Iterator[None]:
    """The destination is that of all tests."""
    yield
    assert consumer.call("PATCH", PATH, body={"base_url": stack.partner.url, "auth": {"type": "none"}}).status == 200


def moved(consumer: Consumer, base_url: str) -> int:
    """Its version, once it leads there."""
    changed = consumer.call("PATCH", PATH, body={"base_url": base_url})
    assert changed.status == 200, changed.body
    return int(changed.json["version"])


def test_it_follows_the_partner_to_another_port_and_its_version_tells(consumer: Consumer, stack: Stack) -> None:
    version = moved(consumer, "http://127.0.0.1:8080")
    assert make_destination(stack, token=consumer.token) == ""
    shown = consumer.call("GET", PATH).json
    assert (shown["base_url"], shown["version"]) == (stack.partner.url, version + 1)


def test_one_that_leads_elsewhere_is_left_alone(consumer: Consumer, stack: Stack) -> None:
    moved(consumer, "https://partner.example.com")
    assert make_destination(stack, token=consumer.token) == ""
    assert consumer.call("GET", PATH).json["base_url"] == "https://partner.example.com"


def test_credentials_of_the_users_own_do_not_follow_and_that_is_said(consumer: Consumer, stack: Stack) -> None:
    moved(consumer, "http://127.0.0.1:8080")
    changed = consumer.call("PATCH", PATH, body={"auth": {"type": "bearer", "token": "s3cret"}})
    assert changed.status == 200, changed.body
    remark = make_destination(stack, token=consumer.token)
    assert remark.startswith(f"The destination '{DESTINATION}' does not lead to {stack.partner.url}: ")
    assert "s3cret" not in remark
