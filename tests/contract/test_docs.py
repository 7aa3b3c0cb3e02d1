"""The documents agree with the code, and each rule notices a document that does not."""

import pytest

from tests.contract import rules_docs as rules
from tests.contract.rules_docs import (
    ALARMS_PAGE,
    API,
    ARCHITECTURE,
    CHANGELOG,
    INDEX,
    METRICS,
    PROBLEMS,
    README,
    RULES,
    RUNNING,
    Rule,
    Texts,
)

PICTURE = "docs/maps/on-premises.svg"
TEXTS = rules.project_texts()

# A rule, the page that is changed, what stands there, and what is put in its place.
MUTATIONS: list[tuple[Rule, str, str, str]] = [
    (rules.every_kind_of_problem_is_documented_and_none_too_many, PROBLEMS, "### `name-taken`", "### Names"),
    (rules.every_kind_of_problem_is_documented_and_none_too_many, PROBLEMS, "### `in-flight`", "### `name-taken`"),
    (rules.every_kind_of_problem_is_documented_and_none_too_many, PROBLEMS, "### `internal`", "### `gone`"),
    (rules.problems_are_documented_with_their_status_and_title, PROBLEMS, "422: ", "400: "),
    (rules.problems_are_documented_with_their_status_and_title, PROBLEMS, "The name is in use", "Taken"),
    (rules.problems_are_documented_with_their_status_and_title, PROBLEMS, "Requests arrive too fast", "Slow down"),
    (rules.every_link_leads_somewhere, README, "(docs/api.md)", "(docs/interface.md)"),
    (rules.every_link_leads_somewhere, API, "(problems.md#in-flight)", "(problems.md#underway)"),
    (rules.every_link_leads_somewhere, API, "(#calls)", "(#routes)"),
    (rules.long_pages_begin_with_their_contents, RUNNING, "- [The VPN](#the-vpn): bring it up\n", ""),
    (
        rules.long_pages_begin_with_their_contents,
        ALARMS_PAGE,
        "| [NatDropAlarm](#natdropalarm) | ",
        "| NatDropAlarm | ",
    ),
    (rules.long_pages_begin_with_their_contents, ARCHITECTURE, "- [Hops](#hops)\n", ""),
    (rules.every_page_is_listed_by_reader, INDEX, "(migrations.md)", "(adr)"),
    (rules.every_page_opens_with_what_one_can_do_after_it, RUNNING, "After this page you can", "This is how to"),
    (rules.every_module_of_stack_and_lab_is_listed, "stack/README.md", "| `stack/functions.py` |", "| functions |"),
    (rules.every_module_of_stack_and_lab_is_listed, "lab/README.md", "| `lab/plan/build.py` |", "| build |"),
    (rules.every_make_target_that_is_named_exists, README, "`make run`", "`make start`"),
    (rules.every_make_target_that_is_named_exists, README, "make test ", "make tests "),
    (rules.every_make_target_that_is_named_exists, "make/cost.mk", "cost:", "costs:"),
    (rules.every_variable_that_is_named_exists, ARCHITECTURE, "`AWS_SIGV4`", "`LEASE_MINUTES`"),
    (rules.every_name_of_the_stack_or_the_code_exists, RUNNING, "`WebAclRate`", "`WebAclSpeed`"),
    (rules.every_name_of_the_stack_or_the_code_exists, RUNNING, "`AttemptsUnknown`", "`AttemptsLost`"),
    (rules.every_metric_has_its_row, RUNNING, "| `DeliveriesAccepted` |", "| accepted |"),
    (rules.every_metric_has_its_row, METRICS, '"DeliveryFaults"', '"FaultsOfDeliveries"'),
    (rules.every_metric_is_counted, "src/flows/accept.py", "count(Metric.DELIVERIES_ACCEPTED)", "pass"),
    (rules.every_metric_is_counted, METRICS, "DELIVERY_FAULTS = ", "FAULTS = "),
    (rules.every_file_that_is_named_exists, ARCHITECTURE, "src/flows/attempt.py", "src/flows/send.py"),
    (rules.states_outcomes_and_guarantees_are_those_of_the_code, API, "| `canceled` |", "| `cancelled` |"),
    (rules.states_outcomes_and_guarantees_are_those_of_the_code, API, "| `refused` |", "| `blocked` |"),
    (rules.states_outcomes_and_guarantees_are_those_of_the_code, API, "| `at_least_once` |", "| `often` |"),
    (rules.states_outcomes_and_guarantees_are_those_of_the_code, API, "| `header` |", "| `oauth` |"),
    (rules.calls_are_those_of_the_code, API, "| `GET /v1/egress` | `read`", "| `GET /v1/egress` | `send`"),
    (rules.calls_are_those_of_the_code, API, "| `GET /healthz` |", "| `GET /health` |"),
    (rules.numbers_are_those_of_the_code, API, "30 min, 2 h", "45 min, 2 h"),
    (rules.numbers_are_those_of_the_code, API, "502, 503 and 504", "502 and 503"),
    (rules.numbers_are_those_of_the_code, README, "64 KiB", "128 KiB"),
    (rules.numbers_are_those_of_the_code, ARCHITECTURE, "the lease runs out after", "the lease ends after"),
    (rules.headers_that_are_not_passed_on_are_listed, API, "`X-Forwarded-`, ", ""),
    (rules.every_alarm_has_its_section, ALARMS_PAGE, "## WakeupAgeAlarm", "## QueueAgeAlarm"),
    (rules.every_alarm_has_its_section, "infra/observability.yaml", "#natportalarm", "#natalarm"),
    (rules.every_alarm_has_its_section, "infra/observability.yaml", "Runbook: docs/alarms.md#apierroralarm", ""),
    (rules.the_curl_lines_are_those_that_make_run_prints, README, '"amount": 10', '"amount": 11'),
    (
        rules.the_table_of_costs_is_what_the_tool_prints,
        "docs/costs.md",
        "| on-premises | per-az | ",
        "| on-premises | per-az | 1",
    ),
    (rules.the_table_of_costs_is_what_the_tool_prints, "stack/cost/prices.toml", "0.045", "0.054"),
    (rules.the_table_of_costs_is_what_the_tool_prints, README, "46 dollars", "47 dollars"),
    (rules.the_table_of_costs_is_what_the_tool_prints, "docs/costs.md", "| 1.05 |", "| 1.50 |"),
    (rules.the_table_of_costs_is_what_the_tool_prints, "docs/costs.md", "- RDS Proxy, ", "- RDS, "),
    (rules.the_changelog_has_a_place_for_this_version, CHANGELOG, "## [Unreleased]", "## Later"),
    (rules.the_changelog_has_a_place_for_this_version, CHANGELOG, "0.1.0", "0.0.9"),
    (rules.unreleased_changes_are_grouped_once, CHANGELOG, "### Changed\n", "### Fixed\n"),
    (rules.unreleased_changes_are_grouped_once, CHANGELOG, "### Changed\n", "- Once.\n- Once.\n\n### Changed\n"),
    (rules.unreleased_changes_are_grouped_once, CHANGELOG, "### Changed\n", "### Changed\n" + "and so on " * 1400),
    (
        rules.every_record_has_its_number_and_four_parts,
        "docs/adr/0001-message-first-row-second.md",
        "## Decision",
        "## So",
    ),
    (rules.no_text_names_a_place_outside_the_project, README, ".sallyport/logs", "/tm" + "p/sallyport/logs"),
    (
        rules.no_text_names_a_place_outside_the_project,
        "src/requirements.txt",
        "# What",
        "--index-" + "url https://x\n# What",
    ),
    (
        rules.pictures_bring_their_own_background_and_nothing_from_elsewhere,
        PICTURE,
        'fill="#ffffff"/>',
        'fill="none"/>',
    ),
    (rules.pictures_bring_their_own_background_and_nothing_from_elsewhere, PICTURE, "url(#out)", "url(arrows.svg)"),
    (rules.pictures_bring_their_own_background_and_nothing_from_elsewhere, PICTURE, "<desc", "<note"),
    (rules.blocks_of_json_are_json, PROBLEMS, '"status": 422,', '"status": 422],'),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_documents_keep_the_rule(rule: Rule) -> None:
    assert rule(TEXTS) == []


@pytest.mark.parametrize(
    ("rule", "page", "old", "new"),
    MUTATIONS,
    ids=[f"{rule.__name__}-{page}-{new.strip()[:20]}" for rule, page, _, new in MUTATIONS],
)
def test_the_rule_notices_a_document_that_breaks_it(rule: Rule, page: str, old: str, new: str) -> None:
    assert old in TEXTS[page], "the page has changed; change this case with it"
    changed: Texts = {**TEXTS, page: TEXTS[page].replace(old, new)}
    assert rule(changed) != []


def test_every_rule_has_a_document_that_breaks_it() -> None:
    assert {rule for rule, *_ in MUTATIONS} == set(RULES)
