"""Changes to the project's texts, for stacks that a rule must notice. Each takes a project and returns a broken one."""

from collections.abc import Callable
from dataclasses import replace

from tests.contract.project import Project

type Rule = Callable[[Project], list[str]]
type Change = Callable[[Project], Project]


def reworded(name: str, old: str, new: str, *, count: int = 1) -> Change:
    """A change to the text of a template: `old`, which must be there, becomes `new` in the first `count` places."""

    def change(project: Project) -> Project:
        assert old in project.texts[name], f"{name} no longer has: {old}"
        return replace(project, texts={**project.texts, name: project.texts[name].replace(old, new, count)})

    return change


def resource(template: str, name: str, old: str, new: str) -> Change:
    """A change to the text of one resource, parameter, condition or output of a template."""

    def change(project: Project) -> Project:
        before, own, after = _parted(project.texts[template], name)
        assert old in own, f"{name} no longer has: {old}"
        return replace(project, texts={**project.texts, template: before + own.replace(old, new, 1) + after})

    return change


def without(template: str, name: str) -> Change:
    """A template without one resource."""

    def change(project: Project) -> Project:
        before, _, after = _parted(project.texts[template], name)
        return replace(project, texts={**project.texts, template: before + after})

    return change


def added(template: str, section: str, text: str) -> Change:
    """A template with one more entry at the start of a section."""
    return reworded(template, f"\n{section}:\n", f"\n{section}:\n{text}\n")


def together(*changes: Change) -> Change:
    """One change after the other."""

    def change(project: Project) -> Project:
        for change in changes:
            project = change(project)
        return project

    return change


def event_files(*names: str) -> Change:
    """Other event files."""
    return lambda project: replace(project, events=names)


def samconfig(old: str, new: str) -> Change:
    """A change to samconfig.toml."""

    def change(project: Project) -> Project:
        assert old in project.samconfig, f"samconfig.toml no longer has: {old}"
        return replace(project, samconfig=project.samconfig.replace(old, new, 1))

    return change


def makefile(old: str, new: str) -> Change:
    """A change to src/Makefile."""
    return lambda project: replace(project, makefile=project.makefile.replace(old, new))


def requirements(text: str) -> Change:
    """Another src/requirements.txt."""
    return lambda project: replace(project, requirements=text)


def name_of(value: object) -> str:
    """What pytest calls a rule in the names of tests."""
    return str(getattr(value, "__name__", ""))


def _parted(text: str, name: str) -> tuple[str, str, str]:
    """A template before an entry, the entry itself (to the last of its lines), and what follows."""
    start = text.index(f"\n  {name}:") + 1
    rest = text[start:].splitlines(keepends=True)
    after = next(
        (place for place, line in enumerate(rest[1:], 1) if line.strip() and not line.startswith("   ")), len(rest)
    )
    return text[:start], "".join(rest[:after]), "".join(rest[after:])
