"""A small disk of our own, which can be filled: a tmpfs in a mount namespace, which ends with us, as the disk does."""

import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

_CHUNKS = (1 << 24, 1 << 16, 1 << 12)
_MS_REC, _MS_PRIVATE, _MNT_DETACH = 1 << 14, 1 << 18, 2  # <sys/mount.h>


class NoSuchDisk(Exception):
    """This machine lets us mount nothing; the text says why."""


def enter_namespace() -> None:
    """From now on what we mount is ours alone. Before any thread is started. Raises NoSuchDisk.

    A child tries it first: who is refused in the middle of it is left without a user.
    """
    if not hasattr(os, "unshare"):
        raise NoSuchDisk("only Linux has mount namespaces")
    if not _in_a_child(_enter):
        raise NoSuchDisk("this machine lets nobody mount a disk of their own")
    _enter()


def _in_a_child(act: Callable[[], None]) -> bool:
    """Whether it succeeds there."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(OSError):
            act()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _enter() -> None:
    user, group = os.geteuid(), os.getegid()
    os.unshare(os.CLONE_NEWNS if user == 0 else os.CLONE_NEWUSER | os.CLONE_NEWNS)
    if user != 0:
        maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for name, line in maps.items():
            Path("/proc/self", name).write_text(line, encoding="ascii")
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE, "")


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    """mount(2), here and not by a program: whoever is not root would lose the right to it on the way there."""
    libc = ctypes.CDLL(None, use_errno=True)
    texts = [text.encode() or None for text in (source, target, kind)]
    if libc.mount(*texts, ctypes.c_ulong(flags), options.encode() or None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Disk:
    """A tmpfs of `size_bytes` on `directory`. Raises NoSuchDisk."""

    def __init__(self, directory: Path, *, size_bytes: int) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"
        try:
            _mount("tmpfs", str(directory), "tmpfs", 0, f"size={size_bytes},mode=700")
        except OSError as error:
            raise NoSuchDisk(f"this machine lets nobody mount a disk of their own ({error.strerror})") from error

    def fill(self) -> None:
        """To the last page."""
        with self._ballast.open("ab") as file:
            for chunk in _CHUNKS:
                with contextlib.suppress(OSError):  # no space is left for so much
                    while True:
                        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), chunk)

    def free(self) -> None:
        """As much room as before."""
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """The disk is gone, and all that is on it."""
        ctypes.CDLL(None).umount2(os.fsencode(self.directory), _MNT_DETACH)
