"""Powertools' packages, of which only what is asked for is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from local.functions import REPOSITORY

EACH_NAME = """
import importlib, sys
import handlers
package = sys.argv[1]
lazy = sys.modules[package]
names = vars(sys.modules["runtime.packages"])["_Names"]
known = dict(vars(lazy)["__getattr__"]._modules)
found = {name: getattr(lazy, name) for name in known}
loaded = {name for name in sys.modules if name.startswith(package + ".")}
del sys.modules[package]
for name in loaded:
    del sys.modules[name]
whole = importlib.import_module(package)
wrong = [name for name, value in found.items() if getattr(whole, name).__qualname__ != value.__qualname__
         or getattr(whole, name).__module__ != value.__module__]
more = {name for name in sys.modules if name.startswith(package + ".")} - loaded
print(len(known), wrong, len(more) > 0)
"""
ANY_NAME = """
import importlib, sys
import handlers
package = importlib.import_module(sys.argv[1])
import aws_lambda_powertools
names = importlib.import_module(sys.argv[1]).__all__
print([name for name in names if getattr(package, name, None) is None])
try:
    package.no_such_thing
except AttributeError as error:
    print(error)
"""
PACKAGES = [
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.utilities.batch",
    "aws_lambda_powertools.utilities.data_classes",
]


def said(code: str, *arguments: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={"PYTHONPATH": f"{REPOSITORY / 'src'}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_is_found_where_the_package_itself_has_it_from(package: str, tmp_path: Path) -> None:
    """And with it less is loaded than with the package."""
    count, wrong, saves = said(EACH_NAME, package, folder=tmp_path)[0].rsplit(" ", 2)
    assert int(count) > 0
    assert (wrong, saves) == ("[]", "True")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_other_name_of_the_package_is_there_too(package: str, tmp_path: Path) -> None:
    missing, refusal = said(ANY_NAME, package, folder=tmp_path)
    assert missing == "[]"
    assert refusal == f"module '{package}' has no attribute 'no_such_thing'"
