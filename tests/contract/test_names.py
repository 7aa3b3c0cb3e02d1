"""One word, one meaning: a type's name stands for one thing in all packages."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("src", "stack", "lab", "local", "tools", "bench", "simulator", "faults", "sallyport", "sallyport_audit")


def types(source: str) -> Iterator[str]:
    """The public classes, type aliases and NewTypes that a module defines, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef(name=name) | ast.TypeAlias(name=ast.Name(id=name)):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="NewType" | "namedtuple"))):
                pass
            case _:
                continue
        if not name.startswith("_"):
            yield name


def doubled(repository: Path) -> set[str]:
    files = [path for package in PACKAGES for path in sorted((repository / package).rglob("*.py"))]
    counts = Counter(name for path in files for name in types(path.read_text(encoding="utf-8")))
    assert len(counts) > 300  # of some 500: the packages were found
    return {name for name, count in counts.items() if count > 1}


def test_no_two_types_have_one_name(repository: Path) -> None:
    assert sorted(doubled(repository)) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("class Found: ...", ["Found"]),
        ("def make():\n    class Inner: ...", ["Inner"]),
        ("type Row = dict[str, str]", ["Row"]),
        ("Id = NewType('Id', str)", ["Id"]),
        ("class _Own: ...\ntype _Alias = int\nvalue = 1\nother = str(1)", []),
    ],
)
def test_what_counts_as_a_type(source: str, names: list[str]) -> None:
    assert list(types(source)) == names


def test_a_second_type_of_a_name_is_seen_across_packages(tmp_path: Path, repository: Path) -> None:
    """The names of the real project, and one more file whose class has the name of a class elsewhere."""
    for package in PACKAGES:
        (tmp_path / package).symlink_to(repository / package)
    (tmp_path / "bench").unlink()
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "more.py").write_text("class GuardDecision: ...\n", encoding="utf-8")
    assert "GuardDecision" in doubled(tmp_path)
    assert "GuardDecision" not in doubled(repository)
