"""SVG as few functions, on the standard library's ElementTree.

The libraries were looked at: svgwrite is no longer maintained, svg.py does not escape text, and drawsvg had its last
release in June 2024. ElementTree escapes, and writes the same text every time.
"""

from collections.abc import Iterable
from xml.etree import ElementTree as ET

FONT = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
# Helvetica's widths in thousandths of the size, from the space on; Arial and Liberation Sans have the same.
_WIDTHS = (
    *(278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278),  # space to /
    *(556,) * 10,
    *(278, 278, 584, 584, 584, 556, 1015),  # : to @
    *(667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833),  # A to M
    *(722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611),  # N to Z
    *(278, 278, 278, 469, 556, 333),  # [ to `
    *(556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833),  # a to m
    *(556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500),  # n to z
    *(334, 260, 334, 584),
)
BOLD = 1.07  # bold letters are that much wider


def width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a text is drawn. Letters beyond ASCII are taken for wide ones."""
    units = sum(_WIDTHS[ord(letter) - 32] if 32 <= ord(letter) < 127 else 1000 for letter in text)
    return units * size / 1000 * (BOLD if bold else 1)


def wrap(text: str, size: float, room: float, *, bold: bool = False) -> list[str]:
    """The text in lines that fit into `room`, broken at spaces."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width(longer, size, bold=bold) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Drawing:
    """A picture of `size_x` by `size_y` on a white ground of its own, for light and for dark pages."""

    def __init__(self, size_x: int, size_y: int, *, title: str, description: str) -> None:
        self.root = ET.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {size_x} {size_y}",
                "width": str(size_x),
                "height": str(size_y),
                "role": "img",
                "aria-labelledby": "title desc",
                "font-family": FONT,
                "font-size": "15",
                "fill": "#1f2933",
            },
        )
        ET.SubElement(self.root, "title", id="title").text = title
        ET.SubElement(self.root, "desc", id="desc").text = description
        ground = {"width": str(size_x), "height": str(size_y), "rx": "12", "fill": "#ffffff"}
        ET.SubElement(self.root, "rect", ground)
        self.box(0.75, 0.75, size_x - 1.5, size_y - 1.5, rx=12, fill="none", stroke="#cbd2d9", stroke_width=1.5)

    def element(self, kind: str, **attributes: str | float) -> ET.Element:
        """Any element; `stroke_width` becomes stroke-width."""
        written = {name.replace("_", "-"): _number(value) for name, value in attributes.items()}
        return ET.SubElement(self.root, kind, written)

    def box(self, x: float, y: float, w: float, h: float, **attributes: str | float) -> None:
        """A rectangle."""
        self.element("rect", x=x, y=y, width=w, height=h, **attributes)

    def text(self, x: float, y: float, words: str, **attributes: str | float) -> None:
        """A line of text; `y` is its base line."""
        self.element("text", x=x, y=y, **attributes).text = words

    def path(self, points: Iterable[tuple[float, float]], **attributes: str | float) -> None:
        """Straight lines from point to point."""
        steps = " ".join(f"{_number(x)} {_number(y)}" for x, y in points)
        self.element("path", d=f"M{steps}", fill="none", **attributes)

    def marker(self, name: str, colour: str, size: float) -> None:
        """An arrow's head that paths name as url(#name)."""
        at = {"viewBox": "0 0 10 10", "refX": "9", "refY": "5", "markerUnits": "userSpaceOnUse", "orient": "auto"}
        head = self.element("marker", id=name, markerWidth=size, markerHeight=size)
        head.attrib.update(at)
        ET.SubElement(head, "path", {"d": "M0 0 10 5 0 10z", "fill": colour})

    def written(self) -> str:
        """The picture as a text that ends with a line feed."""
        ET.indent(self.root)
        return ET.tostring(self.root, encoding="unicode", short_empty_elements=True).replace(" />", "/>") + "\n"


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
