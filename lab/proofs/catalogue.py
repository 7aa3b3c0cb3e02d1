"""What must be shown of every network that the templates offer, and what would make each proof fail.

A proof is a function that yields sentences. Its expectations come from the parameters (what the design promises) and
from stack/functions.py (what each function is for), never from the network that it is about. To add one, write a
function with @proof below: see docs/lab.md, "Add a proof".
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from lab.model.assumptions import REGIONAL_LOSS
from lab.model.checkpoints import Checkpoint
from lab.plan.parts import Plan
from lab.proofs import mutations
from lab.proofs.assertions import PARTNER_PORTS, Assertion, HostGroup, Scenario, union
from lab.proofs.mutations import Mutation, description_of
from stack.capabilities import Capabilities, capabilities
from stack.functions import CALLERS, DATABASE_USERS, STAY_INSIDE
from stack.network.model import POSTGRESQL, Network

HTTPS, SSH = 443, 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """A network that a proof assumes. `description` is empty where nothing was changed; `zone` is the lost one."""

    description: str
    network: Network
    zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A change that must make the proof fail. `plan` changes what the lab makes, where no network could express it."""

    change: Mutation
    plan: Callable[[Network], Callable[[Plan], Plan]] | None = None

    @property
    def description(self) -> str:
        return description_of(self.change)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """`assertions` yields the sentences for one network; `assumptions` the networks to prove them of, from the case's.

    `unless` says why the proof does not apply to a design, or returns None where it does.
    """

    group: int
    name: str
    title: str
    assertions: Callable[[Scenario], Iterator[Assertion]]
    assumptions: Callable[[Network], Sequence[Assumption]]
    unless: Callable[[Scenario], str | None]
    controls: tuple[Control, ...]


PROOFS: list[Proof] = []


def as_it_is(network: Network) -> Sequence[Assumption]:
    """Nothing changed."""
    return (Assumption(description="", network=network),)


def always(_: Scenario) -> str | None:
    """Of every design."""
    return None


def proof(
    group: int,
    *controls: Mutation | Control,
    assuming: Callable[[Network], Sequence[Assumption]] = as_it_is,
    unless: Callable[[Scenario], str | None] = always,
) -> Callable[[Callable[[Scenario], Iterator[Assertion]]], Callable[[Scenario], Iterator[Assertion]]]:
    """Add the function to the proofs. The first line of its docstring is the title; each control must make it fail."""

    def added(assertions: Callable[[Scenario], Iterator[Assertion]]) -> Callable[[Scenario], Iterator[Assertion]]:
        title = description_of(assertions).splitlines()[0]
        known = tuple(control if isinstance(control, Control) else Control(change=control) for control in controls)
        name = assertions.__name__
        PROOFS.append(
            Proof(
                group=group,
                name=name,
                title=title,
                assertions=assertions,
                assumptions=assuming,
                unless=unless,
                controls=known,
            )
        )
        return assertions

    return added


# ---- What a design promises


def promised(lab: Scenario) -> Capabilities:
    return capabilities(lab.parameters)


def has_no_internet(lab: Scenario) -> str | None:
    return None if promised(lab).has_internet else "the design has no way to the internet"


def has_internet(lab: Scenario) -> str | None:
    return "the design has a way to the internet" if promised(lab).has_internet else None


def has_public_database(lab: Scenario) -> str | None:
    return "the design leads from the database to developers" if promised(lab).public_database else None


def has_no_vpn(lab: Scenario) -> str | None:
    return None if promised(lab).has_vpn else "the design has no VPN"


def has_no_vpn_or_internet(lab: Scenario) -> str | None:
    return has_no_vpn(lab) or has_no_internet(lab)


def has_one_nat(lab: Scenario) -> str | None:
    if lab.parameters["Egress"] == "single":
        return "Egress is single: both zones leave by one NAT gateway, and its loss takes both"
    return has_no_internet(lab)


def people(lab: Scenario) -> list[HostGroup]:
    """Who else may open the database, by what the parameters say."""
    asked = {
        lab.bastion: lab.parameters.get("Bastion") == "yes",
        lab.corporate: lab.parameters.get("CorporateDatabaseAccess") == "yes",
        lab.developer: bool(lab.parameters.get("DeveloperCidr")),
    }
    return [group for group, is_asked in asked.items() if is_asked]


def _as_assumed(network: Network) -> str:
    """What the loss of a zone does to a regional NAT gateway is an assumption, and is told as one."""
    is_regional = any(nat.subnet is None for nat in network.nat_gateways)
    return f" (an assumption, not a fact: {REGIONAL_LOSS})" if is_regional else ""


def zones_lost(network: Network) -> Sequence[Assumption]:
    return tuple(
        Assumption(
            description=f"what serves {zone} is gone{_as_assumed(network)}",
            network=mutations.without_nat_in(zone)(network),
            zone=zone,
        )
        for zone in network.zones
    )


def newcomers(network: Network) -> Sequence[Assumption]:
    return (
        Assumption(description=description_of(mutations.with_newcomers), network=mutations.with_newcomers(network)),
    )


def with_listeners_all_around(network: Network) -> Sequence[Assumption]:
    changed = mutations.with_listeners_all_around(network)
    return (Assumption(description=description_of(mutations.with_listeners_all_around), network=changed),)


def database_may_call(network: Network) -> Sequence[Assumption]:
    changed = mutations.database_calls_out(network)
    return (Assumption(description=description_of(mutations.database_calls_out), network=changed),)


def one_protection_left(network: Network) -> Sequence[Assumption]:
    return tuple(Assumption(description=opened, network=changed) for opened, changed in mutations.all_but_one(network))


def without_answers_in_the_acl(network: Network) -> Sequence[Assumption]:
    changed = mutations.acl_without_answers(network)
    return (Assumption(description=description_of(mutations.acl_without_answers), network=changed or network),)


def without_answers_in_the_groups(network: Network) -> Sequence[Assumption]:
    changed = mutations.groups_without_answers(network)
    return (Assumption(description=description_of(mutations.groups_without_answers), network=changed),)


# ---- 1. The database


@proof(1, mutations.everything_opened, mutations.users_forgotten)
def only_its_users_open_the_database(lab: Scenario) -> Iterator[Assertion]:
    """The database opens for those who are meant to use it, and for nobody else."""
    functions = lab.called("the functions that use it", DATABASE_USERS)
    yield functions.reaches(lab.database.privately, POSTGRESQL)
    for user in people(lab):
        yield user.reaches(lab.database.publicly if user is lab.developer else lab.database.privately, POSTGRESQL)
    yield lab.internet.cannot_reach(lab.database, POSTGRESQL)
    nobody_else = lab.everyone.without(lab.internet, functions, *people(lab), name="everyone else (inside, corporate)")
    yield nobody_else.cannot_reach(lab.database, POSTGRESQL)
    yield lab.strangers.cannot_reach(lab.database, lab.every_port)
    if lab.parameters.get("CorporateDatabaseAccess") != "yes" and lab.corporate_strangers.hosts:
        yield lab.corporate_strangers.cannot_reach(lab.database, lab.every_port)
    if lab.developer in people(lab):
        yield lab.developer_strangers.reaches(lab.database.publicly, lab.every_port.only(POSTGRESQL))


@proof(1, mutations.database_listens_to_all_ports, mutations.database_listens_to_all_protocols)
def the_database_has_no_other_port(lab: Scenario) -> Iterator[Assertion]:
    """The database can be reached on no port but 5432, by its users neither, and by no protocol but TCP."""
    yield lab.everyone.cannot_reach(lab.database, SSH, HTTPS)
    everybody = union("anyone inside or outside of the VPC", [lab.everyone, lab.named_strangers, lab.strangers])
    yield everybody.cannot_reach(lab.database, lab.every_port.but(POSTGRESQL))


@proof(1, mutations.database_calls_out, assuming=with_listeners_all_around)
def the_database_calls_nobody(lab: Scenario) -> Iterator[Assertion]:
    """The database opens no connection, whatever its routes and access lists allow and whoever would answer it."""
    listeners = union("anyone who would answer", [lab.newcomers, lab.partner, lab.strangers, lab.named_strangers])
    yield lab.database.cannot_reach(listeners, lab.every_port, checkpoint=Checkpoint.GROUP_OUT)


@proof(1, mutations.database_led_out, assuming=database_may_call, unless=has_public_database)
def the_database_has_no_way_out(lab: Scenario) -> Iterator[Assertion]:
    """The database's subnets lead to nobody outside of the VPC who may not open it, whatever its group allows."""
    let_in = people(lab)
    if lab.corporate in let_in:
        let_in += [lab.corporate_strangers]
    others = lab.all_outside.without(*let_in, name="anyone outside of the VPC who may not open it")
    yield lab.database.cannot_reach(others, lab.every_port)


@proof(1, mutations.everything_opened, assuming=one_protection_left)
def one_protection_is_enough(lab: Scenario) -> Iterator[Assertion]:
    """Each of the database's protections alone keeps the internet out, with all others opened by mistake."""
    yield lab.internet.cannot_reach(lab.database, POSTGRESQL)


@proof(1, mutations.group_opened_to_the_vpc, assuming=newcomers)
def a_newcomer_cannot_open_the_database(lab: Scenario) -> Iterator[Assertion]:
    """Whoever is put into any subnet of the VPC cannot open the database by standing there."""
    yield lab.newcomers.cannot_reach(lab.database, POSTGRESQL)
    yield lab.newcomers.cannot_reach(lab.database, lab.every_port)


# ---- 2. The fixed address


@proof(
    2,
    mutations.unpublished_address,
    mutations.straight_to_the_gateway,
    mutations.functions_with_public_addresses,
    mutations.a_range_led_to_the_vpn,
    mutations.another_range_led_to_the_vpn,
    unless=has_no_internet,
)
def partners_see_only_the_fixed_addresses(lab: Scenario) -> Iterator[Assertion]:
    """Those who may call partners reach them, and partners see the published addresses and no other."""
    yield lab.partner.sees_only(lab.published)
    yield lab.partner.sees_only(lab.published, lab.every_port)
    yield lab.strangers.sees_only(lab.published, lab.every_port)
    for zone in lab.network.zones:
        callers = lab.in_zone(lab.called("the functions that call out", CALLERS), zone)
        yield callers.reaches(lab.partner, HTTPS, seen_as=lab.published_in(zone))
        yield callers.reaches(lab.strangers, HTTPS, seen_as=lab.published_in(zone))
    stay = lab.called("the functions that only use the database", STAY_INSIDE)
    yield stay.cannot_reach(lab.partner, HTTPS)
    yield lab.database.cannot_reach(lab.partner, HTTPS)
    for group in (stay, lab.database):
        yield group.cannot_reach(lab.all_outside, lab.every_port)


@proof(2, mutations.functions_may_call_all_ports, unless=has_no_internet)
def only_ports_of_partners_lead_out(lab: Scenario) -> Iterator[Assertion]:
    """Nobody in the VPC reaches anyone outside on other ports than partners', by UDP or by ICMP."""
    yield lab.kinds.cannot_reach(lab.all_outside, lab.every_port.but(*PARTNER_PORTS))


@proof(2, mutations.everything_opened, mutations.database_listens_to_the_world)
def the_internet_reaches_nothing(lab: Scenario) -> Iterator[Assertion]:
    """Nobody on the internet reaches anything in the VPC, the fixed addresses included."""
    yield lab.internet.cannot_reach(lab.inside, SSH, HTTPS, POSTGRESQL)
    yield lab.internet.cannot_reach(lab.kinds, lab.every_port)
    yield lab.strangers.cannot_reach(lab.kinds, lab.every_port)
    if promised(lab).has_internet:
        yield lab.internet.cannot_reach(lab.fixed_addresses, HTTPS, POSTGRESQL)
        yield lab.strangers.cannot_reach(lab.fixed_addresses, lab.every_port)


@proof(2, mutations.functions_listen, assuming=newcomers)
def nobody_reaches_a_function(lab: Scenario) -> Iterator[Assertion]:
    """Nobody, inside or outside of the VPC, opens a connection to a function, to the bastion or to a free address."""
    alike = set(lab.kinds.hosts)
    callers = union("a function or the bastion", [*lab.functions.values(), lab.bastion])
    some = replace(callers, addresses=tuple(pair for pair in callers.addresses if pair[0] in alike))
    everybody = union("anyone inside or outside", [lab.kinds, lab.named_strangers, lab.strangers, lab.corporate])
    yield everybody.cannot_reach(some, lab.every_port)
    yield everybody.cannot_reach(lab.nobody, lab.every_port)
    for service, endpoint in lab.endpoints.items():
        if endpoint.hosts and service != "execute-api":  # the private API is for callers in the VPC
            yield lab.newcomers.cannot_reach(endpoint, lab.every_port)


# ---- 3. A zone is lost


@proof(3, mutations.one_nat_for_all, assuming=zones_lost, unless=has_one_nat)
def a_lost_nat_leaves_the_other_zone_alone(lab: Scenario) -> Iterator[Assertion]:
    """When the NAT gateway of a zone is lost, the other zone still leaves by its own published address."""
    for zone in lab.network.zones:
        callers = lab.in_zone(lab.called("the functions that call out", CALLERS), zone)
        if zone == lab.lost_zone:
            yield callers.cannot_reach(lab.partner, HTTPS)
        else:
            yield callers.reaches(lab.partner, HTTPS, seen_as=lab.published_in(zone))


# ---- 4. No way out


@proof(4, mutations.gateway_given_and_groups_opened, unless=has_internet)
def there_is_no_way_out(lab: Scenario) -> Iterator[Assertion]:
    """Nothing leaves the VPC for the internet, and the database still answers."""
    yield lab.nothing_leaves()
    yield lab.kinds.cannot_reach(lab.strangers, lab.every_port)
    yield lab.called("the functions", DATABASE_USERS).reaches(lab.database.privately, POSTGRESQL)


@proof(4, mutations.endpoints_forgotten, unless=has_internet)
def endpoints_stand_for_the_internet(lab: Scenario) -> Iterator[Assertion]:
    """What the functions need of AWS they reach at private addresses inside of the VPC."""
    for service in ("sqs", "secretsmanager"):
        yield lab.called("the functions that call out", CALLERS).reaches(lab.endpoints[service], HTTPS)


# ---- 5. The corporate network


@proof(5, mutations.corporate_let_in, mutations.vpn_forgotten, unless=has_no_vpn)
def the_vpn_leads_to_what_it_should(lab: Scenario) -> Iterator[Assertion]:
    """The corporate network reaches the private API (and the database where that is enabled) and nothing else."""
    open_ones = []
    if promised(lab).private_api:
        open_ones.append(lab.endpoints["execute-api"])
        yield lab.corporate.reaches(lab.endpoints["execute-api"], HTTPS)
    if lab.parameters.get("CorporateDatabaseAccess") == "yes":
        yield lab.corporate.reaches(lab.database, POSTGRESQL)
        yield lab.corporate.cannot_reach(lab.database, SSH, HTTPS)
        yield lab.corporate_strangers.reaches(lab.database, lab.every_port.only(POSTGRESQL))
        open_ones.append(lab.database)
    rest = lab.inside.without(*open_ones, name="anything else in the VPC")
    yield lab.corporate.cannot_reach(rest, SSH, HTTPS, POSTGRESQL)
    corporate = union("any corporate address", [lab.corporate, lab.corporate_strangers])
    yield corporate.cannot_reach(rest, lab.every_port)
    for group in open_ones:
        wanted = POSTGRESQL if group is lab.database else HTTPS
        yield corporate.cannot_reach(group, lab.every_port.but(wanted))


@proof(
    5, Control(change=mutations.routed_to_vpn_everywhere, plan=mutations.edge_to_edge), unless=has_no_vpn_or_internet
)
def the_vpn_leads_nowhere_beyond(lab: Scenario) -> Iterator[Assertion]:
    """The corporate network does not reach the internet by way of the VPC, nor the internet the corporate network."""
    yield lab.corporate.cannot_reach(lab.partner, HTTPS)
    yield lab.corporate.cannot_reach(lab.partner, lab.every_port)
    yield lab.corporate.cannot_reach(lab.internet, HTTPS)
    yield lab.internet.cannot_reach(lab.corporate, HTTPS)


# ---- 6. With and without state


@proof(6, mutations.acl_opened, assuming=without_answers_in_the_acl)
def an_acl_without_answers_cuts_everyone(lab: Scenario) -> Iterator[Assertion]:
    """A network ACL keeps no state: without entries for answers nobody gets one."""
    functions = lab.called("the functions that use the database", DATABASE_USERS)
    yield functions.cannot_reach(lab.database.privately, POSTGRESQL, checkpoint=Checkpoint.NACL_OUT, answer=True)


@proof(6, mutations.users_may_not_call, assuming=without_answers_in_the_groups)
def a_group_lets_answers_pass(lab: Scenario) -> Iterator[Assertion]:
    """A security group keeps state: without a rule for answers they pass, because the question was let through."""
    yield lab.called("the functions that use the database", DATABASE_USERS).reaches(lab.database.privately, POSTGRESQL)
