"""What a stack can do, derived once from its parameters, so that nothing else compares the names of topologies.

The rules are the conditions of template.yaml (HasInternet, HasVpn, HasPrivateApi, IsInternetAccessible); a test holds
the two together for every combination of the parameters that they read.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """`has_internet`: requests can leave to the internet. `private_api`: only the interface endpoint reaches the API.

    `has_vpn`: a VPN leads to the corporate network. `public_database`: the database has a public address.
    """

    has_internet: bool
    has_vpn: bool
    private_api: bool
    public_database: bool


def capabilities(parameters: Mapping[str, str]) -> Capabilities:
    """Of a stack with these parameters; those that are left out have the template's defaults."""
    topology = parameters.get("Topology", "public-private")
    corporate_api_is_private = parameters.get("CorporateApi", "private") == "private"
    return Capabilities(
        has_internet=topology != "internal-only",
        has_vpn=bool(parameters.get("CorporateCidr")),
        private_api=topology == "internal-only" or (topology == "on-premises" and corporate_api_is_private),
        public_database=topology == "internet-accessible",
    )
