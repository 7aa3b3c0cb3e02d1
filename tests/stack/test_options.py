"""make passes its variables on as options, which the programs' parsers alone declare."""

import argparse

import pytest

from bench import __main__ as bench
from faults import __main__ as faults
from lab import __main__ as lab
from lab.fuzz import __main__ as fuzz
from simulator import __main__ as simulate
from simulator import search
from stack import db_shell
from stack.capacity import report as capacity
from stack.cost import report
from stack.deploy import deployment, guard
from stack.switches import add_switch
from tests.support.making import make, taken
from tools.mutants import __main__ as mutants

PARSERS = {
    "capacity": capacity.parser,
    "cost": report.parser,
    "guard": guard.parser,
    "deploy": deployment.parser,
    "preflight": deployment.parser,
    "status": deployment.parser,
    "protect": deployment.parser,
    "db-shell": db_shell.parser,
    "lab": lab.parser,
    "lab-shell": lab.parser,
    "lab-fuzz": fuzz.parser,
    "mutants": mutants.parser,
    "bench": bench.parser,
    "simulate": simulate.parser,
    "simulate-mutants": search.parser,
    "faults": faults.parser,
}
# Options for tests and other programs, which no variable of make stands for.
OTHERS = {
    "capacity": {"help"},
    "cost": {"help"},
    "guard": {"help"},
    "deploy": {"help", "sam"},
    "db-shell": {"help", "roots"},
    "lab": {"help", "tied", "host"},
    "lab-fuzz": {"help", "tied"},
    "mutants": {"help"},
    "bench": {"help"},
    "simulate": {"help"},
    "simulate-mutants": {"help"},
    "faults": {"help", "seconds"},  # make chaos has the seconds
}


def declared(target: str) -> set[str]:
    return {name.removeprefix("--") for name in PARSERS[target]()._option_string_actions if name.startswith("--")}


def variables(target: str) -> set[str]:
    """As options. ARGS are psql's."""
    return {name.lower().replace("_", "-") for name in taken(target) if name != "ARGS"}


@pytest.mark.parametrize("target", OTHERS)
def test_each_variable_in_the_help_is_an_option_and_each_option_a_variable(target: str) -> None:
    assert variables(target) == declared(target) - OTHERS[target]


@pytest.mark.parametrize("target", ["protect", "lab-shell"])
def test_what_a_target_takes_is_among_the_options_of_the_program_it_shares(target: str) -> None:
    assert variables(target) <= declared(target)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("cost", "stack.cost"),
        ("cost TOPOLOGY=on-premises DELIVERIES=10", "stack.cost --topology='on-premises' --deliveries='10'"),
        ("cost FREE=no STAGE=", "stack.cost --free='no'"),
        ("capacity RATE=1000 SET= PROXY=yes", "stack.capacity --rate='1000' --proxy='yes'"),
        ("guard CHANGE_SET=name STACK=s", "stack.deploy.guard --change-set='name' --stack='s'"),
        ("protect STAGE=dev", "stack.deploy protect --stage='dev'"),
        ("mutants N=3 LIST=yes", "tools.mutants --n='3' --list='yes'"),
        ("db-shell STACK=s ROLE=owner ARGS=-l", "stack.db_shell --stack='s' --role='owner' -l"),
    ],
)
def test_make_passes_on_what_has_a_value_and_nothing_else(arguments: str, options: str) -> None:
    done = make("--dry-run", *arguments.split())
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    words = line.partition("-m local.program ")[2].split()
    assert [word for word in words if not word.startswith("--tied=")] == options.split()


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (["STAGE=dev", "YES=no"], ["--stage=dev", "--yes=no"]),
        (["STAGE=dev", "NESTED=no", "ALLOW=A,B"], ["--stage=dev", "--allow=A,B", "--nested=no"]),
        (["STAGE="], []),
    ],
)
def test_the_options_of_a_deployment(given: list[str], options: list[str]) -> None:
    """`make --dry-run deploy` would look at AWS, as it runs the line that calls another make. The target that prints
    them has a name that is like none of the others: make would take it for one that is misspelt."""
    done = make("--eval=deployment_options: ; @printf '%s\\n' $(call options_of,deploy)", "deployment_options", *given)
    assert done.stdout.split() == options


def test_a_variable_may_also_come_from_the_environment() -> None:
    done = make("--dry-run", "protect", environment={"STAGE": "dev"})
    assert "-m local.program stack.deploy protect --stage='dev'" in done.stdout


@pytest.mark.parametrize("name", ["two words", "it's", "a;b", "`id`", '"'])
def test_a_value_arrives_as_it_was_given_whatever_a_shell_makes_of_it(name: str) -> None:
    done = make("guard", f"RECORDED={name}")
    assert done.stdout.splitlines()[0] == f"Refused: {name} cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("given", "value"),
    [([], False), (["--free"], True), (["--free=yes"], True), (["--free=1"], True), (["--free=no"], False)],
)
def test_a_switch_is_a_choice_of_yes_and_no(given: list[str], value: bool) -> None:
    assert switched().parse_args(given).free is value


@pytest.mark.parametrize("text", ["", "maybe", "YES", "true"])
def test_a_switch_takes_nothing_else(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        switched().parse_args([f"--free={text}"])
    assert f"{text!r} is neither yes nor no" in capsys.readouterr().err


def test_only_yes_answers_for_the_person_who_deploys_and_nested_change_sets_are_the_default() -> None:
    parsed = [deployment.parser().parse_args(["deploy", *more]) for more in ([], ["--yes=no"], ["--nested=no"])]
    assert [(options.yes, options.nested) for options in parsed] == [(False, True), (False, True), (False, False)]


def switched() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_switch(parser, "--free", words="list what costs nothing")
    return parser
