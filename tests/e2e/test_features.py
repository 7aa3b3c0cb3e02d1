"""Everything that the API offers, used once over HTTP through the whole stack; the OpenAPI document says what there is.

The tests of the features are in the modules of tests/e2e/features, by subject, and are collected here because they
share a list of uses: the last test fails for what the document offers and none of them used. What cannot be used on one
machine stands below with the reason.
"""

import re
from typing import Any

import pytest

from local.functions import REPOSITORY
from tests.e2e.conftest import Answer, Consumer, Use
from tests.e2e.features.approvals import *  # noqa: F403 - collected here
from tests.e2e.features.audit import *  # noqa: F403 - collected here
from tests.e2e.features.control import *  # noqa: F403 - collected here
from tests.e2e.features.credentials import *  # noqa: F403 - collected here
from tests.e2e.features.deliveries import *  # noqa: F403 - collected here
from tests.e2e.features.destinations import *  # noqa: F403 - collected here
from tests.e2e.features.helpers import kind_of
from tests.e2e.features.jobs import *  # noqa: F403 - collected here
from tests.e2e.features.limits import *  # noqa: F403 - collected here
from tests.e2e.features.passing import *  # noqa: F403 - collected here
from tests.e2e.features.payloads import *  # noqa: F403 - collected here
from tests.e2e.features.reconcile import *  # noqa: F403 - collected here
from tests.e2e.features.refusals import *  # noqa: F403 - collected here
from tests.e2e.features.signing import *  # noqa: F403 - collected here
from tests.e2e.features.told import *  # noqa: F403 - collected here
from tests.e2e.features.without_a_part import *  # noqa: F403 - collected here, and last
from tests.support.usage import Document

# A use, as an expression over its whole line, and why nobody makes it here.
UNUSED = {
    r"(?!POST /v1/destinations/.*/verify|.*/via/).* 429": "API Gateway throttles, which the local one does not",
    r".* 500": "a bug, which no call provokes; tests/faults",
    r"(?!.*/via/).* 502": "API Gateway's own, where a function dies; tests/e2e/test_faults.py",
    r"(?!.*/via/).* 504": "API Gateway's own, after 29 s; tests/local/test_front.py",
    r".* default": "the partner's own, counted as 200 here; tests/e2e/test_examples.py",
    r"GET /(healthz|openapi.json|docs|console.*) 403": "the firewall's, of which there is none on one machine",
    r"GET /(?!v1/via).* 400": "API Gateway's own: these read neither a body nor a key",
    r".* 405": "belongs to a path and not to an operation; test_what_is_not_there",
    r"ProbeResult = (not_sent|refused_by_guard|.*unusable|tls_refused_by_.*)": "tests/handlers/test_verify.py",
    r"GET /v1/audit/attempts 200": "a worker seals after four minutes; tests/handlers/test_sealed_attempts.py",
    r"BreakerState = half_open": "after open_seconds; tests/flows/test_tallies.py",
    r"Payload = expired": "after a day at least; tests/flows/test_retention.py",
    r"ProposalState = expired": "after a day; tests/handlers/test_approvals.py",
    r"ProposalState = approved": "where the call could not be made; tests/handlers/test_approvals.py",
    r"CheckStatus = unverified": "needs an hour without a check; tests/handlers/test_egress.py",
}
UNUSED_PROBLEMS = {
    "blocked": "the firewall's, of which there is none on one machine",
    "too-many-requests": "API Gateway throttles, which the local one does not",
    "timeout": "API Gateway's own, after 29 s; tests/local/test_front.py",
    "answer-too-large": "a bug, for everything in an answer is bounded; tests/faults/test_large_answers.py",
    "egress-refused": "here of HEAD alone, whose answers have no body; tests/handlers/test_via.py",
    "not-ended": "needs a database that is slow in one moment; tests/handlers/test_via.py",
}


@pytest.fixture
def all_uses(request: pytest.FixtureRequest, user: Consumer) -> list[Use]:
    """What the other tests of this file did, where all of them ran."""
    ran = {getattr(item, "originalname", "") for item in request.session.items if item.path == request.path}
    if not ran.issuperset(name for name in globals() if name.startswith("test_")):
        pytest.skip("it looks at what the other tests of this file did, and not all of them were asked for")
    return user.uses


def test_nothing_that_the_api_offers_was_left_out(user: Consumer, all_uses: list[Use]) -> None:
    document = Document(user.call("GET", "/openapi.json").json)
    used = {
        exercised
        for use in all_uses
        for exercised in document.uses(use.method, use.target, sent=use.sent, body=use.body, answer=use.answer)
    }
    excused = {use for use in document.all_uses if any(re.fullmatch(form, use) for form in UNUSED)}
    left_out = sorted(document.all_uses - used - excused)
    assert not left_out, "\n".join(left_out)
    assert "\n".join(sorted(excused & used)) == "", "what is used needs no excuse"


def test_no_problem_and_no_outcome_of_the_documents_was_left_out(all_uses: list[Use]) -> None:
    told = set(re.findall(r"(?m)^### `([a-z-]+)`$", document_text("problems")))
    problems = [use.answer for use in all_uses if use.answer.headers.get("content-type") == "application/problem+json"]
    seen = {kind_of(answer) for answer in problems} - {""}
    left_out = sorted(told - seen - UNUSED_PROBLEMS.keys())
    assert not left_out, "\n".join(left_out)
    assert sorted(seen & UNUSED_PROBLEMS.keys()) == [], "what is seen needs no excuse"
    table = document_text("api").partition("| outcome | means |")[2].partition("\n\n")[0]
    assert set(re.findall(r"(?m)^\| `(\w+)`", table)) == {
        attempt["outcome"] for use in all_uses for attempt in attempts_in(use.answer)
    }


def document_text(name: str) -> str:
    return (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")


def attempts_in(answer: Answer) -> list[dict[str, Any]]:
    found = answer.json if answer.headers.get("content-type") == "application/json" and answer.body else {}
    attempts: list[dict[str, Any]] = found.get("attempts", [])
    return attempts
