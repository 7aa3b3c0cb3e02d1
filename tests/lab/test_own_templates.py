"""The networks of our own templates, for every allowed choice of topology and egress: oracle and packets agree."""

import io
import re
from contextlib import redirect_stdout

from lab.fuzz.comparison import compare
from lab.model.attempts import Arrived
from stack.network.serialize import dump, load
from tests.support.documents import the_program
from tests.support.enclosed import inside


def test_packets_and_oracle_agree_on_our_own_templates() -> None:
    from stack.network.from_templates import network as read  # in here, for the processes inside import this file too
    from stack.render import combinations, render

    ours = [
        combination
        for combination in combinations()
        if combination.refused is None and combination.parameters["Stage"] == "dev"
    ]
    assert len(ours) >= 10
    assert inside(_differences, [dump(read(render(combination.parameters))) for combination in ours]) == {}


def _differences(texts: list[str]) -> dict[str, list[str]]:
    differing = {}
    for place, text in enumerate(texts):
        results, differences = compare(load(text))
        if differences or not any(isinstance(result, Arrived) for result in results.values()):
            differing[str(place)] = [str(difference) for difference in differences]
    return differing


def test_the_example_in_the_documents_runs() -> None:
    assert (
        inside(_printed, the_program("docs/lab.md").replace("enter()", ""))
        == "Arrived(seen_as=IPv4Address('203.0.113.10'))"
    )


def _printed(example: str) -> str:
    output = io.StringIO()
    with redirect_stdout(output):
        exec(compile(example, "docs/lab.md", "exec"), {})  # noqa: S102 (the example is ours)
    arrived = re.search(r"Arrived\(.*?\)\)", output.getvalue())
    return arrived.group() if arrived else output.getvalue()
