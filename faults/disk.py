"""A small disk of our own, which can be filled: a tmpfs in a mount namespace, which ends with us, as the disk does."""

import contextlib
import errno
import os
import subprocess
from pathlib import Path

_CHUNKS = (1 << 24, 1 << 16, 1 << 12)


class NoSuchDisk(Exception):
    """This machine lets us mount nothing; the text says why."""


def enter_namespace() -> None:
    """From now on what we mount is ours alone. Before any thread is started. Raises NoSuchDisk."""
    if not hasattr(os, "unshare"):
        raise NoSuchDisk("only Linux has mount namespaces")
    user, group = os.geteuid(), os.getegid()
    try:
        os.unshare(os.CLONE_NEWNS if user == 0 else os.CLONE_NEWUSER | os.CLONE_NEWNS)
        if user != 0:
            maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
            for name, line in maps.items():
                Path("/proc/self", name).write_text(line, encoding="ascii")
        _mount("--make-rprivate", "/")
    except OSError as error:
        raise NoSuchDisk(f"this machine lets nobody mount a disk of their own ({error.strerror})") from error


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(errno.EPERM, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "mount failed")


class Disk:
    """A tmpfs of `size_bytes` on `directory`. Raises NoSuchDisk."""

    def __init__(self, directory: Path, *, size_bytes: int) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"
        try:
            _mount("-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs", str(directory))
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
        subprocess.run(["umount", "--lazy", str(self.directory)], capture_output=True, check=False)
