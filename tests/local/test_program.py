"""`python -m local.program`: a signal, or make's end, ends a program without a traceback from its first moment on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import eventually
from tests.support.making import MAKEFILES, ROOT, clean

SLOW_IMPORT = """
import sys, time
print("importing", flush=True)
time.sleep(600)
"""
SLOW_MAIN = """
import time
def main():
    print("running", flush=True)
    time.sleep(600)
if __name__ == "__main__":
    main()
"""
MULTIPLE = """
import sys
if __name__ == "__main__":
    print(sys.argv, __name__)
    sys.exit(3)
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory of programs: slow_import, slow_main, and the package `large` with a __main__."""
    (tmp_path / "slow_import.py").write_text(SLOW_IMPORT)
    (tmp_path / "slow_main.py").write_text(SLOW_MAIN)
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "__init__.py").touch()
    (tmp_path / "large" / "__main__.py").write_text(MULTIPLE)
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "local.program", *words]


def environment(programs: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"src:.:{programs}"}


@contextmanager
def started(programs: Path, *words: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """A program that has said `until`."""
    process = subprocess.Popen(
        command(*words), cwd=ROOT, env=environment(programs), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{until}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_runs_as_python_runs_it(programs: Path) -> None:
    done = subprocess.run(
        command("large", "--n=1", "x"), cwd=ROOT, env=environment(programs), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.endswith("large/__main__.py', '--n=1', 'x'] __main__\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_while_it_imports_a_signal_ends_it_silently(programs: Path, number: signal.Signals) -> None:
    with started(programs, "slow_import", until="importing") as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (-number, "")


def test_a_program_that_says_nothing_about_ctrl_c_ends_silently(programs: Path) -> None:
    with started(programs, "slow_main", until="running") as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "")


def test_ctrl_c_that_is_ignored_stays_so(programs: Path) -> None:
    """As in a script that runs it in its background."""
    script = f"trap '' INT; exec {' '.join(command('show'))}"
    (programs / "show.py").write_text("import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)")
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment(programs), text=True, capture_output=True, check=True
    )
    assert set(done.stdout.split()) == {"True"}


@pytest.mark.parametrize(("program", "until"), [("slow_import", "importing"), ("slow_main", "running")])
def test_tied_it_ends_with_its_parent_however_that_ends(programs: Path, program: str, until: str) -> None:
    script = f"{' '.join(command('--tied=$$', program))} & echo $!; wait"
    parent = subprocess.Popen(
        ["bash", "-c", script], cwd=ROOT, env=environment(programs), text=True, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    lines = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
    assert until in lines
    (pid,) = lines - {until}
    parent.kill()
    parent.communicate(timeout=120)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_tied_to_one_that_has_ended_it_does_not_begin(programs: Path) -> None:
    done = subprocess.run(
        command("--tied=1", "large"), cwd=ROOT, env=environment(programs), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize("target", ["simulate", "faults", "chaos", "map"])
def test_ctrl_c_within_the_first_second_of_a_target_prints_no_traceback(target: str) -> None:
    """The whole group gets it, as from a terminal, whether Python starts just then, imports, or has begun."""
    for wait_seconds in (0.05, 0.2, 0.4, 0.6, 0.8, 1.0):
        process = subprocess.Popen(
            ["make", target], cwd=ROOT, env=clean(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        time.sleep(wait_seconds)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert "Traceback" not in output, output


def test_ctrl_c_while_python_starts_waits_until_it_ends_the_program_silently(programs: Path) -> None:
    """The program is born with the signal blocked, as make starts it: so that none is lost before Python begins."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            command("large"), cwd=ROOT, env=environment(programs), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_no_target_runs_a_program_of_ours_in_another_way() -> None:
    direct = re.compile(r"\$\(PY\) (?:-m (?!pytest|coverage|local\.program|pip)|\w+/)")
    assert [path.name for path in MAKEFILES if direct.search(path.read_text(encoding="utf-8"))] == []
