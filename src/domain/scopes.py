"""What a token may do."""

READ = "read"  # read egress addresses, destinations and deliveries
SEND = "send"  # create deliveries, make pass-through calls, run the egress check
MANAGE = "manage"  # create destinations
ALL_SCOPES = (READ, SEND, MANAGE)
