"""A wrong parameter, or a wrong pair, fails before anything is made, with words that say what to change."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address

import pytest

from stack.render import NEEDS, ParametersRefused, check, refuse, templates, written
from tests.contract.patterns import PATTERNS
from tests.contract.project import APPLICATION, NETWORK, load

TEXTS = templates()
KEY = "arn:aws:kms:us-east-1:555555555555:key/00000000-0000-4000-8000-000000000000"
SNAPSHOT = "arn:aws:rds:us-east-1:555555555555:cluster-snapshot:sallyport-prod-final"
CERTIFICATE = "arn:aws:acm:us-east-1:555555555555:certificate/00000000-0000-4000-8000-000000000000"
LAYER = "arn:aws:lambda:us-east-1:901920570463:layer:aws-otel-python-arm64-ver-1-32-0:2"
ONE, OTHER = "eipalloc-0a1b2c3d4e5f60718", "eipalloc-1a1b2c3d4e5f60718"

GOOD: Mapping[str, list[str]] = {
    "VpcCidr": ["10.0.0.0/16", "10.255.240.0/20", "172.16.0.0/17", "172.31.192.0/18", "192.168.224.0/19"],
    "AvailabilityZones": [
        "",
        "us-east-1a,us-east-1c",
        "ap-southeast-2a,ap-southeast-2b",
        "us-gov-west-1a,us-gov-west-1b",
        "eusc-de-east-1a,eusc-de-east-1b",
    ],
    "DeveloperCidr": [
        "",
        "198.51.100.7/32",
        "8.0.0.0/16",
        "100.63.0.0/16",
        "172.15.0.0/16",
        "172.32.0.0/16",
        "223.0.0.0/16",
    ],
    "EgressAllocationIds": ["", ONE, f"{ONE},{OTHER}", "eipalloc-0a1b2c3d"],
    "EgressEchoUrl": ["https://checkip.amazonaws.com/", "https://echo.example.com:8443/ip"],
    "AllowlistContact": ["", "network@example.com", "ops (EU), +49 30 1234", "https://example.com/network"],
    "AnnouncedAddresses": ["", "203.0.113.11", "203.0.113.11,198.51.100.255"],
    "AnnouncedFrom": ["", "2027-01-15", "2027-02-28", "2028-01-31", "2028-04-30"],
    "CorporateCidr": ["", "10.0.0.0/8", "172.20.0.0/16", "192.168.7.0/24", "100.64.0.0/10"],
    "CustomerGatewayAddress": ["", "198.51.100.7", "8.8.8.8"],
    "AuditBucketName": ["", "audit-555555555555", "a" * 63],
    "EventBusName": ["", "default", "orders", "team/orders.v1"],
    "AllowedPrivateCidrs": ["", "10.1.0.0/16", "10.1.0.0/16,172.20.0.0/16,192.168.0.0/16,100.64.0.0/10"],
    "OpenTelemetryLayerArn": ["", LAYER],
    "AllowedCallerCidrs": ["", "198.51.100.0/24", ",".join(f"203.0.113.{place}/32" for place in range(10))],
    "DatabaseSnapshotArn": ["", SNAPSHOT, SNAPSHOT.replace("snapshot:s", "snapshot:rds:s")],
    "DomainName": ["", "sallyport.example.com", "a-b.co"],
    "CertificateArn": ["", CERTIFICATE],
    "HostedZoneId": ["", "Z0123456789ABCDEFGHIJ"],
    "AlarmEmail": ["", "people@example.com"],
    "KmsKeyArn": ["", KEY, KEY.replace("key/", "key/mrk-")],
    "DatabaseMinCapacity": ["0.5"],
    "Stage": ["staging"],
}
BAD: Mapping[str, list[str]] = {
    "VpcCidr": [
        "10.0.0.0/15",  # larger than a VPC may be
        "10.0.0.0/21",  # too small for the subnets
        "10.0.1.0/16",  # not on its own boundary
        "10.0.8.0/20",
        "10.256.0.0/16",
        "172.32.0.0/16",  # public
        "8.8.0.0/16",
        "192.169.0.0/16",
        "",
    ],
    "AvailabilityZones": [
        "us-east-1a",
        "us-east-1a,us-east-1a",
        "us-east-1a, us-east-1b",
        "us-east-1,us-east-1b",
        "use1-az1,use1-az2",
        "us-east-1a,us-east-1b,us-east-1c",
    ],
    "DeveloperCidr": [
        "0.0.0.0/0",  # the whole internet
        "0.0.0.0/16",
        "8.0.0.0/15",  # too much of it
        "128.0.0.0/1",
        "10.1.0.0/16",  # private
        "172.31.0.0/16",
        "192.168.0.0/24",
        "100.64.0.0/24",
        "127.0.0.1/32",
        "169.254.169.254/32",
        "224.0.0.0/16",
        "198.51.100.7",
        "198.51.100.256/32",
        "198.51.100.0/24,203.0.113.0/24",
        "2001:db8::/32",
        "::/0",
    ],
    "EgressAllocationIds": [
        "203.0.113.10",
        f"{ONE} {OTHER}",
        f"{ONE}, {OTHER}",
        f"{ONE},{OTHER},{ONE}",
        f"{ONE},",
        "eipalloc-xyz",
    ],
    "EgressEchoUrl": [
        "",
        "http://checkip.amazonaws.com/",  # what comes back could be anyone's
        "https://203.0.113.10/",
        "https://checkip.amazonaws.com/?format=text",
        "https://checkip.amazonaws.com:22/",
        "https://user@checkip.amazonaws.com/",
    ],
    "AllowlistContact": ['say "hello"', "a\\b", "a{b}", "x" * 121, "<b>"],
    "AnnouncedAddresses": [
        "203.0.113.0/24",
        "203.0.113.256",
        "203.0.113.11, 203.0.113.12",
        "203.0.113.11,",
        "203.0.113.11,203.0.113.12,203.0.113.13",
        "2001:db8::1",
    ],
    "AnnouncedFrom": ["15.01.2027", "2027-1-5", "2027-02-30", "2027-04-31", "2027-13-01", "2027-01-32", "soon"],
    "CorporateCidr": ["0.0.0.0/0", "10.0.0.0/7", "172.32.0.0/16", "198.51.100.0/24", "172.20.0.0", "fd00::/8"],
    "CustomerGatewayAddress": [
        "10.0.0.1",
        "198.51.100.7/32",
        "vpn.example.com",
        "198.51.100.256",
        "0.0.0.1",
        "100.64.0.1",
    ],
    "CustomerGatewayAsn": ["0", "2147483648", "AS65000"],
    "AllowedPrivateCidrs": [
        "10.1.0.0",
        "10.1.0.0/16, 10.2.0.0/16",
        "10.1.0.0/16,10.2.0.0/16,10.3.0.0/16,10.4.0.0/16,10.5.0.0/16",
        "10.1.0.0/16,10.2.0.0/16,10.1.0.0/16",  # one of them twice
        "10.1.0.0/16,10.2.0.1/16",  # not on its own boundary
        "0.0.0.0/0",
        "169.254.0.0/16",  # where instances and containers get their credentials
        "127.0.0.0/8",
        "8.8.8.0/24",
        "10.0.0.0/7",
    ],
    "AuditBucketName": ["arn:aws:s3:::ledger", "Ledger", "a.b", "-a", "ab", "a" * 64],
    "EventBusName": ["arn:aws:events:us-east-1:555555555555:event-bus/orders", "aws.partner/shop", "a b", "x" * 257],
    "OpenTelemetryLayerArn": ["aws-otel-python", LAYER.rpartition(":")[0]],
    "AllowedCallerCidrs": [
        "0.0.0.0/0",
        "198.51.100.0",
        "198.51.100.0/24, 203.0.113.0/24",
        ",".join(f"203.0.113.{place}/32" for place in range(11)),
        "203.0.113.7/32,203.0.113.7/32",
        "198.51.100.7/24",
        "::/0",
    ],
    "DatabaseSnapshotArn": ["sallyport-prod", SNAPSHOT.replace("cluster-", ""), SNAPSHOT + " "],
    "DomainName": [
        "https://sallyport.example.com",
        "Sallyport.example.com",
        "localhost",
        "-a.example.com",
        "a_b.example.com",
    ],
    "CertificateArn": ["00000000-0000-4000-8000-000000000000", CERTIFICATE.replace(":acm:", ":iam:")],
    "HostedZoneId": ["/hostedzone/Z0123456789", "example.com"],
    "AlarmEmail": ["people", "people@example"],
    "KmsKeyArn": ["alias/aws/rds", KEY.replace("key/", "alias/"), "00000000-0000-4000-8000-000000000000"],
    "DatabaseMinCapacity": ["3", "-1", "half"],
    "DatabaseMaxCapacity": ["512", "0.5"],
    "DatabaseSecondsUntilAutoPause": ["60", "86401"],
    "DatabaseBackupWindow": ["03:30-04:30"],  # the weekly maintenance's
    "RetentionDays": ["0", "3654", "-1"],
    "AttemptConcurrency": ["1", "1001"],  # less than an SQS source's MaximumConcurrency may be
    "ApiConcurrency": ["0"],
    "AuthorizeConcurrency": ["0"],
    "ThrottleRate": ["0", "10001"],
    "ThrottleBurst": ["0", "5001"],
    "WebAclRate": ["9"],
    "LogRetentionDays": ["31"],
}
# Which parameters an assertion refuses, by a part of its words that no other has. The template is the root's where none
# is named: some assertions of nested templates hold what the root can never hand down.
PAIRS: list[tuple[str, dict[str, str], str]] = [
    (
        "is not for Stage prod",
        {"Topology": "internet-accessible", **NEEDS["internet-accessible"], **NEEDS["prod"], "Stage": "prod"},
        APPLICATION,
    ),
    ("Topology internet-accessible needs DeveloperCidr", {"Topology": "internet-accessible"}, APPLICATION),
    ("DeveloperCidr is for Topology internet-accessible only", {"DeveloperCidr": "198.51.100.7/32"}, APPLICATION),
    ("Topology on-premises needs CorporateCidr", {"Topology": "on-premises"}, APPLICATION),
    (
        "Topology on-premises needs CustomerGatewayAddress",
        {"Topology": "on-premises", "CorporateCidr": "172.20.0.0/16"},
        APPLICATION,
    ),
    ("which only the Topologies on-premises and internal-only have", dict(NEEDS["on-premises"]), APPLICATION),
    (
        "A VPN needs both CorporateCidr and CustomerGatewayAddress",
        {"Topology": "internal-only", **NEEDS["internal-only"], "CorporateCidr": "172.20.0.0/16"},
        APPLICATION,
    ),
    (
        "CorporateCidr is the VPC's own range",
        {"Topology": "on-premises", **NEEDS["on-premises"], "CorporateCidr": "10.64.0.0/16"},
        APPLICATION,
    ),
    (
        "CorporateDatabaseAccess=yes opens the database to CorporateCidr",
        {"CorporateDatabaseAccess": "yes"},
        APPLICATION,
    ),
    ("Name at least one of them in AllowedPrivateCidrs", {"Topology": "internal-only"}, APPLICATION),
    (
        "Topology internal-only has no NAT gateway",
        {"Topology": "internal-only", **NEEDS["internal-only"], "Egress": "per-az"},
        APPLICATION,
    ),
    (
        "Topology internal-only has no fixed address",
        {"Topology": "internal-only", **NEEDS["internal-only"], "EgressAllocationIds": ONE},
        APPLICATION,
    ),
    (
        "Topology internal-only needs S3GatewayEndpoint=yes",
        {"Topology": "internal-only", **NEEDS["internal-only"], "S3GatewayEndpoint": "no"},
        APPLICATION,
    ),
    (
        "DomainName is for a public API",
        {
            "Topology": "on-premises",
            **NEEDS["on-premises"],
            "DomainName": "sallyport.example.com",
            "CertificateArn": CERTIFICATE,
        },
        APPLICATION,
    ),
    ("Stage prod does not let its database pause", {"Stage": "prod"}, APPLICATION),
    ("RDS Proxy holds connections, so a database behind it never pauses", {"DatabaseProxy": "yes"}, APPLICATION),
    *(
        (
            f"must not be below DatabaseMinCapacity, which is {least}",
            {"DatabaseMinCapacity": least, "DatabaseMaxCapacity": most},
            APPLICATION,
        )
        for least, most in (
            ("2", "1"),
            ("4", "2"),
            ("8", "4"),
            ("16", "8"),
            ("32", "16"),
            ("64", "32"),
            ("128", "64"),
            ("256", "128"),
        )
    ),
    ("Tracing otel needs OpenTelemetryLayerArn", {"Tracing": "otel"}, APPLICATION),
    ("OpenTelemetryLayerArn is used with Tracing otel only", {"OpenTelemetryLayerArn": LAYER}, APPLICATION),
    (
        "A layer's program runs before the snapshot",
        {"Tracing": "otel", "OpenTelemetryLayerArn": LAYER, "SnapStart": "yes"},
        APPLICATION,
    ),
    ("belong to a DomainName, which is empty", {"CertificateArn": CERTIFICATE}, APPLICATION),
    ("DomainName needs CertificateArn", {"DomainName": "sallyport.example.com"}, APPLICATION),
    ("AnnouncedAddresses and AnnouncedFrom belong together", {"AnnouncedAddresses": "203.0.113.11"}, APPLICATION),
    ("EgressAllocationIds names two", {"EgressAllocationIds": f"{ONE},{OTHER}"}, ""),
    ("EgressAllocationIds names one address twice", {"Egress": "per-az", "EgressAllocationIds": f"{ONE},{ONE}"}, ""),
    (
        "AllocationIdB is the second zone's and needs AllocationIdA",
        {"TwoAddresses": "yes", "AllocationIdB": OTHER},
        NETWORK,
    ),
    ("The VPC has two zones", {"ZoneNameA": "us-east-1a"}, NETWORK),
    (
        "Topology internal-only has no fixed address. Leave",
        {"Internet": "no", "AllocationIdA": ONE, "AddressA": "203.0.113.10"},
        NETWORK,
    ),
    ("Topology internal-only reaches private ranges only. Name one", {"Internet": "no"}, NETWORK),
]
# What it asks for and the cases above do not give.
NESTED = {
    NETWORK: {"DeveloperCidr": "", "AllowedPrivateCidrs": ""},
}


def test_the_defaults_are_taken() -> None:
    check({})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_a_right_parameter_is_taken(name: str, value: str) -> None:
    refuse(name, written(TEXTS[APPLICATION])["Parameters"][name], value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_wrong_parameter_is_refused_and_told_what_it_must_be(name: str, value: str) -> None:
    with pytest.raises(ParametersRefused, match=rf"^{name}: must .*got {re.escape(repr(value))}"):
        check({name: value})


CHOICES = [
    name for name, parameter in written(TEXTS[APPLICATION])["Parameters"].items() if "AllowedValues" in parameter
]


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_is_not_offered_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ParametersRefused, match=f"^{name}: must be one of ") as refusal:
        check({name: "something-else"})
    for value in written(TEXTS[APPLICATION])["Parameters"][name]["AllowedValues"]:
        assert repr(str(value)) in str(refusal.value)


@pytest.mark.parametrize(("words", "parameters", "template"), PAIRS, ids=[words for words, _, _ in PAIRS])
def test_a_wrong_pair_is_refused_and_told_what_to_change(words: str, parameters: dict[str, str], template: str) -> None:
    with pytest.raises(ParametersRefused, match=re.escape(words)):
        _ask(template, parameters)


# ---- The Rules, against what they are to say

# What each parameter is changed to, in every topology that is complete by itself, and in every pair.
_CHANGES: list[dict[str, str]] = [
    {"Stage": "prod"},
    {"DeveloperCidr": "198.51.100.7/32"},
    {"DeveloperCidr": ""},
    {"CorporateCidr": "172.20.0.0/16"},
    {"CorporateCidr": ""},
    {"CorporateCidr": "10.64.0.0/16"},
    {"CustomerGatewayAddress": "198.51.100.7"},
    {"CustomerGatewayAddress": ""},
    {"CorporateDatabaseAccess": "yes"},
    {"CorporateApi": "public"},
    {"AllowedPrivateCidrs": ""},
    {"AllowedPrivateCidrs": "10.200.0.0/16"},
    {"Egress": "per-az"},
    {"EgressAllocationIds": ONE},
    {"S3GatewayEndpoint": "no"},
    {"DomainName": "sallyport.example.com"},
    {"CertificateArn": CERTIFICATE},
    {"HostedZoneId": "Z0123456789ABCDEFGHIJ"},
    {"DatabaseMinCapacity": "0.5"},
    {"DatabaseMinCapacity": "8", "DatabaseMaxCapacity": "8"},
    {"DatabaseProxy": "yes"},
    {"Tracing": "xray"},
    {"Tracing": "otel"},
    {"OpenTelemetryLayerArn": LAYER},
    {"SnapStart": "yes"},
]
_DEFAULTS = {
    name: str(parameter.get("Default", "")) for name, parameter in written(TEXTS[APPLICATION])["Parameters"].items()
}
_TOPOLOGIES = ("public-private", "internet-accessible", "on-premises", "internal-only")


def _agrees(asked: Mapping[str, str]) -> bool:
    """Whether parameters agree, as docs/parameters.md says it, and not as the template does."""
    of = {**_DEFAULTS, **asked}
    topology, vpn = of["Topology"], (of["CorporateCidr"], of["CustomerGatewayAddress"])
    is_private = topology == "internal-only" or (topology == "on-premises" and of["CorporateApi"] == "private")
    layered = bool(of["OpenTelemetryLayerArn"])
    return all(
        (
            not of["DeveloperCidr"] or topology == "internet-accessible",
            topology != "internet-accessible" or (of["DeveloperCidr"] and of["Stage"] != "prod"),
            all(vpn) if topology == "on-premises" or any(vpn) else True,
            not any(vpn) or topology in {"on-premises", "internal-only"},
            of["CorporateCidr"] != of["VpcCidr"],
            of["CorporateDatabaseAccess"] == "no" or of["CorporateCidr"],
            topology != "internal-only"
            or (
                of["AllowedPrivateCidrs"]
                and of["Egress"] == "single"
                and not of["EgressAllocationIds"]
                and of["S3GatewayEndpoint"] == "yes"
            ),
            not (is_private and of["DomainName"]),
            bool(of["DomainName"]) == bool(of["CertificateArn"]) and (of["DomainName"] or not of["HostedZoneId"]),
            of["DatabaseMinCapacity"] != "0" or (of["Stage"] != "prod" and of["DatabaseProxy"] == "no"),
            float(of["DatabaseMinCapacity"]) <= float(of["DatabaseMaxCapacity"]),
            layered == (of["Tracing"] == "otel"),
            not (of["SnapStart"] == "yes" and of["Tracing"] == "otel"),
        )
    )


def _is_taken(asked: Mapping[str, str]) -> bool:
    try:
        check(asked)
    except ParametersRefused:
        return False
    return True


@pytest.mark.parametrize("topology", _TOPOLOGIES)
def test_what_agrees_is_taken_and_what_does_not_is_refused(topology: str) -> None:
    base = {"Topology": topology, **NEEDS.get(topology, {})}
    changes = [{}, *_CHANGES]
    asked = [{**base, **change, **other} for place, change in enumerate(changes) for other in changes[place:]]
    assert [parameters for parameters in asked if _is_taken(parameters) != bool(_agrees(parameters))] == []


def test_the_least_capacity_may_be_any_up_to_the_most() -> None:
    declared = written(TEXTS[APPLICATION])["Parameters"]
    wrong = [
        (least, most)
        for least in declared["DatabaseMinCapacity"]["AllowedValues"]
        for most in declared["DatabaseMaxCapacity"]["AllowedValues"]
        if _is_taken({"DatabaseMinCapacity": str(least), "DatabaseMaxCapacity": str(most)}) != (least <= most)
    ]
    assert wrong == []


def _ask(template: str, parameters: dict[str, str]) -> None:
    """Of one template, or with '' of the whole application, where a nested one refuses what the root passes."""
    if template:
        check({**NESTED.get(template, {}), **parameters}, template=template)
    else:
        load().application(**parameters)


def test_every_limit_and_every_rule_has_its_test() -> None:
    declared = written(TEXTS[APPLICATION])["Parameters"]
    limited = {name for name, parameter in declared.items() if "AllowedValues" not in parameter}
    assert limited - BAD.keys() == set()
    told = [
        assertion["AssertDescription"]
        for text in TEXTS.values()
        for rule in written(text).get("Rules", {}).values()
        for assertion in rule["Assertions"]
    ]
    assert [words for words in told if not any(part in words for part, _, _ in PAIRS)] == []
    assert [part for part, _, _ in PAIRS if not any(part in words for words in told)] == []


RANGES = ("CorporateCidr", "DeveloperCidr", "AllowedPrivateCidrs", "AllowedCallerCidrs")


def _wrongly_judged(pattern: str, *, public: bool) -> list[str]:
    """Ranges that a pattern takes with bits set beyond their length, or refuses without."""
    start = IPv4Address("198.0.0.0" if public else "10.0.0.0")
    wrong = []
    for length in range(16 if public else 8, 33):
        for bit in range(24):
            address = start + (1 << bit)
            on_its_boundary = bit >= 32 - length
            if bool(re.fullmatch(pattern, f"{address}/{length}")) != on_its_boundary:
                wrong.append(f"{address}/{length}")
    return wrong


@pytest.mark.parametrize("name", RANGES)
def test_a_range_starts_on_its_own_boundary(name: str) -> None:
    """AWS takes 10.1.2.3/16 for 10.1.0.0/16, so that writing it otherwise later would delete its rule."""
    item = written(TEXTS[APPLICATION])["Parameters"][name]
    assert _wrongly_judged(item["AllowedPattern"], public=name == "DeveloperCidr") == []
    assert "on its own boundary" in item["ConstraintDescription"]


@pytest.mark.parametrize("name", PATTERNS)
def test_a_long_pattern_is_made_of_its_pieces(name: str) -> None:
    assert written(TEXTS[APPLICATION])["Parameters"][name]["AllowedPattern"] == PATTERNS[name]


def test_no_pattern_is_long_without_pieces() -> None:
    parameters = written(TEXTS[APPLICATION])["Parameters"]
    long = {name for name, parameter in parameters.items() if len(parameter.get("AllowedPattern", "")) > 300}
    assert long == set(PATTERNS)


def test_a_pattern_that_takes_a_range_off_its_boundary_is_noticed() -> None:
    pattern = written(TEXTS[APPLICATION])["Parameters"]["CorporateCidr"]["AllowedPattern"]
    assert _wrongly_judged(pattern.replace("0|64|128|192", "0|32|64|128|192", 1), public=False) != []
    assert _wrongly_judged("^" + pattern[pattern.index("$)") + 2 :], public=False) != []


def test_patterns_bind_both_ends_and_say_what_must_be() -> None:
    """CloudFormation's own message for a pattern is the pattern, which helps nobody."""
    for name, parameter in written(TEXTS[APPLICATION])["Parameters"].items():
        if "AllowedPattern" in parameter:
            pattern = parameter["AllowedPattern"]
            assert (pattern[0], pattern[-1]) == ("^", "$"), name
            assert parameter.get("ConstraintDescription", "").startswith("must be "), name


def test_every_parameter_of_ours_stands_in_one_group() -> None:
    """The groups in which consoles show them."""
    template = written(TEXTS[APPLICATION])
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(template["Parameters"])


RULE_FUNCTIONS = {
    "Fn::And",
    "Fn::Contains",
    "Fn::EachMemberEquals",
    "Fn::EachMemberIn",
    "Fn::Equals",
    "Fn::Not",
    "Fn::Or",
    "Fn::RefAll",
    "Fn::ValueOf",
    "Fn::ValueOfAll",
    "Ref",
}


def _functions(part: object) -> set[str]:
    if isinstance(part, list):
        return {name for element in part for name in _functions(element)}
    if not isinstance(part, dict):
        return set()
    own = {key for key in part if key == "Condition" or key == "Ref" or key.startswith("Fn::")}
    return own | {name for element in part.values() for name in _functions(element)}


def test_rules_use_only_what_rules_know() -> None:
    """CloudFormation refuses a template with any other in them, `Condition` too (Rule-specific intrinsic functions)."""
    used = {name for text in TEXTS.values() for name in _functions(written(text).get("Rules", {}))}
    assert used - RULE_FUNCTIONS == set()
    assert _functions({"Assert": [{"Condition": "IsProd"}, {"Fn::If": []}]}) == {"Condition", "Fn::If"}
