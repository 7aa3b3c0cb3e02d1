"""The report: lines about each edit, and a summary."""

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tools.mutants.edits import STRATA, Edit
from tools.mutants.promises import promise
from tools.mutants.runner import MutantResult
from tools.mutants.sample import Texts

EQUIVALENT = Path(__file__).parent / "equivalent.toml"
CAUGHT = {"caught", "timeout", "text"}
NAMES = {"timeout": "caught by a time-out", "text": "caught by a text alone"}

type Known = dict[tuple[str, str, str], str]


def lines_about(result: MutantResult, texts: Texts) -> Iterator[str]:
    """The lines about one edit: the verdict and the place, the edit itself, and the promise that it breaks."""
    edit, text = result.edit, texts[result.edit.path]
    old, new = edit.as_diff(text)
    verdict = NAMES.get(result.verdict, result.verdict)
    yield f"{verdict:<10} {edit.path}:{edit.line(text)} {edit.rule} ({result.by})"
    yield f"           - {old}"
    yield f"           + {new or '(nothing)'}"
    yield f"           breaks: {promise(edit, text)}"


def summary(results: Sequence[MutantResult]) -> Iterator[str]:
    """How many were caught, by stratum and in total; equivalent ones do not count."""
    for name in STRATA:
        part = [result for result in results if result.edit.stratum == name]
        if part:
            yield _line(name, part)
    yield _line("all", results)


def _line(name: str, results: Sequence[MutantResult]) -> str:
    counts = Counter(result.verdict for result in results)
    share = caught_percent(results)
    slow = f", of these {counts['timeout']} by a time-out" if counts["timeout"] else ""
    text = f", {counts['text']} by a text alone" if counts["text"] else ""
    return (
        f"{name:<9} {share:5.1f} %: {sum(counts[verdict] for verdict in CAUGHT)} caught{slow}{text}, "
        f"{counts['survived']} survived, {counts['equivalent']} equivalent"
    )


def caught_percent(results: Iterable[MutantResult]) -> float:
    """Of those that are not equivalent; 100 where there is none."""
    counted = [result.verdict in CAUGHT for result in results if result.verdict != "equivalent"]
    return 100 * sum(counted) / len(counted) if counted else 100.0


def equivalents(path: Path = EQUIVALENT) -> Known:
    """The edits that break no promise, with the reason, by file, line before and line after."""
    entries = tomllib.loads(path.read_text()).get("mutant", [])
    return {(entry["path"], entry["old"], entry["new"]): entry["reason"] for entry in entries}


def key(edit: Edit, texts: Texts) -> tuple[str, str, str]:
    """Identifies an edit even when lines have moved: the file, and the lines before and after."""
    return (edit.path, *edit.as_diff(texts[edit.path]))


def save_survivors(results: Iterable[MutantResult], texts: Texts, path: Path) -> None:
    """Saves those that survived, for AGAIN=yes."""
    left = [key(result.edit, texts) for result in results if result.verdict == "survived"]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(left))


def saved_survivors(path: Path) -> set[tuple[str, ...]]:
    """Those that survived last time."""
    return {tuple(entry) for entry in json.loads(path.read_text())} if path.exists() else set()
