"""The frameworks' figures as a picture: instructions per call, relative to plain."""

from collections.abc import Mapping
from html import escape

from bench.handler import GET, POST

type Counts = Mapping[str, Mapping[str, int]]

HEADING = "Instructions per warm call, relative to plain"
WIDTH, LEFT, RIGHT = 760, 292, 56
TOP, ROW, BAR = 64, 46, 15
HALO = 'stroke="#ffffff" stroke-width="4" paint-order="stroke"'  # over the line of plain
OURS, OTHERS, PLAIN = "#0b6e4f", "#7a8899", "#b3261e"


def chart(counts: Counts) -> str:
    """SVG, from the fewest instructions of a POST to the most. `counts` has plain's."""
    names = sorted(counts, key=lambda name: counts[name][POST])
    height = TOP + ROW * len(names) + 8
    most = max(_ratio(counts, name, call) for name in names for call in (POST, GET))
    scale = (WIDTH - LEFT - RIGHT) / most
    rows = [line for at, name in enumerate(names) for line in _row(counts, name, TOP + ROW * at, scale)]
    words = "; ".join(f"{name} {_ratio(counts, name, POST):.2f} and {_ratio(counts, name, GET):.2f}" for name in names)
    at_one = LEFT + scale
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'role="img" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#1d2733">',
            f"<title>{HEADING}: POST and GET</title>",
            f"<desc>{escape(words)}.</desc>",
            f'<rect width="{WIDTH}" height="{height}" rx="12" fill="#ffffff"/>',
            f'<text x="16" y="26" font-size="16" font-weight="bold">{HEADING}</text>',
            f'<text x="16" y="46">upper bar {POST}, lower bar {GET}; fewer is better</text>',
            f'<path d="M{at_one:.1f} {TOP - 6} V{height - 6}" stroke="{PLAIN}" stroke-dasharray="4 3"/>',
            *rows,
            "</svg>\n",
        ]
    )


def _row(counts: Counts, name: str, top: int, scale: float) -> list[str]:
    color = OURS if name == "ours" else OTHERS
    weight = ' font-weight="bold"' if name == "ours" else ""
    label = f'<text x="{LEFT - 12}" y="{top + BAR + 5}" text-anchor="end"{weight}>{escape(name)}</text>'
    bars = []
    for y, call, opacity in ((top, POST, "1"), (top + BAR + 2, GET, "0.6")):
        ratio = _ratio(counts, name, call)
        bars += [
            f'<rect x="{LEFT}" y="{y}" width="{ratio * scale:.1f}" height="{BAR}" fill="{color}" opacity="{opacity}"/>',
            f'<text x="{LEFT + ratio * scale + 6:.1f}" y="{y + BAR - 3}"{weight} {HALO}>{ratio:.2f}</text>',
        ]
    return [label, *bars]


def _ratio(counts: Counts, name: str, call: str) -> float:
    return counts[name][call] / counts["plain"][call]
