"""Classes of addresses and ports: what a network tells apart, and that one member of each stands for all."""

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from lab.fuzz.networks import random_network
from lab.kernel.probe import attempts
from lab.model.attempts import Arrived, Died, Protocol
from lab.model.classes import LEFT_OUT, address_classes, addresses_of, everywhere, kinds_of_hosts, port_classes
from lab.model.outside import OutsideHost, standard_outside
from lab.oracle import Oracle
from stack.network.model import Network, Route, VpnTarget
from tests.support.networks import small_network, with_table


def test_every_address_is_in_exactly_one_class() -> None:
    ranges = sorted(cidr for found in address_classes(small_network()) for cidr in found.ranges)
    assert int(ranges[0].network_address) == 0
    assert int(ranges[-1].broadcast_address) == 2**32 - 1
    assert all(int(first.broadcast_address) + 1 == int(second.network_address) for first, second in pairwise(ranges))


def test_a_route_makes_a_class_and_its_member_is_in_it() -> None:
    led = Route(id="led", destination=IPv4Network("55.0.0.0/8"), target=VpnTarget(gateway="vgw"))
    network = with_table(small_network(), "private-table", led)
    (found,) = [found for found in address_classes(network) if IPv4Network("55.0.0.0/8") in found.ranges]
    assert (found.within, found.member) == (IPv4Network("55.0.0.0/8"), IPv4Address("55.0.0.0"))


def test_what_is_left_out_says_why() -> None:
    for found in addresses_of(small_network(), standard_outside(small_network())):
        assert (found.member is None) == bool(found.left_out)
        if found.member is not None:
            assert not any(found.member in cidr for cidr in LEFT_OUT)


def test_every_port_is_in_exactly_one_class_of_its_protocol() -> None:
    for protocol in ("tcp", "udp"):
        classes = [found for found in port_classes(random_network(4)) if found.protocol == protocol]
        ports = [port for found in classes for first, last in found.ranges for port in range(first, last + 1)]
        assert sorted(ports) == list(range(1, 65536))
        assert all(found.member == found.ranges[0][0] for found in classes)


def test_hosts_that_nothing_tells_apart_are_one_kind() -> None:
    network = small_network()
    (function,) = [interface for interface in network.interfaces if interface.id == "function"]
    twin = replace(function, id="twin", owner="twin", address=function.address + 50)
    both = replace(network, interfaces=(*network.interfaces, twin))
    assert kinds_of_hosts(both) == kinds_of_hosts(network)


def test_another_member_of_a_class_fares_the_same_in_random_networks() -> None:
    """The oracle judges two addresses of a class, from and to every kind of host, on a port of each class and on
    another of the same class."""
    for seed in range(12):
        network = random_network(seed)
        for ports in port_classes(network):
            last = ports.ranges[-1][1] if ports.ranges else 0
            one, other = (_fates(network, dice, (ports.member, last)[dice], ports.protocol) for dice in (0, 1))
            assert one == other, (seed, ports.name)


def _fates(network: Network, dice: int, port: int, protocol: Protocol) -> list[str]:
    around = everywhere(network, standard_outside(network))
    known = {host.address for host in around} | {interface.public_address for interface in network.interfaces}
    known |= {address.public_address for nat in network.nat_gateways for address in nat.addresses}
    moved = [_moved(host, network, known, random.Random(dice)) if dice else host for host in around]
    oracle = Oracle(network, moved)
    fates = []
    for kind in kinds_of_hosts(network):
        for host in moved:
            for source, destination in ((kind.id, host.address), (host.name, kind.address)):
                if source == host.name and host.place == "service":
                    continue
                (attempt,) = attempts([(source, destination, port, protocol)])
                fates.append(_fate(oracle.judge(attempt)))
    return fates


def _fate(result: object) -> str:
    match result:
        case Arrived():
            return "arrived"
        case Died(checkpoint=checkpoint, direction=direction):
            return f"{checkpoint} {direction}"
    return "unexplained"


def _moved(host: OutsideHost, network: Network, known: set[IPv4Address | None], dice: random.Random) -> OutsideHost:
    """A stranger at another address of its class."""
    if host.place != "anywhere":
        return host
    (found,) = [
        found
        for found in addresses_of(network, standard_outside(network))
        if any(host.address in cidr for cidr in found.ranges)
    ]
    cidr = dice.choice(found.ranges)
    address = cidr[dice.randrange(cidr.num_addresses)]
    return host if address in known else replace(host, address=address)
