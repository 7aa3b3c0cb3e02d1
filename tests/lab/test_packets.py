"""The lab with packets: it agrees with the oracle, detects mutants, says what it saw and lets nothing out."""

import socket
import sys
from collections.abc import Mapping
from typing import Any

from lab.fuzz.comparison import NOBODY_OUTSIDE, compare
from lab.fuzz.mutants import MUTANTS, no_inbound_groups, silent_refusals
from lab.fuzz.shrinker import smallest
from lab.kernel.apply import applied
from lab.kernel.probe import attempts, let_by, probe
from lab.model.attempts import Arrived, Died, Unexplained
from lab.model.checkpoints import Checkpoint
from lab.model.outside import PARTNER
from lab.plan.build import plan
from tests.support.enclosed import finished, inside
from tests.support.networks import BASTION, DATABASE, FIXED, FUNCTION, small_network

# ---- Agreement


def test_packets_and_oracle_agree_on_random_networks() -> None:
    output = finished([sys.executable, "-m", "lab.fuzz", "--n", "10"]).stdout
    assert "10 networks" in output, output
    assert " 0 disagreements" in output, output
    assert "unexplained" not in output, output


def test_every_mutant_of_a_plan_is_detected() -> None:
    output = finished([sys.executable, "-m", "lab.fuzz", "--mutants", "--n", "25", "--seed", "1"]).stdout
    assert output.count(": detected in network") == len(MUTANTS), output


def test_a_disagreement_is_made_small() -> None:
    seen = inside(_shrunk)
    assert seen["interfaces"] <= 2
    assert seen["rules"] == 0
    assert seen["packets"].startswith("Arrived")


def _shrunk() -> Mapping[str, Any]:
    """With a plan that asks no receivers, the database lets everyone in."""
    network = small_network()
    tried = attempts([("bastion", DATABASE, 5432)])
    (disagreement,) = compare(network, tried, mutate=no_inbound_groups)[1]
    less, still = smallest(network, disagreement, mutate=no_inbound_groups)
    rules = sum(len(group.ingress) for group in less.security_groups) + len(less.nat_gateways) + len(less.nacls)
    return {"interfaces": len(less.interfaces), "rules": rules, "packets": str(still.packets)}


# ---- What is seen


def test_the_lab_tells_who_arrived_as_whom_and_which_rule_let_them() -> None:
    seen = inside(_sights)
    refused = Died(
        checkpoint=Checkpoint.GROUP_IN, resource="database-group", detail="no rule allows it", direction="out"
    )
    assert seen["results"] == [str(Arrived(seen_as=FIXED)), str(Arrived(seen_as=FUNCTION)), str(refused)]
    assert seen["ledger"] == [[str(FIXED), str(PARTNER.address)]]
    assert seen["drops"] == [["database-group", str(BASTION)]]
    assert seen["passes"] == [
        ["function-group: all out"],
        [
            "database-group: from functions",
            "database-nacl: in 100",
            "database-nacl: out 100",
            "function-group: all out",
        ],
        ["bastion-group: all out", "database-nacl: in 100"],
    ]


def _sights() -> Mapping[str, Any]:
    with applied(plan(small_network())) as lab:
        tried = attempts(
            [("function", PARTNER.address, 443), ("function", DATABASE, 5432), ("bastion", DATABASE, 5432)]
        )
        results = probe(lab, tried)
        return {
            "results": [str(results[attempt]) for attempt in tried],
            "ledger": sorted([str(source), str(to)] for source, to in lab.ledger()),
            "passes": [
                sorted(f"{by.resource}: {by.detail}" for by in let_by(attempt, lab.passes())) for attempt in tried
            ],
            "drops": [[record.cause.resource, str(record.source)] for record in lab.drops()],
        }


def test_a_packet_that_is_lost_without_a_record_is_no_evidence() -> None:
    assert inside(_lost) == str(Unexplained(reason="no answer and no record within 0.3 s"))


def _lost() -> str:
    with applied(silent_refusals(plan(small_network()))) as lab:
        (tried,) = attempts([("bastion", DATABASE, 5432)])
        return str(probe(lab, [tried], timeout_seconds=0.3)[tried])


# ---- Nothing gets out


def test_no_namespace_has_a_device_that_is_not_of_the_plan() -> None:
    assert inside(_strange_devices) == []


def _strange_devices() -> list[str]:
    made = plan(small_network())
    known = {(link.near, link.near_device) for link in made.links} | {
        (link.far, link.far_device) for link in made.links
    }
    strange = []
    with applied(made) as lab:
        for name in made.namespaces:
            with lab.inside(name):
                strange += [(name, device) for _, device in socket.if_nameindex() if (name, device) not in known]
    fallbacks = {"lo", "sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"}
    return [f"{name}: {device}" for name, device in strange if device not in fallbacks]


def test_packets_to_the_real_internet_die_in_the_lab() -> None:
    results = inside(_abroad)
    assert set(results.values()) == {
        str(
            Died(
                checkpoint=Checkpoint.INTERNET, resource="internet", detail="no host has this address", direction="out"
            )
        )
    }


def _abroad() -> Mapping[str, str]:
    with applied(plan(small_network())) as lab:
        tried = attempts([(name, NOBODY_OUTSIDE, 443) for name in ("function", "web", "partner", "attacker")])
        return {attempt.source: str(result) for attempt, result in probe(lab, tried).items()}
