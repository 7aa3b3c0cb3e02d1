"""Migrations keep the rules of expand and contract, and each rule notices the files that break it."""

import json
import re
from collections.abc import Callable

import pytest

from tests.contract import rules_migrations as rules
from tests.contract.project import ROOT
from tests.contract.rules_migrations import Files

type Rule = Callable[[Files], list[str]]

OURS = rules.files()
NEXT = f"{len(OURS) + 1:04}_later.sql"
AFTER = f"{len(OURS) + 2:04}_later_still.sql"
WHY = "-- Why: because.\n"
CONTRACT = f"{WHY}-- contract: {NEXT.removesuffix('.sql')} stopped using it.\n"
OUTSIDE = f"{WHY}-- outside a transaction\n"


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_ours_keep_the_rule(rule: Rule) -> None:
    assert rule(OURS) == []


def test_the_event_that_migrates_on_a_developers_machine_names_the_newest() -> None:
    event = json.loads((ROOT / "events/migrate.json").read_text(encoding="utf-8"))
    assert event["ResourceProperties"]["LatestMigration"] == max(OURS).removesuffix(".sql")


@pytest.mark.parametrize(
    ("rule", "text", "fault"),
    [
        (rules.each_opens_with_why, "ALTER TABLE delivery ADD COLUMN note text;", "does not open with"),
        (rules.squawk_finds_nothing, "ALTER TABLE delivery ADD COLUMN note text NOT NULL;", "adding-required-field"),
        (rules.squawk_finds_nothing, "ALTER TABLE delivery ALTER note SET NOT NULL;", "adding-not-nullable-field"),
        (rules.squawk_finds_nothing, "ALTER TABLE delivery DROP COLUMN metadata;", "ban-drop-column"),
        (rules.squawk_finds_nothing, "DROP FUNCTION delete_ended;", "ban-drop-function"),
        (rules.squawk_finds_nothing, "ALTER TABLE delivery RENAME COLUMN method TO verb;", "renaming-column"),
        (rules.squawk_finds_nothing, "ALTER TABLE delivery RENAME TO parcel;", "renaming-table"),
        (rules.squawk_finds_nothing, "ALTER TABLE delivery ALTER state TYPE int;", "changing-column-type"),
        (rules.squawk_finds_nothing, "CREATE INDEX due ON delivery (due_at);", "require-concurrent-index-creation"),
        (rules.squawk_finds_nothing, "ALTER TABLE delivery ADD CONSTRAINT a CHECK (true);", "constraint-missing-not"),
        (rules.squawk_finds_nothing, "ALTER TABLE delivery ADD CONSTRAINT a UNIQUE (due_at);", "disallowed-unique"),
        (rules.squawk_finds_nothing, "CREATE TABL note (n integer);", "syntax-error"),
        *(
            (rules.what_takes_something_away_says_who_stopped_using_it, statement, "without `-- contract:")
            for statement in (
                "ALTER TABLE delivery DROP COLUMN metadata;",
                "alter table delivery rename column method to verb;",
                "REVOKE SELECT ON token FROM sallyport_app;",
                "REVOKE EXECUTE ON FUNCTION append_audit FROM PUBLIC;",
                "REVOKE EXECUTE ON FUNCTION append_audit FROM sallyport_app;",
                "DROP ROLE sallyport_app;",
                "DELETE FROM attempt;",
                "TRUNCATE attempt;",
                "-- contract: nobody uses it any more\nTRUNCATE attempt;",
            )
        ),
        (
            rules.what_takes_something_away_says_who_stopped_using_it,
            "-- contract: 0099_unknown stopped using it\nDROP TABLE note;",
            "there is no earlier migration 0099_unknown",
        ),
        (
            rules.what_takes_something_away_says_who_stopped_using_it,
            f"-- contract: {NEXT.removesuffix('.sql')} stopped using it\nDROP TABLE note;",
            "there is no earlier migration",
        ),
        (
            rules.what_runs_outside_a_transaction_is_one_statement,
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS due ON delivery (due_at);",
            "lacks the line",
        ),
        (
            rules.what_runs_outside_a_transaction_is_one_statement,
            "-- outside a transaction\nUPDATE delivery SET query = '';",
            "is not one CREATE INDEX",
        ),
        (
            rules.what_runs_outside_a_transaction_is_one_statement,
            "-- outside a transaction\nSELECT 1; CREATE INDEX CONCURRENTLY IF NOT EXISTS due ON delivery (due_at);",
            "is not one CREATE INDEX",
        ),
        (
            rules.squawk_finds_nothing,
            "-- outside a transaction\nCREATE INDEX CONCURRENTLY due ON delivery (due_at);",
            "prefer-robust-stmts",
        ),
        (rules.none_that_landed_was_changed, "SELECT 1;", "is new: add `"),
    ],
)
def test_a_file_that_breaks_a_rule_is_noticed(rule: Rule, text: str, fault: str) -> None:
    written = text if rule is rules.each_opens_with_why else WHY + text
    found = rule(OURS | {NEXT: written})
    assert all(finding.startswith(NEXT) for finding in found)
    assert any(fault in finding for finding in found), found


@pytest.mark.parametrize(
    "text",
    [
        f"{WHY}ALTER TABLE delivery ADD COLUMN note text;",
        f"{WHY}ALTER TABLE delivery ADD COLUMN tries smallint NOT NULL DEFAULT 0;",
        f"{WHY}CREATE TABLE note (note_id uuid CONSTRAINT note_pkey PRIMARY KEY, words text NOT NULL);\n"
        "CREATE INDEX note_by_words ON note (words);",
        f"{WHY}-- It says drop and rename in a comment.\nINSERT INTO note VALUES ('delete, truncate; revoke');",
        f"{WHY}ALTER TABLE delivery ADD CONSTRAINT due CHECK (due_at > created_at) NOT VALID;",
        WHY + "CREATE FUNCTION noted() RETURNS integer AS $$ $$;\nREVOKE EXECUTE ON FUNCTION noted FROM PUBLIC;",
        f"{CONTRACT}ALTER TABLE delivery DROP COLUMN metadata;",
        CONTRACT + "REVOKE ALL ON token FROM sallyport_app;",
        f"{WHY}-- contract: v0.4.0 stopped using it\nDROP TABLE note;",
        f"{WHY}-- contract: v0.4.0 stopped using it\nDROP FUNCTION step;",
        f"{OUTSIDE}CREATE INDEX CONCURRENTLY IF NOT EXISTS due ON delivery (due_at);",
    ],
)
def test_what_older_code_can_live_with_is_taken(text: str) -> None:
    files = OURS | {NEXT: f"{WHY}SELECT 1;", AFTER: text}
    taken = [rule for rule in rules.RULES if rule is not rules.none_that_landed_was_changed]
    assert [fault for rule in taken for fault in rule(files)] == []


def test_a_file_that_was_changed_or_taken_away_after_it_landed_is_noticed() -> None:
    first, *others = OURS
    changed = OURS | {first: OURS[first] + "\n"}
    assert rules.none_that_landed_was_changed(changed) == [f"{first} was changed after it landed"]
    assert rules.none_that_landed_was_changed({name: OURS[name] for name in others}) == [f"{first} landed and is gone"]


def test_numbers_leave_no_gap_and_names_are_words() -> None:
    assert rules.each_is_named_in_order(OURS | {AFTER: WHY}) != []
    assert rules.each_is_named_in_order(OURS | {f"{len(OURS) + 1:04}_Later On.sql": WHY}) != []


def test_the_page_for_operators_quotes_the_lines_as_they_are(repository: object) -> None:
    text = (rules.FOLDER.parents[2] / "docs/migrations.md").read_text(encoding="utf-8")
    examples = re.findall(r"```sql\n(-- Why:.*?)```", text, re.DOTALL)
    assert len(examples) >= 3
    files = OURS | {f"{len(OURS) + number:04}_example.sql": example for number, example in enumerate(examples, 1)}
    taken = [rule for rule in rules.RULES if rule is not rules.none_that_landed_was_changed]
    assert [fault for rule in taken for fault in rule(files)] == []
