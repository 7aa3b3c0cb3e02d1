"""Where a packet can be refused, with the AWS page that documents it."""

from enum import StrEnum

_VPC = "https://docs.aws.amazon.com/vpc/latest/userguide/"


class Checkpoint(StrEnum):
    """What refuses a packet, named as in the report."""

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


PAGES: dict[Checkpoint, str] = {
    Checkpoint.SOURCE: _VPC + "work-with-nat-instances.html",  # "source/destination checks"
    Checkpoint.RESOLVER: _VPC + "AmazonDNS-concepts.html",
    Checkpoint.ROUTE: _VPC + "route-tables-priority.html",
    Checkpoint.BLACKHOLE: _VPC + "RouteTables.html",
    Checkpoint.ADDRESS: _VPC + "subnet-route-tables.html",
    Checkpoint.NACL_OUT: _VPC + "nacl-basics.html",
    Checkpoint.NACL_IN: _VPC + "nacl-basics.html",
    Checkpoint.TRACKING: "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html",
    Checkpoint.GROUP_OUT: _VPC + "security-group-rules.html",
    Checkpoint.GROUP_IN: _VPC + "security-group-rules.html",
    Checkpoint.NAT: _VPC + "nat-gateway-basics.html",
    Checkpoint.GATEWAY: _VPC + "VPC_Internet_Gateway.html",
    Checkpoint.INTERNET: "https://www.rfc-editor.org/rfc/rfc1918",
    Checkpoint.VPN: "https://docs.aws.amazon.com/vpn/latest/s2svpn/VPNRoutingTypes.html",
    Checkpoint.ENDPOINT: "https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html",
    Checkpoint.LOOP: "https://www.rfc-editor.org/rfc/rfc1812#section-5.3.1",  # AWS does not document what happens
}
