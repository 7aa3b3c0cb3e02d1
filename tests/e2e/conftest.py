"""The whole local stack, once per session, on free ports and in a directory of its own."""

import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from domain.retry import JITTER, SCHEDULE_SECONDS
from domain.wakeups import MISS_DELAYS_SECONDS
from flows.attempt import PUT_BACK_SECONDS
from flows.judge import LAPSE_SECONDS
from local.demonstration import TENANT, make_destination, working_token
from local.partner import Call, Partner, Reply
from local.stack import Stack, StackConfiguration

pytest.register_assert_rewrite("tests.e2e.features")  # which pytest does by itself in files of tests alone

# A message whose worker died comes back after this long instead of three minutes, and its lease has ended by then.
VISIBILITY_TIMEOUT_SECONDS = 4
LEASE_SECONDS = 3
# How long a test waits for what must happen: only a failure waits that long. On a busy machine a delivery may need each
# of the waits that are planned for what is late, one after the other: its row comes after its wake-up was looked at
# twice, the database has no answer for a claim, a worker outlives its lease, and then the attempt is repeated.
_LONGEST_USUAL_SECONDS = (
    sum(MISS_DELAYS_SECONDS) + PUT_BACK_SECONDS + LAPSE_SECONDS + SCHEDULE_SECONDS[1] * (1 + JITTER)
)
GENEROUS_SECONDS = 3 * (_LONGEST_USUAL_SECONDS + VISIBILITY_TIMEOUT_SECONDS)
SHOWN_CHARACTERS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response of the API."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One call of the API and its answer. `sent` holds names in lower case, `body` what was to be sent as JSON."""

    method: str
    target: str
    sent: frozenset[str]
    body: object
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """Somebody who uses the API with a token. `uses` lists every call that was answered."""

    port: int
    token: str
    uses: list[Use] = field(default_factory=list)

    def call(self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request; a body that is not bytes is sent as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=GENEROUS_SECONDS)) as connection:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(status=response.status, headers=names, body=response.read())
        named = frozenset(name.lower() for name in sent)
        self.uses.append(Use(method=method, target=path, sent=named, body=body, answer=answer))
        return answer

    def deliver(self, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        """POST /v1/deliveries to the demo partner."""
        return self.call("POST", "/v1/deliveries", body={"destination": "partner", **fields}, headers=headers)

    def delivery(self, delivery_id: str) -> Any:
        """GET /v1/deliveries/{id}."""
        found = self.call("GET", f"/v1/deliveries/{delivery_id}")
        assert found.status == 200, found.body
        return found.json

    def finished(self, delivery_id: str, *, within_seconds: float = GENEROUS_SECONDS) -> Any:
        """The delivery once nothing more happens to it."""
        return eventually(
            lambda: found if (found := self.delivery(delivery_id))["finished_at"] else None,
            within_seconds=within_seconds,
        )


def eventually[T](look: Callable[[], T | None], *, within_seconds: float = GENEROUS_SECONDS) -> T:
    """What `look` finds once it finds something."""
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing happened within {within_seconds} seconds")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that waited in vain shows where its delivery may be: the logs and queues are gone after the session."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.when == "call" and report.failed and isinstance(stack, Stack):
        report.sections.append(("The stack's queues, and the ends of its functions' logs", _state(stack)))
    return report


def _state(stack: Stack) -> str:
    counts = [f"{name}: {queue.count()} messages, {queue.waiting()} visible" for name, queue in stack.queues.items()]
    return "\n\n".join([*counts, *(_end_of(function.configuration.log) for function in stack.functions.values())])


def _end_of(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return f"{log.name}:\n{text[-SHOWN_CHARACTERS:]}"


@contextmanager
def running_stack(directory: Path) -> Iterator[Stack]:
    """A stack of its own in `directory`."""
    configuration = StackConfiguration(
        directory=directory,
        port=0,
        partner_port=0,
        durable=False,
        variables={"LEASE_SECONDS": str(LEASE_SECONDS)},
        visibility_timeout_seconds=VISIBILITY_TIMEOUT_SECONDS,
        report=lambda _: None,
    )
    with Stack(configuration) as running:
        yield running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def consumer(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Consumer:
    token = working_token(stack, stored_in=tmp_path_factory.mktemp("token") / "token")
    make_destination(stack, token=token)
    return Consumer(port=stack.front.port, token=token)


class Holding(Partner):
    """The demo partner's behaviour on another loopback address, and what only a test asks for."""

    def __init__(self, *, port: int) -> None:
        super().__init__(port=port, report=lambda _: None, address="127.0.0.2")
        self.released = threading.Event()

    def behave(self, call: Call) -> Reply:
        """/hold answers when it is released; /large does with more than is stored, /huge with more than is read;
        /odd has a status that HTTP does not have.
        """
        match call.path:
            case "/hold":
                self.released.wait(GENEROUS_SECONDS)
                return Reply(status=200, content="held\n")
            case "/large":
                return Reply(status=200, content="x" * (64 * 1024 + 1))
            case "/odd":
                return Reply(status=799, content="odd\n")
            case "/huge":
                return Reply(status=200, content="x" * (4 * 1024 * 1024 + 1))
            case _:
                return super().behave(call)


@pytest.fixture(scope="module")
def other(stack: Stack) -> Iterator[Holding]:
    partner = Holding(port=stack.partner.port)
    partner.start()
    yield partner
    partner.released.set()
    partner.stop()


@pytest.fixture(scope="module")
def user(stack: Stack, consumer: Consumer, other: Holding) -> Consumer:
    """With every scope and uses of its own, and three destinations: one answers on demand, one never, one slowly."""
    user = replace(consumer, uses=[])
    port = stack.partner.port
    for name, base_url in {
        "other": f"http://127.0.0.2:{other.port}",
        "nobody": f"http://127.23.45.67:{port}",  # whoever has the port has it on the partner's addresses alone
    }.items():
        assert user.call("POST", "/v1/destinations", body={"name": name, "base_url": base_url}).status == 201
    return user


@pytest.fixture(scope="module")
def limited(stack: Stack, user: Consumer) -> dict[str, Consumer]:
    """A user by scope, with that scope alone."""
    admin = stack.functions["AdminFunction"]
    return {
        scope: replace(
            user, token=admin.invoke({"action": "issue_token", "tenant": TENANT, "scopes": [scope]})["token"]
        )
        for scope in ("read", "send", "manage")
    }


@pytest.fixture
def key() -> str:
    """An idempotency key of this test's own, by which it also knows its calls at the partner."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def calls(stack: Stack, key: str) -> Callable[[], list[Call]]:
    """What the partner received with this test's key."""
    return lambda: [call for call in list(stack.partner.calls) if call.idempotency_key == key]
