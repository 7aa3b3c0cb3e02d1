"""Draws the layers of the code from the import contracts in pyproject.toml: `make layers` writes docs/architecture.md.

A contract of the type `layers` becomes a stack of boxes, each of which may import what stands below it and nothing
above it or beside it. Of the other contracts the page has the names, which are sentences.
"""

import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = "docs/architecture.md"
OPENED = "<!-- make layers: drawn from pyproject.toml -->\n"
CLOSED = "<!-- end of layers -->\n"
WIDTH = 70  # columns between the outer edges

type Contract = Mapping[str, Any]


def main(root: Path = ROOT) -> None:
    """Renews what stands between the marks."""
    path = root / PAGE
    path.write_text(renewed(path.read_text(encoding="utf-8"), contracts(root)), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")


def contracts(root: Path = ROOT) -> Sequence[Contract]:
    """As import-linter reads them."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    found: Sequence[Contract] = settings["tool"]["importlinter"]["contracts"]
    return found


def renewed(page: str, found: Sequence[Contract]) -> str:
    """The page with the drawings of these contracts. Raises ValueError where it has lost its marks."""
    before, opened, rest = page.partition(OPENED)
    _, closed, after = rest.partition(CLOSED)
    if not opened or not closed:
        raise ValueError(f"{PAGE} has lost its marks: {OPENED}{CLOSED}")
    return f"{before}{OPENED}{written(found)}{CLOSED}{after}"


def written(found: Sequence[Contract]) -> str:
    """The drawings, the sub-packages in a line each, and the names of the other contracts."""
    layered = {_place(contract): _layers(contract) for contract in found if contract["type"] == "layers"}
    drawings = [f"`{place}`:\n\n```text\n{drawn(layers)}```\n" for place, layers in layered.items() if "." not in place]
    inner = [f"- `{place}`: {_in_a_line(layers)}" for place, layers in layered.items() if "." in place]
    others = [f"- {contract['name']}" for contract in found if contract["type"] != "layers"]
    return "\n".join([*drawings, "Inside their packages:\n", *inner, "\nOther contracts:\n", *others, ""])


def drawn(layers: Sequence[Sequence[str]]) -> str:
    """Boxes on top of each other; packages of one layer stand side by side."""
    lines = [_edge(layers[0])]
    for names in layers:
        lines += [
            f"|{'|'.join(name.center(width) for name, width in zip(names, _widths(names), strict=True))}|",
            _edge(names),
        ]
    return "\n".join([*lines, ""])


def _edge(names: Sequence[str]) -> str:
    return f"+{'+'.join('-' * width for width in _widths(names))}+"


def _widths(names: Sequence[str]) -> list[int]:
    """Of the boxes, by the length of their names; all of a layer and the edges between them are WIDTH wide."""
    free = WIDTH - (len(names) - 1) - sum(map(len, names))
    each, left = divmod(free, len(names))
    return [len(name) + each + (at < left) for at, name in enumerate(names)]


def _in_a_line(layers: Sequence[Sequence[str]]) -> str:
    return " → ".join(", ".join(f"`{name}`" for name in names) for names in layers)


def _place(contract: Contract) -> str:
    """The package whose parts are layered; src where they are packages themselves."""
    if containers := contract.get("containers"):
        return ".".join(containers)
    parents = {name.rpartition(".")[0] for layer in contract["layers"] for name in _names(layer)}
    return parents.pop() or "src"


def _layers(contract: Contract) -> list[list[str]]:
    return [[name.rpartition(".")[2] for name in _names(layer)] for layer in contract["layers"]]


def _names(layer: str) -> Iterator[str]:
    return (name.strip() for name in layer.replace(":", "|").split("|"))


if __name__ == "__main__":
    main()
