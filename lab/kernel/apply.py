"""Applies a Plan to the kernel: namespaces, links, addresses and routes by pyroute2, filters by nft.

Namespaces have no names; they are held by this process's file descriptors alone and are gone with it.
To be used inside of the sandbox (lab.kernel.sandbox.enter), whose root may do all this.
"""

import errno
import fcntl
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lab.kernel.nft import RECORDS, TABLE, script
from lab.plan.parts import FilterCause, LinuxRoute, Plan, Ruleset, Setting

_LAUNCHER = Path(__file__).with_name("launch.py")
_DESCRIPTORS = 1024
_FLAGS = struct.Struct("16sH14x")  # struct ifreq with a device and its flags
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # <linux/sockios.h>, <net/if.h>
_NOT_OFFERED = ("Operation not supported", "Protocol not supported", "Operation not permitted")  # the kernel, by nft


class MissingRequirement(RuntimeError):
    """A program that the lab needs is not installed, or the kernel lacks something; the message is one line."""


class RecordsFull(RuntimeError):
    """A set of records has no room left, so a missing record proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketRecord:
    """A packet that was refused or let through in `namespace`, with its addresses as they were there."""

    namespace: str
    cause: FilterCause
    source: IPv4Address
    destination: IPv4Address
    source_port: int
    destination_port: int


class Lab:
    """A plan that has been applied. Ids of interfaces and names of hosts outside are the names of its namespaces."""

    def __init__(self, plan: Plan, namespaces: dict[str, int], causes: Mapping[str, tuple[FilterCause, ...]]) -> None:
        self.plan = plan
        self.namespaces = namespaces | {host.name: namespaces[host.shares] for host in plan.hosts if host.shares}
        self._causes = causes

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """This thread is in the namespace `name`: sockets made now belong to it, programs started now run in it."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            os.setns(self.namespaces[name], os.CLONE_NEWNET)
            yield
        finally:
            os.setns(home, os.CLONE_NEWNET)
            os.close(home)

    def start(
        self,
        name: str,
        *command: str,
        environment: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        user: int = 1000,
        read_only: bool = False,
        **popen: Any,
    ) -> "subprocess.Popen[bytes]":
        """Start a program in the namespace `name`, as `user` of a user namespace of its own; the caller waits for it.

        PostgreSQL refuses to run as user 0, so the default is not. All of the lab's files belong to that user there.
        `files` are put over existing ones, by path ("/etc/resolv.conf": path of ours), for this program alone.
        Its rights to files are those of whoever started the lab; with `read_only` it can write to its own /tmp alone.
        The program is killed when the thread that started it ends, and with the sandbox at the latest. `popen` goes
        to subprocess.Popen.
        """
        launch = [*self.launching(name, files=files, user=user, read_only=read_only), *command]
        descriptors = (self.namespaces[name], *popen.pop("pass_fds", ()))
        return subprocess.Popen(launch, env=environment, pass_fds=descriptors, **popen)

    def launching(
        self,
        name: str,
        *,
        files: Mapping[str, str] | None = None,
        user: int = 1000,
        tied: bool = True,
        read_only: bool = False,
    ) -> tuple[str, ...]:
        """What comes before a command that is to run there; it must inherit the descriptor `namespaces[name]`.

        A program that is `tied` is killed when the thread ends that started it, others when the lab's process 1 does.
        """
        covers = [f"--cover={target}={source}" for target, source in (files or {}).items()]
        more = [option for option, is_set in (("--tied=no", not tied), ("--read-only=yes", read_only)) if is_set]
        options = (f"--net={self.namespaces[name]}", f"--user={user}", *covers, *more)
        return (sys.executable, "-I", "-S", str(_LAUNCHER), *options, "--")

    def drops(self) -> tuple[PacketRecord, ...]:
        """All packets that were refused so far, once each."""
        return self._records("drops")

    def passes(self) -> tuple[PacketRecord, ...]:
        """All packets that an ACL's entry or a security group's rule let through so far, once each."""
        return self._records("passes")

    def ledger(self) -> frozenset[tuple[IPv4Address, IPv4Address]]:
        """Every (source, destination) that left the VPC for the internet, as the internet sees it."""
        elements = self._set("internet", "ledger")
        return frozenset(
            (IPv4Address(source), IPv4Address(to)) for source, to in (element["concat"] for element in elements)
        )

    def _records(self, kind: str) -> tuple[PacketRecord, ...]:
        return tuple(
            _record(name, causes, element["concat"])
            for name, causes in self._causes.items()
            for element in self._set(name, kind)
        )

    def _set(self, name: str, which: str) -> list[Any]:
        with self.inside(name):
            answer = _nft("-j", "list", "set", "ip", TABLE, which)
        named_set = next(entry["set"] for entry in json.loads(answer)["nftables"] if "set" in entry)
        elements: list[Any] = named_set.get("elem", [])
        if len(elements) >= RECORDS:
            raise RecordsFull(f"{name}: {which} is full")
        return elements


def _record(namespace: str, causes: tuple[FilterCause, ...], concat: list[Any]) -> PacketRecord:
    mark, source, destination, source_port, destination_port = concat
    return PacketRecord(
        namespace=namespace,
        cause=causes[int(mark) - 1],
        source=IPv4Address(source),
        destination=IPv4Address(destination),
        source_port=int(source_port),
        destination_port=int(destination_port),
    )


@contextmanager
def applied(plan: Plan) -> Iterator[Lab]:
    """The plan in the kernel, until the end of the block.

    Raises MissingRequirement, and RuntimeError with nft's message where nft refuses.
    """
    _allow_descriptors()
    with ExitStack() as stack:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        stack.callback(os.close, home)
        stack.callback(os.setns, home, os.CLONE_NEWNET)
        namespaces: dict[str, int] = {}
        clients: dict[str, IPRoute] = {}
        for name in plan.namespaces:
            namespaces[name] = _new_namespace()
            stack.callback(os.close, namespaces[name])
            clients[name] = stack.enter_context(IPRoute())
            _settings(
                setting for setting in plan.settings if setting.namespace == name and not _is_of_netfilter(setting)
            )
        os.setns(home, os.CLONE_NEWNET)
        devices = _links(plan, namespaces, clients)
        _addresses(plan, devices, clients)
        _routes(plan, devices, clients)
        causes = {ruleset.namespace: _filters(ruleset, namespaces[ruleset.namespace]) for ruleset in plan.rulesets}
        for setting in filter(_is_of_netfilter, plan.settings):
            os.setns(namespaces[setting.namespace], os.CLONE_NEWNET)
            _settings([setting])
        os.setns(home, os.CLONE_NEWNET)
        yield Lab(plan, namespaces, causes)


def _new_namespace() -> int:
    """Raises MissingRequirement where the kernel's limit is reached: /proc/sys/user/max_net_namespaces."""
    try:
        os.unshare(os.CLONE_NEWNET)
    except OSError as error:
        raise MissingRequirement(f"this kernel gives the lab no more network namespaces ({error.strerror})") from error
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _allow_descriptors() -> None:
    """As many files as this process may have at all: a namespace takes about ten, and a probe two for each attempt."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        raise MissingRequirement(
            f"{hard} open files are too few for the lab, which needs {_DESCRIPTORS}: see ulimit -Hn"
        )


def _is_of_netfilter(setting: Setting) -> bool:
    """These exist only once a filter has made the kernel load connection tracking."""
    return setting.path.startswith("netfilter/")


def _settings(settings: Iterable[Setting]) -> None:
    """/proc/sys/net shows the namespace of who opens it. Raises MissingRequirement for what this kernel lacks."""
    for setting in settings:
        try:
            Path("/proc/sys/net", setting.path).write_text(setting.value)
        except OSError as error:
            raise MissingRequirement(f"/proc/sys/net/{setting.path} cannot be set here ({error.strerror})") from error
    no_ipv6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    if no_ipv6.exists():
        no_ipv6.write_text("1")


type DeviceIndexes = dict[tuple[str, str], int]


def _links(plan: Plan, namespaces: Mapping[str, int], clients: Mapping[str, IPRoute]) -> DeviceIndexes:
    """Make all links and switch them on. Returns the index of each device by namespace and name."""
    for link in plan.links:
        peer = {"ifname": link.far_device, "net_ns_fd": namespaces[link.far]}
        _veth(clients[link.near], link.near_device, peer)
    ours = {"lo"} | {device for link in plan.links for device in (link.near_device, link.far_device)}
    devices: DeviceIndexes = {}
    for name, namespace in namespaces.items():
        os.setns(namespace, os.CLONE_NEWNET)
        for index, device in socket.if_nameindex():
            if device in ours:
                _switch_on(device)
                devices[name, device] = index
    return devices


def _switch_on(device: str) -> None:
    """In this thread's namespace. By ioctl: a plan has a hundred devices, and a request over netlink is far dearer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags: int = _FLAGS.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _FLAGS.pack(device.encode(), 0)))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _FLAGS.pack(device.encode(), flags | _IFF_UP))


def _veth(client: IPRoute, device: str, peer: Mapping[str, Any]) -> None:
    try:
        client.link("add", ifname=device, kind="veth", peer=peer)
    except NetlinkError as error:
        if error.code != errno.EOPNOTSUPP:
            raise
        raise MissingRequirement("this kernel has no veth devices, which the lab's links are made of") from error


def _addresses(plan: Plan, devices: DeviceIndexes, clients: Mapping[str, IPRoute]) -> None:
    for address in plan.addresses:
        index = devices[address.namespace, address.device]
        clients[address.namespace].addr("add", index=index, address=str(address.address), prefixlen=32)


def _routes(plan: Plan, devices: DeviceIndexes, clients: Mapping[str, IPRoute]) -> None:
    for route in plan.routes:
        clients[route.namespace].route("add", **_route(route, devices))
    for lookup in plan.lookups:
        selectors = {"iifname": lookup.device, "dst": lookup.destination and str(lookup.destination)}
        selectors = {name: value for name, value in selectors.items() if value is not None}
        clients[lookup.namespace].rule("add", priority=lookup.priority, table=lookup.table, **selectors)


def _route(route: LinuxRoute, devices: DeviceIndexes) -> dict[str, Any]:
    arguments: dict[str, Any] = {"dst": str(route.destination), "table": route.table}
    if route.device is None:
        return arguments | {"type": "throw"}
    arguments["oif"] = devices[route.namespace, route.device]
    if route.gateway is None:
        return arguments | {"scope": "link"}
    return arguments | {"gateway": str(route.gateway), "flags": ["onlink"]}


def _filters(ruleset: Ruleset, namespace: int) -> tuple[FilterCause, ...]:
    os.setns(namespace, os.CLONE_NEWNET)
    ruleset_script = script(ruleset)
    _nft("-f", "-", text=ruleset_script.text)
    return ruleset_script.causes


def _nft(*arguments: str, text: str = "") -> str:
    done = subprocess.run([_nft_path(), *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0 and any(message in done.stderr for message in _NOT_OFFERED):
        raise MissingRequirement(
            f"this kernel does not filter as the lab needs it; nft says: {done.stderr.strip().splitlines()[0]}"
        )
    if done.returncode != 0:
        raise RuntimeError(f"nft {' '.join(arguments)}: {done.stderr.strip()[:2000]}")
    return done.stdout


def _nft_path() -> str:
    """nft lives in a directory of administrators, which is not on everyone's PATH."""
    path = shutil.which("nft", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if path is None:
        raise MissingRequirement(
            "nft is not installed; the lab's filters need it (on Debian and Ubuntu: apt install nftables)"
        )
    return path


__all__ = ["Lab", "MissingRequirement", "PacketRecord", "RecordsFull", "applied"]
