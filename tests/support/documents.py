"""The commands that the project's documents show: the text of their shell blocks and between backticks."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("make", "sam", "aws", "curl", "docker", "git", "python", "pip")
_BLOCK = re.compile(r"^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SHELLS = ("sh", "shell", "bash", "console")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of shell commands; `page` is its document's path."""

    page: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its commands, one that goes on in the next line joined; without comments and definitions of functions."""
        plain = re.sub(r"^\w+\(\) \{\n.*?^\}$", "", self.text, flags=re.MULTILINE | re.DOTALL)
        found = [""]
        for line in re.sub(r"\\\n\s*", "", plain).splitlines():
            found[-1] += line
            found += [""] if _is_whole(found[-1]) else []
        return [line for line in found if line.strip() and not line.startswith("#")]


def _is_whole(line: str) -> bool:
    """Whether every quotation in it is closed."""
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return False
    return True


def pages() -> dict[str, str]:
    """The texts of all documents by path."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(found)}


def blocks() -> Iterator[Block]:
    """Every shell block. One without a language that starts with a program's name is one too."""
    for page, text in pages().items():
        for match in _BLOCK.finditer(text):
            script = textwrap.dedent(match["text"])
            if match["language"] in _SHELLS or (not match["language"] and script.startswith(PROGRAMS)):
                yield Block(page=page, text=script)


def commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """The page and the words of every command of `program`, in blocks and between backticks."""
    for block in blocks():
        for line in block.commands:
            if line.split()[0] == program:
                yield block.page, shlex.split(line, comments=True)
    for page, text in pages().items():
        for quoted in re.findall(rf"`({program} [^`]+)`", _BLOCK.sub("", text)):
            yield page, shlex.split(quoted)
