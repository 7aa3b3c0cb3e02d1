"""A copy of the project to build in: the lab and the bench read the real one's .aws-sam meanwhile."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("make", "local", "infra", "src", "events", "tools", "bench", "stack")
FILES = (
    "Makefile",
    "template.yaml",
    "samconfig.toml",
    "requirements-sam.txt",
    "requirements-dev.txt",
    "requirements-bench.txt",
)
LINKS = (".venv", ".venv-sam", ".venv-bench")
SHELF = ".aws-sam/dependencies"


def copy_project(root: Path) -> Path:
    """Into `root`, with the environments that there are and the dependencies that were fetched already."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(ROOT / name, root / name)
    for name in LINKS:
        if (ROOT / name).exists():
            (root / name).symlink_to((ROOT / name).resolve())
    if (ROOT / SHELF).is_dir():
        shutil.copytree(ROOT / SHELF, root / SHELF, ignore=shutil.ignore_patterns("*.unfinished"))
    return root


def has_no_container_engine() -> bool:
    """Whether `docker info` fails."""
    if shutil.which("docker") is None:
        return True
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0
