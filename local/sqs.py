"""The SQS API on this machine (moto's server, in this process) and a small client for it.

moto keeps everything in memory, and emulates delays, visibility time-outs and dead-letter queues. The same server
answers for SSM's parameters.
"""

import http.client
import json
import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from moto.backends import get_backend
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from local.bounded_queue import BoundedQueue
from local.functions import REGION
from local.template import QueueTemplate, SsmParameterTemplate

# The prefix of the targets and the version of the "JSON protocol" in each API's model.
_SERVICES = {"sqs": ("AmazonSQS", "1.0"), "ssm": ("AmazonSSM", "1.1")}
# moto answers in milliseconds, but loads a service at its first call: that took more than 30 s on a machine with ten
# times as much to do as it has cores.
_CALL_TIMEOUT_SECONDS = 180.0
MOST_IN_A_BATCH = 10  # SQS API reference, SendMessageBatch


class SqsFault(Exception):
    """The SQS API answered an error, or something that is no answer of SQS's."""


class SqsServer:
    """The emulated API. `start`, then make queues; `stop` forgets them."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line per call
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def start(self) -> None:
        """Listen on a free port, with everything loaded that will be asked for.

        moto loads a service at its first call and answers nobody meanwhile, which takes seconds on a busy machine: the
        first egress check, which calls SSM, would keep deliveries from being accepted.
        """
        self._server.start()
        call(self.endpoint_url, "ListQueues", {}, service="sqs")
        call(self.endpoint_url, "DescribeParameters", {}, service="ssm")
        hang_up()

    def stop(self) -> None:
        """Stop listening."""
        self._server.stop()

    def create_queues(self, queues: Mapping[str, QueueTemplate]) -> dict[str, "Queue"]:
        """All queues, those first that others name as their dead-letter queue."""
        made: dict[str, Queue] = {}
        for name, queue in sorted(queues.items(), key=lambda item: item[1].dead_letter_queue is not None):
            dead = made[queue.dead_letter_queue] if queue.dead_letter_queue is not None else None
            made[name] = self._create(queue, dead)
        return made

    def create_parameters(self, parameters: Iterable[SsmParameterTemplate]) -> None:
        """All SSM parameters, with their first value."""
        for parameter in parameters:
            content = {"Name": parameter.name, "Type": "String", "Value": parameter.value, "Overwrite": True}
            call(self.endpoint_url, "PutParameter", content, service="ssm")

    def _create(self, queue: QueueTemplate, dead: "Queue | None") -> "Queue":
        attributes = {
            "VisibilityTimeout": str(queue.visibility_timeout_seconds),
            "MessageRetentionPeriod": str(queue.retention_seconds),
        }
        if dead is not None:
            redrive = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": queue.max_receives}
            attributes["RedrivePolicy"] = json.dumps(redrive)
        # moto's servers of one process share their queues: names of their own keep two stacks from each other's
        # messages.
        name = f"{queue.logical_id}-{self.endpoint_url.rpartition(':')[2]}"
        made = call(self.endpoint_url, "CreateQueue", {"QueueName": name, "Attributes": attributes})
        account = made["QueueUrl"].rsplit("/", 2)[1]
        # CloudFormation's methods, which moto leaves abstract, are never called here.
        bounded = BoundedQueue(name, REGION, account, **attributes)  # type: ignore[abstract]
        get_backend("sqs")[account][REGION].queues[name] = bounded
        return Queue(endpoint_url=self.endpoint_url, url=made["QueueUrl"], name=name)


class Queue:
    """One queue. Each thread that uses it has a connection of its own."""

    def __init__(self, *, endpoint_url: str, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self._endpoint_url = endpoint_url

    @property
    def arn(self) -> str:
        """As on AWS, with moto's account."""
        account = self.url.rsplit("/", 2)[1]
        return f"arn:aws:sqs:{REGION}:{account}:{self.name}"

    def receive(self, count: int, *, wait_seconds: int) -> list[dict[str, Any]]:
        """Up to `count` (at most 10) messages, waiting for the first at most `wait_seconds`. Each has texts as its
        MessageId, ReceiptHandle and Body.
        """
        content = {
            "MaxNumberOfMessages": count,
            "WaitTimeSeconds": wait_seconds,
            "AttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        }
        messages = self._call("ReceiveMessage", content).get("Messages", [])
        if not isinstance(messages, list) or not all(_is_message(message) for message in messages):
            raise SqsFault("ReceiveMessage: the answer holds what is no message")
        return messages

    def delete(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Delete received messages, at most 10."""
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(messages)
        ]
        if entries:
            self._call("DeleteMessageBatch", {"Entries": entries})

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        """Send one message."""
        self._call("SendMessage", {"MessageBody": body, "MessageGroupId": group, "DelaySeconds": delay_seconds})

    def send_batch(self, messages: Iterable[tuple[str, str]]) -> None:
        """Send at most 10 messages, each a body and its group. Raises SqsFault where one of them is not taken."""
        entries = [
            {"Id": str(number), "MessageBody": body, "MessageGroupId": group}
            for number, (body, group) in enumerate(messages)
        ]
        if refused := self._call("SendMessageBatch", {"Entries": entries}).get("Failed"):
            raise SqsFault(f"SendMessageBatch: {refused}")

    def count(self) -> int:
        """Messages in the queue: visible, delayed and in flight."""
        return self._counted("", "Delayed", "NotVisible")

    def waiting(self) -> int:
        """Messages that the next receiver gets."""
        return self._counted("")

    def _counted(self, *kinds: str) -> int:
        found = self._call("GetQueueAttributes", {"AttributeNames": ["All"]})["Attributes"]
        return sum(int(found[f"ApproximateNumberOfMessages{kind}"]) for kind in kinds)

    def _call(self, action: str, content: Mapping[str, Any]) -> dict[str, Any]:
        return call(self._endpoint_url, action, {"QueueUrl": self.url, **content})


_connections = threading.local()


def call(endpoint_url: str, action: str, content: Mapping[str, Any], *, service: str = "sqs") -> dict[str, Any]:
    """One call in the JSON protocol of SQS, or of SSM. Raises SqsFault for an error answer, OSError when nobody
    answers."""
    connection = _connection(endpoint_url)
    prefix, version = _SERVICES[service]
    # moto reads the service and the Region from the signature's scope; it checks no signature.
    scope = f"20260101/{REGION}/{service}/aws4_request"
    headers = {
        "Content-Type": f"application/x-amz-json-{version}",
        "X-Amz-Target": f"{prefix}.{action}",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=local/{scope}, SignedHeaders=host, Signature=0",
    }
    try:
        connection.request("POST", "/", json.dumps(content).encode(), headers)
        response = connection.getresponse()
        content_received = response.read()
    except (http.client.HTTPException, OSError):
        connection.close()
        raise
    answer = _object(content_received or b"{}")
    if response.status != http.client.OK or answer is None:
        raise SqsFault(f"{action}: {response.status} {content_received[:500]!r}")
    return answer


def _object(content: bytes) -> dict[str, Any] | None:
    """None for what is no JSON object."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_message(value: object) -> bool:
    named = ("MessageId", "ReceiptHandle", "Body")
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in named)


def hang_up() -> None:
    """Close this thread's connections."""
    for connection in _connections.__dict__.pop("by_endpoint", {}).values():
        connection.close()


def _connection(endpoint_url: str) -> http.client.HTTPConnection:
    cached: dict[str, http.client.HTTPConnection] = _connections.__dict__.setdefault("by_endpoint", {})
    if endpoint_url not in cached:
        host = endpoint_url.removeprefix("http://")
        cached[endpoint_url] = http.client.HTTPConnection(host, timeout=_CALL_TIMEOUT_SECONDS)
    return cached[endpoint_url]
