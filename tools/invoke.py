"""Runs the packages of `sam build` in Lambda's container image, one event after another: `make invoke`.

    PYTHONPATH=src:. .venv/bin/python tools/invoke.py

Each step is a separate `sam local invoke`, so each function starts cold, from the same files that would be deployed,
with the events in events/. Database, queue and partner are those of the local stack; the containers reach them through
relays on Docker's bridge. Not covered: IAM, Secrets Manager (the destination has no credentials), the answer
to CloudFormation (tests/handlers has it) and everything between the functions.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local.errors import LocalError
from local.partner import ECHO_PATH, Partner
from local.postgres import Postgres
from local.sqs import SqsServer
from local.stack import DATABASE
from local.template import Template
from stack.functions import FUNCTIONS
from tools.containers import Addresses, bridge_address, sam_name, socket_of, write_variables
from tools.relay import Relay, to_loopback, to_unix_socket

ROOT = Path(__file__).resolve().parents[1]
SAM = ROOT / ".venv-sam/bin/sam"
IMAGE = "public.ecr.aws/lambda/python:3.13-x86_64"
IMAGE_WORKSPACE = ROOT / ".sallyport/lambda-image"
BUILT = ROOT / ".aws-sam/build/template.yaml"
ZONE = "local"
INVOKE_SECONDS = 600  # the first one also builds SAM's own image, and some storage drivers copy all of it each time
PULL_SECONDS = 600

type StoredEvent = dict[str, Any]


class InvokeError(Exception):
    """A step had a wrong result, or cannot run here. The message is for the person who runs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """The built functions, run with the file `variables`; `partner_url` is where they find the partner.

    `invoked` are the logical ids of those that ran.
    """

    variables: Path
    partner: Partner
    partner_url: str
    invoked: set[str] = field(default_factory=set)

    def invoke(self, name: str, event: StoredEvent, *, raises: bool = False) -> Any:
        """The function's result. Raises InvokeError if it raised, or with `raises` if it did not."""
        command = [str(SAM), "local", "invoke", sam_name(name), "--template", str(BUILT), "--event", "-"]
        command += ["--parameter-overrides", "Architecture=x86_64", "--env-vars", str(self.variables)]
        command += ["--skip-pull-image", "--region", "us-east-1"]
        started = time.monotonic()
        done = subprocess.run(
            command,
            input=json.dumps(event),
            env=_sam_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=INVOKE_SECONDS,
        )
        result = _result(name, done)
        failed = isinstance(result, dict) and "errorMessage" in result
        if failed is not raises:
            raise InvokeError(f"{name} answered {json.dumps(result)}; its log:\n{done.stderr}")
        self.invoked.add(name)
        _print(f"  {name} answered after {time.monotonic() - started:.1f} s")
        return result


def walk_through(functions: Functions) -> None:
    """From the empty database to a delivery that the partner received. Raises InvokeError at the first wrong answer."""
    _migrate(functions)
    token, tenant_id = _issue_token(functions)
    caller = _authorize(functions, token, tenant_id)
    _read_what_is_open(functions)
    _make_destination(functions, caller)
    delivery = _create_delivery(functions, caller)
    _attempt(functions, delivery)
    _look_it_up(functions, caller, delivery)
    _check_egress(functions, caller)
    _look_up_addresses(functions)
    missed = not_invoked(functions.invoked)
    _expect(not missed, "no step invokes", missed)


def not_invoked(invoked: Collection[str]) -> list[str]:
    """The functions whose handler did not run in any of those that were invoked."""
    template = Template(ROOT / "template.yaml").functions()
    handlers = {template[name].handler for name in invoked}
    return [name for name in FUNCTIONS if template[name].handler not in handlers]


def _migrate(functions: Functions) -> None:
    _print("migrate: the empty database gets its schema")
    # As an operator asks: with the stored event the function would answer CloudFormation instead of us.
    result = functions.invoke("MigrateFunction", {"action": "migrate"})
    _expect(result["version"] == len(result["applied"]) > 0, "migrated", result)


def _issue_token(functions: Functions) -> tuple[str, str]:
    _print("admin: an operator issues a token")
    issued = functions.invoke("AdminFunction", _event("admin"))
    _expect(issued["token"].startswith("spt_"), "issued", list(issued))
    return issued["token"], issued["tenant_id"]


def _authorize(functions: Functions, token: str, tenant_id: str) -> dict[str, str]:
    _print("authorize: the token is allowed on the whole stage, an unknown one is refused")
    event = _event("authorize")
    found = functions.invoke("AuthorizeFunction", _with_token(event, token))
    (statement,) = found["policyDocument"]["Statement"]
    opened = statement["Effect"] == "Allow" and statement["Resource"].endswith("/dev/*")
    _expect(opened and found["context"]["tenant_id"] == tenant_id, "the authorizer answered", found)
    refused = functions.invoke("AuthorizeFunction", _with_token(event, "spt_" + "0" * 43), raises=True)
    _expect(refused["errorMessage"] == "Unauthorized", "the authorizer answered", refused)
    context: dict[str, str] = found["context"]
    return context


def _read_what_is_open(functions: Functions) -> None:
    _print("api: the OpenAPI document")
    answer = functions.invoke("ApiFunction", _call(_event("api-get"), {}, "GET", "/openapi.json"))
    _expect(answer["statusCode"] == 200 and _content(answer)["openapi"].startswith("3.1"), "got", answer["statusCode"])


def _make_destination(functions: Functions, caller: Mapping[str, str]) -> None:
    _print("api: a destination")
    body = {"name": "partner", "base_url": functions.partner_url}
    event = _call(_event("api-post-delivery"), caller, "POST", "/v1/destinations", body)
    answer = functions.invoke("ApiFunction", event)
    _expect(answer["statusCode"] == 201, "got", answer)


def _create_delivery(functions: Functions, caller: Mapping[str, str]) -> dict[str, Any]:
    _print("api: a delivery is accepted")
    answer = functions.invoke("ApiFunction", _as_caller(_event("api-post-delivery"), caller))
    _expect(answer["statusCode"] == 202, "got", answer)
    return _content(answer)


def _attempt(functions: Functions, delivery: Mapping[str, Any]) -> None:
    _print("attempt: the partner receives the request")
    event = _event("attempt")
    (record,) = event["Records"]
    wakeup = json.loads(record["body"]) | {
        "delivery_id": delivery["delivery_id"],
        "due_at": "2026-01-01T00:00:00+00:00",
    }
    result = functions.invoke("AttemptFunction", {"Records": [record | {"body": json.dumps(wakeup)}]})
    _expect(result == {"batchItemFailures": []}, "the queue was answered", result)
    (call,) = functions.partner.calls
    _expect((call.method, call.path) == ("POST", "/orders"), "the partner received", call)


def _look_it_up(functions: Functions, caller: Mapping[str, str], delivery: Mapping[str, Any]) -> None:
    _print("api: the delivery shows its attempt, and so does the list")
    path = f"/v1/deliveries/{delivery['delivery_id']}"
    found = _content(functions.invoke("ApiFunction", _call(_event("api-get"), caller, "GET", path)))
    (attempt,) = found["attempts"]
    _expect((found["state"], attempt["outcome"]) == ("delivered", "answered"), "the API shows", found)
    waiting = _content(functions.invoke("ApiFunction", _as_caller(_event("api-get"), caller)))
    _expect(waiting["deliveries"] == [], "still pending:", waiting)


def _check_egress(functions: Functions, caller: Mapping[str, str]) -> None:
    _print("check egress: the echo service sees the published address, and the API shows it")
    result = functions.invoke("CheckEgressA.Function", _event("check_egress"))
    _expect(result["verdict"] == "matches", "the check answered", result)
    shown = _content(functions.invoke("ApiFunction", _call(_event("api-get"), caller, "GET", "/v1/egress")))
    _expect([entry["verdict"] for entry in shown["addresses"]] == ["matches"], "the API shows", shown)


def _look_up_addresses(functions: Functions) -> None:
    _print("network: boto3 is there, and ids that EC2 does not have are refused")
    event = _event("network")
    del event["ResponseURL"]  # without it the function answers us
    refused = functions.invoke("NetworkResourcesFunction", event, raises=True)
    _expect(refused["errorType"] == "NetworkRefused", "the function answered", refused)


@contextmanager
def _surroundings() -> Iterator[Functions]:
    """Database, queue and partner, reachable from containers and gone afterwards."""
    bridge = bridge_address()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sallyport-invoke-")))
        postgres = stack.enter_context(Postgres(directory / "postgres", durable=False))
        postgres.make_database(DATABASE)
        sqs, partner = SqsServer(), Partner(port=0, report=_print)
        for server in (sqs, partner):
            stack.callback(server.stop)
            server.start()
        addresses = Addresses(
            bridge=bridge,
            database_port=stack.enter_context(Relay(bridge, to_unix_socket(socket_of(postgres.url())))).port,
            aws_port=stack.enter_context(Relay(bridge, to_loopback(urlsplit(sqs.endpoint_url).port or 0))).port,
            queue_url=sqs.create_queues(Template(ROOT / "template.yaml").queues())["WakeupQueue"].url,
        )
        partner_port = stack.enter_context(Relay(bridge, to_loopback(partner.port))).port
        partner_url = f"http://{bridge}:{partner_port}"
        variables = directory / "variables.json"
        write_variables(variables, addresses, more=_variables(bridge, partner_port))
        yield Functions(variables=variables, partner=partner, partner_url=partner_url)


def _variables(bridge: str, partner_port: int) -> dict[str, str]:
    """Of every function: the partner, and the address through which it sees them."""
    return {
        "EGRESS_ADDRESSES": f"{ZONE}=127.0.0.1",  # the relay's
        "AVAILABILITY_ZONE": ZONE,
        "BLOCKED_CIDRS": "10.64.0.0/16",  # the default; in a nested template SAM does not know it
        "EGRESS_ECHO_URL": f"http://{bridge}:{partner_port}{ECHO_PATH}",
        "EGRESS_RESULTS_PATH": "/sallyport/invoke/egress",
        "ALLOWED_PRIVATE_CIDRS": f"{bridge}/32",
        "ALLOWED_PORTS": f"80,443,{partner_port}",
    }


def _event(name: str) -> StoredEvent:
    event: StoredEvent = json.loads((ROOT / f"events/{name}.json").read_text(encoding="utf-8"))
    return event


def _with_token(event: StoredEvent, token: str) -> StoredEvent:
    headers = event["headers"] | {"Authorization": f"Bearer {token}"}
    return {**event, "headers": headers, "multiValueHeaders": {name: [value] for name, value in headers.items()}}


def _as_caller(event: StoredEvent, caller: Mapping[str, str]) -> StoredEvent:
    return {**event, "requestContext": event["requestContext"] | {"authorizer": dict(caller)}}


def _call(event: StoredEvent, caller: Mapping[str, str], method: str, path: str, body: object = None) -> StoredEvent:
    """A call like that of `event`, to another route."""
    context = event["requestContext"] | {"httpMethod": method, "path": f"/dev{path}"}
    return _as_caller(
        {
            **event,
            "httpMethod": method,
            "path": path,
            "queryStringParameters": None,
            "multiValueQueryStringParameters": None,
            "requestContext": context,
            "body": base64.b64encode(json.dumps(body).encode()).decode() if body else None,
            "isBase64Encoded": body is not None,
        },
        caller,
    )


def _content(answer: Mapping[str, Any]) -> dict[str, Any]:
    body = answer["body"]
    content: dict[str, Any] = json.loads(base64.b64decode(body) if answer.get("isBase64Encoded") else body)
    return content


def _result(name: str, done: subprocess.CompletedProcess[str]) -> Any:
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise InvokeError(f"sam local invoke {name} failed:\n{done.stderr}")
    return json.loads(lines[-1])


def _sam_environment() -> dict[str, str]:
    """Credentials without any permission: the functions sign their calls to the emulated queue with them."""
    made_up = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_SESSION_TOKEN": "local"}
    return {**os.environ, **made_up, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"}


def _require_container_engine() -> None:
    if shutil.which("docker") is None or _quietly("docker", "info") != 0:
        raise InvokeError(
            "make invoke needs a running container engine: `docker info` fails. Start Docker and try again."
        )


def _require_image() -> None:
    """Lambda's own image, or a replacement that is built here if its registry cannot be reached."""
    if _quietly("docker", "image", "inspect", IMAGE) == 0:
        return
    _print(f"pulling {IMAGE}")
    if _quietly("docker", "pull", "--platform", "linux/amd64", IMAGE) == 0:
        return
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise InvokeError(
            f"{IMAGE} cannot be pulled. Building a replacement needs root and debootstrap (tools/lambda-image.sh)."
        )
    _print("the registry cannot be reached: building a replacement for the image, which takes some minutes")
    IMAGE_WORKSPACE.mkdir(parents=True, exist_ok=True)
    command = [str(ROOT / "tools/lambda-image.sh"), str(SAM.parents[1]), sys.base_prefix, str(IMAGE_WORKSPACE)]
    if subprocess.run(command, check=False).returncode != 0:
        raise InvokeError("tools/lambda-image.sh could not build the image; its output is above.")


def _quietly(*command: str) -> int:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=PULL_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return 1


def _expect(true: bool, what: str, found: object) -> None:
    if not true:
        raise InvokeError(f"{what} {found}")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    try:
        _require_container_engine()
        _require_image()
        with _surroundings() as functions:
            walk_through(functions)
    except (InvokeError, LocalError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    _print("All functions run in Lambda's image.")


if __name__ == "__main__":
    main()
