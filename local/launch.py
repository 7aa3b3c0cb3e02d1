"""Turns itself into another program that cannot outlive the one that started it.

    python -I -S local/launch.py PARENT_PID SIGNAL IDENTITY PROGRAM [ARGUMENT...]

SIGNAL (a number) is what the program gets when the thread that started it ends, however it ends; Linux only, elsewhere
nothing is arranged. IDENTITY is one of

    same            keep the user
    namespace:UID   root only: appear as UID inside a new user namespace, with the files of the real user still in reach
    user:UID:GID    root only: become that user permanently

PostgreSQL refuses to run as root, which is what many containers are; the last two are for it. This is a program of its
own, not a `preexec_fn`, because that runs between fork and exec where other threads may hold locks, and because
unsharing a user namespace needs a process with one thread. It imports the standard library only: it runs without
site-packages.
"""

import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with(parent: int, signal_number: int) -> None:
    """Have the kernel send us `signal_number` when the thread that started us ends; exit if `parent` has ended."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def take(identity: str) -> None:
    """Become what `identity` says (see the module). Raises OSError where the system does not allow it."""
    kind, _, rest = identity.partition(":")
    if kind == "namespace":
        _enter_namespace(int(rest))
    elif kind == "user":
        user, group = (int(part) for part in rest.split(":"))
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)


def _enter_namespace(user: int) -> None:
    """One user is mapped: inside we are `user`, outside (and for every file) still ourselves; user_namespaces(7)."""
    outer_user, outer_group = os.geteuid(), os.getegid()
    os.unshare(os.CLONE_NEWUSER)
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {outer_user} 1"),
        ("gid_map", f"{user} {outer_group} 1"),
    ):
        Path("/proc/self", name).write_text(line, encoding="ascii")


def main(arguments: list[str]) -> None:
    """Never returns."""
    parent, signal_number, identity, *command = arguments
    take(identity)
    die_with(int(parent), int(signal_number))  # after the change of user, which would undo it
    os.execvp(command[0], command)  # noqa: S606 - to become that program is the point


if __name__ == "__main__":
    main(sys.argv[1:])
