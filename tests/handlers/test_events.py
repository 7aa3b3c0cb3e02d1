"""Every file of events/ through its handler: what `sam local invoke` is given, tests are given too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domain.errors import WrongState
from handlers import admin, api, attempt, authorize, check_egress, migrate, network
from runtime.observability import metrics
from tests.egress.servers import Partner, Script
from tests.support.api import Api, Context, Functions, reply
from tests.support.gateway import EmulatedQueue
from tests.support.partners import answers

type StartPartner = Callable[[Script], Partner]

KNOWN = {"admin", "api-get", "api-post-delivery", "attempt", "attempt-wake-overdue"}
KNOWN |= {"admin-create-tenant", "admin-list-tenants", "admin-verify-audit", "attempt-delete-old", "attempt-redrive"}
KNOWN |= {"attempt-rotate-seal-key", "attempt-retire-seal-key"}
KNOWN |= {"admin-set-approvals", "authorize", "check_egress", "migrate", "network"}


@pytest.fixture
def event(repository: Path) -> Callable[[str], dict[str, Any]]:
    """Reads one of the events."""

    def read(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((repository / "events" / f"{name}.json").read_text())
        return found

    return read


type Read = Callable[[str], dict[str, Any]]


def of_caller(found: dict[str, Any], caller: Api) -> dict[str, Any]:
    """An event of the API as if this caller's token had passed the authorizer."""
    context = found["requestContext"]
    return found | {"requestContext": context | {"authorizer": {**context["authorizer"], **(caller.authorizer or {})}}}


def test_every_event_is_tried_here(repository: Path) -> None:
    assert {path.stem for path in (repository / "events").glob("*.json")} == KNOWN


def test_admin(functions: Functions, event: Read) -> None:
    assert admin.handler(event("admin"), Context())["token"].startswith("spt_")


def test_admin_of_tenants_and_their_audit_log(functions: Functions, event: Read) -> None:
    made = admin.handler(event("admin-create-tenant"), Context())
    assert made["name"] in [
        tenant["name"] for tenant in admin.handler(event("admin-list-tenants"), Context())["tenants"]
    ]
    verified = admin.handler(event("admin-verify-audit"), Context())
    assert (verified["verified_to"], verified["fault"], verified["next"]) == (1, None, None)


def test_admin_of_approvals(functions: Functions, event: Read) -> None:
    command = event("admin-set-approvals")
    admin.handler({"action": "create_tenant", "tenant": command["tenant"]}, Context())
    assert admin.handler(command, Context()) == {"tenant": "acme", "above": 100}


def test_attempt_redrive(functions: Functions, event: Read) -> None:
    functions.queue.dead_letters()
    assert attempt.handler(event("attempt-redrive"), Context()) == {"moved": 0, "unreadable": 0, "is_all": True}


def test_attempt_rotate_seal_key(functions: Functions, event: Read) -> None:
    begun = attempt.handler(event("attempt-rotate-seal-key"), Context())
    assert (begun["step"], len(begun["key_ids"]), begun["left"]) == ("announced", 2, 0)
    with pytest.raises(WrongState, match="possible is rotate_seal_key"):
        attempt.handler(event("attempt-retire-seal-key"), Context())


def test_api_get(functions: Functions, event: Read) -> None:
    answer = reply(api.handler(of_caller(event("api-get"), functions.api), Context()))
    assert (answer.status, answer.json) == (200, {"deliveries": [], "next_cursor": None})


def test_api_post_delivery(functions: Functions, event: Read, partner: StartPartner) -> None:
    server = partner(answers(200))
    functions.api.destination(server.url())
    answer = reply(api.handler(of_caller(event("api-post-delivery"), functions.api), Context()))
    assert (answer.status, answer.json["state"]) == (202, "pending")
    functions.work()
    assert server.requests[0].startswith(b"POST /orders HTTP/1.1\r\n")
    assert b"\r\nIdempotency-Key: order-42\r\n" in server.requests[0]


def test_attempt(functions: Functions, event: Read) -> None:
    assert attempt.handler(event("attempt"), Context()) == {"batchItemFailures": []}
    assert functions.queue.wakeups() == []  # its id is of another year: a row that is not there by now never comes


def test_attempt_wake_overdue(functions: Functions, event: Read) -> None:
    assert attempt.handler(event("attempt-wake-overdue"), Context()) == {"woken": 0, "next": None}


def test_attempt_delete_old(functions: Functions, event: Read) -> None:
    found = attempt.handler(event("attempt-delete-old"), Context())
    assert found == {"deleted": 0, "bodies": 0, "responses": 0, "next": None}


def test_authorize(functions: Functions, event: Read) -> None:
    found = event("authorize")
    with pytest.raises(authorize.CallRefused):
        authorize.handler(found, Context())
    found["headers"]["Authorization"] = f"Bearer {functions.token}"
    assert authorize.handler(found, Context())["context"]["scopes"] == "read send manage"


def test_migrate(functions: Functions, event: Read, partner: StartPartner, monkeypatch: pytest.MonkeyPatch) -> None:
    cloudformation = partner(answers(200))
    monkeypatch.setenv("DATABASE_URL", functions.database.admin_url)
    found = event("migrate") | {"ResponseURL": cloudformation.url("/answer")}
    assert migrate.handler(found, Context(lambda: 300))["applied"] == []  # the function's own time, less its reserve
    assert b'"Status": "SUCCESS"' in cloudformation.requests[0]


def test_check_egress(
    ssm_url: str, queue: EmulatedQueue, event: Read, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = partner(answers(200, b"198.51.100.10\n"))
    variables = {
        "AVAILABILITY_ZONE": "eu-central-1a",
        "EGRESS_ADDRESSES": "eu-central-1a=198.51.100.10",
        "EGRESS_ECHO_URL": echo.url("/"),
        "EGRESS_RESULTS_PATH": f"/sallyport/{queue.name}/egress",
        "SSM_ENDPOINT_URL": ssm_url,
        "ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",
        "ALLOWED_PORTS": str(echo.port),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(metrics, "namespace", "Sallyport")
    assert check_egress.handler(event("check_egress"), Context())["verdict"] == "matches"
    check_egress._wired.cache_clear()


def test_network(queue: EmulatedQueue, event: Read, partner: StartPartner, monkeypatch: pytest.MonkeyPatch) -> None:
    cloudformation = partner(answers(200))
    monkeypatch.setenv("EC2_ENDPOINT_URL", queue.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    found = event("network") | {"ResponseURL": cloudformation.url("/answer")}
    assert network.handler(found, Context()) == {}  # made-up ids, which no account has
    assert b'"Status": "FAILED"' in cloudformation.requests[0]
    assert b"eipalloc-0a1b2c3d4e5f60718 is not an Elastic IP" in cloudformation.requests[0]
