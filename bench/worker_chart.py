"""The workers' figures as a picture: a panel for each body and number in flight, a bar for each worker."""

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median

from bench.chart import OTHERS, OURS

type Rates = Mapping[str, Mapping[str, Sequence[float]]]

COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 3, 300, 150
TOP, LEFT, BAR, GAP, LABEL, NUMBER = 64, 16, 16, 5, 112, 52
PLAIN = "#b8c1cc"


def chart(rates: Rates, *, heading: str, better: str, digits: int) -> str:
    """SVG. Each panel has a scale of its own; the black line is from the lowest to the highest round. `better` says
    whether more is or less is."""
    lines = -(-len(rates) // COLUMNS)
    width, height = LEFT + COLUMNS * PANEL_WIDTH, TOP + lines * PANEL_HEIGHT
    words = "; ".join(
        f"{cell}: {', '.join(f'{name} {median(found):.{digits}f}' for name, found in by_name.items())}"
        for cell, by_name in rates.items()
    )
    panels = [
        line
        for at, (cell, by_name) in enumerate(rates.items())
        for line in _panel(cell, by_name, LEFT + at % COLUMNS * PANEL_WIDTH, TOP + at // COLUMNS * PANEL_HEIGHT, digits)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'role="img" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#1d2733">',
            f"<title>{heading}</title>",
            f"<desc>{escape(words)}.</desc>",
            f'<rect width="{width}" height="{height}" rx="12" fill="#ffffff"/>',
            f'<text x="{LEFT}" y="26" font-size="16" font-weight="bold">{heading}</text>',
            f'<text x="{LEFT}" y="46">by size of the body and number in flight; {better} is better; '
            "a scale for each panel; the line spans all rounds</text>",
            *panels,
            "</svg>\n",
        ]
    )


def _panel(cell: str, by_name: Mapping[str, Sequence[float]], left: int, top: int, digits: int) -> list[str]:
    scale = (PANEL_WIDTH - LABEL - NUMBER - LEFT) / max(max(found) for found in by_name.values())
    lines = [f'<text x="{left}" y="{top + 12}" font-weight="bold">{escape(cell)}</text>']
    for at, (name, found) in enumerate(by_name.items()):
        lines += _bar(name, found, left + LABEL, top + 20 + at * (BAR + GAP), scale, digits)
    return lines


def _bar(name: str, found: Sequence[float], left: int, top: int, scale: float, digits: int) -> list[str]:
    color = {"ours": OURS, "plain": PLAIN}.get(name, OTHERS)
    weight = ' font-weight="bold"' if name == "ours" else ""
    middle, least, most = (value * scale for value in (median(found), min(found), max(found)))
    center = top + BAR / 2
    return [
        f'<text x="{left - 6}" y="{top + BAR - 4}" text-anchor="end"{weight}>{escape(name)}</text>',
        f'<rect x="{left}" y="{top}" width="{middle:.1f}" height="{BAR}" fill="{color}"/>',
        f'<path d="M{left + least:.1f} {center} H{left + most:.1f}" stroke="#1d2733"/>',
        f'<text x="{left + most + 6:.1f}" y="{top + BAR - 4}"{weight}>{median(found):.{digits}f}</text>',
    ]
