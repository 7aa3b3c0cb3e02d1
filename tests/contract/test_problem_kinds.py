"""The kinds of problems that the OpenAPI document describes are those that the handlers make, with their statuses."""

from handlers.descriptions import KINDS
from tests.contract import rules_docs


def test_every_problem_that_is_made_has_its_status_in_the_document() -> None:
    made = {sample.kind: int(sample.status) for sample in rules_docs._samples()}
    assert {kind: status for kind, status in made.items() if status not in KINDS[kind].statuses} == {}


def test_every_kind_has_its_section_in_the_page_of_problems() -> None:
    text = rules_docs.project_texts()[rules_docs.PROBLEMS]
    assert [kind for kind in KINDS if f"### `{kind}`" not in text] == []
