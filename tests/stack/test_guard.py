"""The guard refuses what would be lost, names it with its cause, and does not pass over what it cannot read.

The recorded answers are checked against the service's own model, so that they cannot have a shape that AWS never sends.
AWS itself is played by botocore's Stubber, which checks requests and answers against that model too. moto would not do:
the changes of its change sets have no Replacement and no Details (moto 5.2), and it makes none for nested stacks.
"""

import io
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.model import Shape
from botocore.stub import Stubber
from botocore.validate import ParamValidator
from rich.console import Console

from stack.deploy import guard
from stack.deploy.change_sets import STACK, ChangeSetUnreadable, Page, RecordedSource, ResourceChange, read
from stack.deploy.guard import PROTECTED, GuardDecision, decide
from stack.render import render

FOLDER = Path(__file__).parent / "recorded"
CASES = sorted(path.name for path in FOLDER.iterdir())
FILES = sorted(FOLDER.glob("*/*.json"))
HELD_BY_A_CHECK = (
    "AWS::Events::Rule",
    "AWS::IAM::Role",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::Function",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::SSM::Parameter",
)
SERVICE = botocore.session.get_session().get_service_model("cloudformation")


def recorded(case: str) -> RecordedSource:
    return RecordedSource.load([FOLDER / case])


def decision(case: str, *allow: str) -> GuardDecision:
    source = recorded(case)
    return decide(read(source, source.root()), source, allow)


def refused(case: str, *allow: str) -> list[str]:
    return [harm.address for harm in decision(case, *allow).refused]


def said(arguments: list[str]) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=160)
    code = guard.main(arguments, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def answered(case: str, **parts: dict[str, Any]) -> RecordedSource:
    """A recorded case whose changes of the given logical ids have other members; `name=None` takes one away."""
    answers = [deepcopy(dict(answer)) for answer in recorded(case).answers]
    for change in (entry["ResourceChange"] for answer in answers for entry in answer.get("Changes", [])):
        for name, value in parts.get(change["LogicalResourceId"], {}).items():
            change[name] = value
            if value is None:
                del change[name]
    return RecordedSource(answers=tuple(answers))


def judged(source: RecordedSource, *allow: str) -> GuardDecision:
    return decide(read(source, source.root()), source, allow)


# ---- The recorded answers are of the shape that AWS sends -----------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}-{path.stem}" for path in FILES])
def test_a_recorded_answer_is_one_that_the_service_could_send(path: Path) -> None:
    (answer,) = RecordedSource.load([path]).answers
    operation = "DescribeStackResources" if "StackResources" in answer else "DescribeChangeSet"
    shape = SERVICE.operation_model(operation).output_shape
    assert ParamValidator().validate(answer, shape).generate_report() == ""
    assert list(_not_in_the_model(answer, shape, "")) == []


def test_an_answer_that_the_service_never_sends_is_noticed() -> None:
    shape = SERVICE.operation_model("DescribeChangeSet").output_shape
    wrong = {"Changes": [{"Type": "Resource", "ResourceChange": {"Action": "Swap", "Replaced": "True"}}]}
    assert len(list(_not_in_the_model(wrong, shape, ""))) == 2


def _not_in_the_model(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """Members and enumerated values that the model does not have; botocore's own validator looks for neither."""
    if shape.type_name == "structure":
        for name, member in value.items():
            if name in shape.members:
                yield from _not_in_the_model(member, shape.members[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif shape.type_name == "list":
        for member in value:
            yield from _not_in_the_model(member, shape.member, path)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}={value}"


# ---- What is refused -------------------------------------------------------------------------------------------------

EXPECTED = {
    "routine": [],
    "first-deployment": [],
    "another-range": ["Network.Vpc", "Network.NatGatewayA"],
    "one-address-fewer": ["Network.EgressAddressB", "Network.NatGatewayB"],
    "another-key": ["Database.DatabaseCluster"],
    "network-goes": ["Network.Vpc", "Network.EgressAddressA", "Network.NatGatewayA"],
    "nested-left-out": [],
    "nested-failed": [],
}
UNREAD = {"nested-left-out": 2, "nested-failed": 1}


@pytest.mark.parametrize("case", CASES)
def test_a_change_set_is_refused_for_what_it_would_lose(case: str) -> None:
    found = decision(case)
    assert [harm.address for harm in found.refused] == EXPECTED[case]
    assert len(found.unreadable) == UNREAD.get(case, 0)
    assert found.passes == (not EXPECTED[case] and case not in UNREAD)


@pytest.mark.parametrize("kind", PROTECTED)
@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"Action": "Remove", "PolicyAction": "Delete"}, "deleted"),
        ({"Action": "Remove", "PolicyAction": "Retain"}, "it stays in the account"),
        ({"Action": "Remove", "PolicyAction": "Snapshot"}, "leaving a snapshot"),
        ({"Action": "Dynamic"}, "does not know yet"),
        ({"Replacement": "True"}, "replaced"),
        ({"Replacement": "True", "PolicyAction": "ReplaceAndRetain"}, "the old one stays in the account"),
        ({"Replacement": "Conditional"}, "replaced or not"),
        ({"Replacement": None}, "does not say whether"),
        ({"ResourceDriftStatus": "DELETED"}, "created again"),
    ],
)
def test_each_kind_that_must_stay_is_guarded_against_each_way_of_losing_it(
    kind: str, members: dict[str, Any], words: str
) -> None:
    source = answered("routine", DatabaseCluster={"ResourceType": kind, **members})
    (harm,) = judged(source).refused
    assert harm.address == "Database.DatabaseCluster"
    assert words in harm.what


@pytest.mark.parametrize(("recreation", "words"), [("Always", "replaced"), ("Conditionally", "replaced or not")])
def test_a_property_that_asks_for_replacement_counts_where_the_change_itself_says_nothing(
    recreation: str, words: str
) -> None:
    details = [{"Target": {"Attribute": "Properties", "Name": "Port", "RequiresRecreation": recreation}}]
    source = answered("routine", DatabaseCluster={"Replacement": None, "Details": details})
    (harm,) = judged(source).refused
    assert words in harm.what
    assert harm.why == "Port changes"


@pytest.mark.parametrize("action", ["Add", "Import"])
def test_what_is_new_takes_nothing_away(action: str) -> None:
    source = answered("routine", DatabaseCluster={"Action": action, "Replacement": None})
    assert judged(source).passes


def test_what_can_be_made_again_may_be_replaced() -> None:
    source = answered("routine", ApiFunction={"Replacement": "True"}, WakeupAgeAlarm={"Action": "Remove"})
    assert judged(source).passes


def test_a_refusal_names_ids_cause_loss_and_a_way_out() -> None:
    code, text = said(["--recorded", str(FOLDER / "another-key")])
    assert code == 1
    assert "Database.DatabaseCluster (sallyport-prod-database-8w2n5t9yq1xae-databasecluster-k3v0q7zc2r5m, " in text
    assert "would be replaced (a snapshot of the old one stays)" in text
    assert "KmsKeyId changes from nothing to arn:aws:kms:eu-central-1:123456789012:key/0f9e8d7c-6b5a-4938..." in text
    assert "because KmsKeyArn does" in text
    assert "What is lost: all deliveries" in text
    assert "Instead: " in text
    assert "ALLOW=DatabaseCluster" in text


def test_the_table_has_every_change_of_every_stack() -> None:
    code, text = said(["--recorded", str(FOLDER / "routine")])
    assert code == 0
    for address in ("ApiFunction", "Migration", "Network", "Database.DatabaseCluster", "Observability.VpnTunnelAlarm"):
        assert address in text
    assert "Passed: 11 changes" in text


# ---- On purpose ------------------------------------------------------------------------------------------------------


def test_what_is_named_passes_and_the_rest_does_not() -> None:
    assert refused("one-address-fewer", "EgressAddressB") == ["Network.NatGatewayB"]
    assert refused("one-address-fewer", "EgressAddressB", "Network.NatGatewayB") == []


def test_a_name_that_nothing_bears_is_told() -> None:
    assert decision("one-address-fewer", "EgresAddressB").unknown_names == ("EgresAddressB",)
    code, text = said(["--recorded", str(FOLDER / "one-address-fewer"), "--allow", "EgresAddressB,NatGatewayB"])
    assert code == 1
    assert "ALLOW names EgresAddressB, which this change set neither replaces nor deletes" in text
    assert "ALLOWED: Network.NatGatewayB" in text


def test_what_cannot_be_read_cannot_be_allowed() -> None:
    assert not decision("nested-left-out", "Network", "Database").passes


def test_the_names_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOW", "EgressAddressB, NatGatewayB")
    code, text = said(["--recorded", str(FOLDER / "one-address-fewer")])
    assert code == 0
    assert "but for 2 that ALLOW names" in text


# ---- What cannot be read is refused ----------------------------------------------------------------------------------


def without(case: str, *names: str) -> RecordedSource:
    return RecordedSource.load(path for path in (FOLDER / case).glob("*.json") if path.stem not in names)


def test_a_nested_change_set_that_is_missing_is_told_by_its_stack() -> None:
    (problem,) = judged(without("routine", "network")).unreadable
    assert problem.startswith("Network: the change set ")


def test_a_nested_stack_that_goes_is_refused_when_what_it_holds_is_not_known() -> None:
    found = judged(without("network-goes", "network-resources"))
    assert not found.passes
    assert found.unreadable[0].startswith("Network is removed with all its resources: ")


def test_a_nested_stack_that_would_be_replaced_counts_for_what_it_holds() -> None:
    source = answered("network-goes", Network={"Action": "Modify", "Replacement": "True"})
    found = judged(source)
    assert [harm.address for harm in found.refused] == EXPECTED["network-goes"]


def test_a_nested_stack_that_goes_on_purpose_is_named() -> None:
    found = decision("network-goes", "Vpc", "EgressAddressA", "NatGatewayA")
    assert (found.passes, found.removed_stacks) == (True, ("Network",))


def test_nested_stacks_are_passed_over_only_where_that_was_asked_for() -> None:
    source = recorded("nested-left-out")
    assert decide(read(source, source.root()), source, skip_nested=True).passes


def test_a_missing_page_is_noticed() -> None:
    with pytest.raises(ChangeSetUnreadable, match="not all pages"):
        judged(without("routine", "root-2"))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"Status": "CREATE_IN_PROGRESS"}, "CREATE_IN_PROGRESS"),
        ({"Status": "FAILED", "StatusReason": "Requires capabilities"}, "Requires capabilities"),
        ({"ExecutionStatus": "OBSOLETE"}, "create it again"),
        ({"ParentChangeSetId": "arn:parent", "RootChangeSetId": "arn:root"}, "give arn:root"),
    ],
)
def test_a_change_set_that_is_not_the_whole_truth_is_refused(members: dict[str, str], words: str) -> None:
    source = recorded("first-deployment")
    changed = RecordedSource(answers=({**source.answers[0], **members},))
    with pytest.raises(ChangeSetUnreadable, match=words):
        read(changed, source.root())


def test_a_change_set_without_changes_passes() -> None:
    root = dict(recorded("first-deployment").answers[0])
    root |= {"Status": "FAILED", "StatusReason": "No updates are to be performed.", "Changes": []}
    assert judged(RecordedSource(answers=(root,))).passes


@pytest.mark.parametrize("text", ["{", "[]", '{"Stacks": []}'])
def test_a_file_that_is_no_answer_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text, encoding="utf-8")
    code, words = said(["--recorded", str(tmp_path)])
    assert code == 1
    assert "odd.json" in words


def test_an_empty_folder_and_two_outermost_change_sets_are_refused(tmp_path: Path) -> None:
    assert said(["--recorded", str(tmp_path)])[0] == 1
    code, words = said(["--recorded", str(FOLDER / "routine"), str(FOLDER / "another-key")])
    assert code == 1
    assert "2 outermost change sets" in words


def test_a_change_set_may_be_asked_for_by_name_and_stack() -> None:
    source = recorded("another-key")
    assert read(source, "deploy-20261120-114840", "sallyport-prod").stack_name == "sallyport-prod"
    with pytest.raises(ChangeSetUnreadable):
        read(source, "deploy-20261120-114840", "sallyport-dev")


# ---- AWS itself ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """boto3's own client, whose requests and answers are checked against the service's model."""
    client = boto3.client(
        "cloudformation", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    monkeypatch.setattr(boto3, "client", lambda *_, **__: client)
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def asks(change_set: str, **more: str) -> dict[str, Any]:
    return {"ChangeSetName": change_set, "IncludePropertyValues": True, **more}


def queue(stub: Stubber, case: str) -> str:
    """Queues the recorded answers in the order in which a reader must ask for them."""
    pages = [answer for answer in recorded(case).answers if "ChangeSetId" in answer]
    root = [page for page in pages if not page.get("ParentChangeSetId")]
    root.sort(key=lambda page: "NextToken" not in page)
    token: dict[str, str] = {}
    for page in root:
        stub.add_response("describe_change_set", dict(page), asks(page["ChangeSetId"], **token))
        token = {"NextToken": page["NextToken"]} if "NextToken" in page else {}
    by_id: dict[str, Page] = {page["ChangeSetId"]: page for page in pages}
    for change in (entry["ResourceChange"] for page in root for entry in page["Changes"]):
        if "ChangeSetId" in change:
            stub.add_response("describe_change_set", dict(by_id[change["ChangeSetId"]]), asks(change["ChangeSetId"]))
        elif (change["ResourceType"], change["Action"]) == (STACK, "Modify"):
            queue_held(stub, change["PhysicalResourceId"], "AWS::EC2::VPC")
    return str(root[0]["ChangeSetId"])


def queue_held(stub: Stubber, stack: str, *types: str) -> None:
    """Queues what a stack holds."""
    status = {"ResourceStatus": "CREATE_COMPLETE", "LastUpdatedTimestamp": datetime(2026, 11, 20, tzinfo=UTC)}
    held = [{"LogicalResourceId": "R", "PhysicalResourceId": "r", "ResourceType": kind, **status} for kind in types]
    stub.add_response("list_stack_resources", {"StackResourceSummaries": held}, {"StackName": stack})


@pytest.mark.parametrize("case", ["routine", "another-range", "nested-left-out"])
def test_aws_is_asked_for_every_page_and_every_nested_change_set(stub: Stubber, case: str) -> None:
    code, text = said(["--change-set", queue(stub, case)])
    assert code == (0 if case == "routine" else 1)
    assert all(address in text for address in EXPECTED[case])


def test_aws_is_asked_what_a_stack_holds_that_goes(stub: Stubber) -> None:
    root = queue(stub, "network-goes")
    held = next(answer["StackResources"] for answer in recorded("network-goes").answers if "StackResources" in answer)
    kept = ("LogicalResourceId", "PhysicalResourceId", "ResourceType", "ResourceStatus")
    summaries = [{name: event[name] for name in kept} | {"LastUpdatedTimestamp": event["Timestamp"]} for event in held]
    stack = {"StackName": held[0]["StackId"]}
    stub.add_response("list_stack_resources", {"StackResourceSummaries": summaries[:2], "NextToken": "2"}, stack)
    stub.add_response("list_stack_resources", {"StackResourceSummaries": summaries[2:]}, {**stack, "NextToken": "2"})
    code, text = said(["--change-set", root])
    assert code == 1
    assert all(address in text for address in EXPECTED["network-goes"])
    assert "EgressAddressB" not in text


def test_a_stack_within_a_stack_that_goes_is_looked_into() -> None:
    source = recorded("network-goes")
    outer = next(answer for answer in source.answers if "StackResources" in answer)["StackResources"][0]
    inner = {**outer, "StackId": "arn:inner", "LogicalResourceId": "Link", "ResourceType": "AWS::EC2::VPNGateway"}
    nested = {**outer, "LogicalResourceId": "Vpn", "PhysicalResourceId": "arn:inner", "ResourceType": STACK}
    grown = RecordedSource(answers=(*source.answers, {"StackResources": [nested]}, {"StackResources": [inner]}))
    assert "Network.Vpn.Link" in [harm.address for harm in judged(grown).refused]


def test_a_nested_change_set_that_aws_no_longer_has_is_refused(stub: Stubber) -> None:
    (root,) = [page for page in recorded("another-key").answers if not page.get("ParentChangeSetId")]
    stub.add_response("describe_change_set", dict(root), asks(root["ChangeSetId"]))
    stub.add_client_error("describe_change_set", "ChangeSetNotFound", "ChangeSet [x] does not exist", 404)
    queue_held(stub, stack_of(root, "Database"), "AWS::Logs::LogGroup", "AWS::RDS::DBCluster")
    code, text = said(["--change-set", root["ChangeSetId"]])
    assert code == 1
    assert "UNREADABLE, therefore refused: Database: ChangeSet [x] does not exist" in text


def stack_of(page: Page, name: str) -> str:
    """The ARN of a nested stack that a change set changes."""
    changes = [entry["ResourceChange"] for entry in page["Changes"]]
    return str(next(change["PhysicalResourceId"] for change in changes if change["LogicalResourceId"] == name))


def test_a_nested_stack_that_holds_nothing_to_lose_may_stay_unseen_and_is_told(stub: Stubber) -> None:
    """Such as the egress checks, should AWS show no change set of a nested SAM template."""
    (root,) = [page for page in recorded("another-key").answers if not page.get("ParentChangeSetId")]
    stub.add_response("describe_change_set", dict(root), asks(root["ChangeSetId"]))
    stub.add_client_error("describe_change_set", "ChangeSetNotFound", "ChangeSet [x] does not exist", 404)
    queue_held(stub, stack_of(root, "Database"), *HELD_BY_A_CHECK)
    code, text = said(["--change-set", root["ChangeSetId"]])
    assert code == 0
    assert "NOT SEEN: Database: ChangeSet [x] does not exist. Nothing protected is in it" in text


def test_the_egress_checks_hold_nothing_that_could_be_lost() -> None:
    made = render().resources
    assert {made[name]["Type"] for name in made if name.startswith("CheckEgressA.")} == set(HELD_BY_A_CHECK)
    assert not set(HELD_BY_A_CHECK) & PROTECTED.keys()


def test_what_a_stack_within_an_unseen_one_holds_counts_too() -> None:
    source = without("routine", "network")
    changes = [entry["ResourceChange"] for page in source.answers for entry in page.get("Changes", [])]
    stack = next(change["PhysicalResourceId"] for change in changes if change["LogicalResourceId"] == "Network")
    of_type = {"LogicalResourceId": "R", "PhysicalResourceId": "arn:inner", "ResourceStatus": "CREATE_COMPLETE"}
    outer = {"StackResources": [{**of_type, "StackId": stack, "ResourceType": STACK}]}
    for kind, holds in (("AWS::EC2::EIP", True), ("AWS::IAM::Role", False)):
        inner = {"StackResources": [{**of_type, "StackId": "arn:inner", "ResourceType": kind}]}
        found = judged(RecordedSource(answers=(*source.answers, outer, inner)))
        assert (bool(found.unreadable), bool(found.unseen)) == (holds, not holds)


def test_an_unread_stack_that_holds_something_is_refused_beside_one_that_says_the_same_and_holds_nothing() -> None:
    source = recorded("routine")
    failed = {"Status": "FAILED", "StatusReason": "Unknown", "StackName": "nested", "Changes": []}
    pages = [{**page, **failed} if page.get("ParentChangeSetId") else page for page in source.answers]
    changes = [entry["ResourceChange"] for page in source.answers for entry in page.get("Changes", [])]
    stacks = {
        each["LogicalResourceId"]: each["PhysicalResourceId"] for each in changes if each["ResourceType"] == STACK
    }
    of_type = {"LogicalResourceId": "R", "PhysicalResourceId": "r", "ResourceStatus": "CREATE_COMPLETE"}
    held = [
        {**of_type, "StackId": stack, "ResourceType": "AWS::EC2::EIP" if name == "Network" else "AWS::IAM::Role"}
        for name, stack in stacks.items()
    ]
    found = judged(RecordedSource(answers=(*pages, {"StackResources": held})))
    assert (len(found.unreadable), len(found.unseen), found.passes) == (1, len(stacks) - 1, False)


def test_a_change_set_that_does_not_exist_is_refused_in_one_line(stub: Stubber) -> None:
    stub.add_client_error("describe_change_set", "ChangeSetNotFound", "ChangeSet [x] does not exist", 404)
    assert said(["--change-set", "x", "--stack", "sallyport-dev"]) == (1, "Refused: ChangeSet [x] does not exist\n")


def test_aws_saying_no_is_told_in_one_line(stub: Stubber) -> None:
    stub.add_client_error("describe_change_set", "AccessDenied", "not authorized to perform this", 403)
    code, text = said(["--change-set", "x", "--stack", "sallyport-dev"])
    assert code == 2
    assert text.startswith("The change set cannot be read from AWS: ")
    assert text.count("\n") == 1


def test_without_credentials_it_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # another test's may still have credentials
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    code, text = said(["--change-set", "x", "--stack", "y", "--region", "eu-central-1"])
    assert code == 2
    missing = "no AWS credentials were found: sign in, as with `aws sso login`, or set AWS_PROFILE"
    assert text == f"The change set cannot be read from AWS: {missing}\n"


@pytest.mark.parametrize(
    ("arguments", "region"),
    [
        (["--change-set", "arn:aws:cloudformation:eu-west-3:123456789012:changeSet/c/1"], "eu-west-3"),
        (["--change-set", "c", "--stack", "s"], "eu-central-1"),
        (["--change-set", "arn:of-nothing"], "eu-central-1"),
        (["--change-set", "c", "--stack", "s", "--region", "us-east-1"], "us-east-1"),
    ],
)
def test_the_region_is_the_change_sets_own(monkeypatch: pytest.MonkeyPatch, arguments: list[str], region: str) -> None:
    def client(_: str, *, region_name: str) -> Any:
        raise ChangeSetUnreadable(region_name)

    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setattr(boto3, "client", client)
    assert said(arguments) == (1, f"Refused: {region}\n")


def test_a_guard_that_is_given_nothing_says_what_it_wants() -> None:
    code, text = said([])
    assert code == 2
    assert text.startswith("Which change set? ")


def test_a_change_sets_name_alone_is_not_enough_and_aws_is_not_asked() -> None:
    assert said(["--change-set", "monday"]) == (
        2,
        "Whose change set is monday? Add STACK=name, or give the change set's ARN\n",
    )


def test_a_folder_without_answers_is_named(tmp_path: Path) -> None:
    code, text = said(["--recorded", str(tmp_path)])
    assert code == 1
    assert f"is in {tmp_path}" in text.replace("\n", "")


def test_a_folder_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert said(["--recorded", str(missing)]) == (1, f"Refused: {missing} cannot be read: No such file or directory\n")


def test_the_changes_keep_what_aws_said() -> None:
    source = recorded("another-range")
    changes = {change.address: change for change in read(source, source.root()).all_changes()}
    nat: ResourceChange = changes["Network.NatGatewayA"]
    assert (nat.replacement, nat.policy) == ("Conditional", "ReplaceAndDelete")
    assert nat.causes[0].entity == "PublicSubnetA"
