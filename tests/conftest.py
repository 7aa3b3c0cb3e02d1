"""Fixtures for every kind of test. Databases are real: one PostgreSQL per session, one fresh database per test."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from local.postgres import Postgres
from local.stopping import STOP_SIGNALS
from runtime import credentials
from runtime.observability import metrics
from tests.support.databases import Databases, FreshDatabase

if TYPE_CHECKING:  # at run time they would import this file again
    from tests.egress.servers import Partner, Script
    from tests.support.api import Api, Functions
    from tests.support.gateway import EmulatedQueue, Gateway, QueueServer

# Folders whose tests look at the project from outside, or at what does not ship. Whatever of src/ they happen to run,
# here or in processes that they start, adds nothing to what the others cover; to trace it takes a third of their time.
_UNMEASURED = frozenset({"chaos", "contract", "documents", "lab", "local", "node", "simulator", "stack", "tools"})
_MEASURED_CHILDREN = (
    "COVERAGE_PROCESS_CONFIG",
    "COVERAGE_PROCESS_START",
)  # what coverage tells processes to be measured
_TESTS = Path(__file__).parent
_PREFIX = "sp"  # short: paths of sockets have 107 bytes
_MEMORY = Path("/dev/shm")  # noqa: S108  # pytest makes a directory in it that only its user may enter
_ROOM_BYTES = 4 * 1024**3  # several times what all tests on four processes need
_PROCESSES_PER_CORE = 2
_BYTES_PER_PROCESS = 2 * 1024**3  # with its PostgreSQL, its local stack and what its tests start: 1.5 GiB at most
# All tests and modules stay to the end, and Python looks through many of them for garbage again and again: ten times as
# seldom it takes 5 % less time.
_GARBAGE_COLLECTED_AFTER = (20_000, 20, 20)
# Where single files take a minute.
_LONGEST_FIRST = ("tools", "chaos", "local", "lab", "simulator", "e2e", "faults", "stack", "documents")

# The same examples in each run, however slow the machine is: fresh ones are looked for by hand, with
# --hypothesis-profile=default.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Temporary files are in memory where it has room for them, those of programs that tests start too: databases,
    stacks and copies of the tree are thousands of small files, which take longer on a disk than what is done with them.
    """
    is_first = "PYTEST_XDIST_WORKER" not in os.environ and "TMPDIR" not in os.environ
    if is_first and _has_room(_MEMORY) and _available_memory_bytes() > _ROOM_BYTES:
        _delete_left_over()
        directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_MEMORY))
        directory.chmod(0o711)  # PostgreSQL's own user goes through it
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
        os.environ |= {"PYTEST_DEBUG_TEMPROOT": str(_MEMORY), "TMPDIR": str(directory)}
        tempfile.tempdir = None  # it was looked up before
    gc.set_threshold(*_GARBAGE_COLLECTED_AFTER)
    if config.args == [_TESTS.name]:
        config.args = _turned(sorted({str(_TESTS / _folder(path)) for path in _TESTS.rglob("test_*.py")}))


def _turned(folders: list[str]) -> list[str]:
    """All of them, for each process from another one on. Where no test file is compiled yet, one process compiles it
    and the others find it compiled when they come to it."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    start = len(folders) * number // processes
    return folders[start:] + folders[:start]


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is off
def pytest_xdist_auto_num_workers() -> int | None:
    """More processes than cores, where memory has room: a process waits a third of its time, for a time-out, a program
    or a partner, and another one works meanwhile."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0))
    return max(cores, min(_PROCESSES_PER_CORE * cores, _available_memory_bytes() // _BYTES_PER_PROCESS))


def _delete_left_over() -> None:
    """What tests that were killed could not delete."""
    for directory in _MEMORY.glob(f"{_PREFIX}*-*"):
        process_id = directory.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", process_id).exists():
            shutil.rmtree(directory, ignore_errors=True)


def _has_room(directory: Path) -> bool:
    """And programs that are written there can be run."""
    if not os.access(directory, os.W_OK):
        return False
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize > _ROOM_BYTES and not found.f_flag & os.ST_NOEXEC


def _available_memory_bytes() -> int:
    """0 where the kernel does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """An embedded server with fsync off, for the whole session. Databases come from `database`."""
    with Postgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: Postgres) -> Iterator[Databases]:
    """Migrated databases on that server."""
    with closing(Databases(postgres)) as made:
        yield made


@pytest.fixture
def database(databases: Databases) -> Iterator[FreshDatabase]:
    """A database of this test's own, gone afterwards whoever is still connected."""
    with databases.fresh() as made:
        yield made


@pytest.fixture(scope="module")
def shared_database(databases: Databases) -> Iterator[FreshDatabase]:
    """A database of this file's own, for tests that leave no rows behind: to empty one costs more than most of them."""
    with databases.fresh() as made:
        yield made


@pytest.fixture
def database_url(database: FreshDatabase) -> str:
    """A fresh database, as the role the functions connect as."""
    return database.url


@pytest.fixture
def admin_database_url(database: FreshDatabase) -> str:
    """The same database as `database_url`, as the superuser."""
    return database.admin_url


@pytest.fixture
def operator_database_url(database: FreshDatabase) -> str:
    """The same database as `database_url`, as the role of the admin function."""
    return database.operator_url


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the project."""
    return _TESTS.parent


@pytest.hookimpl(tryfirst=True)  # whatever looks at the order finds the same one in all processes
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first: what is left for the end are short ones, which all processes share."""
    items.sort(key=lambda item: _place(item.path))


@cache
def _place(path: Path) -> tuple[int, str]:
    """A file's among all files."""
    folder = _folder(path)
    return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST), str(path)


def _folder(path: Path) -> str:
    """The one below tests/; of a file that is in none, the file."""
    return path.relative_to(_TESTS).parts[0]


@pytest.fixture(scope="module", autouse=True)
def _coverage_where_it_counts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pauses the measurement, if there is one, for the files of _UNMEASURED."""
    measurement = sys.modules["coverage"].Coverage.current() if "coverage" in sys.modules else None
    if measurement is None or _folder(request.path) not in _UNMEASURED:
        yield
        return
    measurement.stop()
    hidden = {name: os.environ.pop(name) for name in _MEASURED_CHILDREN if name in os.environ}
    yield
    os.environ.update(hidden)
    measurement.start()


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heeded() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and processes inherit that. What is started here
    is to heed it, whoever started the tests."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    for number in STOP_SIGNALS:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """A test that leaves a signal ignored or blocked changes every program that later tests start."""
    before = _signals()
    yield
    after = _signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, before[0])
    for number, handler in before[1].items():
        signal.signal(number, handler)
    assert after == before


def _signals() -> tuple[set[signal.Signals | int], dict[signal.Signals, Any]]:
    """Those that are blocked, and the handlers of those that end a program."""
    numbers = (*STOP_SIGNALS, signal.SIGALRM)
    return signal.pthread_sigmask(signal.SIG_BLOCK, ()), {number: signal.getsignal(number) for number in numbers}


@pytest.fixture(autouse=True)
def _credentials_of_this_test() -> None:
    """A process reads its credentials once; a test sets others than the test before it."""
    credentials.forget()


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Lambda puts into every function's environment; good for moto and for nothing else."""
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(scope="session")
def queue_server() -> "Iterator[QueueServer]":
    """moto's SQS API on loopback, one for the session."""
    from tests.support.gateway import QueueServer

    server = QueueServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def ssm_url(queue_server: "QueueServer") -> str:
    """Where the same server has SSM. It is loaded by now: the first call takes longer than a function waits."""
    from tests.support.gateway import loaded_ssm

    return loaded_ssm(queue_server.endpoint_url)


@pytest.fixture
def queue(queue_server: "QueueServer", aws_credentials: None) -> "EmulatedQueue":
    """An empty queue of this test's own."""
    return queue_server.queue()


@pytest.fixture
def gateway(database: FreshDatabase, queue: "EmulatedQueue") -> "Iterator[Gateway]":
    """Services for the flows: real database, client and queue API, and a clock that stands still."""
    from tests.support.gateway import make_gateway

    made = make_gateway(database, queue)
    yield made
    made.services.client.close()
    made.services.database.close()
    metrics.clear_metrics()  # written at the end of an invocation, of which there is none here


@pytest.fixture
def partner() -> "Iterator[Callable[[Script], Partner]]":
    """Starts partners that follow a script: `partner(script).url()`; they stop after the test."""
    from tests.egress.servers import Server, stop_all

    servers: list[Server] = []

    def start(script: "Script") -> "Partner":
        servers.append(Server(script))
        return servers[-1].partner

    yield start
    stop_all(servers)


@pytest.fixture
def functions(
    database: FreshDatabase, queue: "EmulatedQueue", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Iterator[Functions]":
    """All functions as Lambda would run them, with real database, queue API and key file."""
    from tests.support.api import deployed

    with deployed(database, queue, tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def refusing(
    shared_database: FreshDatabase, queue: "EmulatedQueue", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Iterator[Functions]":
    """The same for tests in which everything is refused: that nothing was stored is looked after here. There is one
    destination, `partner`.
    """
    from tests.support.api import deployed

    with deployed(shared_database, queue, tmp_path, monkeypatch) as made:
        made.sql("DELETE FROM destination")
        made.api.destination("https://bank.example")
        yield made
        assert [row["name"] for row in made.sql("SELECT name FROM destination")] == ["partner"]
        assert made.sql("SELECT delivery_id FROM delivery") == []


@pytest.fixture
def api(functions: "Functions") -> "Api":
    """The API, called by the first tenant."""
    return functions.api
