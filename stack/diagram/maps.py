"""Draws the network of the rendered templates: `make map` writes docs/maps/*.svg, one for each design."""

import sys
from collections.abc import Mapping
from pathlib import Path

from stack import render
from stack.diagram.picture import draw
from stack.network import from_templates

OUT_OF = render.ROOT
MAPS = Path("docs/maps")
# What is drawn: the file's name and the parameters besides those that the topology needs.
PICTURES: Mapping[str, Mapping[str, str]] = {
    "public-private": {"Topology": "public-private"},
    "public-private-per-az": {"Topology": "public-private", "Egress": "per-az"},
    "public-private-regional": {"Topology": "public-private", "Egress": "regional"},
    "internet-accessible": {"Topology": "internet-accessible"},
    "on-premises": {"Topology": "on-premises"},
    "internal-only": {"Topology": "internal-only"},
}


def main() -> int:
    """Writes the pictures into docs/maps."""
    for name, drawn in pictures().items():
        path = OUT_OF / MAPS / f"{name}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(drawn, encoding="utf-8")
        sys.stdout.write(f"{MAPS / path.name}\n")
    return 0


def pictures() -> dict[str, str]:
    """Each picture by the name of its file."""
    return {name: _picture(parameters) for name, parameters in PICTURES.items()}


def _picture(parameters: Mapping[str, str]) -> str:
    needs = render.NEEDS.get(parameters["Topology"], {})
    rendered = render.render({**needs, **parameters})
    egress = rendered.parameters["Egress"]
    words = parameters["Topology"] + (f", Egress {egress}" if "Egress" in parameters else "")
    return draw(from_templates.network(rendered), name=words)
