"""The functions as Lambda runs them: environment variables and events in, responses out. Only AWS itself is missing."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext

from flows import beside
from handlers import admin, api, attempt, authorize, wiring
from runtime import settings, zones
from runtime.observability import logger, metrics
from tests.support.contract import must_be_documented
from tests.support.databases import FreshDatabase
from tests.support.gateway import EmulatedQueue
from wakeups.sqs import encode

STAGE = "dev"
HOST = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"
STAGE_ARN = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev"
NOBODYS_ID = "01939d2a-7a10-7c3e-9f4b-5d1c0e6a2b31"
EGRESS_ADDRESSES = "eu-central-1a=198.51.100.10,eu-central-1b=198.51.100.11"

_EVERY_PORT = ",".join(str(port) for port in range(1, 65536))
_ports_read_once = cache(settings._ports)  # reading all 65,535 of them takes longer than most tests

type Pairs = Sequence[tuple[str, str]]


class Context(LambdaContext):
    """What Lambda passes to a handler about its invocation."""

    def __init__(self, seconds_left: Callable[[], float] = lambda: 29.0) -> None:
        self._function_name = "sallyport"
        self._function_version = "$LATEST"
        self._invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:sallyport"
        self._memory_limit_in_mb = 512
        self._aws_request_id = str(uuid4())
        self._seconds_left = seconds_left

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]  # Powertools' stand-in declares it static
        return int(self._seconds_left() * 1000)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An HTTP answer as API Gateway gives it to the caller."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of a header that occurs once; None where it is absent."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """The kind of problem that the answer is."""
        assert self.header("Content-Type") == "application/problem+json"
        problem = self.json
        assert problem["status"] == self.status
        prefix, _, kind = problem["type"].rpartition(":")
        assert prefix == "urn:sallyport:problem"
        return str(kind)

    @property
    def faults(self) -> list[str]:
        """The fields at fault, in their order."""
        assert self.kind == "invalid-request"
        return [fault["field"] for fault in self.json["faults"]]


@dataclass(frozen=True, kw_only=True)
class Api:
    """Calls the API as the holder of `authorizer`, which is the context that the authorizer made of a token."""

    authorizer: Mapping[str, str] | None
    host: str = HOST

    def call(
        self, method: str, target: str, *, body: bytes | None = None, headers: Pairs = (), json: Any = None
    ) -> Reply:
        """`target` is path and query below the stage, percent-encoded. With `json` the body is that.

        Whatever is answered must be what the OpenAPI document promises.
        """
        if json is not None:
            body, headers = encoded(json), [("Content-Type", "application/json"), *headers]
        answer = reply(api.handler(self.event(method, target, body=body, headers=headers), Context()))
        must_be_documented(method, target.partition("?")[0], answer.status, answer.headers, answer.body)
        return answer

    def get(self, target: str, *, headers: Pairs = ()) -> Reply:
        return self.call("GET", target, headers=headers)

    def post(self, target: str, json: Any, *, headers: Pairs = ()) -> Reply:
        return self.call("POST", target, json=json, headers=headers)

    def event(self, method: str, target: str, *, body: bytes | None = None, headers: Pairs = ()) -> dict[str, Any]:
        """The REST proxy event of a call. Binary media types are */*, so every body is base64."""
        path, _, query = target.partition("?")
        given = [("Host", self.host), ("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-Proto", "https"), *headers]
        parameters = parse_qsl(query, keep_blank_values=True)
        event = {
            "resource": path,
            "path": path,
            "httpMethod": method,
            "headers": dict(given),
            "multiValueHeaders": grouped(given),
            "queryStringParameters": dict(parameters) or None,
            "multiValueQueryStringParameters": grouped(parameters) or None,
            "pathParameters": None,
            "stageVariables": None,
            "requestContext": {
                "authorizer": None if self.authorizer is None else dict(self.authorizer),
                "domainName": self.host,
                "httpMethod": method,
                "identity": {"sourceIp": "198.51.100.7"},
                "path": f"/{STAGE}{path}",
                "requestId": str(uuid4()),
                "stage": STAGE,
            },
            "body": None if body is None else b64encode(body).decode(),
            "isBase64Encoded": body is not None,
        }
        return dict(json_round_trip(event))

    # What most tests begin with.

    def destination(self, base_url: str, **fields: Any) -> Any:
        """A destination, as the API shows it: `partner`, with deadlines of a second, unless `fields` say otherwise."""
        timeouts = {"connect_seconds": 1, "first_byte_seconds": 1, "total_seconds": 1}
        made = self.post("/v1/destinations", {"name": "partner", "base_url": base_url, "timeouts": timeouts} | fields)
        assert made.status == 201, made.body
        return made.json

    def create_delivery(self, *headers: tuple[str, str], **fields: Any) -> Reply:
        """POST /orders for `partner`, unless `fields` say otherwise; `headers` are those of this call."""
        order = {"destination": "partner", "method": "POST", "path": "/orders", "body": {"amount": 1}}
        return self.post("/v1/deliveries", order | fields, headers=headers)


@dataclass(kw_only=True)
class Functions:
    """All functions of one stack, on a database and a queue of their own, with two tenants: `api` calls for the
    first, whose token is `token`, `other_api` for the second. `log` is what the functions logged.
    """

    database: FreshDatabase
    queue: EmulatedQueue
    log: StringIO
    token: str
    api: Api
    other_api: Api

    def api_with(self, *scopes: str) -> Api:
        """Calls for the first tenant, with nothing but these scopes."""
        context = self.api.authorizer or {}
        return replace(self.api, authorizer={**context, "scopes": " ".join(scopes)})

    @property
    def open_api(self) -> Api:
        """Calls without a token, as API Gateway lets them through to the open routes."""
        return replace(self.api, authorizer=None)

    def work(self, *, seconds_left: float = 29.0) -> dict[str, Any]:
        """Invokes the attempt function with all messages of the queue, with that much time; what it answers."""
        return attempt_batch([encode(wakeup) for wakeup in self.queue.take()], seconds_left=seconds_left)

    def work_early(self) -> dict[str, Any]:
        """The same, as if everything were due."""
        self.sql("UPDATE delivery SET due_at = created_at WHERE state = 'pending'")
        now = datetime.now(UTC)
        return attempt_batch([encode(replace(wakeup, due_at=now)) for wakeup in self.queue.take()])

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Runs a statement as the superuser."""
        return self.database.sql(statement, parameters)

    def delivery(self) -> dict[str, Any]:
        """The only delivery's row."""
        (row,) = self.sql("SELECT * FROM delivery JOIN delivery_body USING (delivery_id)")
        return row

    def attempts(self) -> list[dict[str, Any]]:
        """All rows of the attempt log, in the order they were made."""
        return self.sql("SELECT * FROM attempt ORDER BY attempt_id")

    def cut_connections(self) -> None:
        """Ends every session of the functions, as a database that fails over does."""
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND usename IN ('sallyport_app', 'sallyport_admin', 'sallyport_authorizer')",
            self.database.name,
        )


def reply(response: Mapping[str, Any]) -> Reply:
    """What the caller sees of a proxy response, once it went through JSON as Lambda's answers do."""
    answered = json_round_trip(response)
    body = answered["body"] or ""
    return Reply(
        status=answered["statusCode"],
        headers=tuple((name, value) for name, values in answered["multiValueHeaders"].items() for value in values),
        body=b64decode(body) if answered["isBase64Encoded"] else body.encode(),
    )


def attempt_batch(bodies: Iterable[str], *, seconds_left: float = 29.0) -> dict[str, Any]:
    """Invokes the attempt function with messages of these bodies; their ids are their positions."""
    context = Context(seconds_left=lambda: seconds_left)
    records = [
        {
            "messageId": str(position),
            "receiptHandle": "handle",
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:wakeups",
            "awsRegion": "eu-central-1",
        }
        for position, body in enumerate(bodies)
    ]
    return dict(json_round_trip(attempt.handler({"Records": records}, context)))


def authorizer_event(authorization: str | None) -> dict[str, Any]:
    """The event of a REQUEST authorizer; None for a call without the header."""
    return {
        "type": "REQUEST",
        "methodArn": f"{STAGE_ARN}/GET/v1/deliveries",
        "headers": {} if authorization is None else {"Authorization": authorization},
    }


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def grouped(pairs: Pairs) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def json_round_trip(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it arrives on the other side of Lambda, which speaks JSON in UTF-8."""
    found: Mapping[str, Any] = json.loads(json.dumps(value, ensure_ascii=False).encode())
    return found


@contextmanager
def deployed(
    database: FreshDatabase, queue: EmulatedQueue, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Functions]:
    """The functions, configured as Lambda would and with nothing kept from an earlier test."""
    key = directory / "seal-key"
    key.write_text("a key for tests, long enough to be one")
    key.chmod(0o600)
    environment = {
        "WAKEUP_QUEUE_URL": queue.url,
        "SQS_ENDPOINT_URL": queue.endpoint_url,
        "ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8",
        "ALLOWED_PORTS": _EVERY_PORT,
        "EGRESS_ADDRESSES": EGRESS_ADDRESSES,
        "SEAL_KEY_FILE": str(key),
        "POWERTOOLS_SERVICE_NAME": "sallyport",
        "POWERTOOLS_METRICS_NAMESPACE": "Sallyport",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(settings._READERS, tuple[int, ...], _ports_read_once)
    monkeypatch.setattr(metrics, "namespace", "Sallyport")  # these two were read when the module was imported
    monkeypatch.setattr(metrics, "service", "sallyport")
    monkeypatch.setattr(beside, "FIRST_SHARE", 0.0)  # nothing by chance after the first batch
    forget_services()
    monkeypatch.setenv("DATABASE_URL", database.operator_url)
    tokens = [issue(name) for name in ("acme", "globex")]
    monkeypatch.setenv("DATABASE_URL", database.authorizer_url)
    first, second = (Api(authorizer=authorizer_context(token)) for token in tokens)
    monkeypatch.setenv("DATABASE_URL", database.url)
    log = StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    try:
        yield Functions(database=database, queue=queue, log=log, token=tokens[0], api=first, other_api=second)
    finally:
        database.close()
        forget_services()


def issue(tenant: str) -> str:
    """A token with all scopes, from the admin function."""
    return str(admin.handler({"action": "issue_token", "tenant": tenant}, Context())["token"])


def authorizer_context(token: str) -> dict[str, str]:
    """What the authorizer passes to the API about a token."""
    return dict(authorize.handler(authorizer_event(f"Bearer {token}"), Context())["context"])


def forget_services() -> None:
    """Closes what this process built, so that the next use builds it again."""
    for build in (wiring.api, wiring.attempt):
        if build.cache_info().currsize:
            build().client.close()
            build().database.close()
            build.cache_clear()
    for connect in (wiring.authorize, wiring.admin):
        if connect.cache_info().currsize:
            connect().close()
            connect.cache_clear()
    wiring.dead_letters.cache_clear()
    wiring.seal_schedule.cache_clear()
    wiring.egress_checks.cache_clear()
    wiring.allowlist_sources.cache_clear()
    zones.forget()
    metrics.clear_metrics()
