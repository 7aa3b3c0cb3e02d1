"""docs/signing.md: its examples are taken by the API, and give what the page says."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain.ids import TenantId
from domain.signing import scheme
from egress.signing.schemes import signed_headers
from handlers.parsing import body_as
from handlers.schemas.destinations import NewDestinationBody, new_destination
from handlers.schemas.destinations.signing import RotationBody
from tests.support.signing import SLACK_BODY, key_info, unsigned

PAGE = (Path(__file__).parents[2] / "docs/signing.md").read_text(encoding="utf-8")
JSON = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
SCHEMES = [example for example in JSON if "type" in example]
# The heading of an example, and the body and the time that its text speaks of.
RESULTS = [
    ("GitHub", b"Hello, World!", 0),
    ("Slack", SLACK_BODY, 1531420618),
    ("Stripe", b"{}", 1492774577),
    ("Shopify", b"{}", 0),
]


def wanted(example: dict[str, Any]) -> Any:
    body = {"name": "bank", "base_url": "https://bank.example", "signing": [example]}
    taken = new_destination(
        body_as(json.dumps(body).encode(), NewDestinationBody),
        tenant_id=TenantId(UUID(int=1)),
        now=datetime.now(UTC),
        judge=lambda _: (),
    )
    return taken.signing[0]


def section(heading: str) -> str:
    return PAGE.partition(f"### {heading}\n")[2].partition("\n#")[0]


@pytest.mark.parametrize("example", SCHEMES, ids=lambda example: str(example["type"]))
def test_every_example_is_taken_by_the_api(example: dict[str, Any]) -> None:
    assert wanted(example).form


def test_the_page_has_examples_of_every_type() -> None:
    assert {example["type"] for example in SCHEMES} == {
        "standard_webhooks",
        "http_message_signatures",
        "hmac",
        "jws_detached",
    }


@pytest.mark.parametrize(("heading", "body", "at"), RESULTS, ids=lambda part: part if isinstance(part, str) else "")
def test_an_example_gives_the_headers_that_the_page_shows(heading: str, body: bytes, at: int) -> None:
    (example,) = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section(heading), re.DOTALL)]
    (shown,) = re.findall(r"```text\n(.*?)```", section(heading), re.DOTALL)
    one = wanted(example)
    assert one.key is not None
    headers = signed_headers(
        unsigned(body=body, at=datetime.fromtimestamp(at, tz=UTC), headers=()),
        [scheme(one.form, name=one.name, keys=[key_info()])],
        secrets={"k": one.key.secret},
    )
    assert "".join(f"{name}: {text}\n" for name, text in headers) == shown


def test_the_example_of_a_rotation_is_taken() -> None:
    (example,) = [example for example in JSON if "overlap_seconds" in example]
    assert body_as(json.dumps(example).encode(), RotationBody).overlap_seconds == 86_400
