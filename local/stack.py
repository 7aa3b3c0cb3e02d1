"""Puts the whole stack together in one directory and on one machine, as template.yaml describes it."""

import contextlib
import dataclasses
import fcntl
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from local import stand_ins
from local.errors import LocalError
from local.event_source import EventSourceMapping
from local.front import Front, Gateway
from local.functions import REPOSITORY, Function, FunctionConfiguration, FunctionError
from local.operators import OperatorsDoor
from local.partner import ECHO_PATH, Partner
from local.postgres import SUPERUSER, Postgres
from local.restored_wakeups import RestoredWakeups, unfinished
from local.schedule import Schedule
from local.seal_key import make_seal_key
from local.sqs import Queue, SqsServer
from local.template import FunctionTemplate, Template

DATABASE = "sallyport"
QUEUE_FILE = "wakeup-queue"  # in the stack's directory: the queue's URL, for tools/containers.py
TEMPLATE = REPOSITORY / "template.yaml"
CONCURRENCY = 4  # environments per function; a laptop has not the processors for the template's numbers
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConfiguration:
    """`directory` holds everything that survives. A port of 0 is a free one.

    `variables` take the place of the template's, in the functions that have them, and `visibility_timeout_seconds` does
    where it is not None: for tests, which cannot wait three minutes until a message is visible again.
    """

    directory: Path
    port: int = 8080
    partner_port: int = 8081
    durable: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    visibility_timeout_seconds: int | None = None
    report: Callable[[str], None] = print


class Stack:
    """The running stack. `start` returns when everything answers; `stop` leaves no process behind."""

    def __init__(self, configuration: StackConfiguration) -> None:
        self._configuration = configuration
        self._directory = configuration.directory.absolute()
        self._cleanup = contextlib.ExitStack()
        self.postgres = Postgres(self._directory / "postgres", durable=configuration.durable)
        self.functions: dict[str, Function] = {}
        self.queues: dict[str, Queue] = {}
        self._parts: dict[str, Callable[[], bool]] = {"PostgreSQL": lambda: self.postgres.running}

    @property
    def ended(self) -> str:
        """The name of a part of the running stack that has ended by itself; empty while all of them run."""
        return next((name for name, runs in self._parts.items() if not runs()), "")

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://127.0.0.1:{self.front.port}"

    @property
    def seal_key_file(self) -> Path:
        """A text such as the template has Secrets Manager make, mode 0600."""
        return self._directory / "seal.key"

    def start(self) -> None:
        """Raises LocalError with what to do; what had been started is stopped then."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything in the opposite order. Safe to call again."""
        self._cleanup.close()

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._cleanup.enter_context(_only_one(self._directory))
        self._open_ports()  # first, as a busy port is the most likely failure
        self._make_seal_key()
        sqs = SqsServer()
        with ThreadPoolExecutor(1) as beside:
            # PostgreSQL must be started from this thread: it stops when the thread that started it ends.
            listening = beside.submit(sqs.start)
            self._cleanup.callback(self.postgres.stop)
            self.postgres.start()
            self.postgres.make_database(DATABASE)
            listening.result()
        self._cleanup.callback(sqs.stop)
        template = self._template_on(sqs)
        self._start_functions(template)
        again = unfinished(self.postgres, database=DATABASE)  # before new deliveries can be created
        self._start_event_sources(template)
        self._send_again(RestoredWakeups(again, queue=self.queues["WakeupQueue"]))
        self.partner.start()
        self._start_schedules(template)
        self._open_operators_door()
        self._cleanup.callback(self.front.stop)  # the first to stop: no request meets a half stopped stack
        self.front.start(Gateway(template.api(), self.functions).answer)
        self._parts |= {"The API": self.front.is_running, "The demo partner": self.partner.is_running}

    def _open_ports(self) -> None:
        self.front = Front(port=self._configuration.port)
        self._cleanup.callback(self.front.stop)
        self.partner = Partner(port=self._configuration.partner_port, report=self._configuration.report, doors_from=0)
        self._cleanup.callback(self.partner.stop)

    def _make_seal_key(self) -> None:
        make_seal_key(self.seal_key_file, Template(TEMPLATE).secrets()["SealKey"], report=self._configuration.report)

    def _template_on(self, sqs: SqsServer) -> Template:
        """Make the template's queues and SSM parameters; returns the template with what stands in for the cloud's
        resources."""
        self._make_queues(sqs)
        self._endpoint_url = sqs.endpoint_url
        vpc_cidr = str(Template(TEMPLATE).resolved({"Ref": "VpcCidr"}))
        template = Template(
            TEMPLATE,
            # moto's servers of one process share their SSM parameters: a name of its own keeps each stack's apart.
            parameters={"AWS::StackName": f"sallyport-{urlsplit(sqs.endpoint_url).port}"},
            resources={"Api": stand_ins.API_ID} | {name: queue.url for name, queue in self.queues.items()},
            attributes=stand_ins.attributes(vpc_cidr=vpc_cidr, owner=SUPERUSER),
        )
        sqs.create_parameters(template.ssm_parameters())
        return template

    def _make_queues(self, sqs: SqsServer) -> None:
        queues = Template(TEMPLATE).queues()
        override = self._configuration.visibility_timeout_seconds
        if override is not None:
            queues = {
                name: dataclasses.replace(queue, visibility_timeout_seconds=override) for name, queue in queues.items()
            }
        self.queues = sqs.create_queues(queues)
        (self._directory / QUEUE_FILE).write_text(f"{self.queues['WakeupQueue'].url}\n", encoding="utf-8")
        self._cleanup.callback((self._directory / QUEUE_FILE).unlink, missing_ok=True)

    def _start_functions(self, template: Template) -> None:
        self._cleanup.callback(self._stop_functions)
        shutil.rmtree(self._logs, ignore_errors=True)  # those of the last run; they would grow without limit
        self._logs.mkdir()
        for name, function in template.functions().items():
            self.functions[name] = Function(self._function(function), concurrency=CONCURRENCY)
        busy = _with_events(template)
        with ThreadPoolExecutor(len(busy)) as side_by_side:  # imports take a second or so; the migration runs meanwhile
            starting = [side_by_side.submit(self.functions[name].start) for name in busy]
            try:
                self.functions["MigrateFunction"].invoke({"action": "migrate"})
                for start in starting:
                    start.result()
            except FunctionError as error:
                raise LocalError(f"A function does not start: {error}. The logs are in {self._logs}.") from error

    def _stop_functions(self) -> None:
        with ThreadPoolExecutor(len(self.functions) or 1) as side_by_side:
            list(side_by_side.map(Function.stop, self.functions.values()))

    @property
    def _logs(self) -> Path:
        return self._directory / "logs"

    def _function(self, function: FunctionTemplate) -> FunctionConfiguration:
        # A function that is outside the VPC has neither the database nor its user.
        ours = self._local_variables(function.variables.get("DATABASE_USER", ""))
        return FunctionConfiguration(
            name=function.logical_id,
            handler=function.handler,
            code=REPOSITORY / "src",
            log=self._logs / f"{function.logical_id}.log",
            timeout_seconds=function.timeout_seconds,
            memory_mb=function.memory_mb,
            variables=stand_ins.variables(function, ours={**ours, **self._configuration.variables}),
        )

    def _local_variables(self, role: str) -> dict[str, str]:
        """What takes the place of the cloud: our database, queue, key file and partner; the system's public roots."""
        return {
            "DATABASE_URL": self.postgres.url(user=role, database=DATABASE),
            "SQS_ENDPOINT_URL": self._endpoint_url,
            "SSM_ENDPOINT_URL": self._endpoint_url,
            "SEAL_KEY_FILE": str(self.seal_key_file),
            "CA_BUNDLE": "",
            "EGRESS_ECHO_URL": f"{self.partner.url}{ECHO_PATH}",
            "ALLOWED_PRIVATE_CIDRS": "127.0.0.0/8,127.0.0.1/32",  # the second because it is the egress address too
            "ALLOWED_PORTS": ",".join(str(port) for port in (80, 443, 8080, 8443, *self._partner_ports())),
        }

    def _partner_ports(self) -> list[int]:
        return [port for port, _ in self.partner.doors.values()]

    def _open_operators_door(self) -> None:
        door = OperatorsDoor(self.functions, directory=self._directory)
        self._cleanup.callback(door.stop)
        door.start()

    def _send_again(self, again: RestoredWakeups) -> None:
        if again:
            self._configuration.report(f"Unfinished deliveries of the last run that go on: {len(again)}")
        self._cleanup.callback(again.stop)
        again.start()
        self._parts["The sender of the last run's wake-ups"] = again.is_healthy

    def _start_event_sources(self, template: Template) -> None:
        for source in template.event_sources():
            mapping = EventSourceMapping(
                source,
                queue=self.queues[source.queue],
                function=self.functions[source.function],
                concurrency=min(source.concurrency, CONCURRENCY),
            )
            self._cleanup.callback(mapping.stop)
            mapping.start()
            self._parts[f"The event source of {source.function}"] = mapping.is_running

    def _start_schedules(self, template: Template) -> None:
        for planned in template.schedules():
            schedule = Schedule(self.functions[planned.function], seconds=planned.seconds)
            self._cleanup.callback(schedule.stop)
            schedule.start()


def _with_events(template: Template) -> set[str]:
    """The functions that something calls while the stack runs; the others are started when they are invoked."""
    api = template.api()
    routed = {route.function for route in api.routes} | {authorizer.function for authorizer in api.authorizers.values()}
    return routed | {source.function for source in template.event_sources()}


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold the directory for this process. The lock ends with the process, however that ends."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(f"A stack is already running with {directory}. Stop that one first.") from None
        yield


def clean(directory: Path) -> None:
    """Delete everything that the stack stores in `directory`. Raises LocalError while a stack runs on it."""
    if directory.exists():
        with _only_one(directory):
            shutil.rmtree(directory)
