"""The npm package of Standard Webhooks, which most receivers use, accepts what we sign."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.outcomes import Headers
from domain.signing import StandardWebhooks, scheme
from egress.signing.keys import new_webhook_secret
from egress.signing.schemes import signed_headers
from tests.support.signing import key_info, unsigned, value

# `make` installs it beside the virtual environment's packages, by tests/node/package-lock.json.
PACKAGES = Path(sys.prefix) / "node" / "node_modules"
VERIFY = """
const { Webhook } = require("standardwebhooks");
const { secret, body, headers } = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(new Webhook(secret).verify(Buffer.from(body, "hex"), headers)));
"""


def verify_in_node(secret: str, body: bytes, headers: Headers) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not on this machine")
    if not (PACKAGES / "standardwebhooks").is_dir():
        pytest.skip("the npm package standardwebhooks is not installed: npm was missing, or could not fetch it")
    asked = {"secret": secret, "body": body.hex(), "headers": dict(headers)}
    return subprocess.run(
        [node, "-e", VERIFY],
        input=json.dumps(asked),
        env={"NODE_PATH": str(PACKAGES), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("position", [0, 1])
def test_the_npm_package_accepts_either_key_of_a_rotation(position: int) -> None:
    keys = [new_webhook_secret(), new_webhook_secret()]
    both = scheme(StandardWebhooks(), name="s", keys=[key_info("0"), key_info("1")])
    sent = unsigned(at=datetime.now(tz=UTC), body='{"name": "Zoë"}'.encode())
    headers = signed_headers(sent, [both], secrets={"0": keys[0].secret, "1": keys[1].secret})
    answer = verify_in_node(keys[position].text or "", sent.body, headers)
    assert (answer.stderr, json.loads(answer.stdout)) == ("", {"name": "Zoë"})


def test_the_npm_package_refuses_a_changed_body() -> None:
    key = new_webhook_secret()
    sent = unsigned(at=datetime.now(tz=UTC))
    headers = signed_headers(sent, [scheme(StandardWebhooks(), name="s", keys=[key_info()])], secrets={"k": key.secret})
    assert value(headers, "webhook-id") == "key-1"
    answer = verify_in_node(key.text or "", b'{"amount": 6}', headers)
    assert "No matching signature found" in answer.stderr
