"""What functions, roles, queues and logs must be. Each rule returns its faults in words; none is good."""

import importlib
import logging
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath
from typing import Any

import yaml

from db.migrations import migrations
from domain.destinations import MAX_TOTAL_SECONDS
from runtime import settings
from runtime.settings import FromEnvironment
from stack.functions import DATABASE_USERS, FUNCTIONS, Trigger, functions_where, triggered_by
from stack.render import render
from tests.contract.cases import Case, everywhere
from tests.contract.project import APPLICATION, ROOT, Project

# By which src/Makefile learns the value of a parameter: SAM tells makefiles nothing else (docs/adr/0014).
PROCESSOR_DIRECTORY = {"Fn::Sub": "tools/processors/${Architecture}"}
# Named in the template all the same, as AWS::NoValue: `sam local` sets no variable that is not.
OF_SAM_LOCAL = {f"{service}_ENDPOINT_URL" for service in ("SQS", "SSM", "EC2", "EVENTS", "S3")} | {"DATABASE_URL"}
LOCAL_ONLY = OF_SAM_LOCAL | {"SEAL_KEY_FILE"}
# The API names its function, so the function cannot name the API: it refuses the host that it was called by.
LEFT_OUT = {"ApiFunction": {"BLOCKED_HOSTS"}}
OF_TRACING = {"AWS_LAMBDA_EXEC_WRAPPER"}  # Lambda reads it, and it is there with OpenTelemetry alone
OF_POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}

CLUSTER = "Database.DatabaseCluster.DBClusterResourceId"
SEND = {("sqs:SendMessage", "WakeupQueue.Arn")}
RECEIVE = {
    (action, "WakeupQueue.Arn") for action in ("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage")
}
# To send the dead letters back: it learns the queue's URL from its name.
REDRIVE = {(action, "DeadLetterQueue.Arn") for action in ("sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage")}
READ_KEY = {("secretsmanager:GetSecretValue", "SealKey")}
PUT_AWAY = {
    ("events:PutEvents", "arn:aws:events:us-east-1:555555555555:event-bus/orders"),
    ("s3:PutObject", "arn:aws:s3:::ledger/checkpoints/*"),
}
# When an operator rotates it. No other function may, and none may delete it or move the labels of its versions.
ROTATE_KEY = {("secretsmanager:PutSecretValue", "SealKey")}
GIVE_UP = {("sqs:SendMessage", "FailedInvocationQueue.Arn")}
ANNOUNCEMENT = "arn:aws:ssm:us-east-1:555555555555:parameterAllowlistAnnouncement"
RESULTS = {zone: f"arn:aws:ssm:us-east-1:555555555555:parameterCheckEgress{zone}.Result" for zone in "AB"}
RESULTS_BY_NAME = {
    f"arn:aws:ssm:us-east-1:555555555555:parameter/sallyport/sallyport/egress/us-east-1{zone}" for zone in "ab"
}
DESCRIBE = {
    (f"ec2:Describe{things}", "*") for things in ("Addresses", "AvailabilityZones", "NatGateways", "SecurityGroups")
}
DEFAULT_GROUP = "arn:aws:ec2:us-east-1:555555555555:security-group/Network.Vpc.DefaultSecurityGroup"
EMPTY_GROUP = {(f"ec2:RevokeSecurityGroup{way}", DEFAULT_GROUP) for way in ("Egress", "Ingress")}
# Beyond its own log group, its own database user and its network interfaces.
MORE_RIGHTS = {
    "ApiFunction": SEND | READ_KEY | {("ssm:GetParameters", result) for result in (*RESULTS_BY_NAME, ANNOUNCEMENT)},
    "AttemptFunction": SEND | RECEIVE | REDRIVE | READ_KEY | ROTATE_KEY,
    "CheckEgressA.Function": GIVE_UP
    | {(f"ssm:{action}", RESULTS["A"]) for action in ("GetParameters", "PutParameter")},
    "CheckEgressB.Function": GIVE_UP
    | {(f"ssm:{action}", RESULTS["B"]) for action in ("GetParameters", "PutParameter")},
    "MigrateFunction": GIVE_UP,
    "NetworkResourcesFunction": GIVE_UP | DESCRIBE | EMPTY_GROUP,
}
OUTSIDE_THE_VPC = functions_where(lambda purpose: not purpose.in_vpc)
# What makes the schema, and what the network under the database needs first.
BEFORE_THE_SCHEMA = {
    f"{name}{part}" for name in triggered_by(Trigger.CUSTOM_RESOURCE) for part in ("", "EventInvokeConfig")
}
NETWORK_INTERFACES = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
}
# Aurora's default max_connections by most capacity (AWS: Performance and scaling for Aurora Serverless v2); clusters
# with a least capacity of 0 or 0.5 get no more than 2,000. AWS keeps a few for itself.
CONNECTIONS = {1: 189, 4: 823, 8: 1669, 16: 3360, 32: 5000}
CONNECTIONS_WHEN_SMALL = 2000
CONNECTIONS_KEPT_FREE = 20
VERSIONS_AT_ONCE = 2  # during a deployment


def functions_are_what_the_table_says(project: Project) -> list[str]:
    """stack/functions.py has every function, with what invokes it, its database user and whether it is in the VPC.

    Whom it calls the rules of the network ask, and the zone that it checks those of the egress check.
    """
    functions, triggers = project.functions(), _triggers(project)
    faults = [f"stack/functions.py does not say what {name} is for" for name in functions.keys() - FUNCTIONS.keys()]
    faults += [f"there is no {name}" for name in FUNCTIONS.keys() - functions.keys()]
    for name in functions.keys() & FUNCTIONS.keys():
        properties, purpose = functions[name]["Properties"], FUNCTIONS[name]
        variables = properties["Environment"]["Variables"]
        told = (purpose.trigger, purpose.database_user, purpose.in_vpc)
        found = (triggers.get(name, Trigger.OPERATOR), variables.get("DATABASE_USER"), "VpcConfig" in properties)
        faults += [] if found == told else [f"{name} is {found}, and stack/functions.py says {told}"]
    return faults


def _triggers(project: Project) -> dict[str, Trigger]:
    """What invokes a function, by its logical id. Those that nothing here invokes are left out."""
    triggers: dict[str, Trigger] = {}
    for resource in project.application().resources.values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::Lambda::EventSourceMapping":
            triggers[properties["FunctionName"]] = Trigger.WAKEUP
        elif resource["Type"].startswith("Custom::"):
            triggers[properties["ServiceToken"].removesuffix(".Arn")] = Trigger.CUSTOM_RESOURCE
        elif resource["Type"] == "AWS::Lambda::Permission":
            function = properties["FunctionName"].removesuffix(".Arn").removesuffix("Aliaslive")
            triggers[function] = _permitted(properties)
    return triggers


def _permitted(permission: dict[str, Any]) -> Trigger:
    if permission["Principal"] == "events.amazonaws.com":
        return Trigger.SCHEDULE
    return Trigger.TOKEN if "/authorizers/" in str(permission.get("SourceArn")) else Trigger.REQUEST


def the_bill_counts_each_use_once(project: Project) -> list[str]:
    """stack/cost/bill.py counts all requests, tokens and wake-ups for the function that they invoke: there is one."""
    triggers = list(_triggers(project).values())
    once = (Trigger.REQUEST, Trigger.TOKEN, Trigger.WAKEUP)
    return [
        f"{triggers.count(trigger)} functions are invoked by {trigger}"
        for trigger in once
        if triggers.count(trigger) != 1
    ]


def every_handler_exists(project: Project) -> list[str]:
    """As a callable in a module below CodeUri."""
    return [fault for name, function in project.functions().items() for fault in _handler_faults(name, function)]


def _handler_faults(name: str, item: dict[str, Any]) -> Iterator[str]:
    module, _, attribute = str(item["Properties"]["Handler"]).rpartition(".")
    if not (ROOT / "src" / PurePosixPath(*module.split("."))).with_suffix(".py").is_file():
        yield f"{name}: there is no module {module}"
    elif not callable(getattr(importlib.import_module(module), attribute, None)):
        yield f"{name}: {module} has no {attribute}"


def code_and_nested_templates_exist(project: Project) -> list[str]:
    """`sam build` calls it a success when they do not."""
    faults = []
    for name in project.sam_templates():
        template = project.written(name)
        code = {template["Globals"]["Function"].get("CodeUri")}
        code |= {resource["Properties"].get("CodeUri") for resource in template["Resources"].values()} - {None}
        directory = (ROOT / name).parent
        faults += [f"there is no directory {path}" for path in code if not (directory / str(path)).is_dir()]
        nested = [resource["Properties"].get("TemplateURL") for resource in template["Resources"].values()]
        faults += [f"there is no file {path}" for path in nested if path and path not in project.texts]
    return faults


def every_function_has_an_event_and_every_event_a_function(project: Project) -> list[str]:
    """events/NAME.json or events/NAME-more.json for handlers/NAME.py."""
    handlers = {str(function["Properties"]["Handler"]).split(".")[1] for function in project.functions().values()}
    events = {name.removesuffix(".json").partition("-")[0] for name in project.events}
    faults = [f"there is no event for handlers/{name}.py" for name in handlers - events]
    return faults + [f"no function takes the event {name}" for name in events - handlers]


def every_function_can_be_built(project: Project) -> list[str]:
    """By a target in src/Makefile, for the runtime that the dependencies are installed for and the chosen processor."""
    written_parameters = project.written(APPLICATION)["Parameters"]
    faults = []
    for name, function in project.functions().items():
        if not re.search(rf"^[^#\n\t]*\bbuild-{name.rpartition('.')[2]}\b[^\n]*:", project.makefile, re.MULTILINE):
            faults.append(f"src/Makefile has no target build-{name}")
        if (
            not {"BuildMethod": "makefile", "WorkingDirectory": PROCESSOR_DIRECTORY}.items()
            <= project.written_resource(name).get("Metadata", {}).items()
        ):
            faults.append(f"{name} is not built by src/Makefile")
        chosen = (function["Properties"]["Runtime"], function["Properties"]["Architectures"])
        if chosen != ("python3.13", [written_parameters["Architecture"]["Default"]]):
            faults.append(f"{name} runs on something that its package is not made for")
    offered = written_parameters["Architecture"]["AllowedValues"]
    return faults + [
        f"there is no directory to build for {version} in"
        for version in offered
        if not (ROOT / "tools/processors" / version).is_dir()
    ]


def what_ships_is_pinned(project: Project) -> list[str]:
    """To one version each."""
    lines = [line.partition("#")[0].strip() for line in project.requirements.splitlines()]
    return [f"{line} is not pinned" for line in lines if line and not re.fullmatch(r"[\w.-]+==[\w.]+", line)]


def environment_is_what_the_settings_read(project: Project) -> list[str]:
    """Exactly, but for what is only for local use and for the one exception in LEFT_OUT."""
    functions = {
        name: resource
        for template in project.sam_templates()
        for name, resource in project.translated(template)["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    faults = []
    for name, function in functions.items():
        variables = function["Properties"]["Environment"]["Variables"]
        read = settings_of(function["Properties"]["Handler"]).variables()
        left_out = {variable for variable, value in variables.items() if value == {"Ref": "AWS::NoValue"}}
        given = variables.keys() - left_out
        faults += [f"{name} leaves out {sorted(left_out)}"] if left_out != OF_SAM_LOCAL else []
        wanted = read - LOCAL_ONLY - LEFT_OUT.get(name, set()) | OF_POWERTOOLS
        faults += [f"{name} lacks {variable}" for variable in sorted(wanted - given)]
        faults += [f"{name} does not read {variable}" for variable in sorted(given - wanted - OF_TRACING)]
    return faults


def settings_of(handler: str) -> type[FromEnvironment]:
    """handlers/check_egress.py reads CheckEgressSettings, and so on."""
    module = handler.split(".")[1]
    found: type[FromEnvironment] = getattr(settings, f"{module.title().replace('_', '')}Settings")
    return found


def environment_says_where_things_are(project: Project) -> list[str]:
    """The values that name other things: the user that IAM allows, the queue, the ranges never to be called."""
    faults = []
    for name, function in project.functions().items():
        variables = function["Properties"]["Environment"]["Variables"]
        wanted = {
            "DATABASE_HOST": "Database.DatabaseCluster.Endpoint.Address",
            "DATABASE_USER": DATABASE_USERS.get(name),
            "DATABASE_ROOT_CERTIFICATES": "/var/task/certs/rds-global-bundle.pem",
            "WAKEUP_QUEUE_URL": "WakeupQueue",
            "EVENT_BUS_NAME": project.application().parameters["EventBusName"],
            "BLOCKED_CIDRS": project.application().parameters["VpcCidr"],
            "EGRESS_ADDRESSES": project.application().outputs["EgressAddresses"],
            "SEAL_KEY_SECRET_ARN": "SealKey",
        }
        faults += [
            f"{name}: {variable} is {variables[variable]}, not {value}"
            for variable, value in wanted.items()
            if variable in variables and variables[variable] != value
        ]
    return faults


def roles_allow_exactly_what_is_used(project: Project) -> list[str]:
    """Every action on its one resource, and nothing else, for each function."""
    roles = project.application().of_type("AWS::IAM::Role")
    faults = []
    for name, function in project.functions().items():
        role = str(function["Properties"]["Role"]).removesuffix(".Arn")
        user = f"arn:aws:rds-db:us-east-1:555555555555:dbuser:{CLUSTER}/{DATABASE_USERS.get(name)}"
        logs = f"{function['Properties']['LoggingConfig']['LogGroup']}.Arn"
        wanted = {("logs:CreateLogStream", logs), ("logs:PutLogEvents", logs)} | MORE_RIGHTS.get(name, set())
        wanted |= {("rds-db:connect", user)} if name in DATABASE_USERS else set()
        given = set(_rights(roles.get(role, {"Properties": {}}), *_policies_apart(project, role)))
        faults += [f"{name} lacks {right}" for right in sorted(wanted - given)]
        faults += [f"{name} must not {right}" for right in sorted(given - wanted)]
        managed = roles.get(role, {}).get("Properties", {}).get("ManagedPolicyArns")
        if managed != ([] if name in OUTSIDE_THE_VPC else ["NetworkInterfacePolicy"]):
            faults.append(f"{name} has other managed policies than the one for network interfaces")
    return faults


def only_the_worker_puts_events_and_checkpoints_where_they_go(project: Project) -> list[str]:
    """Where the stack names a bus and a bucket. That changes no other right of any function."""
    with_bus, without = project.application(EventBusName="orders", AuditBucketName="ledger"), project.application()
    faults = []
    for name, role in with_bus.of_type("AWS::IAM::Role").items():
        more = set(_rights(role)) - set(_rights(without.resources[name]))
        wanted = PUT_AWAY if name == "AttemptRole" else set()
        faults += [f"with a bus and a bucket {name} may also {right}" for right in sorted(more - wanted)]
        faults += [f"with a bus and a bucket {name} may not {right}" for right in sorted(wanted - more)]
    told = {"ApiFunction", "AttemptFunction"}
    for name, function in with_bus.of_type("AWS::Lambda::Function").items():
        said = function["Properties"]["Environment"]["Variables"].get("EVENT_BUS_NAME")
        if said != ("orders" if name in told else None):
            faults.append(f"{name} is told of the bus {said}")
    return faults


def functions_do_not_share_roles(project: Project) -> list[str]:
    """Nor does anything but Lambda assume them."""
    roles = [str(function["Properties"]["Role"]).removesuffix(".Arn") for function in project.functions().values()]
    known = project.application().of_type("AWS::IAM::Role")
    faults = [f"{role} serves {roles.count(role)} functions" for role in sorted(set(roles)) if roles.count(role) > 1]
    for role in sorted(set(roles) & known.keys()):
        trusted = _trust(known[role])
        if trusted != [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ]:
            faults.append(f"{role} may be assumed by {trusted}")
    return faults


def code_cannot_touch_network_interfaces(project: Project) -> list[str]:
    """The Lambda service may; calls from inside a function carry lambda:SourceFunctionArn and are denied."""
    statements = project.resources(APPLICATION)["NetworkInterfacePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    by_effect = {statement["Effect"]: statement for statement in statements}
    faults = [f"{effect} is not for {actions}" for effect, actions in _unequal_actions(by_effect)]
    if by_effect.get("Deny", {}).get("Condition") != {"Null": {"lambda:SourceFunctionArn": "false"}}:
        faults.append("the denial is not for calls from inside a function")
    return faults


def _unequal_actions(by_effect: dict[str, Any]) -> list[tuple[str, list[str]]]:
    wanted = sorted(NETWORK_INTERFACES)
    effects = ("Allow", "Deny")
    return [(effect, wanted) for effect in effects if sorted(by_effect.get(effect, {}).get("Action", [])) != wanted]


def every_wildcard_has_its_reason_beside_it(project: Project) -> list[str]:
    """A star in a `Resource` carries a comment on its line or the one before; an Action with a star is only denied."""
    faults = []
    for name, text in project.texts.items():
        lines = text.splitlines()
        for key, value in _pairs(yaml.compose(text, Loader=yaml.SafeLoader)):
            for star in _stars(value) if key.value == "Resource" else ():
                own = lines[star.start_mark.line][star.end_mark.column :]
                before = {lines[mark.line - 1].strip()[:1] for mark in (star.start_mark, key.start_mark)}
                if "#" not in own and "#" not in before:
                    faults.append(f"{name}:{star.start_mark.line + 1} has a wildcard without a reason")
        faults += [f"{name}: {action} is allowed" for action in _allowed_stars(project.written(name))]
    return faults


def _stars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        if "*" in str(node.value):
            yield node
    elif isinstance(node, yaml.SequenceNode):
        for element in node.value:
            yield from _stars(element)
    elif isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _stars(value)


def _pairs(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key, value
            yield from _pairs(value)
    elif isinstance(node, yaml.SequenceNode):
        for element in node.value:
            yield from _pairs(element)


def _allowed_stars(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("Effect") == "Allow":
            yield from (action for action in _listed(value.get("Action")) if str(action).endswith("*"))
        for inner in value.values():
            yield from _allowed_stars(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _allowed_stars(inner)


def every_function_has_a_log_group_of_its_own(project: Project) -> list[str]:
    """Made by this stack, not shared."""
    groups = project.application().of_type("AWS::Logs::LogGroup")
    used = [function["Properties"]["LoggingConfig"].get("LogGroup") for function in project.functions().values()]
    return [
        f"the log group {group} is missing or shared" for group in used if group not in groups or used.count(group) > 1
    ]


def every_function_logs_at_the_level_asked_for(project: Project) -> list[str]:
    """Where Lambda formats the lines it has a level of its own, which Powertools follows before ours, and which at WARN
    keeps back what has no level, such as the counts (Lambda: log-level filtering). An alarm reads warnings."""
    faults = []
    for name, function in project.functions().items():
        properties = function["Properties"]
        if properties["LoggingConfig"].get("LogFormat", "Text") != "Text":
            faults.append(f"{name} logs at a level of Lambda's")
        if (
            properties["Environment"]["Variables"].get("POWERTOOLS_LOG_LEVEL")
            != project.application().parameters["LogLevel"]
        ):
            faults.append(f"{name} does not log at LogLevel")
    offered = project.written(APPLICATION)["Parameters"]["LogLevel"]["AllowedValues"]
    return faults + [
        f"LogLevel={level} hides warnings" for level in offered if logging.getLevelName(level) > logging.WARNING
    ]


@everywhere
def every_log_group_ends(case: Case) -> Iterator[str]:
    """CloudWatch retains logs permanently by default; and what logs by itself has a group here."""
    for name, log_group in case.rendered.of_type("AWS::Logs::LogGroup").items():
        if not log_group["Properties"].get("RetentionInDays"):
            yield f"{name} retains its lines permanently"
    for name, function in case.rendered.of_type("AWS::Lambda::Function").items():
        if function["Properties"].get("LoggingConfig", {}).get("LogGroup") not in case.rendered.resources:
            yield f"{name} makes a log group of its own"


def wakeups_outlive_their_workers(project: Project) -> list[str]:
    """Time-outs of functions, queue, partner and lease fit into each other."""
    queue = project.resources(APPLICATION)["WakeupQueue"]["Properties"]
    dead = project.resources(APPLICATION)["DeadLetterQueue"]["Properties"]
    functions = {name: function["Properties"] for name, function in project.functions().items()}
    attempt, api = functions["AttemptFunction"], functions["ApiFunction"]
    faults = []
    if queue.get("VisibilityTimeout", 30) < 6 * attempt["Timeout"]:
        faults.append("the queue shows a message again before six worker time-outs have passed")
    if dead["MessageRetentionPeriod"] <= queue["MessageRetentionPeriod"]:
        faults.append("a message keeps its age in the dead-letter queue, which must keep it for longer")
    if queue.get("RedrivePolicy", {}).get("deadLetterTargetArn") != "DeadLetterQueue.Arn":
        faults.append("wake-ups do not end in the dead-letter queue")
    if not MAX_TOTAL_SECONDS + 3 <= api["Timeout"] <= 29 or attempt["Timeout"] < MAX_TOTAL_SECONDS + 5:
        faults.append("a function ends before its partner may")
    leases = [
        functions[name]["Environment"]["Variables"]["LEASE_SECONDS"] for name in ("ApiFunction", "AttemptFunction")
    ]
    if any(int(lease) <= max(api["Timeout"], attempt["Timeout"]) for lease in leases):
        faults.append("a lease ends before the function that holds it")
    return faults


def the_queue_feeds_the_worker_without_loss(project: Project) -> list[str]:
    """Single failures are reported, a batch is one claim, and the function may wake itself up."""
    (source,) = project.of_type(APPLICATION, "AWS::Lambda::EventSourceMapping").values()
    properties = source["Properties"]
    faults = []
    if properties.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
        faults.append("one bad message fails its whole batch")
    if properties.get("BatchSize") != 10 or properties.get("MaximumBatchingWindowInSeconds", 0) > 0:
        faults.append("batches are not of up to ten without a wait")
    worker = project.functions()[properties["FunctionName"]]["Properties"]
    if worker.get("RecursiveLoop") != "Allow":
        faults.append("Lambda stops a function that wakes itself up after sixteen times")
    for stage, parameters in project.stages().items():
        (source,) = project.of_type(APPLICATION, "AWS::Lambda::EventSourceMapping", **parameters).values()
        pollers = int(source["Properties"]["ScalingConfig"]["MaximumConcurrency"])
        reserved = _reserved(project, parameters).get("AttemptFunction")
        if reserved is not None and reserved < pollers:
            faults.append(f"{stage}: {pollers} pollers are throttled by {reserved} places")
    return faults


def connections_stay_below_the_databases_limit(project: Project) -> list[str]:
    """Each process of a function holds one connection; reserved concurrency bounds them, in every stage that reserves.

    Twice over, because a deployment leaves the old version's processes frozen with theirs, which the server ends after
    five minutes. A standby adds none: functions use the writer alone, and it takes over with the same limit. RDS Proxy
    bounds them by itself, and must leave enough to those who go past it.
    """
    faults = []
    stages = {**project.stages(), "default with reserves": {"ReserveConcurrency": "yes"}}
    for stage, parameters in stages.items():
        application = project.resources(APPLICATION, **parameters)
        limit = _connections_of(application["Database"]["Properties"]["Parameters"])
        if parameters.get("DatabaseProxy") == "yes":
            pool = render(parameters, texts=project.texts).resources["Database.ProxyTargetGroup"]["Properties"]
            percent = int(pool["ConnectionPoolConfigurationInfo"]["MaxConnectionsPercent"])
            if limit * (100 - percent) // 100 < CONNECTIONS_KEPT_FREE:
                faults.append(f"{stage}: the proxy leaves less than {CONNECTIONS_KEPT_FREE} of {limit} connections")
        elif parameters.get("ReserveConcurrency") == "yes":
            faults += [f"{stage}: {fault}" for fault in _too_many(project, parameters, limit)]
    return faults


def _too_many(project: Project, parameters: dict[str, str], limit: int) -> Iterator[str]:
    reserved = _reserved(project, parameters)
    functions = project.functions(**parameters)
    yield from (f"{name} is not bounded" for name in functions if name not in reserved)
    connections = VERSIONS_AT_ONCE * sum(places for name, places in reserved.items() if name in DATABASE_USERS)
    if connections > limit - CONNECTIONS_KEPT_FREE:
        yield f"{connections} connections, and the database takes {limit}"


def _connections_of(capacity: dict[str, str]) -> int:
    limit = max(count for most, count in CONNECTIONS.items() if most <= int(capacity["MaxCapacity"]))
    return min(limit, CONNECTIONS_WHEN_SMALL) if float(capacity["MinCapacity"]) <= 0.5 else limit


def _reserved(project: Project, parameters: dict[str, str]) -> dict[str, int]:
    functions = project.functions(**parameters)
    return {
        name: int(function["Properties"]["ReservedConcurrentExecutions"])
        for name, function in functions.items()
        if function["Properties"].get("ReservedConcurrentExecutions")
    }


def the_migration_gates_what_uses_the_schema(project: Project) -> list[str]:
    """Functions, API, its stage and the queue's event source come after it, at every deployment."""
    resources = project.translated()["Resources"]
    gated = {
        name
        for name, resource in resources.items()
        if resource["Type"].split("::")[1] in {"ApiGateway", "Lambda"}
        and resource["Type"] != "AWS::ApiGateway::Account"
    } - BEFORE_THE_SCHEMA
    faults = [
        f"{name} does not wait for the migration"
        for name in sorted(gated)
        if "Migration" not in before(resources, name)
    ]
    migration = resources["Migration"]["Properties"]
    newest = migrations()[-1].name
    if migration.get("LatestMigration") != newest:
        faults.append(f"Migration.LatestMigration is {migration.get('LatestMigration')}, so {newest} would not run")
    if "Outputs.DbClusterResourceId" not in str(migration.get("DbClusterResourceId")):
        faults.append("the migration does not run again when the cluster is another")
    # Lambda waits a minute before it runs an event again whose function failed.
    two_runs = 2 * int(project.functions()["MigrateFunction"]["Properties"]["Timeout"]) + 60
    if not two_runs < migration.get("ServiceTimeout", 3600) <= 900:
        faults.append("CloudFormation does not give up soon after two runs of the migration would have")
    return faults


def the_stage_comes_after_the_role_for_its_log(project: Project) -> list[str]:
    """API Gateway refuses a stage with an access log while the account has no role for it."""
    earlier = before(project.translated()["Resources"], "ApiStage")
    return [] if "ApiGatewayAccount" in earlier else ["the stage does not wait for ApiGatewayAccount"]


def nothing_waits_for_itself(project: Project) -> list[str]:
    """CloudFormation refuses a circle. What SAM makes is in it too, which linters of the source do not see."""
    for name in project.texts:
        template = project.translated(name) if name in project.sam_templates() else project.written(name)
        resources = template["Resources"]
        waits = {waiting: _named(resource, resources.keys()) - {waiting} for waiting, resource in resources.items()}
        try:
            TopologicalSorter(waits).prepare()
        except CycleError as error:
            return [f"{name}: {' -> '.join(error.args[1])}"]
    return []


def before(resources: dict[str, Any], name: str) -> set[str]:
    """All resources that `name` waits for."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for other in _named(resources[waiting.pop()], resources.keys()) - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def _named(value: Any, names: Any) -> set[str]:
    """The resources that a part of a template refers to."""
    if isinstance(value, list):
        return {name for element in value for name in _named(element, names)}
    if not isinstance(value, dict):
        return set()
    found = {str(name) for name in _listed(value.get("DependsOn"))} | {str(value.get("Ref"))}
    found |= {str(part).partition(".")[0] for part in _listed(value.get("Fn::GetAtt"))[:1]}
    for text in _listed(value.get("Fn::Sub"))[:1]:
        found |= {match.partition(".")[0] for match in re.findall(r"\$\{([^}]+)\}", str(text))}
    return {name for name in found if name in names} | {
        name for element in value.values() for name in _named(element, names)
    }


def _policies_apart(project: Project, role: str) -> list[dict[str, Any]]:
    """The policies that are resources of their own and name the role."""
    policies = project.of_type(APPLICATION, "AWS::IAM::Policy").values()
    return [policy["Properties"] for policy in policies if role in policy["Properties"].get("Roles", [])]


def _rights(role: dict[str, Any], *apart: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a role's own policies and those `apart` allow, one action and one resource at a time."""
    for policy in [*role["Properties"].get("Policies", []), *apart]:
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] != "Allow":
                continue
            for action in _listed(statement["Action"]):
                for resource in _listed(statement["Resource"]):
                    yield str(action), str(resource)


def _trust(role: dict[str, Any]) -> list[dict[str, Any]]:
    return list(role["Properties"]["AssumeRolePolicyDocument"]["Statement"])


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


RULES = [
    functions_are_what_the_table_says,
    the_bill_counts_each_use_once,
    every_handler_exists,
    code_and_nested_templates_exist,
    every_function_has_an_event_and_every_event_a_function,
    every_function_can_be_built,
    what_ships_is_pinned,
    environment_is_what_the_settings_read,
    environment_says_where_things_are,
    roles_allow_exactly_what_is_used,
    functions_do_not_share_roles,
    code_cannot_touch_network_interfaces,
    every_wildcard_has_its_reason_beside_it,
    every_function_has_a_log_group_of_its_own,
    every_function_logs_at_the_level_asked_for,
    every_log_group_ends,
    wakeups_outlive_their_workers,
    the_queue_feeds_the_worker_without_loss,
    connections_stay_below_the_databases_limit,
    the_migration_gates_what_uses_the_schema,
    the_stage_comes_after_the_role_for_its_log,
    nothing_waits_for_itself,
]
