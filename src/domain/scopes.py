"""What a token may do."""

READ = "read"  # look at egress addresses, destinations and deliveries
SEND = "send"  # hand over deliveries and pass calls through
MANAGE = "manage"  # create destinations
ALL_SCOPES = (READ, SEND, MANAGE)
