"""What the lab is about, as plain values: the case, the hosts around the VPC, attempts and what can refuse them."""
