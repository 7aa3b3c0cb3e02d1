"""Five partners' SDKs go through the gateway to the demo partner, as docs/client.md says they do.

They are in an environment of their own, which is made when this file is run first. Where the package index cannot be
reached the tests are skipped, unless SALLYPORT_SDKS is `required`, as it is in CI.
"""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.demonstration import make_destination, working_token
from local.stack import Stack, StackConfiguration
from tests.e2e.conftest import Consumer
from tests.support.documents import ROOT, pages

REQUIREMENTS = ROOT / "requirements-sdks.txt"
ENVIRONMENT = ROOT / ".venv-sdks"
SDKS = ("stripe", "twilio", "adyen", "plaid", "boto3")
ROW = re.compile(
    r"^\| (?P<name>[a-z0-9-]+) (?P<version>[\d.]+) \| [^|]+ \| [^|]+ \| `(?:plaid\.)?(?P<lost>\w+)`[^|]* "
    r"\| `(?:plaid\.)?(?P<unsent>\w+)`[^|]* \|$",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of the environment, with what the requirements say now."""
    mark, wanted = ENVIRONMENT / ".ready", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not mark.is_file() or mark.read_text(encoding="utf-8") != wanted:
        command = [str(ROOT / "local" / "set-up"), str(ENVIRONMENT), str(REQUIREMENTS)]
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if made.returncode != 0 and os.environ.get("SALLYPORT_SDKS") != "required":
            pytest.skip(f"the SDKs could not be installed: {made.stderr[-300:]}")
        assert made.returncode == 0, made.stderr
        mark.write_text(wanted, encoding="utf-8")
    return ENVIRONMENT / "bin" / "python"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Consumer]]:
    """A stack, and a caller whose destinations are the bank on a good day, on a bad day, and away."""
    directory = tmp_path_factory.mktemp("stack")
    configuration = StackConfiguration(
        directory=directory, port=0, partner_port=0, durable=False, report=lambda _: None
    )
    with Stack(configuration) as stack:
        token = working_token(stack, stored_in=directory / "token")
        make_destination(stack, token=token)
        consumer = Consumer(port=stack.front.port, token=token)
        for name, base_url in {
            "sdk-answered": f"{stack.partner.url}/payments",
            "sdk-lost": f"{stack.partner.url}/lose/payments",
            "sdk-unreachable": f"http://127.23.45.70:{stack.partner.port}",
        }.items():
            assert consumer.call("POST", "/v1/destinations", body={"name": name, "base_url": base_url}).status == 201
        yield stack, consumer


def rows() -> dict[str, re.Match[str]]:
    """The table of docs/client.md by SDK."""
    return {row["name"].removesuffix("-python"): row for row in ROW.finditer(pages()["docs/client.md"])}


@pytest.mark.parametrize("name", SDKS)
def test_an_sdk_works_with_another_base_url_as_the_page_says(
    name: str, python: Path, gateway: tuple[Stack, Consumer]
) -> None:
    stack, consumer = gateway
    before = len(list(stack.partner.calls))
    done = subprocess.run(
        [str(python), "program.py", name, "answered", "lost", "unreachable"],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "API_URL": stack.url, "TOKEN": consumer.token},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["answered"] == []
    row = rows()[name]
    assert any(error.startswith(f"{row['lost']}: ") for error in told["lost"]), told["lost"]
    assert any(error.startswith(f"{row['unsent']}: ") for error in told["unreachable"]), told["unreachable"]
    # What the SDK repeats by itself does not reach the partner twice, and none of its own credentials does.
    received = list(stack.partner.calls)[before:]
    assert [call.path.split("/")[1] for call in received] == ["payments", "lose"]
    assert [call.headers.get("authorization") for call in received] == [None, None]
    newest = consumer.call("GET", "/v1/deliveries?state=unknown&limit=1").json["deliveries"][0]
    assert newest["idempotency_key"].startswith(f"{name}-lost") or name == "stripe"  # it makes keys of its own


def test_the_page_names_the_versions_that_are_tried() -> None:
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE))
    versions = {name.lower().removesuffix("-python"): version for name, version in pinned.items()}
    assert {name: row["version"] for name, row in rows().items()} == {name: versions[name] for name in SDKS}


def test_the_client_is_tried_with_the_versions_that_it_is_developed_with() -> None:
    pins = [
        dict(re.findall(r"^([\w-]+)==([\w.]+)", text.read_text(encoding="utf-8"), re.MULTILINE))
        for text in (REQUIREMENTS, ROOT / "requirements-dev.txt", ROOT / "local/requirements.txt")
    ]
    sdks, others = pins[0], {**pins[2], **pins[1]}
    assert {name: sdks[name] for name in ("httpx", "httpcore", "h11", "certifi", "idna", "click", "requests")} == {
        name: others[name] for name in ("httpx", "httpcore", "h11", "certifi", "idna", "click", "requests")
    }
