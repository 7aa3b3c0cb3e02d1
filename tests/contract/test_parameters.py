"""A wrong parameter fails before anything is made."""

import pytest

from tests.contract.project import load

PROJECT = load()

GOOD = [
    ("VpcCidr", "10.0.0.0/16"),
    ("VpcCidr", "10.255.240.0/20"),
    ("VpcCidr", "172.16.0.0/17"),
    ("VpcCidr", "172.31.192.0/18"),
    ("VpcCidr", "192.168.224.0/19"),
    ("AllowedPrivateCidrs", "10.1.0.0/16,100.64.0.0/10"),
    ("AlarmEmail", "people@example.com"),
    ("DatabaseMinCapacity", "0.5"),
    ("Stage", "staging"),
]
BAD = [
    ("VpcCidr", "10.0.0.0/15"),  # larger than a VPC may be
    ("VpcCidr", "10.0.0.0/21"),  # too small for the subnets
    ("VpcCidr", "10.0.1.0/16"),  # not on its own boundary
    ("VpcCidr", "10.0.8.0/20"),
    ("VpcCidr", "10.256.0.0/16"),
    ("VpcCidr", "172.32.0.0/16"),  # public
    ("VpcCidr", "8.8.0.0/16"),
    ("VpcCidr", "192.169.0.0/16"),
    ("AllowedPrivateCidrs", "10.1.0.0"),
    ("AllowedPrivateCidrs", "10.1.0.0/16, 10.2.0.0/16"),
    ("AlarmEmail", "people"),
    ("DatabaseMinCapacity", "3"),
    ("DatabaseMaxCapacity", "512"),
    ("DatabaseSecondsUntilAutoPause", "60"),
    ("AttemptConcurrency", "1"),  # less than an SQS source's MaximumConcurrency may be
    ("ThrottleRate", "0"),
    ("Stage", "production"),
    ("ReserveConcurrency", "maybe"),
    ("LogRetentionDays", "31"),
    ("LogLevel", "TRACE"),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_a_right_parameter_is_taken(name: str, value: str) -> None:
    assert PROJECT.application(**{name: value}).resources


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_wrong_parameter_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        PROJECT.application(**{name: value})
