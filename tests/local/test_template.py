"""What the local stack reads from a template: resolved as far as one machine can."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from local.template import NO_VALUE, UNRESOLVED, EventSource, Loader, ScheduleTemplate, Template

TEMPLATE = """
Parameters:
  Stage: {Type: String, Default: dev}
  Count: {Type: Number, Default: 3}
Conditions:
  IsDev: !Equals [!Ref Stage, dev]
  IsNotDev: !Not [!Condition IsDev]
  Both: !And [!Condition IsDev, !Condition IsNotDev]
  Either: !Or [!Condition IsDev, !Condition IsNotDev]
Globals:
  Function:
    Timeout: 7
    Environment: {Variables: {SHARED: one, LOST: !GetAtt Other.Outputs.Value, NONE: !Ref AWS::NoValue}}
Resources:
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: a.b
      MemorySize: !Ref Count
      Environment: {Variables: {OWN: !Ref Jobs, COUNT: !Ref Count}}
      Events:
        Jobs:
          Type: SQS
          Properties:
            Queue: !GetAtt Jobs.Arn
            BatchSize: 5
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: !Ref Count}
        Old: {Type: Schedule, Properties: {Schedule: rate(1 day)}}
  Jobs:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 60
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 4}
  Dead: {Type: AWS::SQS::Queue}
"""


@pytest.fixture
def template(tmp_path: Path) -> Template:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    return Template(path, resources={"Jobs": "http://queue"}, attributes={"Jobs.Arn": "an:arn"})


def test_globals_are_merged_and_what_needs_the_cloud_is_left_out(template: Template) -> None:
    function = template.functions()["Worker"]
    assert (function.handler, function.timeout_seconds, function.memory_mb) == ("a.b", 7, 3)
    assert function.variables == {"SHARED": "one", "OWN": "http://queue", "COUNT": "3"}
    assert function.names == {"SHARED", "LOST", "OWN", "COUNT"}


def test_queues_have_sqs_defaults(template: Template) -> None:
    queues = template.queues()
    assert (queues["Jobs"].visibility_timeout_seconds, queues["Jobs"].max_receives) == (60, 4)
    assert queues["Jobs"].dead_letter_queue == "Dead"
    assert (queues["Dead"].visibility_timeout_seconds, queues["Dead"].dead_letter_queue) == (30, None)


def test_an_event_source_names_queue_and_function(template: Template) -> None:
    assert template.event_sources() == (EventSource(queue="Jobs", function="Worker", batch_size=5, concurrency=3),)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!Sub ${Stage}-${AWS::Region}-${!Literal}", "dev-us-east-1-${Literal}"),
        ("!Sub ['${A}/${Stage}', {A: x}]", "x/dev"),
        ("!Sub '${Nobody}'", UNRESOLVED),
        ("!Join [',', [!Ref Stage, b]]", "dev,b"),
        ("!Join [',', [!GetAtt A.B]]", UNRESOLVED),
        ("!Join [',', !GetAtt A.B]", UNRESOLVED),
        ("!If [IsDev, 1, 2]", 1),
        ("!If [IsNotDev, 1, 2]", 2),
        ("!If [Both, 1, 2]", 2),
        ("!If [Either, 1, 2]", 1),
        ("{a: [!Ref Stage]}", {"a": ["dev"]}),
        ("!Select [0, [a]]", UNRESOLVED),
        ("!GetAtt Jobs.Arn", "an:arn"),
        ("!Join [',', [!GetAtt Jobs.Arn, b]]", "an:arn,b"),
        ("!If [IsNotDev, 1, !Ref AWS::NoValue]", NO_VALUE),
        ("{a: [1, !Ref AWS::NoValue], b: !Ref AWS::NoValue}", {"a": [1]}),
    ],
)
def test_intrinsic_functions(template: Template, text: str, value: Any) -> None:
    loaded = yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
    assert template.resolved(loaded) == value


def test_parameters_override_defaults(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    assert Template(path, parameters={"Count": "9"}).functions()["Worker"].memory_mb == 9


def test_the_projects_own_template_has_all_that_the_stack_needs(repository: Path) -> None:
    template = Template(repository / "template.yaml")
    api = template.api()
    assert {route.function for route in api.routes} <= template.functions().keys()
    assert {authorizer.function for authorizer in api.authorizers.values()} <= template.functions().keys()
    assert {source.queue for source in template.event_sources()} <= template.queues().keys()
    assert "*/*" in api.binary_media_types


def test_schedules_come_at_their_rate(template: Template) -> None:
    assert template.schedules() == (ScheduleTemplate(function="Worker", seconds=86400),)


@pytest.mark.parametrize(
    ("rate", "seconds"), [("rate(1 minute)", 60), ("rate(15 minutes)", 900), ("rate(2 hours)", 7200)]
)
def test_rates_are_read_as_eventbridge_writes_them(tmp_path: Path, rate: str, seconds: int) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE.replace("rate(1 day)", rate))
    assert [schedule.seconds for schedule in Template(path).schedules()] == [seconds]


def test_a_schedule_that_is_no_rate_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE.replace("rate(1 day)", "'cron(0 12 * * ? *)'"))
    with pytest.raises(ValueError, match="is no rate"):
        Template(path).schedules()
