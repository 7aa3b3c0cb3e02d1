"""What the real programs must do in a network: deliveries end to end, SQL for those who may run it, and what each
side saw of it.

The counterpart of lab/proofs/catalogue.py for what packets alone do not show. Each function yields program checks: a
sentence, whether it holds, and the evidence as text.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from lab.model.case import Case
from lab.model.world import ATTACKER, CORPORATE, DEVELOPER
from lab.programs.database import QueryResult
from lab.programs.jobs import Job, Jobs
from lab.programs.testbed import RunningLab, running
from lab.proofs.assertions import Scenario
from stack.network.model import POSTGRESQL, Network

_KINDS: Mapping[str, str] = {
    "sync": "A delivery whose caller waits",
    "queued": "A delivery through the queue",
    "passed through": "A pass-through call",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCheck:
    """Something that programs must have done, or must have failed to do."""

    sentence: str
    holds: bool
    evidence: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        return {"sentence": self.sentence, "holds": self.holds, "evidence": list(self.evidence)}


def run(
    case: Case, network: Network | None = None, *, report: Callable[[str], None] = lambda _: None
) -> tuple[tuple[ProgramCheck, ...], str]:
    """All program checks in the case's network, or in `network`; and which code the functions ran.

    To be called inside of the sandbox, for a case from the templates. Raises what lab.programs.testbed raises.
    """
    if case.rendered is None:
        raise ValueError(f"{case.name} is not from the templates: no programs are known for it")
    scenario = Scenario(case, network)
    with running(scenario.network, case.rendered, report=report) as lab:
        return within(lab, scenario, report), lab.code


def within(
    lab: RunningLab, scenario: Scenario, report: Callable[[str], None] = lambda _: None
) -> tuple[ProgramCheck, ...]:
    """All program checks in a lab that runs."""
    return tuple(_all_checks(lab, scenario, report))


def _all_checks(lab: RunningLab, scenario: Scenario, report: Callable[[str], None]) -> Iterator[ProgramCheck]:
    yield migration(lab)
    if not has_schema(lab):
        return
    for name, step in (("jobs", jobs), ("egress checks", checks), ("SQL", sql)):
        report(name)
        yield from step(lab, scenario)


def has_schema(lab: RunningLab) -> bool:
    """Whether there is a schema to work with."""
    return lab.migration.status == "SUCCESS"


def migration(lab: RunningLab) -> ProgramCheck:
    """The custom resource that makes the schema, in its own namespace."""
    answer = lab.migration
    reason = answer.reason or answer.error or "CloudFormation got no answer"
    return ProgramCheck(
        sentence="The migration function creates the schema over TLS and answers CloudFormation",
        holds=answer.status == "SUCCESS",
        evidence=(f"answered {answer.status} from {answer.answered_from}, version {answer.version}",)
        if answer.status == "SUCCESS"
        else (reason,),
    )


# ---- Jobs


def jobs(lab: RunningLab, scenario: Scenario) -> Iterator[ProgramCheck]:
    """Each kind of job in each zone."""
    work = Jobs(lab)
    for zone in work.zones:
        for start in (work.sync, work.queued, work.passed_through):
            job = start(zone)
            yield _judge(job, scenario, zone)


def _judge(job: Job, scenario: Scenario, zone: str) -> ProgramCheck:
    match job.target:
        case "partner":
            return _at_partner(job, scenario.published_in(zone), zone)
        case "corporate":
            return _at_corporate(job, scenario, zone)
    return _at_nobody(job, zone)


def _at_partner(job: Job, published: frozenset[IPv4Address], zone: str) -> ProgramCheck:
    """The partner's log, the database's row and the gateway's ledger must agree with what is published for the zone."""
    agree = bool(job.seen) and job.seen <= published and job.recorded == job.seen
    return ProgramCheck(
        sentence=f"{_KINDS[job.kind]}, from {zone}, arrives at the partner from {_listed(published)} alone",
        holds=job.arrived and agree and _ledger_agrees(job, published),
        evidence=(
            _answered(job),
            f"the partner's log says {_listed(job.seen)}; the attempt's row says {_listed(job.recorded, 'nothing')}",
            f"the gateway's ledger towards the partner so far says {_listed(job.ledger)}",
        ),
    )


def _answered(job: Job) -> str:
    problem = f" ({job.problem})" if job.problem else ""
    return f"the API answered {job.status}{problem}, the delivery is {job.state}"


def _ledger_agrees(job: Job, published: frozenset[IPv4Address]) -> bool:
    """The ledger has what left before as well, so this zone's address must be in it; strangers are seen elsewhere."""
    return bool(job.ledger & published)


def _at_corporate(job: Job, scenario: Scenario, zone: str) -> ProgramCheck:
    inside = all(address in scenario.network.cidr for address in job.seen)
    return ProgramCheck(
        sentence=f"{_KINDS[job.kind]}, from {zone}, arrives at the corporate host through the VPN",
        holds=job.arrived and inside and not job.ledger and not job.recorded,
        evidence=(
            _answered(job),
            f"the corporate host's log says {_listed(job.seen)}; the gateway's ledger says {_listed(job.ledger)}",
            f"the attempt's row says {_listed(job.recorded, 'nothing')}, as no fixed address is seen there",
        ),
    )


def _at_nobody(job: Job, zone: str) -> ProgramCheck:
    outcomes = ", ".join(row.outcome for row in job.attempts) or "none"
    return ProgramCheck(
        sentence=f"{_KINDS[job.kind]}, from {zone}, is attempted and stays in the VPC: no host has the allowed address",
        holds=not job.arrived and not job.ledger and bool(job.attempts),
        evidence=(
            _answered(job),
            f"attempts: {outcomes}; the internet gateway's ledger says {_listed(job.ledger)}",
        ),
    )


# ---- The egress checks


def checks(lab: RunningLab, scenario: Scenario) -> Iterator[ProgramCheck]:
    """What the functions that watch the fixed address see."""
    for check in Jobs(lab).checks():
        published = scenario.published_in(check.zone)
        yield ProgramCheck(
            sentence=f"The egress check of {check.zone} sees {_listed(published)}",
            holds=check.verdict == "matches" and check.seen in {str(address) for address in published},
            evidence=(f"published {check.published}, seen {check.seen}: {check.verdict}",),
        )
    strangers = {source for source, _ in lab.lab.ledger()} - scenario.published - _publics(scenario.network)
    yield ProgramCheck(
        sentence="Afterwards, the gateway's ledger has only published sources",
        holds=not strangers,
        evidence=(f"sources: {_listed({source for source, _ in lab.lab.ledger()})}",),
    )


def _publics(network: Network) -> frozenset[IPv4Address]:
    """The public addresses of interfaces, from which these answer the clients that they admit."""
    return frozenset(
        interface.public_address for interface in network.interfaces if interface.public_address is not None
    )


# ---- SQL


def sql(lab: RunningLab, scenario: Scenario) -> Iterator[ProgramCheck]:
    """Who can log in to PostgreSQL: those who are meant to, and not the attacker."""
    for host, message in _welcome(scenario):
        at = lab.database.public_address if host == DEVELOPER else lab.database.address
        answer = lab.psql(host, "SELECT inet_client_addr()", address=at)
        evidence = (f"from {answer.rows[0][0]}",) if isinstance(answer, QueryResult) else (answer.message,)
        yield ProgramCheck(sentence=f"{message} runs SQL", holds=isinstance(answer, QueryResult), evidence=evidence)
    for at in filter(None, (lab.database.public_address, lab.database.address)):
        yield _attack(lab, at)


def _attack(lab: RunningLab, at: IPv4Address) -> ProgramCheck:
    """A failure of psql is no evidence; a record of its refused packets is."""
    before = set(lab.lab.drops())
    answer = lab.psql(ATTACKER, address=at, seconds=2)
    own = {host.address for host in lab.world if host.name == ATTACKER}
    died = {
        f"its packets died at the {record.cause.checkpoint}: {record.cause.resource}, {record.cause.detail}"
        for record in lab.lab.drops()
        if record not in before and record.source in own and record.destination_port == POSTGRESQL
    }
    message = (str(answer.rows),) if isinstance(answer, QueryResult) else (answer.message,)
    return ProgramCheck(
        sentence=f"An attacker on the internet cannot run SQL at {at}",
        holds=not isinstance(answer, QueryResult) and bool(died),
        evidence=(*message, *(sorted(died) or ["there is no record of a refused packet"])),
    )


def _welcome(scenario: Scenario) -> Iterator[tuple[str, str]]:
    for host in scenario.bastion.hosts if scenario.parameters.get("Bastion") == "yes" else ():
        yield host, "A user on the bastion"
    if scenario.parameters.get("CorporateDatabaseAccess") == "yes":
        yield CORPORATE, "A corporate host"
    if scenario.parameters.get("DeveloperCidr"):
        yield DEVELOPER, "A developer in DeveloperCidr"


def _listed(addresses: Iterable[IPv4Address], nobody: str = "nobody") -> str:
    return " and ".join(str(address) for address in sorted(addresses)) or nobody
