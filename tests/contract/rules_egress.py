"""What the egress check must be, in every choice of parameters. Each rule returns its faults in words; none is good."""

import json
from collections.abc import Iterator
from typing import Any

from domain.checks import LONGEST_AGE
from runtime.settings import EgressAddress, EgressSettings
from stack.functions import CALLERS, EGRESS_CHECKS, functions_where
from tests.contract.cases import Case, everywhere
from tests.contract.project import APPLICATION, CHECK_EGRESS, Project

CALL_PARTNERS = functions_where(lambda purpose: purpose.calls_partners)
_RATES = {f"rate({minutes} minutes)": minutes * 60 for minutes in range(2, 60)}


@everywhere
def each_zone_is_checked_from_inside(case: Case) -> Iterator[str]:
    """By a function of its own that is in that zone alone and knows its name; without internet there is none."""
    for name, letter in EGRESS_CHECKS.items():
        function = case.rendered.resources.get(name)
        if function is None or not case.can.has_internet:
            if (function is not None) is not case.can.has_internet:
                yield f"{name} is there without a way to the internet, or missing with one"
            continue
        properties = function["Properties"]
        if properties.get("VpcConfig", {}).get("SubnetIds") != [f"Network.PrivateSubnet{letter}"]:
            yield f"{name} may run in another zone than its own"
        subnet = case.rendered.resources[f"Network.PrivateSubnet{letter}"]["Properties"]
        if _variables(function)["AVAILABILITY_ZONE"] != subnet["AvailabilityZone"]:
            yield f"{name} is told another zone than the one it runs in"


@everywhere
def every_function_publishes_the_same_addresses(case: Case) -> Iterator[str]:
    """The checks compare with what the API lists and what the attempts name; each zone has one address."""
    published = {name: _published(case, name) for name in CALLERS if name in case.rendered.resources}
    if len(set(published.values())) != 1:
        yield f"the functions publish {published}"
    zones = [published_address.availability_zone for published_address in published["ApiFunction"]]
    if len(set(zones)) != len(zones) or bool(zones) is not case.can.has_internet:
        yield f"addresses are published for the zones {zones}"


@everywhere
def functions_can_tell_which_address_is_theirs(case: Case) -> Iterator[str]:
    """Where addresses differ, those that record them are told the IDs of the zones, which one resource looks up; where
    there is one address they are told none, and never ask."""
    addresses = {published_address.address for published_address in _published(case, "ApiFunction")}
    asked = case.rendered.resources.get("ZoneIds")
    if (asked is not None) is not (len(addresses) > 1):
        yield f"there are {len(addresses)} addresses, and the zones' IDs are {'not ' if asked is None else ''}looked up"
    for name in CALL_PARTNERS:
        told = str(_variables(case.rendered.resources[name])["EGRESS_ZONE_IDS"])
        if told != ("ZoneIds.ZoneIds" if len(addresses) > 1 else ""):
            yield f"{name} is told the zones '{told}'"
    zones = {} if asked is None else {key: asked["Properties"][key] for key in ("ZoneA", "ZoneB")}
    for name, zone in zones.items():
        subnet = case.rendered.resources[f"Network.PrivateSubnet{name[-1]}"]["Properties"]
        if zone != subnet["AvailabilityZone"]:
            yield f"the ID of {zone} is looked up in the place of PrivateSubnet{name[-1]}'s"


@everywhere
def checks_come_often_enough_for_their_results(case: Case) -> Iterator[str]:
    """Three may be lost before a result is too old to be shown; none is tried again, as the next is soon enough."""
    for name in EGRESS_CHECKS.keys() & case.rendered.resources.keys():
        rates = [
            rule["Properties"]["ScheduleExpression"]
            for rule in _of_type(case, "AWS::Events::Rule")
            if f"{name}.Arn" in [target["Arn"] for target in rule["Properties"]["Targets"]]
        ]
        if len(rates) != 1 or _RATES.get(rates[0], 0) * 4 != LONGEST_AGE.total_seconds():
            yield f"{name} runs at {rates}"
        retries = [
            config["Properties"]["MaximumRetryAttempts"]
            for config in _of_type(case, "AWS::Lambda::EventInvokeConfig")
            if config["Properties"]["FunctionName"] == name
        ]
        if retries != [0]:
            yield f"{name} is tried again {retries} times"


@everywhere
def results_are_kept_where_the_api_looks(case: Case) -> Iterator[str]:
    """In a parameter that CloudFormation makes and deletes, with the name that both functions make of path and zone;
    beside them what the allowlist says."""
    path = _variables(case.rendered.resources["ApiFunction"])["EGRESS_RESULTS_PATH"]
    made = {parameter["Properties"]["Name"]: parameter for parameter in _of_type(case, "AWS::SSM::Parameter")}
    zones = {published_address.availability_zone for published_address in _published(case, "ApiFunction")}
    if made.keys() != {f"{path}/{name}" for name in (*zones, *(["allowlist"] if zones else []))}:
        yield f"{sorted(made)} are made, and the API looks in {path}"
    for name, resource in made.items():
        if (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")) != ("Delete", "Delete"):
            yield f"{name} outlives its stack"
    for name in EGRESS_CHECKS.keys() & case.rendered.resources.keys():
        if _variables(case.rendered.resources[name])["EGRESS_RESULTS_PATH"] != path:
            yield f"{name} keeps its results elsewhere"


@everywhere
def the_check_is_not_told_where_the_database_is(case: Case) -> Iterator[str]:
    """Nor is any other function that does not use it."""
    for name in functions_where(lambda purpose: purpose.database_user is None):
        if name in case.rendered.resources:
            variables = _variables(case.rendered.resources[name])
            yield from (f"{name} is told {variable}" for variable in variables if variable.startswith("DATABASE_"))


@everywhere
def alarms_watch_what_the_checks_count(case: Case) -> Iterator[str]:
    """Both counts of both zones, under the very dimensions that the functions count by."""
    watched = {
        (alarm["Properties"]["MetricName"], _dimensions(alarm))
        for alarm in _of_type(case, "AWS::CloudWatch::Alarm")
        if alarm["Properties"].get("Namespace") == "Sallyport" and "Egress" in alarm["Properties"]["MetricName"]
    }
    counted = {
        (count, (("service", variables["POWERTOOLS_SERVICE_NAME"]), ("zone", variables["AVAILABILITY_ZONE"])))
        for variables in (_variables(case.rendered.resources[name]) for name in EGRESS_CHECKS if case.can.has_internet)
        for count in ("EgressAddressMatches", "EgressCheckFailed")
    }
    if watched != counted:
        yield f"alarms watch {sorted(watched)}, the checks count {sorted(counted)}"


@everywhere
def the_default_group_of_the_vpc_is_emptied(case: Case) -> Iterator[str]:
    """By the function, which may do that to this one group and is allowed to before it is asked."""
    asked = case.rendered.resources["DefaultSecurityGroup"]
    if asked["Properties"]["SecurityGroupId"] != "Network.Vpc.DefaultSecurityGroup":
        yield "another group than the VPC's default one would be emptied"
    if "DefaultSecurityGroupPolicy" not in asked["DependsOn"]:
        yield "the function would be asked before it is allowed"


def _variables(function: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = function["Properties"]["Environment"]["Variables"]
    return found


def _published(case: Case, function: str) -> tuple[EgressAddress, ...]:
    return EgressSettings.from_environment(_variables(case.rendered.resources[function])).egress_addresses


def _of_type(case: Case, kind: str) -> list[dict[str, Any]]:
    return [resource for resource in case.rendered.resources.values() if resource["Type"] == kind]


def _dimensions(alarm: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((dimension["Name"], dimension["Value"]) for dimension in alarm["Properties"]["Dimensions"]))


def the_two_checks_differ_by_their_zone_alone(project: Project) -> list[str]:
    """One template is used twice (docs/adr/0051), and what is passed to the one is passed to the other."""
    resources = project.written(APPLICATION)["Resources"]
    first, second = (json.dumps(resources[f"CheckEgress{zone}"]) for zone in "AB")
    return [] if _of_second_zone(first) == second else ["CheckEgressB is not CheckEgressA with another zone"]


def the_checks_have_the_settings_of_all_functions(project: Project) -> list[str]:
    """SAM's Globals reach the functions of one template alone, so that of the checks repeats them."""
    ours, theirs = (project.written(name)["Globals"]["Function"] for name in (APPLICATION, CHECK_EGRESS))
    ours["CodeUri"] = f"../{ours['CodeUri']}"
    ours["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] = {"Ref": "ApplicationStackName"}
    return [f"{key} is another" for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]


def _of_second_zone(text: str) -> str:
    """What is said of the first zone, said of the second."""
    for first, second in (("ZoneA", "ZoneB"), ("SubnetA", "SubnetB"), ("egress-a", "egress-b")):
        text = text.replace(first, second)
    return text


RULES = [
    the_checks_have_the_settings_of_all_functions,
    the_two_checks_differ_by_their_zone_alone,
    each_zone_is_checked_from_inside,
    every_function_publishes_the_same_addresses,
    functions_can_tell_which_address_is_theirs,
    checks_come_often_enough_for_their_results,
    results_are_kept_where_the_api_looks,
    the_check_is_not_told_where_the_database_is,
    alarms_watch_what_the_checks_count,
    the_default_group_of_the_vpc_is_emptied,
]
