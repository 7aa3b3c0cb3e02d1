"""The patterns of address ranges that template.yaml's parameters must match, made of named pieces.

CloudFormation takes a pattern as one literal text, which nobody can read at a thousand characters. So each is composed
here of what it says, and a contract test holds the template equal to it. To change one, change its piece here; the test
prints the new text for the template.
"""

from collections.abc import Mapping

OCTET = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
# A range that begins 1 to 7 bits into an octet has a multiple of 128, 64, ..., 2 there.
MULTIPLES = (
    r"(?:0|128)",
    r"(?:0|64|128|192)",
    r"(?:0|32|64|96|128|160|192|224)",
    r"(?:0|16|32|48|64|80|96|112|128|144|160|176|192|208|224|240)",
    "(?:" + "|".join(str(multiple) for multiple in range(0, 256, 8)) + ")",
    r"(?:\d*(?:[02468][048]|[13579][26])|[048])",
    r"(?:\d*[02468])",
)
SHARED_SECOND_OCTETS = r"(6[4-9]|[7-9]\d|1[01]\d|12[0-7])"  # of 100.64.0.0/10, RFC 6598
PRIVATE_SECOND_OCTETS = r"(1[6-9]|2\d|3[01])"  # of 172.16.0.0/12, RFC 1918
NOT_PUBLIC = (
    r"(?!0\.|10\.|127\.|169\.254\."
    rf"|172\.{PRIVATE_SECOND_OCTETS}\.|192\.168\.|100\.{SHARED_SECOND_OCTETS}\."
    r"|22[4-9]\.|2[3-5]\d\.)"  # 224.0.0.0/4 and 240.0.0.0/4
)
ADDRESS = rf"{OCTET}\.{OCTET}\.{OCTET}\.{OCTET}"
PUBLIC_RANGE = rf"{NOT_PUBLIC}{ADDRESS}/(1[6-9]|2\d|3[0-2])"
PRIVATE_RANGE = (
    rf"(10\.{OCTET}|172\.{PRIVATE_SECOND_OCTETS}|192\.168|100\.{SHARED_SECOND_OCTETS})\.{OCTET}\.{OCTET}"
    r"/([89]|[12]\d|3[0-2])"
)
ANY_RANGE = rf"{ADDRESS}/([89]|[12]\d|3[0-2])"
NONE_TWICE = r"(?!(.*,)?([^,]+),(.*,)?\2(,|$))"


def _starts_on_its_boundary(*, from_eight: bool) -> str:
    """10.64.16.0/20 does, 10.64.1.0/20 does not. `from_eight` takes /8 to /15 too, otherwise /16 is the largest."""
    partial = "|".join(
        multiple + "(?:" + (rf"\.0\.0/{8 + bits}|" if from_eight else "") + rf"\.0/{16 + bits}|/{24 + bits})"
        for bits, multiple in enumerate(MULTIPLES, start=1)
    )
    whole = (r"|\d+\.0\.0\.0/8" if from_eight else "") + r"|\d+\.\d+\.0\.0/16|(?:\d+\.){3}0/24|[\d.]+/32"
    return rf"(?:(?:\d+\.)+(?:{partial}){whole}"


def _one(range_pattern: str, *, from_eight: bool) -> str:
    """One range, or nothing."""
    return rf"^(?={_starts_on_its_boundary(from_eight=from_eight)})?$)({range_pattern})?$"


def _several(range_pattern: str, *, most: int) -> str:
    """Up to `most` ranges separated by commas, none of them twice; or nothing."""
    boundaries = _starts_on_its_boundary(from_eight=True)
    return rf"^{NONE_TWICE}(?=(?:{boundaries})(?:,|$))*$)({range_pattern}(,{range_pattern}){{0,{most - 1}}})?$"


PATTERNS: Mapping[str, str] = {
    "DeveloperCidr": _one(PUBLIC_RANGE, from_eight=False),
    "CorporateCidr": _one(PRIVATE_RANGE, from_eight=True),
    "AllowedPrivateCidrs": _several(PRIVATE_RANGE, most=4),
    "AllowedCallerCidrs": _several(ANY_RANGE, most=10),
}
