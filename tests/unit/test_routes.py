"""Routes are loaded when they are first called, and nobody can tell: each in a process that has loaded nothing yet."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handlers.routes import FREQUENT, PATHS, every_operation, serving

SRC = Path(__file__).resolve().parents[2] / "src"
# Calls without a token: none of them looks anything up.
CALLS = (
    ("GET", "/healthz", 200, None),
    ("GET", "/v1/jobs", 403, "forbidden"),
    ("PUT", "/v1/deliveries/0192aaaa-0000-7000-8000-000000000000", 405, "method-not-allowed"),
    ("GET", "/v1/nothing", 404, "not-found"),
    ("GET", "/v1/jobsandmore", 404, "not-found"),
)
CALL = """
import json, sys
from types import SimpleNamespace
from handlers import api
method, path = sys.argv[1:]
event = {
    "httpMethod": method, "path": path, "headers": {}, "multiValueHeaders": {}, "queryStringParameters": None,
    "multiValueQueryStringParameters": None, "body": None, "isBase64Encoded": False,
    "requestContext": {"stage": "dev", "path": f"/dev{path}", "requestId": "1"},
}
context = SimpleNamespace(function_name="f", memory_limit_in_mb=128, invoked_function_arn="arn", aws_request_id="1")
answers = [api.handler(event, context) for _ in range(2)]
print(json.dumps([answers, sorted(name for name in sys.modules if name.startswith("handlers.routes."))]))
"""


def called(method: str, path: str) -> tuple[list[dict[str, Any]], set[str]]:
    """Two answers to the same call in a fresh process, and the modules of routes that are loaded afterwards."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SRC),
        "POWERTOOLS_SERVICE_NAME": "sallyport",
        "POWERTOOLS_METRICS_NAMESPACE": "Sallyport",
        "AWS_REGION": "eu-central-1",
    }
    done = subprocess.run(
        [sys.executable, "-c", CALL, method, path], env=environment, capture_output=True, text=True, check=True
    )
    answers, modules = json.loads(done.stdout.splitlines()[-1])  # behind the log
    return answers, {name.rpartition(".")[2] for name in modules}


@pytest.mark.parametrize(("method", "path", "status", "kind"), CALLS)
def test_a_call_is_answered_as_if_all_routes_were_loaded(method: str, path: str, status: int, kind: str | None) -> None:
    answers, loaded = called(method, path)
    assert [answer["statusCode"] for answer in answers] == [status, status]
    assert answers[0]["body"] == answers[1]["body"]
    assert kind is None or json.loads(answers[0]["body"])["type"].endswith(kind)
    assert loaded == {*FREQUENT, *serving(path)}


def test_every_operation_is_found_by_its_path() -> None:
    """One that is not could be called only after another of its module."""
    listed = {operation.path: operation for operation in every_operation()}
    assert len(every_operation()) == len({(operation.method, operation.path) for operation in every_operation()})
    for module in PATHS:
        views = sys.modules[f"handlers.routes.{module}"]
        for rule, *_ in views.router._routes:
            assert rule in listed
            assert module in serving(rule.replace("<", "").replace(">", ""))


def test_all_routes_are_loaded_before_a_snapshot() -> None:
    program = (
        "import sys, snapshot_restore_py, handlers.api\n"
        "for action, arguments, options in snapshot_restore_py.get_before_snapshot(): action(*arguments, **options)\n"
        f"assert {set(PATHS)} <= handlers.api._routed, handlers.api._routed\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SRC)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
