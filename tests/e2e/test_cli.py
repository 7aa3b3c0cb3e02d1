"""The command `sallyport` against the whole local stack."""

import http.server
import json
import re
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.demonstration import TENANT
from local.stack import Stack
from sallyport.cli import deliveries
from tests.e2e.conftest import Consumer, Holding
from tests.support.command_line import CommandLine

BIG = 9_007_199_254_740_993  # 2^53 + 1, which a double cannot hold


@pytest.fixture(scope="module")
def owner(stack: Stack, consumer: Consumer, other: Holding) -> Consumer:
    """With destinations of this file's own: one answers when it is released, one never."""
    for name, base_url in {
        "cli-other": f"http://127.0.0.2:{other.port}",
        "cli-nobody": f"http://127.23.45.68:{stack.partner.port}",
    }.items():
        assert consumer.call("POST", "/v1/destinations", body={"name": name, "base_url": base_url}).status == 201
    return consumer


@pytest.fixture(scope="module")
def cli(stack: Stack, owner: Consumer, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Somebody with a profile of the stack."""
    home = tmp_path_factory.mktemp("home")
    (home / "token").write_text(f"{owner.token}\n", encoding="utf-8")
    cli = CommandLine(home=home)
    made = cli("profile", "set", "here", "--url", stack.url, "--token-file", str(home / "token"))
    assert (made.code, made.err) == (0, "")
    return cli


@pytest.fixture(scope="module")
def unknown_id(cli: CommandLine) -> str:
    """A payment that was made and whose answer was lost."""
    sent = cli("send", "partner", "/lose/payments", "-d", '{"amount": 10}', "--wait", "20", "--json")
    assert (sent.code, sent.json["state"]) == (3, "unknown")
    return str(sent.json["delivery_id"])


# ---- send


def test_a_delivery_is_sent_and_its_answer_is_shown_with_its_phases(cli: CommandLine) -> None:
    sent = cli("send", "partner", "/orders?dry=1", "-d", '{"amount": 10}', "-w", "20", "-m", "order=4711")
    assert sent.code == 0
    assert re.search(r"delivered\s+request +POST partner /orders\?dry=1", sent.out)
    assert "first byte ms" in sent.out
    assert re.search(r"1 +\S+ +answered 201", sent.out)
    assert re.fullmatch(r"key [0-9a-f]{12}-[0-9a-f]{20}\n", sent.err)


def test_without_waiting_it_ends_as_soon_as_the_delivery_is_accepted(cli: CommandLine) -> None:
    sent = cli("send", "cli-nobody", "/orders", "--json")
    assert (sent.code, sent.json["state"]) == (0, "pending")


def test_a_repeat_under_the_same_key_makes_no_second_delivery(cli: CommandLine, key: str) -> None:
    words = ("send", "partner", "/orders", "-d", "x", "-k", key, "--json")
    first, second = cli(*words), cli(*words)
    assert first.json["delivery_id"] == second.json["delivery_id"]
    assert first.err == ""


def test_a_body_of_json_arrives_byte_for_byte(cli: CommandLine, stack: Stack, key: str, tmp_path: Path) -> None:
    text = f'{{ "amount": {BIG},\n  "rate": 0.10000000000000000000000001 }}'
    (tmp_path / "body.json").write_text(text, encoding="utf-8")
    for data, stdin in ((f"@{tmp_path / 'body.json'}", b""), ("@-", text.encode())):
        assert (
            cli("send", "partner", "/orders", "-d", data, "-k", f"{key}{len(stdin)}", "-w", "20", stdin=stdin).code == 0
        )
        (call,) = [call for call in list(stack.partner.calls) if call.idempotency_key == f"{key}{len(stdin)}"]
        assert call.body == text.encode()
        assert call.headers["content-type"] == "application/json"


def test_a_body_that_is_no_text_arrives_as_it_is(cli: CommandLine, stack: Stack, key: str) -> None:
    sent = cli(
        "send",
        "partner",
        "/orders",
        "-d",
        "@-",
        "-H",
        "Content-Type: application/octet-stream",
        "-k",
        key,
        "-w",
        "20",
        stdin=b"\xff\x00",
    )
    assert sent.code == 0
    assert [call.body for call in list(stack.partner.calls) if call.idempotency_key == key] == [b"\xff\x00"]


def test_numbers_keep_their_digits_on_their_way_back(cli: CommandLine, owner: Consumer) -> None:
    text = f'{{"destination": "partner", "path": "/orders", "metadata": {{"n": {BIG}, "r": -1.50}}}}'
    delivery_id = owner.call("POST", "/v1/deliveries", body=text.encode()).json["delivery_id"]
    for printed in (cli("show", delivery_id, "--json"), cli("list", "-n", "5", "--json")):
        assert f'"n": {BIG}' in printed.out
        assert '"r": -1.5' in printed.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("send", "partner", "-H", "no colon"), "a header is 'Name: value', not 'no colon'"),
        (("send", "partner", "-m", "order"), "it is NAME=VALUE, not 'order'"),
        (("send", "partner", "-d", "@/nowhere/at/all"), "/nowhere/at/all cannot be read (No such file or directory)"),
        (("send", "partner", "-w", "26"), "26 is not in the range 1<=x<=25"),
        (("send",), "Missing argument 'DESTINATION'"),
        (("show",), "give the delivery's id, or the --key that it was sent with"),
        (("resolve", "x", "--key", "y", "--as", "failed"), "give the delivery's id, or the --key"),
    ],
)
def test_a_wrong_command_says_what_would_be_right_and_sends_nothing(
    cli: CommandLine, words: tuple[str, ...], said: str
) -> None:
    wrong = cli(*words)
    assert (wrong.code, wrong.out) == (2, "")
    assert said in wrong.err


def test_what_the_api_refuses_is_said_in_one_line_that_says_that_nothing_has_happened(cli: CommandLine) -> None:
    refused = cli("send", "partner", "no-slash", "--not-before", "soon")
    assert refused.code == 5
    line = refused.err.splitlines()[-1]
    assert line.startswith("sallyport: The request has fields that cannot be accepted (")
    assert line.endswith("Nothing has happened.")
    unknown = cli("send", "no-such-destination", "/orders", "-k", "a-key")
    assert (unknown.code, unknown.err) == (
        5,
        "sallyport: The resource does not exist (there is no such destination). Nothing has happened.\n",
    )


# ---- show, list


def test_an_unknown_outcome_is_shown_with_what_a_person_does_about_it(cli: CommandLine, unknown_id: str) -> None:
    shown = cli("show", unknown_id)
    assert shown.code == 0
    assert re.search(r"answered|unknown: ", shown.out)
    assert f"sallyport resolve {unknown_id} --as delivered|failed|again" in shown.err
    assert cli("show", unknown_id, "--wait", "1").code == 3


def test_a_delivery_that_does_not_exist_is_said_not_to(cli: CommandLine) -> None:
    for wrong in ("01a203c7-77fb-788f-a3b0-54d47b8c9561", "../egress", "x y"):
        shown = cli("show", wrong)
        assert (shown.code, shown.out) == (5, "")
        assert (
            shown.err == "sallyport: The resource does not exist (there is no such delivery). Nothing has happened.\n"
        )


def test_a_delivery_is_named_by_its_key_too(cli: CommandLine, key: str) -> None:
    sent = cli("send", "partner", "/lose/payments", "-k", key, "-w", "20", "--json").json
    assert cli("show", "--key", key, "--json").json["delivery_id"] == sent["delivery_id"]
    assert cli("tail", "--key", key).code == 3
    assert cli("resolve", "--key", key, "--as", "failed").code == 0
    assert cli("retry", "--key", key, "--json").json["delivery_id"] == sent["delivery_id"]
    none = cli("cancel", "--key", "nobody-sent-this")
    assert (none.code, none.err) == (
        5,
        "sallyport: no delivery has the key nobody-sent-this. Nothing has happened.\n",
    )


def test_the_list_is_narrowed_down_by_filters_and_by_a_number(cli: CommandLine, unknown_id: str) -> None:
    states = {delivery["state"] for delivery in cli("list", "--state", "unknown", "--json").lines}
    assert states == {"unknown"}
    found = cli("list", "--may-have-happened", "--outcome", "unknown", "-t", "partner", "--json").lines
    assert unknown_id in [delivery["delivery_id"] for delivery in found]
    listed = cli("list", "-n", "1")
    assert len(listed.out.splitlines()) == 2
    assert listed.err == "The newest 1; -n shows more.\n"
    assert cli("list", "--state", "lost").code == 2


def test_more_deliveries_than_a_page_has_are_listed_page_by_page(
    cli: CommandLine, owner: Consumer, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        made = owner.deliver(path="/orders", metadata={"of": key}, headers={"Idempotency-Key": f"{key}-{number}"})
        assert made.status == 202
    monkeypatch.setattr(deliveries, "PAGE", 1)
    found = cli("list", "-m", f"of={key}", "-n", "5", "--json").lines
    assert len({delivery["delivery_id"] for delivery in found}) == 3


def test_what_a_hostile_partner_answers_changes_nothing_in_the_terminal(
    cli: CommandLine, stack: Stack, owner: Consumer
) -> None:
    with Hostile(port=stack.partner.port):
        body = {"name": "hostile", "base_url": f"http://127.0.0.3:{stack.partner.port}"}
        assert owner.call("POST", "/v1/destinations", body=body).status == 201
        sent = cli("send", "hostile", "/x", "-d", "y", "-w", "20")
    assert sent.code == 1
    assert "\x1b" not in sent.out
    assert "\x9b" not in sent.out
    assert "\\x1b]0;owned\\x07" in sent.out
    assert "[bold]not bold[/bold]" in sent.out


class Hostile:
    """A partner whose answer tries to write to the reader's terminal."""

    def __init__(self, *, port: int) -> None:
        class Insulting(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = b"\x1b]0;owned\x07\x1b[2J \xc2\x9b31m [bold]not bold[/bold] \xe2\x80\xae"
                self.send_response(400)
                self.send_header("X-Evil", "[red]\x1b[31mred")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.3", port), Insulting)

    def __enter__(self) -> "Hostile":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# ---- tail


def test_a_delivery_is_followed_to_its_end_attempt_by_attempt(cli: CommandLine) -> None:
    delivery_id = cli("send", "partner", "/late/orders?seconds=1", "--json").json["delivery_id"]
    followed = cli("tail", delivery_id)
    assert followed.code == 0
    (attempt,) = [line for line in followed.out.splitlines() if "attempt 1" in line]
    assert re.search(r"answered 201  [\d.]+ ms \(.*first byte [\d.]+.*\)", attempt)
    assert followed.out.splitlines()[-1] == f"{delivery_id}  delivered"


def test_a_program_gets_each_attempt_and_the_delivery_on_a_line(cli: CommandLine, unknown_id: str) -> None:
    followed = cli("tail", unknown_id, "--json")
    assert followed.code == 3
    attempt, ended = followed.lines
    assert attempt["attempt"]["outcome"] == "unknown"
    assert ended["delivery"]["delivery_id"] == unknown_id


def test_what_has_not_ended_in_time_is_said_and_has_an_exit_code_of_its_own(cli: CommandLine, other: Holding) -> None:
    delivery_id = cli("send", "cli-other", "/hold", "--json").json["delivery_id"]
    waited = cli("tail", delivery_id, "--timeout", "1")
    assert (waited.code, waited.err.splitlines()[-1]) == (4, f"{delivery_id} has not ended: it is sending")
    other.released.set()
    assert cli("tail", delivery_id).code in (0, 3)  # the worker may have lost its lease by then


# ---- resolve, cancel, retry, ask


def test_an_unknown_delivery_is_resolved_and_a_second_time_changes_nothing(cli: CommandLine) -> None:
    sent = cli("send", "partner", "/lose/payments", "-w", "20", "--json")
    delivery_id = sent.json["delivery_id"]
    for _ in range(2):
        done = cli("resolve", delivery_id, "--as", "delivered", "--note", "on their statement", "--json")
        assert (done.code, done.json["state"], done.json["note"]) == (0, "delivered", "on their statement")
    wrong = cli("resolve", delivery_id, "--as", "failed")
    assert wrong.code == 5
    assert "The state does not allow this" in wrong.err
    assert wrong.err.endswith("Nothing has happened.\n")


def test_one_that_is_sent_again_keeps_its_key(cli: CommandLine, stack: Stack, key: str) -> None:
    sent = cli("send", "partner", "/lose/payments", "-k", key, "-w", "20", "--json")
    assert cli("resolve", sent.json["delivery_id"], "--as", "again").code == 0
    assert cli("tail", sent.json["delivery_id"]).code == 3
    assert len([call for call in list(stack.partner.calls) if call.idempotency_key == key]) == 2


def test_a_pending_delivery_is_canceled_and_a_failed_one_tried_again(cli: CommandLine) -> None:
    sent = cli("send", "partner", "/orders", "--not-before", "2099-01-01T00:00:00Z")
    assert sent.code == 5  # thirty days at most
    later = cli("send", "partner", "/orders", "--not-before", tomorrow(), "--json").json["delivery_id"]
    canceled = cli("cancel", later)
    assert canceled.code == 0
    assert "canceled" in canceled.out
    assert cli("show", later, "-w", "1").code == 1
    failed = cli("send", "partner", "/status/400", "-w", "20", "--json")
    assert failed.code == 1
    assert cli("retry", failed.json["delivery_id"]).code == 0
    assert cli("tail", failed.json["delivery_id"]).code == 1


def tomorrow() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).isoformat()


def test_the_partner_is_asked_only_where_the_destination_says_how(cli: CommandLine, unknown_id: str) -> None:
    asked = cli("ask", unknown_id)
    assert (asked.code, "does not say how its partner is asked" in asked.err) == (5, True)


# ---- profiles and errors


def test_a_wrong_token_is_one_clear_line(cli: CommandLine, stack: Stack) -> None:
    wrong = cli("list", SALLYPORT_TOKEN="spt_" + "A" * 43)
    assert (wrong.code, wrong.err) == (
        5,
        f"sallyport: the token of profile here was refused by {stack.url}: it was never issued, was revoked, or is "
        "over; ask an operator for another. Nothing has happened.\n",
    )


def test_a_token_without_the_scope_is_told_apart(cli: CommandLine, stack: Stack) -> None:
    command = {"action": "issue_token", "tenant": TENANT, "scopes": ["read"]}
    token = stack.functions["AdminFunction"].invoke(command)["token"]
    wrong = cli("send", "partner", "/orders", SALLYPORT_TOKEN=token)
    assert wrong.code == 5
    assert "The token does not allow this" in wrong.err


def test_an_api_that_is_away_is_one_clear_line(cli: CommandLine) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        away = cli("--url", url, "list", SALLYPORT_TOKEN="spt_x")
    assert away.code == 6
    assert re.fullmatch(rf"sallyport: no answer from {url}: .*refused.*\. Nothing has happened\.\n", away.err)
    unresolved = cli("--url", "http://no-such-host.invalid", "list", SALLYPORT_TOKEN="spt_x")
    assert unresolved.code == 6
    assert "its name does not resolve" in unresolved.err


def test_a_stage_too_many_and_a_stage_forgotten_are_one_clear_line(cli: CommandLine, stack: Stack) -> None:
    token = (cli.home / "token").read_text(encoding="utf-8").strip()
    too_many = cli("--url", f"{stack.url}/prod", "list", SALLYPORT_TOKEN=token)
    assert too_many.code == 5
    assert too_many.err.startswith(f"sallyport: there is no Sallyport at {stack.url}/prod: on API Gateway the URL ends")
    with Answering({"/v1/deliveries": (403, "application/json", b'{"message":"Forbidden"}')}) as gateway:
        forgotten = cli("--url", gateway.url, "list", SALLYPORT_TOKEN=token)
    assert forgotten.code == 5
    assert "on API Gateway the URL ends with the stage, such as /prod" in forgotten.err
    assert forgotten.err.count("\n") == 1


def test_an_old_server_is_one_clear_line(cli: CommandLine) -> None:
    problem = {
        "type": "urn:sallyport:problem:not-found",
        "title": "The resource does not exist",
        "status": 404,
        "detail": "There is nothing at this path. See /openapi.json.",
    }
    answers = {
        "/healthz": (200, "application/json", b'{"status": "ok", "version": "0.0.9"}'),
        "/v1/deliveries/x/ask": (404, "application/problem+json", json.dumps(problem).encode()),
    }
    with Answering(answers) as old:
        asked = cli("--url", old.url, "ask", "x", SALLYPORT_TOKEN="spt_x")
    assert (asked.code, asked.err) == (
        5,
        "sallyport: the server runs Sallyport 0.0.9, which does not know this call; this is sallyport 0.1.0. "
        "Nothing has happened.\n",
    )


class Answering:
    """What may be at an address instead of the API: fixed answers by path."""

    def __init__(self, answers: dict[str, tuple[int, str, bytes]]) -> None:
        class Fixed(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = answers[self.path.partition("?")[0]]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fixed)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Answering":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_page_of_something_else_is_not_taken_for_an_answer(cli: CommandLine) -> None:
    with Answering({"/v1/deliveries": (200, "text/html", b"<h1>Sign in</h1>")}) as portal:
        shown = cli("--url", portal.url, "list", SALLYPORT_TOKEN="spt_x")
    assert shown.code == 5
    assert "the answer (200, text/html) is not Sallyport's" in shown.err


def test_an_answer_that_is_lost_says_how_to_repeat_the_command(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def hang_up() -> None:
            for _ in range(2):
                connection, _ = silent.accept()
                connection.recv(65536)
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        lost = cli("--url", url, "send", "partner", "/orders", "-k", "order-1", SALLYPORT_TOKEN="spt_x")
    assert lost.code == 3
    assert lost.err.endswith("It may have happened: repeat it with --key order-1, which does nothing twice.\n")


def test_the_completion_of_shells_knows_the_commands(cli: CommandLine) -> None:
    completed = cli(_SALLYPORT_COMPLETE="bash_complete", COMP_WORDS="sallyport re", COMP_CWORD="1")
    assert {line.partition(",")[2] for line in completed.out.splitlines()} >= {"resolve", "retry"}


def test_what_is_unfinished_is_followed_where_no_delivery_is_named(cli: CommandLine) -> None:
    later = cli("send", "partner", "/orders", "--not-before", tomorrow(), "--json").json["delivery_id"]
    followed = cli("tail", "--timeout", "0")
    assert followed.code == 4
    assert later in followed.out
    assert cli("cancel", later).code == 0
