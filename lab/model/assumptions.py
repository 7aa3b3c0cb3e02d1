"""What the lab takes for granted of AWS that no page states, or that nobody tried. Reports name what they rest on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stack.network.model import InterfaceKind, NatTarget, Network

REGIONAL_LOSS = (
    "a regional NAT gateway loses its address in a zone that is lost, and goes on with the others; no page of AWS "
    "states it of addresses that are assigned by hand"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenForGranted:
    """`text` is a sentence without its beginning, "It is assumed that"; `applies` says of which networks."""

    text: str
    applies: Callable[[Network, Mapping[str, str]], bool]


def _always(_: Network, __: Mapping[str, str]) -> bool:
    return True


def _is_regional(network: Network, _: Mapping[str, str]) -> bool:
    return any(nat.subnet is None for nat in network.nat_gateways)


def _is_zonal(network: Network, _: Mapping[str, str]) -> bool:
    return any(nat.subnet is not None for nat in network.nat_gateways)


def _has_vpn(network: Network, _: Mapping[str, str]) -> bool:
    return network.vpn is not None


def _announces(network: Network, parameters: Mapping[str, str]) -> bool:
    return network.vpn is not None and bool(parameters.get("CorporateCidr"))


def _has_endpoint(network: Network, _: Mapping[str, str]) -> bool:
    return bool(network.gateway_endpoints)


def _has_functions(network: Network, _: Mapping[str, str]) -> bool:
    return any(interface.kind is InterfaceKind.FUNCTION for interface in network.interfaces)


def _crosses(network: Network, _: Mapping[str, str]) -> bool:
    zones = {subnet.id: subnet.zone for subnet in network.subnets}
    of_nat = {nat.id: zones.get(nat.subnet or "") for nat in network.nat_gateways}
    tables = {subnet.route_table: subnet.zone for subnet in network.subnets}
    return any(
        isinstance(route.target, NatTarget) and of_nat.get(route.target.nat) not in {None, tables.get(table.id)}
        for table in network.route_tables
        for route in table.routes
    )


ASSUMPTIONS: tuple[TakenForGranted, ...] = (
    TakenForGranted(text=REGIONAL_LOSS, applies=_is_regional),
    TakenForGranted(
        text="a lost zone takes its NAT gateway with it and nothing else, and routes to that gateway lead nowhere",
        applies=_is_zonal,
    ),
    TakenForGranted(
        text="a NAT gateway serves other zones than its own as it serves its own, as long as its own zone is there",
        applies=_crosses,
    ),
    TakenForGranted(
        text="the other end of the VPN announces CorporateCidr and nothing more specific, where it announces at all",
        applies=_announces,
    ),
    TakenForGranted(
        text="behind the VPN there is somebody at whatever address a route leads there, and any address may call from "
        "there",
        applies=_has_vpn,
    ),
    TakenForGranted(
        text="a service behind a gateway endpoint has the ranges of its prefix list alone; for templates, stand-ins",
        applies=_has_endpoint,
    ),
    TakenForGranted(
        text="functions that share an interface on AWS are reached and filtered as if each had its own",
        applies=_has_functions,
    ),
    TakenForGranted(
        text="a datagram that belongs to no exchange is filtered like the first of one, by whichever end it is sent",
        applies=_always,
    ),
)


def assumed(network: Network, parameters: Mapping[str, str]) -> tuple[str, ...]:
    """Those that a network rests on."""
    return tuple(known.text for known in ASSUMPTIONS if known.applies(network, parameters))
