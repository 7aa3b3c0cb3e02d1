"""The README's lines do what it says, as they stand."""

import json
import re
from pathlib import Path

from local.demonstration import lines_to_paste
from local.stack import Stack
from tests.e2e.conftest import Consumer, eventually
from tests.support.terminal import Terminal

PUBLISHED = "http://127.0.0.1:8080"


def curl_lines(repository: Path) -> list[str]:
    """The lines of the README's shell blocks that start with curl and call the local stack."""
    blocks = re.findall(r"```(?:sh|shell|bash|console)\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("curl") and PUBLISHED in line]


def terminal(stack: Stack, token: str) -> Terminal:
    """Only the port is that of the stack under test."""
    variables = {"TOKEN": token, "API_URL": stack.url}
    return Terminal(directory=Path.cwd(), variables=variables, instead={PUBLISHED: stack.url})


def test_the_readme_shows_the_lines_that_make_run_prints(repository: Path) -> None:
    assert curl_lines(repository) == list(lines_to_paste(PUBLISHED, "$TOKEN"))


def test_the_readmes_lines_show_a_delivery_its_attempt_and_the_partners_answer(
    stack: Stack, consumer: Consumer
) -> None:
    reader = terminal(stack, consumer.token)
    accepted = json.loads(reader.types("README.md", "curl http://127.0.0.1:8080/v1/deliveries -H"))
    eventually(lambda: any(call.idempotency_key == accepted["idempotency_key"] for call in list(stack.partner.calls)))
    consumer.finished(accepted["delivery_id"])
    shown = json.loads(reader.types("README.md", "curl http://127.0.0.1:8080/v1/deliveries/$("))
    assert shown["delivery_id"] == accepted["delivery_id"]
    assert shown["state"] == "delivered"
    assert [attempt["response"]["status"] for attempt in shown["attempts"]] == [201]
    passed_through = json.loads(reader.types("README.md", "curl http://127.0.0.1:8080/v1/via/partner/orders"))
    assert passed_through["received"]["body"] == "amount=10"


def test_the_line_that_asks_a_deployed_stack_for_its_addresses_works_on_the_local_one(
    stack: Stack, consumer: Consumer
) -> None:
    assert json.loads(terminal(stack, consumer.token).types("README.md", 'curl "$API_URL/v1/egress"'))["addresses"]
