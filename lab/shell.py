"""A shell on a host of the lab, with all programs running around it: `make lab-shell HOST=attacker`."""

import os
import subprocess
import sys
from collections.abc import Mapping
from ipaddress import IPv4Address

from lab.kernel.sandbox import enter
from lab.model.case import Case
from lab.model.world import world

_TOOLS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class NoSuchHost(ValueError):
    """There is no host of that name; the message lists those that there are."""


def shell(host: str, case: Case) -> int:
    """Open it and wait until it is left. Returns its status. Raises NoSuchHost, and what the testbed raises."""
    names = hosts(case)
    if host not in names:
        listed = "\n".join(f"  {name:<52}{', '.join(map(str, addresses))}" for name, addresses in names.items())
        asked = f"there is no host {host!r}" if host else "HOST is missing"
        raise NoSuchHost(f"{asked}; in {case.name} there are\n{listed}")
    if case.rendered is None:
        raise NoSuchHost("a shell needs the programs, which only a design from the templates has")
    enter()
    return _open(host, case)


def hosts(case: Case) -> Mapping[str, tuple[IPv4Address, ...]]:
    """All hosts that a shell can be opened on, with their addresses."""
    inside = {
        interface.id: (interface.address,)
        if interface.public_address is None
        else (interface.address, interface.public_address)
        for interface in case.network.interfaces
    }
    return inside | {host.name: (host.address,) for host in world(case.network, case.parameters)}


def _open(host: str, case: Case) -> int:
    from lab.programs.testbed import (
        running,  # it loads boto3 and moto, which start threads: after the world was entered
    )

    if case.rendered is None:
        raise NoSuchHost("a shell needs the programs, which only a design from the templates has")
    with running(case.network, case.rendered, report=_say) as lab:
        _say(_welcome(host, lab.names))
        environment = {
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), *_TOOLS]),  # noqa: PTH120 (it is text already)
            "HOME": "/",
            "TERM": os.environ.get("TERM", "dumb"),
            "PS1": f"{host}> ",
            "SSL_CERT_FILE": str(lab.authority.roots),
            "CURL_CA_BUNDLE": str(lab.authority.roots),
        }
        bash = ("bash", "--norc", "--noprofile")
        started = lab.lab.start(host, *bash, environment=environment, files=lab.files(host), read_only=True)
        while True:
            try:
                return started.wait()
            except KeyboardInterrupt:  # the terminal interrupts the shell too, which stays
                continue
            except subprocess.SubprocessError:
                return 1


def _welcome(host: str, names: Mapping[str, tuple[IPv4Address, ...]]) -> str:
    width = max(map(len, names), default=0) + 2
    known = "\n".join(f"  {name:<{width}}{', '.join(map(str, addresses))}" for name, addresses in names.items())
    files = "Files are yours to read, as outside of the lab, and none can be written but in a /tmp of this shell's own."
    return f"You are on {host}. These names are known inside of the VPC:\n{known}\n{files}\nLeave with exit."


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
