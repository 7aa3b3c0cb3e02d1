"""The recipes in CONTRIBUTING.md name the files that a change touches: two are followed, step by step.

Each step has an edit here, made on a copy of the project's texts. With all of them the rules of the contract tests are
kept; without any one of them some rule is not. The steps and their files are read from the page.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from db.migrations import migrations
from tests.contract import rules_docs, rules_functions, rules_migrations
from tests.contract.project import ROOT, load

type Tree = Mapping[str, str]

RECIPES = (
    "A route",
    "A stored column",
    "A function",
    "A metric",
    "An alarm",
    "A topology",
    "A proof",
    "A migration",
)
MIGRATIONS = "src/db/migrations/"
METRICS = rules_docs.METRICS
LANDED = "tests/contract/landed-migrations.sha256"
TREE: Tree = {**rules_docs.project_texts(), LANDED: (ROOT / LANDED).read_text(encoding="utf-8")}
NEW = f"{len(rules_migrations.files()) + 1:04}_notes_of_destinations"
SQL = """-- Why: operators want to write down what a destination is for.
ALTER TABLE destination ADD COLUMN note text;
GRANT SELECT (note) ON destination TO sallyport_readonly;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step of a recipe does to a file: the text after it, from the text before it ("" where there is none)."""

    path: str
    edit: Callable[[str], str]


def appended(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}{line}\n"


def replaced(pattern: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        changed, count = re.subn(pattern, new, text, count=1, flags=re.MULTILINE)
        assert count == 1, pattern
        return changed

    return edit


# By the path that the page names in each step.
STEPS: Mapping[str, Mapping[str, Step]] = {
    "A migration": {
        MIGRATIONS: Step(path=f"{MIGRATIONS}{NEW}.sql", edit=lambda _: SQL),
        "template.yaml": Step(path="template.yaml", edit=replaced(r"LatestMigration: \w+$", f"LatestMigration: {NEW}")),
        LANDED: Step(path=LANDED, edit=appended(f"{hashlib.sha256(SQL.encode()).hexdigest()}  {NEW}.sql")),
    },
    "A metric": {
        METRICS: Step(path=METRICS, edit=appended('    REQUESTS_REPEATED = "RequestsRepeated"')),
        "src/flows/": Step(path="src/flows/accept.py", edit=appended("    count(Metric.REQUESTS_REPEATED)")),
        "docs/running.md": Step(
            path="docs/running.md",
            edit=replaced(r"^(\| `DeliveriesAccepted` \|.*)$", r"\1\n| `RequestsRepeated` | repeats of a request |"),
        ),
    },
}


def listed(recipe: str) -> list[str]:
    """The files that the steps of a recipe begin with."""
    section = re.split(rf"^### {recipe}\n", TREE["CONTRIBUTING.md"], flags=re.MULTILINE)[1]
    return re.findall(r"^\d+\. `([^`]+)`", re.split(r"^##", section, flags=re.MULTILINE)[0], re.MULTILINE)


def followed(steps: Mapping[str, Step]) -> Tree:
    tree = dict(TREE)
    for step in steps.values():
        tree[step.path] = step.edit(tree.get(step.path, ""))
    return tree


def faults_of_migrations(tree: Tree, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the contract tests say of the migrations, the hashes and the template of this tree."""
    files = {
        path.removeprefix(MIGRATIONS): text
        for path, text in sorted(tree.items())
        if path.startswith(MIGRATIONS) and path.endswith(".sql")
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(rules_functions, "migrations", lambda: migrations(folder))
    project = load()
    changed = replace(project, texts={name: tree[name] for name in project.texts})
    others = [rule for rule in rules_migrations.RULES if rule is not rules_migrations.none_that_landed_was_changed]
    return [
        *(fault for rule in others for fault in rule(files)),
        *rules_migrations.none_that_landed_was_changed(files, tree[LANDED]),
        *rules_functions.the_migration_gates_what_uses_the_schema(changed),
    ]


def faults_of_documents(tree: Tree, _folder: Path, _monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the contract tests say of the documents beside the code of this tree."""
    rules = (
        rules_docs.every_metric_has_its_row,
        rules_docs.every_metric_is_counted,
        rules_docs.every_name_of_the_stack_or_the_code_exists,
    )
    return [fault for rule in rules for fault in rule(tree)]


FAULTS = {"A migration": faults_of_migrations, "A metric": faults_of_documents}


def test_there_is_a_recipe_for_each_usual_change_and_each_names_its_files() -> None:
    assert [recipe for recipe in RECIPES if len(listed(recipe)) < 2] == []


def test_every_file_and_folder_that_the_recipes_name_exists() -> None:
    section = TREE["CONTRIBUTING.md"].partition("\n## Recipes\n")[2].partition("\n## ")[0]
    named = re.findall(r"`([\w-]+(?:/[\w.-]*)+|[\w-]+\.(?:yaml|toml|md))`", section)
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("recipe", STEPS)
def test_the_steps_of_a_recipe_are_those_that_are_followed_here(recipe: str) -> None:
    assert listed(recipe) == list(STEPS[recipe])


@pytest.mark.parametrize("recipe", STEPS)
def test_a_recipe_that_is_followed_keeps_the_rules(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FAULTS[recipe](followed(STEPS[recipe]), tmp_path, monkeypatch) == []


@pytest.mark.parametrize(("recipe", "left_out"), [(recipe, step) for recipe, steps in STEPS.items() for step in steps])
def test_a_step_that_is_left_out_is_noticed(
    recipe: str, left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {path: step for path, step in STEPS[recipe].items() if path != left_out}
    assert FAULTS[recipe](followed(steps), tmp_path, monkeypatch) != []
