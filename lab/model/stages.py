"""Where a packet can die, and the page of AWS that says so."""

from enum import StrEnum

_VPC = "https://docs.aws.amazon.com/vpc/latest/userguide/"


class Stage(StrEnum):
    """What refuses a packet, in the words of the report."""

    SOURCE = "source check"
    RESOLVER = "resolver"
    ROUTE = "route table"
    BLACKHOLE = "blackhole route"
    ADDRESS = "address in the VPC"
    NACL_OUT = "network ACL, outbound"
    NACL_IN = "network ACL, inbound"
    TRACKING = "connection tracking"
    GROUP_OUT = "security group, outbound"
    GROUP_IN = "security group, inbound"
    NAT = "NAT gateway"
    GATEWAY = "internet gateway"
    INTERNET = "internet"
    VPN = "VPN gateway"
    ENDPOINT = "gateway endpoint"
    LOOP = "routes that form a loop"


PAGES: dict[Stage, str] = {
    Stage.SOURCE: _VPC + "work-with-nat-instances.html",  # "source/destination checks"
    Stage.RESOLVER: _VPC + "AmazonDNS-concepts.html",
    Stage.ROUTE: _VPC + "route-tables-priority.html",
    Stage.BLACKHOLE: _VPC + "RouteTables.html",
    Stage.ADDRESS: _VPC + "subnet-route-tables.html",
    Stage.NACL_OUT: _VPC + "nacl-basics.html",
    Stage.NACL_IN: _VPC + "nacl-basics.html",
    Stage.TRACKING: "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html",
    Stage.GROUP_OUT: _VPC + "security-group-rules.html",
    Stage.GROUP_IN: _VPC + "security-group-rules.html",
    Stage.NAT: _VPC + "nat-gateway-basics.html",
    Stage.GATEWAY: _VPC + "VPC_Internet_Gateway.html",
    Stage.INTERNET: "https://www.rfc-editor.org/rfc/rfc1918",
    Stage.VPN: "https://docs.aws.amazon.com/vpn/latest/s2svpn/VPNRoutingTypes.html",
    Stage.ENDPOINT: "https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html",
    Stage.LOOP: "https://www.rfc-editor.org/rfc/rfc1812#section-5.3.1",  # no page of AWS tells what becomes of it
}
