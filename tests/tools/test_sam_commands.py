"""The commands of docs/sam.md as a person types them: those for an account against moto, containers where Docker is."""

import contextlib
import http.client
import json
import os
import platform
import re
import signal
import socket
import subprocess
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from local.demonstration import working_token
from local.stack import Stack, StackConfiguration
from stack.deploy.deployment import stage_config
from tests.support.copies import copy_project, has_no_container_engine
from tests.support.documents import the_command
from tests.support.making import make
from tests.support.sam import SECONDS, sam, surroundings
from tests.support.terminal import Terminal
from tools.containers import VARIABLES_FILE
from tools.package import WHEEL_MACHINES, built_architecture

HERE = next((name for name, machine in WHEEL_MACHINES.items() if machine == platform.machine()), "x86_64")
ELSEWHERE = next(name for name in WHEEL_MACHINES if name != HERE)
REGION = "eu-central-1"
MANAGED_STACK = "aws-sam-cli-managed-default"  # where `sam deploy` keeps its bucket
NEEDS_DOCKER = pytest.mark.skipif(has_no_container_engine(), reason="it needs Docker, and `docker info` fails here")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a person who has no profile."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    """A copy of the project after one `sam build` for this machine's processor."""
    root = copy_project(tmp_path_factory.mktemp("project"))
    done = sam("build", "--parameter-overrides", f"Architecture={HERE}", root=root, environment=surroundings(home))
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def unbuilt(tmp_path: Path) -> Path:
    """A copy whose packages, for deployments, are the sources alone: small ones."""
    return copy_project(tmp_path / "project")


@pytest.fixture(scope="module")
def account(home: Path) -> Iterator[dict[str, str]]:
    """The environment of a person with an account in moto. The name localhost has moto find templates in its own S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://localhost:{server.get_host_and_port()[1]}"
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
    try:
        _furnish(url)
        yield surroundings(home, AWS_ENDPOINT_URL=url, AWS_DEFAULT_REGION=REGION, **keys)
    finally:
        server.stop()


def _client(url: str, service: str) -> Any:
    return boto3.Session("AKIDEXAMPLE", "secret", region_name=REGION).client(service, endpoint_url=url)


def _furnish(url: str) -> None:
    """SAM's own stack, whose outputs moto would lose if SAM made it, and a stack to look at and delete."""
    config = json.dumps({"lambda": {"use_docker": False}}).encode()
    asked = urllib.request.Request(f"{url}/moto-api/config", config, {"Content-Type": "application/json"})  # noqa: S310 (moto's own address)
    urllib.request.urlopen(asked, timeout=60).close()  # noqa: S310 (as above)
    bucket = {
        "Resources": {"SamCliSourceBucket": {"Type": "AWS::S3::Bucket"}},
        "Outputs": {"SourceBucket": {"Value": {"Ref": "SamCliSourceBucket"}}},
    }
    tags = [{"Key": "ManagedStackSource", "Value": "AwsSamCli"}]
    cloudformation = _client(url, "cloudformation")
    cloudformation.create_stack(StackName=MANAGED_STACK, TemplateBody=json.dumps(bucket), Tags=tags)
    queue = {
        "Resources": {"WakeupQueue": {"Type": "AWS::SQS::Queue"}},
        "Outputs": {"DeadLetterQueueUrl": {"Value": {"Ref": "WakeupQueue"}}},
    }
    cloudformation.create_stack(StackName="sallyport-dev", TemplateBody=json.dumps(queue))


def _change_set(account: Mapping[str, str], stack: str) -> dict[str, Any]:
    """The one that SAM left."""
    cloudformation = _client(account["AWS_ENDPOINT_URL"], "cloudformation")
    listed = cloudformation.list_change_sets(StackName=stack)["Summaries"]  # moto lists those of all stacks
    (summary,) = [summary for summary in listed if summary["StackName"] == stack]
    found: dict[str, Any] = cloudformation.describe_change_set(ChangeSetName=summary["ChangeSetId"])
    return found


def test_sam_build_builds_for_the_processor_that_its_parameter_names(built: Path) -> None:
    assert built_architecture(built / ".aws-sam/build") == HERE


def test_sam_build_of_one_function_alone_builds_for_the_default_processor(unbuilt: Path, home: Path) -> None:
    done = sam("build", "NetworkResourcesFunction", root=unbuilt, environment=surroundings(home))
    assert done.returncode == 0, done.stderr
    assert built_architecture(unbuilt / ".aws-sam/build") == "arm64"


def test_sam_build_accepts_the_template_unchanged(unbuilt: Path, home: Path) -> None:
    # The build itself is tests/tools/test_make_build.py's, which types `make build` and so this; here it stops at once.
    environment = surroundings(home) | {"ARCHITECTURE": "x86_64"}
    done = sam("build", root=unbuilt, environment=environment)
    assert done.returncode != 0
    assert "Run sam build --parameter-overrides Architecture=x86_64, or unset ARCHITECTURE" in done.stdout + done.stderr


def test_make_bench_measures_cold_starts_of_what_sam_built(built: Path) -> None:
    done = make("bench", "ONLY=cold", "SMALL=yes", root=built)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "SKIPPED" not in done.stdout
    rows = re.findall(r"^\| (\w+Function) ", done.stdout, re.MULTILINE)
    assert len(rows) == 5


def test_a_guided_deployment_of_someone_who_only_presses_return_asks_before_it_changes_anything(
    unbuilt: Path, account: Mapping[str, str]
) -> None:
    done = sam("deploy", "--guided", root=unbuilt, environment=account, typed="\n" * 200)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("Deploy this changeset? [y/N]:")
    parameters = {
        parameter["ParameterKey"]: parameter["ParameterValue"]
        for parameter in _change_set(account, "sam-app")["Parameters"]
    }
    assert (parameters["Stage"], parameters["Topology"]) == ("dev", "public-private")
    text = (unbuilt / "samconfig.toml").read_text()
    saved = tomllib.loads(text)["default"]
    assert saved["global"]["parameters"]["confirm_changeset"] is True
    assert saved["deploy"]["parameters"]["stack_name"] == "sam-app"
    stage = stage_config(text, "default")  # as `make deploy STAGE=default` reads it
    assert (stage.stack, stage.parameters) == ("sam-app", parameters)
    assert "CAPABILITY_AUTO_EXPAND" in stage.capabilities


def test_sam_deploy_makes_the_change_set_of_a_stage_and_asks(unbuilt: Path, account: Mapping[str, str]) -> None:
    config = unbuilt / "samconfig.toml"  # a stack of its own: sallyport-dev is there already
    config.write_text(config.read_text().replace('"sallyport-dev"', '"sallyport-new"'))
    done = sam("deploy", "--config-env", "dev", root=unbuilt, environment=account, typed="\n")
    assert "Deploy this changeset? [y/N]:" in done.stdout, done.stderr
    found = _change_set(account, "sallyport-new")
    parameters = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in found["Parameters"]}
    assert (parameters["Stage"], parameters["ReserveConcurrency"]) == ("dev", "no")
    assert {"Network", "ApiFunction"} <= {change["ResourceChange"]["LogicalResourceId"] for change in found["Changes"]}


def test_the_commands_for_an_account_say_in_one_line_that_a_region_is_missing(
    unbuilt: Path, account: Mapping[str, str]
) -> None:
    nowhere = {name: value for name, value in account.items() if name != "AWS_DEFAULT_REGION"}
    for environment in (nowhere, nowhere | {"AWS_REGION": REGION}):  # SAM does not read the second
        done = sam("list", "stack-outputs", "--config-env", "dev", root=unbuilt, environment=environment)
        assert done.returncode != 0
        assert "region" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_stage_s_stack_is_listed_and_deleted(unbuilt: Path, account: Mapping[str, str]) -> None:
    for done in (
        sam("list", "stack-outputs", "--config-env", "dev", root=unbuilt, environment=account),
        sam("list", "resources", "--config-env", "dev", root=unbuilt, environment=account),
        sam("list", "endpoints", "--config-env", "dev", root=unbuilt, environment=account),
    ):
        assert done.returncode == 0, done.stderr
    cloudformation = _client(account["AWS_ENDPOINT_URL"], "cloudformation")
    refused = sam("delete", "--config-env", "dev", root=unbuilt, environment=account, typed="\n\n")
    assert "[y/N]" in refused.stdout
    assert cloudformation.describe_stacks(StackName="sallyport-dev")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    done = sam("delete", "--config-env", "dev", root=unbuilt, environment=account, typed="y\ny\ny\n")
    assert done.returncode == 0, done.stderr
    stacks = cloudformation.list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"]
    assert "sallyport-dev" not in {stack["StackName"] for stack in stacks}


def test_the_page_s_path_has_the_version_of_sam_that_it_names(repository: Path) -> None:
    printed = Terminal(directory=repository).types("docs/sam.md", 'export PATH="$PWD', then="sam --version")
    version = re.findall(r"version ([\d.]+) of the SAM CLI", (repository / "docs/sam.md").read_text())
    assert [printed.split()[-1].rpartition(".")[0]] == version


@NEEDS_DOCKER
def test_a_build_in_a_container_fails_and_says_what_is_missing(unbuilt: Path, home: Path) -> None:
    done = sam("build", "--use-container", root=unbuilt, environment=surroundings(home))
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "Build Failed" in said
    # Without the image for builds it ends before the makefile begins, with the image's name.
    assert re.search(r"No such file or directory|public\.ecr\.aws/sam/build-python3\.13", said), said


@NEEDS_DOCKER
@pytest.mark.skipif(HERE != "x86_64", reason="the image is for x86_64")
def test_sam_local_invoke_answers_from_the_built_package(built: Path, home: Path) -> None:
    done = sam(
        "local",
        "invoke",
        "ApiFunction",
        "--event",
        "events/api-get.json",
        "--parameter-overrides",
        "Architecture=x86_64",
        "--skip-pull-image",
        root=built,
        environment=surroundings(home),
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["statusCode"] == 503
    assert "Retry-After" in {**answer.get("headers", {}), **answer.get("multiValueHeaders", {})}


@contextlib.contextmanager
def start_api(*words: str, root: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """`sam local start-api`, until the end; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with (root / "start-api.log").open("wb") as log:
        process = subprocess.Popen(
            ["sam", *words, "--port", str(port), "--skip-pull-image"],
            cwd=root,
            env=dict(environment),
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(SECONDS)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=60):
            return
        time.sleep(0.1)
    raise AssertionError(f"sam ended with {process.returncode}")


def _get(port: int, path: str, token: str | None = None) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


@NEEDS_DOCKER
@pytest.mark.skipif(HERE != "x86_64", reason="the image is for x86_64")
def test_sam_local_start_api_answers_as_documented_without_a_database(built: Path, home: Path) -> None:
    environment = surroundings(home)
    with start_api(
        "local", "start-api", "--parameter-overrides", "Architecture=x86_64", root=built, environment=environment
    ) as port:
        found = {
            "/healthz": _get(port, "/healthz")[0],
            "/docs": _get(port, "/docs")[0],
            "without a token": _get(port, "/v1/deliveries")[0],
            "a wrong token": _get(port, "/v1/deliveries", "wrong")[0],
            "the database is away": _get(port, "/v1/deliveries", "spt_" + "0" * 43)[0],
            "no path": _get(port, "/nothing")[0],
        }
    assert found == {
        "/healthz": 200,
        "/docs": 200,
        "without a token": 401,
        "a wrong token": 502,
        "the database is away": 502,
        "no path": 403,
    }


@pytest.fixture
def local_stack(built: Path) -> Iterator[Path]:
    """`make run`'s stack with its data where the documents have it, and a token; the directory."""
    configuration = StackConfiguration(
        directory=built / ".sallyport", port=0, partner_port=0, durable=False, report=lambda _: None
    )
    with Stack(configuration) as stack:
        working_token(stack, stored_in=configuration.directory / "token")
        yield configuration.directory


@contextlib.contextmanager
def opened(command: str, *, directory: Path) -> Iterator[None]:
    """A command of the page that opens the stack, in a shell, until Ctrl-C."""
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=directory.parent, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert "Open to containers" in process.stdout.readline()
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)  # closes its output, too
    assert process.returncode == 0
    assert not (directory / VARIABLES_FILE).exists()


@pytest.fixture
def network() -> Iterator[None]:
    """A network of Docker with the name that the documents give it."""
    subprocess.run(["docker", "network", "create", "sallyport"], check=True, capture_output=True)
    yield
    subprocess.run(["docker", "network", "rm", "sallyport"], check=True, capture_output=True)


def _lists_deliveries(port: int, directory: Path) -> bool:
    status, _, body = _get(port, "/v1/deliveries", (directory / "token").read_text().strip())
    return status == 200 and json.loads(body)["deliveries"] == []


@NEEDS_DOCKER
@pytest.mark.skipif(HERE != "x86_64", reason="the image is for x86_64")
def test_the_functions_in_containers_use_the_database_of_make_run(built: Path, home: Path, local_stack: Path) -> None:
    with (
        opened(
            the_command("docs/sam.md", "PYTHONPATH=src:. .venv/bin/python -m tools.containers"), directory=local_stack
        ),
        start_api(
            "local",
            "start-api",
            "--parameter-overrides",
            "Architecture=x86_64",
            "--env-vars",
            ".sallyport/sam-variables.json",
            root=built,
            environment=surroundings(home),
        ) as port,
    ):
        assert _lists_deliveries(port, local_stack)


@NEEDS_DOCKER
@pytest.mark.skipif(HERE != "x86_64", reason="the image is for x86_64")
@pytest.mark.usefixtures("network")
def test_the_functions_use_it_on_another_network_too(built: Path, home: Path, local_stack: Path) -> None:
    with (
        opened(
            the_command("docs/sam.md", "PYTHONPATH=src:. .venv/bin/python -m tools.containers --network sallyport"),
            directory=local_stack,
        ),
        start_api(
            "local",
            "start-api",
            "--parameter-overrides",
            "Architecture=x86_64",
            "--docker-network",
            "sallyport",
            "--env-vars",
            ".sallyport/sam-variables.json",
            root=built,
            environment=surroundings(home),
        ) as port,
    ):
        assert _lists_deliveries(port, local_stack)
