"""What the database must be with what is on demand: a standby instance, RDS Proxy, a key of one's own."""

from typing import Any

from stack.capabilities import capabilities
from stack.functions import DATABASE_USERS
from stack.render import Rendered, render
from tests.contract.project import Project

OWNER = "sallyport_owner"  # the migration's, which goes past the proxy
THROUGH_THE_PROXY = {function: role for function, role in DATABASE_USERS.items() if role != OWNER}
PAST_THE_PROXY = DATABASE_USERS.keys() - THROUGH_THE_PROXY.keys()
PROXY = {"DatabaseProxy": "yes", "DatabaseMinCapacity": "0.5"}
KEY = "arn:aws:kms:us-east-1:555555555555:key/01234567-89ab-cdef-0123-456789abcdef"
PUBLIC_ROOTS = "/etc/pki/tls/certs/ca-bundle.crt"  # of Lambda's image
DATABASE_ROOTS = "/var/task/certs/rds-global-bundle.pem"
CLUSTER = "Database.DatabaseCluster.DBClusterResourceId"
HOUR = 60


def functions_go_through_the_proxy_and_the_migration_past_it(project: Project) -> list[str]:
    """With the roots that each one's certificate has, and without what the proxy refuses."""
    resources = _rendered(project, PROXY).resources
    through = ("Database.DatabaseProxy.Endpoint", PUBLIC_ROOTS, "yes")
    past = ("Database.DatabaseCluster.Endpoint.Address", DATABASE_ROOTS, "no")
    names = ("DATABASE_HOST", "DATABASE_ROOT_CERTIFICATES", "DATABASE_PROXY")
    faults = []
    for function, wanted in {
        **dict.fromkeys(THROUGH_THE_PROXY, through),
        **dict.fromkeys(PAST_THE_PROXY, past),
    }.items():
        variables = resources[function]["Properties"]["Environment"]["Variables"]
        found = tuple(variables.get(name) for name in names)
        faults += [] if found == wanted else [f"{function} connects by {found}, not {wanted}"]
    return faults


def without_a_proxy_all_connect_to_the_cluster(project: Project) -> list[str]:
    """Which then is what policies name."""
    resources = _rendered(project, {}).resources
    faults = [f"there is {name}" for name in resources if name.startswith("Database.Proxy") or name.endswith("Proxy")]
    for function, role in THROUGH_THE_PROXY.items():
        if _may_connect(resources, function) != [_user(CLUSTER, role)]:
            faults.append(f"{function} may connect as {_may_connect(resources, function)}")
    return faults


def functions_may_connect_to_the_proxy_and_the_proxy_to_the_cluster(project: Project) -> list[str]:
    """Each as exactly the roles that are used; nobody as the owner but the migration."""
    resources = _rendered(project, PROXY).resources
    proxy = "Database.DatabaseProxy.DBProxyArn[6]"  # prx-..., the last part of its ARN
    faults = [
        f"{function} may connect as {_may_connect(resources, function)}"
        for function, role in THROUGH_THE_PROXY.items()
        if _may_connect(resources, function) != [_user(proxy, role)]
    ]
    (statement,) = resources["Database.ProxyRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    if set(statement["Resource"]) != {_user(CLUSTER, role) for role in THROUGH_THE_PROXY.values()}:
        faults.append(f"the proxy may connect as {statement['Resource']}")
    return faults + [
        f"{function} may not connect to the cluster"
        for function in PAST_THE_PROXY
        if _may_connect(resources, function) != [_user(CLUSTER, OWNER)]
    ]


def the_proxy_takes_tokens_over_tls_alone(project: Project) -> list[str]:
    """No secret, no plain text, no statements in its log, and a log that ends."""
    resources = _rendered(project, PROXY).resources
    proxy = resources["Database.DatabaseProxy"]["Properties"]
    log = resources["Database.ProxyLogGroup"]["Properties"]["LogGroupName"]
    pool = resources["Database.ProxyTargetGroup"]["Properties"]["ConnectionPoolConfigurationInfo"]
    holds = {
        "callers and the proxy itself use IAM": proxy.get("DefaultAuthScheme") == "IAM_AUTH" and "Auth" not in proxy,
        "TLS is required": proxy.get("RequireTLS") is True,
        "statements are not logged": proxy.get("DebugLogging") is False,
        "it has a group of its own": proxy["VpcSecurityGroupIds"] == ["Network.ProxySecurityGroup.GroupId"],
        "its log group is made before it": log == f"/aws/rds/proxy/{proxy['DBProxyName']}"
        and "Database.ProxyLogGroup" in resources["Database.DatabaseProxy"]["DependsOn"],
        "some connections are left to people and the migration": pool["MaxConnectionsPercent"] <= 95,
        "nobody waits longer for a connection than API Gateway for an answer": pool["ConnectionBorrowTimeout"] <= 10,
        "its name fits": len(proxy["DBProxyName"]) <= 63,
    }
    return [f"it does not hold that {what}" for what, true in holds.items() if not true]


def the_standby_is_ready_in_another_zone(project: Project) -> list[str]:
    """Made after the first instance, as large as it, and alike otherwise."""
    resources = _rendered(project, {"DatabaseReader": "yes"}).resources
    first, second = (resources[f"Database.{name}"] for name in ("DatabaseInstance", "DatabaseReaderInstance"))
    differ = {key for key in first["Properties"] if first["Properties"][key] != second["Properties"].get(key)}
    holds = {
        "it comes second": second["DependsOn"] == ["Database.DatabaseInstance"],
        "it is in another zone": differ == {"AvailabilityZone", "PromotionTier"},
        "it has the writer's capacity": second["Properties"]["PromotionTier"] in {0, 1},
        "there is none unless asked for": "Database.DatabaseReaderInstance" not in _rendered(project, {}).resources,
    }
    return [f"it does not hold that {what}" for what, true in holds.items() if not true]


def instances_are_public_where_developers_come_in_and_nowhere_else(project: Project) -> list[str]:
    """And then through the network's own three gates."""
    topologies: dict[str, dict[str, str]] = {
        "public-private": {},
        "internet-accessible": {"DeveloperCidr": "198.51.100.0/24"},
        "on-premises": {"CorporateCidr": "172.20.0.0/16", "CustomerGatewayAddress": "198.51.100.7"},
        "internal-only": {"AllowedPrivateCidrs": "10.200.0.0/16"},
    }
    faults = []
    for topology, needs in topologies.items():
        made = _rendered(project, {"Topology": topology, "DatabaseReader": "yes"} | needs)
        for name, instance in made.of_type("AWS::RDS::DBInstance").items():
            public = capabilities(made.parameters).public_database
            if (instance["Properties"]["PubliclyAccessible"] == "true") is not public:
                faults.append(
                    f"{topology}: {name} has PubliclyAccessible {instance['Properties']['PubliclyAccessible']}"
                )
    return faults


def ones_own_key_encrypts_storage_and_logs(project: Project) -> list[str]:
    """All of them; without one AWS's keys do."""
    resources = _rendered(project, PROXY | {"KmsKeyArn": KEY}).resources
    return [
        f"{name} has another key"
        for name, resource in resources.items()
        if name.startswith("Database.")
        and resource["Type"] in {"AWS::RDS::DBCluster", "AWS::Logs::LogGroup"}
        and resource["Properties"].get("KmsKeyId") != KEY
    ]


def backups_keep_clear_of_maintenance(project: Project) -> list[str]:
    """RDS refuses windows that overlap; ours are checked in every combination."""
    windows = project.written("template.yaml")["Parameters"]["DatabaseBackupWindow"]["AllowedValues"]
    cluster = _rendered(project, {}).resources["Database.DatabaseCluster"]["Properties"]
    start, end = (_minute(part[-5:]) for part in cluster["PreferredMaintenanceWindow"].split("-"))
    faults = []
    for window in windows:
        first, last = (_minute(part) for part in window.split("-"))
        if not (last <= start or first >= end):
            faults.append(f"the backup in {window} meets the maintenance")
        if last - first < HOUR / 2:
            faults.append(f"{window} is shorter than half an hour")
    return faults


def people_find_the_way_that_db_shell_takes(project: Project) -> list[str]:
    """stack/db_shell.py reads these outputs and this parameter; it never leads through the proxy."""
    outputs = _rendered(project, PROXY | {"Bastion": "yes"}).outputs
    wanted = {
        "DatabaseEndpoint": "Database.DatabaseCluster.Endpoint.Address",
        "DatabasePort": "Database.DatabaseCluster.Endpoint.Port",
        "DatabaseName": "sallyport",
        "BastionInstanceId": "BastionHost.Bastion",
    }
    faults = [
        f"{name} is {outputs.get(name)}, not {value}" for name, value in wanted.items() if outputs.get(name) != value
    ]
    topologies = project.written("template.yaml")["Parameters"]["Topology"]["AllowedValues"]
    if not any(capabilities({"Topology": topology}).public_database for topology in topologies):
        faults.append("no topology lets people in straight")
    return faults


def _minute(time: str) -> int:
    return int(time[:2]) * HOUR + int(time[3:])


def _rendered(project: Project, parameters: dict[str, str]) -> Rendered:
    return render(parameters, texts=project.texts)


def _user(resource_id: str, role: str) -> str:
    return f"arn:aws:rds-db:us-east-1:555555555555:dbuser:{resource_id}/{role}"


def _may_connect(resources: Any, function: str) -> list[str]:
    role = str(resources[function]["Properties"]["Role"]).removesuffix(".Arn")
    return [
        str(statement["Resource"])
        for policy in resources[role]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] == "rds-db:connect"
    ]


RULES = [
    functions_go_through_the_proxy_and_the_migration_past_it,
    without_a_proxy_all_connect_to_the_cluster,
    functions_may_connect_to_the_proxy_and_the_proxy_to_the_cluster,
    the_proxy_takes_tokens_over_tls_alone,
    the_standby_is_ready_in_another_zone,
    instances_are_public_where_developers_come_in_and_nowhere_else,
    ones_own_key_encrypts_storage_and_logs,
    backups_keep_clear_of_maintenance,
    people_find_the_way_that_db_shell_takes,
]
