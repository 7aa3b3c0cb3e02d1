"""What the documents' commands print, on the local stack: those of docs/audit.md, docs/reconcile.md and docs/deploy.md
that call the API, and those of operators."""

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from db.connection import Database
from domain.ids import uuid7
from flows.seal_attempts import SEALED, seal_attempts
from local.demonstration import TENANT
from local.functions import FunctionRaised
from local.stack import DATABASE, Stack
from runtime.settings import DatabaseSettings
from tests.e2e.conftest import Consumer, eventually
from tests.support.documents import shown_commands
from tests.support.terminal import Terminal

PUBLISHED, PARTNER = "http://127.0.0.1:8080", "http://127.0.0.1:8081"
# What would stay in the list that other tests read: tests/handlers/test_allowlist.py has it.
ELSEWHERE = {"seen_from"}


@pytest.fixture
def reader(stack: Stack, consumer: Consumer, repository: Path, tmp_path: Path) -> Terminal:
    """Who has the checkout and the token of `make run`."""
    logs = next(iter(stack.functions.values())).configuration.log.parent
    return Terminal(
        directory=tmp_path,
        variables={
            "TOKEN": consumer.token,
            "API_URL": stack.url,
            "PYTHONPATH": str(repository),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        },
        instead={PUBLISHED: stack.url, PARTNER: stack.partner.url, ".sallyport/logs": str(logs)},
        before=f"output() {{ [ $1 = ApiUrl ] && echo {stack.url}; }}",
    )


def answers(printed: str) -> list[Any]:
    """Documents of JSON that stand one behind the other."""
    found, decoder = [], json.JSONDecoder()
    while printed := printed.lstrip():
        document, end = decoder.raw_decode(printed)
        found.append(document)
        printed = printed[end:]
    return found


# ---- docs/audit.md


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealer:
    """What sealing takes."""

    database: Database
    clock: Callable[[], datetime]

    def new_id(self, now: datetime) -> UUID:
        """A new UUIDv7."""
        return uuid7(now=now, randomness=os.urandom(10))


@pytest.fixture
def seal_id(stack: Stack, consumer: Consumer) -> str:
    """Of an interval with an attempt of the consumer's. A worker seals within minutes; here it is done at once."""
    sent = consumer.deliver(path="/orders", body={}).json
    consumer.finished(sent["delivery_id"])
    database = Database(DatabaseSettings(database_url=stack.postgres.url(user="sallyport_app", database=DATABASE)))
    seal_attempts(services=Sealer(database=database, clock=lambda: datetime.now(UTC)))
    database.close()

    def sealed() -> str | None:
        entries = consumer.call("GET", f"/v1/audit?what={SEALED}").json["entries"]
        return str(entries[0]["on"]) if entries else None

    return eventually(sealed)


def test_the_audit_log_is_read_exported_and_verified_as_the_page_says(
    reader: Terminal, consumer: Consumer, seal_id: str
) -> None:
    pause = consumer.call("POST", "/v1/destinations/partner/pause", body={"reason": "a test"})
    resume = consumer.call("POST", "/v1/destinations/partner/resume")
    assert (pause.status, resume.status) == (200, 200)
    (listed,) = answers(reader.types("docs/audit.md", 'curl -s "$API_URL/v1/audit?what=destination.changed'))
    assert {entry["what"] for entry in listed["entries"]} <= {"destination.changed"}
    verified = reader.types_block("docs/audit.md", 'curl -sf "$API_URL/v1/audit/export"')
    assert re.match(r"verified \d+ entries, 1 to \d+, of [0-9a-f-]{36}; [1-9]\d* checkpoints agree", verified)
    shown = Terminal(
        directory=reader.directory,
        variables=reader.variables,
        instead={**reader.instead, "01a203c5-3b10-7f52-9c3d-2b8f6f4e1d33": seal_id},
    )
    shown.types("docs/audit.md", 'curl -sf "$API_URL/v1/audit/attempts')
    again = reader.types("docs/audit.md", "python3 -m sallyport_audit verify")
    assert re.search(r"[1-9]\d* of \d+ attempts of \d+ intervals", again)


# ---- docs/reconcile.md


def test_the_bank_says_what_became_of_a_payment_as_the_page_says(reader: Terminal, stack: Stack) -> None:
    listed = 'curl -s "$API_URL/v1/deliveries?destination=house-bank&state=delivered" -H "Authorization: Bearer $TOKEN"'
    waits = f"until {listed} | grep -q resolved_by; do command sleep 0.2; done"  # a busy machine takes longer
    patient = Terminal(
        directory=reader.directory, variables=reader.variables, instead={**reader.instead, "sleep 5": waits}
    )
    destination, unknown, delivered = answers(
        patient.types_block("docs/reconcile.md", "curl http://127.0.0.1:8080/v1/destinations")
    )
    assert destination["name"] == "house-bank"
    assert unknown["state"] == "unknown"
    assert unknown["next_question_at"]
    (delivery,) = delivered["deliveries"]
    assert (delivery["delivery_id"], delivery["state"]) == (unknown["delivery_id"], "delivered")
    assert (delivery["resolution"], delivery["resolved_by"]) == ("delivered", "reconcile")
    assert delivery["resolved_at"]
    assert delivery["attempts_made"] == 1
    assert len([payment for payment in stack.partner.bank.ledger.newest(1000) if payment.key == "salary-1"]) == 1


def test_a_delivery_is_asked_about_at_once_as_the_page_says(reader: Terminal, stack: Stack, consumer: Consumer) -> None:
    question = {"path": "/status/200", "query": "key={idempotency_key}", "after": [3600], "received": [{"status": 200}]}
    body = {"name": "asked-at-once", "base_url": stack.partner.url, "guarantee": "at_most_once", "reconcile": question}
    assert consumer.call("POST", "/v1/destinations", body=body).status == 201
    sent = consumer.call(
        "POST",
        "/v1/deliveries",
        body={"destination": "asked-at-once", "path": "/hang-up"},
        headers={"Prefer": "wait=25"},
    )
    assert sent.json["state"] == "unknown"
    variables = {**reader.variables, "DELIVERY": sent.json["delivery_id"]}
    asking = Terminal(directory=reader.directory, variables=variables, instead=reader.instead)
    (asked,) = answers(asking.types("docs/reconcile.md", "curl -X POST"))
    assert asked["state"] == "delivered"
    assert asked["attempts"][-1]["kind"] == "reconcile"


# ---- docs/deploy.md, and what operators type


def test_the_address_is_verified_as_the_page_says(reader: Terminal) -> None:
    (verified,) = answers(reader.types("docs/deploy.md", 'curl -X POST "$(output ApiUrl)/v1/egress/verify"'))
    assert verified["verdict"] == "matches"


def payloads() -> list[tuple[str, str]]:
    """By function, what the documents send to it: the events of commands that operators type."""
    found = set()
    for command in shown_commands():
        payload = re.search(r"^admin '(\{.*\})'$|--payload '(\{\"action\".*?\})'", command.text)
        if payload:
            attempt = "AttemptFunction" in command.text
            found.add(("AttemptFunction" if attempt else "AdminFunction", payload[1] or payload[2]))
    return sorted(found)


@pytest.mark.parametrize(("function", "payload"), payloads())
def test_a_function_takes_what_the_documents_send_to_it(stack: Stack, function: str, payload: str) -> None:
    event = json.loads(payload)
    if event["action"] in ELSEWHERE:
        return
    admin = stack.functions["AdminFunction"]
    issued = admin.invoke({"action": "issue_token", "tenant": event.get("tenant", TENANT)})
    if "token_id" in event:
        event["token_id"] = issued["token_id"]
    if event["action"] == "retire_seal_key":  # there is no old one
        with pytest.raises(FunctionRaised, match="possible is rotate_seal_key"):
            stack.functions[function].invoke(event)
    else:
        assert stack.functions[function].invoke(event)


def test_the_documents_send_something_to_both_functions() -> None:
    assert {function for function, _ in payloads()} == {"AdminFunction", "AttemptFunction"}
    assert {json.loads(payload)["action"] for _, payload in payloads()} >= {*ELSEWHERE, "issue_token", "redrive"}
