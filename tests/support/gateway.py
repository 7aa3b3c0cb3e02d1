"""A gateway for tests: the real database, client and queue API, a clock that stands still until it is told
otherwise.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, cast
from urllib.parse import urlparse
from uuid import uuid4

import boto3
from moto.backends import get_backend
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from db.connection import Database
from db.destinations import insert
from domain.auth import AuthType
from domain.deliveries import NewDelivery
from domain.destinations import Destination, Guarantee, Timeouts
from domain.ids import DestinationId, TenantId
from domain.scopes import ALL_SCOPES
from domain.wakeups import Wakeup
from egress.addresses import Guard
from egress.client import Client
from egress.seal_keys import SealKeys
from flows.services import Services
from flows.tokens import WantedToken, issue
from local.wire import statements_of
from runtime.settings import DatabaseSettings, EgressAddress, QueueSettings
from tests.support.databases import FreshDatabase
from wakeups.sqs import WakeupQueue, decode

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LOOPBACK = (ip_network("127.0.0.0/8"),)
REGION = "eu-central-1"
ACCOUNT = "123456789012"
FIXED_ADDRESS = "203.0.113.7"


@dataclass
class Clock:
    """Says the time that a test set."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class EmulatedQueue:
    """A queue of moto's SQS server, which runs in this process: its messages can be looked at without receiving
    them.
    """

    name: str
    url: str
    endpoint_url: str

    @property
    def messages(self) -> list[Any]:
        """What moto holds, delayed or not."""
        backend = get_backend("sqs")[ACCOUNT][REGION]
        return cast(list[Any], backend.queues[self.name]._messages)

    def wakeups(self) -> list[Wakeup]:
        """All wake-ups in the queue, in the order they came."""
        return [decode(message.body) for message in self.messages]

    def delays(self) -> list[int]:
        """How long, in seconds, each message is held back."""
        return [round((message.delayed_until - message.sent_timestamp) / 1000) for message in self.messages]

    def send(self, *bodies: str) -> None:
        """Puts messages with these bodies into the queue."""
        with self._client() as client:
            for body in bodies:
                client.send_message(QueueUrl=self.url, MessageBody=body)

    def dead_letters(self) -> "EmulatedQueue":
        """A dead-letter queue for this one, made now."""
        name = f"dead-{uuid4()}"
        with self._client() as client:
            url = client.create_queue(QueueName=name)["QueueUrl"]
            arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
            client.set_queue_attributes(QueueUrl=self.url, Attributes={"RedrivePolicy": policy})
        return EmulatedQueue(name=name, url=url, endpoint_url=self.endpoint_url)

    def _client(self) -> Any:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return closing(boto3.client("sqs", endpoint_url=self.endpoint_url, region_name=REGION, **keys))

    def take(self) -> list[Wakeup]:
        """All wake-ups, which are then no longer in the queue."""
        taken = self.wakeups()
        self.messages.clear()
        return taken


class QueueServer:
    """moto's SQS API on loopback."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint_url = f"http://{host}:{port}"

    def stop(self) -> None:
        self._server.stop()

    def queue(self) -> EmulatedQueue:
        """A new, empty queue; made by moto without a request, as every test has one."""
        queue = get_backend("sqs")[ACCOUNT][REGION].create_queue(f"wakeups-{uuid4()}")
        return EmulatedQueue(
            name=queue.name, url=queue.url(urlparse(self.endpoint_url)), endpoint_url=self.endpoint_url
        )


def loaded_ssm(endpoint_url: str) -> str:
    """The address of moto's SSM, which has answered once."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("ssm", endpoint_url=endpoint_url, region_name=REGION, **keys)
    client.describe_parameters()
    client.close()
    return endpoint_url


@dataclass(kw_only=True)
class Gateway:
    """Services for the flows, with the handles that tests need: the clock, the queue, a tenant, the superuser."""

    services: Services
    clock: Clock
    queue: EmulatedQueue
    database: FreshDatabase
    tenant_id: TenantId
    token: str

    def destination(self, base_url: str, **overrides: Any) -> Destination:
        """Stores a destination; without credentials unless `overrides` say otherwise."""
        values: dict[str, Any] = {
            "destination_id": DestinationId(self.services.new_id(self.clock())),
            "tenant_id": self.tenant_id,
            "name": "partner",
            "base_url": base_url,
            "auth_type": AuthType.NONE,
            "sealed_credentials": None,
            "guarantee": Guarantee.AUTO,
            "idempotent": False,
            "idempotency_header": "Idempotency-Key",
            "timeouts": Timeouts(connect_seconds=2, first_byte_seconds=2, total_seconds=3),
            "created_at": self.clock(),
        }
        made = Destination(**(values | overrides))
        insert(self.services.database, made)
        return made

    def new(self, **overrides: Any) -> NewDelivery:
        """A delivery to create: POST /orders to `partner` unless `overrides` say otherwise."""
        values: dict[str, Any] = {
            "tenant_id": self.tenant_id,
            "destination": "partner",
            "method": "POST",
            "path": "/orders",
            "body": b'{"amount":1}',
        }
        return NewDelivery(**(values | overrides))

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Runs a statement as the superuser, for looking at rows and for setting scenes. The parameters are those of
        its places, or one mapping for those of its names."""
        named = parameters[0] if len(parameters) == 1 and isinstance(parameters[0], dict) else parameters
        return self.database.sql(statement, named)

    def delivery(self) -> dict[str, Any]:
        """The only delivery's row."""
        (row,) = self.sql("SELECT * FROM delivery JOIN delivery_body USING (delivery_id)")
        return row

    def copy_deliveries(self, count: int, *, states: Sequence[str] = ("delivered",)) -> None:
        """Copies each delivery `count` times, with random ids, in these states by turns; one attempt was made for what
        is not pending."""
        self.sql(
            """
            WITH copied AS (
                INSERT INTO delivery (
                    delivery_id, tenant_id, destination_id, created_at, attempts_allowed, idempotency_key, fingerprint,
                    method, path, query, headers, metadata, due_at, attempts_made, state, finished_at, leased_until,
                    lease_id)
                SELECT gen_random_uuid(), tenant_id, destination_id, created_at, attempts_allowed,
                       idempotency_key || n, fingerprint, method, path, query, headers, metadata, due_at,
                       CASE turn WHEN 'pending' THEN 0 ELSE 1 END, turn,
                       CASE WHEN turn NOT IN ('pending', 'sending') THEN created_at END,
                       CASE turn WHEN 'sending' THEN created_at END,
                       CASE turn WHEN 'sending' THEN gen_random_uuid() END
                FROM delivery
                CROSS JOIN (SELECT n, (%(states)s::text[])[1 + n %% cardinality(%(states)s::text[])] AS turn
                            FROM generate_series(1, %(count)s) AS n) AS numbered
                RETURNING delivery_id
            )
            INSERT INTO delivery_body (delivery_id, body) SELECT delivery_id, '{"amount":1}' FROM copied
            """,
            {"count": count, "states": list(states)},
        )

    def attempts(self) -> list[dict[str, Any]]:
        """All rows of the attempt log, the first attempt first."""
        return self.sql("SELECT * FROM attempt ORDER BY delivery_id, number")


def make_gateway(
    database: FreshDatabase, queue: EmulatedQueue, *, tenant_name: str = "acme", **overrides: Any
) -> Gateway:
    """A gateway on a fresh database and queue, with one tenant and a token for it. Close `by.database` and
    `by.client`.
    """
    clock = Clock()
    guard = Guard(allowed_private_cidrs=LOOPBACK, allowed_ports=range(1, 65536))
    values: dict[str, Any] = {
        "database": Database(DatabaseSettings(database_url=database.url)),
        "queue": WakeupQueue(QueueSettings(wakeup_queue_url=queue.url, sqs_endpoint_url=queue.endpoint_url)),
        "client": Client(guard),
        "guard": guard,
        "load_seal_keys": lambda: SealKeys(texts=("a key for tests, long enough to be one",)),
        "egress_addresses": (EgressAddress(availability_zone="a", address=FIXED_ADDRESS),),
        "own_zone": lambda: None,
        "lease_seconds": 40,
        "clock": clock,
        "chance": lambda: 0.5,  # the middle of the jitter: exactly the schedule
        "randomness": secrets.token_bytes,
        "sleep": clock.forward,
    }
    services = Services(**(values | overrides))
    with closing(Database(DatabaseSettings(database_url=database.operator_url))) as operators:
        issued = issue(
            operators,
            WantedToken(tenant_name=tenant_name, scopes=ALL_SCOPES),
            now=clock(),
            randomness=secrets.token_bytes(52),
        )
    return Gateway(
        services=services, clock=clock, queue=queue, database=database, tenant_id=issued.tenant_id, token=issued.token
    )


@contextmanager
def statements(gateway: Gateway) -> Iterator[list[str]]:
    """The statements that the gateway's connection executes meanwhile, as libpq puts them on the wire."""
    with statements_of(gateway.services.database.connection()) as found:
        yield found
