"""The template as `sam local` reads it, by the SAM CLI's own providers: without a container engine."""

import json
import subprocess
from typing import Any

import pytest

from tests.contract.project import ROOT, load

SAM_PYTHON = ROOT / ".venv-sam/bin/python"
HERE = "postgresql://local/sallyport"


def read(**parameters: str) -> dict[str, Any]:
    """With `parameters` of the template, and a file for --env-vars that names a database."""
    command = [str(SAM_PYTHON), str(ROOT / "tests/tools/sam_reads.py"), str(ROOT / "template.yaml")]
    command += [json.dumps(parameters), json.dumps({"Parameters": {"DATABASE_URL": HERE}})]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_sam_local_can_read_every_function(architecture: str) -> None:
    found = read(Architecture=architecture)["functions"]
    assert found.keys() == load().functions().keys()
    for name, rendered in load().functions(Architecture=architecture).items():
        function, properties = found[name], rendered["Properties"]
        assert function["layers"] == []
        assert function["architectures"] == [architecture]
        assert function["working_directory"].endswith(f"tools/processors/{architecture}")
        assert (function["timeout"], function["memory"]) == (properties["Timeout"], properties["MemorySize"])
        assert (function["handler"], function["runtime"]) == (properties["Handler"], properties["Runtime"])


def test_a_file_of_variables_reaches_the_functions_and_nothing_else_is_set_by_accident() -> None:
    for function in read()["functions"].values():
        variables = function["variables"]
        assert variables["DATABASE_URL"] == HERE
        assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == ""
        assert [name for name, value in variables.items() if "Fn::" in value or "{" in value] == []


def test_sam_local_serves_every_route_and_asks_the_authorizer_for_all_of_v1() -> None:
    routes = read()["routes"]
    assert {route["function"] for route in routes} == {"ApiFunction"}
    assert len(routes) == 10
    for route in routes:
        assert route["authorizer"] == ("TokenAuthorizer" if route["path"].startswith("/v1/") else None)
