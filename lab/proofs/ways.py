"""Ways to the database past the network, which no packet shows: a proof each, from the resources of the templates.

A way is a function that yields what is open: the resource, and why. Its negative control is a change of the resources
that must make it yield something. Expectations come from the parameters and from stack/functions.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from lab.model.case import Case
from stack.capabilities import capabilities
from stack.functions import DATABASE_USERS

type Resources = Mapping[str, Mapping[str, Any]]
type Found = tuple[str, str]  # the resource, and what of it is open

CLUSTER, INSTANCE, ENDPOINT = "AWS::RDS::DBCluster", "AWS::RDS::DBInstance", "AWS::EC2::VPCEndpoint"
PEOPLE_USER = "sallyport_readonly"  # as whom people read, through the bastion
# AWS's own policies that are used; another one may allow anything, and is not in the templates to be read.
KNOWN_POLICIES = ("arn:aws:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs",)
# What connects the VPC or the database to others, besides the internet gateway, NAT gateways and the VPN.
CONNECTS = (
    "AWS::DirectConnect::*",
    "AWS::EC2::CarrierGateway",
    "AWS::EC2::ClientVpn*",
    "AWS::EC2::EgressOnlyInternetGateway",
    "AWS::EC2::InstanceConnectEndpoint",
    "AWS::EC2::LocalGateway*",
    "AWS::EC2::TransitGateway*",
    "AWS::EC2::VPCEndpointService*",
    "AWS::EC2::VPCPeeringConnection",
    "AWS::EC2::VerifiedAccess*",
    "AWS::ElasticLoadBalancing*",
    "AWS::NetworkManager::*",
    "AWS::RAM::*",
)
# What makes a copy of the data that others could read, or gives one to them.
COPIES = (
    "rds:CopyDBClusterSnapshot",
    "rds:CopyDBSnapshot",
    "rds:CreateDBClusterSnapshot",
    "rds:CreateDBSnapshot",
    "rds:ModifyDBClusterSnapshotAttribute",
    "rds:ModifyDBSnapshotAttribute",
    "rds:RestoreDBClusterFromSnapshot",
    "rds:RestoreDBClusterToPointInTime",
    "rds:RestoreDBInstanceFromDBSnapshot",
    "rds:StartExportTask",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """`control` changes the resources, or returns False where they have nothing to change that way.

    `types_suffice`: it looks at what is known of a deployed stack too: the types of its resources, and the database.
    """

    name: str
    title: str
    look: Callable[[Case, Resources], Iterator[Found]]
    control: Callable[[dict[str, Any]], object]
    types_suffice: bool

    @property
    def change(self) -> str:
        """What the control does."""
        return (self.control.__doc__ or "").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class WayResult:
    """`control` says whether the control was found, None where none was run; `skipped` why nothing was looked at."""

    way: Way
    found: tuple[Found, ...]
    control: bool | None
    skipped: str | None = None

    @property
    def holds(self) -> bool:
        return not self.found and self.control is not False


WAYS: list[Way] = []


def way(
    control: Callable[[dict[str, Any]], object], *, types_suffice: bool = False
) -> Callable[[Callable[[Case, Resources], Iterator[Found]]], Callable[[Case, Resources], Iterator[Found]]]:
    """Add the function to the ways. The first line of its docstring is the title."""

    def added(look: Callable[[Case, Resources], Iterator[Found]]) -> Callable[[Case, Resources], Iterator[Found]]:
        title = (look.__doc__ or look.__name__).strip().splitlines()[0]
        WAYS.append(Way(name=look.__name__, title=title, look=look, control=control, types_suffice=types_suffice))
        return look

    return added


def look(case: Case, *, controls: bool) -> tuple[WayResult, ...]:
    """All ways of a case. Controls are run on a copy of its resources."""
    return tuple(_result(case, known, controls) for known in WAYS)


def _result(case: Case, known: Way, controls: bool) -> WayResult:
    if not case.resources or (case.rendered is None and not known.types_suffice):
        return WayResult(way=known, found=(), control=None, skipped="what AWS describes does not tell it")
    found = tuple(known.look(case, case.resources))
    return WayResult(way=known, found=found, control=_controlled(case, known) if controls else None)


def _controlled(case: Case, known: Way) -> bool | None:
    """Whether what the control opens is found; what was open before does not count."""
    changed = {address: dict(deepcopy(dict(resource))) for address, resource in case.resources.items()}
    if known.control(changed) is False:
        return None
    return bool(set(known.look(case, changed)) - set(known.look(case, case.resources)))


# ---- The controls


def data_api_on(resources: dict[str, Any]) -> object:
    """the cluster has the Data API"""
    clusters = _of_type(resources, CLUSTER)
    for cluster in clusters:
        cluster["EnableHttpEndpoint"] = True
    return bool(clusters)


def data_api_allowed(resources: dict[str, Any]) -> None:
    """a role may use the Data API"""
    _add_policy(resources, "rds-data:*")


def service_network_joined(resources: dict[str, Any]) -> None:
    """the VPC is associated with a service network of VPC Lattice"""
    resources["AnAssociation"] = {"Type": "AWS::VpcLattice::ServiceNetworkVpcAssociation", "Properties": {}}


def vpc_peered(resources: dict[str, Any]) -> None:
    """the VPC is peered with another one"""
    resources["APeering"] = {"Type": "AWS::EC2::VPCPeeringConnection", "Properties": {}}


def snapshots_shared(resources: dict[str, Any]) -> None:
    """a role may share snapshots, by an action with a wildcard"""
    _add_policy(resources, "rds:Modify*SnapshotAttribute")


def function_url_made(resources: dict[str, Any]) -> None:
    """a function has a URL of its own"""
    resources["AUrl"] = {"Type": "AWS::Lambda::Url", "Properties": {"AuthType": "NONE"}}


def somebody_else_may_connect(resources: dict[str, Any]) -> None:
    """a policy lets its role connect as any role of the database"""
    _add_policy(resources, "rds-db:*")


def password_set(resources: dict[str, Any]) -> None:
    """the cluster's owner signs in by a password"""
    _of_type(resources, CLUSTER)[0]["MasterUserPassword"] = "a password"


def instance_made_public(resources: dict[str, Any]) -> object:
    """an instance of the database has a public address"""
    instances = _of_type(resources, INSTANCE)
    if not instances or any(_is_true(instance.get("PubliclyAccessible")) for instance in instances):
        return False
    instances[0]["PubliclyAccessible"] = True
    return None


def endpoint_policy_widened(resources: dict[str, Any]) -> object:
    """the endpoint of S3 lets everything pass"""
    endpoints = [found for found in _of_type(resources, ENDPOINT) if _is_s3(found)]
    for endpoint in endpoints:
        statement = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
        endpoint["PolicyDocument"] = {"Version": "2012-10-17", "Statement": [statement]}
    return bool(endpoints)


# ---- The ways


@way(data_api_on, types_suffice=True)
def no_data_api(_: Case, resources: Resources) -> Iterator[Found]:
    """The Data API, which takes SQL over HTTPS from outside of the VPC, is off."""
    for address, cluster in _with_address(resources, CLUSTER):
        if _is_true(cluster.get("EnableHttpEndpoint", False)):
            yield address, "EnableHttpEndpoint: the Data API takes SQL from anywhere"


@way(data_api_allowed)
def no_policy_for_the_data_api(_: Case, resources: Resources) -> Iterator[Found]:
    """No policy lets anyone use the Data API."""
    for address, statement in _statements(resources):
        if _allows(statement, ("rds-data:ExecuteStatement", "rds-data:BatchExecuteStatement")):
            yield address, f"it allows the Data API: {_actions(statement)}"


@way(service_network_joined, types_suffice=True)
def no_lattice(_: Case, resources: Resources) -> Iterator[Found]:
    """No resource of VPC Lattice leads into the VPC or out of it."""
    for address, resource in resources.items():
        if resource["Type"].startswith("AWS::VpcLattice::"):
            yield address, f"{resource['Type']} leads past route tables and gateways"
    for address, endpoint in _with_address(resources, ENDPOINT):
        if endpoint.get("VpcEndpointType") in {"Resource", "ServiceNetwork"}:
            yield address, f"an endpoint of the type {endpoint['VpcEndpointType']}, which is VPC Lattice's"


@way(vpc_peered, types_suffice=True)
def no_other_network(_: Case, resources: Resources) -> Iterator[Found]:
    """The VPC is connected to no other network but by the gateways that the packets try."""
    for address, resource in resources.items():
        if any(fnmatchcase(resource["Type"], pattern) for pattern in CONNECTS):
            yield address, f"{resource['Type']} connects it to another network"


@way(snapshots_shared)
def no_copy_for_others(case: Case, resources: Resources) -> Iterator[Found]:
    """No policy lets anyone copy, export, restore or share the database's snapshots, and the storage is encrypted."""
    for address, statement in _statements(resources):
        if _allows(statement, COPIES):
            yield address, f"it allows copies of the data: {_actions(statement)}"
    for address, cluster in _with_address(resources, CLUSTER):
        # A snapshot says by itself whether what is restored from it is encrypted.
        if not _is_true(cluster.get("StorageEncrypted", False)) and not case.parameters.get("DatabaseSnapshotArn"):
            yield address, "StorageEncrypted: a snapshot that is not encrypted can be made public"


@way(function_url_made, types_suffice=True)
def no_function_url(_: Case, resources: Resources) -> Iterator[Found]:
    """No function has a URL of its own, and none may be invoked by everyone."""
    for address, resource in resources.items():
        if resource["Type"] == "AWS::Lambda::Url":
            yield address, "a URL by which a function is called past the API"
    for address, permission in _with_address(resources, "AWS::Lambda::Permission"):
        is_open = permission.get("Principal") == "*" or "FunctionUrlAuthType" in permission
        if is_open or (permission and not {"SourceArn", "SourceAccount"} & permission.keys()):
            yield address, f"{permission.get('Principal')} may invoke a function, from whatever source"


@way(somebody_else_may_connect)
def only_functions_sign_in(case: Case, resources: Resources) -> Iterator[Found]:
    """A policy lets only those sign in to the database who are meant to, each as one role of it."""
    allowed = _sign_in_as(resources)
    for address, statement in _statements(resources):
        if not _allows(statement, ("rds-db:connect",)):
            continue
        for resource in _listed(statement.get("Resource", "*")):
            user = str(resource).rpartition("/")[2] if "/" in str(resource) else "*"
            if user not in allowed.get(address, set()) | _people_and_proxy(case, address, resources):
                yield address, f"it may sign in as {user}"
    for address, resource in resources.items():
        for policy in _listed(resource.get("Properties", {}).get("ManagedPolicyArns", [])):
            if str(policy).startswith("arn:") and policy not in KNOWN_POLICIES:
                yield address, f"{policy}, which is not in the templates"


@way(password_set)
def no_password(_: Case, resources: Resources) -> Iterator[Found]:
    """Nobody signs in by a password: the database takes IAM's tokens."""
    for address, cluster in _with_address(resources, CLUSTER):
        if cluster.get("MasterUserPassword"):
            yield address, "MasterUserPassword: its owner has a password"
        if not _is_true(cluster.get("EnableIAMDatabaseAuthentication", False)):
            yield address, "EnableIAMDatabaseAuthentication: it is off"


@way(instance_made_public, types_suffice=True)
def no_public_instance(case: Case, resources: Resources) -> Iterator[Found]:
    """The database has a public address in the design that promises one alone."""
    if capabilities(case.parameters).public_database:
        return
    for address, instance in _with_address(resources, INSTANCE):
        if _is_true(instance.get("PubliclyAccessible", False)):
            yield address, "PubliclyAccessible: it has a public address, and its name leads there"


@way(endpoint_policy_widened)
def endpoints_let_little_pass(case: Case, resources: Resources) -> Iterator[Found]:
    """Endpoints let only named actions pass, and none carries this account's credentials to other accounts' data."""
    for address, endpoint in _with_address(resources, ENDPOINT):
        statements = _listed((endpoint.get("PolicyDocument") or {}).get("Statement", []))
        if not statements:
            yield address, "PolicyDocument: none, so it lets everything pass"
        for statement in statements:
            if statement.get("Effect") == "Allow" and any("*" in str(action) for action in _actions(statement)):
                yield address, f"PolicyDocument: {_actions(statement)} pass"
        if _is_s3(endpoint) and not _keeps_data_in(case, statements):
            yield address, "PolicyDocument: this account's credentials may write to other accounts' buckets"


def _keeps_data_in(case: Case, statements: Sequence[Mapping[str, Any]]) -> bool:
    """By naming the buckets, or by refusing this account's credentials at others'."""
    if not capabilities(case.parameters).has_internet:
        return not any(
            statement["Effect"] == "Allow" and "*" in _listed(statement.get("Resource")) for statement in statements
        )
    return any(
        statement["Effect"] == "Deny"
        and "aws:ResourceAccount" in (statement.get("Condition") or {}).get("StringNotEquals", {})
        for statement in statements
    )


# ---- Policies


def _statements(resources: Resources) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those of the identities' policies, in whichever kind of resource, with its address."""
    for address, resource in resources.items():
        if not resource["Type"].startswith("AWS::IAM::"):
            continue
        properties = resource.get("Properties", {})
        documents = [properties.get("PolicyDocument"), *(p["PolicyDocument"] for p in properties.get("Policies", ()))]
        for document in filter(None, documents):
            for statement in _listed(document["Statement"]):
                if statement["Effect"] == "Allow":
                    yield address, statement


def _allows(statement: Mapping[str, Any], actions: Sequence[str]) -> bool:
    """Whether any of the actions is allowed; all that NotAction does not name are."""
    if "NotAction" in statement:
        return not all(_matches(_listed(statement["NotAction"]), action) for action in actions)
    return any(_matches(_actions(statement), action) for action in actions)


def _matches(patterns: Sequence[Any], action: str) -> bool:
    return any(fnmatchcase(action.lower(), str(pattern).lower()) for pattern in patterns)


def _actions(statement: Mapping[str, Any]) -> list[Any]:
    return _listed(statement.get("Action", []))


def _sign_in_as(resources: Resources) -> dict[str, set[str]]:
    """The roles of the database by the resource of an IAM role: what its functions are meant to be."""
    users: dict[str, set[str]] = {}
    for address, function in _with_address(resources, "AWS::Lambda::Function"):
        if address in DATABASE_USERS:
            users.setdefault(str(function.get("Role")).rpartition(".")[0], set()).add(DATABASE_USERS[address])
    return users


def _people_and_proxy(case: Case, address: str, resources: Resources) -> set[str]:
    """The proxy signs in for the functions that go through it; people with the bastion read."""
    properties = resources[address].get("Properties", {})
    trusted = str(properties.get("AssumeRolePolicyDocument", {}))
    if case.parameters.get("DatabaseProxy") == "yes" and "rds.amazonaws.com" in trusted:
        return set(DATABASE_USERS.values()) - {"sallyport_owner"}
    is_for_people = resources[address]["Type"] == "AWS::IAM::ManagedPolicy" and not (
        {"Roles", "Users", "Groups"} & properties.keys()
    )
    return {PEOPLE_USER} if case.parameters.get("Bastion") == "yes" and is_for_people else set()


def _add_policy(resources: dict[str, Any], action: str) -> None:
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": statement}
    properties = {"PolicyName": "added", "PolicyDocument": document, "Roles": ["ARole"]}
    resources["AnAddedPolicy"] = {"Type": "AWS::IAM::Policy", "Properties": properties}


# ---- Resources


def _with_address(resources: Resources, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for address, resource in resources.items():
        if resource["Type"] == kind:
            yield address, resource.get("Properties", {})


def _of_type(resources: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [resource["Properties"] for resource in resources.values() if resource["Type"] == kind]


def _is_s3(endpoint: Mapping[str, Any]) -> bool:
    return str(endpoint.get("ServiceName", "")).endswith(".s3")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"
