"""Real programs in the lab: what they see of each other, what the jobs leave behind, and that nothing outlives them."""

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from dnslib import RCODE, DNSRecord

from egress.addresses import Guard
from lab.kernel.sandbox import SKIPPED
from lab.model import world as worlds
from lab.model.case import Case
from lab.model.errors import ProgramCannotRun
from lab.model.world import with_neighbour, world
from lab.plan.build import plan
from lab.programs import checks
from lab.programs import database as databases
from lab.programs.authority import Authority
from lab.programs.database import HOST, QueryResult, writer
from lab.programs.functions import code, environment, filled
from lab.programs.jobs import Jobs, JobTarget
from lab.programs.testbed import RunningLab, running, stand_ins
from lab.proofs import mutations
from lab.proofs.assertions import Scenario
from lab.sources.templates import cases
from stack.network.from_templates import network as read
from stack.network.model import Network
from stack.render import Rendered, Symbol, combinations, render
from tests.support.enclosed import REQUIRED, command, inside
from tests.support.enclosed import environment as enclosed

PER_ZONE = {"Egress": "per-az", "InterfaceEndpoints": "sqs"}
VPN = {"CorporateCidr": "172.20.0.0/16", "CustomerGatewayAddress": "198.51.100.7"}
TARGETS: tuple[JobTarget, ...] = ("partner", "corporate")
INTERNAL = VPN | {
    "Topology": "internal-only",
    "AllowedPrivateCidrs": "172.20.0.0/16",
    "Bastion": "yes",
}
FIRST, SECOND = "203.0.113.10", "203.0.113.11"
UNPUBLISHED = "203.0.113.99"


def lab_of(parameters: Mapping[str, str]) -> tuple[Network, Rendered]:
    rendered = render(parameters)
    return read(rendered), rendered


# ---- A public API behind two NAT gateways


@pytest.fixture(scope="module")
def public() -> Mapping[str, Any]:
    return dict(inside(_public))


def _public() -> Mapping[str, Any]:
    network, rendered = lab_of(PER_ZONE)
    with running(network, rendered) as lab:
        return _observed(lab) | {
            "names": _resolved(lab),
            "attacker": str(lab.psql("attacker", seconds=2)),
            "postgres": _by_name(lab, "postgres"),
            "plain": _by_name(lab, "sallyport_readonly", sslmode="disable"),
        }


def _observed(lab: RunningLab) -> dict[str, Any]:
    results = Jobs(lab).everything()
    return {
        "code": lab.code,
        "migration": [lab.migration.status, str(lab.migration.answered_from)],
        "jobs": [
            {
                "kind": job.kind,
                "zone": job.zone,
                "status": job.status,
                "state": job.state,
                "outcomes": [row.outcome for row in job.attempts],
                "seen": sorted(map(str, job.seen)),
                "recorded": sorted(map(str, job.recorded)),
                "ledger": sorted(map(str, job.ledger)),
                "arrived": job.arrived,
            }
            for job in results.jobs
        ],
        "checks": [[check.zone, check.published, check.seen, check.verdict] for check in results.checks],
        "shown": [[address["address"], address["verdict"]] for address in results.shown],
        "left": sorted({str(source) for source, _ in lab.lab.ledger()}),
        "caller": lab.caller.host,
    }


def _resolved(lab: RunningLab) -> Mapping[str, list[str]]:
    """What the resolver answers each interface of the VPC, over UDP and TCP."""
    answers: dict[str, list[str]] = {}
    for interface in lab.network.interfaces:
        with lab.lab.inside(interface.id):
            for tcp in (False, True):
                answer = DNSRecord.question(HOST).send(str(lab.network.cidr[2]), tcp=tcp, timeout=60)
                answers.setdefault(interface.id, []).append(str(DNSRecord.parse(answer).get_a().rdata))
    with lab.lab.inside(lab.database.interface):
        answer = DNSRecord.question("no.such.name").send(str(lab.network.cidr[2]), timeout=60)
    return answers | {"unknown": [RCODE[DNSRecord.parse(answer).header.rcode]]}


def _by_name(lab: RunningLab, role: str, **more: str) -> str:
    """Log in to the database as a function does, from its namespace."""
    import psycopg

    with lab.lab.inside("ApiFunction/Network.PrivateSubnetA"):
        try:
            with psycopg.connect(
                host=HOST,
                hostaddr=str(lab.database.address),
                dbname="sallyport",
                user=role,
                password="a token",
                sslrootcert=str(lab.authority.roots),
                **({"sslmode": "verify-full"} | more),  # type: ignore[arg-type] # all of them are text
            ):
                return "in"
        except psycopg.OperationalError as error:
            return str(error)


def test_each_zones_jobs_reach_the_third_party_from_the_zones_own_address(public: Mapping[str, Any]) -> None:
    assert [(job["zone"], job["kind"]) for job in public["jobs"]] == [
        (zone, kind) for zone in ("us-east-1a", "us-east-1b") for kind in ("sync", "queued", "passed through")
    ]
    for job in public["jobs"]:
        assert job["arrived"], job
        assert job["state"] == "delivered"
        assert job["outcomes"] == ["answered"]
        assert job["seen"] == [FIRST if job["zone"] == "us-east-1a" else SECOND]
        assert job["recorded"] == job["seen"]
    assert public["jobs"][-1]["ledger"] == public["left"] == [FIRST, SECOND]


@pytest.mark.parametrize("egress", ["single", "regional"])
def test_each_attempt_records_the_address_that_the_partner_saw(egress: str) -> None:
    jobs = inside(_modes, egress)
    assert jobs["partner"] == [
        ["us-east-1a", [FIRST], [FIRST]],
        ["us-east-1b", *[[FIRST if egress == "single" else SECOND]] * 2],
    ]
    for _, seen, recorded in jobs["corporate"]:
        assert [IPv4Address(source) in IPv4Network("10.64.0.0/16") for source in seen] == [True]  # through the VPN
        assert recorded == []


def _modes(egress: str) -> Mapping[str, Any]:
    parameters = {"Topology": "on-premises", "Egress": egress, "AllowedPrivateCidrs": VPN["CorporateCidr"]}
    network, rendered = lab_of(VPN | parameters)
    with running(network, rendered) as lab:
        jobs = Jobs(lab)
        return {
            target: [
                [zone, sorted(map(str, job.seen)), sorted(map(str, job.recorded))]
                for zone in jobs.zones
                for job in [jobs.passed_through(zone, target)]
            ]
            for target in TARGETS
        }


def test_the_egress_checks_and_the_api_tell_what_was_seen(public: Mapping[str, Any]) -> None:
    assert public["checks"] == [
        ["us-east-1a", FIRST, FIRST, "matches"],
        ["us-east-1b", SECOND, SECOND, "matches"],
    ]
    assert public["shown"] == [[FIRST, "matches"], [SECOND, "matches"]]


def test_the_migration_answers_cloudformation_through_the_gateway_endpoint(public: Mapping[str, Any]) -> None:
    status, source = public["migration"]
    assert status == "SUCCESS"
    assert IPv4Address(source) in IPv4Network("10.64.0.0/16")  # past the NAT gateways


def test_every_interface_of_the_vpc_asks_the_resolver(public: Mapping[str, Any]) -> None:
    names = dict(public["names"])
    assert names.pop("unknown") == ["NXDOMAIN"]
    assert set(map(tuple, names.values())) == {("10.64.8.4", "10.64.8.4")}
    assert len(names) == len(lab_of(PER_ZONE)[0].interfaces)


def test_the_database_is_closed_to_the_internet_to_plain_text_and_to_roles_without_tokens(
    public: Mapping[str, Any],
) -> None:
    assert "timeout expired" in public["attacker"]
    assert "no pg_hba.conf entry" in public["postgres"]
    assert "no encryption" in public["plain"]


def test_it_says_which_code_ran(public: Mapping[str, Any]) -> None:
    assert public["code"].startswith(("the built package", "src ("))


# ---- A private API without any way to the internet


@pytest.fixture(scope="module")
def internal() -> Mapping[str, Any]:
    return dict(inside(_internal))


def test_internal_only_serves_the_corporate_network_and_nothing_leaves(internal: Mapping[str, Any]) -> None:
    observed = internal
    assert observed["caller"] == "corporate"
    for job in observed["jobs"]:
        assert job["arrived"], job
        assert all(IPv4Address(source) in IPv4Network("10.64.0.0/16") for source in job["seen"])
        assert job["recorded"] == []
    assert observed["left"] == []
    assert (observed["checks"], observed["shown"]) == ([], [])
    assert observed["migration"][0] == "SUCCESS"
    assert observed["bastion"] == [["6"]]


def test_the_real_programs_do_their_work_for_a_corporate_network_behind_a_sealed_vpc(
    internal: Mapping[str, Any],
) -> None:
    assert len(internal["program checks"]) > 5
    assert [check for check in internal["program checks"] if not check[1]] == []


def _internal() -> Mapping[str, Any]:
    """One lab for what the programs tell and for what they must do: starting it costs more than using it."""
    case = case_of("internal-only-single-people")
    with _lab(case, case.network) as lab:
        observed = _observed(lab)
        counted = lab.psql("BastionHost.Bastion/Network.PrivateSubnetA", "SELECT count(*) FROM delivery")
        bastion = list(map(list, counted.rows)) if isinstance(counted, QueryResult) else str(counted)
        return observed | {"bastion": bastion, "program checks": _program_checks(lab, case)}


def case_of(name: str) -> Case:
    """The design of this name, from the templates."""
    (chosen,) = [case for case in cases() if case.name == name]
    return chosen


def _lab(case: Case, network: Network, *, jobs: bool = True) -> AbstractContextManager[RunningLab]:
    assert case.rendered is not None
    return running(network, case.rendered, jobs=jobs)


def _program_checks(lab: RunningLab, case: Case) -> list[tuple[str, bool, str]]:
    """Everything that the programs must do and must not be able to, judged as the unchanged design promises it."""
    program_checks = checks.within(lab, Scenario(case, lab.network))
    return [(check.sentence, check.holds, "; ".join(check.evidence)) for check in program_checks]


# ---- What must fail, does


@pytest.fixture(scope="module")
def mistaken() -> Mapping[str, Any]:
    return dict(inside(_mistaken))


def _mistaken() -> Mapping[str, Any]:
    """Two labs, one after the other."""
    return {"unpublished": _unpublished(), "open": _open()}


def test_a_third_party_turns_away_an_address_that_was_not_published(mistaken: Mapping[str, Any]) -> None:
    job = mistaken["unpublished"]
    assert job["seen"] == job["left"] == [UNPUBLISHED]
    assert not job["arrived"]
    assert (job["statuses"], job["recorded"]) == ([403], [FIRST])


def test_the_real_jobs_notice_an_address_that_is_not_published(mistaken: Mapping[str, Any]) -> None:
    """The partner refuses a stranger, and the log, the row and the ledger name it."""
    holds = mistaken["unpublished"]["checks"]
    assert [sentence for sentence, held, _ in holds if "arrives at the partner" in sentence and held] == []
    assert [held for sentence, held, _ in holds if "egress check" in sentence] == [False, False]


def _unpublished() -> Mapping[str, Any]:
    """One NAT gateway with another address than the templates' output says."""
    case = case_of("public-private-single")
    (nat,) = case.network.nat_gateways
    other = tuple(replace(address, public_address=IPv4Address(UNPUBLISHED)) for address in nat.addresses)
    with _lab(case, replace(case.network, nat_gateways=(replace(nat, addresses=other),))) as lab:
        job = Jobs(lab).passed_through()
        return {
            "checks": _program_checks(lab, case),
            "seen": sorted(map(str, job.seen)),
            "left": sorted(map(str, job.ledger)),
            "arrived": job.arrived,
            "statuses": [job.status],
            "recorded": sorted(map(str, job.recorded)),
        }


def test_an_open_database_with_a_public_address_lets_the_attacker_run_sql(mistaken: Mapping[str, Any]) -> None:
    assert mistaken["open"]["rows"] == [["sallyport_readonly"]]
    holds = mistaken["open"]["checks"]
    assert [held for sentence, held, _ in holds if "attacker" in sentence] == [False, True]
    (died,) = [evidence for sentence, held, evidence in holds if "attacker" in sentence and held]
    assert "its packets died at the internet: internet, private addresses are not routed" in died


def _open() -> Mapping[str, Any]:
    """All protections gone: everybody is let in, and the instance has an address and a way to the internet."""
    case = case_of("public-private-single")
    network = mutations.everything_opened(case.network)
    assert network is not None
    with _lab(case, network) as lab:
        answer = lab.psql("attacker", "SELECT current_user")
        assert isinstance(answer, QueryResult), answer
        return {"rows": [list(row) for row in answer.rows], "checks": _program_checks(lab, case)}


# ---- What is left


def test_kill_9_leaves_none_of_the_programs() -> None:
    lab = subprocess.Popen(
        command(_stays),
        env=enclosed(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert lab.stdin is not None
    assert lab.stdout is not None
    lab.stdin.write("[]")
    lab.stdin.close()
    lab.stdin = None  # so that communicate leaves it alone
    directory = lab.stdout.readline().strip()
    try:
        if not directory:
            errors = lab.communicate()[1]
            assert lab.returncode == SKIPPED, errors
            assert not REQUIRED, errors
            pytest.skip(f"THE LAB DID NOT RUN: {errors.strip()}")
        assert len(_with(directory)) >= 5  # PostgreSQL's and the migration's
        os.kill(lab.pid, signal.SIGKILL)
    finally:
        lab.kill()
        lab.communicate()
    until = time.monotonic() + 120
    while (left := _with(directory)) and time.monotonic() < until:
        time.sleep(0.02)
    assert left == []


def _stays() -> None:
    network, rendered = lab_of({})
    with running(network, rendered, jobs=False) as lab:
        sys.stdout.write(f"{lab.authority.roots.parent}\n")
        sys.stdout.flush()
        time.sleep(600)


def _with(directory: str) -> list[str]:
    """Processes that name the lab's directory in their command or environment, and all that such ones started."""
    processes = {path.name: _read(path / "cmdline") + _read(path / "environ") for path in Path("/proc").glob("[0-9]*")}
    named = {process for process, text in processes.items() if directory.encode() in text}
    children = {
        process for process in processes if _read(Path("/proc", process, "status")) and _parent(process) in named
    }
    return sorted(named | children)


def _parent(process: str) -> str:
    lines = _read(Path("/proc", process, "status")).decode(errors="replace").splitlines()
    return next((line.split()[1] for line in lines if line.startswith("PPid:")), "")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended in between, or is not ours


# ---- The parts, without a kernel


def test_the_world_stands_where_the_guard_lets_functions_go() -> None:
    network, rendered = lab_of(PER_ZONE)
    around = world(network, rendered.parameters)
    guard = Guard()
    for host in around:
        if host.place == "internet":
            assert guard.check_address(host.address) is None, host
    assert {host.name for host in plan(network, around).hosts} >= {host.name for host in around}


def test_the_attacker_is_no_developer() -> None:
    network, rendered = lab_of({"Topology": "internet-accessible", "DeveloperCidr": "198.51.100.0/24"})
    at = {host.name: host.address for host in world(network, rendered.parameters)}
    assert at["developer"] in IPv4Network("198.51.100.0/24")
    assert at["attacker"] not in IPv4Network("198.51.100.0/24")


def test_names_turn_to_the_endpoints_inside_of_the_vpc_alone() -> None:
    network, rendered = lab_of(INTERNAL)
    names = worlds.names(
        network,
        world(network, rendered.parameters),
        region="us-east-1",
        database=(HOST, writer(network, rendered)),
        api="api.example.com",
        private=True,
        nobody=None,
    )
    sqs = "sqs.us-east-1.amazonaws.com"
    assert all(address in network.cidr for address in names.inside[sqs])
    assert not any(address in network.cidr for address in names.outside[sqs])
    assert names.outside["api.example.com"] == names.inside["api.example.com"]
    assert len(names.outside["api.example.com"]) == 2


def test_a_neighbour_gets_a_free_address() -> None:
    network = with_neighbour(lab_of({"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16"})[0])
    addresses = [interface.address for interface in network.interfaces]
    assert len(set(addresses)) == len(addresses)
    assert worlds.NEIGHBOUR in plan(network).namespaces


def test_variables_get_what_only_aws_would_know() -> None:
    properties = {"Environment": {"Variables": {"A": Symbol("Api.example.com"), "B": "Api", "C": Symbol("Q"), "D": ""}}}
    values, variables = {"Api": "abc", "Q": "url"}, {"D": "put in"}
    assert environment("F", properties, values=values, variables=variables) == {
        "A": "abc.example.com",
        "B": "Api",  # no reference: it says so
        "C": "url",
        "D": "",  # what the template leaves empty stays so
    }


def test_a_variable_without_a_value_is_named() -> None:
    with pytest.raises(ProgramCannotRun, match=r"^F A: the lab has no value for Table\.Arn$"):
        filled("F A", Symbol("Table.Arn"), {"Api": "abc"})


def test_every_function_of_every_topology_gets_an_environment() -> None:
    """Nothing that the templates refer to is left without a value."""
    published = {"EGRESS_ADDRESSES": f"us-east-1a={FIRST}", "EGRESS_ZONE_IDS": "us-east-1a=use1-az4"}
    for combination in (combination for combination in combinations() if combination.refused is None):
        network, rendered = lab_of(combination.parameters)
        arns = dict.fromkeys(rendered.of_type("AWS::SecretsManager::Secret"), "arn:aws:secretsmanager")
        values = stand_ins(arns, dict.fromkeys(rendered.of_type("AWS::SQS::Queue"), "https://sqs"))
        for name in {interface.owner for interface in network.interfaces if interface.kind == "function"}:
            variables = environment(name, rendered.resources[name]["Properties"], values=values, variables=published)
            assert not any(
                address in text for text in variables.values() for address in ("Database.", "Network.", "Api.")
            )


def test_rds_proxy_is_refused_by_name() -> None:
    network, rendered = lab_of({"DatabaseProxy": "yes", "DatabaseMinCapacity": "0.5"})
    with pytest.raises(ProgramCannotRun, match="RDS Proxy"):
        writer(network, rendered)


def test_certificates_are_good_for_their_names_and_no_others(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("one", ["one.example.com"])
    assert certificate.key.stat().st_mode & 0o077 == 0
    assert _handshake(authority, certificate.server(), "one.example.com") == "one.example.com"
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(authority, certificate.server(), "two.example.com")


def _handshake(authority: Authority, server: ssl.SSLContext, name: str) -> str:
    """A handshake in memory; returns the name that the certificate shows."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client().wrap_bio(to_client, to_server, server_hostname=name)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for end in (client, other):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = client.getpeercert() or {}
    names: Any = shown["subjectAltName"]
    return str(names[0][1])


def test_an_empty_cluster_is_kept_for_the_next_lab_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept" / "cluster"
    monkeypatch.setattr(databases, "_KEPT", kept)
    assert databases.prepared(tmp_path / "first") == tmp_path / "first" / "cluster"
    assert databases.prepared(tmp_path / "second") == kept
    assert (kept / "data" / "PG_VERSION").read_text() == "17\n"
    assert list(kept.parent.iterdir()) == [kept]


def test_sources_run_where_there_is_no_package() -> None:
    assert code(["NoSuchFunction"]).description == "src (there is no built package)"
    assert code(["NoSuchFunction"]).directory("NoSuchFunction").name == "src"
