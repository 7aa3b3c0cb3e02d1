"""`make invoke` runs the handler of every function. tests/tools/test_make_build.py runs it, where Docker does."""

import ast
from collections.abc import Mapping
from functools import cache

import pytest

from local.template import FunctionTemplate, Template
from stack.functions import FUNCTIONS
from tests.contract.project import ROOT
from tools.invoke import not_invoked


def invoked_by_the_steps() -> set[str]:
    """The logical ids that tools/invoke.py names where it invokes."""
    calls = [node for node in ast.walk(ast.parse((ROOT / "tools/invoke.py").read_text())) if isinstance(node, ast.Call)]
    return {
        argument.value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "invoke"
        for argument in call.args[:1]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def test_every_handler_runs_in_some_step() -> None:
    assert not_invoked(invoked_by_the_steps()) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_no_step_invokes_is_named(name: str) -> None:
    twins = {other for other in FUNCTIONS if handler_of(other) == handler_of(name)}
    assert not_invoked(FUNCTIONS.keys() - twins) == [other for other in FUNCTIONS if other in twins]


def test_one_of_two_functions_with_the_same_handler_is_enough() -> None:
    assert not_invoked(FUNCTIONS.keys() - {"CheckEgressB.Function"}) == []


def handler_of(name: str) -> str:
    return functions()[name].handler


@cache
def functions() -> Mapping[str, FunctionTemplate]:
    return Template(ROOT / "template.yaml").functions()
