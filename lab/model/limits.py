"""What the lab does not model. The report prints this list, so that nobody takes its proofs for more than they are."""

LIMITS: tuple[str, ...] = (
    "One VPC with one IPv4 range: no IPv6, secondary ranges, peering, transit gateways or shared subnets.",
    "No route tables of gateways, routes to interfaces, Gateway Load Balancer endpoints or AWS Network Firewall.",
    "IAM, endpoint policies, resource policies and VPC Block Public Access: packets only, not who may call which API.",
    "The VPN is a wire without IPsec, IKE, BGP or fail-over between tunnels; propagated routes are taken as given.",
    "The resolver at VPC+2 is reached past every filter, as on AWS: names are a way out even of a sealed VPC.",
    "The other link-local services (instance metadata, time, DHCP) are absent.",
    "Hosts outside of the VPC send as themselves; who pretends to be a corporate host is not tried.",
    "NAT gateways keep ports and have no limits: no 55,000 connections per destination, no idle time-outs.",
    "A regional NAT gateway serves exactly the zones that it has addresses in, and never grows by itself.",
    "A zone is a name: neither its latency nor its failure is modelled except by taking resources away.",
    "Gateway endpoints and other AWS services are one host each; their ranges are stand-ins for prefix lists.",
    "Lambda's shared Hyperplane interfaces are one namespace per function and subnet. On AWS nothing connects to one;"
    " here it is the security group alone that refuses.",
    "Bandwidth, MTU, quotas, connection-tracking limits and AWS's changes under way (minutes of Pending) are absent.",
    "PostgreSQL cannot check AWS's signature in IAM tokens: any password will do for a role that has rds_iam.",
    "RDS Proxy is refused, and the standby of the database runs no program.",
    "The handlers run on this machine's Python and not in Lambda's image; their environments are never frozen.",
    "API Gateway, SQS, Secrets Manager, SSM and S3 are programs of ours and moto's; nobody checks AWS's signatures.",
    "One authority of the lab's stands for Amazon's and all public ones.",
    "Functions outside of the VPC, and the agent that opens sessions on the bastion, run no program.",
    "Probes are TCP over IPv4. Rules for UDP and ICMP are applied, but only the proofs that run programs use them.",
)
