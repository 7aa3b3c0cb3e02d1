"""What a token may do."""

READ = "read"  # look at egress addresses, destinations and deliveries
SEND = "send"  # hand over deliveries, pass calls through, ask for the egress check
MANAGE = "manage"  # create destinations
ALL_SCOPES = (READ, SEND, MANAGE)
