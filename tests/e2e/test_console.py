"""/console in a browser, on the whole local stack: every page, every act, and what must never happen."""

import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local.demonstration import TENANT
from local.partner import Call, Partner, Reply
from local.stack import Stack
from tests.e2e.conftest import Consumer, eventually
from tests.support.browser import CHROMIUM, Browser, browsing
from tests.support.console import ConsolePage
from tests.support.terminal import Terminal

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"
WAIT = {"Prefer": "wait=25"}
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'><svg onload=alert(3)>\u202ejavascript:alert(4)\x07"
BIG = 9007199254740993  # 2**53 + 1, which JavaScript rounds
BANK = {
    "path": "/payments/{idempotency_key}",
    "after": [3600],
    "received": [
        {
            "status": 200,
            "where": [
                {"pointer": "/key", "values": ["{idempotency_key}"]},
                {"pointer": "/state", "values": ["executed"]},
            ],
        }
    ],
}
# Time that passes when the test says so, and a list of what is fetched.
CLOCK = """
{
  let now = Date.now();
  const due = [], real = window.fetch, live = window.setTimeout;
  Date.now = () => now;
  window.setTimeout = (run, ms = 0) => due.push({ run, at: now + ms });
  window.clearTimeout = (number) => { if (due[number - 1]) due[number - 1].run = null; };
  window.fetched = []; window.under = 0;
  window.fetch = async (...of) => {
    window.fetched.push(String(of[0])); window.under += 1;
    try { return await real(...of); } finally { live(() => { window.under -= 1; }, 50); }
  };
  window.pass = (seconds) => {
    now += 1000 * seconds;
    for (const each of due) if (each.run && each.at <= now) { const { run } = each; each.run = null; run(); }
  };
  window.hide = (hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  };
}
"""


class Malicious(Partner):
    """A partner whose answers try to be more than text."""

    def __init__(self, *, port: int) -> None:
        super().__init__(port=port, report=lambda _: None, address="127.0.0.3")

    def behave(self, call: Call) -> Reply:
        """Every answer is hostile."""
        del call
        headers = (("Content-Type", "text/html"), ("X-Evil", "<img src=x onerror=alert(5)>"))
        return Reply(status=422, content=HOSTILE, headers=headers)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser"), finds="127.0.0.1") as running:
        yield running


@pytest.fixture(scope="module")
def user(stack: Stack, consumer: Consumer) -> Consumer:
    """Whose destinations the pages show."""
    user, url = replace(consumer, uses=[]), stack.partner.url
    for destination in (
        {"name": "bank", "base_url": url, "guarantee": "at_most_once", "reconcile": BANK},
        {"name": "statuses", "base_url": f"{url}/status", "retry": {"schedule": [0]}},
        {"name": "silent", "base_url": url, "signing": [{"type": "standard_webhooks"}], "limits": {"rate": 100}},
    ):
        assert user.call("POST", "/v1/destinations", body=destination).status == 201
    return user


@pytest.fixture(scope="module")
def console(stack: Stack, browser: Browser, user: Consumer) -> ConsolePage:
    """Opened once, signed in."""
    console = ConsolePage(browser, f"{stack.url}/console")
    console.sign_in(user.token)
    return console


@pytest.fixture(autouse=True)
def nothing_is_refused(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: the policy refused nothing, and no script failed."""
    yield
    if "console" in request.fixturenames:
        assert request.getfixturevalue("console").refused() == []


def made(user: Consumer, destination: str, path: str, *, key: str | None = None, **members: Any) -> dict[str, Any]:
    """A delivery that was waited for."""
    headers = WAIT | ({"Idempotency-Key": key} if key else {})
    if "not_before" in members:
        headers.pop("Prefer")
    body = {"destination": destination, "path": path, "body": {"amount": 10}, **members}
    answer = user.call("POST", "/v1/deliveries", body=body, headers=headers)
    assert answer.status in (200, 202), answer.body
    delivery: dict[str, Any] = answer.json
    return delivery


def later() -> str:
    return (datetime.now(UTC) + timedelta(days=2)).isoformat()


def state_of(user: Consumer, delivery: dict[str, Any]) -> str:
    return str(user.delivery(delivery["delivery_id"])["state"])


# ---- Signing in, and what may be wrong


def test_a_wrong_token_is_one_clear_line_and_a_good_one_stays_only_by_choice(
    stack: Stack, browser: Browser, user: Consumer
) -> None:
    console = ConsolePage(browser, f"{stack.url}/console")
    console.enter(f"spt_{'A' * 43}")
    console.sees("This token does not work: it is wrong, was revoked, or has expired.")
    console.enter("not a token \u00e4")
    console.sees("This token does not work")
    console.sign_in(user.token)
    console.sees("By destination")
    assert console.run("sessionStorage.length + localStorage.length + document.cookie.length") == 0
    console.run("location.reload()")
    console.wait("document.querySelector('.sign-in') !== null")
    console.sign_in(user.token, keep=True)
    console.run("window.old = true; location.reload()")
    console.wait("window.old !== true && document.getElementById('main') !== null")
    console.sees("By destination")
    console.click("Sign out")
    console.wait("document.querySelector('.sign-in') !== null")
    assert console.run("sessionStorage.length") == 0
    assert console.refused() == []


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("Promise.reject(new TypeError('failed'))", "The server does not answer. Check that it runs"),
        (
            'new Response(\'{"message":"Missing Authentication Token"}\', {status: 403})',
            "is not the API: the stage is missing from the address",
        ),
        (
            'new Response(\'{"type":"urn:sallyport:problem:not-found","title":""}\', '
            "{status: 404, headers: {'Content-Type': 'application/problem+json'}})",
            "This server is older than the console: it has no /v1/",
        ),
        ("new Response('<h1>Login</h1>', {status: 502})", "Something that is not Sallyport answered at"),
        ("new Response('<h1>Login</h1>', {status: 200})", "Something that is not Sallyport answered at"),
        (
            'new Response(\'{"type":"urn:sallyport:problem:unavailable"}\', '
            "{status: 503, headers: {'Content-Type': 'application/problem+json', 'Retry-After': '5'}})",
            "The database is not there yet. Again in 5 s.",
        ),
    ],
)
def test_what_is_wrong_with_the_server_is_one_clear_line(console: ConsolePage, answer: str, line: str) -> None:
    console.run(f"window.real = fetch; window.fetch = async () => {answer}; 0")
    try:
        console.go("now", until=line)
        assert len(console.run("document.getElementById('fault').textContent")) < 160
    finally:
        console.run("window.fetch = window.real; 0")


def test_a_token_that_has_ended_leads_back_to_the_sign_in(stack: Stack, browser: Browser, user: Consumer) -> None:
    console = ConsolePage(browser, f"{stack.url}/console")
    console.sign_in(user.token)
    console.run(
        "window.fetch = async () => new Response('{}', "
        "{status: 401, headers: {'Content-Type': 'application/problem+json'}}); 0"
    )
    console.run("location.hash = '#/audit'")
    console.sees("has expired. Operators issue tokens.")
    console.wait("document.querySelector('.sign-in') !== null")


@pytest.fixture
def staged(stack: Stack) -> Iterator[str]:
    """The stack's address behind a stage, as API Gateway has it."""

    class Stage(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            assert self.path.startswith("/prod/"), self.path
            headers = {name: value for name, value in self.headers.items() if name != "Accept-Encoding"}
            asked = urllib.request.Request(stack.url + self.path.removeprefix("/prod"), headers=headers)  # noqa: S310
            with urllib.request.urlopen(asked) as answer:  # noqa: S310 - the stack's own
                self.send_response(answer.status)
                for name in ("Content-Type", "Content-Security-Policy"):
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
                self.end_headers()
                self.wfile.write(answer.read())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/prod"
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_works_behind_the_prefix_of_a_stage(staged: str, browser: Browser, user: Consumer) -> None:
    console = ConsolePage(browser, f"{staged}/console")
    console.sign_in(user.token)
    console.sees("By destination", "bank")
    fetched = console.run("performance.getEntriesByType('resource').map((each) => each.name)")
    assert all(address.startswith(f"{staged}/") for address in fetched if "favicon" not in address), fetched
    assert console.refused() == []


# ---- Pages


def test_now_shows_what_flows_waits_and_fails(console: ConsolePage, user: Consumer) -> None:
    unknown = made(user, "bank", "/lose/payments", metadata={"invoice": BIG})
    made(user, "statuses", "/404")
    console.go("now", until="Needs you")
    console.sees("Delivered, last hour", "Waiting now", "Failed, last hour", "statuses", "matches")
    console.click("? unknown")
    console.sees("It may have happened", unknown["idempotency_key"])


def test_deliveries_are_filtered_by_the_address(console: ConsolePage, user: Consumer) -> None:
    found = made(user, "statuses", "/418", key="filtered-by-the-address")
    other = made(user, "bank", "/orders")
    console.go("deliveries", until="newest first")
    console.fill("state", "failed")
    console.wait("location.hash.includes('state=failed')")
    console.fill("destination", "statuses")
    console.click("Find")
    console.wait("location.hash.includes('destination=statuses')")
    console.sees("/418")
    console.never_sees(other["delivery_id"][-8:])
    console.run("history.back()")
    console.wait("!location.hash.includes('destination')")
    console.go("deliveries?status=4xx&outcome=answered&destination=statuses&since=1h", until=found["delivery_id"][-8:])
    console.go("deliveries?state=nonsense", until="the request has fields that cannot be accepted")


def test_failures_are_grouped_and_replayed_after_their_impact_was_shown(console: ConsolePage, user: Consumer) -> None:
    for path in ("/404", "/500"):
        made(user, "statuses", path)
    console.go("deliveries?state=failed&destination=statuses&view=groups", until="Answered with 5xx")
    console.sees("Answered with 4xx", "For example", "may have happened")
    before = len(user.call("GET", "/v1/jobs").json["jobs"])
    console.run(
        "[...document.querySelectorAll('.card')].find((card) => card.innerText.includes('5xx'))"
        ".querySelector('button').click()"
    )
    console.sees("May have happened already", "it may act twice", "How many become due per second")
    assert len(user.call("GET", "/v1/jobs").json["jobs"]) == before  # so far it only counted
    console.fill("rate", "50")
    console.click("Replay ")
    console.sees("The job has begun", "replay", "of 1")
    (job, *_) = user.call("GET", "/v1/jobs").json["jobs"]
    assert (job["act"], job["destination"], job["status_class"], job["rate"]) == ("replay", "statuses", 5, 50.0)


def test_a_job_is_paused_resumed_and_canceled(console: ConsolePage, user: Consumer) -> None:
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    body = {"state": "delivered", "since": since, "rate": 0.001}
    made(user, "bank", "/orders")
    job = user.call("POST", "/v1/replays", body=body).json["job_id"]
    console.go("jobs", until="running")
    for act, state in (("pause", "paused"), ("resume", "running"), ("cancel", "canceled")):
        console.click(act)
        console.sees(state)
        assert user.call("GET", f"/v1/jobs/{job}").json["state"] == state


def test_pending_deliveries_are_canceled_together(console: ConsolePage, user: Consumer) -> None:
    pending = [made(user, "silent", "/orders", not_before=later()) for _ in range(2)]
    console.go("deliveries?state=pending&destination=silent", until="not before")
    console.click("Cancel all that match")
    console.sees("They are never sent", "none of them")
    console.click("Cancel 2")
    console.sees("The job has begun")
    for delivery in pending:
        assert user.finished(delivery["delivery_id"])["state"] == "canceled"


def test_a_delivery_shows_its_life_its_phases_and_its_exact_bytes(console: ConsolePage, user: Consumer) -> None:
    secret = {"X-Api-Key": "s3cret-of-the-caller", "Accept": "application/json"}
    delivery = made(user, "statuses", "/404", headers=secret, query="a=1", metadata={"invoice": BIG})
    console.go(f"deliveries/{delivery['delivery_id']}", until="Attempt 1")
    assert "It is failed. It was: pending" in console.run(
        "document.querySelector('svg.machine').getAttribute('aria-label')"
    )
    assert console.run("document.querySelectorAll('.phase').length") >= 3
    console.sees("left from 127.0.0.1", "reached 127.0.0.1", "in all", "SHA-256", str(BIG), "answered 404")
    console.click("Hex")
    console.sees("000000  7b")
    console.click("Text")
    console.sees('{"status"')
    console.click("Copy as curl")
    console.sees("Without the destination")
    shown = console.run("document.querySelector('dialog[open] pre').textContent")
    assert "/status/404?a=1'" in shown
    assert f"Idempotency-Key: {delivery['idempotency_key']}" in shown
    assert '"X-Api-Key: $X_API_KEY"' in shown
    assert "s3cret" not in shown
    console.press("Escape")
    console.done()


def test_a_pending_delivery_is_moved_sent_now_and_another_one_canceled(console: ConsolePage, user: Consumer) -> None:
    delivery = made(user, "bank", "/orders", not_before=later())
    console.go(f"deliveries/{delivery['delivery_id']}", until="not before")
    console.click("Move")
    moved = (datetime.now() + timedelta(days=3)).replace(microsecond=0)  # noqa: DTZ005 - the browser's own zone
    console.fill("at", moved.isoformat())
    console.click("Move it")
    console.done()
    at = datetime.fromisoformat(user.delivery(delivery["delivery_id"])["next_attempt_at"])
    assert at == moved.astimezone(UTC)
    console.click("Send now")
    console.sees("does not wait for its time")
    console.click("Send now")
    console.done()
    assert user.finished(delivery["delivery_id"])["state"] == "delivered"
    console.sees("The partner answered with 2xx")
    other = made(user, "bank", "/orders", not_before=later())
    console.go(f"deliveries/{other['delivery_id']}", until="not before")
    console.click("Cancel…")
    console.click("Cancel it")
    console.sees("It was canceled before it was sent")
    assert state_of(user, other) == "canceled"


def test_a_failed_delivery_is_retried_and_its_payload_expunged_after_a_second_thought(
    console: ConsolePage, user: Consumer
) -> None:
    delivery = made(user, "statuses", "/404")
    identifier = delivery["delivery_id"]
    console.go(f"deliveries/{identifier}", until="was not delivered")
    console.click("Retry")
    console.sees("under the same idempotency key")
    console.click("Retry now")
    console.done()
    eventually(lambda: user.delivery(identifier)["attempts_made"] == 2)
    console.go(f"deliveries/{identifier}", until="Attempt 2")
    console.click("Expunge")
    console.fill("end", "wrong")
    console.click("Expunge")
    console.sees("That is not")
    assert user.delivery(identifier)["payload"] == "whole"
    console.fill("end", identifier[-6:])
    console.click("Expunge")
    console.sees("Expunged.")
    console.done()
    assert user.delivery(identifier)["payload"] == "expunged"


def test_an_unknown_delivery_is_asked_about_and_another_resolved_with_a_note(
    console: ConsolePage, user: Consumer
) -> None:
    asked = made(user, "bank", "/lose/payments", key="asked-about")
    mute = made(user, "silent", "/hang-up", key="resolved-by-hand")
    assert (state_of(user, asked), state_of(user, mute)) == ("unknown", "unknown")
    console.go("unknown", until="asked-about")
    console.sees("the connection was closed before any answer", "nobody asks", "resolved-by-hand")
    card = "[...document.querySelectorAll('.card')].find((card) => card.innerText.includes('{}'))"
    console.run(f"[...{card.format('asked-about')}.querySelectorAll('button')][1].click()")
    console.sees("The partner was asked: it is delivered.")
    console.wait(f"{card.format('asked-about')} === undefined")
    assert user.delivery(asked["delivery_id"])["resolved_by"] == "reconcile"
    console.run(f"{card.format('resolved-by-hand')}.querySelector('a').focus()")
    console.press("a")
    console.sees("reconcile")  # its destination has none
    console.press("r")
    console.sees("What became of it?", "The partner does not have it")
    console.choose("Failed")
    console.fill("note", "asked Ms Weber <b>by phone</b>")
    console.click("Resolve")
    console.done()
    console.wait(f"{card.format('resolved-by-hand')} === undefined")
    resolved = user.delivery(mute["delivery_id"])
    assert (resolved["state"], resolved["note"]) == ("failed", "asked Ms Weber <b>by phone</b>")
    console.go(f"deliveries/{mute['delivery_id']}", until="asked Ms Weber <b>by phone</b>")


@pytest.fixture
def second(stack: Stack) -> list[Consumer]:
    """Two tokens of a tenant that wants four eyes, with a destination that loses answers."""
    admin = stack.functions["AdminFunction"]
    tokens = [admin.invoke({"action": "issue_token", "tenant": "console-four-eyes"})["token"] for _ in range(2)]
    admin.invoke({"action": "set_approvals", "tenant": "console-four-eyes", "above": 0})
    both = [Consumer(port=stack.front.port, token=token) for token in tokens]
    body = {"name": "silent", "base_url": stack.partner.url}
    assert both[0].call("POST", "/v1/destinations", body=body).status == 201
    return both


def test_a_resolution_waits_for_a_second_token_where_the_tenant_wants_that(
    stack: Stack, browser: Browser, second: list[Consumer]
) -> None:
    one, other = second
    delivery = made(one, "silent", "/hang-up")
    console = ConsolePage(browser, f"{stack.url}/console")
    console.sign_in(one.token)
    console.go(f"deliveries/{delivery['delivery_id']}", until="Resolve")
    console.click("Resolve…")
    console.choose("Delivered")
    console.click("Resolve")
    console.sees("It waits under Approvals")
    console.go("approvals", until="delivery.resolve")
    console.click("Approve…")
    console.click("Approve")
    console.sees("another one has to approve it")
    assert state_of(one, delivery) == "unknown"
    console.click("Not now")
    console.done()
    console.click("Sign out")
    console.sign_in(other.token)
    console.go("approvals", until="delivery.resolve")
    console.click("Approve…")
    console.click("Approve")
    console.sees("Approved, and done.")
    assert state_of(one, delivery) == "delivered"
    assert console.refused() == []


def test_a_destination_is_verified_paused_resumed_changed_and_its_key_rotated(
    console: ConsolePage, user: Consumer
) -> None:
    console.go("destinations", until="at most once")
    console.sees("bank", "silent", "100")
    console.click("silent")
    console.sees("Circuit breaker", "nobody: unknown ones wait for a person")
    console.click("Verify")
    console.sees("Verified: answered", "Left from")
    console.click("Good")
    console.click("Pause")
    console.fill("reason", "maintenance")
    console.click("Pause")
    console.sees("It is paused.", "maintenance")
    assert user.call("GET", "/v1/destinations/silent").json["state"] == "paused"
    console.click("Resume")
    console.click("Resume")
    console.sees("It is resumed.")
    console.click("Edit")
    console.fill("patch", '{"timeouts": {"total_seconds": 9,}')
    console.click("Change")
    console.sees("This is not JSON")
    console.fill("patch", '{"timeouts": {"total_seconds": 99}}')
    console.click("Change")
    console.sees("/timeouts/total_seconds")
    console.fill("patch", '{"timeouts": {"first_byte_seconds": 8, "total_seconds": 9}}')
    console.click("Change")
    console.sees("Changed.", "in all 9")
    assert user.call("GET", "/v1/destinations/silent").json["timeouts"]["total_seconds"] == 9
    console.click("Rotate a key")
    console.click("Rotate")
    console.sees("is shown this once", "whsec_")
    console.click("Not now")
    console.done()
    assert len(user.call("GET", "/v1/destinations/silent").json["signing"][0]["keys"]) == 2


def test_a_change_is_not_made_to_a_version_that_nobody_saw(console: ConsolePage, user: Consumer) -> None:
    console.go("destinations/bank", until="What is asked of it")
    console.click("Edit")
    assert user.call("PATCH", "/v1/destinations/bank", body={"verify": {"path": "/orders"}}).status == 200
    console.fill("patch", '{"idempotent": true}')
    console.click("Change")
    console.sees("version")
    assert user.call("GET", "/v1/destinations/bank").json["idempotent"] is False
    console.press("Escape")
    console.done()


def test_egress_shows_what_partners_must_allow_and_checks_it_now(console: ConsolePage) -> None:
    console.go("egress", until="Addresses to allow, as of")
    console.sees("matches", "127.0.0.1/32")
    console.click("Check now")
    console.sees("Seen from outside", "Published")
    console.click("Good")
    console.done()


def test_the_audit_log_is_searched_and_verified_in_the_browser(console: ConsolePage, user: Consumer) -> None:
    console.go("audit?what=destination.created", until="destination.created")
    console.never_sees("token.issued")
    console.click("Verify the chain here")
    console.sees("The chain is whole")
    (newest,) = user.call("GET", "/v1/audit?limit=1").json["entries"]
    console.sees(f"{newest['sequence']} entries", newest["hash"])


def test_a_chain_that_was_touched_is_not_verified(console: ConsolePage, user: Consumer) -> None:
    lines = user.call("GET", "/v1/audit/export").body.decode().splitlines()[:3]
    one, two, three = lines
    at = str(console.run("document.scripts[0].src")).rpartition("/")[0]
    verify = f"import({json.dumps(at + '/audit.js')}).then(({{ verifyLines }}) => verifyLines(%s))"
    caught = f"{verify}.then(({{ sequence }}) => `whole ${{sequence}}`, (error) => error.message)"
    assert console.run(caught % json.dumps(lines)) == "whole 3"
    for touched, fault in (
        ([one, two.replace('"by":"', '"by":"x'), three], "entry 2 was changed"),
        ([one, three], "missing or moved after entry 1"),
        ([two, one, three], "missing or moved after entry 0"),
        ([one, two, two], "missing or moved after entry 2"),
        ([one, "{}", three], "after entry 1 is not an entry"),
        ([one, two.replace('"sequence":2', '"sequence":2 '), three], "after entry 1 is not an entry"),
    ):
        assert fault in console.run(caught % json.dumps(touched))


def test_the_token_page_says_what_the_token_may_do(stack: Stack, browser: Browser) -> None:
    token = stack.functions["AdminFunction"].invoke({"action": "issue_token", "tenant": TENANT, "scopes": ["read"]})
    console = ConsolePage(browser, f"{stack.url}/console")
    console.sign_in(token["token"])
    console.go("token", until="Operators issue")
    marks = console.run(
        "[...document.querySelectorAll('tbody tr')].map((row) => row.cells[2].innerText.slice(2, 9).trim())"
    )
    assert [mark.startswith("may not") for mark in marks] == [False, True, True]


# ---- docs/tour.md


def test_the_tour_leads_to_the_first_resolved_unknown(
    stack: Stack, console: ConsolePage, user: Consumer, tmp_path: Path
) -> None:
    terminal = Terminal(
        directory=tmp_path,
        variables={"TOKEN": user.token},
        instead={"http://127.0.0.1:8080": stack.url, "http://127.0.0.1:8081": stack.partner.url},
    )
    (tmp_path / ".sallyport").mkdir()
    (tmp_path / ".sallyport" / "token").write_text(user.token, encoding="utf-8")
    assert terminal.types("docs/tour.md", "TOKEN=", then="echo $TOKEN") == f"{user.token}\n"
    terminal.types("docs/tour.md", "curl http://127.0.0.1:8080/v1/destinations")
    terminal.types(
        "docs/tour.md", 'curl http://127.0.0.1:8080/v1/deliveries -H "Authorization: Bearer $TOKEN" -H "Idem'
    )
    (lost,) = user.call("GET", "/v1/deliveries?idempotency_key=tour-rent").json["deliveries"]
    assert lost["state"] == "unknown"
    paid = terminal.types("docs/tour.md", "curl http://127.0.0.1:8081/payments/tour-rent")
    assert json.loads(paid)["state"] == "executed"
    console.go("now", until="Needs you")
    console.go("unknown", until="tour-rent")
    console.sees("the connection was closed before any answer")
    console.go(f"deliveries/{lost['delivery_id']}", until="It may have happened")
    console.click("Resolve…")
    console.choose("Delivered")
    console.fill("note", "GET /payments/tour-rent says executed")
    console.click("Resolve")
    console.sees("It was unknown, and is resolved as delivered", "GET /payments/tour-rent says executed")
    entries = user.call("GET", f"/v1/audit?on={lost['delivery_id']}").json["entries"]
    assert "delivery.resolved" in {entry["what"] for entry in entries}


# ---- What must never happen


def test_a_partners_bytes_are_never_more_than_text(stack: Stack, console: ConsolePage, user: Consumer) -> None:
    partner = Malicious(port=stack.partner.port)
    partner.start()
    try:
        base = f"http://127.0.0.3:{stack.partner.port}"
        body = {"name": "malicious", "base_url": base, "retry": {"schedule": [0]}}
        assert user.call("POST", "/v1/destinations", body=body).status == 201
        delivery = made(
            user,
            "malicious",
            "/x",
            headers={"X-Mine": "<img src=x onerror=alert(6)>"},
            metadata={HOSTILE: HOSTILE, "__proto__": {"x": 1}},
            ordering_key="<img src=x onerror=alert(7)>",
        )
        delivery = user.finished(delivery["delivery_id"])
    finally:
        partner.stop()
    pause = user.call("POST", "/v1/destinations/malicious/pause", body={"reason": "<img src=x onerror=alert(8)>"})
    assert pause.status == 200
    for page, until in (
        (f"deliveries/{delivery['delivery_id']}", "answered 422"),
        ("deliveries?destination=malicious", "/x"),
        ("destinations/malicious", "onerror=alert(8)"),
        ("now", "malicious"),
        ("audit", "destination.paused"),
    ):
        console.go(page, until=until)
        assert console.run("document.querySelectorAll('main img, main script, main iframe').length") == 0
    console.go(f"deliveries/{delivery['delivery_id']}", until="answered 422")
    console.sees("<img src=x onerror=alert(1)>", "[U+202E]", "\u2407", "<img src=x onerror=alert(5)>")
    assert console.run("window.owned") == []
    assert console.run("({}).x") is None


def test_an_idle_tab_and_a_hidden_one_ask_for_nothing(stack: Stack, browser: Browser, user: Consumer) -> None:
    console = ConsolePage(browser, f"{stack.url}/console", before=CLOCK)
    console.sign_in(user.token)
    console.sees("Asks again every 15 s")

    def after(seconds: int) -> int:
        """How many requests follow."""
        console.wait("window.under === 0")
        before = console.run("window.fetched.length")
        console.run(f"window.pass({seconds})")
        console.wait("window.under === 0")
        return int(console.run("window.fetched.length")) - int(before)

    assert after(14) == 0
    assert after(2) == 3  # stats, unknown ones, addresses
    console.run("window.hide(true)")
    assert after(3600) == 0
    console.run("window.hide(false)")
    console.wait("window.under === 0")
    console.sees("Asks again every 15 s")
    assert after(16) == 3
    assert after(301) == 0
    console.sees("Paused: nobody has used this tab for a while.")
    assert after(86400) == 0
    console.press("Shift")
    console.sees("Asks again every 15 s")
    assert console.refused() == []


def test_the_keyboard_is_enough(console: ConsolePage, user: Consumer) -> None:
    delivery = made(user, "statuses", "/404")
    console.go("deliveries?state=failed&destination=statuses", until="newest first")
    console.run("document.activeElement.blur()")
    console.press("j")
    console.press("j")
    assert (
        console.run("[...document.querySelectorAll('[data-row]')].indexOf(document.activeElement.closest('tr'))") == 1
    )
    console.press("k")
    first = console.run("document.activeElement.hash")
    assert first == f"#/deliveries/{delivery['delivery_id']}"
    console.press("?")
    console.sees("the next or previous row")
    console.press("Escape")
    console.done()
    console.press("g")
    console.press("u")
    console.wait("location.hash === '#/unknown'")
    console.run("document.activeElement.blur()")
    console.press("/")
    assert console.run("document.activeElement.id") == "search"
    console.run(f"document.activeElement.value = {json.dumps(delivery['delivery_id'])}")
    console.run("document.activeElement.form.requestSubmit()")
    console.sees("Attempt 1")


def test_axe_finds_no_fault_on_any_page_light_dark_or_narrow(stack: Stack, browser: Browser, user: Consumer) -> None:
    if not AXE.is_file():
        pytest.skip("the npm package axe-core is not installed: npm was missing, or could not fetch it")
    source = AXE.read_text(encoding="utf-8")
    failed = made(user, "statuses", "/404", headers={"Accept": "application/json"})
    made(user, "bank", "/lose/payments")
    console = ConsolePage(browser, f"{stack.url}/console")
    assert console.faults_by_axe(source) == []
    console.sign_in(user.token)
    for scheme, width in (("light", 1280), ("dark", 390)):
        console.page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        console.page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        for path, until in (
            ("now", "Needs you"),
            ("deliveries?state=failed", "newest first"),
            ("deliveries?state=failed&view=groups", "For example"),
            (f"deliveries/{failed['delivery_id']}", "Attempt 1"),
            ("unknown", "What is known"),
            ("destinations", "bank"),
            ("destinations/bank", "Circuit breaker"),
            ("jobs", "Jobs"),
            ("approvals", "Nothing waits"),
            ("egress", "Addresses to allow"),
            ("audit", "destination.created"),
            ("token", "Operators issue"),
        ):
            console.go(path, until=until)
            assert console.faults_by_axe(source) == [], (scheme, path)
            assert console.run("document.documentElement.scrollWidth <= innerWidth"), (scheme, path)
    console.go("unknown", until="What is known")
    console.click("Resolve…")
    assert console.faults_by_axe(source) == []
