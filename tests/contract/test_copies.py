"""What tests call a clone is one."""

import subprocess
from pathlib import Path

from tests.support.copies import copy_clone
from tests.support.making import ROOT


def test_a_copy_has_every_file_that_git_has_and_no_cache(tmp_path: Path) -> None:
    """But for what stands under a hidden name, which no target reads."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    known = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    copy_clone(tmp_path)
    copied = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert copied == {name for name in known.splitlines() if not name.startswith(".") and (ROOT / name).exists()}
