"""The networks of our own templates, for every allowed choice of topology and egress: oracle and packets agree."""

from lab.attempts import Arrived
from lab.fuzz import compare
from stack.saving import dump, load
from tests.support.enclosed import inside


def test_packets_and_oracle_agree_on_our_own_templates() -> None:
    from stack.reading import network as read  # in here, for the processes inside import this file too
    from stack.render import combinations, render

    ours = [one for one in combinations() if one.refused is None and one.parameters["Stage"] == "dev"]
    assert len(ours) >= 10
    assert inside(_differences, [dump(read(render(one.parameters))) for one in ours]) == {}


def _differences(texts: list[str]) -> dict[str, list[str]]:
    found = {}
    for place, text in enumerate(texts):
        verdicts, differences = compare(load(text))
        if differences or not any(isinstance(verdict, Arrived) for verdict in verdicts.values()):
            found[str(place)] = [str(one) for one in differences]
    return found
