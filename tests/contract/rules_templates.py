"""What every template must be, above all the database's. Each rule returns its faults in words; none is good."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from cfnlint.jsonschema import StandardValidator, ValidationError
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from stack.render import REGION, Symbol
from tests.contract.cases import Case, choices, everywhere
from tests.contract.project import APPLICATION, DATABASE, OBSERVABILITY, Project
from tests.contract.rules_updates import nested_stacks

_GOES = ("Delete", "Delete")  # said, so that nobody wonders, or a scanner
POLICIES: Mapping[str, tuple[str | None, str | None]] = {  # (DeletionPolicy, UpdateReplacePolicy); of others none
    "AWS::ApiGateway::Account": ("RetainExceptOnCreate", "Retain"),  # the account's: other APIs may use it by then
    "AWS::CloudFormation::Stack": _GOES,  # what must stay says so itself
    "AWS::EC2::EIP": ("RetainExceptOnCreate", "Retain"),  # partners know it
    "AWS::Lambda::Version": ("Delete", None),  # nothing calls an older one than the alias names
    "AWS::Logs::LogGroup": _GOES,  # its name would be in the way of the next stack of this name
    "AWS::RDS::DBCluster": ("Snapshot", "Snapshot"),
    "AWS::RDS::DBInstance": _GOES,  # the data is the cluster's
    "AWS::RDS::DBProxy": _GOES,  # it holds connections and nothing else
    "AWS::SQS::Queue": ("Delete", "Retain"),  # with the database they mean nothing; replaced, they are moved by hand
    "AWS::SSM::Parameter": _GOES,  # the last check's result
    "AWS::SecretsManager::Secret": ("RetainExceptOnCreate", "Retain"),  # a restored database needs it
    "Custom::DefaultSecurityGroup": _GOES,
    "Custom::EgressAddresses": _GOES,
    "Custom::Migration": _GOES,
    "Custom::ZoneIds": _GOES,
}
LOG_WRITER = "ApiGatewayLogWriterRole"  # stays with the account's setting that names it
STATEFUL = {  # what else would keep state, so that a newcomer has to say so too
    "AWS::DynamoDB::Table",
    "AWS::EC2::Volume",
    "AWS::EFS::FileSystem",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::KMS::Key",
    "AWS::Kinesis::Stream",
    "AWS::RDS::DBClusterSnapshot",
    "AWS::S3::Bucket",
    "AWS::SSM::Parameter",
}
LETTING_IN = {  # policies of resources, and where they stand; the API's and the endpoints' have rules of their own
    "AWS::ECR::Repository": "RepositoryPolicyText",
    "AWS::KMS::Key": "KeyPolicy",
    "AWS::Logs::ResourcePolicy": "PolicyDocument",
    "AWS::S3::BucketPolicy": "PolicyDocument",
    "AWS::SNS::TopicPolicy": "PolicyDocument",
    "AWS::SQS::QueuePolicy": "PolicyDocument",
    "AWS::SecretsManager::ResourcePolicy": "ResourcePolicy",
}
LIMITS = ("AllowedPattern", "AllowedValues", "MinValue", "MaxValue", "MinLength")
SAME = ("AllowedValues", "MinValue", "MaxValue", "MinLength", "Type")  # patterns stand in the root alone
KEY = "arn:aws:kms:us-east-1:555555555555:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SETTLED = {"DatabaseName", "EngineVersion", "MasterUsername"}  # by the database's own template, for every stage
TYPED_TEXT = re.compile(r"-?\d+(\.\d+)?|true|false")
PASSWORDS = re.compile(r"password|secret|token|credential", re.IGNORECASE)


def everything_is_described(project: Project) -> list[str]:
    """Templates, parameters and outputs."""
    faults = []
    for name in project.texts:
        template = project.written(name)
        faults += [] if template.get("Description") else [f"{name} has no description"]
        faults += [
            f"{name}: {section[:-1]} {key} has no description"
            for section in ("Parameters", "Outputs")
            for key, described in template.get(section, {}).items()
            if not described.get("Description")
        ]
    return faults


def functions_stand_after_what_is_theirs(project: Project) -> list[str]:
    """The log group and the role of each function stand directly before it, in this order: one place to read it."""
    return [
        f"{template}: the log group and the role of {name} do not stand before it, but {before}"
        for template in project.sam_templates()
        for names in [list(project.written(template)["Resources"])]
        for place, name in enumerate(names)
        if name.endswith("Function")
        and (before := names[max(place - 2, 0) : place])
        != [name.removesuffix("Function") + "LogGroup", name.removesuffix("Function") + "Role"]
    ]


def what_api_gateway_answers_stands_last(project: Project) -> list[str]:
    """The API is the last resource and the gateway's own answers its last property: long, and read by few."""
    name, api = list(project.written(APPLICATION)["Resources"].items())[-1]
    last = list(api.get("Properties", {}))[-1]
    return [] if (name, last) == ("Api", "GatewayResponses") else [f"the last thing is {last} of {name}"]


def nested_stacks_are_named_like_their_files(project: Project) -> list[str]:
    """VpcFlowLogs is in infra/vpc-flow-logs.yaml; what there is one of for each zone, A and B, in one file."""
    words = re.compile(r"(?<!^)(?=[A-Z])")
    return [
        f"{name} is in {file}"
        for name, file, _ in nested_stacks(project)
        if file != f"infra/{words.sub('-', re.sub(r'(?<=[a-z])[AB]$', '', name)).lower()}.yaml"
    ]


def no_name_is_of_two_things(project: Project) -> list[str]:
    """Of a parameter and a resource of one template: CloudFormation refuses that before it makes anything."""
    faults = []
    for name in project.texts:
        template = project.written(name)
        both = template.get("Parameters", {}).keys() & template["Resources"].keys()
        faults += [f"{name}: {key} is a parameter and a resource" for key in sorted(both)]
    return faults


def every_parameter_is_limited(project: Project) -> list[str]:
    """Of the root, which passes them on: by a pattern, by values or bounds."""
    return [
        f"parameter {key} takes anything"
        for key, parameter in project.written(APPLICATION)["Parameters"].items()
        if not any(limit in parameter for limit in LIMITS)
    ]


@everywhere
def every_resource_is_as_aws_describes_its_type(case: Case) -> Iterator[str]:
    """By AWS's own schemas, which cfn-lint ships: what must be there is there, and nothing that does not exist.

    `make validate` holds the templates as they are written to the same, with both sides of each `!If` and without what
    SAM makes of them. What our own provider makes (Custom::) has no schema.
    """
    for name, resource in case.rendered.resources.items():
        if not resource["Type"].startswith("Custom::"):
            yield from (f"{name}: {fault}" for fault in _schema_faults(resource["Type"], resource["Properties"]))


_checked: dict[str, tuple[str, ...]] = {}  # most resources are the same in most choices


def _schema_faults(kind: str, properties: Mapping[str, Any]) -> tuple[str, ...]:
    key = json.dumps([kind, properties], sort_keys=True)
    if key not in _checked:
        errors = StandardValidator(_schema(kind)).iter_errors(properties)
        _checked[key] = tuple(_said(error) for error in errors if not _is_open(error))
    return _checked[key]


@cache
def _schema(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    return schema


def _said(error: ValidationError) -> str:
    return f"{'.'.join(str(part) for part in error.path)}: {error.message}".removeprefix(": ")


def _is_open(error: ValidationError) -> bool:
    """Numbers and truths that come from parameters are texts, which CloudFormation takes; an id only AWS knows."""
    typed = error.validator == "type" and isinstance(error.instance, str) and TYPED_TEXT.fullmatch(error.instance)
    return bool(typed) or (error.validator == "pattern" and isinstance(error.instance, Symbol))


def nested_templates_get_what_they_ask_for(project: Project) -> list[str]:
    """Every parameter is passed, even one with a default, none that does not exist; outputs that are read exist."""
    faults = []
    for name, nested, given in nested_stacks(project):
        asked = project.written(nested).get("Parameters", {})
        faults += [f"{name} does not get {key}" for key in sorted(asked.keys() - given.keys() - SETTLED)]
        faults += [f"{name} gets an unknown {key}" for key in sorted(given.keys() - asked.keys())]
        read = set(re.findall(rf"\b{name}\.Outputs\.(\w+)", project.texts[APPLICATION]))
        outputs = project.written(nested).get("Outputs", {}).keys()
        faults += [f"{name} has no output {key}" for key in sorted(read - outputs)]
    return faults


def conditions_are_worked_out_once(project: Project) -> list[str]:
    """A condition of a nested template that holds whenever another one does, or never then, is handed the answer: it
    asks for `yes`. Whether a value that the template uses is empty, it may look at itself.
    """
    truths = [project.application(**parameters).conditions for _, parameters in choices(project)]
    columns = {name: tuple(of.get(name) for of in truths) for of in truths for name in of}
    worked_out = {
        f"{stack}.{name}"
        for stack, nested, _ in nested_stacks(project)
        for name, test in project.written(nested).get("Conditions", {}).items()
        if not _is_handed_down(test, project.written(nested))
    }
    return [
        f"{name} is worked out again, and {other} has the answer"
        for name in sorted(worked_out & columns.keys())
        for other, column in sorted(columns.items())
        if None not in column  # of the root, or of a stack that is always there: others coincide
        and other.rpartition(".")[0] != name.rpartition(".")[0]
        and _say_the_same(columns[name], column)
    ]


def _is_handed_down(test: Any, template: Mapping[str, Any]) -> bool:
    """An answer of the root's, a combination of conditions, or whether a value that is used is empty."""
    if "Condition" in test:
        return True
    ((function, arguments),) = test.items()
    if function != "Fn::Equals":
        return all(_is_handed_down(part, template) for part in arguments)
    asked, wanted = arguments
    used = json.dumps([template.get("Globals", {}), template["Resources"], template.get("Outputs", {})])
    is_of_a_value = isinstance(asked, dict) and f'{{"Ref": "{asked.get("Ref")}"}}' in used
    return wanted == "yes" or (wanted == "" and (is_of_a_value or "Fn::Select" in asked))


def _say_the_same(one: tuple[bool | None, ...], other: tuple[bool | None, ...]) -> bool:
    """Over the choices in which both stacks exist, where each is true in some and false in others."""
    pairs = {pair for pair in zip(one, other, strict=True) if None not in pair}
    return pairs in ({(True, True), (False, False)}, {(True, False), (False, True)})


def nested_parameters_say_the_same_as_ours(project: Project) -> list[str]:
    """A parameter that is passed on under its own name has the same limits in both templates."""
    ours = project.written(APPLICATION)["Parameters"]
    faults = []
    for name, nested, given in nested_stacks(project):
        asked = project.written(nested)["Parameters"]
        passed = [key for key, value in given.items() if value == {"Ref": key} and key in asked and key in ours]
        limits = [(key, limit) for key in passed if key != "Stage" for limit in SAME]
        faults += [
            f"{name}: {limit} of {key} differs"
            for key, limit in limits
            if asked[key].get(limit) != ours[key].get(limit)
        ]
    return faults


def stages_are_deployable(project: Project) -> list[str]:
    """samconfig.toml passes only parameters that exist, with values that they allow, and no secrets."""
    faults = [
        f"samconfig.toml speaks of a {word}" for word in set(PASSWORDS.findall(_without_comments(project.samconfig)))
    ]
    known = project.written(APPLICATION)["Parameters"]
    for stage, parameters in project.stages().items():
        unknown = sorted(parameters.keys() - known.keys())
        faults += [f"{stage}: there is no parameter {key}" for key in unknown]
        if not unknown:
            faults += _render_faults(project, stage, parameters)
    return faults


def _render_faults(project: Project, stage: str, parameters: dict[str, str]) -> list[str]:
    try:
        resources = project.resources(APPLICATION, **parameters)
    except ValueError as error:
        return [f"{stage}: {error}"]
    capacity = resources["Database"]["Properties"]["Parameters"]
    faults = []
    if float(capacity["MinCapacity"]) > float(capacity["MaxCapacity"]):
        faults.append(f"{stage}: the least capacity is above the most")
    return faults


@everywhere
def what_keeps_state_says_what_becomes_of_it(case: Case) -> Iterator[str]:
    """Exactly those of the list: what is not on it has none, and what would keep state must be put on it."""
    for name, resource in case.rendered.resources.items():
        stated = (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        wanted = (
            ("RetainExceptOnCreate", "Retain") if name == LOG_WRITER else POLICIES.get(resource["Type"], (None, None))
        )
        if stated != wanted:
            yield f"{name} has the policies {stated}, not {wanted}"
        if resource["Type"] in STATEFUL - POLICIES.keys():
            yield f"{name} would keep state, and nobody says what becomes of it"


@everywhere
def nothing_is_public(case: Case) -> Iterator[str]:
    """No bucket, no policy that lets in others than this account, no address for the database unless asked for."""
    for name, resource in case.rendered.resources.items():
        properties = resource["Properties"]
        if resource["Type"].startswith("AWS::S3::"):
            yield f"{name} is a bucket, and nothing here needs one"
        is_public = str(properties.get("PubliclyAccessible", "false")).lower() != "false"
        if is_public and not case.can.public_database:
            yield f"{name} may get a public address"
        if resource["Type"] in LETTING_IN:
            statements = properties[LETTING_IN[resource["Type"]]]["Statement"]
            yield from (f"{name} lets others in" for statement in statements if _lets_others_in(statement))
        if resource["Type"] == "AWS::Lambda::Permission" and not {"SourceArn", "SourceAccount"} & properties.keys():
            yield f"{name} lets other accounts' services call a function"


def _lets_others_in(statement: dict[str, Any]) -> bool:
    """Any principal but a service of AWS that acts for this account."""
    if statement["Effect"] == "Deny":
        return False
    principal = statement.get("Principal")
    conditions = {key for condition in statement.get("Condition", {}).values() for key in condition}
    is_service = isinstance(principal, dict) and set(principal) == {"Service"}
    return not (is_service and conditions & {"aws:SourceAccount", "aws:SourceArn"})


@everywhere
def every_statement_about_a_resource_names_a_principal(case: Case) -> Iterator[str]:
    """Whom it allows or denies something. No schema asks for it; AWS refuses the policy while it makes the stack."""
    places = {**LETTING_IN, "AWS::EC2::VPCEndpoint": "PolicyDocument", "AWS::ApiGateway::RestApi": "Policy"}
    places |= {"AWS::IAM::Role": "AssumeRolePolicyDocument"}
    for name, resource in case.rendered.resources.items():
        document = resource["Properties"].get(places.get(resource["Type"], ""), {})
        if any("Principal" not in statement for statement in document.get("Statement", ())):
            yield f"{name}: a statement of its policy names no principal"


AT_CREATION = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}  # of who reads a queue


@everywhere
def rights_are_there_before_what_needs_them(case: Case) -> Iterator[str]:
    """A policy of its own is attached after its role, and what uses the role does not wait for it: AWS refuses a
    function in the VPC, or one that reads a queue, without the right. So the role has it, or what needs it waits.
    """
    resources = case.rendered.resources
    waited_for = {other for resource in resources.values() for other in resource["DependsOn"]}
    for name, resource in resources.items():
        kind, properties = resource["Type"], resource["Properties"]
        attaches_itself = kind == "AWS::IAM::Policy" or (kind == "AWS::IAM::ManagedPolicy" and "Roles" in properties)
        if attaches_itself and name not in waited_for:
            yield f"{name} is attached to its role whenever, and nothing waits for it"
        if kind == "AWS::Lambda::EventSourceMapping":
            function = str(properties["FunctionName"]).removesuffix(".Alias")
            if missing := sorted(AT_CREATION - _own_actions(resources, function)):
                yield f"{name}: the role of {function} lacks {', '.join(missing)} when it is created"


def _own_actions(resources: Mapping[str, dict[str, Any]], function: str) -> set[str]:
    """What the policies that are written in the role allow."""
    role = resources[str(resources[function]["Properties"]["Role"]).removesuffix(".Arn")]["Properties"]
    statements = [
        statement for policy in role.get("Policies", ()) for statement in policy["PolicyDocument"]["Statement"]
    ]
    actions = [statement["Action"] for statement in statements if statement["Effect"] == "Allow"]
    return {one for action in actions for one in (action if isinstance(action, list) else [action])}


def every_queue_is_encrypted_and_takes_tls_only(project: Project) -> list[str]:
    """At rest by SQS's own key or by ours, on the way by a policy that denies plain HTTP."""
    queues = project.of_type(APPLICATION, "AWS::SQS::Queue")
    denied = {
        statement["Resource"]
        for policy in project.of_type(APPLICATION, "AWS::SQS::QueuePolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
        and [str(statement["Resource"]).removesuffix(".Arn")] == policy["Properties"]["Queues"]
    }
    faults = [f"{name} takes plain HTTP" for name in queues if f"{name}.Arn" not in denied]
    faults += [
        f"{name} is not encrypted"
        for name, queue in queues.items()
        if queue["Properties"].get("SqsManagedSseEnabled") is not True
    ]
    return faults + [
        f"{name} is not encrypted with our key"
        for name, queue in project.of_type(APPLICATION, "AWS::SQS::Queue", KmsKeyArn=KEY).items()
        if queue["Properties"].get("KmsMasterKeyId") != KEY or queue["Properties"].get("SqsManagedSseEnabled")
    ]


def no_password_exists(project: Project) -> list[str]:
    """The database takes IAM tokens alone; the one secret is made by AWS; no parameter could hold one."""
    cluster = _cluster(project)
    faults = [f"the cluster has {key}" for key in cluster if "Password" in key]
    if (cluster.get("MasterUserAuthenticationType"), cluster.get("EnableIAMDatabaseAuthentication")) != (
        "iam-db-auth",
        True,
    ):
        faults.append("the master user has a password")
    for template in project.texts:
        parameters = project.written(template).get("Parameters", {})
        faults += [f"{template}: parameter {key} could hold a secret" for key in parameters if PASSWORDS.search(key)]
        for name, secret in project.of_type(template, "AWS::SecretsManager::Secret").items():
            generated = secret["Properties"].get("GenerateSecretString", {})
            if "SecretString" in secret["Properties"] or generated.get("PasswordLength", 0) < 43:
                faults.append(f"{name} is not 256 random bits that AWS made")
    return faults


def the_database_is_closed_and_kept(project: Project) -> list[str]:
    """TLS is forced, storage encrypted, backups taken, logs exported to groups that exist before the first line."""
    cluster, resources = _cluster(project), project.resources(DATABASE)
    group = resources["Database.DatabaseParameterGroup"]["Properties"]
    instance = resources["Database.DatabaseInstance"]
    exports = cluster.get("EnableCloudwatchLogsExports", [])
    groups = {
        resource["Properties"]["LogGroupName"].removeprefix(f"/aws/rds/cluster/{cluster['DBClusterIdentifier']}/"): name
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Logs::LogGroup"
    }
    holds = {
        "TLS is forced": group["Parameters"].get("rds.force_ssl") == "1",
        "the parameters are the cluster's": cluster.get("DBClusterParameterGroupName")
        == "Database.DatabaseParameterGroup",
        "the family is the engine's": group["Family"]
        == f"aurora-postgresql{str(cluster['EngineVersion']).split('.')[0]}",
        "storage is encrypted": cluster.get("StorageEncrypted") is True,
        "backups are taken": int(cluster.get("BackupRetentionPeriod", 0)) > 0,
        "snapshots keep their tags": cluster.get("CopyTagsToSnapshot") is True,
        "the instance is serverless": instance["Properties"]["DBInstanceClass"] == "db.serverless",
        "the logs have groups": bool(exports) and set(exports) == set(groups),
        "the groups are made before the cluster": set(groups.values())
        == set(resources["Database.DatabaseCluster"].get("DependsOn", [])),
        "a creation that failed can be undone": "DeletionProtection" not in cluster,
    }
    return [f"it does not hold that {what}" for what, true in holds.items() if not true]


def capacity_pauses_only_at_zero(project: Project) -> list[str]:
    """SecondsUntilAutoPause is refused with any other least capacity."""
    paused = _cluster(project, DatabaseMinCapacity="0")["ServerlessV2ScalingConfiguration"]
    awake = _cluster(project, DatabaseMinCapacity="0.5")["ServerlessV2ScalingConfiguration"]
    faults = [] if 300 <= int(paused.get("SecondsUntilAutoPause", 0)) <= 86400 else ["it does not pause at zero"]
    return faults + (["it would pause above zero"] if "SecondsUntilAutoPause" in awake else [])


# What silence means, where it is not that all is well: a check that saw no address leaves the alarm of the wrong
# address as it was, as does no look for what is overdue, and no check at all is a failure of the check.
_SILENCE = {"EgressAddressAlarm": "ignore", "EgressCheckAlarm": "breaching", "OverdueAlarm": "ignore"}


def alarms_tell_what_to_do(project: Project) -> list[str]:
    """In prose, to the topic; and there is one for each way of losing deliveries."""
    alarms = project.of_type(OBSERVABILITY, "AWS::CloudWatch::Alarm")
    faults = []
    for name, alarm in alarms.items():
        properties = alarm["Properties"]
        words = str(properties.get("AlarmDescription", "")).split()
        faults += [] if len(words) >= 20 else [f"{name} does not say what to do"]
        faults += [] if properties.get("AlarmActions") == ["Observability.AlarmTopic"] else [f"{name} tells nobody"]
        silence = _SILENCE.get(name.rpartition(".")[2].rstrip("AB"), "notBreaching")
        faults += [] if properties.get("TreatMissingData") == silence else [f"{name} takes silence for something else"]
    watched = {_watched(alarm["Properties"]) for alarm in alarms.values() if "MetricName" in alarm["Properties"]}
    wanted = {
        ("ApproximateNumberOfMessagesVisible", "DeadLetterQueue.QueueName"),
        ("ApproximateAgeOfOldestMessage", "sallyport-wakeups"),
        ("Errors", "ApiFunction"),
        ("Errors", "AttemptFunction"),
        ("sallyport-AuthorizerFailures", ""),
        ("Throttles", "ApiFunction"),
        ("Throttles", "AttemptFunction"),
        ("Throttles", "AuthorizeFunction"),
        ("5XXError", "sallyport"),
    }
    return faults + [f"nobody watches {metric} of {what or 'the stack'}" for metric, what in sorted(wanted - watched)]


def _watched(properties: dict[str, Any]) -> tuple[str, str]:
    dimensions = properties.get("Dimensions") or [{"Value": ""}]
    return str(properties["MetricName"]), str(dimensions[0]["Value"])


def the_application_tells_addresses_and_url(project: Project) -> list[str]:
    """Outputs that people need after a deployment."""
    outputs = project.application().outputs
    wanted = {
        "ApiUrl": "https://Api.execute-api.us-east-1.amazonaws.com/dev",
        "FixedAddresses": "Network.EgressAddressA.PublicIp",
        "EgressAddresses": project.application().outputs["Network.EgressAddresses"],
        "AdminFunctionName": "AdminFunction",
    }
    found = {name: outputs.get(name) for name in wanted}
    return [f"{name} is {found[name]}" for name, value in wanted.items() if found[name] != value]


def _cluster(project: Project, **parameters: str) -> dict[str, Any]:
    cluster: dict[str, Any] = project.resources(DATABASE, **parameters)["Database.DatabaseCluster"]["Properties"]
    return cluster


def _without_comments(text: str) -> str:
    return re.sub(r"#.*", "", text)


RULES = [
    everything_is_described,
    functions_stand_after_what_is_theirs,
    what_api_gateway_answers_stands_last,
    nested_stacks_are_named_like_their_files,
    no_name_is_of_two_things,
    every_parameter_is_limited,
    every_resource_is_as_aws_describes_its_type,
    nested_templates_get_what_they_ask_for,
    conditions_are_worked_out_once,
    nested_parameters_say_the_same_as_ours,
    stages_are_deployable,
    what_keeps_state_says_what_becomes_of_it,
    nothing_is_public,
    every_statement_about_a_resource_names_a_principal,
    rights_are_there_before_what_needs_them,
    every_queue_is_encrypted_and_takes_tls_only,
    no_password_exists,
    the_database_is_closed_and_kept,
    capacity_pauses_only_at_zero,
    alarms_tell_what_to_do,
    the_application_tells_addresses_and_url,
]
