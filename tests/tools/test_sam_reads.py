"""The template as `sam local` reads it, by the SAM CLI's own providers: without a container engine."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from tests.contract.project import APPLICATION, ROOT, load

SAM_PYTHON = ROOT / ".venv-sam/bin/python"
HERE = "postgresql://local/sallyport"
ARCHITECTURES = ("arm64", "x86_64")

type Read = Mapping[str, Any]


@pytest.fixture(scope="module")
def read() -> Mapping[str, Read]:
    """By architecture, with a file for --env-vars that names a database. One process reads all: SAM starts slowly."""
    command = [str(SAM_PYTHON), str(ROOT / "tests/tools/sam_reads.py"), str(ROOT / "template.yaml")]
    parameters = [{"Architecture": architecture} for architecture in ARCHITECTURES]
    command += [json.dumps(parameters), json.dumps({"Parameters": {"DATABASE_URL": HERE}})]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: list[Read] = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(ARCHITECTURES, found, strict=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sam_local_can_read_every_function(read: Mapping[str, Read], architecture: str) -> None:
    found = read[architecture]["functions"]
    assert found.keys() == load().functions().keys()
    for name, rendered in load().functions(Architecture=architecture).items():
        function, properties = found[name], rendered["Properties"]
        assert function["layers"] == []
        assert function["architectures"] == [architecture]
        assert function["working_directory"].endswith(f"tools/processors/{architecture}")
        assert (function["timeout"], function["memory"]) == (properties["Timeout"], properties["MemorySize"])
        assert (function["handler"], function["runtime"]) == (properties["Handler"], properties["Runtime"])


def test_a_file_of_variables_reaches_the_functions_and_nothing_else_is_set_by_accident(
    read: Mapping[str, Read],
) -> None:
    for function in read["arm64"]["functions"].values():
        variables = function["variables"]
        assert variables["DATABASE_URL"] == HERE
        assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == ""
        assert [name for name, value in variables.items() if "Fn::" in value or "{" in value] == []


def test_sam_local_serves_every_route_and_asks_the_authorizer_for_all_of_v1(read: Mapping[str, Read]) -> None:
    routes = read["arm64"]["routes"]
    (api,) = load().of_type(APPLICATION, "AWS::ApiGateway::RestApi").values()
    assert {route["function"] for route in routes} == {"ApiFunction"}
    assert sorted(route["path"] for route in routes) == sorted(api["Properties"]["Body"]["paths"])
    for route in routes:
        assert route["authorizer"] == ("TokenAuthorizer" if route["path"].startswith("/v1/") else None)
