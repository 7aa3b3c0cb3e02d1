"""A sample of edits: seeded, in three strata, drawn by place, so that a line with many edits counts as one."""

import random
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tools.mutants.edits import STRATA, Edit
from tools.mutants.owners import files, within
from tools.mutants.python_edits import compiles, python_edits, required_keywords
from tools.mutants.replaced import migrations, replaced
from tools.mutants.sql_edits import sql_edits
from tools.mutants.template_edits import reads, template_edits

# Of 150 these are 70, 40 and 40.
WEIGHTS = dict(zip(STRATA, (7, 4, 4), strict=True))

type Texts = dict[str, str]
type Lines = dict[str, set[int]]


def texts(root: Path, wanted: Sequence[str] = ()) -> Texts:
    """The files that may be edited, by their path."""
    return {path: (root / path).read_text() for path in files(root) if within(path, wanted)}


def all_edits(root: Path, chosen: Texts) -> list[Edit]:
    """Every edit of these files that can have an effect in an up-to-date database."""
    required = required_keywords(text for path, text in texts(root, ["src"]).items() if path.endswith(".py"))
    unused = replaced(migrations(root))
    return [
        edit
        for path, text in chosen.items()
        for edit in _edits(path, text, required)
        if not any(start <= edit.start < end for start, end in unused.get(path, []))
    ]


def _edits(path: str, text: str, required: dict[str, set[str]]) -> list[Edit]:
    if path.endswith(".py"):
        return python_edits(path, text, required)
    return sql_edits(path, text, 0, len(text)) if path.endswith(".sql") else template_edits(path, text)


def draw(edits: Iterable[Edit], chosen: Texts, *, count: int, seed: int) -> list[Edit]:
    """Up to `count` edits, divided among the strata that have any. The same seed and files give the same edits."""
    chance = random.Random(seed)  # noqa: S311 - a sample that can be drawn again
    by_stratum: dict[str, list[Edit]] = {name: [] for name in STRATA}
    for edit in edits:
        by_stratum[edit.stratum].append(edit)
    shares = _shares(count, {name: WEIGHTS[name] for name in STRATA if by_stratum[name]})
    return [
        edit for name, share in shares.items() for edit in _drawn(by_stratum[name], chosen, share=share, chance=chance)
    ]


def _shares(count: int, weights: dict[str, int]) -> dict[str, int]:
    """`count` divided by weight; the remainder goes to the first ones."""
    total = sum(weights.values())
    shares = {name: count * weight // total for name, weight in weights.items()}
    for name in list(shares)[: count - sum(shares.values())]:
        shares[name] += 1
    return shares


def _drawn(edits: Iterable[Edit], chosen: Texts, *, share: int, chance: random.Random) -> list[Edit]:
    places: dict[tuple[str, int, str], list[Edit]] = defaultdict(list)
    for edit in edits:
        places[edit.path, edit.line(chosen[edit.path]), edit.rule].append(edit)
    order = sorted(places)
    chance.shuffle(order)
    taken: list[Edit] = []
    for place in order:
        if len(taken) == share:
            break
        edit = chance.choice(places[place])
        if is_readable(edit, chosen[edit.path]):
            taken.append(edit)
    return taken


def is_readable(edit: Edit, text: str) -> bool:
    """Whether a file can still be parsed after the edit: every test would catch one that cannot."""
    checks: dict[str, Callable[[str], bool]] = {".py": compiles, ".yaml": reads}
    check = checks.get(Path(edit.path).suffix)
    return check is None or check(edit.applied(text))


def changed_since(root: Path, reference: str) -> Lines:
    """The lines that differ from a commit, by file. Raises CalledProcessError where there is no such commit."""
    diff = subprocess.run(
        ["git", "diff", "--unified=0", "--no-color", "--no-ext-diff", reference, "--", "src", "infra", "template.yaml"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    lines: Lines = defaultdict(set)
    path = ""
    for line in diff.splitlines():
        if line.startswith("+++ "):
            path = line.removeprefix("+++ ").removeprefix("b/")
        if line.startswith("@@ "):
            start, _, count = line.split(" ")[2].removeprefix("+").partition(",")
            lines[path] |= set(range(int(start), int(start) + int(count or 1)))
    return lines


def touching(edits: Iterable[Edit], chosen: Texts, lines: Lines) -> list[Edit]:
    """Those that are on these lines."""
    return [edit for edit in edits if _touches(edit, chosen[edit.path], lines.get(edit.path, set()))]


def _touches(edit: Edit, text: str, lines: set[int]) -> bool:
    return edit.line(text) in lines
