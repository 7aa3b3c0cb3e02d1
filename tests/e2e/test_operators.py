"""What operators do on the local stack: `make admin`, and a seal key that is rotated while the stack works."""

import json
import stat
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from egress.seal_keys import AGAIN_SECONDS
from local.demonstration import TENANT
from local.errors import LocalError
from local.operators import act, actions, event_in
from local.stack import Stack
from tests.e2e.conftest import Consumer

SECRET = "demo-token"  # the one that the demo partner insists on under /bearer
# What an action needs that has no default, and what is to be filled in when it runs.
MEMBERS: dict[str, dict[str, object]] = {
    "create_tenant": {"tenant": "operators"},
    "issue_token": {"tenant": "operators"},
    "list_tokens": {"tenant": "operators"},
    "revoke_token": {"token_id": "..."},
    "seen_from": {"address": "198.51.100.7"},
    "set_approvals": {"tenant": "operators", "above": None},
    "redrive": {"reason": "nothing is in it"},
}
NOT_NOW = {"retire_seal_key": "possible is rotate_seal_key"}


@pytest.fixture
def directory(stack: Stack) -> Path:
    return stack.seal_key_file.parent


def test_each_action_is_done_on_the_running_stack(stack: Stack, directory: Path) -> None:
    known = [json.loads(event) for event, _ in actions()]
    issued = act(directory, {"action": "issue_token", "tenant": TENANT})
    MEMBERS["revoke_token"] = {"token_id": issued["token_id"]}
    assert {event["action"] for event in known} >= {*MEMBERS, *NOT_NOW, "rotate_seal_key", "delete_old"}
    for event in known:
        wanted = {**event, **MEMBERS.get(event["action"], {})}
        if event["action"] in NOT_NOW:
            with pytest.raises(LocalError, match=NOT_NOW[event["action"]]):
                act(directory, wanted)
        elif event["action"] != "rotate_seal_key":
            assert isinstance(act(directory, wanted), dict)


def test_what_a_function_refuses_is_said_in_one_line(directory: Path) -> None:
    with pytest.raises(LocalError, match=r"redrive was refused: .*reason"):
        act(directory, {"action": "redrive"})
    with pytest.raises(LocalError, match="there are create_tenant, "):
        act(directory, {"action": "no-such-action"})


def test_an_event_is_text_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text('{"action": "list_tenants"}')
    assert event_in(str(tmp_path / "event.json")) == event_in('{"action": "list_tenants"}')
    for wrong in ("{", "[]", str(tmp_path / "none.json")):
        with pytest.raises(LocalError):
            event_in(wrong)


def test_where_no_stack_runs_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="No stack runs"):
        act(tmp_path, {"action": "list_tenants"})


def earlier(stack: Stack, *, by: timedelta) -> None:
    """As if the last step of the rotation had been that long ago. The file stays private."""
    kept = json.loads(stack.seal_key_file.read_text())
    kept["at"] = (datetime.fromisoformat(kept["at"]) - by).isoformat()
    with stack.seal_key_file.open("w") as file:
        json.dump(kept, file)
    assert stat.S_IMODE(stack.seal_key_file.stat().st_mode) == 0o600


def test_credentials_are_sent_before_while_and_after_the_seal_key_is_rotated(
    stack: Stack, consumer: Consumer, directory: Path
) -> None:
    name = "rotated-beside"
    body = {"name": name, "base_url": stack.partner.url, "auth": {"type": "bearer", "token": SECRET}}
    assert consumer.call("POST", "/v1/destinations", body=body).status == 201

    def is_sent_with_its_credentials() -> bool:
        sent = consumer.call("POST", f"/v1/via/{name}/bearer/payments", body={"order": 42})
        return sent.status in (200, 201)  # and not 401

    assert is_sent_with_its_credentials()
    steps = []
    for _ in range(4):
        rotated = act(directory, {"action": "rotate_seal_key"})
        steps.append(rotated["step"])
        assert is_sent_with_its_credentials()
        if rotated["step"] == "resealed":
            break
        time.sleep(AGAIN_SECONDS + 1)  # a process looks no sooner for a key that it does not know; steps take a minute
        earlier(stack, by=timedelta(minutes=10))
    assert (steps[0], steps[-1]) == ("announced", "resealed")
    with pytest.raises(LocalError, match="retire_seal_key after that"):
        act(directory, {"action": "retire_seal_key"})
    earlier(stack, by=timedelta(hours=2))
    assert act(directory, {"action": "retire_seal_key"})["step"] == "settled"
    assert is_sent_with_its_credentials()
    assert SECRET not in stack.seal_key_file.read_text()
