"""What a run says: every proof with its evidence, in words and as data, and what the lab leaves out."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it has no types
from rich.console import Console

from lab.model.checkpoints import Checkpoint
from lab.model.limits import LIMITS
from lab.proofs import mutations
from lab.proofs.catalogue import PROOFS
from lab.proofs.runner import prove
from lab.report.data import as_data, written
from lab.report.picture import picture
from lab.report.text import ReportPrinter
from lab.sources.templates import cases
from tests.support.enclosed import ROOT, inside

SCHEMA = json.loads((ROOT / "docs/lab-report.schema.json").read_text())


@pytest.fixture(scope="module")
def on_premises() -> Mapping[str, Any]:
    return dict(inside(_report, "on-premises-single", ""))


@pytest.fixture(scope="module")
def broken() -> Mapping[str, Any]:
    return dict(inside(_report, "public-private-single", "everything_opened"))


def _report(name: str, change: str) -> Mapping[str, Any]:
    """The report of a design, or of one that was changed and still promises the same."""
    (case,) = [case for case in cases() if case.name == name]
    if change:
        case = replace(case, network=getattr(mutations, change)(case.network))
    evidence = prove(case, controls=not change)
    check = {"sentence": "Somebody runs SQL", "holds": True, "evidence": ["from 10.64.4.10"]}
    return {"data": as_data(evidence, seconds=1.5, checks=[check], code="src"), "svg": picture(evidence)}


def printed(data: Mapping[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=400)
    pages = ReportPrinter(console)
    pages.case(data, files=".lab/x.json")
    pages.limits()
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_each_proof_is_told_with_what_arrived_and_by_which_rules(on_premises: Mapping[str, Any]) -> None:
    text = printed(on_premises["data"])
    assert "✔ the functions that use it reach the database on port 5432" in text
    assert "Network.DatabaseFromOutboundFunctionIngress" in text
    assert "arrived as 203.0.113.10, allowed by Network.OutboundFunctionSecurityGroup egress 1" in text
    assert "✔ a corporate host reaches the execute-api endpoint on port 443" in text


def test_each_refusal_is_told_with_the_stage_and_the_resource(on_premises: Mapping[str, Any]) -> None:
    text = printed(on_premises["data"])
    assert "died at the network ACL, inbound: Network.DatabaseNetworkAcl, no entry allows it" in text
    assert "died at the internet: internet, private addresses are not routed" in text
    assert "died at the VPN gateway: Vpn.VpnGateway, it leads into the VPC, not through it" in text


def test_each_control_is_told_with_what_it_broke(on_premises: Mapping[str, Any]) -> None:
    text = printed(on_premises["data"])
    assert "control: when the NAT gateways have addresses that are not published, the proof fails, as it must" in text
    assert "seen as 203.0.113.99" in text


def test_a_proof_that_does_not_apply_says_why(on_premises: Mapping[str, Any]) -> None:
    text = printed(on_premises["data"])
    assert "Not applicable: Egress is single: both zones leave by one NAT gateway, and its loss takes both." in text
    assert "Not applicable: the design has a way to the internet." in text


def test_what_is_not_modelled_is_printed_with_every_report(on_premises: Mapping[str, Any]) -> None:
    text = printed(on_premises["data"])
    assert [limit for limit in LIMITS if limit not in text] == []
    assert on_premises["data"]["not modelled"] == list(LIMITS)


def test_the_data_has_every_connection_and_the_page_of_each_rule(on_premises: Mapping[str, Any]) -> None:
    data = json.loads(written(on_premises["data"]))
    assert [proof["name"] for proof in data["proofs"]] == [proof.name for proof in PROOFS]
    connections = [
        connection
        for proof in data["proofs"]
        for sentence in proof["sentences"]
        for connection in sentence["connections"]
    ]
    assert {connection["became"] for connection in connections} == {"arrived", "died", "its answer died"}
    assert all(connection["as claimed"] for connection in connections)
    assert {connection["at"] for connection in connections if "at" in connection} <= set(data["pages"])
    assert set(data["pages"]) == {str(checkpoint) for checkpoint in Checkpoint}
    assert data["holds"] is True


def test_the_map_has_what_was_tried(on_premises: Mapping[str, Any]) -> None:
    assert on_premises["svg"].startswith("<svg")
    assert "what was tried" in on_premises["svg"]


def test_a_proof_that_fails_shows_each_connection_that_was_not_as_claimed(broken: Mapping[str, Any]) -> None:
    assert broken["data"]["holds"] is False
    text = printed(broken["data"])
    assert "✘ the internet cannot reach the database on port 5432" in text
    assert "not as claimed: attacker arrived at 203.0.113.150:5432, seen as 192.0.43.66" in text
    assert {proof["name"] for proof in broken["data"]["proofs"] if proof["holds"] is False} == {
        "only_its_users_open_the_database",
        "one_protection_is_enough",
        "the_database_has_no_way_out",
        "a_newcomer_cannot_open_the_database",
        "partners_see_only_the_fixed_addresses",  # the database answers the partner from an address of its own
        "the_internet_reaches_nothing",
        "an_acl_without_answers_cuts_everyone",
    }
    assert "15 of 22 proofs hold" in text


def test_a_program_that_fails_fails_the_report(on_premises: Mapping[str, Any]) -> None:
    text = printed(
        {**on_premises["data"], "programs": [{"sentence": "A job arrives", "holds": False, "evidence": ["it did not"]}]}
    )
    assert "✘ A job arrives" in text
    assert "it did not" in text


# ---- Its schema


def refusals(report: Mapping[str, Any]) -> list[str]:
    """Where the schema refuses a report; it allows no key that it does not name, and misses none that it does."""
    validator = Draft202012Validator(SCHEMA, format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(report)]


def test_reports_are_as_their_schema_says(on_premises: Mapping[str, Any], broken: Mapping[str, Any]) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert refusals(on_premises["data"]) == []
    assert refusals(broken["data"]) == []


def test_the_schema_has_an_example_that_it_accepts() -> None:
    (example,) = SCHEMA["examples"]
    assert refusals(example) == []
    assert any(proof["skipped"] for proof in example["proofs"])
    assert any(proof["controls"] for proof in example["proofs"])


@pytest.mark.parametrize("key", SCHEMA["properties"])
def test_the_schema_misses_every_key_that_a_report_lacks(key: str) -> None:
    (example,) = SCHEMA["examples"]
    assert refusals({name: value for name, value in example.items() if name != key}) != []
    assert refusals({**example, f"another {key}": 1}) != []


def test_the_schema_names_every_checkpoint() -> None:
    assert SCHEMA["$defs"]["checkpoint"]["enum"] == [str(checkpoint) for checkpoint in Checkpoint]
