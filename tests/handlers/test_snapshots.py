"""A process restored from a snapshot starts afresh: what Lambda's runtime runs after a restore, run here by its own
library."""

import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import snapshot_restore_py

from domain.errors import DatabaseUnavailable
from handlers import wiring
from runtime import aws, credentials
from runtime.settings import AuthorizeSettings
from tests.egress.servers import OK, Line, Partner, Script, says
from tests.support.api import Functions

type StartPartner = Callable[[Script], Partner]


def restore() -> None:
    """What awslambdaric does after Lambda restored the process."""
    for action, arguments, options in snapshot_restore_py.get_after_restore():
        action(*arguments, **options)


def backend() -> int:
    """The PostgreSQL process behind the API's connection."""
    (row,) = wiring.api().database.rows("SELECT pg_backend_pid() AS pid", {})
    return int(row["pid"])


def test_the_api_function_reconnects_after_a_restore(functions: Functions) -> None:
    assert functions.api.get("/v1/deliveries").status == 200
    before, services = backend(), wiring.api()
    restore()
    assert functions.api.get("/v1/deliveries").status == 200
    assert backend() != before
    assert wiring.api() is not services


def test_what_was_open_before_a_restore_is_closed(functions: Functions, partner: StartPartner) -> None:
    """The other ends would go on waiting for a process that no longer knows of them."""
    closed = threading.Event()

    def answers_until_closed(line: Line) -> None:
        while line.read_request():
            line.send(OK)
        closed.set()

    functions.api.destination(partner(answers_until_closed).url())
    assert functions.api.call("GET", "/v1/via/partner/x").status == 200
    before = backend()
    restore()
    assert closed.wait(60)
    deadline = time.monotonic() + 60
    while functions.sql("SELECT pid FROM pg_stat_activity WHERE pid = %s", before):
        assert time.monotonic() < deadline, "the session of before is still there"
        time.sleep(0.01)


def test_a_connection_that_died_in_the_snapshot_is_not_missed(functions: Functions) -> None:
    functions.sql("SELECT pg_terminate_backend(%s)", backend())
    restore()
    assert functions.api.get("/v1/deliveries").status == 200


def test_connections_to_aws_are_closed_at_a_restore(partner: StartPartner, aws_credentials: None) -> None:
    there = partner(says(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}"))

    def ask() -> None:
        aws.call("sqs", "AmazonSQS.SendMessage", {}, endpoint_url=there.url(""), timeout_seconds=5)

    ask()
    ask()
    assert there.connections == 1
    restore()
    ask()
    assert there.connections == 2


def test_randomness_is_reseeded_so_that_restored_processes_differ() -> None:
    def after_a_restore_of(state: object) -> float:
        random.setstate(state)  # type: ignore[arg-type]  # what getstate gave
        restore()
        return random.random()

    state = random.getstate()
    assert after_a_restore_of(state) != after_a_restore_of(state)


def test_a_database_token_without_credentials_is_an_unavailable_database(
    partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials.forget()
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", partner(_refuses).url())
    settings = AuthorizeSettings.from_environment({"DATABASE_HOST": "db.invalid", "DATABASE_USER": "sallyport_app"})
    with pytest.raises(DatabaseUnavailable, match="no credentials"):
        wiring.database(settings.database).connection()


def _refuses(line: Line) -> None:
    line.read_request()
    line.send(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n")


def test_a_snapshot_holds_no_connection_key_or_credentials(repository: Path) -> None:
    """That is, none after the import, which is when Lambda makes it."""
    program = """
import os, sys
from handlers import api, wiring
from runtime import aws, credentials
links = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if number.isdigit() and
         os.path.islink(f"/proc/self/fd/{number}")]
assert not [link for link in links if link.startswith("socket:")], links
assert wiring.api.cache_info().currsize == 0 and not aws._handles and credentials._cached is None
"""
    subprocess.run([sys.executable, "-c", program], env=_environment(repository), check=True, stdin=subprocess.DEVNULL)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_library_draws_random_bits_before_the_snapshot(repository: Path, tmp_path: Path) -> None:
    """Else the keys of TLS would be the same in every restored process. Python itself draws: for the allocator, the
    hashes of texts, and the module random, which is seeded again."""
    log = tmp_path / "strace"
    command = ["strace", "-f", "-k", "-e", "trace=getrandom,openat", "-o", str(log)]
    command += [sys.executable, "-c", "import handlers.api"]
    if subprocess.run(command, env=_environment(repository), check=False, capture_output=True).returncode != 0:
        pytest.skip("strace cannot trace here")
    calls = re.split(r"^(?=\d+ +\w+\()", log.read_text(), flags=re.MULTILINE)
    drawn = [entry for entry in calls if "getrandom(" in entry.partition("\n")[0] or '/dev/urandom"' in entry]
    assert drawn
    assert not [entry for entry in drawn if re.search(r"libcrypto|libssl|libcurl|libpq|_pycurl|sodium", entry)]


def _environment(repository: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(repository / "src")}
