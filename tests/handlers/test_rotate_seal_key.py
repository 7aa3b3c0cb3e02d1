"""The operators' rotation of the seal key, with the secret in moto's Secrets Manager: what API and worker do meanwhile,
and what is answered and logged."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import boto3
import msgspec
import pytest

from domain.errors import SecretUnavailable, WrongState
from egress import seal_keys
from egress.seal_key_store import KeysChanged, SealKeyStore
from egress.seal_keys import KeyStep, SealKeys
from flows.rotate_seal_key import ANNOUNCED_SECONDS, RETIRED_AFTER_SECONDS
from handlers import attempt, wiring
from runtime.settings import SealKeySettings
from tests.egress.servers import Partner, Script
from tests.support.api import Context, Functions, forget_services
from tests.support.gateway import REGION, Clock
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

FIRST_TEXT = "a random text, as it is long enough to be one"
SECRET = "the-partners-secret"


@dataclass(frozen=True)
class Account:
    """The secret, and whoever rotates it."""

    client: Any
    arn: str
    endpoint_url: str
    clock: Clock

    def store(self) -> SealKeyStore:
        return SealKeyStore(SealKeySettings(seal_key_secret_arn=self.arn), endpoint_url=self.endpoint_url)

    def text(self, stage: str = "AWSCURRENT") -> str:
        return str(self.client.get_secret_value(SecretId=self.arn, VersionStage=stage)["SecretString"])


@pytest.fixture
def account(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    url = functions.queue.endpoint_url
    client = boto3.client("secretsmanager", endpoint_url=url, region_name=REGION)
    arn = client.create_secret(Name=f"seal-key-{uuid4()}", SecretString=FIRST_TEXT)["ARN"]
    monkeypatch.setenv("SEAL_KEY_SECRET_ARN", arn)
    monkeypatch.delenv("SEAL_KEY_FILE")
    monkeypatch.setattr(seal_keys, "load_seal_keys", partial(seal_keys.load_seal_keys, endpoint_url=url))
    clock = Clock(now=datetime.now(UTC))
    monkeypatch.setattr(wiring, "utc_now", clock)
    forget_services()
    made = Account(client=client, arn=arn, endpoint_url=url, clock=clock)
    monkeypatch.setattr(wiring, "seal_key_store", made.store)
    yield made
    client.close()


def bearer(token: str) -> dict[str, str]:
    return {"type": "bearer", "token": token}


def invoke(action: str = "rotate_seal_key") -> dict[str, Any]:
    return dict(json.loads(json.dumps(attempt.handler({"action": action}, Context()))))


def test_credentials_work_before_during_and_after_and_no_call_fails(
    functions: Functions, account: Account, partner: StartPartner
) -> None:
    server = partner(answers(200))
    functions.api.destination(server.url(), auth=bearer(SECRET))
    tokens = (f"{SECRET}-{number}" for number in range(99))

    def goes_on() -> None:
        token = next(tokens)
        patched = functions.api.call("PATCH", "/v1/destinations/partner", json={"auth": bearer(token)})
        assert patched.status == 200, patched.json
        assert functions.api.create_delivery().status == 202
        functions.work()
        assert f"\r\nAuthorization: Bearer {token}\r\n".encode() in server.requests[-1]

    goes_on()
    assert invoke()["step"] == "announced"
    goes_on()
    account.clock.forward(ANNOUNCED_SECONDS)
    goes_on()  # the API has known the first key alone until now
    found = invoke()
    assert (found["step"], found["left"], found["unopened"], found["again_at"]) == ("resealed", 0, [], None)
    goes_on()
    account.clock.forward(RETIRED_AFTER_SECONDS)
    goes_on()
    assert invoke()["left"] == 0
    account.clock.forward(RETIRED_AFTER_SECONDS)
    assert invoke("retire_seal_key")["step"] == "settled"
    goes_on()
    forget_services()  # new processes
    goes_on()
    states = {row["state"] for row in functions.sql("SELECT state FROM delivery")}
    assert states == {"delivered"}


def test_no_key_is_in_an_answer_or_a_log(functions: Functions, account: Account) -> None:
    functions.api.destination("http://127.0.0.1:1", auth=bearer(SECRET))
    said = [invoke()]
    account.clock.forward(ANNOUNCED_SECONDS)
    said.append(invoke())
    account.clock.forward(RETIRED_AFTER_SECONDS)
    keys = account.store().read().keys
    said.append(invoke("retire_seal_key"))
    everything = json.dumps(said) + functions.log.getvalue() + str(functions.sql("SELECT * FROM audit_entry"))
    assert [len(text) for text in keys.texts] == [64, len(FIRST_TEXT)]
    for secret in (*keys.texts, *(key.secret.hex() for key in keys.keys), keys.allowlist_seed.hex(), SECRET):
        assert secret not in everything
    assert said[-1] == {
        "step": "settled",
        "key_ids": [keys.keys[0].key_id.hex()],
        "resealed": 0,
        "left": 0,
        "unopened": [],
        "again_at": None,
        "retire_at": None,
    }


def test_partners_keep_the_allowlists_key(functions: Functions, account: Account) -> None:
    before = SealKeys(texts=(FIRST_TEXT,)).allowlist_seed
    assert wiring.api().seal_keys.allowlist_seed == before
    invoke()
    account.clock.forward(ANNOUNCED_SECONDS)
    invoke()
    assert wiring.api().seal_keys.allowlist_seed == before


def test_a_proposal_that_waits_for_its_approval_is_opened_with_the_new_key(
    functions: Functions, account: Account
) -> None:
    functions.api.destination("http://127.0.0.1:1")
    functions.sql("UPDATE tenant SET approvals_above = 0 RETURNING tenant_id")
    proposed = functions.api.call("PATCH", "/v1/destinations/partner", json={"auth": bearer(SECRET)})
    assert proposed.status == 202, proposed.json
    for seconds in (0.0, ANNOUNCED_SECONDS):
        account.clock.forward(seconds)
        invoke()
    second = replace(functions.api, authorizer={**(functions.api.authorizer or {}), "token_id": str(UUID(int=7))})
    approved = second.call("POST", f"/v1/proposals/{proposed.json['proposal_id']}/approve")
    assert (approved.status, approved.json["status"]) == (200, 200)
    (row,) = functions.sql("SELECT auth_type FROM destination")
    assert row["auth_type"] == "bearer"


def test_the_secret_before_is_still_there_as_the_previous_version(account: Account) -> None:
    invoke()
    assert account.text("AWSPREVIOUS") == FIRST_TEXT
    assert msgspec.json.decode(account.text())["keys"][0] == FIRST_TEXT


def test_of_two_who_write_after_the_same_version_the_second_changes_nothing(account: Account) -> None:
    store = account.store()
    stored = store.read()
    first = SealKeys(texts=("1" * 64, FIRST_TEXT), step=KeyStep.SEALING)
    store.replace(stored, first)
    store.replace(stored, first)  # as after a lost answer
    with pytest.raises(KeysChanged):
        store.replace(stored, SealKeys(texts=("2" * 64, FIRST_TEXT), step=KeyStep.SEALING))
    assert store.read().keys.texts == first.texts


def test_a_secret_that_cannot_be_written_leaves_all_as_it_was(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = account.store().read()
    gone = SealKeyStore(SealKeySettings(seal_key_secret_arn=f"{account.arn}-gone"), endpoint_url=account.endpoint_url)
    with pytest.raises(SecretUnavailable, match="ResourceNotFoundException"):
        gone.replace(stored, SealKeys(texts=("1" * 64,)))
    assert account.text() == FIRST_TEXT


def test_what_is_not_over_is_not_retired(account: Account) -> None:
    with pytest.raises(WrongState, match="rotation of the seal key is settled; possible is rotate_seal_key"):
        invoke("retire_seal_key")
    assert account.text() == FIRST_TEXT


def test_a_command_has_no_members(functions: Functions) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `key`"):
        attempt.handler({"action": "rotate_seal_key", "key": "x"}, Context())
