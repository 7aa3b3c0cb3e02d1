"""The positions of texts and badges in a picture."""

from collections.abc import Iterator
from itertools import combinations
from xml.etree import ElementTree as ET

from stack.diagram.badges import RADIUS
from stack.diagram.svg import width

SVG = "{http://www.w3.org/2000/svg}"
type Box = tuple[str, float, float, float, float]  # words, left, top, right, lower edge


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in _parsed(picture).iter(f"{SVG}text")]


def boxes(picture: str) -> list[Box]:
    """Each text outside badges."""
    found = [_box(element) for element in _parsed(picture).iter(f"{SVG}text")]
    return [
        label for label in found if not (label[0].isdigit() and any(_touch(label, badge) for badge in badges(picture)))
    ]


def badges(picture: str) -> list[Box]:
    """Each badge, numbered or not: a circle or a square of its size."""
    return list(_badges(_parsed(picture)))


def overlaps(picture: str) -> list[tuple[str, str]]:
    """The labels and badges that lie on each other."""
    pairs = combinations([*boxes(picture), *badges(picture)], 2)
    return [(first[0], other[0]) for first, other in pairs if _touch(first, other)]


def outside(picture: str) -> list[str]:
    """The labels and badges that leave the picture."""
    root = _parsed(picture)
    wide, high = float(root.attrib["width"]), float(root.attrib["height"])
    placed = [*boxes(picture), *badges(picture)]
    return [
        words for words, left, top, right, low in placed if left < 8 or right > wide - 8 or top < 8 or low > high - 8
    ]


def _parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 - our own


def _box(element: ET.Element) -> Box:
    size = float(element.get("font-size", "15"))
    wide = width(element.text or "", size, bold=element.get("font-weight") == "bold")
    x, y = float(element.attrib["x"]), float(element.attrib["y"])
    left = x - {"middle": wide / 2, "end": wide}.get(element.get("text-anchor", ""), 0)
    return element.text or "", left, y - 0.75 * size, left + wide, y + 0.2 * size


def _badges(root: ET.Element) -> Iterator[Box]:
    for element in root.iter(f"{SVG}circle"):
        if float(element.attrib["r"]) == RADIUS:
            x, y = float(element.attrib["cx"]), float(element.attrib["cy"])
            yield "arrived", x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS
    for element in root.iter(f"{SVG}rect"):
        if float(element.attrib["width"]) == float(element.attrib["height"]) == 2 * RADIUS:
            x, y = float(element.attrib["x"]), float(element.attrib["y"])
            yield "died", x, y, x + 2 * RADIUS, y + 2 * RADIUS


def _touch(one: Box, other: Box) -> bool:
    return one[1] < other[3] and other[1] < one[3] and one[2] < other[4] and other[2] < one[4]
