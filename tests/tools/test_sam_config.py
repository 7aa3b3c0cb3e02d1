"""samconfig.toml against the SAM CLI's own commands and options: SAM says nothing of a misspelt table or key."""

import json
import subprocess
import tomllib
from functools import cache
from typing import Any

import pytest

from tests.contract.project import ROOT

STAGES = ("dev", "staging", "prod", "internal")
OFFLINE = ("build", "validate", "local_invoke", "local_start_api", "local_start_lambda")
OF_A_STACK = ("delete", "logs", "list_endpoints", "list_resources", "list_stack_outputs", "remote_invoke")
SAMCONFIG = (ROOT / "samconfig.toml").read_text(encoding="utf-8")


@cache
def options() -> dict[str, list[str]]:
    """Of each command, named as its table is."""
    command = [str(ROOT / ".venv-sam/bin/python"), str(ROOT / "tests/tools/sam_options.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def tables(samconfig: str = SAMCONFIG) -> dict[str, dict[str, Any]]:
    """The parameters of each command of each stage."""
    stages = {name: table for name, table in tomllib.loads(samconfig).items() if name != "version"}
    return {
        stage: {command: table["parameters"] for command, table in commands.items()}
        for stage, commands in stages.items()
    }


def unknown(samconfig: str) -> list[str]:
    """Tables and keys that SAM would pass over; what is for all commands must be known to `sam deploy`."""
    known = options() | {"global": options()["deploy"]}
    found = [(stage, command, keys) for stage, rows in tables(samconfig).items() for command, keys in rows.items()]
    return [
        f"{stage}.{command}.{key}"
        for stage, command, keys in found
        for key in keys
        if key not in known.get(command, [])
    ]


def test_sam_knows_every_table_and_every_key() -> None:
    assert unknown(SAMCONFIG) == []


@pytest.mark.parametrize(
    ("right", "wrong"), [(".local_start_api.", ".start_api."), ("confirm_changeset", "confirm_change_set")]
)
def test_a_misspelt_table_or_key_is_noticed(right: str, wrong: str) -> None:
    assert right in SAMCONFIG
    assert unknown(SAMCONFIG.replace(right, wrong)) != []


@pytest.mark.parametrize("stage", ["default", *STAGES])
def test_what_reaches_no_account_needs_no_region_of_anyone(stage: str) -> None:
    for command in OFFLINE:
        assert tables()[stage][command]["region"] == "us-east-1"


@pytest.mark.parametrize("stage", STAGES)
def test_every_command_of_a_stage_means_the_stack_that_is_deployed(stage: str) -> None:
    rows = tables()[stage]
    stack = rows["deploy"]["stack_name"]
    assert {command: rows[command]["stack_name"] for command in OF_A_STACK} == dict.fromkeys(OF_A_STACK, stack)
    assert rows["package"] == {"resolve_s3": True, "s3_prefix": stack}
    assert rows["deploy"]["confirm_changeset"] is True


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_gives_the_capabilities_that_roles_and_nested_transforms_need(stage: str) -> None:
    assert tables()[stage]["deploy"]["capabilities"].split() == ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]


def test_only_dev_is_synced_and_as_it_is_deployed() -> None:
    synced = {stage: rows["sync"] for stage, rows in tables().items() if "sync" in rows}
    assert synced.keys() == {"dev"}
    deployed = tables()["dev"]["deploy"]
    for key in ("stack_name", "capabilities", "tags", "parameter_overrides"):
        assert synced["dev"][key] == deployed[key]


def test_a_guided_deployment_of_him_who_presses_return_asks_before_it_changes_anything() -> None:
    offered = tables()["default"]["global"]
    assert (offered["confirm_changeset"], offered["disable_rollback"]) == (True, False)
    assert offered["capabilities"] == tables()["prod"]["deploy"]["capabilities"]
    assert "deploy" not in tables()["default"]  # `make deploy` takes each such table for a stage
