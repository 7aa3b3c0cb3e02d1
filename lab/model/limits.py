"""What the lab does not model. Reports print this list, so that nobody reads more into a proof than it shows."""

LIMITS: tuple[str, ...] = (
    "One VPC with one IPv4 range: no IPv6, secondary ranges, peering, transit gateways or shared subnets.",
    "No route tables of gateways, routes to interfaces, Gateway Load Balancer endpoints or AWS Network Firewall.",
    "Resource policies and VPC Block Public Access. Of IAM only who may sign in to the database or copy its data, of"
    " endpoint policies only that named actions pass.",
    "The VPN is a plain link without IPsec, IKE, BGP or fail-over between tunnels; propagated routes are assumed.",
    "The resolver at VPC+2 bypasses every filter, as on AWS: DNS queries leave even a VPC without internet access.",
    "The other link-local services (instance metadata, time, DHCP) are absent.",
    "Hosts outside of the VPC use their own addresses. Behind the VPN any address may be, and each is answered there.",
    "NAT gateways preserve ports and have no limits: no 55,000 connections per destination, no idle time-outs.",
    "A regional NAT gateway serves exactly the zones that it has addresses in, and does not expand to others.",
    "A zone is only a name: its latency is not modelled, and its failure only as the loss of resources.",
    "Gateway endpoints and other AWS services are one host each; their ranges are stand-ins for prefix lists.",
    "Lambda's shared Hyperplane interfaces are one namespace per function and subnet. On AWS nothing connects to one;"
    " here only the security group refuses it.",
    "Bandwidth, MTU, quotas, connection-tracking limits and changes in progress (the minutes of Pending) are absent.",
    "PostgreSQL cannot check AWS's signature in IAM tokens: it accepts any password for a role that has rds_iam.",
    "RDS Proxy is refused, and the standby of the database does not run.",
    "The handlers run on this machine's Python, not in Lambda's image, and their environments are never frozen.",
    "API Gateway, SQS, Secrets Manager, SSM and S3 are emulated, by moto in part; request signatures are not checked.",
    "One certificate authority stands in for Amazon's and all public ones.",
    "Functions outside of the VPC, and the agent that opens sessions on the bastion, do not run.",
    "Probes are TCP, UDP and echoes by ICMP, over IPv4. Other protocols are not tried.",
)
