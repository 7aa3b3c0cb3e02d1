"""Connections that were tried, told on a picture: a numbered badge at each place where they ended, and a list."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stack.diagram.svg import Drawing, wrap

RADIUS = 10.0
STEP = 24.0  # from one badge to the next
LINE = 20
SIZE = 14
ARRIVED, DIED, GREY = "#216e3a", "#b91c1c", "#52606d"
# Left edge, room and weight of each column of the list.
COLUMNS = (
    (78, 218, "normal"),
    (306, 168, "normal"),
    (484, 92, "bold"),
    (586, 60, "normal"),
    (656, 262, "normal"),
    (928, 250, "normal"),
)
HEADINGS = ("from", "to", "ports", "tried", "what became of them", "let pass or refused by")
LEGEND = ((ARRIVED, "arrived here"), (DIED, "died here"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Connections that are alike and ended alike, in the words of the list.

    `at` are the places where they ended: ids of the Network (an interface, a NAT gateway, the internet gateway, the VPN
    gateway, the VPC), what routes_of() and acl_of() make of a subnet, "internet", "third party" or "corporate".
    """

    who: str
    whom: str
    ports: tuple[int, ...]
    tried: int
    became: str
    by: str
    at: tuple[str, ...]
    arrived: bool


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the badges of a place stand: the middle of the first, and the way to the next."""

    x: float
    y: float
    step_x: float = STEP
    step_y: float = 0


def routes_of(subnet: str) -> str:
    """The place of a subnet's routes."""
    return f"routes of {subnet}"


def acl_of(subnet: str) -> str:
    """The place of a subnet's network ACL."""
    return f"network ACL of {subnet}"


def described(flows: Sequence[Flow]) -> str:
    """The list in one text, for who does not see it."""
    tried = (f"{flow.who} to {flow.whom}, ports {', '.join(map(str, flow.ports))}: {flow.became}" for flow in flows)
    return f" Tried: {'; '.join(tried)}." if flows else ""


def ending_at(flows: Sequence[Flow], *places: str) -> int:
    """How many badges stand at any of the places."""
    return sum(not set(places).isdisjoint(flow.at) for flow in flows)


def draw_badges(svg: Drawing, flows: Sequence[Flow], spots: dict[str, Spot]) -> None:
    """One for each flow at each spot where it ended. Raises KeyError for a place that has no spot."""
    ended: dict[Spot, list[int]] = {}
    for number, flow in enumerate(flows, start=1):
        for spot in dict.fromkeys(spots[place] for place in flow.at):
            ended.setdefault(spot, []).append(number)
    for spot, numbers in ended.items():
        for place, number in enumerate(numbers if spot.step_x >= 0 else reversed(numbers)):  # they read to the right
            x, y = spot.x + place * spot.step_x, spot.y + place * spot.step_y
            _badge(svg, x, y, flows[number - 1].arrived, str(number))


def draw_list(svg: Drawing, flows: Sequence[Flow], top: float, note: str) -> None:
    """The flows by their numbers, in the height that list_height tells."""
    svg.text(44, top, "What was tried, and where it ended", font_weight="bold")
    _legend(svg, top - 5)
    for (x, _, _), words in zip(COLUMNS, HEADINGS, strict=True):
        svg.text(x, top + 26, words, font_size=SIZE, fill=GREY)
    y = top + 52
    for number, flow in enumerate(flows, start=1):
        _badge(svg, 55, y - 5, flow.arrived, str(number))
        cells = _cells(flow)
        _row(svg, cells, y)
        y += _height(cells)
    svg.text(44, y, note, font_size=SIZE, fill=GREY)


def list_height(flows: Sequence[Flow]) -> float:
    """From the base line of its heading to that of what follows."""
    return 52 + sum(_height(_cells(flow)) for flow in flows) + 38


def _legend(svg: Drawing, y: float) -> None:
    x = COLUMNS[4][0] + RADIUS
    for colour, words in LEGEND:
        _badge(svg, x, y, colour == ARRIVED, "")
        svg.text(x + 18, y + 5, words, font_size=SIZE, fill=colour)
        x += 136


def _row(svg: Drawing, cells: list[list[str]], y: float) -> None:
    for (x, _, weight), lines in zip(COLUMNS, cells, strict=True):
        for number, line in enumerate(lines):
            svg.text(x, y + number * LINE, line, font_size=SIZE, font_weight=weight)


def _cells(flow: Flow) -> list[list[str]]:
    ports = ", ".join(map(str, flow.ports))
    texts = (flow.who, flow.whom, ports, str(flow.tried), flow.became, flow.by)
    return list(_wrapped(texts))


def _wrapped(texts: Sequence[str]) -> Iterator[list[str]]:
    for text, (_, room, weight) in zip(texts, COLUMNS, strict=True):
        yield wrap(text, SIZE, room, bold=weight == "bold")


def _height(cells: list[list[str]]) -> float:
    return max(map(len, cells)) * LINE + 6


def _badge(svg: Drawing, x: float, y: float, arrived: bool, number: str) -> None:
    """Round and green, or square and red: the shape tells it too, for who sees no difference of these colours."""
    if arrived:
        svg.element("circle", cx=x, cy=y, r=RADIUS, fill=ARRIVED)
    else:
        svg.box(x - RADIUS, y - RADIUS, 2 * RADIUS, 2 * RADIUS, rx=3, fill=DIED)
    if number:
        svg.text(x, y + 5, number, text_anchor="middle", font_weight="bold", font_size=SIZE, fill="#ffffff")
