"""What takes the place of the cloud on this machine, held against the template and what the functions read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import sqs, stand_ins
from local.functions import REPOSITORY
from local.sqs import SqsServer
from local.stack import Stack, StackConfiguration
from local.template import FunctionTemplate, Loader, QueueTemplate, Template
from tests.contract.project import CHECK_EGRESS, load
from tests.contract.rules_functions import settings_of

SETTINGS = {
    name: settings_of(function.handler) for name, function in Template(REPOSITORY / "template.yaml").functions().items()
}
# What a function can meet while it runs, and so has a stand-in; `local.template` reads them.
EMULATED = {
    "AWS::Serverless::Api",
    "AWS::Serverless::Function",
    "AWS::SQS::Queue",
    "AWS::SSM::Parameter",
    "AWS::SecretsManager::Secret",
}
# What no function can see: rights, logs, what CloudFormation does once, and the network, which the lab has.
UNSEEN = {
    "AWS::ApiGateway::Account",
    "AWS::CloudFormation::Stack",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Logs::LogGroup",
    "AWS::SQS::QueuePolicy",
    "Custom::DefaultSecurityGroup",
    "Custom::EgressAddresses",
    "Custom::Migration",
    "Custom::ZoneIds",
}
# Lambda's own library reads these, not our settings.
OF_POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL"}


@pytest.fixture(scope="module")
def server() -> Iterator[SqsServer]:
    server = SqsServer()
    server.start()
    yield server
    server.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A stack that is not started: it has the template's queues and parameters. `given` is each function's
    environment."""

    stack: Stack
    given: Mapping[str, Mapping[str, str]]


@pytest.fixture
def prepared(server: SqsServer, tmp_path: Path) -> Iterator[Prepared]:
    stack = Stack(StackConfiguration(directory=tmp_path, port=0, partner_port=0, report=lambda _: None))
    stack._open_ports()
    functions = stack._template_on(server).functions()
    yield Prepared(
        stack=stack, given={name: stack._function(function).variables for name, function in functions.items()}
    )
    stack.stop()


def content() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((REPOSITORY / "template.yaml").read_text(), Loader=Loader)  # noqa: S506 - safe
    return loaded


def test_every_resource_of_the_template_is_emulated_here_or_cannot_be_seen_by_a_function() -> None:
    found = {resource["Type"] for resource in content()["Resources"].values()}
    assert found - EMULATED - UNSEEN == set()
    assert found >= EMULATED


def test_a_function_has_here_what_the_template_gives_it_and_nothing_else(prepared: Prepared) -> None:
    """So it cannot read here what it would miss on AWS."""
    shared = {
        name for name, value in content()["Globals"]["Function"]["Environment"]["Variables"].items() if real(value)
    }
    for name, variables in prepared.given.items():
        own = load().written_resource(name)["Properties"].get("Environment", {}).get("Variables", {}).keys()
        wanted = {ours for name in own | shared for ours in stand_ins.STAND_INS.get(name, (name,))}
        assert variables.keys() == wanted, name


def real(value: object) -> bool:
    """Whether it reaches a function where nothing is traced."""
    return not isinstance(value, dict) or (value != {"Ref": "AWS::NoValue"} and "Fn::If" not in value)


def test_a_function_reads_all_that_it_has_here_and_accepts_it(prepared: Prepared) -> None:
    for name, variables in prepared.given.items():
        settings = SETTINGS[name]
        assert variables.keys() - OF_POWERTOOLS <= settings.variables(), name
        settings.from_environment(variables)


def test_whatever_stands_in_is_read_by_a_setting_and_stands_in_for_a_variable_of_the_template() -> None:
    read = set().union(*(settings.variables() for settings in SETTINGS.values()))
    named = {
        name for function in Template(REPOSITORY / "template.yaml").functions().values() for name in function.names
    }
    assert stand_ins.STAND_INS.keys() <= named
    assert {name for names in stand_ins.STAND_INS.values() for name in names} <= read


def test_a_variable_that_nothing_stands_in_for_is_named() -> None:
    function = FunctionTemplate(
        logical_id="F", handler="a.b", timeout_seconds=1, memory_mb=1, variables={}, names=frozenset({"TABLE_ARN"})
    )
    with pytest.raises(ValueError, match="nothing stands in for TABLE_ARN of F here"):
        stand_ins.variables(function, ours={})


def test_the_parameters_are_there_from_the_start_as_cloudformation_makes_them(
    server: SqsServer, prepared: Prepared
) -> None:
    """The functions that read and write them are given the path that they lie below."""
    template = load().written(CHECK_EGRESS)["Resources"]["Result"]["Properties"]
    path = prepared.given["ApiFunction"]["EGRESS_RESULTS_PATH"]
    names = [f"{path}/{zone}" for zone in stand_ins.ZONES]
    assert {variables["EGRESS_RESULTS_PATH"] for name, variables in prepared.given.items() if "Check" in name} == {path}
    found = sqs.call(server.endpoint_url, "GetParameters", {"Names": names}, service="ssm")["Parameters"]
    made = {record["Name"]: (record["Type"], record["Value"]) for record in found}
    assert made == dict.fromkeys(names, (template["Type"], template["Value"]))


def test_moto_has_loaded_from_the_start_what_the_functions_call(prepared: Prepared) -> None:
    """It answers nobody while it loads, so that the first egress check would keep deliveries from being accepted."""
    fresh = SqsServer()
    fresh.start()
    loaded: Mapping[str, object] = fresh._server._server.app.app_instances  # type: ignore[union-attr] # moto's own app
    called = {name for given in prepared.given.values() for name in given if name.endswith("_ENDPOINT_URL")}
    fresh.stop()
    assert called == {"SQS_ENDPOINT_URL", "SSM_ENDPOINT_URL"}
    assert {name.removesuffix("_ENDPOINT_URL").lower() for name in called} <= loaded.keys()


def test_the_queues_are_those_of_the_template(prepared: Prepared) -> None:
    """As SQS itself says it, which answers 0 or nothing for what the template is silent about."""
    templates = {
        name: resource["Properties"]
        for name, resource in content()["Resources"].items()
        if resource["Type"] == "AWS::SQS::Queue"
    }
    assert prepared.stack.queues.keys() == templates.keys()
    for name, queue in prepared.stack.queues.items():
        found = queue._call("GetQueueAttributes", {"AttributeNames": ["All"]})["Attributes"]
        template = templates[name]
        assert int(found["VisibilityTimeout"]) == template.get("VisibilityTimeout", 30), name
        assert int(found["MessageRetentionPeriod"]) == template["MessageRetentionPeriod"], name
        assert (found["DelaySeconds"], found["ReceiveMessageWaitTimeSeconds"]) == ("0", "0"), name
        assert "FifoQueue" not in found, name
        if redrive := template.get("RedrivePolicy"):
            dead = redrive["deadLetterTargetArn"]["Fn::GetAtt"][0]
            wanted = {
                "deadLetterTargetArn": prepared.stack.queues[dead].arn,
                "maxReceiveCount": redrive["maxReceiveCount"],
            }
            assert json.loads(found["RedrivePolicy"]) == wanted, name
        else:
            assert "RedrivePolicy" not in found, name


QUEUE = "{Type: AWS::SQS::Queue, Properties: {%s}}"
PARAMETER = "{Type: AWS::SSM::Parameter, Properties: {Name: /a, Type: %s, Value: x%s}}"
FUNCTION = "{Type: AWS::Serverless::Function, Properties: {Handler: a.b, Events: {E: {Type: %s, Properties: {%s}}}}}"
GIVEN = "Queue: !GetAtt Q.Arn, FunctionResponseTypes: [ReportBatchItemFailures]"


@pytest.mark.parametrize(
    ("resource", "named"),
    [
        (QUEUE % "FifoQueue: true", "FifoQueue"),
        (QUEUE % "DelaySeconds: 5", "DelaySeconds"),
        (PARAMETER % ("SecureString", ""), "SecureString"),
        (PARAMETER % ("String", ", AllowedPattern: x"), "AllowedPattern"),
        (FUNCTION % ("SQS", f"{GIVEN}, FilterCriteria: {{}}"), "FilterCriteria"),
        (FUNCTION % ("SQS", f"{GIVEN}, MaximumBatchingWindowInSeconds: 5"), "MaximumBatchingWindowInSeconds"),
        (FUNCTION % ("SQS", "Queue: !GetAtt Q.Arn"), "FunctionResponseTypes"),
        (FUNCTION % ("SNS", "Topic: t"), "SNS"),
    ],
)
def test_what_is_not_emulated_here_is_refused_by_name(tmp_path: Path, resource: str, named: str) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(f"Resources: {{Q: {resource}}}")
    template = Template(path)
    with pytest.raises(ValueError, match=f"the local stack does not emulate .*{named}"):
        (template.queues(), template.ssm_parameters(), template.event_sources())


def test_a_queue_without_properties_has_those_of_sqs(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text("Resources: {Q: {Type: AWS::SQS::Queue}}")
    assert Template(path).queues()["Q"] == QueueTemplate(
        logical_id="Q",
        visibility_timeout_seconds=30,
        retention_seconds=345_600,
        dead_letter_queue=None,
        max_receives=0,
    )
