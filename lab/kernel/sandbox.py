"""A private world for the lab: user, mount, network and process namespaces of its own, without root.

Everything that the lab makes lives in here and dies with it. The network namespace starts with nothing but a loopback
that is down, so no packet can leave the machine. The process namespace is why kill -9 leaves nothing behind: its
first process is tied to the one outside, and the kernel ends all others with it.
"""

import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

SKIPPED = 77  # the exit status by which test runners know that something could not be run here
ORPHANED = 1  # nobody is left to read it
_PR_SET_PDEATHSIG = 1
MS_BIND, _MS_REC_PRIVATE = 0x1000, 0x4000 | 0x40000  # <sys/mount.h>
_SIOCGIFFLAGS, _IFF_UP = 0x8913, 1  # <linux/sockios.h>, <net/if.h>
_WORLDS = os.CLONE_NEWUSER | os.CLONE_NEWNS | os.CLONE_NEWNET | os.CLONE_NEWPID
_libc = ctypes.CDLL(None, use_errno=True)


class NamespacesForbidden(RuntimeError):
    """This machine does not allow making namespaces; the message says in one line what to do."""


def enter() -> None:
    """Continue inside a private world, as its root; to be called before any thread is started.

    The process that called waits outside and ends with the status of the one that returns from here.
    Raises NamespacesForbidden where the kernel does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    try:
        os.unshare(_WORLDS)
        _become_root(user, group)
    except OSError as error:
        raise NamespacesForbidden(_advice(error)) from error
    _split()
    try:
        _hide_mounts()
    except OSError as error:
        raise NamespacesForbidden(_advice(error)) from error
    assert_sealed()


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` ends, and end it here where that has happened already.

    The order matters: who asks first whether the parent lives may outlive it. Changing the user id would undo it: call
    it last. `parent` is the id that the one who started this process says, and never what getppid says later.
    """
    _tie()
    if os.getppid() != parent:
        os._exit(ORPHANED)


def _tie() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    """mount(2); raises OSError."""
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def assert_sealed() -> None:
    """Raise NamespacesForbidden unless this network namespace has no way to the machine's own network."""
    devices = [name for _, name in socket.if_nameindex() if _is_up(name)]
    if devices:
        raise NamespacesForbidden(
            f"the lab's network namespace is not sealed: {', '.join(devices)} is up before anything was made"
        )


def _is_up(device: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH14x", device.encode(), 0))
    return bool(struct.unpack("16sH14x", answer)[1] & _IFF_UP)


def _become_root(user: int, group: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _split() -> None:
    """Fork: the child is process 1 of the new world, the parent waits for it and never returns.

    In there the parent has no id to compare, but it alone holds the end of a pipe as long as it lives.
    """
    alive, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        _tie()
        if select.select([alive], [], [], 0)[0]:  # hung up: the parent was gone before we were tied to it
            os._exit(ORPHANED)
        os.close(alive)
        return
    os.close(alive)
    _wait_for(child)


def _wait_for(child: int) -> None:
    while True:
        try:
            _, status = os.waitpid(child, 0)
        except KeyboardInterrupt:  # the terminal interrupts the child too, whose message comes first
            continue
        ended = os.waitstatus_to_exitcode(status)
        os._exit(ended if ended >= 0 else 128 - ended)


def _hide_mounts() -> None:
    """Mounts made in here stay in here, and /proc shows this world's processes."""
    mount("none", "/", "none", _MS_REC_PRIVATE)
    mount("lab", "/run", "tmpfs")
    with suppress(OSError):  # a container that hides parts of /proc refuses a whole one; what the lab reads is in both
        mount("proc", "/proc", "proc")


def _advice(error: OSError) -> str:
    return (
        f"this machine lets no process make namespaces of its own ({error.strerror or error}); the lab needs them. "
        "In Docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined. "
        "On Ubuntu 24.04: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    )


def main_or_skip(error: NamespacesForbidden) -> int:
    """Print the one line and return the exit status for "could not be run here"."""
    print(f"lab: {error}", file=sys.stderr)
    return SKIPPED
