"""What people and programs see. Whatever comes from outside is shown as text: no markup, no control characters."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sallyport import exact

# Of U+202A and so on: they turn the direction of what follows, so that a text reads otherwise than it is.
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
PIPE_WIDTH = 1000  # it has none: every row is on one line in it
_STYLES = {
    "delivered": "green",
    "failed": "red",
    "unknown": "bold yellow",
    "canceled": "dim",
    "pending": "cyan",
    "sending": "cyan",
}
WHOLE = {"delivery", "destination", "address"}  # columns that one copies from


def safe(text: object, *, lines: bool = False) -> str:
    """A text that changes nothing in a terminal but what it says. `lines` lets line feeds and tabs through."""
    kept = "\n\t" if lines else ""
    return "".join(sign if sign in kept or _harmless(sign) else _escaped(sign) for sign in str(text))


def _harmless(sign: str) -> bool:
    code = ord(sign)
    return not (code < 0x20 or 0x7F <= code < 0xA0 or code in _TURNING or 0xD800 <= code < 0xE000)


def _escaped(sign: str) -> str:
    return f"\\x{ord(sign):02x}" if ord(sign) < 0x100 else f"\\u{ord(sign):04x}"


class Output:
    """Standard output for results, standard error for everything else."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        self._out = Console(highlight=False, soft_wrap=True, width=width)
        self.errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, *parts: str | Text) -> None:
        """A line for people; a str is made safe."""
        self._out.print(Text.assemble(*(safe(part) if isinstance(part, str) else part for part in parts)))

    def note(self, text: str) -> None:
        """A line for people beside the result."""
        self.errors.print(Text(safe(text)))

    def block(self, text: str) -> None:
        """Lines of somebody else's."""
        self._out.print(Text(safe(text, lines=True)))

    def data(self, value: object) -> None:
        """A document for programs, each number as it was written."""
        sys.stdout.write(f"{exact.dumps(value)}\n")
        sys.stdout.flush()

    def line(self, value: object) -> None:
        """The same on one line."""
        sys.stdout.write(f"{exact.on_one_line(value)}\n")
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """Each cell on one line where there is room."""
        table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
        for name in columns:
            right = name.endswith("ms")
            table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name in WHOLE)
        for row in rows:
            table.add_row(*(Text(safe(cell)) if isinstance(cell, str) else cell for cell in row))
        self._out.print(table, soft_wrap=False)

    def facts(self, members: Mapping[str, object]) -> None:
        """Names and values below each other; what is None or empty is left out."""
        shown = {name: value for name, value in members.items() if value not in (None, "", {}, [])}
        longest = max(map(len, shown), default=0)
        for name, value in shown.items():
            self.say(Text(f"{name:<{longest}}  ", style="dim"), value if isinstance(value, Text) else str(value))


def state_text(state: str) -> Text:
    """A state in its colour; the word is what counts."""
    return Text(safe(state), style=_STYLES.get(state, ""))


def milliseconds(value: Any) -> str:
    """Of a phase."""
    return "" if value is None else f"{float(value):.1f}"
