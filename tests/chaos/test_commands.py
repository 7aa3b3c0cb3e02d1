"""`make chaos` and `make faults` run, count and say so."""

import json
import re
import subprocess
from pathlib import Path

import pytest

WAIT_SECONDS = 600
KINDS = 18  # one fault of each


def run(repository: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stderr == ""
    return done.stdout


def test_a_short_make_chaos_counts_the_promises(repository: Path) -> None:
    said = run(repository, *["make", "chaos", "SECONDS=2", "SEED=1"])
    held = re.search(r"every promise held: (\d+) deliveries, (\d+) steps, (\d+) answers, (\d+) faults", said)
    assert held is not None, said
    assert all(int(number) > 0 for number in held.groups())


def test_a_short_make_faults_strikes_with_every_fault_and_reports_it(repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "reports"
    said = run(repository, *["make", "faults", "N=250", f"FAULTS={KINDS}", "SEED=1", f"OUT={out}"])
    report = json.loads((out / "faults.json").read_text())
    assert report["deliveries"]["total"] >= 250
    assert report["faults"]["total"] == KINDS
    assert set(report["promises"].values()) == {0}
    struck = set(report["faults"]["by_kind"])
    assert len(struck) >= KINDS - 1
    assert ("full disk" in struck) == (report["setting"]["no_full_disk_because"] == "")
    assert report["faults"]["statements_refused_for_want_of_space"] == ("full disk" in struck)
    assert (out / "faults.md").read_text().startswith("# Faults")
    assert not re.search(r"[{}\[\]]|\.log|None|CallResult", said), said
    assert re.search(r"  Lost: accepted, and nowhere or never ended +0\n", said)
    assert re.search(rf"  202 +{report['answers_by_status']['202']:,}\n", said)


def test_where_nothing_can_be_mounted_it_is_said_and_the_rest_is_run(repository: Path) -> None:
    """In a user namespace that may have no mount namespaces, as on a hardened machine."""
    forbid = "echo 0 > /proc/sys/user/max_mnt_namespaces"
    enclosed = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{forbid} && exec "$@"', "sh"]
    if subprocess.run([*enclosed, "true"], capture_output=True, check=False, timeout=60).returncode != 0:
        pytest.skip("this machine lets no process make namespaces of its own")
    said = run(repository, *enclosed, "make", "chaos", "SECONDS=1", "SEED=2")
    assert "the disk is never full in this run: this machine lets nobody mount a disk of their own" in said
    assert "every promise held" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("faults", "N=many"), "N=many is not a whole number"),
        (("faults", "FAULTS=-1"), "FAULTS=-1 is not a whole number"),
        (("faults", "N=0"), "'0' is no number from 1"),
        (("chaos", "SECONDS=0"), "'0' is no number from 1"),
        (("chaos", "SEED=x"), "SEED=x is not a whole number"),
    ],
)
def test_what_is_no_number_is_refused_in_a_line(repository: Path, arguments: tuple[str, str], words: str) -> None:
    done = subprocess.run(
        ["make", *arguments], cwd=repository, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
