"""Copies of the project to run `make` in: what it writes there, other tests do not read meanwhile."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = (".venv", ".venv-sam", ".venv-bench")
DEPENDENCIES = ".aws-sam/dependencies"


def copy_clone(root: Path) -> Path:
    """Into `root`, all files that a clone has. Which of them a target needs is not for tests to know."""
    for path in _cloned_files():
        target = root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return root


def copy_project(root: Path) -> Path:
    """The same with the virtual environments that there are, and the dependencies that a build fetched already."""
    copy_clone(root)
    for name in ENVIRONMENTS:
        if (ROOT / name).exists():
            (root / name).symlink_to((ROOT / name).resolve())
    if (ROOT / DEPENDENCIES).is_dir():
        shutil.copytree(ROOT / DEPENDENCIES, root / DEPENDENCIES, ignore=shutil.ignore_patterns("*.unfinished"))
    return root


def has_no_container_engine() -> bool:
    """Whether `docker info` fails."""
    if shutil.which("docker") is None:
        return True
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0


def _cloned_files() -> Iterator[Path]:
    """All but caches and what stands under a hidden name, which is an environment, a cache, a build or Git's own."""
    for top in ROOT.iterdir():
        if top.name.startswith("."):
            continue
        for folder, names, files in top.walk() if top.is_dir() else [(ROOT, [], [top.name])]:
            names[:] = [name for name in names if name not in ("__pycache__", "node_modules")]
            yield from (folder / name for name in files if not name.endswith(".pyc"))
