"""What the scanners find needs an exemption with a reason, and an exemption needs a finding."""

from pathlib import Path

import pytest

from stack.render import render, templates
from stack.scan import Exemption, Finding, applications, exemptions, faults, owners, scan

TOOLS = Path(__file__).parents[2] / ".venv-scan/bin"
OPEN_DOOR = """
  OpenDoor:
    Type: AWS::EC2::SecurityGroupIngress
    Properties: {GroupId: !GetAtt DatabaseSecurityGroup.GroupId, IpProtocol: '-1', CidrIp: 0.0.0.0/0, Description: All}
  Everything:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: '2012-10-17'
        Statement: [{Effect: Allow, Principal: {AWS: '*'}, Action: 'sts:AssumeRole'}]
      Policies:
        - PolicyName: everything
          PolicyDocument:
            Version: '2012-10-17'
            Statement: [{Effect: Allow, Action: '*', Resource: '*'}]
"""
FOUND = Finding(scanner="checkov", check="CKV_1", address="Network.Thing", words="it is open")
OWNERS = {"Network.Thing": ("infra/network.yaml", "Network.Thing"), "ApiStage": ("template.yaml", "Api")}


def exempted(
    check: str = "CKV_1",
    *,
    template: str = "infra/network.yaml",
    address: str | None = "Network.Thing",
    reason: str = "it is meant to be",
) -> Exemption:
    return Exemption(scanner="checkov", check=check, template=template, address=address, reason=reason)


def test_a_finding_needs_an_exemption() -> None:
    assert list(faults([FOUND], [], OWNERS)) == ["checkov CKV_1 Network.Thing: it is open"]
    assert list(faults([FOUND], [exempted()], OWNERS)) == []
    assert list(faults([FOUND], [exempted(address=None)], OWNERS)) == []


def test_an_exemption_of_another_resource_or_file_does_not_count() -> None:
    for other in (exempted(address="Network.Other"), exempted(template="template.yaml", address=None)):
        assert "checkov CKV_1 Network.Thing: it is open" in faults([FOUND], [other], OWNERS)


def test_what_sam_makes_is_exempted_where_it_is_written() -> None:
    stage = Finding(scanner="checkov", check="CKV_1", address="ApiStage", words="")
    assert list(faults([stage], [exempted(template="template.yaml", address="Api")], OWNERS)) == []
    assert owners([render()])["ApiStage"] == ("template.yaml", "Api")


def test_an_exemption_that_nothing_needs_must_go() -> None:
    assert list(faults([], [exempted()], OWNERS)) == [
        "Network.Thing: checkov no longer finds CKV_1, so remove its exemption"
    ]


def test_an_exemption_needs_a_reason() -> None:
    assert list(faults([FOUND], [exempted(reason="no")], OWNERS)) == [
        "Network.Thing: the exemption from CKV_1 has no reason"
    ]


def test_every_exemption_of_ours_has_a_reason() -> None:
    stated = exemptions(applications())
    assert stated
    assert [exemption for exemption in stated if len(exemption.reason.split()) < 4] == []


@pytest.mark.skipif(not (TOOLS / "checkov").exists(), reason="the scanners are not set up; make check-scan does that")
def test_the_scanners_find_an_open_door() -> None:
    texts = templates()
    network = texts["infra/network.yaml"].replace("\nResources:\n", f"\nResources:\n{OPEN_DOOR}", 1)
    mutated = render(texts={**texts, "infra/network.yaml": network})
    found = {(finding.scanner, finding.address) for finding in scan([mutated], TOOLS)}
    assert {("checkov", "Network.Everything"), ("cfripper", "Network.Everything")} <= found
    assert ("cfripper", "Network.OpenDoor") in found or ("checkov", "Network.OpenDoor") in found
