"""`sallyport via, replay, destinations, verify, egress, doctor, audit` against the whole local stack."""

import json
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.stack import Stack
from tests.e2e.conftest import Consumer
from tests.support.command_line import CommandLine

BIG = 9_007_199_254_740_993


@pytest.fixture(scope="module")
def cli(stack: Stack, consumer: Consumer, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    home = tmp_path_factory.mktemp("home")
    return CommandLine(home=home, variables={"SALLYPORT_URL": stack.url, "SALLYPORT_TOKEN": consumer.token})


def since(seconds: float = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


# ---- via


def test_a_call_is_passed_through_and_the_partners_own_answer_is_printed(
    cli: CommandLine, stack: Stack, key: str
) -> None:
    passed = cli("via", "partner", "/payments?a=1", "-d", f'{{"amount": {BIG}}}', "-H", "X-A: b", "-k", key, "-i")
    assert (passed.code, passed.err) == (0, "")
    assert passed.out.startswith("201 ")
    assert "sallyport-outcome: answered" in passed.out.lower()
    (call,) = [call for call in list(stack.partner.calls) if call.idempotency_key == key]
    assert (call.target, call.body.decode(), call.headers["x-a"]) == ("/payments?a=1", f'{{"amount": {BIG}}}', "b")
    assert call.headers["content-type"] == "application/json"
    again = cli("via", "partner", "/payments?a=1", "-d", f'{{"amount": {BIG}}}', "-k", key, "--json")
    assert again.json["headers"]["idempotency-replayed"] == ["true"]
    assert again.json["json"]["key"] == key


def test_a_partners_refusal_and_an_unknown_outcome_have_exit_codes_of_their_own(cli: CommandLine) -> None:
    assert cli("via", "partner", "status/404").code == 1
    lost = cli("via", "partner", "/lose/payments", "-d", "x", "-k", "of-the-cli")
    assert (lost.code, lost.out) == (3, "")
    assert "This is no time-out: the partner may have acted on it" in lost.err
    assert re.search(r"It may have happened: sallyport show [0-9a-f-]{36}\n$", lost.err)


def test_a_call_that_only_reads_has_no_key(cli: CommandLine) -> None:
    assert cli("via", "partner", "/ip") == cli("via", "partner", "ip")
    assert cli("via", "partner", "/ip").err == ""


# ---- replay


def test_a_replay_shows_its_impact_first_and_waits_for_its_job(cli: CommandLine, consumer: Consumer) -> None:
    body = {"name": "cli-replayed", "base_url": consumer.call("GET", "/v1/destinations/partner").json["base_url"]}
    assert consumer.call("POST", "/v1/destinations", body=body).status == 201
    start = since(1)
    for _ in range(2):
        assert cli("send", "cli-replayed", "/status/400", "-w", "20").code == 1
    words = ("replay", "--state", "failed", "--since", start, "-t", "cli-replayed")
    counted = cli(*words, "--dry-run", "--json")
    assert (counted.code, counted.json["count"]) == (0, 2)
    shown = cli(*words, "--dry-run")
    assert shown.err.startswith("2 deliveries go on under the same idempotency keys.\nThe oldest is of ")
    refused = cli(*words, stdin=b"n\n")
    assert refused.code == 130
    assert "Replay 2 deliveries? [y/N]" in refused.err
    begun = cli(*words, "--yes", "--rate", "100", "--no-wait", "--json")
    assert (begun.code, begun.json["expected"]) == (0, 2)
    none = cli("replay", "--state", "failed", "--since", since(), "-t", "cli-replayed")
    assert (none.code, none.err) == (0, "0 deliveries go on under the same idempotency keys.\n")


def test_a_job_is_watched_to_its_end(cli: CommandLine) -> None:
    start = since(1)
    assert cli("send", "partner", "/status/400", "-w", "20").code == 1
    done = cli("replay", "--state", "failed", "--since", start, "-t", "partner", "--yes")
    assert (done.code, re.sub("Job [^ ]+", "Job X", done.out)) == (0, "Job X is done: 1 changed, 0 skipped\n")


# ---- destinations


@pytest.fixture
def bank(tmp_path: Path, stack: Stack) -> Path:
    (tmp_path / "token").write_text("from-a-file-that-is-long-enough\n", encoding="utf-8")
    text = f"""
destinations:
  - name: cli-bank
    base_url: {stack.partner.url}/bearer
    idempotent: true
    auth: {{type: bearer, token: "${{env:BANK_TOKEN}}"}}
    timeouts: {{total_seconds: 10}}
    signing:
      - {{type: hmac, header: X-Signature, secret: "${{file:token}}"}}
"""
    path = tmp_path / "bank.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_says_what_destinations_are_to_be(cli: CommandLine, bank: Path) -> None:
    missing = cli("destinations", "apply", "-f", str(bank))
    assert (missing.code, "the variable BANK_TOKEN, which the file names, is not set" in missing.err) == (2, True)

    new = cli("destinations", "apply", "-f", str(bank), "--dry-run", BANK_TOKEN="demo-token")
    assert (new.code, new.out.splitlines()[0]) == (1, "cli-bank is new")
    assert "auth: {type: bearer, token: (secret)}" in new.out
    assert "demo-token" not in new.out + new.err
    assert "from-a-file" not in new.out + new.err

    made = cli("destinations", "apply", "-f", str(bank), "-y", BANK_TOKEN="demo-token")
    assert (made.code, made.err) == (0, "cli-bank is at version 1\n")
    assert cli("via", "cli-bank", "/orders").code == 0  # the bank takes the token from the environment

    same = cli("destinations", "apply", "-f", str(bank), "--dry-run", BANK_TOKEN="another")
    assert (same.code, same.out) == (0, "cli-bank stays as it is\n")

    bank.write_text(
        bank.read_text(encoding="utf-8").replace("total_seconds: 10", "total_seconds: 12"), encoding="utf-8"
    )
    refused = cli("destinations", "apply", "-f", str(bank), stdin=b"n\n", BANK_TOKEN="another")
    assert refused.code == 130
    assert "~ timeouts.total_seconds: 10.0 -> 12" in refused.out
    changed = cli("destinations", "apply", "-f", str(bank), "-y", BANK_TOKEN="another")
    assert (changed.code, changed.err) == (0, "cli-bank is at version 2\n")
    assert cli("via", "cli-bank", "/orders").code == 0  # and still does: the secret was not sent

    secrets = cli("destinations", "apply", "-f", str(bank), "-y", "--secrets", BANK_TOKEN="another")
    assert "~ auth.token: (secret)" in secrets.out
    assert cli("via", "cli-bank", "/orders").code == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- base_url: x", "is a list of destinations, each with a name"),
        ("name: x", "is a list of destinations, each with a name"),
        ("[{name: a}, {name: a}]", "has a twice"),
        ("[", "cannot be read"),
        ("[{name: a, auth: '${file:nowhere}'}]", "which the file names, cannot be read"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(cli: CommandLine, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    wrong = cli("destinations", "apply", "-f", str(tmp_path / "x.yaml"))
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert said in wrong.err


def test_what_the_api_refuses_of_a_file_is_named(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("[{name: cli-wrong, base_url: 'ftp://x'}]", encoding="utf-8")
    refused = cli("destinations", "apply", "-f", str(tmp_path / "x.yaml"), "-y")
    assert refused.code == 5
    assert "/base_url: " in refused.err


def test_destinations_are_listed_and_shown(cli: CommandLine) -> None:
    assert "partner" in [item["name"] for item in cli("destinations", "list", "--json").lines]
    assert re.search(r"^partner +active +http://", cli("destinations", "list").out, re.MULTILINE)
    assert cli("destinations", "show", "partner", "--json").json["name"] == "partner"
    assert "base_url" in cli("destinations", "show", "partner").out


# ---- verify, doctor, egress


@pytest.fixture(scope="module")
def faulty(consumer: Consumer, stack: Stack) -> None:
    """Destinations with one layer at fault each."""
    port = stack.partner.port
    destinations: dict[str, dict[str, object]] = {
        "cli-dns": {"base_url": f"http://no-such-host.invalid:{port}"},
        "cli-tcp": {"base_url": f"http://127.23.45.71:{port}"},
        "cli-tls": {"base_url": f"https://127.0.0.1:{port}"},
        "cli-denied": {"base_url": f"{stack.partner.url}/bearer", "verify": {"path": "/orders"}},
        "cli-silent": {"base_url": stack.partner.url, "verify": {"path": "/hang-up"}},
        "cli-failing": {"base_url": stack.partner.url, "verify": {"path": "/status/503"}},
        "cli-good": {"base_url": stack.partner.url},
    }
    for name, more in destinations.items():
        assert consumer.call("POST", "/v1/destinations", body={"name": name, **more}).status == 201


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("cli-dns", "DNS"),
        ("cli-tcp", "allowlist"),
        ("cli-tls", "TLS"),
        ("cli-denied", "credentials"),
        ("cli-silent", "partner"),
        ("cli-failing", "partner"),
    ],
)
def test_the_layer_at_fault_is_named(cli: CommandLine, faulty: None, name: str, layer: str) -> None:
    looked = cli("doctor", name)
    assert looked.code == 1, looked.out
    assert looked.out.splitlines()[-1] == f"The layer at fault is {layer}."
    assert [line.split()[0] for line in looked.out.splitlines()[:5]] == ["ok"] * 5  # profile, DNS, TCP, API, token


def test_a_good_destination_is_verified_and_the_doctor_finds_no_fault(cli: CommandLine, faulty: None) -> None:
    verified = cli("verify", "cli-good")
    assert verified.code == 0
    assert verified.out.endswith("No fault.\n")
    soon = cli("doctor", "cli-good", "--json")  # it was verified a moment ago
    assert (soon.code, soon.lines[-1]["layer"], soon.lines[-1]["is_good"]) == (0, "partner", None)
    assert cli("verify", "cli-good", "--json").code == 6


def test_the_doctor_names_what_is_wrong_on_the_way_to_the_api(cli: CommandLine, stack: Stack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = cli("--url", f"http://127.0.0.1:{taken.getsockname()[1]}", "doctor")
    assert (away.code, away.out.splitlines()[-1]) == (1, "The layer at fault is TCP.")
    faults = {
        "http://no-such-host.invalid": "DNS",
        stack.url.replace("http://", "https://"): "TLS",
        f"{stack.url}/prod": "API",
    }
    assert {url: cli("--url", url, "doctor").out.splitlines()[-1] for url in faults} == {
        url: f"The layer at fault is {layer}." for url, layer in faults.items()
    }
    wrong = cli("doctor", SALLYPORT_TOKEN="spt_" + "A" * 43)
    assert wrong.out.splitlines()[-1] == "The layer at fault is token."
    none = cli("doctor", SALLYPORT_TOKEN="")
    assert none.out.splitlines()[-1] == "The layer at fault is profile."


def test_the_addresses_are_shown_and_checked(cli: CommandLine) -> None:
    shown = cli("egress")
    addresses = [item["address"] for item in cli("egress", "--json").json["addresses"]]
    assert addresses
    assert all(address in shown.out for address in addresses)
    checked = cli("egress", "--verify", "--json")
    assert checked.code == (0 if checked.json["verdict"] == "matches" else 1)


# ---- audit


def test_the_audit_log_is_exported_and_verified_here(cli: CommandLine, tmp_path: Path, faulty: None) -> None:
    out = tmp_path / "export.jsonl"
    verified = cli("audit", "verify", "-o", str(out))
    assert verified.code == 0
    assert verified.out.startswith("verified ")
    assert cli("audit", "verify", str(out), "--json").json["verified"] is True
    lines = out.read_text(encoding="utf-8").splitlines(keepends=True)
    entry = json.loads(lines[0])
    entry["content"]["what"] = "destination.deleted"
    out.write_text(json.dumps(entry) + "\n" + "".join(lines[1:]), encoding="utf-8")
    forged = cli("audit", "verify", str(out))
    assert (forged.code, forged.out.startswith("NOT VERIFIED: ")) == (1, True)
    absent = cli("audit", "verify", str(tmp_path / "absent"))
    assert (absent.code, "cannot verify" in absent.err) == (2, True)
