"""A Network as a picture: the VPC with its zones, subnets, ranges and routes, the fixed addresses, and who may talk to
whom as stack/network/access_table.py works it out. Connections that were tried can be shown where they ended.

What a picture cannot show it refuses: it has room for two zones with one fixed address each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from stack.diagram.badges import (
    STEP,
    Flow,
    Spot,
    acl_of,
    described,
    draw_badges,
    draw_list,
    ending_at,
    list_height,
    routes_of,
)
from stack.diagram.svg import Drawing, width, wrap
from stack.network import access_table
from stack.network.access_table import AccessRow, Party, name_of
from stack.network.model import (
    ANYWHERE,
    GatewayEndpointTarget,
    Interface,
    InterfaceKind,
    InternetGatewayTarget,
    Nacl,
    NatTarget,
    Network,
    RouteTable,
    Subnet,
    VpnTarget,
)

type Point = tuple[float, float]

# ---- measures and colours, in the units of a picture 1200 wide, which a page shows at about 900

WIDE = 1200
VPC_LEFT, VPC_RIGHT = 272, 1096
ZONES = ((288, 676), (692, 1080))  # left and right edge of each zone
INSET = 10
NAT_AT = (580, 788)  # the middle of a NAT gateway in each zone: close to each other, below the third parties
LINE = 20  # from one line of text to the next
SMALL = 14
INK, GREY, RULE = "#1f2933", "#52606d", "#94a3b8"
OUT, IN, SHUT, PRIVATE = "#c2410c", "#216e3a", "#b91c1c", "#6d28d9"
ROLES = {
    "public": ("#fff3e6", "#f0b27a", "#9a4b0c"),
    "private": ("#e8f2fd", "#93bfee", "#1d5fa8"),
    "database": ("#e9f6ec", "#8fcea0", "#216e3a"),
}
UNUSED = ("#f8fafc", "#cbd2d9", "#52606d")
BARS = {
    InterfaceKind.FUNCTION: "#1d5fa8",
    InterfaceKind.BASTION: "#52606d",
    InterfaceKind.ENDPOINT: PRIVATE,
    InterfaceKind.PROXY: IN,
}
# Left edge, room and weight of each column of the list.
COLUMNS = ((44, 310, "normal"), (370, 270, "normal"), (680, 160, "bold"), (860, 316, "normal"))
STAND_INS = IPv4Network("203.0.113.0/24")  # stack/network/from_templates.py takes its stand-ins from there
BAR, GAP = 36, 10  # a bar without its lines, and what is between two


def draw(network: Network, flows: Sequence[Flow] = (), *, name: str = "", note: str = "") -> str:
    """The picture of a network as SVG, the same every time. `name` is said in its title, `note` below the flows.

    Raises KeyError for a flow that ended where the picture has no place, ValueError for a network that it has no room
    for.
    """
    return _Map(network=network, flows=tuple(flows), name=name, note=note).drawn()


# ---- the picture -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Map:
    network: Network
    flows: tuple[Flow, ...]
    name: str
    note: str = ""
    anchors: dict[str, Point] = field(default_factory=dict)
    spots: dict[str, Spot] = field(default_factory=dict)
    parties: tuple[Party, ...] = ()
    rows: tuple[AccessRow, ...] = ()
    listed: tuple[AccessRow, ...] = ()  # the rows as they are listed
    tops: dict[str, float] = field(default_factory=dict)  # of each row of subnets
    heights: dict[str, float] = field(default_factory=dict)
    svg: Drawing = field(init=False)

    def drawn(self) -> str:
        self._demand_room()
        self.parties = access_table.parties(self.network)
        self.rows = access_table.rows(self.network)
        self.listed = access_table.merged(self.rows)
        self._arrange()
        flows_top = self.bottom + 34
        list_top = flows_top + (list_height(self.flows) if self.flows else 0)
        high = list_top + self._list_height() + 4
        self.svg = Drawing(WIDE, round(high), title=self._title(), description=self._description())
        for colour, name in ((OUT, "out"), (IN, "in"), (INK, "plain"), (SHUT, "shut"), (PRIVATE, "private")):
            self.svg.marker(name, colour, 18 if name == "out" else 13)
        self._outside()
        self._vpc()
        for subnet in self.network.subnets:
            self._subnet(subnet)
        self._gateways()
        self._members()
        self._left_column()
        self._closed()
        self._list(list_top)
        draw_badges(self.svg, self.flows, self.spots)
        if self.flows:
            draw_list(self.svg, self.flows, flows_top, self.note)
        return self.svg.written()

    def _demand_room(self) -> None:
        roles = {subnet.role for subnet in self.network.subnets}
        if len(self.network.zones) > len(ZONES):
            raise ValueError(f"a picture has two zones, not {', '.join(self.network.zones)}")
        if not {"private", "database"} <= roles:
            raise ValueError(f"a picture needs private and database subnets, not only {', '.join(sorted(roles))}")
        zones = [address.zone for nat in self.network.nat_gateways for address in nat.addresses]
        if len(zones) > len(set(zones)):
            raise ValueError(f"a picture has one fixed address for each zone, not those of {', '.join(zones)}")

    # ---- where things are

    def _arrange(self) -> None:
        """Top and height of each row of subnets, from what stands in it."""
        top = 244.0 + (86 if self._regional() else 0)
        for role in dict.fromkeys(["public", "private", "database", *(subnet.role for subnet in self.network.subnets)]):
            if not any(subnet.role == role for subnet in self.network.subnets):
                continue
            routes = max(self._lines_at_foot(subnet) for subnet in self.network.subnets if subnet.role == role)
            self.tops[role] = top
            self.heights[role] = 36 + self._content(role) + routes * LINE + 8
            top += self.heights[role] + 12

    def _lines_at_foot(self, subnet: Subnet) -> int:
        return sum(map(len, self._route_lines(subnet).values()))

    def _content(self, role: str) -> float:
        """The height of what stands in a row of subnets: NAT gateways or databases first, then the bars."""
        return self._above_bars(role) + sum(self._bar_height(party) + GAP for party in self._bars(role))

    def _above_bars(self, role: str) -> float:
        subnets = {subnet.id for subnet in self.network.subnets if subnet.role == role}
        if any(
            interface.kind is InterfaceKind.DATABASE and interface.subnet in subnets
            for interface in self.network.interfaces
        ):
            return 92 + self._room_in_databases()
        return 48 if any(nat.subnet in subnets for nat in self.network.nat_gateways) else 0

    def _room_in_databases(self) -> int:
        """For the badges of what ended at a database."""
        databases = [interface.id for interface in self.network.interfaces if interface.kind is InterfaceKind.DATABASE]
        return 26 if ending_at(self.flows, *databases) else 0

    def _bars(self, role: str) -> list[Party]:
        """The parties that stand in subnets of a role and are drawn as bars across the zones."""
        subnets = {subnet.id for subnet in self.network.subnets if subnet.role == role}
        return [
            party
            for party in self.parties
            if party.kind is not InterfaceKind.DATABASE and party.interfaces[0].subnet in subnets
        ]

    @property
    def bottom(self) -> float:
        """The lower edge of the VPC."""
        return max(self.tops[role] + self.heights[role] for role in self.tops) + 16

    def _regional(self) -> bool:
        return any(nat.subnet is None for nat in self.network.nat_gateways)

    def _zone(self, zone: str) -> int:
        return self.network.zones.index(zone)

    # ---- outside the VPC

    def _outside(self) -> None:
        self.svg.box(24, 20, 1152, 112, rx=10, fill="#f1f5f9", stroke=RULE, stroke_dasharray="6 5")
        self.svg.text(1160, 42, "Internet", text_anchor="end", fill=GREY)
        if not self._is_private_api():
            self._place(44, 52, 180, 64, ["API consumers"], at="api consumers")
        self._third_parties()
        self._named_strangers()
        self._place(1010, 66, 150, 50, ["everyone else"], at="internet", weight="normal")
        self.spots["internet"] = Spot(992, 91, -STEP)

    def _is_private_api(self) -> bool:
        return any(service == "execute-api" for service, _ in self.network.service_endpoints)

    def _fixed(self) -> list[tuple[float, str]]:
        """Where each fixed address is drawn, and what it is."""
        places = {
            str(address.public_address): NAT_AT[self._zone(address.zone)]
            for nat in self.network.nat_gateways
            for address in nat.addresses
        }
        return sorted((at, address) for address, at in places.items())

    def _third_parties(self) -> None:
        fixed = self._fixed()
        if not fixed:
            self._place(
                478, 44, 436, 72, ["Third parties on the internet", "no way leads there"], at="third party", stroke=RULE
            )
            self.spots["third party"] = Spot(932, 60)
            return
        middle = sum(at for at, _ in fixed) / len(fixed)
        addresses = " and ".join(address for _, address in fixed)
        words = ["Third parties", f"let in {addresses} and no one else"]
        wide = max(262, width(words[1], SMALL) + 40)
        self._place(middle - wide / 2, 44, wide, 72, words, at="third party", stroke=OUT)
        self.spots["third party"] = Spot(middle + wide / 2 + 18, 60)

    def _named_strangers(self) -> None:
        """Ranges of the internet that may connect to something: the developers."""
        for row in self._let_in_by_name():
            self._place(250, 44, 190, 72, ["Developers", row.who], at=row.who, stroke=IN)

    def _let_in_by_name(self) -> list[AccessRow]:
        """Where everyone is let in, _closed says it."""
        by_gateway = [row for row in self.rows if row.open and row.how == "through the internet gateway"]
        return [row for row in by_gateway if row.who != access_table.INTERNET]

    def _left_column(self) -> None:
        """API Gateway, which stands outside the VPC and whose requests reach functions without passing it."""
        middle = max(self.anchors["ApiFunction"][1], self.tops["private"] + 60) if "ApiFunction" in self.anchors else 0
        if middle:
            lines = ["API Gateway", "HTTPS, bearer tokens", "reaches functions by", "Lambda, not by the VPC"]
            self._place(44, middle - 50, 180, 100, lines, at="api gateway")
            self._arrow([(224, middle), (ZONES[0][0] + INSET + 8, middle)], "plain")
            if not self._is_private_api():
                self._arrow([(134, 116), (134, middle - 52)], "plain")
        self._private_api(middle)
        self._corporate()

    def _private_api(self, middle: float) -> None:
        """Callers reach a private API by its endpoint alone."""
        for service, owner in self.network.service_endpoints:
            if service == "execute-api" and middle:
                y = self.anchors[owner][1]
                self._arrow([(ZONES[0][0] + INSET + 10, y), (200, y), (200, middle + 52)], "private")
                if self.network.vpn is None:
                    self._callers_inside(y)

    def _callers_inside(self, y: float) -> None:
        """Where no VPN leads in, a private API's callers stand in the VPC; and who may be connected."""
        self._place(44, y + 26, 180, 62, ["API consumers", "in the VPC"], at="api consumers", stroke=PRIVATE)
        self._arrow([(224, y + 57), (252, y + 57), (252, y + 14), (ZONES[0][0] + INSET + 8, y + 14)], "private")
        ranges = list(dict.fromkeys(row.whom for row in self.rows if row.how == access_table.UNCONNECTED))
        if ranges:
            listed = [whom.removeprefix("third parties in ") for whom in ranges]
            few = listed if len(listed) <= 2 else [listed[0], f"and {len(listed) - 1} more ranges"]
            words = ["Third parties", *few, "see private addresses,", "once you connect them"]
            self._place(44, y + 104, 180, 34 + 22 * (len(words) - 1), words, at="unconnected", stroke=RULE)

    def _corporate(self) -> None:
        vpn = self.network.vpn
        if vpn is None:
            return
        top = self.tops["database"] - 6
        api = ["with the API's consumers"] if self._is_private_api() else []
        lines = ["Corporate network", *map(str, vpn.corporate), *api, f"gateway {vpn.customer_address}"]
        self._place(44, top, 180, 34 + 22 * (len(lines) - 1), lines, at="corporate", stroke=PRIVATE)
        self.spots["corporate"] = Spot(56, self.anchors["corporate"][1] + 18)
        middle = top + 60
        self.spots[vpn.gateway] = Spot(248, middle + 34, 0, STEP)
        self.svg.path([(224, middle), (VPC_LEFT, middle)], stroke=PRIVATE, stroke_width=4)
        self.anchors[vpn.gateway] = (VPC_LEFT, middle)
        for row in self.rows:
            if row.open and row.how == "through the VPN":
                x, y = self._door(row.whom)
                self._arrow([(280, middle), (280, y), (x, y)], "private")
        self._pill(VPC_LEFT - 8, middle, "VPN", PRIVATE)

    def _door(self, whom: str) -> Point:
        """The left edge of what a row calls by this name."""
        (party,) = (party for party in self.parties if access_table.called(party) == whom)
        y = self.anchors[party.interfaces[0].id][1]
        if party.kind is InterfaceKind.DATABASE:
            return self.anchors[party.interfaces[0].id][0] - 176, y
        return self._reach(party)[0] - 2, y + 10

    def _arrow(self, points: list[Point], kind: str) -> None:
        colour, thickness = {"plain": (INK, 2), "in": (IN, 2.5), "private": (PRIVATE, 2.5)}[kind]
        self.svg.path(points, stroke=colour, stroke_width=thickness, marker_end=f"url(#{kind})")

    # ---- the VPC

    def _vpc(self) -> None:
        top, network = 176, self.network
        self.svg.box(
            VPC_LEFT,
            top,
            VPC_RIGHT - VPC_LEFT,
            self.bottom - top,
            rx=10,
            fill="#fafbfc",
            stroke="#3e4c59",
            stroke_width=2,
        )
        words = f"VPC {network.cidr}"
        self.svg.text(VPC_RIGHT - 16, 202, words, font_weight="bold", fill="#3e4c59", text_anchor="end")
        self.spots[network.vpc] = Spot(VPC_RIGHT - 34 - width(words, 15, bold=True), 197, -STEP)
        for (left, right), zone in zip(ZONES, network.zones, strict=False):
            self.svg.box(
                left, 214, right - left, self.bottom - 224, rx=8, fill="none", stroke="#9aa5b1", stroke_dasharray="5 5"
            )
            self._label(left, right, 234, f"zone {zone}", GREY, SMALL)

    def _subnet(self, subnet: Subnet) -> None:
        ground, edge, ink = ROLES.get(subnet.role, UNUSED)
        left, right = (ZONES[self._zone(subnet.zone)][0] + INSET, ZONES[self._zone(subnet.zone)][1] - INSET)
        top, height = self.tops[subnet.role], self.heights[subnet.role]
        self.svg.box(left, top, right - left, height, rx=6, fill=ground, stroke=edge, stroke_width=1.5)
        self._label(left, right, top + 22, f"{subnet.role} subnet {subnet.cidr}", ink, 15)
        y = top + height - 12 - (self._lines_at_foot(subnet) - 1) * LINE
        for place, lines in self._route_lines(subnet).items():
            for line in lines:
                self._label(left, right, y, line, ink, SMALL)
                self.spots[place] = self._after(left, right, y, line)
                y += LINE

    def _label(self, left: float, right: float, y: float, words: str, colour: str, size: float) -> None:
        """At the outer edge of a zone, out of the way of what leaves by the NAT gateways."""
        if left < ZONES[1][0]:
            self.svg.text(left + 12, y, words, font_size=size, fill=colour)
        else:
            self.svg.text(right - 12, y, words, font_size=size, fill=colour, text_anchor="end")

    def _after(self, left: float, right: float, y: float, words: str) -> Spot:
        """Beside what _label writes, towards the middle of the picture."""
        wide = 12 + width(words, SMALL) + 16
        return Spot(left + wide, y - 5) if left < ZONES[1][0] else Spot(right - wide, y - 5, -STEP)

    def _route_lines(self, subnet: Subnet) -> dict[str, list[str]]:
        """The lines at the foot of a subnet, by the place that they are; they leave room for its badges."""
        (table,) = (table for table in self.network.route_tables if table.id == subnet.route_table)
        routes = "; ".join(self._route_words(table)) or "none but the VPC's own"
        words_at = {routes_of(subnet.id): f"routes: {routes}"}
        if any(nacl.id == subnet.nacl and not _lets_all_pass(nacl) for nacl in self.network.nacls):
            words_at[acl_of(subnet.id)] = "network ACL: only what is listed below"
        return {
            place: wrap(words, SMALL, 320 - STEP * ending_at(self.flows, place)) for place, words in words_at.items()
        }

    def _route_words(self, table: RouteTable) -> list[str]:
        words = []
        for route in table.routes:
            place = "all else" if route.destination == ANYWHERE else str(route.destination)
            match route.target:
                case NatTarget(nat=nat):
                    words.append(f"{place} to the {name_of(nat)}")
                case InternetGatewayTarget():
                    words.append(f"{place} to the internet gateway")
                case VpnTarget():
                    words.append(f"{place} to the VPN{' (propagated)' if route.propagated else ''}")
                case GatewayEndpointTarget(endpoint=endpoint):
                    services = {endpoint.id: endpoint.service.upper() for endpoint in self.network.gateway_endpoints}
                    words.append(f"{services[endpoint]} to its gateway endpoint")
                case _:
                    words.append(f"{place} to nowhere")
        return list(dict.fromkeys(words))

    # ---- gateways

    def _gateways(self) -> None:
        for nat in self.network.nat_gateways:
            if nat.subnet is None:
                self._nat_box(
                    nat.id,
                    (NAT_AT[0] + NAT_AT[1]) / 2,
                    262,
                    NAT_AT[1] - NAT_AT[0] + 160,
                    ["regional NAT gateway", "in no subnet"],
                )
            else:
                (subnet,) = (subnet for subnet in self.network.subnets if subnet.id == nat.subnet)
                middle = NAT_AT[self._zone(subnet.zone)]
                self._nat_box(nat.id, middle, self.tops[subnet.role] + 34, 144, ["NAT gateway", str(nat.address)])
        fixed = self._fixed()
        if self.network.internet_gateway:
            right = max((at for at, _ in fixed), default=480) + 112
            self.svg.box(304, 158, right - 304, 36, rx=6, fill="#ffffff", stroke="#3e4c59", stroke_width=1.5)
            self.svg.text(358, 181, "internet gateway", font_size=SMALL, fill=GREY)
            self.spots[self.network.internet_gateway] = Spot(372, 204)
        for at, address in fixed:
            self._way_out(at, address)

    def _nat_box(self, name: str, middle: float, top: float, wide: float, words: list[str]) -> None:
        self.svg.box(middle - wide / 2, top, wide, 46, rx=6, fill="#ffffff", stroke=OUT, stroke_width=2)
        self.svg.text(middle, top + 20, words[0], text_anchor="middle", font_weight="bold")
        self.svg.text(middle, top + 38, words[1], text_anchor="middle", font_size=SMALL, fill=GREY)
        outwards = 1 if middle == NAT_AT[1] else -1
        self.spots[name] = Spot(middle + outwards * (wide / 2 + 18), top + 23, outwards * STEP)

    def _way_out(self, at: float, address: str) -> None:
        """From the NAT gateway, by the fixed address, to the third parties."""
        top = 262 if self._regional() else self.tops["public"] + 34
        self.svg.path([(at, top), (at, 116)], stroke=OUT, stroke_width=4, marker_end="url(#out)")
        self._pill(at, 176, f"Elastic IP {address}", OUT)

    def _to_nat(self) -> None:
        """From every party that leaves by a NAT gateway to it: a line behind the bars, with a dot where one joins."""
        bottom = 262 + 46 if self._regional() else self.tops.get("public", 0) + 34 + 46
        for at, _ in self._fixed():
            joining = [top for party, top in self._tops_of_bars() if self._calls_out(party) and self._covers(party, at)]
            if joining:
                self.svg.path([(at, max(joining)), (at, bottom)], stroke=OUT, stroke_width=4, marker_end="url(#out)")

    def _covers(self, party: Party, x: float) -> bool:
        left, right = self._reach(party)
        return left < x < right

    def _calls_out(self, party: Party) -> bool:
        return any(row.open and row.how.startswith("seen as") for row in self.rows if row.who == party.label)

    def _tops_of_bars(self) -> Iterator[tuple[Party, float]]:
        """Every bar with its upper edge, row by row."""
        for role in self.tops:
            top = self.tops[role] + 34 + self._above_bars(role)
            for party in self._bars(role):
                yield party, top
                top += self._bar_height(party) + GAP

    def _pill(self, x: float, y: float, words: str, colour: str) -> None:
        wide = width(words, 15, bold=True) + 26
        self.svg.box(x - wide / 2, y - 16, wide, 32, rx=16, fill=colour)
        self.svg.text(x, y + 5.5, words, text_anchor="middle", font_weight="bold", fill="#ffffff")

    # ---- who stands in the subnets

    def _members(self) -> None:
        databases = [interface for interface in self.network.interfaces if interface.kind is InterfaceKind.DATABASE]
        self._to_nat()
        for interface in databases:
            self._to_database(interface)
            self._database(interface)
        for party, top in self._tops_of_bars():
            self._bar(party, top)
        self._dots(databases)
        self._developers()

    def _dots(self, databases: list[Interface]) -> None:
        """Where a party joins the lines to the NAT gateways and to the database."""
        out = [at for at, _ in self._fixed()]
        down = [self._line_to(interface) for interface in databases]
        for party, top in self._tops_of_bars():
            for x in out if self._calls_out(party) else []:
                self._dot(party, x, top, OUT)
            for x in down if self._opens_database(party) else []:
                self._dot(party, x, top + self._bar_height(party), IN)

    def _dot(self, party: Party, x: float, y: float, colour: str) -> None:
        if self._covers(party, x):
            self.svg.element("circle", cx=x, cy=y, r=6, fill=colour)

    def _opens_database(self, party: Party) -> bool:
        return any(row.open and row.who == party.label and "5432" in row.ports for row in self.rows)

    def _line_to(self, database: Interface) -> float:
        """Where the line to a database runs down, at the inner edge of its zone."""
        zone = self._zone_of(database)
        return ZONES[zone][1] - 36 if zone == 0 else ZONES[zone][0] + 36

    def _bar(self, party: Party, top: float) -> None:
        left, right = self._reach(party)
        colour, height = OUT if self._calls_out(party) else BARS[party.kind], self._bar_height(party)
        self.svg.box(left, top, right - left, height, rx=6, fill="#ffffff", stroke=colour, stroke_width=2)
        self.svg.text(left + 14, top + 22, self._heading(party), font_weight="bold")
        for number, line in enumerate(self._may(party)):
            self.svg.text(left + 14, top + 42 + number * LINE, line, font_size=SMALL, fill=GREY)
        owners = list(dict.fromkeys(interface.owner for interface in party.interfaces))
        for interface in party.interfaces:
            x = right - 40 - 60 * owners.index(interface.owner)
            self.anchors[interface.id] = self.anchors[interface.owner] = (x, top + height / 2)
            self.spots[interface.id] = Spot(right - 22, top + 17, -STEP)

    def _bar_height(self, party: Party) -> float:
        return BAR + len(self._may(party)) * LINE - 2

    def _reach(self, party: Party) -> tuple[float, float]:
        """Left and right edge of a bar, which covers the zones that the party stands in."""
        zones = sorted({self._zone_of(interface) for interface in party.interfaces})
        return ZONES[zones[0]][0] + INSET + 10, ZONES[zones[-1]][1] - INSET - 10

    def _heading(self, party: Party) -> str:
        kinds = {
            InterfaceKind.FUNCTION: "functions: " if len(party.names) > 1 else "function: ",
            InterfaceKind.ENDPOINT: "interface endpoints: " if len(party.names) > 1 else "interface endpoint: ",
        }
        return kinds.get(party.kind, "") + party.label

    def _may(self, party: Party) -> list[str]:
        if party.kind is InterfaceKind.ENDPOINT:
            words = "private addresses of AWS services; open nothing"
        else:
            opened: dict[str, list[str]] = {}
            for row in self.rows:
                if row.who == party.label and row.open:
                    opened.setdefault(", ".join(row.ports), []).append(row.whom)
            words = "; ".join(f"{ports} to {', '.join(whom)}" for ports, whom in opened.items())
            words = f"opens {words}" if opened else "opens nothing"
        left, right = self._reach(party)
        return wrap(words, SMALL, right - left - 28)

    def _zone_of(self, interface: Interface) -> int:
        (subnet,) = (subnet for subnet in self.network.subnets if subnet.id == interface.subnet)
        return self._zone(subnet.zone)

    def _database(self, interface: Interface) -> None:
        left, right = ZONES[self._zone_of(interface)]
        middle, top = (left + right) / 2, self.tops["database"] + 34
        half, rim, deep = 174.0, 10.0, 62.0 + self._room_in_databases()
        shape = {"fill": "#ffffff", "stroke": IN, "stroke_width": "2"}
        self.svg.element(
            "path",
            d=f"M{middle - half:g} {top + rim:g}v{deep:g}a{half:g} {rim:g} 0 0 0 {2 * half:g} 0v-{deep:g}",
            **shape,
        )
        self.svg.element("ellipse", cx=middle, cy=top + rim, rx=half, ry=rim, **shape)
        self.svg.text(
            middle, top + 42, f"{name_of(interface.owner)}, port 5432", text_anchor="middle", font_weight="bold"
        )
        public = interface.public_address
        words = f"{interface.address}" + (f", public address {public}" if public else ", no public address")
        self.svg.text(middle, top + 62, words, text_anchor="middle", font_size=SMALL, fill=GREY)
        self.anchors[interface.id] = self.anchors[interface.owner] = (middle, top + 40)
        badges = ending_at(self.flows, interface.id)
        self.spots[interface.id] = Spot(middle - (badges - 1) * STEP / 2, top + 84)

    def _to_database(self, database: Interface) -> None:
        """One line for all that may open it from inside, behind the bars."""
        x = self._line_to(database)
        joining = [
            top + self._bar_height(party)
            for party, top in self._tops_of_bars()
            if self._opens_database(party) and self._covers(party, x)
        ]
        if joining:
            self._arrow([(x, min(joining)), (x, self.tops["database"] + 36)], "in")

    def _developers(self) -> None:
        """Who is let in from the internet by name."""
        for row in self._let_in_by_name():
            door, y = self._door(row.whom)
            x, _ = self.anchors[row.who]
            self._arrow([(x, 116), (x, 203), (280, 203), (280, y), (door, y)], "in")

    # ---- what is closed

    def _closed(self) -> None:
        """The path of everyone else ends at the border, unless the access table says that something answers."""
        y = self.tops["database"] + 70
        shut = not self.rows[-1].open
        end = VPC_RIGHT if shut else ZONES[1][1] - INSET - 10
        style = {"stroke_dasharray": "6 5"} if shut else {"marker_end": "url(#shut)"}
        self.svg.path([(1138, 116), (1138, y), (end, y)], stroke=SHUT, stroke_width=2, **style)
        if shut:
            self._cross(VPC_RIGHT, y)
        words = "no way in" if shut else "OPEN"
        self.svg.text(1140, y + 30, words, text_anchor="middle", font_weight="bold", fill=SHUT, font_size=SMALL)
        if not self.network.nat_gateways:
            self._no_way_out()

    def _no_way_out(self) -> None:
        x = sum(NAT_AT) / 2
        self.svg.path([(x, self.tops["private"] + 34), (x, 176)], stroke=SHUT, stroke_width=2, stroke_dasharray="6 5")
        self._cross(x, 176)
        self.svg.text(x + 24, 162, "no way out", font_weight="bold", fill=SHUT, font_size=SMALL)

    def _cross(self, x: float, y: float, size: float = 12) -> None:
        for points in ([(x - size, y - size), (x + size, y + size)], [(x - size, y + size), (x + size, y - size)]):
            self.svg.path(points, stroke=SHUT, stroke_width=4, stroke_linecap="round")

    # ---- in words

    def _list(self, top: float) -> None:
        self.svg.text(44, top, "Who may open a TCP connection to whom", font_weight="bold")
        y = top + 30
        for cells, colour in self._cells():
            for (x, _, weight), lines in zip(COLUMNS, cells, strict=True):
                for number, line in enumerate(lines):
                    self.svg.text(x, y + number * LINE, line, fill=colour, font_weight=weight)
            y += _height(cells)
        if self._has_stand_ins():
            words = f"Addresses of {STAND_INS} stand for the Elastic IPs and public addresses that AWS gives you."
            self.svg.text(44, y, words, font_size=SMALL, fill=GREY)

    def _cells(self) -> list[tuple[list[list[str]], str]]:
        """The lines of each cell of each row, and the row's colour."""
        rows = []
        for row in self.listed:
            texts = (row.who, row.whom, ", ".join(row.ports) or "none", row.how)
            cells = [
                wrap(text, 15, room, bold=weight == "bold")
                for text, (_, room, weight) in zip(texts, COLUMNS, strict=True)
            ]
            rows.append((cells, INK if row.open else SHUT))
        return rows

    def _has_stand_ins(self) -> bool:
        public = [interface.public_address for interface in self.network.interfaces if interface.public_address]
        fixed = [address.public_address for nat in self.network.nat_gateways for address in nat.addresses]
        return any(address in STAND_INS for address in [*public, *fixed])

    def _list_height(self) -> float:
        return 34 + sum(_height(cells) for cells, _ in self._cells()) + (24 if self._has_stand_ins() else 0)

    def _place(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        lines: list[str],
        *,
        at: str,
        stroke: str = INK,
        weight: str = "bold",
    ) -> None:
        """A box with a name and lines below it."""
        self.svg.box(x, y, w, h, rx=8, fill="#ffffff", stroke=stroke, stroke_width=2 if stroke != RULE else 1.5)
        first = y + h / 2 + 5 - (len(lines) - 1) * 11
        for number, line in enumerate(lines):
            style = {"font_weight": weight} if number == 0 else {"font_size": str(SMALL), "fill": GREY}
            self.svg.text(x + w / 2, first + number * 22, line, text_anchor="middle", **style)
        self.anchors[at] = (x + w / 2, y + h)

    def _title(self) -> str:
        return f"The network of Sallyport{': ' if self.name else ''}{self.name}"

    def _description(self) -> str:
        subnets = "; ".join(f"{subnet.role} subnet {subnet.cidr} in {subnet.zone}" for subnet in self.network.subnets)
        connections = "; ".join(
            f"{row.who} to {row.whom}: {', '.join(row.ports) or 'none'}, {row.how}" for row in self.rows
        )
        return (
            f"VPC {self.network.cidr} with {subnets}. Connections that may be opened, with their ports: {connections}."
            + described(self.flows)
        )


def _lets_all_pass(nacl: Nacl) -> bool:
    """As the one that AWS gives to subnets without a list of their own."""
    first = {entry.egress: entry for entry in sorted(nacl.entries, key=lambda entry: -entry.number)}
    return set(first) == {True, False} and all(
        entry.allow and entry.protocol == "any" and entry.cidr == ANYWHERE for entry in first.values()
    )


def _height(cells: list[list[str]]) -> float:
    return max(map(len, cells)) * LINE + 5
