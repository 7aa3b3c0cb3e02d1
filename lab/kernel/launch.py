"""Run one program in a network namespace and a user namespace of its own. Started by lab.kernel.apply.Lab.start.

A program of its own, not a function after a fork: the lab may have threads, and only a process with one thread may
make a user namespace. It imports next to nothing, to start fast.

    launch.py --net=FD --user=1000 [--cover=/etc/resolv.conf=PATH]... [--tied=no] -- COMMAND...

The program ends with the thread that started it, unless it is told not to be tied: then with the lab's process 1.
"""

import ctypes
import os
import signal
import sys

_MS_BIND, _MS_REC_PRIVATE = 0x1000, 0x4000 | 0x40000  # <sys/mount.h>
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    """Set up what the options ask for, and become the program."""
    at = arguments.index("--")
    options, command = arguments[:at], arguments[at + 1 :]
    values = [option.removeprefix("--").split("=", 1) for option in options]
    covers = [value.split("=", 1) for name, value in values if name == "cover"]
    single = dict(values)
    net = int(single["net"])
    os.setns(net, os.CLONE_NEWNET)
    os.close(net)
    if covers:
        _cover(covers)
    if (user := int(single["user"])) != 0:
        _become(user)
    if single.get("tied") != "no":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after the change of user, which would undo it
    os.execvp(command[0], command)  # noqa: S606 (the command is the caller's)


def _cover(covers: list[list[str]]) -> None:
    os.unshare(os.CLONE_NEWNS)
    _mount("none", "/", _MS_REC_PRIVATE)
    for target, source in covers:
        _mount(source, target, _MS_BIND)


def _mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def _become(user: int) -> None:
    """`user` in a new user namespace is the root that we are in ours, with none of its power over our network."""
    os.unshare(os.CLONE_NEWUSER)
    for name, text in (("uid_map", f"{user} 0 1"), ("gid_map", f"{user} 0 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 (pathlib takes 10 ms to import)
            file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
