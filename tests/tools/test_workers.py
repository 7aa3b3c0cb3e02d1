"""Ours beside the workers of other queues: each makes and records its deliveries, and the page quotes what was
measured."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import environments, workers
from bench.environments import Environment
from bench.stage import Stage, stage
from bench.workers import WORKERS, Worker, WorkerRun
from tests.contract.project import ROOT

RECORDED = json.loads(workers.RECORDED.read_text(encoding="utf-8"))
PAGE = ROOT / "docs/performance.md"
CELLS = {workers.cell_name(body, at_once) for body in workers.BODY_BYTES for at_once in workers.IN_FLIGHT}


@pytest.fixture(scope="module")
def ready() -> Iterator[Stage]:
    with stage(small=True) as made:
        yield made


@pytest.fixture(params=WORKERS, ids=lambda worker: worker.name)
def worker(request: pytest.FixtureRequest) -> Worker:
    found: Worker = request.param
    if not found.environment.ready:
        pytest.skip(f"{', '.join(found.environment.pins())} are not installed: make bench ONLY=workers installs them")
    if found.broker and shutil.which(workers.BROKER) is None:
        pytest.skip(f"{workers.BROKER} is not installed")
    return found


def test_each_worker_makes_and_records_all_its_deliveries(ready: Stage, worker: Worker) -> None:
    with workers._broker(ready) as broker_url:
        made = workers.measured(ready, worker, "1 KB", 1_000, 2, broker_url=broker_url or "")
    assert made.per_second > 0
    assert made.cpu_milliseconds > 0


def test_a_worker_that_is_missing_is_named_and_the_rest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ready: Stage
) -> None:
    absent = tmp_path / "absent.txt"
    absent.write_text("sallyport-absent==1.0\n", encoding="utf-8")
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(environments, "SHIPPED", absent)
    monkeypatch.setattr(workers, "PEERS", tmp_path)
    monkeypatch.setattr(workers, "BROKER", "sallyport-absent-broker")
    ours = WORKERS[0]
    without_packages = Worker(name="without packages", module="absent", requirements="absent.txt")
    without_broker = Worker(name="without a broker", module="absent", broker=True)
    monkeypatch.setattr(workers, "WORKERS", (ours, without_packages, without_broker))
    workers.run(ready, out=tmp_path, workers=workers.WORKERS)
    recorded = json.loads((tmp_path / "workers.json").read_text(encoding="utf-8"))
    assert "sallyport-absent==1.0 could not be installed: ERROR" in recorded["missing"]["without packages"]
    assert "apt install sallyport-absent-broker" in recorded["missing"]["without a broker"]
    assert [*recorded["per_second"].values()] == [{"ours": recorded["per_second"]["1 KB, 2 in flight"]["ours"]}]
    printed = capsys.readouterr().out
    assert all(f"!!! SKIPPED: worker {name}: {reason}" in printed for name, reason in recorded["missing"].items())


def test_what_was_measured_until_an_interruption_is_recorded_as_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: Stage
) -> None:
    made = iter([WorkerRun(per_second=1.0, cpu_milliseconds=2.0)])

    def interrupted(*_: object, **__: object) -> WorkerRun:
        try:
            return next(made)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(workers, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workers.run(ready, out=tmp_path, workers=WORKERS[:2])
    recorded = json.loads((tmp_path / "workers.json").read_text(encoding="utf-8"))
    assert recorded["partial"] is True
    assert recorded["cpu_milliseconds"] == {"1 KB, 2 in flight": {"ours": [2.0], "plain": []}}
    assert not (tmp_path / "workers.svg").exists()


def test_the_environments_of_the_peers_are_apart() -> None:
    directories = [worker.environment.python for worker in WORKERS if worker.requirements]
    assert len(set(directories)) == len(directories)
    assert Environment(requirements=None).python not in directories


def test_the_record_is_whole() -> None:
    assert RECORDED["partial"] is False
    assert RECORDED["missing"] == {}
    for figure in workers.UNITS:
        assert RECORDED[figure].keys() == CELLS
        assert all(cell.keys() == {worker.name for worker in WORKERS} for cell in RECORDED[figure].values())
        assert {len(found) for cell in RECORDED[figure].values() for found in cell.values()} == {workers.ROUNDS}


def test_the_record_is_of_the_packages_that_are_pinned() -> None:
    assert RECORDED["packages"] == workers.report({}, missing={}, partial=False)["packages"]


def test_the_page_has_the_tables_as_they_were_measured() -> None:
    page = cells(PAGE.read_text(encoding="utf-8"))
    for table in workers.tables(RECORDED):
        head, _, *rows = cells(table)
        assert page[page.index(head) + 2 :][: len(rows)] == rows


def test_the_pictures_are_those_of_the_record() -> None:
    for name, picture in workers.pictures(RECORDED).items():
        assert workers.RECORDED.with_name(name).read_text(encoding="utf-8") == picture


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
