"""Templates are rendered as CloudFormation would: compared with cloud-radar where that holds, by hand where not."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from cloud_radar.cf.unit import Template, functions
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from stack import render
from stack.render import Dangling, ParametersRefused, Symbol

functions.REGION_DATA = [
    {"code": "us-east-1", "zones": ["us-east-1a", "us-east-1b", "us-east-1c"]}
]  # it would fetch it

THING = "{Type: 'AWS::SQS::Queue'}"


def rendered(
    root: str, parameters: Mapping[str, str] | None = None, *, nested: Mapping[str, str] | None = None
) -> render.Rendered:
    """`root` and `nested` are templates in YAML."""
    return render.render(parameters, texts={"template.yaml": root, **(nested or {})})


def value(written: str, *, sections: str = "", parameters: Mapping[str, str] | None = None, thing: str = THING) -> Any:
    """What one property comes to."""
    other = f"{{Type: 'AWS::SQS::Queue', Properties: {{A: {written}}}}}"
    root = f"{sections}\nResources:\n  Thing: {thing}\n  Other: {other}\n"
    return rendered(root, parameters).resources["Other"]["Properties"].get("A")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("!Ref Thing", "Thing"),
        ("!GetAtt Thing.Arn", "Thing.Arn"),
        ("!Sub '${Thing.Arn}/${!literal}/${AWS::Region}'", "Thing.Arn/${literal}/us-east-1"),
        ("!Sub ['${A}-${Thing}', {A: !Ref 'AWS::Partition'}]", "aws-Thing"),
        ("!Join ['/', [a, !Ref Thing, 1]]", "a/Thing/1"),
        ("!Split [',', 'a,b']", ["a", "b"]),
        ("!Select [1, !Split [',', 'a,b']]", "b"),
        ("!Select [0, !GetAZs '']", "us-east-1a"),
        ("!Select [2, !Cidr [10.0.0.0/16, 3, 8]]", "10.0.2.0/24"),
        ("!Base64 abc", "YWJj"),
        ("[a, !Ref 'AWS::NoValue']", ["a"]),
        ("!Ref 'AWS::NoValue'", None),
        ("''", ""),
        ("{Condition: {StringEquals: {a: b}}}", {"Condition": {"StringEquals": {"a": "b"}}}),
    ],
)
def test_intrinsic_functions_are_worked_out(written: str, expected: Any) -> None:
    assert value(written) == expected


def test_an_attribute_that_the_template_sets_is_known() -> None:
    thing = "{Type: 'AWS::EC2::VPC', Properties: {CidrBlock: !Join ['/', [10.0.0.0, 16]]}}"
    assert value("!GetAtt Thing.CidrBlock", thing=thing) == "10.0.0.0/16"


def test_what_only_aws_knows_stays_marked_through_joins_and_splits() -> None:
    parts = value("!Split [',', !Join [',', [!Ref Thing, !GetAtt Thing.Arn]]]")
    assert parts == ["Thing", "Thing.Arn"]
    assert all(isinstance(part, Symbol) for part in parts)


CONDITIONS = """
Parameters:
  Mode: {Type: String, Default: a, AllowedValues: [a, b]}
  List: {Type: CommaDelimitedList, Default: 'x,y'}
  Number: {Type: Number, Default: 3}
Conditions:
  IsA: !Equals [!Ref Mode, a]
  IsB: !Not [!Condition IsA]
  Both: !And [!Condition IsA, !Condition IsB]
  One: !Or [!Condition IsA, !Condition IsB]
  IsThree: !Equals [!Ref Number, '3']
"""


def test_only_the_branch_that_is_taken_is_worked_out() -> None:
    written = "!If [IsA, fine, !Select [7, !Split [',', a]]]"
    assert value(written, sections=CONDITIONS) == "fine"
    with pytest.raises(ValueError, match="no item 7"):
        value(written, sections=CONDITIONS, parameters={"Mode": "b"})


def test_conditions_follow_the_parameters_as_text() -> None:
    written = "{Both: !If [Both, 1, 0], One: !If [One, 1, 0], IsThree: !If [IsThree, 1, 0]}"
    assert value(written, sections=CONDITIONS) == {"Both": 0, "One": 1, "IsThree": 1}
    assert value("!Ref List", sections=CONDITIONS) == ["x", "y"]
    assert value("!Ref List", sections=CONDITIONS, parameters={"List": "x, y ,z"}) == ["x", "y", "z"]
    assert value("!Ref Number", sections=CONDITIONS) == "3"


CONDITIONAL = (
    CONDITIONS
    + """
Resources:
  Queue: {Type: 'AWS::SQS::Queue', Condition: IsB}
  Policy: {Type: 'AWS::SQS::QueuePolicy', DependsOn: Queue, Properties: {Queues: [!Ref Queue]}}
Outputs:
  Url: {Condition: IsB, Value: !Ref Queue}
"""
)


def test_a_reference_to_what_does_not_exist_is_named() -> None:
    with pytest.raises(Dangling, match=r"Policy.Queues refers to Queue, which does not exist"):
        rendered(CONDITIONAL)
    found = rendered(CONDITIONAL, {"Mode": "b"})
    assert found.outputs == {"Url": "Queue"}
    assert found.resources["Policy"]["DependsOn"] == ["Queue"]


def test_a_dependency_on_what_a_condition_leaves_out_is_named() -> None:
    """cfn-lint does not see it where SAM makes the resource."""
    text = CONDITIONAL.replace("Queues: [!Ref Queue]", "Queues: []")
    with pytest.raises(Dangling, match=r"Policy.DependsOn refers to Queue, which does not exist"):
        rendered(text)
    optional = text.replace("DependsOn: Queue,", "Metadata: {After: !If [IsB, !Ref Queue, none]},")
    assert rendered(optional).resources["Policy"]["Metadata"] == {"After": "none"}
    assert rendered(optional, {"Mode": "b"}).resources["Policy"]["Metadata"] == {"After": "Queue"}


ROOT = """
Parameters:
  Block: {Type: String, Default: 10.0.0.0/16}
Resources:
  Inner:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: inner.yaml
      Parameters: {Block: !Ref Block, Name: !GetAtt Queue.QueueName}
  Second:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: second.yaml
      Parameters: {SubnetIds: !GetAtt Inner.Outputs.SubnetIds}
  Queue:
    Type: AWS::SQS::Queue
    Properties: {Subnet: !Select [1, !Split [',', !GetAtt Inner.Outputs.SubnetIds]], Name: !GetAtt Inner.Outputs.Told}
Outputs:
  Vpc: {Value: !GetAtt Inner.Outputs.Vpc}
"""
NESTED = {
    "inner.yaml": """
Parameters:
  Block: {Type: String, AllowedPattern: '^10[.].*$', ConstraintDescription: must start with 10}
  Name: {Type: String, AllowedPattern: '^[a-z]+$'}
  Extra: {Type: String, Default: none}
Rules:
  Even:
    Assertions:
      - Assert: !Not [!Contains [[10.1.0.0/16], !Ref Block]]
        AssertDescription: Block must be even
Conditions:
  HasExtra: !Not [!Equals [!Ref Extra, none]]
Resources:
  Vpc: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: !Ref Block}}
  SubnetA:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: !Ref Vpc, CidrBlock: !Select [0, !Cidr [!GetAtt Vpc.CidrBlock, 2, 8]]}
  SubnetB:
    Type: AWS::EC2::Subnet
    Properties: {VpcId: !Ref Vpc, CidrBlock: !Select [1, !Cidr [!GetAtt Vpc.CidrBlock, 2, 8]]}
Outputs:
  Vpc: {Value: !Ref Vpc}
  SubnetIds: {Value: !Join [',', [!Ref SubnetA, !Ref SubnetB]]}
  Told: {Value: !Ref Name}
  More: {Condition: HasExtra, Value: more}
""",
    "second.yaml": """
Parameters:
  SubnetIds: {Type: 'List<AWS::EC2::Subnet::Id>'}
Resources:
  Group: {Type: 'AWS::RDS::DBSubnetGroup', Properties: {SubnetIds: !Ref SubnetIds}}
""",
}


def test_nested_stacks_are_followed_both_ways() -> None:
    found = rendered(ROOT, nested=NESTED)
    assert found.resources["Inner.SubnetB"]["Properties"] == {"VpcId": "Inner.Vpc", "CidrBlock": "10.0.1.0/24"}
    assert found.resources["Second.Group"]["Properties"] == {"SubnetIds": ["Inner.SubnetA", "Inner.SubnetB"]}
    assert found.resources["Queue"]["Properties"] == {"Subnet": "Inner.SubnetB", "Name": "Queue.QueueName"}
    assert (found.outputs["Vpc"], found.outputs["Inner.Vpc"]) == ("Inner.Vpc", "Inner.Vpc")
    assert found.templates == {"": "template.yaml", "Inner": "inner.yaml", "Second": "second.yaml"}


def test_an_output_that_a_condition_leaves_out_is_missed() -> None:
    with pytest.raises(Dangling, match=r"Vpc refers to Inner.Outputs.More, which does not exist"):
        rendered(ROOT.replace("Inner.Outputs.Vpc", "Inner.Outputs.More"), nested=NESTED)


def test_a_circle_of_stacks_is_refused() -> None:
    with pytest.raises(ValueError, match="circular"):
        rendered(ROOT.replace("!GetAtt Queue.QueueName", "!GetAtt Inner.Outputs.Told"), nested=NESTED)


def test_a_function_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="Fn::ImportValue is not known here"):
        value("!ImportValue x")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"Block": "11.0.0.0/16"}, r"Inner.Block: must start with 10 \(got '11.0.0.0/16'\)"),
        ({"Block": "10.1.0.0/16"}, "Inner.Block must be even"),
        ({"Blok": "10.0.0.0/16"}, "Blok is not a parameter of template.yaml"),
    ],
)
def test_parameters_are_refused_where_a_template_says_so(parameters: dict[str, str], words: str) -> None:
    with pytest.raises(ParametersRefused, match=words):
        rendered(ROOT, parameters, nested=NESTED)


DECLARED = "Parameters: {{P: {{Type: {kind}, {limits}}}}}\nResources: {{Q: {{Type: 'AWS::SQS::Queue'}}}}"


@pytest.mark.parametrize(
    ("kind", "limits", "good", "bad"),
    [
        ("String", "AllowedValues: [a, b]", "b", "c"),
        ("Number", "AllowedValues: [0.5, 1]", "0.5", "0.6"),
        ("String", "AllowedPattern: '^a+$'", "aa", "aab"),
        ("String", "AllowedPattern: '^a+$'", "aa", "aa\n"),
        ("String", "MinLength: 2", "aa", "a"),
        ("String", "MaxLength: 2", "aa", "aaa"),
        ("Number", "MinValue: 2", "2", "1.9"),
        ("Number", "MaxValue: 2", "2", "3"),
        ("Number", "Default: 1", "7", "seven"),
        ("CommaDelimitedList", "AllowedPattern: '^a+$'", "a,aa", "a,b"),
    ],
)
def test_a_parameter_keeps_its_declaration(kind: str, limits: str, good: str, bad: str) -> None:
    text = DECLARED.format(kind=kind, limits=limits)
    assert rendered(text, {"P": good}).parameters == {"P": good}
    with pytest.raises(ParametersRefused, match="P: must "):
        rendered(text, {"P": bad})


def test_a_parameter_without_a_default_must_be_given() -> None:
    with pytest.raises(ParametersRefused, match="P must be given: what it is"):
        rendered(DECLARED.format(kind="String", limits="Description: what it is"))


RULES = """
Parameters:
  A: {{Type: String, Default: a}}
  B: {{Type: String, Default: b}}
  Vpc: {{Type: 'AWS::EC2::VPC::Id', Default: vpc-1}}
Rules:
  Only: {{Assertions: [{{Assert: {assertion}, AssertDescription: refused}}]}}
Resources: {{Q: {{Type: 'AWS::SQS::Queue'}}}}
"""


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("!Equals [!Ref A, a]", "!Equals [!Ref A, b]"),
        ("!Contains [[a, c], !Ref A]", "!Contains [[b, c], !Ref A]"),
        ("!EachMemberIn [[!Ref A, !Ref B], [a, b, c]]", "!EachMemberIn [[!Ref A, !Ref B], [a]]"),
        ("!EachMemberEquals [[!Ref A, !Ref A], a]", "!EachMemberEquals [[!Ref A, !Ref B], a]"),
        (
            "!EachMemberEquals [!RefAll 'AWS::EC2::VPC::Id', vpc-1]",
            "!EachMemberEquals [!RefAll 'AWS::EC2::VPC::Id', x]",
        ),
        ("!Not [!Equals [!ValueOf [Vpc, Tags.x], y]]", "!Equals [!ValueOf [Vpc, Tags.x], y]"),
        ("!And [!Equals [1, '1'], !Not [!Equals [a, b]]]", "!And [!Equals [a, a], !Equals [a, b]]"),
        ("!Or [!Equals [a, b], !Equals [a, a]]", "!Or [!Equals [a, b], !Equals [c, b]]"),
    ],
)
def test_a_rule_is_kept_or_refuses(good: str, bad: str) -> None:
    assert rendered(RULES.format(assertion=good)).resources
    with pytest.raises(ParametersRefused, match="refused"):
        rendered(RULES.format(assertion=bad))


# ---- Against cloud-radar, and ours


def test_cloud_radar_renders_our_plain_templates_alike() -> None:
    """Parts that hold there: no empty texts, no Select in a branch that is not taken."""
    text = """
Parameters:
  Block: {Type: String, Default: 10.0.0.0/16}
Conditions:
  Small: !Equals [!Ref Block, 10.0.0.0/24]
Mappings:
  Ports: {tcp: {web: 443}}
Resources:
  Vpc: {Type: 'AWS::EC2::VPC', Properties: {CidrBlock: !Ref Block}}
  Gone: {Type: 'AWS::EC2::InternetGateway', Condition: Small, Properties: {}}
  Subnet:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !Ref Vpc
      CidrBlock: !Select [3, !Cidr [!Ref Block, 4, 8]]
      AvailabilityZone: !Select [1, !GetAZs '']
      Port: !FindInMap [Ports, tcp, web]
      Mode: !If [Small, small, large]
      Tags:
        - {Key: Name, Value: !Sub '${AWS::Region} ${Vpc}'}
        - {Key: Joined, Value: !Join ['-', [a, !GetAtt Vpc.VpcId]]}
"""
    theirs = Template(json.loads(json.dumps(render.written(text)))).render(region="us-east-1")
    ours = rendered(text).resources
    assert {name: resource["Properties"] for name, resource in ours.items()} == {
        name: resource["Properties"] for name, resource in theirs["Resources"].items()
    }


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"Stage": "prod", "DatabaseMinCapacity": "0.5", "Tracing": "xray", "SnapStart": "yes"},
        {"Topology": "internal-only", "AllowedPrivateCidrs": "10.200.0.0/16", "Architecture": "x86_64"},
    ],
)
def test_one_translation_serves_all_parameters(parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS gives SAM the parameters when it translates; the renderer leaves them out, to translate once."""
    ours = render.render(parameters)

    def translated_for_these(text: str) -> dict[str, Any]:
        template = json.loads(json.dumps(render.written(text)))
        for place in render._with_code(template):
            place["CodeUri"] = "s3://bucket/key"
        made: dict[str, Any] = json.loads(json.dumps(Translator({}, Parser()).translate(template, parameters)))
        return made

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(render, "translated", translated_for_these)
    assert _without_hash(render.render(parameters)) == _without_hash(ours)


def _without_hash(found: render.Rendered) -> Any:
    """The resources. SAM names a deployment of the API by a hash over its routes, as they are written."""
    return json.loads(
        re.sub(r"(ApiDeployment|deployment id: )[0-9a-f]+", r"\1", json.dumps(found.resources, sort_keys=True))
    )


def test_every_combination_is_rendered_or_refused_with_words() -> None:
    combinations = render.combinations()
    assert len(combinations) == 36
    refused = {combination.name: combination.refused for combination in combinations if combination.refused}
    assert all("Topology" in words for words in refused.values())
    assert {name.split()[0] for name in refused} == {"internet-accessible", "internal-only"}
    for combination in combinations:
        if combination.refused is None:
            assert render.render(combination.parameters).resources["Network.Vpc"]
