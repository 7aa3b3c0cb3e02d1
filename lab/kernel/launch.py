"""Run one program in a network namespace and a user namespace of its own. Started by lab.kernel.apply.Lab.start.

A program of its own, not a function after a fork: the lab may have threads, and only a process with one thread may
make a user namespace. It imports next to nothing, to start fast.

    launch.py --net=FD --user=1000 [--cover=/etc/resolv.conf=PATH]... [--read-only=yes] [--tied=no] -- COMMAND...

Whatever its user is called in here, it has the rights to files of the one who started the lab. With --read-only it can
write to a /tmp of its own alone, which is gone with it.

The program ends with the thread that started it, unless it is told not to be tied: then with the lab's process 1.
"""

import ctypes
import os
import signal
import struct
import sys

_MS_BIND, _MS_REC_PRIVATE = 0x1000, 0x4000 | 0x40000  # <sys/mount.h>
_PR_SET_PDEATHSIG = 1
_MOUNT_SETATTR = 442  # the same on every architecture, since Linux 5.12
_AT_FDCWD, _AT_RECURSIVE, _RDONLY = -100, 0x8000, 1  # <linux/fcntl.h>, <linux/mount.h>
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
    read_only = single.get("read-only") == "yes"
    if covers or read_only:
        _cover(covers)
    if read_only:
        _mount("tmp", "/tmp", 0, "tmpfs")  # noqa: S108 (it is a file system of its own)
        _set_attributes("/", _AT_RECURSIVE, set_=_RDONLY)
        for path in ("/tmp", "/proc"):  # noqa: S108 (/proc has the map of users, which is written below)
            _set_attributes(path, 0, clear=_RDONLY)
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


def _set_attributes(path: str, flags: int, *, set_: int = 0, clear: int = 0) -> None:
    """mount_setattr(2), which older C libraries have no function for."""
    wanted = struct.pack("QQQQ", set_, clear, 0, 0)
    if _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, wanted, ctypes.c_size_t(len(wanted))) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: files cannot be made read-only here", path)


def _mount(source: str, target: str, flags: int, kind: str | None = None) -> None:
    kind_bytes = None if kind is None else kind.encode()
    if _libc.mount(source.encode(), target.encode(), kind_bytes, ctypes.c_ulong(flags), None) != 0:
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
