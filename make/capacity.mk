##@ Measure it

.PHONY: capacity
capacity: $(DEV_READY) ## what one Region carries: bottlenecks, parameters and the bill of a rate; several rates without one
#? RATE=1000 deliveries a second, LATENCY=250 ms of partners, SIZE=1024 bytes of a body
#? RETRIES=5, LOOKS=100 and EVENTS=100 for a hundred deliveries, DESTINATIONS=10 that share them
#? TOPOLOGY= EGRESS= PROXY=yes BATCH=10 SET="AttemptConcurrency=50"
#? SEED=1 of the simulation; WRITE=yes updates the numbers in docs/capacity.md
	@$(PROGRAM) stack.capacity $(options)
