"""An edit of one place in one file, and how it is shown."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

STRATA = ("python", "sql", "template")
SHOWN_CHARACTERS = 150


type Span = tuple[int, int, str]  # where an edit starts and ends, and the new text


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Edit:
    """`text[start:end]` of the file at `path` (from the root, with slashes) becomes `new`.

    `stratum` is one of STRATA, `rule` describes the edit in a few words, such as "drops a guard".
    """

    path: str
    start: int
    end: int
    new: str
    stratum: str
    rule: str

    def applied(self, text: str) -> str:
        """The file after the edit."""
        return text[: self.start] + self.new + text[self.end :]

    def line(self, text: str) -> int:
        """The number of the line where the edit begins to differ, from 1."""
        old = text[self.start : self.end]
        same = next((place for place, (a, b) in enumerate(zip(old, self.new, strict=False)) if a != b), None)
        skipped = min(len(old), len(self.new)) if same is None else same
        begins = self.start + skipped
        while begins < self.end and text[begins].isspace():
            begins += 1
        return line_of(text, begins)

    def lines(self, text: str) -> tuple[int, int]:
        """The first and the last line that it touches, from 1."""
        return line_of(text, self.start), line_of(text, max(self.start, self.end - 1))

    def as_diff(self, text: str) -> tuple[str, str]:
        """The lines before and after the edit, without indentation, each joined into one line."""
        first = text.rfind("\n", 0, self.start) + 1
        last = text.find("\n", self.end)
        last = len(text) if last < 0 else last
        before = text[first:last]
        after = text[first : self.start] + self.new + text[self.end : last]
        return _differing(before.splitlines(), after.splitlines())


def line_of(text: str, offset: int) -> int:
    """The number of the line that contains the character at `offset`, from 1."""
    return text.count("\n", 0, offset) + 1


def _differing(before: list[str], after: list[str]) -> tuple[str, str]:
    """Without the lines at the beginning and at the end that both have."""
    while before and after and before[0] == after[0]:
        before, after = before[1:], after[1:]
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    return _short(before), _short(after)


def _short(lines: Iterable[str]) -> str:
    joined = re.sub(r"\s+", " ", " ".join(line.strip() for line in lines)).strip()
    return joined if len(joined) <= SHOWN_CHARACTERS else joined[:SHOWN_CHARACTERS] + " ..."


def once(edits: Iterable[Edit], text: str) -> Iterator[Edit]:
    """Without those that change nothing, and without those that lead to the same text as an earlier one."""
    seen: set[int] = {hash(text)}
    for edit in edits:
        changed = hash(edit.applied(text))
        if changed not in seen:
            seen.add(changed)
            yield edit
