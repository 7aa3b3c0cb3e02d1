"""A network with all its programs: `with running(network, rendered) as lab: Jobs(lab).sync()`.

To be used inside of the sandbox (lab.kernel.sandbox.enter), whose /run is the lab's own and gone with it. One lab at a
time in one process: moto keeps its state there.
"""

import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from lab.kernel.apply import Lab, applied
from lab.model import world as worlds
from lab.model.outside import OutsideHost
from lab.model.world import AWS, CALLER, CORPORATE, ECHO, NEIGHBOUR, PARTNER, S3, Names
from lab.plan.build import plan
from lab.plan.validation import resolver_address
from lab.programs import database as databases
from lab.programs import functions as placing
from lab.programs.api import API_IDS, Api, ApiCaller, is_private, url
from lab.programs.authority import Authority
from lab.programs.database import DatabaseServer, QueryFailure, QueryResult
from lab.programs.functions import PlacedFunction
from lab.programs.metadata import zone_ids
from lab.programs.resolver import Resolver, covers, hide_machine
from lab.programs.services import AwsApis, Bucket, CustomResourceAnswer, load
from lab.programs.third_party import Echo, ThirdParty
from local.errors import LocalError
from local.event_source import EventSourceMapping
from local.functions import REGION, REPOSITORY, FunctionError
from local.template import EventSource, Template
from stack.functions import Trigger, functions_where
from stack.network.model import POSTGRESQL, InterfaceKind, Network
from stack.render import Rendered

_ROOT = Path("/run/lab")
_POLLERS = 2
# The handler keeps 30 s of them for its answer, and waits through the rest for a database that does not come.
_MIGRATION_SECONDS = 40
_BUSY = functions_where(
    lambda purpose: purpose.database_user is not None and purpose.trigger is not Trigger.CUSTOM_RESOURCE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationAnswer:
    """What the bucket got as the answer of the custom resource that migrates; all None where it got none.

    `error` is the function's own message, where it failed.
    """

    status: str | None
    reason: str | None
    version: str | None
    answered_from: IPv4Address | None
    error: str = ""


@dataclass(slots=True, kw_only=True)
class RunningLab:
    """Everything that runs. What is what: see the modules of lab/programs."""

    lab: Lab
    network: Network
    rendered: Rendered
    world: tuple[OutsideHost, ...]
    names: Mapping[str, tuple[IPv4Address, ...]]
    public_names: Mapping[str, tuple[IPv4Address, ...]]
    published: frozenset[IPv4Address]
    code: str
    authority: Authority
    resolver: Resolver
    database: DatabaseServer
    functions: Mapping[str, PlacedFunction]
    partner: ThirdParty
    corporate: ThirdParty | None
    echo: ThirdParty
    services: AwsApis
    caller: ApiCaller
    migration: MigrationAnswer
    files_inside: Mapping[str, str]
    files_outside: Mapping[str, str]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def files(self, host: str) -> Mapping[str, str]:
        """The files that a program on `host` sees in place of the machine's, for Lab.start: who answers for names."""
        return (
            self.files_inside if host in {interface.id for interface in self.network.interfaces} else self.files_outside
        )

    def psql(
        self,
        host: str,
        sql: str = "SELECT 1",
        *,
        role: str = "sallyport_readonly",
        address: IPv4Address | None = None,
        seconds: float = 3,
    ) -> QueryResult | QueryFailure:
        """Run psql on `host`, at the cluster's name or at `address`; the certificate must be valid for the name."""
        return databases.psql(
            self.lab,
            host,
            sql,
            database=self.database,
            role=role,
            roots=self.authority.roots,
            files=self.files(host),
            address=address,
            seconds=seconds,
        )


@contextmanager
def running(
    network: Network, rendered: Rendered, *, jobs: bool = True, report: Callable[[str], None] = lambda _: None
) -> Iterator[RunningLab]:
    """The programs of `rendered` in `network`, until the end of the block. `report` gets a line for each step.

    With `jobs=False` only the migration's function is started ahead; the others start when they are called. Raises
    ProgramCannotRun, and what lab.plan, lab.kernel.apply and local.postgres raise.
    """
    with ExitStack() as stack:
        yield _LabBuilder(network, rendered, stack=stack, report=report).all(jobs=jobs)


class _Stoppable(Protocol):
    def stop(self) -> None: ...


class _LabBuilder:
    """Starts one lab. What takes long runs in other threads: initdb, moto's import, the starts of functions."""

    def __init__(
        self, network: Network, rendered: Rendered, *, stack: ExitStack, report: Callable[[str], None]
    ) -> None:
        self._rendered, self._stack, self._report = rendered, stack, report
        self._private = is_private(rendered)
        self._network = _with_a_caller(network, private=self._private)
        self._world = worlds.world(self._network, rendered.parameters)
        self._seconds: dict[str, float] = {}
        self._since = time.monotonic()
        self._beside = stack.enter_context(ThreadPoolExecutor(8, thread_name_prefix="lab"))
        self._directory = _ROOT / secrets.token_hex(4)
        self._directory.mkdir(parents=True)
        hide_machine(_ROOT)
        stack.callback(shutil.rmtree, self._directory, ignore_errors=True)

    def all(self, *, jobs: bool) -> RunningLab:
        cluster = self._beside.submit(databases.prepared, _ROOT)
        loaded = self._beside.submit(load)
        self._make_network()
        self._make_outside(loaded)
        warm = self._make_functions(ahead=("MigrateFunction", *(_BUSY if jobs else ())))
        self._make_database(cluster)
        self._migrate()
        self._make_api()
        _wait(warm, self._directory)
        self._done("functions")
        return self._running()

    def _running(self) -> RunningLab:
        return RunningLab(
            lab=self._lab,
            network=self._network,
            rendered=self._rendered,
            world=self._world,
            names=self._names.inside,
            public_names=self._names.outside,
            published=frozenset(address.public_address for address in self._network.published),
            code=self._code.description,
            authority=self._authority,
            resolver=self._resolver,
            database=self._database,
            functions=self._functions,
            partner=self._partner,
            corporate=self._corporate,
            echo=self._echo,
            services=self._services,
            caller=self._caller,
            migration=self._migration,
            files_inside=self._inside,
            files_outside=self._outside,
            seconds=self._seconds,
        )

    def _done(self, what: str) -> None:
        now = time.monotonic()
        self._seconds[what] = now - self._since
        self._since = now
        self._report(f"{what}: {self._seconds[what]:.1f} s")

    # ---- The network, and who can be found in it

    def _make_network(self) -> None:
        self._authority = Authority(self._directory)
        self._lab = self._stack.enter_context(applied(plan(self._network, self._world)))
        self._writer = databases.writer(self._network, self._rendered)
        self._names = self._all_names()
        address = resolver_address(self._network)
        self._inside, self._outside = covers(self._directory, address, self._names.outside)
        self._resolver = self._stopped_at_the_end(Resolver(self._lab, address, self._names.inside))
        self._done("network")

    def _all_names(self) -> Names:
        return worlds.names(
            self._network,
            self._world,
            region=REGION,
            database=(databases.HOST, self._writer),
            api=urlsplit(url(self._rendered)).hostname or "",
            private=self._private,
            nobody=_in_allowed_range(self._rendered),
        )

    # ---- Outside of the VPC

    def _make_outside(self, loaded: "Future[None]") -> None:
        at = {host.name: host.address for host in self._world}
        published, inside = {address.public_address for address in self._network.published}, self._network.cidr
        self._partner = self._third(PARTNER, at[PARTNER], worlds.PARTNER_NAME, published.__contains__)
        issued = self._authority.issue(ECHO, ["checkip.amazonaws.com"])
        self._echo = self._stopped_at_the_end(Echo(self._lab, ECHO, at[ECHO], issued, lambda _: True))
        self._corporate: ThirdParty | None = None
        if CORPORATE in at:
            self._corporate = self._third(CORPORATE, at[CORPORATE], worlds.CORPORATE_NAME, inside.__contains__)
        loaded.result()
        self._make_aws()
        self._done("third parties and AWS")

    def _third(self, host: str, address: IPv4Address, name: str, admits: Callable[[IPv4Address], bool]) -> ThirdParty:
        certificate = self._authority.issue(host, [name])
        return self._stopped_at_the_end(ThirdParty(self._lab, host, address, certificate, admits))

    def _make_aws(self) -> None:
        """The AWS APIs, and the values that replace AWS's ids in the functions' environments."""
        self._services = AwsApis(self._lab, self._network, region=REGION)
        self._services.start(self._authority)
        self._stopped_at_the_end(self._services)
        self._bucket = self._stopped_at_the_end(Bucket(self._lab, S3, self._authority, region=REGION))
        arns = self._services.make(self._rendered)
        self._template = Template(REPOSITORY / "template.yaml", parameters=self._rendered.parameters)
        with self._lab.inside(AWS), ThreadPoolExecutor(1) as there:  # a thread of its own has a connection of its own
            self._queues = there.submit(self._services.sqs.create_queues, self._template.queues()).result()
        host = f"https://sqs.{REGION}.amazonaws.com"
        queues = {name: host + urlsplit(queue.url).path for name, queue in self._queues.items()}
        self._values = stand_ins(arns, queues)

    # ---- In the VPC

    def _make_functions(self, *, ahead: Iterable[str]) -> list["Future[None]"]:
        """The functions named in `ahead` are started at once, in other threads."""
        names = [interface.owner for interface in self._network.interfaces if interface.kind is InterfaceKind.FUNCTION]
        self._code = placing.code(list(dict.fromkeys(names)))
        self._functions = placing.FunctionPlacer(
            lab=self._lab,
            network=self._network,
            rendered=self._rendered,
            values=self._values,
            variables=self._variables(),
            directory=self._directory,
            roots=self._authority.roots,
            files=self._inside,
            code=self._code,
            stack=self._stack,
        ).all()
        self._stack.callback(placing.stop, self._functions)
        return [self._beside.submit(self._functions[name].start) for name in ahead]

    def _variables(self) -> Mapping[str, str]:
        """What replaces the template's own variables: the published addresses and zones, and the roots to trust."""
        roots = str(self._authority.roots)
        return {
            "EGRESS_ADDRESSES": ",".join(
                f"{address.zone}={address.public_address}" for address in self._network.published
            ),
            "EGRESS_ZONE_IDS": ",".join(f"{zone}={zone_id}" for zone, zone_id in zone_ids(self._network.zones).items()),
            "CA_BUNDLE": roots,
            "DATABASE_ROOT_CERTIFICATES": roots,
        }

    def _make_database(self, cluster: "Future[Path]") -> None:
        """The thread that starts it is this one, which lives as long as the lab."""
        self._database = self._stopped_at_the_end(DatabaseServer(self._lab, self._writer, self._rendered))
        self._database.start(self._directory / "database", cluster.result(), self._authority)
        self._done("PostgreSQL")

    def _migrate(self) -> None:
        """As CloudFormation does it: an event with the address for the answer, and the answer counts."""
        event = {
            "RequestType": "Create",
            "ResponseURL": f"https://{worlds.bucket(REGION)}/{secrets.token_urlsafe(16)}?X-Amz-Signature=none",
            "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/sallyport/lab",
            "RequestId": secrets.token_hex(8),
            "ResourceType": "Custom::Migration",
            "LogicalResourceId": "Migration",
            "ResourceProperties": self._rendered.resources["Migration"]["Properties"],
        }
        message = ""
        try:
            self._functions["MigrateFunction"].invoke(event, limit_seconds=_MIGRATION_SECONDS)
        except FunctionError as error:
            message = str(error)
        self._migration = _migrated(self._bucket.answers, message)
        self._done("migration")

    # ---- The API and the queue, which reach functions past the VPC

    def _make_api(self) -> None:
        self._stopped_at_the_end(Api(self._lab, self._network, self._rendered, self._functions, self._authority))
        self._caller = ApiCaller(
            lab=self._lab,
            host=self._who_calls(),
            url=url(self._rendered),
            address=self._names.outside[urlsplit(url(self._rendered)).hostname or ""][0],
            authority=self._authority,
        )
        for source in self._template.event_sources():
            self._poll(source)

    def _who_calls(self) -> str:
        if not self._private:
            return CALLER
        return NEIGHBOUR if self._corporate is None else CORPORATE

    def _poll(self, source: EventSource) -> None:
        """Lambda's pollers run next to SQS and not in the VPC, so their thread is started in that namespace."""
        function = self._functions[source.function]
        mapping = EventSourceMapping(source, queue=self._queues[source.queue], function=function, concurrency=_POLLERS)
        self._stopped_at_the_end(mapping)
        with self._lab.inside(AWS):
            mapping.start()

    def _stopped_at_the_end[T: _Stoppable](self, program: T) -> T:
        self._stack.callback(program.stop)
        return program


def _migrated(answers: Sequence[CustomResourceAnswer], error: str) -> MigrationAnswer:
    if not answers:
        return MigrationAnswer(status=None, reason=None, version=None, answered_from=None, error=error)
    content = answers[-1].content
    return MigrationAnswer(
        status=content["Status"],
        reason=content["Reason"],
        version=content.get("Data", {}).get("Version"),
        answered_from=answers[-1].source,
        error=error,
    )


def stand_ins(secrets_arns: Mapping[str, str], queue_urls: Mapping[str, str]) -> dict[str, str]:
    """What takes the place of what only AWS would know, in functions' environments; by the resource's address."""
    cluster = {
        "Database.DatabaseCluster.Endpoint.Address": databases.HOST,
        "Database.DatabaseCluster.Endpoint.Port": str(POSTGRESQL),
    }
    return {**API_IDS, **secrets_arns, **queue_urls, **cluster}


def _with_a_caller(network: Network, *, private: bool) -> Network:
    return worlds.with_neighbour(network) if private and network.vpn is None else network


def _in_allowed_range(rendered: Rendered) -> IPv4Address | None:
    """An address that functions may call although it is private; None where no range was opened."""
    return worlds.tenth(rendered.parameters.get("AllowedPrivateCidrs", ""))


def _wait(starting: list["Future[None]"], directory: Path) -> None:
    try:
        for future in starting:
            future.result()
    except FunctionError as error:
        raise LocalError(f"A function does not start: {error}. The logs are in {directory}.") from error
