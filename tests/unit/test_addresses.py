"""The SSRF guard's table and its reading of URLs. Names are resolved in tests/egress."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pycurl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.outcomes import Refused
from egress.addresses import REFUSED_RANGES, Guard, UrlRejected, UrlTarget, split, split_unusual
from egress.request import target_of
from runtime.settings import EgressAddress, EgressSettings

GUARD = Guard()

# The list of the contract, written out once more: a row that goes missing in the code is missed here.
# fmt: off
REFUSED = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "::/128", "::1/128", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48",
    "100::/64", "100:0:0:1::/64",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10",
    "ff00::/8", "fd00:ec2::254/128",
]

PUBLIC = [
    "1.0.0.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0",
    "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
    "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "2000::", "2001:200::",
    "2001:db7::", "2001:db9::", "2003::",
    "2600:1f00::1", "3ffe::", "3fff:1000::",
    "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2600::5efe:8.8.8.8", "2600::200:5efe:8.8.8.8", "2600::5efd:10.0.0.1",
    "::ffff:8.8.8.8",
]

UNASSIGNED = [
    "::1:0:0", "::fffe:0:0", "64:ff9a::", "64:ff9b:0:0:1::", "64:ff9b:2::", "100:0:0:2::", "200::", "400::",
    "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::", "5eff::", "5f01::", "8000::", "fb00::", "fbff::", "fe00::",
]
# fmt: on


@pytest.mark.parametrize("block", REFUSED)
def test_both_ends_of_every_range_are_refused(block: str) -> None:
    network = ip_network(block)
    assert GUARD.check_address(network[0])
    assert GUARD.check_address(network[-1])


def test_the_table_holds_the_contract_s_ranges_and_no_others() -> None:
    assert {str(network) for network, _ in REFUSED_RANGES} == set(REFUSED)


@pytest.mark.parametrize("address", PUBLIC)
def test_neighbours_of_the_ranges_are_public(address: str) -> None:
    assert GUARD.check_address(ip_address(address)) is None


@pytest.mark.parametrize("address", UNASSIGNED)
def test_what_nobody_was_given_is_refused(address: str) -> None:
    assert (
        GUARD.check_address(ip_address(address))
        == f"{address} is not among the assigned addresses (RFC 4291 section 2.4)"
    )


@given(st.ip_addresses(v=4), st.sampled_from([0x00005EFE, 0x02005EFE]), st.integers(0, 2**64 - 1))
def test_an_isatap_address_passes_only_where_the_one_in_it_does(address: IPv4Address, mark: int, prefix: int) -> None:
    spelled = IPv6Address((prefix << 64) + (mark << 32) + int(address))
    guard = Guard(blocked_cidrs=[ip_network("8.0.0.0/8")])
    if guard.check_address(address):
        assert guard.check_address(spelled)


@settings(derandomize=True)
@given(st.integers(0, 7), st.ip_addresses(v=6))
def test_the_standard_library_knows_no_special_address_that_passes(top: int, address: IPv6Address) -> None:
    moved = IPv6Address((int(address) >> 3) + (top << 125))
    if GUARD.check_address(moved) is None and moved.ipv4_mapped is None:
        assert moved.is_global
        assert not (moved.is_reserved)
        assert not (moved.is_multicast)
        assert not (moved.sixtofour)
        assert not (moved.teredo)
        assert moved in IPv6Network("2000::/3")


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::a9fe:a9fe",
        "::ffff:0:169.254.169.254",
        "::ffff:0:8.8.8.8",
        "::5efe:10.0.0.1",
        "2600::5efe:169.254.169.254",
        "2600::200:5efe:10.0.0.1",
        "2002:a9fe:a9fe::1",
        "::127.0.0.1",
        "fec0::1",
        "192.88.99.3",
        "::ffff:169.254.169.254",
        "::ffff:127.0.0.1",
        "64:ff9b:1::a9fe:a9fe",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "169.254.169.254",
        "fd00:ec2::254",
        "255.255.255.255",
        "fe80::1%eth0",
    ],
)
def test_addresses_that_hide_another_are_refused(address: str) -> None:
    assert GUARD.check_address(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_mapped_address_is_judged_as_the_one_in_it(address: IPv4Address) -> None:
    mapped = IPv6Address(f"::ffff:{address}")
    assert (GUARD.check_address(mapped) is None) == (GUARD.check_address(address) is None)


@given(st.ip_addresses())
def test_an_address_is_refused_exactly_when_a_range_holds_it(address: IPv4Address | IPv6Address) -> None:
    judged = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    held = any(judged in ip_network(block) for block in REFUSED if ip_network(block).version == judged.version)
    held = held or (isinstance(judged, IPv6Address) and judged not in IPv6Network("2000::/3"))
    assert (GUARD.check_address(address) is not None) == held


@given(st.ip_addresses(v=4))
def test_no_ipv6_spelling_of_a_refused_ipv4_address_passes(address: IPv4Address) -> None:
    number = int(address)
    spellings = [
        IPv6Address(number),
        IPv6Address(int(IPv6Address("64:ff9b::")) + number),
        IPv6Address((0x2002 << 112) + (number << 80)),
    ]
    assert all(GUARD.check_address(spelling) for spelling in spellings)


def test_allowed_private_ranges_open_exactly_themselves() -> None:
    guard = Guard(allowed_private_cidrs=[ip_network("10.1.0.0/16"), ip_network("fd12::/48")])
    assert guard.check_address(ip_address("10.1.2.3")) is None
    assert guard.check_address(ip_address("::ffff:10.1.2.3")) is None
    assert guard.check_address(ip_address("fd12::1")) is None
    assert guard.check_address(ip_address("10.2.0.0"))
    assert guard.check_address(ip_address("fd12:0:1::"))
    assert guard.check_address(ip_address("64:ff9b::a01:203"))


def test_whoever_opens_a_wide_range_does_not_open_the_vpc_in_it() -> None:
    guard = Guard(allowed_private_cidrs=[ip_network("10.0.0.0/8")], blocked_cidrs=[ip_network("10.64.0.0/16")])
    assert guard.check_address(ip_address("10.64.32.5")) == "10.64.32.5 is a blocked address"
    assert guard.check_address(ip_address("10.65.0.1")) is None
    same = Guard(allowed_private_cidrs=[ip_network("10.64.0.0/16")], blocked_cidrs=[ip_network("10.64.0.0/16")])
    assert same.check_address(ip_address("10.64.32.5")) is None


def test_blocked_ranges_close_public_ones_and_give_way_to_narrower_ones() -> None:
    guard = Guard(
        blocked_cidrs=[ip_network("8.8.0.0/16"), ip_network("2600::/16")],
        allowed_private_cidrs=[ip_network("8.8.4.0/24")],
    )
    assert guard.check_address(ip_address("8.8.8.8")) == "8.8.8.8 is a blocked address"
    assert guard.check_address(ip_address("::ffff:8.8.8.8"))
    assert guard.check_address(ip_address("2600::1"))
    assert guard.check_address(ip_address("8.8.4.4")) is None
    assert guard.check_address(ip_address("8.9.0.0")) is None


def test_a_guard_of_settings_blocks_the_stack_s_own_addresses_and_hosts() -> None:
    guard = Guard.of(
        EgressSettings(
            egress_addresses=(EgressAddress(availability_zone="a", address="198.41.0.4"),),
            allowed_private_cidrs=(ip_network("10.9.0.0/16"),),
            blocked_cidrs=(ip_network("8.8.8.0/24"),),
            blocked_hosts="api.example.com, Other.Example.com.",
            allowed_ports=(443,),
        )
    )
    assert guard.check_url("https://198.41.0.4/")
    assert guard.check_url("https://8.8.8.8/")
    assert guard.check_url("https://api.example.com/") == "api.example.com is a blocked host"
    assert guard.check_url("https://OTHER.example.com/")
    assert guard.check_url("http://partner.example.com/")
    assert guard.check_url("https://10.9.1.1/") is None
    assert guard.check_url("https://partner.example.com/") is None


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://partner.example.com", UrlTarget("partner.example.com", 443, None)),
        ("HTTPS://Partner.Example.COM/Path?Q=1", UrlTarget("partner.example.com", 443, None)),
        ("http://partner.example.com:8080/a/../b?x=[1]&y={2}|3", UrlTarget("partner.example.com", 8080, None)),
        ("http://xn--bcher-kva.example/", UrlTarget("xn--bcher-kva.example", 80, None)),
        ("http://a_b.example/", UrlTarget("a_b.example", 80, None)),
        ("http://1.example/", UrlTarget("1.example", 80, None)),
        ("http://8.8.8.8/", UrlTarget("8.8.8.8", 80, IPv4Address("8.8.8.8"))),
        ("http://[2600::1]:8443/", UrlTarget("[2600::1]", 8443, IPv6Address("2600::1"))),
        ("http://[2600:0:0::1]/", UrlTarget("[2600:0:0::1]", 80, IPv6Address("2600::1"))),
        ("http://partner.example.com/next?u=http://10.0.0.1/@x", UrlTarget("partner.example.com", 80, None)),
    ],
)
def test_plain_urls_pass(url: str, target: UrlTarget) -> None:
    assert GUARD.check_url(url) is None
    assert GUARD.target(url) == target


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "http:// or https://"),
        ("partner.example.com", "http:// or https://"),
        ("//partner.example.com/", "http:// or https://"),
        ("https:/partner.example.com/", "http:// or https://"),
        ("ftp://partner.example.com/", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("javascript://x", "http:// or https://"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https://:443/", "no host"),
        ("https://user@partner.example.com/", "user name"),
        ("https://user:secret@partner.example.com/", "user name"),
        ("https://partner.example.com@10.0.0.1/", "user name"),
        ("https://@partner.example.com/", "user name"),
        ("https://partner.example.com/#top", "fragment"),
        ("https://partner.example.com/#", "fragment"),
        ("https://partner.example.com:22/", "port 22"),
        ("https://partner.example.com:0/", "port 0"),
        ("https://partner.example.com:99999/", "port 99999"),
        ("https://partner.example.com:443443443/", "port cannot be read"),
        ("https://partner.example.com:/", "port cannot be read"),
        ("https://partner.example.com:4a/", "port cannot be read"),
        ("https://partner.example.com:80:80/", "port cannot be read"),
        ("https://[2600::1/", "port cannot be read"),
        ("https://[2600::1]x/", "port cannot be read"),
        ("https://2600::1/", "port cannot be read"),
        ("https://partner.example.com./", "trailing dot"),
        ("https://localhost./", "trailing dot"),
        ("https://a..b/", "RFC 1123"),
        ("https://-a.example/", "RFC 1123"),
        ("https://a-.example/", "RFC 1123"),
        ("https://a%2eexample/", "RFC 1123"),
        ("https://%31%30.0.0.1/", "four decimal numbers"),
        ("https://a,b/", "RFC 1123"),
        (f"https://{'a' * 64}.example/", "RFC 1123"),
        (f"https://{'a.' * 130}example/", "RFC 1123"),
        ("https://bücher.example/", "xn--"),
        ("https://①②⑦.0.0.1/", "xn--"),
        ("https://partner.example.com/ü", "percent-encode"),
        ("https://partner.example.com/a b", "percent-encode"),
        ("https://partner.example.com/\r\nX: y", "percent-encode"),
        ("https://partner.example.com/\0", "percent-encode"),
        ("https://partner.example.com\t/", "percent-encode"),
        (" https://partner.example.com/", "percent-encode"),
        ("https://partner.example.com\\@10.0.0.1/", "user name"),
        ("https://partner.example.com\\.evil.example/", "backslash"),
        ("https://partner.example.com/a\\b", "backslash"),
        (f"https://partner.example.com/{'a' * 20_000}", "longer"),
        ("http://127.1/", "four decimal numbers"),
        ("http://0177.0.0.1/", "four decimal numbers"),
        ("http://0x7f.1/", "four decimal numbers"),
        ("http://0x7f.0x0.0x0.0x1/", "four decimal numbers"),
        ("http://0X7F000001/", "four decimal numbers"),
        ("http://2130706433/", "four decimal numbers"),
        ("http://017700000001/", "four decimal numbers"),
        ("http://127.0.0.1./", "four decimal numbers"),
        ("http://127.0.0.0x1/", "four decimal numbers"),
        ("http://8.8.8.08/", "four decimal numbers"),
        ("http://8.8.8.256/", "four decimal numbers"),
        ("http://1.2.3.4.5/", "four decimal numbers"),
        ("http://partner.1/", "four decimal numbers"),
        ("http://partner.0x/", "four decimal numbers"),
        ("http://127.0.0.1/", "loopback"),
        ("http://169.254.169.254/latest/meta-data/", "link local"),
        ("http://[::1]/", "loopback"),
        ("http://[::ffff:7f00:1]/", "loopback"),
        ("http://[::ffff:169.254.169.254]/", "link local"),
        ("http://[fd00:ec2::254]/", "metadata"),
        ("http://[fe80::1%25eth0]/", "zone"),
        ("http://[fe80::1%eth0]/", "zone"),
        ("http://[v1.x]/", "not an IPv6 address"),
        ("http://[127.0.0.1]/", "not an IPv6 address"),
        ("http://[]/", "not an IPv6 address"),
    ],
)
def test_odd_urls_are_refused_with_the_reason(url: str, words: str) -> None:
    reason = GUARD.check_url(url)
    assert reason is not None
    assert words in reason
    assert "secret" not in reason
    assert GUARD.target(url) == Refused(reason=reason)


_hosts = st.text(alphabet="0123456789abcdefxX.-_%[]:@ég", min_size=1, max_size=24)


@given(_hosts, st.sampled_from(["", ":80", ":443", ":8080"]), st.sampled_from(["", "/", "/a/../b", "/?q", "?a=1"]))
@example("0x7f.1", "", "/")
@example("[::ffff:7f00:1]", ":80", "")
def test_libcurl_reads_the_same_host_and_port_out_of_every_url_that_passes(host: str, port: str, rest: str) -> None:
    url = f"http://{host}{port}{rest}"
    target = GUARD.target(url)
    if isinstance(target, UrlTarget):
        reading = pycurl.CurlUrl(url)
        assert reading.host is not None
        spelled = reading.host.lower().strip("[]")
        assert (ip_address(spelled) == target.address) if target.address else (spelled == target.host)
        assert int(reading.port or 80) == target.port
        assert reading.user is None


@given(st.ip_addresses(v=4))
def test_no_spelling_of_a_refused_address_passes_as_a_host(address: IPv4Address) -> None:
    number = int(address)
    octets = address.packed
    spellings = [
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(map(hex, octets)),
        ".".join(f"0{o:o}" for o in octets),
    ]
    for spelling in spellings:
        target = GUARD.target(f"http://{spelling}/")
        assert isinstance(target, Refused) or target.address == address


def test_ranges_are_judged_within_their_own_family() -> None:
    assert GUARD.check_address(IPv6Network("2600::/16")[1]) is None


URL_PARTS = st.sampled_from(
    [
        "http",
        "https",
        "HTTP",
        "ftp",
        "://",
        ":",
        "/",
        "//",
        "?",
        "#",
        "@",
        "\\",
        "a",
        "b.c",
        "[::1]",
        ":80",
        " ",
        "é",
        "%41",
        "{",
    ]
)
URLS = st.one_of(
    st.lists(URL_PARTS, max_size=8).map("".join),
    st.lists(URL_PARTS, max_size=6).map(lambda parts: "".join(["https://", *parts])),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x80)).map(lambda text: f"http://a{text}"),
)


@settings(max_examples=1000)
@given(URLS)
def test_a_usual_url_is_read_as_any_other(url: str) -> None:
    assert parts_or_fault(split, url) == parts_or_fault(split_unusual, url)


def parts_or_fault(read: Callable[[str], tuple[str, str]], url: str) -> tuple[str, str] | str:
    try:
        return read(url)
    except UrlRejected as rejected:
        return str(rejected)


@given(URLS)
def test_the_target_is_what_follows_scheme_and_authority(url: str) -> None:
    try:
        scheme, authority = split(url)
    except UrlRejected:
        return
    rest = url[len(scheme) + len("://") + len(authority) :]
    assert target_of(url) == (rest if rest.startswith("/") else f"/{rest}")
