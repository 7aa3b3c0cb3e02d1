"""Which files are edited, and which folders of tests must catch it."""

from collections.abc import Sequence
from pathlib import Path

# The longest prefix of a path decides. Tests of higher layers catch many edits too, but need not.
OWNERS: dict[str, tuple[str, ...]] = {
    "src/domain/": ("tests/unit", "tests/flows"),
    "src/runtime/": ("tests/unit", "tests/egress", "tests/handlers"),
    "src/db/": ("tests/unit/test_constants.py", "tests/db"),
    "src/egress/": ("tests/unit", "tests/egress", "tests/faults"),
    "src/wakeups/": ("tests/unit", "tests/egress", "tests/handlers"),
    "src/flows/": ("tests/unit/test_constants.py", "tests/flows", "tests/handlers"),
    "src/handlers/": ("tests/unit", "tests/handlers", "tests/faults"),
    "template.yaml": ("tests/contract", "tests/stack"),
    "infra/": ("tests/contract", "tests/stack"),
}


def owners(path: str) -> tuple[str, ...]:
    """The folders of tests, the fastest first. Raises KeyError for a file without an owner."""
    prefix = max((prefix for prefix in OWNERS if path.startswith(prefix)), key=len, default="")
    return OWNERS[prefix]


def files(root: Path) -> list[str]:
    """All files that are edited: code, migrations and templates, by their path from the root."""
    paths = [*root.glob("src/**/*.py"), *root.glob("src/db/migrations/*.sql"), *root.glob("infra/*.yaml")]
    return ["template.yaml", *sorted(path.relative_to(root).as_posix() for path in paths)]


def within(path: str, wanted: Sequence[str]) -> bool:
    """Whether a file is one of those that are wanted, or below one; every file is if none are named."""
    return not wanted or any(path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in wanted)
