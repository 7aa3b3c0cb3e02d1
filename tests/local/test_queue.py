"""The emulated queue and the event source on top of it: batches in, failures back, poison to the dead letters."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.backends import get_backend

from local.bounded_queue import BoundedQueue
from local.event_source import EventSourceMapping
from local.functions import REGION, Function, FunctionConfiguration
from local.sqs import Queue, SqsFault, SqsServer
from local.template import EventSource, QueueTemplate
from tests.egress.servers import Line, Partner, Script
from tests.support.mocked_aws import mocked_aws

ACCOUNT = "123456789012"  # moto's
HANDLERS = '''
import json, os, signal

def handle(event, context):
    """Each message says what becomes of it; all are noted in a file."""
    failures = []
    with open(os.environ["NOTES"], "a") as notes:
        for record in event["Records"]:
            print(json.dumps({"body": record["body"], "record": record}), file=notes)
    for record in event["Records"]:
        if record["body"] == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if record["body"] == "fail":
            failures.append({"itemIdentifier": record["messageId"]})
        if record["body"] == "nothing":
            return None
        if record["body"] == "nonsense":
            return {"batchItemFailures": [{"itemIdentifier": "unheard of"}]}
        if record["body"] == "malformed":
            return {"batchItemFailures": ["x"]}
    return {"batchItemFailures": failures}
'''


@pytest.fixture(scope="module")
def server() -> Iterator[SqsServer]:
    server = SqsServer()
    server.start()
    yield server
    server.stop()


def queues_of(server: SqsServer, name: str) -> tuple[Queue, Queue]:
    """A queue whose messages come back after a second, twice, and its dead-letter queue."""
    templates = {
        "jobs": QueueTemplate(
            logical_id=f"{name}-jobs",
            visibility_timeout_seconds=1,
            retention_seconds=600,
            dead_letter_queue="dead",
            max_receives=2,
        ),
        "dead": QueueTemplate(
            logical_id=f"{name}-dead",
            visibility_timeout_seconds=1,
            retention_seconds=600,
            dead_letter_queue=None,
            max_receives=0,
        ),
    }
    made = server.create_queues(templates)
    return made["jobs"], made["dead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An event source at work; `notes` gives what the function saw."""

    jobs: Queue
    dead: Queue
    notes: Callable[[], list[dict[str, Any]]]

    def bodies(self) -> list[str]:
        """Of all messages the function saw, in order, with repeats."""
        return [note["body"] for note in self.notes()]


@pytest.fixture
def running(server: SqsServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    (tmp_path / "handlers_of_queue.py").write_text(HANDLERS)
    notes = tmp_path / "notes"
    function = Function(
        FunctionConfiguration(
            name="jobs",
            handler="handlers_of_queue.handle",
            code=tmp_path,
            log=tmp_path / "log",
            timeout_seconds=5,
            variables={"NOTES": str(notes)},
        ),
        concurrency=2,
    )
    jobs, dead = queues_of(server, str(abs(hash(request.node.nodeid))))
    source = EventSource(queue="jobs", function="jobs", batch_size=10, concurrency=2)
    mapping = EventSourceMapping(source, queue=jobs, function=function, concurrency=2)
    mapping.start()
    yield Running(
        jobs=jobs,
        dead=dead,
        notes=lambda: [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else [],
    )
    mapping.stop()
    function.stop()


def eventually(look: Callable[[], bool], *, within_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        if look():
            return
        time.sleep(0.05)
    raise AssertionError(f"it did not happen within {within_seconds} seconds")


def test_a_message_is_handled_and_deleted(running: Running) -> None:
    running.jobs.send("work", group="g")
    eventually(lambda: running.bodies() == ["work"] and running.jobs.count() == 0)
    record = running.notes()[0]["record"]
    assert record["eventSource"] == "aws:sqs"
    assert record["eventSourceARN"] == running.jobs.arn
    assert record["attributes"]["MessageGroupId"] == "g"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"


def test_a_failed_message_is_received_again_and_becomes_a_dead_letter_while_the_others_are_done(
    running: Running,
) -> None:
    for body in ("one", "fail", "two"):
        running.jobs.send(body, group="g")
    eventually(lambda: running.dead.count() == 1)
    assert sorted(running.bodies()) == ["fail", "fail", "one", "two"]


def test_a_crash_brings_the_whole_batch_back(running: Running) -> None:
    running.jobs.send("crash", group="g")
    eventually(lambda: running.dead.count() == 1)
    assert running.bodies() == ["crash", "crash"]


@pytest.mark.parametrize("body", ["nonsense", "malformed"])
def test_an_answer_that_cannot_be_read_brings_the_whole_batch_back(running: Running, body: str) -> None:
    running.jobs.send(body, group="g")
    eventually(lambda: len(running.bodies()) == 2)


def test_no_answer_means_that_all_is_well(running: Running) -> None:
    running.jobs.send("nothing", group="g")
    eventually(lambda: running.jobs.count() == 0 and running.bodies() == ["nothing"])


def test_a_delay_is_honoured(running: Running) -> None:
    sent = time.monotonic()
    running.jobs.send("later", group="g", delay_seconds=2)
    eventually(lambda: running.bodies() == ["later"])
    assert time.monotonic() - sent >= 2


def test_a_queue_that_is_not_there_is_an_error(server: SqsServer) -> None:
    queue = Queue(endpoint_url=server.endpoint_url, url=f"{server.endpoint_url}/123456789012/nobody", name="nobody")
    with pytest.raises(SqsFault, match="ReceiveMessage"):
        queue.receive(1, wait_seconds=0)


class Interrupted(list[Any]):
    """A list that, when somebody has just read it to its end, lets something else happen, once."""

    def __init__(self, items: list[Any], meanwhile: Callable[[], None]) -> None:
        super().__init__(items)
        self._left = [meanwhile]

    def __iter__(self) -> Iterator[Any]:
        yield from list.__iter__(self)
        if self._left:
            self._left.pop()()


def test_a_message_that_is_sent_while_another_is_deleted_is_not_lost(server: SqsServer) -> None:
    jobs, _ = queues_of(server, "overlap")
    jobs.send("done", group="g")
    (received,) = jobs.receive(1, wait_seconds=1)
    backend = get_backend("sqs")[ACCOUNT][REGION].queues[jobs.name]
    assert isinstance(backend, BoundedQueue)
    senders: list[threading.Thread] = []

    def send_meanwhile() -> None:
        senders.append(threading.Thread(target=jobs.send, args=("new",), kwargs={"group": "g"}))
        senders[-1].start()
        senders[-1].join(0.3)  # it must not be waited for: it waits for us

    backend._messages = Interrupted(backend._messages, send_meanwhile)
    backend.delete_message(received["ReceiptHandle"])
    for sender in senders:
        sender.join()
    assert len(senders) == 1
    assert [message.body for message in backend.every_message] == ["new"]


def test_two_stacks_in_one_process_do_not_take_each_others_messages(server: SqsServer) -> None:
    other = SqsServer()
    other.start()
    try:
        mine, _ = queues_of(server, "same")
        theirs, _ = queues_of(other, "same")
        mine.send("mine", group="g")
        assert theirs.receive(1, wait_seconds=0) == []
        assert [message["Body"] for message in mine.receive(1, wait_seconds=1)] == ["mine"]
    finally:
        other.stop()


NONSENSE = [
    b"",
    b"<html>oops</html>",
    b"[]",
    b'"x"',
    b'{"Messages": 7}',
    b'{"Messages": [{}]}',
    b'{"Messages": [null]}',
]


def test_an_api_that_answers_nonsense_is_asked_again(
    partner: Callable[[Script], Partner], caplog: pytest.LogCaptureFixture
) -> None:
    """And what comes after the nonsense is handled."""
    message = {"MessageId": "1", "ReceiptHandle": "r", "Body": "b"}
    answers = [*NONSENSE, json.dumps({"Messages": [message]}).encode()]

    def nonsense(line: Line) -> None:
        while line.read_request():
            body = answers.pop(0) if answers else b"{}"
            line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    url = partner(nonsense).url().rstrip("/")
    function = Noting()
    mapping = EventSourceMapping(
        EventSource(queue="jobs", function="jobs", batch_size=10, concurrency=1),
        queue=Queue(endpoint_url=url, url=f"{url}/123456789012/jobs", name="jobs"),
        function=function,
        concurrency=1,
    )
    mapping.start()
    try:
        eventually(lambda: function.bodies == ["b"], within_seconds=60)
        assert mapping.is_running()
    finally:
        mapping.stop()
        eventually(lambda: not mapping.is_running(), within_seconds=60)
    assert "cannot receive from jobs" in caplog.text


def test_a_fault_of_ours_ends_the_event_source_and_shows(
    server: SqsServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, _ = queues_of(server, "faulty")
    monkeypatch.setattr(Queue, "receive", lambda *_, **__: 1 / 0)
    source = EventSource(queue="jobs", function="jobs", batch_size=10, concurrency=1)
    mapping = EventSourceMapping(source, queue=jobs, function=Noting(), concurrency=1)
    mapping.start()
    eventually(lambda: not mapping.is_running(), within_seconds=60)
    mapping.stop()
    assert "ZeroDivisionError" in caplog.text


class Noting:
    """A function that notes the bodies it is handed, and leaves all messages in the queue."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def invoke(self, event: Any, *, limit_seconds: float = 0.0) -> Any:  # noqa: ARG002 - as a function has it
        self.bodies += [record["body"] for record in event["Records"]]
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in event["Records"]]}


def test_its_messages_stay_when_a_test_beside_it_uses_moto_for_something_else(server: SqsServer) -> None:
    jobs, _ = queues_of(server, "kept")
    jobs.send("{}", group="kept")
    with mocked_aws():
        boto3.client("ec2", region_name=REGION).create_vpc(CidrBlock="10.0.0.0/16")
    with mocked_aws():
        assert (
            boto3.client("ec2", region_name=REGION).describe_vpcs(
                Filters=[{"Name": "cidr", "Values": ["10.0.0.0/16"]}]
            )["Vpcs"]
            == []
        )
    assert [message["Body"] for message in jobs.receive(1, wait_seconds=1)] == ["{}"]
