"""Mutants: plans with one deliberate mistake each. The comparison with the oracle must detect every one of them.

The mistakes are plausible ones: filters in the wrong order, a missing filter, a Linux default that AWS does not share.
A mutant that no comparison detects would mean that the comparison does not look there.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from lab.model.checkpoints import Checkpoint
from lab.plan.parts import (
    FIRST_TABLE,
    INTERNET,
    NOWHERE,
    ROUTER,
    ROUTER_ADDRESS,
    VPN,
    Chain,
    FilterRule,
    LinuxRoute,
    Lookup,
    NamedSet,
    Plan,
    PlanMutation,
    Ruleset,
)
from stack.network.model import ANYWHERE

_ESTABLISHED = "ct state established,related"


# ---- Tools


def _filters(plan: Plan, where: Callable[[str], bool], change: Callable[[Chain], Iterable[FilterRule]]) -> Plan:
    """The plan with the chains of some namespaces changed."""
    return replace(
        plan,
        rulesets=tuple(
            replace(ruleset, chains=tuple(replace(chain, filters=tuple(change(chain))) for chain in ruleset.chains))
            if where(ruleset.namespace)
            else ruleset
            for ruleset in plan.rulesets
        ),
    )


def _at(*namespaces: str) -> Callable[[str], bool]:
    return lambda namespace: namespace in namespaces


def _at_nat(namespace: str) -> bool:
    return namespace.startswith("nat-")


def _without(plan: Plan, where: Callable[[str], bool], unwanted: Callable[[FilterRule], bool]) -> Plan:
    return _filters(plan, where, lambda chain: [rule for rule in chain.filters if not unwanted(rule)])


def _of(checkpoint: Checkpoint) -> Callable[[FilterRule], bool]:
    return lambda rule: rule.cause is not None and rule.cause.checkpoint == checkpoint and rule.action == "refuse"


def _sets(plan: Plan, change: Callable[[Ruleset], tuple[NamedSet, ...]]) -> Plan:
    rulesets = tuple(
        replace(ruleset, sets=change(ruleset)) if ruleset.namespace == ROUTER else ruleset for ruleset in plan.rulesets
    )
    return replace(plan, rulesets=rulesets)


# ---- Mutants


def established_before_nacls(plan: Plan) -> Plan:
    """Network ACLs as if they kept state."""

    def change(chain: Chain) -> list[FilterRule]:
        first = [rule for rule in chain.filters if rule.match == _ESTABLISHED]
        return first + [rule for rule in chain.filters if rule not in first]

    return _filters(plan, _at(ROUTER), change)


def no_source_check(plan: Plan) -> Plan:
    """Anyone sends as anyone."""
    return _without(plan, _at(ROUTER), _of(Checkpoint.SOURCE))


def nat_passes_strangers(plan: Plan) -> Plan:
    """What Linux does by itself: packets of no connection go on untranslated."""
    return _without(plan, _at_nat, lambda rule: rule.match == "ct state invalid")


def nat_takes_connections(plan: Plan) -> Plan:
    """A NAT gateway that answers, if only with a reset."""
    return _filters(plan, _at_nat, lambda chain: () if chain.name == "to_itself" else chain.filters)


def members_of_the_next_group(plan: Plan) -> Plan:
    """Security groups whose members are those of another one."""

    def change(ruleset: Ruleset) -> tuple[NamedSet, ...]:
        groups = [named_set for named_set in ruleset.sets if named_set.name.startswith("group_")]
        moved = [replace(group, elements=groups[place - 1].elements) for place, group in enumerate(groups)]
        return (*moved, *(named_set for named_set in ruleset.sets if named_set not in groups))

    return _sets(plan, change)


def nacls_within_subnets(plan: Plan) -> Plan:
    """Network ACLs between neighbours."""

    def change(rule: FilterRule) -> FilterRule:
        inside = rule.match.startswith(("iifname @subnet", "oifname @subnet"))
        return replace(rule, match=" ".join(rule.match.split()[:2])) if inside else rule

    return _filters(plan, _at(ROUTER), lambda chain: [change(rule) for rule in chain.filters])


def no_inbound_nacls(plan: Plan) -> Plan:
    """Network ACLs applied only where a packet leaves a subnet."""
    return _without(plan, _at(ROUTER), lambda rule: rule.match.startswith("oifname @subnet"))


def highest_number_first(plan: Plan) -> Plan:
    """The entries of network ACLs from behind."""

    def change(chain: Chain) -> tuple[FilterRule, ...]:
        return (*chain.filters[-2::-1], chain.filters[-1]) if chain.name.startswith("nacl_") else chain.filters

    return _filters(plan, _at(ROUTER), change)


def groups_keep_no_state(plan: Plan) -> Plan:
    """Security groups that ask about answers too."""
    return _without(plan, _at(ROUTER), lambda rule: rule.match == _ESTABLISHED)


def no_outbound_groups(plan: Plan) -> Plan:
    """Senders whose groups nobody asks."""
    return _without(plan, _at(ROUTER), lambda rule: rule.match.startswith("iifname vmap"))


def no_inbound_groups(plan: Plan) -> Plan:
    """Receivers whose groups nobody asks."""
    return _without(plan, _at(ROUTER), lambda rule: rule.match.startswith("oifname vmap"))


def no_local_route(plan: Plan) -> Plan:
    """Packets to a neighbour that follow the default route."""
    return replace(plan, routes=tuple(route for route in plan.routes if route.device is not None))


def no_blackholes(plan: Plan) -> Plan:
    """A route whose target is gone counts as if it were not there."""
    kept = (route for route in plan.routes if route.device != NOWHERE or route.destination == ANYWHERE)
    return replace(plan, routes=tuple(kept))


def edge_to_edge(plan: Plan) -> Plan:
    """The VPN leads through the VPC to wherever its first route table does."""
    if VPN not in plan.namespaces:
        return plan
    plan = _without(plan, _at(VPN), lambda rule: rule.match.startswith('iifname != "vpc"'))
    routes = [route for route in plan.routes if (route.namespace, route.device) != (VPN, NOWHERE)]
    routes.append(LinuxRoute(namespace=VPN, destination=ANYWHERE, device="vpc", gateway=ROUTER_ADDRESS))
    through = Lookup(namespace=ROUTER, priority=1000, device="vpn", table=FIRST_TABLE)
    return replace(plan, routes=tuple(routes), lookups=(*plan.lookups, through))


def everyone_has_a_public_address(plan: Plan) -> Plan:
    """The internet gateway forwards packets that it cannot translate."""
    return _without(plan, _at(INTERNET), _of(Checkpoint.GATEWAY))


def private_addresses_on_the_internet(plan: Plan) -> Plan:
    """The internet delivers to private addresses."""
    return _without(plan, _at(INTERNET), lambda rule: rule.match.startswith("ip daddr 10."))


def no_gateway_endpoint(plan: Plan) -> Plan:
    """What goes to the service goes by the NAT gateway."""
    routes = (route for route in plan.routes if route.namespace != ROUTER or not (route.device or "").startswith("s"))
    return replace(plan, routes=tuple(routes))


def silent_refusals(plan: Plan) -> Plan:
    """Security groups that refuse without a record: the packet is lost, and nobody knows to what."""

    def change(rule: FilterRule) -> FilterRule:
        return FilterRule(match=rule.match, action="drop") if _of(Checkpoint.GROUP_IN)(rule) else rule

    return _filters(plan, _at(ROUTER), lambda chain: [change(rule) for rule in chain.filters])


MUTANTS: tuple[PlanMutation, ...] = (
    established_before_nacls,
    no_source_check,
    nat_passes_strangers,
    nat_takes_connections,
    members_of_the_next_group,
    nacls_within_subnets,
    no_inbound_nacls,
    highest_number_first,
    groups_keep_no_state,
    no_outbound_groups,
    no_inbound_groups,
    no_local_route,
    no_blackholes,
    edge_to_edge,
    everyone_has_a_public_address,
    private_addresses_on_the_internet,
    no_gateway_endpoint,
    silent_refusals,
)
