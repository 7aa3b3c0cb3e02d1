"""The recorded run of `make faults`, and what documents say of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from faults.__main__ import LEAST_DELIVERIES, LEAST_FAULTS, RECORDED
from faults.load import BURST
from faults.promises import DISTURBING
from faults.report import PROMISES, text

ALL_KINDS = DISTURBING | {"double", "redelivery storm", "lossy queue", "no queue", "ten times the load"}


@pytest.fixture
def recorded(repository: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((repository / RECORDED / "faults.json").read_text())
    return report


def test_the_page_says_what_the_data_say(repository: Path, recorded: dict[str, Any]) -> None:
    assert (repository / RECORDED / "faults.md").read_text() == text(recorded)


def test_the_recorded_run_is_as_long_as_is_claimed(recorded: dict[str, Any]) -> None:
    assert recorded["deliveries"]["total"] >= LEAST_DELIVERIES
    assert recorded["faults"]["total"] >= LEAST_FAULTS
    assert set(recorded["faults"]["by_kind"]) == ALL_KINDS
    assert sum(fault["times"] for fault in recorded["faults"]["by_kind"].values()) == recorded["faults"]["total"]
    assert (
        recorded["faults"]["statements_refused_for_want_of_space"]
        == recorded["faults"]["by_kind"]["full disk"]["times"]
    )
    assert recorded["orders_in_a_second"]["most"] >= (BURST - 1) * recorded["orders_in_a_second"]["median"]


def test_no_promise_was_broken_in_it(recorded: dict[str, Any]) -> None:
    assert recorded["promises"] == dict.fromkeys(PROMISES, 0)
    assert recorded["broken"] == []


def test_its_numbers_agree_with_one_another(recorded: dict[str, Any]) -> None:
    deliveries = recorded["deliveries"]
    assert sum(deliveries["by_state"].values()) == sum(deliveries["by_guarantee"].values()) == deliveries["total"]
    assert recorded["requests_at_the_partner"] <= sum(recorded["attempts_by_outcome"].values())
    repeats = sum(recorded["repeats"]["of_what_may_have_been_done"].values())
    assert recorded["requests_at_the_partner"] <= (
        deliveries["total"] + repeats + recorded["repeats"]["after_an_answer_that_allows_one"]
    )


def test_documents_claim_no_more_than_was_recorded(repository: Path, recorded: dict[str, Any]) -> None:
    """ "100,000 deliveries and 500 faults", wherever that stands."""
    pages = [repository / "README.md", repository / "CONTRIBUTING.md", *(repository / "docs").rglob("*.md")]
    claims = [
        (page.name, *(int(number.replace(",", "")) for number in claim))
        for page in pages
        for claim in re.findall(r"([\d,]+) deliveries and ([\d,]+)\s+faults", " ".join(page.read_text().split()))
    ]
    assert len(claims) >= 3
    assert [
        claim
        for claim in claims
        if claim[1] > recorded["deliveries"]["total"] or claim[2] > recorded["faults"]["total"]
    ] == []


def test_every_kind_of_fault_is_described(repository: Path) -> None:
    described = re.findall(r"^\| `([^`]+)` \|", (repository / RECORDED / "README.md").read_text(), re.MULTILINE)
    assert sorted(described) == sorted(ALL_KINDS)
