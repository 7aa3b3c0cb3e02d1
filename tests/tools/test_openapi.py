"""The notes on the contract."""

from pathlib import Path

from tests.support.copies import copy_project
from tests.support.making import ROOT, make
from tools.openapi import NOTES


def test_make_openapi_writes_what_is_there(tmp_path: Path) -> None:
    notes = copy_project(tmp_path) / NOTES
    notes.unlink()
    done = make("openapi", root=tmp_path, environment={"PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == NOTES
    assert notes.read_text() == (ROOT / NOTES).read_text()
    assert (tmp_path / "tools/__pycache__").is_dir(), "the next program would compile everything again"
