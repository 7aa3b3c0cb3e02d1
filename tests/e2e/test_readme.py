"""The README's lines do what it says, as they stand."""

import json
import os
import re
import subprocess
from pathlib import Path

from local.demonstration import lines_to_paste
from local.stack import Stack
from tests.e2e.conftest import GENEROUS_SECONDS, Consumer, eventually

PUBLISHED = "http://127.0.0.1:8080"


def curl_lines(repository: Path) -> list[str]:
    """The lines of the README's shell blocks that start with curl and call the local stack."""
    blocks = re.findall(r"```(?:sh|shell|bash|console)\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("curl") and PUBLISHED in line]


def paste(line: str, stack: Stack, token: str) -> str:
    """Run a line as a shell would; only the port is that of the stack under test."""
    done = subprocess.run(
        ["/bin/bash", "-c", line.replace(PUBLISHED, stack.url)],
        env={**os.environ, "TOKEN": token},
        capture_output=True,
        text=True,
        timeout=GENEROUS_SECONDS,
        check=True,
    )
    return done.stdout


def test_the_readme_shows_the_lines_that_make_run_prints(repository: Path) -> None:
    assert curl_lines(repository) == list(lines_to_paste(PUBLISHED, "$TOKEN"))


def test_the_readmes_lines_show_a_delivery_its_attempt_and_the_partners_answer(
    repository: Path, stack: Stack, consumer: Consumer
) -> None:
    create_delivery, look, pass_through = curl_lines(repository)
    accepted = json.loads(paste(create_delivery, stack, consumer.token))
    eventually(lambda: any(call.idempotency_key == accepted["idempotency_key"] for call in list(stack.partner.calls)))
    consumer.finished(accepted["delivery_id"])
    shown = json.loads(paste(look, stack, consumer.token))
    assert shown["delivery_id"] == accepted["delivery_id"]
    assert shown["state"] == "delivered"
    assert [attempt["response"]["status"] for attempt in shown["attempts"]] == [201]
    assert json.loads(paste(pass_through, stack, consumer.token))["received"]["body"] == "amount=10"


def test_the_line_that_asks_a_deployed_stack_for_its_addresses_works_on_the_local_one(
    repository: Path, stack: Stack, consumer: Consumer
) -> None:
    (line,) = re.findall(r"^curl \"\$API_URL.*$", (repository / "README.md").read_text(), re.MULTILINE)
    told = json.loads(paste(f"API_URL={stack.url}; {line}", stack, consumer.token))
    assert told["addresses"]
