"""The commands that the project's documents show: the text of their shell blocks and between backticks."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("make", "sam", "aws", "curl", "docker", "git", "python", "python3", "pip")
# What else a text between backticks begins with if it is a command. `output` and `admin` are defined in docs/deploy.md.
_QUOTED = (*PROGRAMS, "output", "admin", "jq", "openssl", "psql", "grep", "nft", "apt", "cat", "export", "tar", "ssh")
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


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ShownCommand:
    """A command and its document's path."""

    page: str
    text: str


@cache
def pages() -> dict[str, str]:
    """The texts of all documents by path."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(found)}


@cache
def blocks() -> tuple[Block, ...]:
    """Every shell block. One without a language that starts with a program's name is one too."""
    return tuple(_blocks())


def _blocks() -> Iterator[Block]:
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


def prose() -> dict[str, str]:
    """The texts of all documents without their blocks."""
    return {page: _BLOCK.sub("", text) for page, text in pages().items()}


def shown_commands() -> list[ShownCommand]:
    """Every command that a reader may type: each of a shell block, and between backticks one that has arguments. The
    change log is left out, whose commands are of the past, and so is what only sets a variable.
    """
    return sorted(command for command in _typeable() if not is_setting(command.text))


@cache
def _typeable() -> set[ShownCommand]:
    found = {ShownCommand(page=block.page, text=line) for block in blocks() for line in block.commands}
    for page, text in prose().items():
        for quoted in re.findall(r"`([^`]+)`", text):
            words = quoted.split()
            if len(words) > 1 and page != "CHANGELOG.md" and _is_command(words[0]):
                found.add(ShownCommand(page=page, text=" ".join(words)))
    return found


def _is_command(first: str) -> bool:
    return first in _QUOTED or "=$(" in first or ("/" in first and (ROOT / first).is_file())


def is_setting(command: str) -> bool:
    """Whether it only gives a variable a value, which the commands behind it use."""
    return re.fullmatch(r"(?:export )?\w+=[^\s(]*", command) is not None


def the_command(page: str, beginning: str) -> str:
    """The one command of a page that begins so, or is this. A test that calls it runs the command: which those are is
    read from the constants of the calls (tests/documents/test_every_command_is_run.py).
    """
    found = [command.text for command in _typeable() if command.page == page]
    matching = [text for text in found if text.startswith(beginning)]
    (command,) = [beginning] if beginning in matching else matching
    return command


def the_block(page: str, beginning: str) -> Block:
    """The same for the block whose first command begins so."""
    ours = [block for block in blocks() if block.page == page and block.commands]
    (block,) = [block for block in ours if block.commands[0].startswith(beginning)]
    return block


def the_program(page: str) -> str:
    """The same for the one block of Python on a page."""
    (found,) = [match for match in _BLOCK.finditer(pages()[page]) if match["language"] == "python"]
    return textwrap.dedent(found["text"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A block of `sh` or `python`, and what the page shows that it prints; "" where it shows nothing. `heading` is that
    of its section."""

    heading: str
    language: str
    text: str
    answer: str


def every_example(page: str) -> list[Example]:
    """All blocks of commands and programs of a page, in their order. A test that calls it runs them all."""
    found, heading, text = [], "", pages()[page]
    parts = re.compile(rf"^## (?P<heading>[^\n]*)$|{_BLOCK.pattern}", re.MULTILINE | re.DOTALL)
    for match in parts.finditer(text):
        if match["heading"] is not None:
            heading = match["heading"]
        elif match["language"] in ("sh", "python"):
            found.append(Example(heading=heading, language=match["language"], text=match["text"], answer=""))
        elif match["language"] in ("json", "text") and found and not found[-1].answer:
            found[-1] = replace(found[-1], answer=match["text"])
    return found


def languages() -> Iterator[tuple[str, str]]:
    """The page and the language of each block, of whatever language."""
    for page, text in pages().items():
        yield from ((page, match["language"]) for match in _BLOCK.finditer(text))
