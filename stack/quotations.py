"""Parts of a page that a command writes, between marks that name it."""

from collections.abc import Iterable
from pathlib import Path


class MarksLost(ValueError):
    """A page has no longer the marks between which a command writes."""


def quotation(command: str, name: str, text: str) -> str:
    """What stands in the page, marks included."""
    return f"<!-- {command} WRITE=yes: {name} -->\n{text}\n<!-- end of {name} -->"


def renew(quotations: Iterable[tuple[str, str]], folder: Path) -> list[str]:
    """Writes each quotation into its page below `folder`, and names the pages. Raises MarksLost."""
    pages = []
    for page, block in quotations:
        first, last = block.splitlines()[0], block.splitlines()[-1]
        text = (folder / page).read_text(encoding="utf-8")
        before, opened, rest = text.partition(first)
        _, closed, after = rest.partition(last)
        if not opened or not closed:
            raise MarksLost(f"{page} has lost its marks: {first} and {last}")
        (folder / page).write_text(f"{before}{block}{after}", encoding="utf-8")
        pages.append(page)
    return list(dict.fromkeys(pages))
