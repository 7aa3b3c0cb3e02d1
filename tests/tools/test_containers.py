"""What containers get to reach a running `make run`: without a container, over the loopback in the bridge's place."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from local.errors import LocalError
from local.sqs import Queue
from local.stack import Stack, StackConfiguration
from tests.contract.project import load
from tools.containers import open_stack, running_stack

ROLES = {"ApiFunction": "sallyport_app", "AuthorizeFunction": "sallyport_authorizer", "MigrateFunction": "postgres"}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Of a running stack."""
    configuration = StackConfiguration(directory=tmp_path, port=0, partner_port=0, durable=False, report=lambda _: None)
    with Stack(configuration):
        yield tmp_path


def test_each_function_reaches_the_database_in_its_role_and_the_queue(directory: Path) -> None:
    with ExitStack() as stack:
        path = open_stack(directory, bridge="127.0.0.1", stack=stack)
        assert path.stat().st_mode & 0o777 == 0o600
        tables = json.loads(path.read_text())
        assert tables.keys() == {name.replace(".", "/") for name in load().functions()}  # as SAM says it
        for function, role in ROLES.items():
            with psycopg.connect(tables[function]["DATABASE_URL"]) as connection:
                assert connection.execute("SELECT current_user").fetchone() == (role,)
        api = tables["ApiFunction"]
        queue = Queue(endpoint_url=api["SQS_ENDPOINT_URL"], url=api["WAKEUP_QUEUE_URL"], name="WakeupQueue")
        assert queue.receive(1, wait_seconds=0) == []
    assert not path.exists()


def test_where_nothing_runs_it_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="Start it in another terminal first"):
        running_stack(tmp_path)


def test_a_stack_that_has_ended_leaves_nothing_that_looks_like_one(tmp_path: Path) -> None:
    with Stack(StackConfiguration(directory=tmp_path, port=0, partner_port=0, durable=False)) as stack:
        assert running_stack(tmp_path)
        stack.stop()
        with pytest.raises(LocalError):
            running_stack(tmp_path)
