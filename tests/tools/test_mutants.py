"""`make mutants`: what it edits, what it leaves alone, and whether it distinguishes a test that catches an edit."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tools.mutants import __main__ as command_line
from tools.mutants import baseline as measuring
from tools.mutants import runner
from tools.mutants.baseline import Baseline, _is_unread, baseline
from tools.mutants.edits import Edit
from tools.mutants.forks import _replaced as replaced_in_memory
from tools.mutants.owners import OWNERS, files, owners
from tools.mutants.promises import promise
from tools.mutants.python_edits import compiles, python_edits, required_keywords
from tools.mutants.replaced import MIGRATIONS, migrations, replaced
from tools.mutants.report import EQUIVALENT, caught_percent, equivalents, key, summary
from tools.mutants.runner import MutantResult
from tools.mutants.sample import all_edits, changed_since, draw, is_readable, texts, touching
from tools.mutants.sql_edits import sql_edits
from tools.mutants.template_edits import template_edits
from tools.mutants.trees import Tree
from tools.mutants.warm import Ask, outermost

ROOT = Path(__file__).resolve().parent.parent.parent

PYTHON = '''"""A module."""

LIMIT = 5


def few(items: list[int], *, wanted: int = 3) -> bool:
    """Whether there are few."""
    logger.info("asked", wanted=7)
    if not items:
        raise ValueError(f"none of {11}")
    try:
        items.append(min(items[0], 2))
    except (KeyError, IndexError):
        return wanted == "many" and LIMIT > 1
    return len(items) < wanted or bool(items)
'''
STATEMENT = """
    WITH free AS (
        SELECT item.id, coalesce(a, b) AS first FROM item LEFT JOIN other USING (id)
        WHERE item.state = 'pending' AND item.due <= %(now)s  -- those that are due
        ORDER BY item.id DESC
        FOR UPDATE OF item SKIP LOCKED
    )
    UPDATE item SET state = 'sending', tries = CASE WHEN fresh THEN tries + 1 ELSE tries END
    FROM free WHERE free.id = item.id AND item.kind IN ('a', 'b')
"""
MIGRATION = """
CREATE TABLE token (
    token_id uuid NOT NULL,
    made timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT token_pkey PRIMARY KEY (token_id),
    CONSTRAINT token_tries CHECK (tries BETWEEN 0 AND 5)
);
CREATE UNIQUE INDEX token_by_time ON token (made);
INSERT INTO token (token_id, made) VALUES ('x', now()) ON CONFLICT DO UPDATE SET made = now();
GRANT SELECT, UPDATE (made, token_id) ON token TO sallyport_app;
"""
TEMPLATE = """\
Description: 5 things
Parameters:
  Limit:
    Type: Number
    Description: At most 7
    Default: 5
    AllowedValues: [1, 5]
Resources:
  SubnetA: {Type: 'AWS::EC2::Subnet', Properties: {CidrBlock: 10.0.0.0/24, VpcId: x}}
  SubnetB: {Type: 'AWS::EC2::Subnet', Properties: {CidrBlock: 10.0.1.0/24, VpcId: x}}
  Queue:
    Type: AWS::SQS::Queue
    DependsOn: SubnetA
    Properties:
      Fifo: !If [IsProd, true, false]
      Subnet: !Ref SubnetB
      Policy:
        - Effect: Allow
          Action: sqs:SendMessage
        - Effect: Deny
          Action: sqs:DeleteMessage
"""


def told(edits: list[Edit], text: str) -> set[tuple[str, str]]:
    return {edit.as_diff(text) for edit in edits}


def of_python(text: str) -> set[tuple[str, str]]:
    return told(python_edits("src/module.py", text, {}), text)


def of_sql(text: str) -> set[str]:
    return {re.sub(r"\s+", " ", edit.applied(text)) for edit in sql_edits("x.sql", text, 0, len(text))}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 5", "LIMIT = 6"),
        ("LIMIT = 5", "LIMIT = 50"),
        (
            "def few(items: list[int], *, wanted: int = 3) -> bool:",
            "def few(items: list[int], *, wanted: int = 4) -> bool:",
        ),
        ('if not items: raise ValueError(f"none of {11}")', "pass"),
        ("if not items:", "if items:"),
        ("items.append(min(items[0], 2))", "pass"),
        ("items.append(min(items[0], 2))", "items.append(max(items[0], 2))"),
        ("except (KeyError, IndexError):", "except (IndexError):"),
        ('return wanted == "many" and LIMIT > 1', "pass"),
        ('return wanted == "many" and LIMIT > 1', 'return wanted == "many" or LIMIT > 1'),
        ('return wanted == "many" and LIMIT > 1', 'return wanted == "mutant" and LIMIT > 1'),
        ('return wanted == "many" and LIMIT > 1', 'return wanted == "many" and LIMIT >= 1'),
        ("return len(items) < wanted or bool(items)", "return len(items) < wanted"),
        ("return len(items) < wanted or bool(items)", "return None"),
        ("return len(items) < wanted or bool(items)", "return not (len(items) < wanted or bool(items))"),
    ],
)
def test_python_is_edited_as_a_slip_would(old: str, new: str) -> None:
    assert (old, new) in of_python(PYTHON)


def test_texts_logs_and_annotations_are_left_alone() -> None:
    changed = {old for old, _ in of_python(PYTHON)}
    assert not [line for line in changed if "logger" in line or "module" in line]
    assert not [new for _, new in of_python(PYTHON) if "none of {1" in new and "none of {11}" not in new]


def test_what_a_call_needs_is_not_dropped_from_it() -> None:
    text = "def f(*, a: int, b: int = 1) -> int:\n    return a\n\n\nX = f(a=2, b=3)\n"
    edits = python_edits("src/x.py", text, required_keywords([text]))
    assert {edit.as_diff(text)[1] for edit in edits if edit.rule == "drops a keyword"} == {"X = f(a=2)"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" FOR UPDATE OF item SKIP LOCKED", " "),
        (" SKIP LOCKED", " "),
        ("item.state = 'pending' AND item.due", "item.due"),
        (" <= %(now)s", " < %(now)s"),
        (" DESC", ""),
        ("LEFT JOIN", "JOIN"),
        ("coalesce(a, b)", "b"),
        ("'pending'", "'mutant'"),
        ("SET state = 'sending', tries", "SET tries"),
        ("CASE WHEN fresh THEN tries + 1 ELSE tries END", "tries + 1"),
        ("tries + 1", "tries + 2"),
        ("('a', 'b')", "('b')"),
        ("free.id = item.id AND item", "free.id = item.id OR item"),
    ],
)
def test_statements_lose_their_locks_conditions_and_columns(old: str, new: str) -> None:
    wanted = re.sub(r"\s+", " ", re.sub(r"\s+", " ", STATEMENT).replace(old, new))
    assert wanted in of_sql(STATEMENT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("made timestamptz NOT NULL", "made timestamptz"),
        (" DEFAULT now()", ""),
        (", CONSTRAINT token_tries CHECK (tries BETWEEN 0 AND 5)", ""),
        ("BETWEEN 0 AND 5", "BETWEEN 0 AND 50"),
        ("CREATE UNIQUE INDEX token_by_time ON token (made);", ""),
        ("UNIQUE INDEX", "INDEX"),
        ("INSERT INTO token (token_id, made) VALUES ('x', now())", "INSERT INTO token (token_id) VALUES ('x')"),
        ("DO UPDATE SET made = now()", "DO NOTHING"),
        ("GRANT SELECT, UPDATE", "GRANT UPDATE"),
        ("UPDATE (made, token_id)", "UPDATE"),
        ("UPDATE (made, token_id)", "UPDATE (token_id)"),
    ],
)
def test_migrations_lose_constraints_indexes_and_rights(old: str, new: str) -> None:
    wanted = re.sub(r"\s+", "", MIGRATION).replace(re.sub(r"\s+", "", old), re.sub(r"\s+", "", new))
    assert wanted in {re.sub(r"\s+", "", text) for text in of_sql(MIGRATION)}


@pytest.mark.parametrize(
    ("columns", "dropped"),
    [
        ("a int NOT NULL, b int NOT NULL, CONSTRAINT t_pkey PRIMARY KEY (a, b)", []),
        ("a int NOT NULL, b int NOT NULL, PRIMARY KEY (b)", ["a int, b int NOT NULL, PRIMARY KEY (b)"]),
        (
            "a int NOT NULL CONSTRAINT t_pkey PRIMARY KEY, b int NOT NULL",
            ["a int NOT NULL CONSTRAINT t_pkey PRIMARY KEY, b int"],
        ),
    ],
)
def test_what_a_primary_key_says_by_itself_is_left_alone(columns: str, dropped: list[str]) -> None:
    found = [
        text for text in of_sql(f"CREATE TABLE IF NOT EXISTS t ({columns});") if "t_pkey" in text or "PRIMARY" in text
    ]
    less = [text for text in found if text.count("NOT NULL") < columns.count("NOT NULL")]
    assert less == [f"CREATE TABLE IF NOT EXISTS t ({column});" for column in dropped]


def test_sql_is_found_in_the_strings_of_python_and_not_taken_for_text() -> None:
    text = f'def claim() -> None:\n    """Claims."""\n    run("""{STATEMENT}""")\n'
    edits = [edit for edit in python_edits("src/db/x.py", text, {}) if edit.stratum == "sql"]
    assert (
        "WHERE item.state = 'pending' AND item.due <= %(now)s -- those that are due",
        "WHERE item.due <= %(now)s -- those that are due",
    ) in told(edits, text)
    assert all(compiles(edit.applied(text)) for edit in edits)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Default: 5", "Default: 50"),
        ("AllowedValues: [1, 5]", "AllowedValues: [5]"),
        ("DependsOn: SubnetA", ""),
        ("Fifo: !If [IsProd, true, false]", "Fifo: !If [IsProd, false, true]"),
        ("Subnet: !Ref SubnetB", "Subnet: !Ref SubnetA"),
        ("- Effect: Allow", "- Effect: Deny"),
        ("Action: sqs:SendMessage", "Action: 'sqs:*'"),
        ("- Effect: Allow Action: sqs:SendMessage", ""),
        ("- Effect: Allow Action: sqs:SendMessage", "- Action: sqs:SendMessage"),
    ],
)
def test_templates_are_edited_where_it_matters(old: str, new: str) -> None:
    assert (old, new) in told(template_edits("template.yaml", TEMPLATE), TEMPLATE)


def test_descriptions_are_left_alone_and_ranges_become_the_internet() -> None:
    found = told(template_edits("template.yaml", TEMPLATE), TEMPLATE)
    assert not [old for old, _ in found if old.startswith("Description")]
    assert any("CidrBlock: 0.0.0.0/0" in new for _, new in found)


FIRST_DEFINITION = """-- Why: two functions.
CREATE FUNCTION step(a integer) RETURNS integer LANGUAGE sql AS $$
    SELECT 1;
$$;
CREATE FUNCTION steps(a integer) RETURNS integer LANGUAGE sql AS $$ SELECT 2 $$;
GRANT EXECUTE ON FUNCTION step TO somebody;
"""


@pytest.mark.parametrize(
    "later",
    ["CREATE OR REPLACE FUNCTION step(a integer) RETURNS integer AS $$ SELECT 3 $$;\n", "DROP FUNCTION step;\n"],
)
def test_what_a_later_migration_replaces_or_drops_is_not_edited(later: str) -> None:
    spans = replaced({"0001.sql": FIRST_DEFINITION, "0002.sql": later})
    assert list(spans) == ["0001.sql"]
    ((start, end),) = spans["0001.sql"]
    assert FIRST_DEFINITION[start:end] == (
        "CREATE FUNCTION step(a integer) RETURNS integer LANGUAGE sql AS $$\n    SELECT 1;\n$$;"
    )


def test_no_edit_is_within_a_definition_that_is_replaced() -> None:
    spans, edits = replaced(migrations(ROOT)), all_edits(ROOT, texts(ROOT, [MIGRATIONS]))
    assert spans["src/db/migrations/0008_turns.sql"], "return_turns is defined again in 0029"
    assert [edit for edit in edits for start, end in spans.get(edit.path, []) if start <= edit.start < end] == []
    assert {edit.path for edit in edits} >= spans.keys()


def test_every_file_that_is_edited_has_owners_that_exist() -> None:
    assert {path for path in files(ROOT) if not owners(path)} == set()
    assert {tests for places in OWNERS.values() for tests in places if not (ROOT / tests).exists()} == set()
    with pytest.raises(KeyError):
        owners("lab/oracle.py")


def test_the_same_seed_draws_the_same_and_another_one_others() -> None:
    chosen = texts(ROOT)
    edits = all_edits(ROOT, chosen)
    drawn = draw(edits, chosen, count=30, seed=4)
    assert drawn == draw(edits, chosen, count=30, seed=4)
    assert drawn != draw(edits, chosen, count=30, seed=5)
    assert [sum(edit.stratum == name for edit in drawn) for name in ("python", "sql", "template")] == [14, 8, 8]
    assert all(is_readable(edit, chosen[edit.path]) and promise(edit, chosen[edit.path]) for edit in drawn)


def test_a_change_alone_can_be_tried(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    (tmp_path / "src").mkdir()
    module = tmp_path / "src" / "x.py"
    module.write_text("A = 1\nB = 2\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    module.write_text("A = 1\nB = 3\nC = 4\n")
    lines = changed_since(tmp_path, "HEAD")
    chosen = {"src/x.py": module.read_text()}
    found = touching(python_edits("src/x.py", chosen["src/x.py"], {}), chosen, lines)
    assert {edit.line(chosen["src/x.py"]) for edit in found} == {2, 3}
    with pytest.raises(subprocess.CalledProcessError):
        changed_since(tmp_path, "nowhere")


def test_every_equivalent_edit_is_still_one_of_ours_and_has_a_reason() -> None:
    chosen = texts(ROOT)
    known = {key(edit, chosen) for edit in all_edits(ROOT, chosen)}
    assert [entry for entry in equivalents() if entry not in known] == []
    assert [entry for entry, reason in equivalents().items() if len(reason.split()) < 4] == []
    assert EQUIVALENT.is_file()


def test_equivalent_edits_do_not_count() -> None:
    edit = python_edits("src/x.py", "A = 1\n", {})[0]
    verdicts = ["caught", "timeout", "text", "survived", "equivalent"]
    results = [MutantResult(edit=edit, verdict=verdict, by="") for verdict in verdicts]
    assert caught_percent(results) == 75
    assert list(summary(results))[-1] == (
        "all        75.0 %: 3 caught, of these 1 by a time-out, 1 by a text alone, 1 survived, 1 equivalent"
    )


def test_tests_are_measured_again_when_what_they_read_changes() -> None:
    assert not _is_unread("src/domain/ids.py", "tests/unit", covered=True)
    assert not _is_unread("tests/unit/test_ids.py", "tests/unit/test_ids.py", covered=True)
    assert not _is_unread("tests/egress/servers.py", "tests/flows", covered=True)
    assert _is_unread("tests/lab/test_plan.py", "tests/unit", covered=True)
    assert _is_unread("docs/api.md", "tests/unit", covered=True)
    assert not _is_unread("docs/api.md", "tests/contract", covered=False)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project with two files of tests and one of code."""
    for path in ("tests/unit/test_a.py", "tests/unit/test_b.py", "tests/unit/helpers.py", "src/code.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, capture_output=True)
    (tmp_path / ".gitignore").write_text(".mutants\n")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "run"),
    [
        ("tests/unit/test_b.py", [["tests/unit/test_b.py"]]),
        ("tests/unit/helpers.py", [["tests/unit"]]),
        ("src/code.py", [["tests/unit"]]),
        ("docs/page.md", []),
    ],
)
def test_a_file_of_tests_is_measured_by_itself_and_what_all_read_measures_all(
    small: Path, monkeypatch: pytest.MonkeyPatch, changed: str, run: list[list[str]]
) -> None:
    asked: list[list[str]] = []

    def measured(_tree: Tree, wanted: list[str], **_: object) -> Baseline:
        asked.append(wanted)
        tests = [f"tests/unit/test_{name}.py::test" for name in "ab"]
        lines = {"src/code.py": {len(asked): tests}}
        return Baseline(seconds=dict.fromkeys(tests, 1.0), lines=lines, failing=())

    def known() -> Baseline:
        tree = Tree(files=small, scratch=small)
        return baseline(small, tree, "tests/unit", python=Path(), covered=True, anyway=False)

    monkeypatch.setattr(measuring, "_measured", measured)
    first = known()
    assert known() == first
    assert asked == [["tests/unit"]]
    assert first.touching("src/code.py", 1, 1) == set(first.seconds)
    (small / changed).parent.mkdir(exist_ok=True)
    (small / changed).write_text("# changed")
    second = known()
    assert asked[1:] == run
    assert set(second.seconds) == set(first.seconds)
    moved = {test for test in first.seconds for tests in run if test.startswith(tests[0])}
    assert second.touching("src/code.py", 2, 2) == moved


@pytest.mark.parametrize("path", ["src/db/migrations/0001_first_tables.sql", "template.yaml", "src/domain/scopes.py"])
def test_a_file_of_each_language_can_be_tried_without_the_others(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"tests/db/test_lists.py::test_one": 1.0}
    monkeypatch.setattr(runner, "baseline", lambda *_, **__: Baseline(seconds=seconds, lines={}, failing=()))
    chosen = texts(ROOT, [path])
    edit = all_edits(ROOT, chosen)[0]
    trees: Queue[Tree] = Queue()
    trees.put(Tree(files=tmp_path, scratch=tmp_path))
    ready = runner.Runner(root=ROOT, texts=chosen, trees=trees, python=Path(), tests=(), anyway=False)
    assert len(list(ready.prepare([edit]))) == len(owners(path))
    assert ready.chosen(edit) == seconds


FUNCTIONS = """
from functools import cache

LIMIT = 3

@cache
def few(number):
    return number < LIMIT

class Shelf:
    @property
    def room(self):
        def left(taken):
            return LIMIT - taken
        return left(1)
"""


def loaded(text: str, directory: Path) -> dict[str, Any]:
    """What a module has, as it is imported."""
    names: dict[str, Any] = {}
    exec(compile(text, str(directory / "code.py"), "exec"), names)  # noqa: S102 - our own text
    return names


@pytest.mark.parametrize(
    ("old", "new", "look", "becomes"),
    [
        ("number < LIMIT", "number <= LIMIT", lambda names: names["few"](3), True),
        ("LIMIT - taken", "LIMIT + taken", lambda names: names["Shelf"]().room, 4),
        ("left(1)", "left(2)", lambda names: names["Shelf"]().room, 1),
    ],
)
def test_a_function_that_is_loaded_is_edited_whatever_is_around_it(
    tmp_path: Path, old: str, new: str, look: Callable[[dict[str, Any]], object], becomes: object
) -> None:
    names = loaded(FUNCTIONS, tmp_path)
    place = outermost(FUNCTIONS, FUNCTIONS[: FUNCTIONS.index(old)].count("\n") + 1)
    assert place is not None
    assert replaced_in_memory(ask(tmp_path, FUNCTIONS.replace(old, new), *place))
    assert look(names) == becomes


def test_what_runs_at_import_or_is_not_loaded_needs_a_process_of_its_own(tmp_path: Path) -> None:
    assert outermost(FUNCTIONS, 4) is None
    assert not replaced_in_memory(ask(tmp_path, FUNCTIONS, "few", 6))


def ask(directory: Path, text: str, function: str, line: int) -> Ask:
    return Ask(
        file=str(directory / "code.py"),
        text=text,
        function=function,
        line=line,
        tests=[],
        log=str(directory / "log"),
        timeout_seconds=1,
    )


def mutants(*variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "mutants", *variables], cwd=ROOT, capture_output=True, text=True, check=False, timeout=500
    )


def test_a_few_edits_are_tried_and_the_working_tree_stays_as_it_is() -> None:
    before = (ROOT / "src/domain/ids.py").read_bytes()
    done = mutants("N=3", "SEED=3", "ONLY=src/domain/ids.py", "TESTS=tests/unit/test_ids.py", "JOBS=1", "MINIMUM=60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^caught +src/domain/ids\.py:\d+ .*\(tests/unit/test_ids\.py::test_", done.stdout, re.MULTILINE)
    assert re.search(r"^all +\d+\.\d %: \d caught", done.stdout, re.MULTILINE)
    assert (ROOT / "src/domain/ids.py").read_bytes() == before


def test_tests_that_check_nothing_let_an_edit_survive_and_the_command_fails() -> None:
    done = mutants("N=1", "ONLY=src/domain/ids.py", "TESTS=tests/unit/test_paging.py", "JOBS=1")
    assert done.returncode == 2
    assert "survived   src/domain/ids.py:" in done.stdout
    assert "breaks: " in done.stdout
    assert json.loads((ROOT / ".mutants/survivors").read_text())[0][0] == "src/domain/ids.py"


def test_some_kinds_of_edits_can_be_tried_alone() -> None:
    done = mutants("N=20", "RULES=drops a guard,drops a filter", "ONLY=src/domain", "LIST=yes")
    drawn = re.findall(r"^drawn +src/domain/\S+ (.*) \(not tried\)$", done.stdout, re.MULTILINE)
    assert len(drawn) == 20, done.stdout + done.stderr
    assert set(drawn) == {"drops a guard", "drops a filter"}


def test_a_wrong_commit_is_one_line() -> None:
    done = mutants("SINCE=nowhere")
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "nowhere" in line] != []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--only", "docs"], "ONLY names no file that it edits"),
        (["--only", "src/domain", "--rules", "drops the guard"], "there is no rule 'drops the guard'; RULES takes "),
        (["--only", "template.yaml", "--rules", "drops a guard"], "none of RULES has an edit in these files"),
    ],
)
def test_a_run_that_would_edit_nothing_is_no_success(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main([*arguments, "--list"]) == 2
    assert why in capsys.readouterr().err
