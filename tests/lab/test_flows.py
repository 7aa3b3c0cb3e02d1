"""The picture of a run tells few kinds of connections, in plain words and where each ended.

The results are the oracle's, with which the packets agree (test_own_templates.py); so these tests need no namespaces.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import pytest

from lab.kernel.probe import attempts
from lab.model.attempts import Arrived, Died, PacketResult, Unexplained
from lab.model.case import Case
from lab.model.checkpoints import Checkpoint
from lab.oracle import Oracle
from lab.proofs import mutations
from lab.proofs.assertions import Assertion, ConnectionSpec, Scenario
from lab.proofs.catalogue import PROOFS, Assumption, Proof, as_it_is
from lab.proofs.runner import AssertionResult, Evidence, ProofResult, TriedConnection
from lab.report.picture import MOST, PictureEntries, entries_of, picture
from lab.sources.templates import cases
from stack.diagram.badges import Flow
from stack.network.model import Network
from stack.network.serialize import renamed
from tests.support.pictures import badges, outside, overlaps, texts

CASES = {case.name: case for case in cases("", "")}


@cache
def evidence_of(name: str) -> Evidence:
    """Of all proofs that apply to a design, on the networks that they assume."""
    return evidence(CASES[name], lambda proof, network: proof.assumptions(network))


def evidence(case: Case, networks: Callable[[Proof, Network], Iterable[Assumption]]) -> Evidence:
    """Of all proofs that apply, on `networks`."""
    scenario, judged = Scenario(case), _Judged(case)
    proofs = tuple(
        ProofResult(
            proof=proof,
            skipped=None,
            assertions=tuple(_results(case, networks(proof, case.network), proof.assertions, judged)),
        )
        for proof in PROOFS
        if proof.unless(scenario) is None
    )
    return Evidence(case=case, proofs=proofs, tried=0, disagreements=())


def unchanged(_: Proof, network: Network) -> Iterable[Assumption]:
    """The network as it is, which is what pictures show."""
    return as_it_is(network)


class _Judged:
    """The oracle's results, each worked out once: many proofs try the same connections in the same network."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._results: dict[tuple[Network, ConnectionSpec], PacketResult] = {}

    def results(self, network: Network, connections: Sequence[ConnectionSpec]) -> dict[ConnectionSpec, PacketResult]:
        new = [connection for connection in connections if (network, connection) not in self._results]
        oracle = Oracle(network, Scenario(self._case, network).around)
        for connection, attempt in zip(new, attempts(new), strict=True):
            self._results[network, connection] = oracle.judge(attempt)
        return {connection: self._results[network, connection] for connection in connections}


def _results(
    case: Case,
    assumptions: Iterable[Assumption],
    assertions: Callable[[Scenario], Iterable[Assertion]],
    judged: _Judged,
) -> Iterable[AssertionResult]:
    for assumption in assumptions:
        told = assertions(Scenario(case, assumption.network, assumption.zone))
        for assertion in (assertion for assertion in told if not assertion.by_class):  # no picture has the others
            yield AssertionResult(
                sentence=assertion.sentence,
                assumption=assumption.description,
                connections=tuple(_connections(assertion, judged.results(assumption.network, assertion.connections))),
                strangers=(),
            )


def _connections(assertion: Assertion, results: Mapping[ConnectionSpec, PacketResult]) -> Iterable[TriedConnection]:
    for (source, destination, port, *_), result in results.items():
        yield TriedConnection(
            source=source,
            destination=destination,
            port=port,
            result=result,
            let_by=(),
            as_claimed=assertion.arrives in {None, isinstance(result, Arrived)},
        )


@cache
def entries(name: str) -> PictureEntries:
    return entries_of(evidence_of(name))


def changed(name: str, change: Callable[[Network], Network | None]) -> Evidence:
    case = CASES[name]
    network = change(case.network)
    assert network is not None
    return evidence(replace(case, network=network), unchanged)


def only(flows: Iterable[Flow], who: str, whom: str) -> Flow:
    (flow,) = [flow for flow in flows if (flow.who, flow.whom) == (who, whom)]
    return flow


@pytest.mark.parametrize("name", CASES)
def test_the_picture_of_every_design_can_be_read(name: str) -> None:
    drawn = picture(evidence_of(name))
    assert overlaps(drawn) == []
    assert outside(drawn) == []
    assert len(badges(drawn)) >= 2 * len(entries(name).flows)
    assert not [words for words in texts(drawn) if "Network." in words or "Function/" in words]


@pytest.mark.parametrize("name", CASES)
def test_few_entries_tell_every_stage_that_refused_something_and_all_that_arrived(name: str) -> None:
    shown = entries(name)
    assert 5 < len(shown.flows) <= MOST
    connections = [
        connection
        for proof in evidence_of(name).proofs
        for assertion in proof.assertions
        if not assertion.assumption and not assertion.by_class
        for connection in assertion.connections
    ]
    arrived = {_spec(connection) for connection in connections if isinstance(connection.result, Arrived)}
    assert sum(flow.tried for flow in shown.flows if flow.arrived) == len(arrived)
    checkpoints = {connection.result.checkpoint for connection in connections if isinstance(connection.result, Died)}
    outcomes = " ".join(flow.became for flow in shown.flows)
    assert [checkpoint for checkpoint in checkpoints if f"the {checkpoint}:" not in outcomes] == []
    assert shown.tried == len(set(map(_spec, connections)))


def _spec(connection: TriedConnection) -> ConnectionSpec:
    return connection.source, connection.destination, connection.port


def test_alike_ones_are_one_entry_with_their_ports_and_their_number() -> None:
    flow = only(entries("public-private-per-az").flows, "the internet", "the database")
    assert flow.ports == (22, 443, 5432)
    assert flow.tried == 18
    assert flow.became == "died at the internet: private addresses are not routed"
    assert (flow.at, flow.by, flow.arrived) == (("internet",), "the internet", False)


def test_who_arrived_is_told_with_the_address_it_was_seen_as() -> None:
    arrived = [flow for flow in entries("public-private-per-az").flows if flow.whom == "a third party" and flow.arrived]
    assert [(flow.became, flow.by) for flow in arrived] == [
        ("arrived, seen as 203.0.113.10", "NatGatewayA"),
        ("arrived, seen as 203.0.113.11", "NatGatewayB"),
    ]
    assert [flow.who.rpartition(" in ")[2] for flow in arrived] == list(CASES["public-private-per-az"].network.zones)
    (users,) = [flow for flow in entries("public-private-per-az").flows if flow.whom == "the database" and flow.arrived]
    assert users.became == "arrived, seen as their own addresses in 10.64.4.0/24 and 10.64.5.0/24"


def test_a_refusal_stands_at_what_refused_it() -> None:
    flows = entries("public-private-per-az").flows
    outward = only(flows, "authorize, admin", "a third party")
    assert {place.partition("/")[0] for place in outward.at} == {"AuthorizeFunction", "AdminFunction"}
    assert outward.by == "DatabaseClientSecurityGroup"
    assert only(flows, "the internet", "a fixed address").at == ("Network.NatGatewayA", "Network.NatGatewayB")
    assert only(flows, "the database", "a third party").at == ("routes of Network.DatabaseSubnetA",)
    assert only(flows, "every function", "the database").at == ("network ACL of Network.DatabaseSubnetA",)


def test_an_answer_that_dies_stands_where_it_died() -> None:
    mutated = changed("public-private-single", mutations.acl_without_answers)
    flow = next(flow for flow in entries_of(mutated).flows if "the answer" in flow.became)
    assert flow.became == f"the answer died at the {Checkpoint.NACL_OUT}: no entry allows it, which must not happen"
    assert flow.at == ("network ACL of Network.DatabaseSubnetA",)


def test_what_must_not_be_is_told_before_all_else() -> None:
    mutated = changed("internet-accessible-single", mutations.everything_opened)
    assert any(
        flow.who == "the internet" and flow.became.endswith("which must not happen")
        for flow in entries_of(mutated).flows
    )
    assert overlaps(picture(mutated)) == []


@pytest.mark.parametrize("name", ["public-private-per-az", "on-premises-single-people", "internal-only-single-people"])
def test_the_picture_of_a_mutated_network_can_be_read_too(name: str) -> None:
    controls = [control for proof in PROOFS for control in proof.controls]
    networks = {changed for control in controls if (changed := control.change(CASES[name].network)) is not None}
    assert len(networks) > 5
    for network in networks:
        drawn = picture(evidence(replace(CASES[name], network=network), unchanged))
        assert (overlaps(drawn), outside(drawn)) == ([], [])


def test_a_network_of_aws_is_drawn_under_the_names_of_the_templates() -> None:
    case = CASES["public-private-per-az"]
    network = case.network
    known = [subnet.id for subnet in network.subnets] + [nat.id for nat in network.nat_gateways]
    known += [group.id for group in network.security_groups] + [nacl.id for nacl in network.nacls]
    known += [table.id for table in network.route_tables]
    ids = {name: f"id-{number}" for number, name in enumerate(known)}
    owners = {interface.owner: f"lab-{interface.owner}" for interface in case.network.interfaces}
    aws = {**ids, **owners, case.network.vpc: "vpc-1"}
    deployed = replace(
        case, network=renamed(case.network, aws), names={identity: address for address, identity in aws.items()}
    )
    assert picture(evidence(deployed, unchanged)) == picture(evidence(case, unchanged))


def test_what_is_unexplained_is_counted() -> None:
    whole = evidence_of("public-private-single")
    proof = whole.proofs[0]
    assertion = proof.assertions[0]
    unclear = tuple(replace(connection, result=Unexplained(reason="nothing")) for connection in assertion.connections)
    first = replace(proof, assertions=(replace(assertion, connections=unclear),))
    assert f"{len(unclear)} are unexplained" in entries_of(replace(whole, proofs=(first,))).note
