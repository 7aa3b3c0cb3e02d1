"""Wake-ups on their way through SQS, emulated by moto's server; partial refusals by a server of our own."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import boto3
import pytest
from moto.server import ThreadedMotoServer

from domain.errors import QueueUnavailable, SecretUnavailable
from domain.ids import DeliveryId
from domain.wakeups import Wakeup
from egress.seal_keys import SealKeys, load_seal_keys
from runtime.settings import QueueSettings, SealKeySettings, SettingsError
from tests.egress.servers import Line, Partner
from wakeups.sqs import WakeupQueue, decode

type StartPartner = Callable[..., Partner]

NOW = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)
SECRET_TEXT = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """The endpoint URL of emulated AWS APIs."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "a-session-token",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def queue_url(aws: str, request: pytest.FixtureRequest) -> str:
    name = f"queue-{abs(hash(request.node.nodeid))}"
    return str(boto3.client("sqs", endpoint_url=aws).create_queue(QueueName=name)["QueueUrl"])


def wakeup(number: int, *, due_in: timedelta = timedelta(0), group: str = "tenant:bank") -> Wakeup:
    return Wakeup(delivery_id=DeliveryId(UUID(int=number)), due_at=NOW + due_in, group=group)


def received(aws: str, queue_url: str, count: int) -> list[dict[str, object]]:
    client = boto3.client("sqs", endpoint_url=aws)
    messages: list[dict[str, object]] = []
    while len(messages) < count:
        answer = client.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1, MessageSystemAttributeNames=["All"]
        )
        assert answer.get("Messages"), f"only {len(messages)} of {count} messages came"
        messages += answer["Messages"]
    return messages


def test_wake_ups_arrive_with_their_group(aws: str, queue_url: str) -> None:
    wakeups = [wakeup(1), wakeup(2, group="tenant:shop")]
    WakeupQueue(QueueSettings(wakeup_queue_url=queue_url, sqs_endpoint_url=aws)).send(wakeups, now=NOW)
    messages = received(aws, queue_url, 2)
    assert {decode(str(message["Body"])) for message in messages} == set(wakeups)
    groups = {message["Attributes"]["MessageGroupId"] for message in messages}  # type: ignore[index]
    assert groups == {"tenant:bank", "tenant:shop"}


def test_more_than_ten_go_in_several_batches(aws: str, queue_url: str) -> None:
    wakeups = [wakeup(number) for number in range(23)]
    WakeupQueue(QueueSettings(wakeup_queue_url=queue_url, sqs_endpoint_url=aws)).send(wakeups, now=NOW)
    assert {decode(str(message["Body"])) for message in received(aws, queue_url, 23)} == set(wakeups)


def test_none_are_sent_without_a_call() -> None:
    WakeupQueue(QueueSettings(wakeup_queue_url="q", sqs_endpoint_url="http://127.0.0.1:1")).send([], now=NOW)


def test_a_missing_queue_is_unavailable(aws: str, queue_url: str) -> None:
    queue = WakeupQueue(QueueSettings(wakeup_queue_url=f"{queue_url}-gone", sqs_endpoint_url=aws))
    with pytest.raises(QueueUnavailable, match="QueueDoesNotExist") as caught:
        queue.send([wakeup(1)], now=NOW)
    assert caught.value.retry_after_seconds > 0


def test_a_dead_endpoint_is_unavailable() -> None:
    queue = WakeupQueue(QueueSettings(wakeup_queue_url="q", sqs_endpoint_url="http://127.0.0.1:1"))
    with pytest.raises(QueueUnavailable, match="ConnectionFailed"):
        queue.send([wakeup(1)], now=NOW)


class Sqs:
    """Refuses what `refuses(call, id)` says and remembers the entries of each call."""

    def __init__(self, refuses: Callable[[int, str], bool]) -> None:
        self.calls: list[list[dict[str, object]]] = []
        self._refuses = refuses

    def __call__(self, line: Line) -> None:
        while request := line.read_request():
            entries = json.loads(request.partition(b"\r\n\r\n")[2])["Entries"]
            self.calls.append(entries)
            refused = [entry["Id"] for entry in entries if self._refuses(len(self.calls), entry["Id"])]
            body = json.dumps(
                {
                    "Successful": [{"Id": entry["Id"]} for entry in entries if entry["Id"] not in refused],
                    "Failed": [{"Id": name, "Code": "InternalError", "SenderFault": False} for name in refused],
                }
            )
            line.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def test_what_sqs_refuses_is_sent_once_more_alone(partner: StartPartner) -> None:
    sqs = Sqs(lambda call, name: call == 1 and name in ("1", "3"))
    there = partner(sqs)
    queue = WakeupQueue(QueueSettings(wakeup_queue_url="q", sqs_endpoint_url=there.url("")))
    queue.send([wakeup(number) for number in range(5)], now=NOW)
    assert [[entry["Id"] for entry in entries] for entries in sqs.calls] == [["0", "1", "2", "3", "4"], ["1", "3"]]


def test_what_sqs_refuses_twice_is_reported(partner: StartPartner) -> None:
    there = partner(Sqs(lambda _call, name: name == "1"))
    queue = WakeupQueue(QueueSettings(wakeup_queue_url="q", sqs_endpoint_url=there.url("")))
    with pytest.raises(QueueUnavailable, match="refused a wake-up twice"):
        queue.send([wakeup(number) for number in range(3)], now=NOW)


def test_each_is_held_back_until_it_is_due_or_for_the_longest_hop(partner: StartPartner) -> None:
    sqs = Sqs(lambda _call, _name: False)
    queue = WakeupQueue(QueueSettings(wakeup_queue_url="q", sqs_endpoint_url=partner(sqs).url("")))
    offsets = [timedelta(seconds=seconds) for seconds in (-5, 0, 0.2, 60, 899.5, 100_000)]
    queue.send([wakeup(number, due_in=offset) for number, offset in enumerate(offsets)], now=NOW)
    assert [entry["DelaySeconds"] for entry in sqs.calls[0]] == [0, 0, 1, 60, 900, 900]
    assert {entry["MessageGroupId"] for entry in sqs.calls[0]} == {"tenant:bank"}


def test_the_seal_key_is_read_from_secrets_manager(aws: str) -> None:
    client = boto3.client("secretsmanager", endpoint_url=aws)
    arn = client.create_secret(Name="seal-key", SecretString=SECRET_TEXT)["ARN"]
    keys = load_seal_keys(SealKeySettings(seal_key_secret_arn=arn), endpoint_url=aws)
    assert keys == SealKeys(texts=(SECRET_TEXT,))


def test_a_missing_secret_is_unavailable(aws: str) -> None:
    with pytest.raises(SecretUnavailable, match="ResourceNotFoundException"):
        load_seal_keys(SealKeySettings(seal_key_secret_arn="arn:aws:secretsmanager:x:1:secret:gone"), endpoint_url=aws)


def test_a_secret_that_is_no_text_is_refused(aws: str) -> None:
    client = boto3.client("secretsmanager", endpoint_url=aws)
    arn = client.create_secret(Name="binary", SecretBinary=b"x" * 64)["ARN"]
    with pytest.raises(SettingsError, match="SEAL_KEY_SECRET_ARN"):
        load_seal_keys(SealKeySettings(seal_key_secret_arn=arn), endpoint_url=aws)
