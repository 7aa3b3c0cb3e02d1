"""`make simulate`: what it prints, how it ends, and what it says of input that means nothing."""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import NoReturn

import pytest

from simulator import __main__ as command
from simulator.marks import EXPECTED, RARE, SEEDS_NEEDED
from simulator.mutants import mutated
from simulator.numbers import seeds_from
from simulator.pool import Pool
from simulator.run import run_tape
from simulator.setting import Databases, connected
from simulator.trace import to_json
from tests.support.making import ROOT, make

SHOWN = 11


def test_a_few_seeds_end_in_one_line_that_counts_them() -> None:
    done = make("simulate", "N=3", "SEED=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all promises kept. 3 seeds" in done.stdout
    assert "seeds from SEED=1 on" in done.stdout
    assert re.search(r"Not visited: \d+ of \d+ faults, states and branches$", done.stdout, re.MULTILINE)


def test_it_goes_on_until_there_were_so_many_deliveries() -> None:
    done = make("simulate", "DELIVERIES=25", "SEED=1")
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.search(r"all promises kept\. ([0-9]+) seeds?, ([0-9]+) deliver", done.stdout)
    assert said is not None
    assert 25 <= int(said[2]) < 150
    assert re.search(r"^simulate: at this rate a million deliveries take [0-9,.]+ (h|min)$", done.stdout, re.MULTILINE)
    assert int(said[1]) > 1


def test_it_says_how_long_a_night_takes_at_the_rate_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 110.0)
    tally = command.Tally(began_at=100.0, deliveries=300)
    assert tally.time_for(1_000_000) == "9.3 h"
    assert tally.time_for(30_000) == "17 min"
    assert command.Tally(began_at=100.0).time_for(-5) == "0 min"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--seed=x"], "'x' is no seed: a whole number below 4294967296"),
        (["--seed=-1"], "'-1' is no seed: a whole number below 4294967296"),
        (["--seed=4294967296"], "'4294967296' is no seed: a whole number below 4294967296"),
        (["--n=0"], "'0' is not a whole number from 1 on, such as 1000"),
        (["--n=many"], "'many' is not a whole number from 1 on, such as 1000"),
        (["--deliveries=0"], "'0' is not a whole number from 1 on, such as 1000"),
        (["--until=tomorrow"], "invalid choice: 'tomorrow'"),
        (["--n=5", "--until=failure"], "UNTIL: not allowed with N"),
        (["--n=5", "--deliveries=5"], "DELIVERIES: not allowed with N"),
        (["--seed=99999999999999999999999"], "SEED: '99999999999999999999999' is no seed: a whole number below"),
        (["--mutant=paints it blue"], "MUTANT: 'paints it blue' is no mistake of simulator/mutants.py\n"),
        (["--mutant=a 503 ends it"], "; do you mean 'a 503 ends a delivery'?\n"),
    ],
)
def test_input_that_means_nothing_is_one_clear_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.startswith("simulate: ")
    assert said.count("\n") == 1
    assert len(said) < 120


def test_a_mistake_that_no_seed_found_is_a_failure_and_not_called_a_promise_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["--n=1", "--seed=1", "--mutant=an operator's first page is the last"]) == 1
    said = capsys.readouterr()
    assert "kept" not in said.out + said.err
    assert said.err.startswith("simulate: no promise was broken, so the mistake was not found. 1 seed, ")


def test_a_story_that_was_saved_is_played_again_by_its_tape(
    databases: Databases, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the mistake in the code it breaks its promise again, and without it does not."""
    mutant = "a redirect counts as delivered"
    saved = tmp_path / "34.json"
    with connected(databases.make("simulated_story")) as connection, mutated(mutant):
        story = next(story for seed in range(500) if (story := run_tape(seed, connection)).broken)
    saved.write_bytes(to_json(story))
    assert command.main([f"--tape={saved}", f"--mutant={mutant}"]) == 1
    again = capsys.readouterr().out
    assert f"BROKEN  {story.broken[0].promise}: {story.broken[0].text}" in again
    assert saved.with_suffix(".html").exists()
    assert command.main([f"--tape={saved}"]) == 0
    assert capsys.readouterr().out.endswith("simulate: all promises kept\n")
    assert saved.read_bytes() == to_json(story)


@pytest.mark.parametrize(
    ("content", "line"), [(None, "No such file or directory"), (b"{}", "is no story"), (b"\xff", "is no story")]
)
def test_a_file_that_is_no_story_is_one_clear_line(
    content: bytes | None, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "story.json"
    if content is not None:
        path.write_bytes(content)
    assert command.main([f"--tape={path}"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("simulate: ")
    assert line in said


def test_a_run_that_never_came_to_a_place_fails_once_it_had_seeds_enough(capsys: pytest.CaptureFixture[str]) -> None:
    visited = Counter(dict.fromkeys(EXPECTED - RARE - {"claim: lapsed"}, 1))
    for seeds, status in ((SEEDS_NEEDED - 1, 0), (SEEDS_NEEDED, 1)):
        assert command._judge_marks(command.Tally(began_at=0.0, seeds=seeds, marks=visited)) == status
    assert capsys.readouterr().err == f"simulate: never visited in {SEEDS_NEEDED:,} seeds: claim: lapsed\n"


def test_too_little_memory_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_free_mb", lambda: 100)
    assert command.main(["--n=1"]) == 2
    assert capsys.readouterr().err == "simulate: too little memory: 100 MB are free, and 1 process need 350 MB\n"


def test_no_postgresql_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("initdb", "postgres"):
        (programs / name).write_text("#!/bin/sh\necho 'FATAL:  no memory for this' >&2\nexit 1\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setattr("local.postgres.binaries", lambda: programs)
    assert command.main(["--n=1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("simulate: PostgreSQL")


@pytest.mark.parametrize(
    ("until", "number"),
    [("seeds from", signal.SIGINT), ("seeds/s", signal.SIGINT), ("seeds/s", signal.SIGTERM)],
)
def test_stopped_it_leaves_no_process_and_no_file_and_says_what_was_found(until: str, number: signal.Signals) -> None:
    """The whole group gets the signal, as from a terminal, also while its processes are being started."""
    own = Path(tempfile.mkdtemp(prefix="ss"))  # short enough for the path of a socket
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "simulator", "--until=failure", "--seed=1"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "src:.", "TMPDIR": str(own)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while until not in process.stdout.readline():
        pass
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("\nsimulate: stopped. So far no promise was broken: ")
    assert errors.count("\n") == 2
    assert not _alive(process.pid)
    # Python tries a directory for temporary files by writing one, which stays if the process is ended just then.
    assert [path for path in own.iterdir() if path.is_dir() or path.read_bytes() not in (b"", b"blat")] == []
    shutil.rmtree(own)


def test_stopped_before_all_of_its_processes_run_it_leaves_none() -> None:
    """One that is left would look for a PostgreSQL that is stopped next, and say so in a traceback."""

    class Stopped(Databases):
        def make(self, name: str) -> str:
            if name.endswith("_2"):
                assert multiprocessing.active_children()
                raise KeyboardInterrupt
            return "postgresql://nobody@127.0.0.1:1/nothing"

    with pytest.raises(KeyboardInterrupt), Pool(Stopped(Path("unused")), size=2):
        pass
    assert multiprocessing.active_children() == []


def test_stopped_after_a_promise_was_broken_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where that was only just found, and nothing of it is printed."""
    monkeypatch.setattr(command, "_failed", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    mutant = "a lapsed claim is sent again"
    assert command.main(["--seed=0", "--n=500", f"--mutant={mutant}"]) == 130
    said = capsys.readouterr().err
    assert "stopped. A promise was broken (" in said
    assert re.search(rf"To repeat it: make simulate SEED=\d+ N=1 MUTANT='{mutant}'$", said, re.MULTILINE)


def test_after_the_last_seed_comes_the_first_so_each_can_be_named_again() -> None:
    assert list(islice(seeds_from(4294967294), 4)) == [4294967294, 4294967295, 0, 1]


def test_where_nobody_reads_on_it_ends_without_complaint() -> None:
    """As in `make simulate SHOW=yes | head`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator", "--n=1", f"--seed={SHOWN}", "--show=yes"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "src:."},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("simulate: ")
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as errors:
        assert errors.read() == ""
    assert process.wait(60) == 2


def test_what_the_system_refuses_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", _no_space)
    assert command.main(["--n=1"]) == 2
    assert capsys.readouterr().err == "simulate: [Errno 28] No space left on device\n"


def _no_space(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _alive(session: int) -> list[str]:
    """The processes of the session, once those that are ending had a minute for it."""
    give_up_at = time.monotonic() + 60
    while (left := _processes(session)) and time.monotonic() < give_up_at:
        time.sleep(0.1)
    return left


def _processes(session: int) -> list[str]:
    command = ["ps", "-s", str(session), "-o", "args="]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
