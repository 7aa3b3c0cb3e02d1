"""The notes on the contract."""

import shutil
from pathlib import Path

from tests.support.making import ROOT, make
from tools.openapi import NOTES


def test_make_openapi_writes_what_is_there(tmp_path: Path) -> None:
    for name in ("make", "local", "tools", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "template.yaml", "pyproject.toml", "requirements-dev.txt"):
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to((ROOT / ".venv").resolve())
    notes = tmp_path / NOTES
    notes.parent.mkdir(parents=True)
    done = make("openapi", root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == NOTES
    assert notes.read_text() == (ROOT / NOTES).read_text()
