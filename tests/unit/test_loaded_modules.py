"""What a function loads before its first call, which a cold start waits for: a ledger, so that it does not grow
unnoticed. Whatever a rare call needs is imported where it is needed.

What should not be loaded stays out of the ledger; what must be is written into it, with a look at what it costs
(`make bench ONLY=instructions`, "loading the worker").
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("db", "domain", "egress", "flows", "handlers", "runtime", "wakeups")
LEDGER = Path(__file__).parent / "loaded-modules.json"
# No call that is frequent needs these. Powertools itself loads the package botocore where there is one, and psycopg
# zoneinfo.
POWERTOOLS = "aws_lambda_powertools"
NEVER = (
    *("boto3", "botocore.session", "cryptography", "pydantic", "aws_xray_sdk", "requests", "html"),
    *(f"{POWERTOOLS}.event_handler.appsync", f"{POWERTOOLS}.utilities.data_classes.ses_event"),  # of other services
)


def loaded(function: str) -> dict[str, list[str]]:
    """Modules of ours, by their whole names, and packages of others, in a fresh process."""
    code = f"import sys, json, handlers.{function}; json.dump(sorted(sys.modules), sys.stdout)"
    environment = {
        "PYTHONPATH": f"{ROOT}/src",
        "POWERTOOLS_SERVICE_NAME": "sallyport",
        "POWERTOOLS_METRICS_NAMESPACE": "Sallyport",
        "AWS_REGION": "eu-central-1",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    names: list[str] = json.loads(done.stdout)
    packages = {name.partition(".")[0] for name in names} - set(OURS) - sys.stdlib_module_names
    return {
        "ours": [name for name in names if name.partition(".")[0] in OURS],
        "others": sorted(name for name in packages if not name.startswith(("_", "sitecustomize"))),
        "never": [name for name in NEVER if name in names],
    }


@pytest.mark.parametrize("function", ["api", "attempt", "authorize"])
def test_a_function_loads_what_is_written_down_and_nothing_else(function: str) -> None:
    found = loaded(function)
    assert found.pop("never") == []
    assert found == json.loads(LEDGER.read_text(encoding="utf-8"))[function]


def test_the_collector_pauses_while_modules_are_loaded_and_works_afterwards() -> None:
    """Every function's handler ends the pause, and what was loaded is never looked at again."""
    functions = sorted(
        path.stem for path in (ROOT / "src" / "handlers").glob("*.py") if "@observed(" in path.read_text("utf-8")
    )
    assert {"api", "attempt", "authorize"} <= set(functions)
    code = f"""
import gc, importlib, handlers
assert not gc.isenabled()
for function in {functions}:
    gc.disable()
    importlib.import_module("handlers." + function)
    assert gc.isenabled(), function
    assert gc.get_freeze_count() > 10_000
"""
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{ROOT}/src"}, check=True)
