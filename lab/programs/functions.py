"""The functions' handlers, each in the namespaces of its interfaces: one per subnet that it may run in.

Lambda chooses the subnet of an execution environment by itself; here they take turns, unless a zone is asked for.
"""

import contextlib
import math
import platform
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.kernel.apply import Lab
from lab.model.errors import ProgramCannotRun
from lab.programs.metadata import Metadata, zone_ids
from local.functions import REPOSITORY, Function, FunctionConfiguration
from stack.network.model import Interface, InterfaceKind, Network
from stack.render import Rendered, Symbol

_BUILD = REPOSITORY / ".aws-sam" / "build"
_SOURCE = REPOSITORY / "src"
_MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}
_PLACES = 2  # environments for each function and subnet; the lab runs one job after another
# Where libcurl and OpenSSL look for the public roots; runtime/roots.py.
_SYSTEM_ROOTS = ("/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/ca-bundle.pem")


@dataclass(slots=True)
class ZoneChoice:
    """Where functions are started from now on: in `zone`, or in all of them by turns where it is None."""

    zone: str | None = None

    @contextlib.contextmanager
    def only(self, zone: str | None) -> Iterator[None]:
        before, self.zone = self.zone, zone
        try:
            yield
        finally:
            self.zone = before


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionInterface:
    """One of a function's interfaces."""

    interface: str
    zone: str
    function: Function


@dataclass(slots=True)
class PlacedFunction:
    """A function in all its subnets."""

    name: str
    places: tuple[FunctionInterface, ...]
    placement: ZoneChoice
    _turn: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def zones(self) -> tuple[str, ...]:
        return tuple(place.zone for place in self.places)

    @property
    def interfaces(self) -> tuple[str, ...]:
        return tuple(place.interface for place in self.places)

    def invoke(self, event: object, *, limit_seconds: float = math.inf, zone: str | None = None) -> Any:
        """As local.functions.Function.invoke, which raises its errors; in `zone` if one is given."""
        return self._next(zone).function.invoke(event, limit_seconds=limit_seconds)

    def start(self, zone: str | None = None) -> None:
        """Have an environment ready in `zone`, or in the first one. Raises FunctionError."""
        self._at(zone or self.zones[0])[0].function.start()

    def log(self, zone: str) -> str:
        """What the handler wrote there so far."""
        path = self._at(zone)[0].function.configuration.log
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self) -> None:
        for place in self.places:
            place.function.stop()

    def _next(self, zone: str | None) -> FunctionInterface:
        wanted = zone or self.placement.zone
        places = self.places if wanted is None else self._at(wanted)
        with self._lock:
            place = places[self._turn % len(places)]  # the first is where an environment was started ahead
            self._turn += 1
            return place

    def _at(self, zone: str) -> tuple[FunctionInterface, ...]:
        places = tuple(place for place in self.places if place.zone == zone)
        if not places:
            raise ProgramCannotRun(self.name, f"it has no interface in {zone}")
        return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Which code the functions run: the sources, or the built package, which has a directory for each function."""

    description: str
    built: bool

    def directory(self, function: str) -> Path:
        return _package(function) if self.built else _SOURCE


def _package(function: str) -> Path:
    """Where `sam build` puts a function, by its address: those of a nested stack are in a directory of its name."""
    return _BUILD.joinpath(*function.split("."))


def code(functions: Sequence[str]) -> Code:
    """The built packages where they are there, for this machine's processor and made of the sources as they are now."""
    machine = _MACHINES.get(platform.machine(), platform.machine())
    for name in functions:
        package = _package(name)
        if not (package / "ARCHITECTURE").is_file():
            return Code(description="src (there is no built package)", built=False)
        if (package / "ARCHITECTURE").read_text().strip() != machine:
            return Code(description=f"src (the built package is not for {machine})", built=False)
    if not all(_same(_package(name)) for name in functions[:1]):
        return Code(description="src (the built package is of other sources)", built=False)
    return Code(description=f"the built package (.aws-sam/build, {machine})", built=True)


def _same(package: Path) -> bool:
    sources = [path for path in _SOURCE.rglob("*") if path.suffix in {".py", ".sql"} and path.is_file()]
    return all(_bytes(package / path.relative_to(_SOURCE)) == path.read_bytes() for path in sources)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPlacer:
    """Puts functions into their namespaces; none is started yet.

    `values` stand for what only AWS would know, `variables` take the place of the template's own, where it has them.
    Logs go to `directory`; `roots` are trusted in place of the public ones, and `files` seen in place of the machine's.
    """

    lab: Lab
    network: Network
    rendered: Rendered
    values: Mapping[str, str]
    variables: Mapping[str, str]
    directory: Path
    roots: Path
    files: Mapping[str, str]
    code: Code
    stack: ExitStack
    placement: ZoneChoice = field(default_factory=ZoneChoice)

    def all(self) -> dict[str, PlacedFunction]:
        """All functions in the VPC. Raises ProgramCannotRun for a variable without a value."""
        interfaces = [interface for interface in self.network.interfaces if interface.kind is InterfaceKind.FUNCTION]
        return {
            name: PlacedFunction(
                name,
                tuple(self._place(interface) for interface in interfaces if interface.owner == name),
                self.placement,
            )
            for name in dict.fromkeys(interface.owner for interface in interfaces)
        }

    def _place(self, interface: Interface) -> FunctionInterface:
        name, zone = interface.owner, self._zone(interface)
        properties = self.rendered.resources[name]["Properties"]
        own = environment(name, properties, values=self.values, variables=self.variables)
        configuration = FunctionConfiguration(
            name=name,
            handler=properties["Handler"],
            code=self.code.directory(name),
            log=self.directory / f"{name}-{zone}.log",
            timeout_seconds=float(properties["Timeout"]),
            memory_mb=int(properties["MemorySize"]),
            variables={**own, **self._metadata(own, interface), "SSL_CERT_FILE": str(self.roots)},
            prefix=self.lab.launching(interface.id, files=self._covers(), tied=False),
            descriptors=(self.lab.namespaces[interface.id],),
        )
        return FunctionInterface(
            interface=interface.id, zone=zone, function=Function(configuration, concurrency=_PLACES)
        )

    def _zone(self, interface: Interface) -> str:
        return next(subnet.zone for subnet in self.network.subnets if subnet.id == interface.subnet)

    def _metadata(self, own: Mapping[str, str], interface: Interface) -> Mapping[str, str]:
        """The variables with Lambda's metadata endpoint, for a function that looks up its zone."""
        if not own.get("EGRESS_ZONE_IDS"):
            return {}
        metadata = Metadata(self.lab, interface.id, zone_ids(self.network.zones)[self._zone(interface)])
        self.stack.callback(metadata.stop)
        return metadata.variables

    def _covers(self) -> Mapping[str, str]:
        """The lab's authority in place of the public ones, for those who look where the system keeps them."""
        paths = [path for path in _SYSTEM_ROOTS if Path(path).exists()]
        if not paths:
            raise ProgramCannotRun(
                "this machine", f"it has no public roots at {', '.join(_SYSTEM_ROOTS)} (ca-certificates)"
            )
        return {**self.files, **dict.fromkeys(paths, str(self.roots))}


def stop(placed: Mapping[str, PlacedFunction]) -> None:
    """Stop all functions at the same time."""
    with ThreadPoolExecutor(len(placed) or 1) as side_by_side:
        list(side_by_side.map(PlacedFunction.stop, placed.values()))


def environment(
    name: str, properties: Mapping[str, Any], *, values: Mapping[str, str], variables: Mapping[str, str]
) -> dict[str, str]:
    """The variables of one function as the template gives them, with `values` and `variables` put in."""
    own: Mapping[str, Any] = properties.get("Environment", {}).get("Variables", {})
    return {
        key: variables[key] if key in variables and value != "" else filled(f"{name} {key}", value, values)
        for key, value in own.items()
    }


def filled(where: str, value: object, values: Mapping[str, str]) -> str:
    """`value` with everything that only AWS knows replaced from `values`. Raises ProgramCannotRun without a value."""
    if not isinstance(value, Symbol):
        return str(value)
    longest_first = sorted(values, key=len, reverse=True)
    known = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")
    text, count = known.subn(lambda match: values[match[1]], str(value))
    if count == 0:
        raise ProgramCannotRun(where, f"the lab has no value for {value}")
    return text
