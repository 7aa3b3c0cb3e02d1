"""The edge, keys, traces and events that nobody waits for: what is there when it is asked for. Each rule returns its
faults in words; none is good."""

from typing import Any

from stack.functions import Trigger, triggered_by
from tests.contract.project import APPLICATION, Project

EDGE = "infra/edge.yaml"
KEY = "arn:aws:kms:us-east-1:555555555555:key/1234abcd-12ab-34cd-56ef-1234567890ab"
CERTIFICATE = "arn:aws:acm:us-east-1:555555555555:certificate/1234abcd"
LAYER = "arn:aws:lambda:us-east-1:901920570463:layer:aws-otel-python-arm64-ver-1-32-0:2"
DOMAIN = {"DomainName": "api.example.com", "CertificateArn": CERTIFICATE}
OTEL = {"Tracing": "otel", "OpenTelemetryLayerArn": LAYER}
SECRET_HEADERS = {"authorization", "proxy-authorization", "cookie", "x-api-key"}
# All rules on bodies of the groups that stand before the API, as AWS's pages listed them on 2026-11-27:
# https://docs.aws.amazon.com/waf/latest/developerguide/aws-managed-rule-groups-list.html
JUDGING_BODIES = {
    "AWSManagedRulesAmazonIpReputationList": set[str](),
    "AWSManagedRulesCommonRuleSet": {
        "CrossSiteScripting_BODY",
        "EC2MetaDataSSRF_BODY",
        "GenericLFI_BODY",
        "GenericRFI_BODY",
        "SizeRestrictions_BODY",
    },
    "AWSManagedRulesKnownBadInputsRuleSet": {"JavaDeserializationRCE_BODY", "Log4JRCE_BODY", "ReactJSRCE_BODY"},
}
# Where a type of resource names the key that it is encrypted with.
KEYED = {
    "AWS::Lambda::Function": "KmsKeyArn",
    "AWS::Logs::LogGroup": "KmsKeyId",
    "AWS::RDS::DBCluster": "KmsKeyId",
    "AWS::SNS::Topic": "KmsMasterKeyId",
    "AWS::SQS::Queue": "KmsMasterKeyId",
    "AWS::SecretsManager::Secret": "KmsKeyId",
}
# Functions that a schedule or CloudFormation calls, without waiting for them.
UNAWAITED = set(triggered_by(Trigger.SCHEDULE, Trigger.CUSTOM_RESOURCE))


def the_edge_is_there_when_it_is_asked_for(project: Project) -> list[str]:
    """No part of it otherwise."""
    wanted: list[tuple[dict[str, str], set[str]]] = [
        ({}, set()),
        (
            {"WebAcl": "yes"},
            {"AWS::WAFv2::WebACL", "AWS::WAFv2::WebACLAssociation", "AWS::WAFv2::LoggingConfiguration"},
        ),
        (DOMAIN, {"AWS::ApiGateway::DomainName", "AWS::ApiGateway::BasePathMapping"}),
        (
            DOMAIN | {"HostedZoneId": "Z0123"},
            {"AWS::ApiGateway::DomainName", "AWS::ApiGateway::BasePathMapping", "AWS::Route53::RecordSet"},
        ),
    ]
    faults = []
    for parameters, kinds in wanted:
        found = {resource["Type"] for resource in project.resources(EDGE, **parameters).values()} - {
            "AWS::Logs::LogGroup"
        }
        if found != kinds:
            faults.append(f"with {sorted(parameters)} there are {sorted(found)}")
    return faults


def the_firewall_judges_no_body_and_stands_before_the_stage(project: Project) -> list[str]:
    """Bodies hold up to 4 MiB of whatever partners take."""
    made = project.resources(EDGE, WebAcl="yes", WebAclRate="700")
    rules = made["Edge.WebAccessControlList"]["Properties"]["Rules"]
    groups = {
        rule["Statement"]["ManagedRuleGroupStatement"]["Name"]: {
            override["Name"]
            for override in rule["Statement"]["ManagedRuleGroupStatement"].get("RuleActionOverrides", [])
            if override["ActionToUse"] == {"Count": {}}
        }
        for rule in rules
        if "ManagedRuleGroupStatement" in rule["Statement"]
    }
    faults = [f"nobody looked which rules of {name} judge bodies" for name in groups.keys() - JUDGING_BODIES.keys()]
    faults += [
        f"{name} blocks bodies"
        for group, counting in sorted(groups.items())
        for name in sorted(JUDGING_BODIES.get(group, set()) - counting)
    ]
    if "AWSManagedRulesAmazonIpReputationList" not in groups:
        faults.append("known bad addresses come in")
    rates = [rule["Statement"]["RateBasedStatement"] for rule in rules if "RateBasedStatement" in rule["Statement"]]
    if [(rate["Limit"], rate["EvaluationWindowSec"], rate["AggregateKeyType"]) for rate in rates] != [
        ("700", 300, "IP")
    ]:
        faults.append(f"the limit by address is {rates}")
    if sorted(rule["Priority"] for rule in rules) != list(range(len(rules))):
        faults.append("two rules have one place")
    stage = made["Edge.WebAccessControlListAssociation"]["Properties"]["ResourceArn"]
    if stage != "arn:aws:apigateway:us-east-1::/restapis/Api/stages/ApiStage":
        faults.append(f"the firewall stands before {stage}")
    return faults


def the_firewall_shows_no_credentials(project: Project) -> list[str]:
    """Neither its log nor samples of requests; path and query can hold a partner's secret."""
    made = project.resources(EDGE, WebAcl="yes")
    redacted = made["Edge.WebAccessControlListLogging"]["Properties"]["RedactedFields"]
    headers = {field["SingleHeader"]["Name"] for field in redacted if "SingleHeader" in field}
    faults = [f"the log shows {name}" for name in sorted(SECRET_HEADERS - headers)]
    faults += [f"the log shows {part}" for part in ("UriPath", "QueryString") if {part: {}} not in redacted]
    firewall = made["Edge.WebAccessControlList"]["Properties"]
    seen = [firewall["VisibilityConfig"], *(rule["VisibilityConfig"] for rule in firewall["Rules"])]
    if any(view["SampledRequestsEnabled"] for view in seen):
        faults.append("samples of requests are kept")
    return faults


def the_name_takes_current_tls_and_is_the_only_one(project: Project) -> list[str]:
    """It maps to the stage; the worker never calls it, and the name that API Gateway gives is switched off."""
    made = project.resources(EDGE, **DOMAIN, HostedZoneId="Z0123")
    domain, mapping = made["Edge.CustomDomain"]["Properties"], made["Edge.CustomDomainMapping"]["Properties"]
    root = project.resources(APPLICATION, **DOMAIN)
    own = {
        name: project.resources(APPLICATION, **given)["Api"]["Properties"]
        for name, given in (("no", {}), ("yes", DOMAIN))
    }
    off = {name: _endpoint(resource) for name, resource in own.items()}
    blocked = root["AttemptFunction"]["Properties"]["Environment"]["Variables"]["BLOCKED_HOSTS"].split(",")
    checks = {
        "takes old TLS": domain["SecurityPolicy"].startswith("SecurityPolicy_TLS13_1_2_"),
        "is not regional": domain["EndpointConfiguration"] == {"Types": ["REGIONAL"]},
        "leads elsewhere": (mapping["Stage"], mapping["RestApiId"], mapping.get("BasePath"))
        == ("ApiStage", "Api", None),
        "is not the only one": off == {"no": False, "yes": True},
        "can be a destination": "api.example.com" in blocked,
        "is not what people are told": project.application(**DOMAIN).outputs["ApiUrl"] == "https://api.example.com",
    }
    return [f"the name {fault}" for fault, right in checks.items() if not right]


def _endpoint(api: dict[str, Any]) -> bool:
    (server,) = api["Body"]["servers"]
    return bool(server["x-amazon-apigateway-endpoint-configuration"]["disableExecuteApiEndpoint"])


def a_key_of_ones_own_encrypts_everything_that_rests(project: Project) -> list[str]:
    """And without one nothing names a key."""
    more = {"WebAcl": "yes", "FlowLogs": "all"}
    faults = []
    for parameters, wanted in (({"KmsKeyArn": KEY} | more, KEY), (more, None)):
        for address, resource in project.application(**parameters).resources.items():
            found = resource["Properties"].get(KEYED[resource["Type"]]) if resource["Type"] in KEYED else wanted
            if found != wanted and not (wanted is None and str(found).startswith("alias/aws/")):
                faults.append(f"{address} is encrypted with {found}, not {wanted}")
    return faults


def functions_may_use_the_key_and_no_other(project: Project) -> list[str]:
    """All decrypt their settings; who sends messages needs data keys. Without a key there are no such rights."""
    faults = []
    for parameters in ({}, {"KmsKeyArn": KEY}):
        made = project.resources(APPLICATION, **parameters)
        for name, resource in made.items():
            if resource["Type"] == "AWS::Lambda::Function":
                role = made[resource["Properties"]["Role"].removesuffix(".Arn")]["Properties"]
                rights = _key_rights(role, made)
                sends = any("sqs:SendMessage" in str(policy) for policy in role["Policies"])
                wanted = {("kms:Decrypt", KEY)} | ({("kms:GenerateDataKey", KEY)} if sends else set())
                if rights != (wanted if parameters else set()):
                    faults.append(f"with {sorted(parameters)} {name} may {sorted(rights)}")
    return faults


def _key_rights(role: dict[str, Any], made: dict[str, dict[str, Any]]) -> set[tuple[str, str]]:
    documents = [policy["PolicyDocument"] for policy in role["Policies"]]
    documents += [
        made[name]["Properties"]["PolicyDocument"] for name in role.get("ManagedPolicyArns", []) if name in made
    ]
    return {
        (action, statement["Resource"])
        for document in documents
        for statement in document["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        if action.startswith("kms:")
    }


def traces_are_taken_when_asked_for(project: Project) -> list[str]:
    """By API Gateway and every function, whose role may hand them over; the layer and its program with otel alone."""
    faults = []
    for parameters, active, layers in (({}, False, []), ({"Tracing": "xray"}, True, []), (OTEL, True, [LAYER])):
        made = project.application(**parameters).resources
        if made["ApiStage"]["Properties"]["TracingEnabled"] is not active:
            faults.append(f"with {parameters} API Gateway does otherwise")
        for name, function in project.functions(**parameters).items():
            properties = function["Properties"]
            role = made[properties["Role"].removesuffix(".Arn")]["Properties"]
            found = (
                properties["TracingConfig"] == {"Mode": "Active" if active else "PassThrough"},
                properties.get("Layers") == layers,
                ("AWS_LAMBDA_EXEC_WRAPPER" in properties["Environment"]["Variables"]) is bool(layers),
                ("TracingPolicy" in role["ManagedPolicyArns"]) is active,
            )
            faults += [] if all(found) else [f"with {parameters} {name} does otherwise: {found}"]
    return faults


def events_that_nobody_waits_for_are_bounded_and_kept(project: Project) -> list[str]:
    """Lambda's own default is two repeats in six hours, and then silence."""
    kept = {
        config["Properties"]["FunctionName"]: config["Properties"]
        for config in project.application().of_type("AWS::Lambda::EventInvokeConfig").values()
    }
    faults = [f"{name} is called by events that are not looked after" for name in sorted(UNAWAITED ^ kept.keys())]
    for name, properties in kept.items():
        if properties.get("MaximumEventAgeInSeconds", 21600) > 900 or properties.get("MaximumRetryAttempts", 2) > 1:
            faults.append(f"{name} is called again long after anyone waits")
        if properties.get("DestinationConfig") != {"OnFailure": {"Destination": "FailedInvocationQueue.Arn"}}:
            faults.append(f"events of {name} are lost")
    return faults


def dead_letters_come_from_the_one_queue(project: Project) -> list[str]:
    """The dead-letter queue names the queue that may use it; nothing may use the other two for that."""
    made = project.resources(APPLICATION)
    name = made["WakeupQueue"]["Properties"].get("QueueName")
    arn = f"arn:aws:sqs:us-east-1:555555555555:{name}"
    allowed = made["DeadLetterQueue"]["Properties"].get("RedriveAllowPolicy")
    faults = (
        [] if allowed == {"redrivePermission": "byQueue", "sourceQueueArns": [arn]} else [f"dead letters of {allowed}"]
    )
    refusing = made["FailedInvocationQueue"]["Properties"].get("RedriveAllowPolicy")
    return faults if refusing == {"redrivePermission": "denyAll"} else [*faults, "failed invocations mix with others"]


def snapshots_are_made_of_the_api_alone(project: Project) -> list[str]:
    """When asked for; and never with a layer, whose program would be in them."""
    asked = {
        name: function["Properties"].get("SnapStart") for name, function in project.functions(SnapStart="yes").items()
    }
    faults = [
        f"{name} has {snap_start}"
        for name, snap_start in asked.items()
        if snap_start != ({"ApplyOn": "PublishedVersions"} if name == "ApiFunction" else None)
    ]
    if project.functions()["ApiFunction"]["Properties"]["SnapStart"] != {"ApplyOn": "None"}:
        faults.append("a snapshot is made that nobody asked for")
    try:
        project.application(SnapStart="yes", **OTEL)
    except ValueError:
        return faults
    return [*faults, "a layer's program runs before the snapshot"]


RULES = [
    the_edge_is_there_when_it_is_asked_for,
    the_firewall_judges_no_body_and_stands_before_the_stage,
    the_firewall_shows_no_credentials,
    the_name_takes_current_tls_and_is_the_only_one,
    a_key_of_ones_own_encrypts_everything_that_rests,
    functions_may_use_the_key_and_no_other,
    traces_are_taken_when_asked_for,
    events_that_nobody_waits_for_are_bounded_and_kept,
    dead_letters_come_from_the_one_queue,
    snapshots_are_made_of_the_api_alone,
]
