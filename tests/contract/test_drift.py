"""Parameters, outputs, samconfig.toml and the documents agree."""

import re

from stack.parameters import page
from stack.render import templates, written
from tests.contract.project import APPLICATION, ROOT, load

PAGE = ROOT / "docs/parameters.md"


def test_the_page_of_parameters_is_what_make_parameters_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(templates(), load().samconfig)


def test_the_page_names_every_parameter_and_output_and_refusal() -> None:
    """Found in the page itself, so that a gap in the writing of it would show."""
    template = written(templates()[APPLICATION])
    text = PAGE.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert {*template["Parameters"], *template["Outputs"]} - rows == set()
    told = [assertion["AssertDescription"] for rule in template["Rules"].values() for assertion in rule["Assertions"]]
    assert [words for words in told if " ".join(words.split()).rstrip(".") not in text] == []


def test_a_cell_of_the_page_can_be_read_at_a_glance() -> None:
    """What needs more than one sentence is below the table."""
    cells = [
        cell for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|" for cell in line.split("|")
    ]
    assert [cell for cell in cells if len(cell.split()) > 30] == []


def test_the_page_follows_the_templates() -> None:
    """A new default, a new output and a new parameter each change the page."""
    project = load()
    before = page(project.texts, project.samconfig)
    for old, new in (
        ("    Default: arm64\n", "    Default: x86_64\n"),
        ("  AdminFunctionName:\n", "  OperatorsFunctionName:\n"),
        ("Minimum level of the functions' own log lines", "Least level of our log lines"),
    ):
        assert old in project.texts[APPLICATION]
        changed = {**project.texts, APPLICATION: project.texts[APPLICATION].replace(old, new, 1)}
        assert page(changed, project.samconfig) != before


def test_every_stage_sets_parameters_that_exist_and_agree() -> None:
    """Rules and patterns included; and each is of the stage that it is named after, or runs as prod does."""
    stages = {
        name: load().application(**parameters).parameters["Stage"] for name, parameters in load().stages().items()
    }
    assert stages == {"default": "dev", "dev": "dev", "staging": "staging", "prod": "prod", "internal": "prod"}
