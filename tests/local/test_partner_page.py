"""docs/partner.md: its commands run as they stand, its steps are those of the code, and `make partner` starts it."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.front import listening
from local.partner import Partner
from local.partner.doors import Certificates, tls_doors
from local.partner.oauth import METHODS
from local.partner.signatures import SCHEMES
from local.partner.steps import STEPS
from local.partner.troubles import FORMS
from tests.support.demo_partner import running_partner
from tests.support.making import ROOT, clean
from tests.support.terminal import Terminal

PAGE = (ROOT / "docs/partner.md").read_text(encoding="utf-8")


@pytest.fixture
def partner() -> Iterator[Partner]:
    with running_partner(doors=True) as partner:
        yield partner


def terminal(partner: Partner, directory: Path) -> Terminal:
    """Only the ports differ from the page."""
    ports = {"127.0.0.1:8081": f"127.0.0.1:{partner.port}"}
    for offset, door in enumerate(tls_doors(Certificates())):
        ports[f"127.0.0.1:{9443 + offset}"] = f"127.0.0.1:{partner.doors[door.name][0]}"
    return Terminal(directory=directory, instead=ports)


def test_the_commands_of_the_page_show_what_it_says(partner: Partner, tmp_path: Path) -> None:
    reader = terminal(partner, tmp_path)
    payments = reader.types_block("docs/partner.md", "curl http://127.0.0.1:8081/payments")
    token = reader.types_block("docs/partner.md", "curl http://127.0.0.1:8081/token")
    certificate = reader.types_block("docs/partner.md", "curl -s http://127.0.0.1:8081/control/certificates/ca.pem")
    rule = reader.types_block("docs/partner.md", "curl http://127.0.0.1:8081/control/rules")
    assert payments.count('"key": "invoice-2", "state": "executed"') == 2
    assert '"token_type": "Bearer"' in token
    assert '"received"' in certificate
    assert rule.count('"key": "invoice-3", "state": "executed"') == 1
    assert '"status": 503' in rule
    assert [payment.key for payment in partner.bank.ledger.newest(10)] == ["invoice-3", "invoice-2", "invoice-1"]


def first_column(title: str) -> set[str]:
    """The names in the tables below a heading, up to the next heading of its level or above."""
    level = title.count("#")
    section = re.split(rf"^#{{1,{level}}} ", PAGE.partition(f"{title}\n")[2], flags=re.MULTILINE)[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {name.partition("/")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_page_lists_the_steps_of_the_code() -> None:
    assert first_column("## What happens is in the path") - {"ip"} == set(STEPS)


@pytest.mark.parametrize("names", [METHODS, tuple(SCHEMES), tuple(FORMS)])
def test_the_page_names_every_method_scheme_and_form(names: tuple[str, ...]) -> None:
    assert [name for name in names if f"`{name}`" not in PAGE and f"/{name}`" not in PAGE] == []


def test_the_page_lists_the_ports_in_their_order() -> None:
    listed = re.findall(r"^\| (\d+) \| `([\w-]+)` \|", PAGE, re.MULTILINE)
    assert listed == [(str(9443 + offset), door.name) for offset, door in enumerate(tls_doors(Certificates()))]


# ---- make partner


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running `make partner`."""

    process: "subprocess.Popen[str]"
    usage: str
    port: int


@pytest.fixture
def running() -> Iterator[Running]:
    with listening(0) as free:
        port = int(free.getsockname()[1])
    process = subprocess.Popen(
        ["make", "partner", f"PORT={port}", "TLS=0"],
        cwd=ROOT, env=clean() | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    usage = ""
    for line in process.stdout:
        usage += line
        if "/payments/k2" in line:
            break
    yield Running(process=process, usage=usage, port=port)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=90)


def test_make_partner_prints_what_to_type_and_that_works(running: Running) -> None:
    lines = [line for line in running.usage.splitlines() if line.startswith("curl")]
    answers = [
        subprocess.run(["bash", "-c", f"{line} -s"], capture_output=True, text=True, check=False, timeout=90)
        for line in lines
    ]
    assert [answer.returncode for answer in answers] == [0, 52, 0]  # 52: an empty reply
    assert '"key": "k2", "state": "executed"' in answers[2].stdout
    assert len(re.findall(r"^  \d+ +[\w-]+: ", running.usage, re.MULTILINE)) == len(tls_doors(Certificates()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_whatever_hangs(running: Running, number: signal.Signals) -> None:
    with subprocess.Popen(
        ["curl", "-s", f"http://127.0.0.1:{running.port}/hang/head/orders"], stdout=subprocess.PIPE
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.read(0) == b""
        assert running.process.stdout is not None
        while "/hang/head/orders" not in running.process.stdout.readline():
            pass
        os.killpg(running.process.pid, number)
        output, _ = running.process.communicate(timeout=90)
    # make passes SIGTERM on to what got it already; one that arrives while Python exits makes it a line of make's own.
    own = [line for line in output.splitlines() if not line.startswith("make: ")]
    assert own[-1] == "Stopped."


def test_a_port_that_is_taken_is_one_line(partner: Partner) -> None:
    done = subprocess.run(
        ["make", "partner", f"PORT={partner.port}"], cwd=ROOT, env=clean(), capture_output=True, text=True, check=False,
        timeout=90,
    )  # fmt: skip
    assert done.returncode != 0
    taken = f"127.0.0.1:{partner.port} cannot be used (Address already in use)."
    assert done.stderr.splitlines()[0] == f"{taken} Choose another: make partner PORT=9001 TLS=9443"
