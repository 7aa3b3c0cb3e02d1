"""local/template.py and stack/render.py resolve one template (docs/adr/0028) and agree wherever both have a value."""

from pathlib import Path
from typing import Any

import pytest

from local.template import FunctionTemplate, Template
from stack.render import Symbol, render

RENDERED = render()
FUNCTIONS = Template(Path(__file__).parents[2] / "template.yaml").functions()


def rendered(function: str) -> dict[str, Any]:
    properties: dict[str, Any] = RENDERED.resources[function]["Properties"]
    return properties


def known_variables(function: str) -> dict[str, str]:
    """The environment as it is rendered, without what only AWS knows."""
    variables = rendered(function)["Environment"]["Variables"]
    return {name: str(value) for name, value in variables.items() if not isinstance(value, Symbol)}


def test_both_see_the_same_functions() -> None:
    assert set(FUNCTIONS) <= set(RENDERED.of_type("AWS::Lambda::Function"))
    assert len(FUNCTIONS) > 5


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_the_two_evaluators_agree_about_a_function(function: FunctionTemplate) -> None:
    known = known_variables(function.logical_id)
    both = known.keys() & function.variables.keys()
    assert {name: function.variables[name] for name in both} == {name: known[name] for name in both}
    assert len(both) >= 3
    properties = rendered(function.logical_id)
    assert (function.handler, function.timeout_seconds, function.memory_mb) == (
        properties["Handler"],
        int(properties.get("Timeout", 3)),
        int(properties.get("MemorySize", 128)),
    )


def test_the_two_evaluators_agree_about_the_queues() -> None:
    queues = Template(Path(__file__).parents[2] / "template.yaml").queues()
    for name, queue in queues.items():
        properties = RENDERED.resources[name]["Properties"]
        assert queue.visibility_timeout_seconds == int(properties.get("VisibilityTimeout", 30))
        assert queue.retention_seconds == int(properties.get("MessageRetentionPeriod", 345_600))
        assert queue.max_receives == int(properties.get("RedrivePolicy", {}).get("maxReceiveCount", 0))
