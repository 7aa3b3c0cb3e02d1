"""What Sallyport is compared with does the same work, and the page quotes the figures as they were counted."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bench import environments, events, frameworks, servers
from bench.chart import chart
from bench.environments import Environment, NotInstalled
from bench.frameworks import PEERS, Peer
from bench.handler import GET, POST
from bench.side import Side
from bench.stage import Stage, stage
from tests.contract.project import ROOT

PAGE = ROOT / "docs/performance.md"
PICTURE = frameworks.RECORDED.with_suffix(".svg")
RECORDED = json.loads(frameworks.RECORDED.read_text(encoding="utf-8"))
OTHERS = [peer for peer in PEERS if peer.name != "ours"]
# Different at each call.
OWN = {"delivery_id", "idempotency_key", "created_at", "next_attempt_at"}


class Wakeups:
    """A queue that takes all messages and counts them."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        listening = self._loop.create_server(lambda: servers.KeepAlive(self._take), "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Ends the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        self._server.close_clients()
        await self._server.wait_closed()

    def _take(self, body: bytes) -> bytes:
        self.taken.append(body)
        return servers.taken(body)


@pytest.fixture(scope="module")
def wakeups() -> Iterator[Wakeups]:
    queue = Wakeups()
    yield queue
    queue.close()


@pytest.fixture(scope="module")
def ready(wakeups: Wakeups) -> Iterator[Stage]:
    with stage(small=True) as made:
        yield replace(made, queue_port=wakeups.port)


@pytest.fixture(params=OTHERS, ids=lambda peer: peer.name)
def peer(request: pytest.FixtureRequest) -> Peer:
    found: Peer = request.param
    if not found.environment.ready:
        pytest.skip(f"{', '.join(found.environment.pins())} are not installed: make bench ONLY=peers installs them")
    return found


def post(stage: Stage, **changes: object) -> events.LambdaEvent:
    event = events.post(stage)
    event["body"] = b64encode(json.dumps(events.ORDER | changes).encode()).decode()
    return event


type Done = Callable[[Peer, events.LambdaEvent], Any]


@pytest.fixture(scope="module")
def done(ready: Stage) -> Iterator[Done]:
    """What a call of a peer does; each peer has one process for all tests."""
    sides: dict[str, Side] = {}
    with ExitStack() as open_sides:

        def call(peer: Peer, event: events.LambdaEvent) -> Any:
            if peer.name not in sides:
                side = Side(ready.environment(), command=[str(peer.environment.python)])
                sides[peer.name] = open_sides.enter_context(side)
            return sides[peer.name].do("plain_work", handler=peer.handler, event=peer.event(event))

        yield call


def test_a_post_is_one_statement_one_wakeup_and_202(ready: Stage, wakeups: Wakeups, done: Done, peer: Peer) -> None:
    before = len(wakeups.taken)
    work = done(peer, event := post(ready))
    assert (work["status"], work["statements"]) == (202, 1)
    assert work["lines"] >= 1
    (message,) = [json.loads(body)["Entries"] for body in wakeups.taken[before:]]
    document = work["document"]
    assert json.loads(message[0]["MessageBody"])["delivery_id"] == document["delivery_id"]
    assert work["location"] == f"/dev/v1/deliveries/{document['delivery_id']}"
    assert document["idempotency_key"] == event["headers"]["Idempotency-Key"]
    expected = done(frameworks.PLAIN_PEER, post(ready))["document"]
    assert expected.keys() == document.keys()
    assert {name: document[name] for name in expected.keys() - OWN} == {
        name: expected[name] for name in expected.keys() - OWN
    }


def test_a_get_is_one_statement_and_the_same_document(ready: Stage, done: Done, peer: Peer) -> None:
    delivery_id = done(frameworks.PLAIN_PEER, post(ready))["document"]["delivery_id"]
    expected = done(frameworks.PLAIN_PEER, events.get(ready, delivery_id))
    work = done(peer, events.get(ready, delivery_id))
    assert (work["status"], work["statements"]) == (expected["status"], expected["statements"]) == (200, 1)
    times = ("created_at", "next_attempt_at")
    assert all(work["document"][name][:19] == expected["document"][name][:19] for name in times)
    assert {**work["document"], **dict.fromkeys(times)} == {**expected["document"], **dict.fromkeys(times)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"destination": "Partner"},
        {"method": "FETCH"},
        {"path": "/a/../b"},
        {"path": "no-slash"},
        {"query": "a b"},
        {"headers": {"Host": "elsewhere"}},
        {"headers": {"X-A": "a\nb"}},
        {"metadata": {"long": "x" * 4096}},
        {"body": 7},
        {"unknown": 1},
    ],
    ids=str,
)
def test_what_plain_refuses_is_refused_without_a_statement(
    ready: Stage, wakeups: Wakeups, done: Done, peer: Peer, wrong: dict[str, object]
) -> None:
    before = len(wakeups.taken)
    work = done(peer, post(ready, **wrong))
    assert (work["status"], work["statements"]) == (422, 0)
    assert len(wakeups.taken) == before


def test_what_does_not_exist_is_not_found(ready: Stage, done: Done, peer: Peer) -> None:
    assert done(peer, post(ready, destination="nobody"))["status"] == 404
    assert done(peer, events.get(ready, uuid4()))["status"] == 404


def test_a_caller_without_the_scope_is_refused(ready: Stage, done: Done, peer: Peer) -> None:
    event = post(ready)
    event["requestContext"]["authorizer"]["scopes"] = "read"
    assert done(peer, event)["status"] == 403


def test_a_peer_that_cannot_be_installed_is_named_and_the_rest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ready: Stage
) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    absent = tmp_path / "absent.txt"
    absent.write_text("sallyport-absent==1.0\n", encoding="utf-8")
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(environments, "SHIPPED", absent)
    peers = [Peer(name="absent", handler="absent:handler", environment=Environment(requirements=absent))]
    frameworks.run(ready, out=tmp_path, peers=[*peers, frameworks.PLAIN_PEER])
    recorded = json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))
    assert "sallyport-absent==1.0 could not be installed: ERROR" in recorded["missing"]["absent"]
    assert f"!!! SKIPPED: peer absent: {recorded['missing']['absent']}" in capsys.readouterr().out
    assert recorded["partial"] is False
    assert recorded["counts"].keys() == {"plain"}
    assert (tmp_path / "peers.svg").read_text(encoding="utf-8") == chart(recorded["counts"])


def test_an_environment_is_installed_again_when_its_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "peer.txt"
    requirements.write_text("# nothing yet\n", encoding="utf-8")
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(environments, "SHIPPED", requirements)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    environment = Environment(requirements=requirements)
    was_ready = [environment.ready]
    environment.install()
    was_ready.append(environment.ready)
    requirements.write_text("sallyport-absent==1.0\n", encoding="utf-8")
    was_ready.append(environment.ready)
    with pytest.raises(NotInstalled):
        environment.install()
    assert [*was_ready, environment.ready] == [False, True, False, False]


# `make bench ONLY=peers`, of one peer.
ONE_PEER = """
import sys
from functools import partial
from bench import __main__, frameworks
frameworks.run = partial(frameworks.run, peers=[frameworks.PLAIN_PEER])
sys.exit(__main__.main())
"""


def running(words: str) -> str:
    """The ids of processes that have this in their command lines."""
    return subprocess.run(["pgrep", "-f", words], capture_output=True, text=True, check=False).stdout


def test_an_interrupted_comparison_is_recorded_as_partial_and_leaves_no_process(tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    with tempfile.TemporaryDirectory(prefix="sp-") as scratch:  # short: PostgreSQL's socket is in it
        process = subprocess.Popen(
            [sys.executable, "-c", ONE_PEER, "--only=peers", f"--out={tmp_path}"],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": scratch, "PYTHONPATH": "src:."},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that what is left can be found
        )
        while not running(f"callgrind.*{scratch}/"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.2)
        assert running(f"postgres.*{scratch}/")
        process.send_signal(signal.SIGTERM)
        said, errors = process.communicate()
        assert (process.returncode, running(f"{scratch}/"), [*Path(scratch).iterdir()]) == (130, "", [])
    assert "!!! PARTIAL" in said
    assert "Interrupted" in errors
    assert json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))["partial"] is True
    left = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_record_is_whole() -> None:
    assert RECORDED["partial"] is False
    assert RECORDED["missing"] == {}
    assert RECORDED["counts"].keys() == {peer.name for peer in PEERS}
    assert all(counted.keys() == {POST, GET} for counted in RECORDED["counts"].values())


def test_the_record_is_of_the_packages_that_are_pinned() -> None:
    assert RECORDED["packages"] == frameworks.report({}, missing={}, partial=False)["packages"]


def test_the_page_has_the_table_as_it_was_counted() -> None:
    head, _, *rows = cells(frameworks.table(RECORDED))
    page = cells(PAGE.read_text(encoding="utf-8"))
    assert page[page.index(head) + 2 :][: len(rows)] == rows


def test_the_picture_is_that_of_the_record() -> None:
    assert PICTURE.read_text(encoding="utf-8") == chart(RECORDED["counts"])


def test_the_page_names_ours_beside_each_framework_that_logs() -> None:
    others = ("Flask + apig-wsgi", "FastAPI + Mangum", "Chalice", "Powertools + msgspec, Logger, Metrics")
    page = PAGE.read_text(encoding="utf-8")
    counts = RECORDED["counts"]
    for call in (POST, GET):
        ours, *rest = (f"{counts[name][call] / counts['plain'][call]:.2f}" for name in ("ours", *others))
        assert f"| {ours} of plain's, against {', '.join(rest[:-1])} and {rest[-1]} | yes |" in page
        assert counts["ours"][call] < min(counts[name][call] for name in others)
