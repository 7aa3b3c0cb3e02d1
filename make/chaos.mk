# The real functions over a real PostgreSQL, while everything around them fails. See docs/measured/README.md.

##@ Prove it

.PHONY: chaos
chaos: $(DEV_READY) ## kill, freeze, hang, fill and disconnect at random, then check every guarantee
#? SECONDS=120 of faults instead of 30, SEED=1 for the same orders and faults
	@exec $(PROGRAM) $(TIED) faults --seconds=$(or $(SECONDS),30) $(if $(SEED),--seed=$(SEED))

.PHONY: faults
faults: $(DEV_READY) ## the same for 100,000 deliveries and 500 faults, recorded in docs/measured/: half an hour
#? N=1000 FAULTS=20 for a shorter run, which is not recorded; SEED=1 as above
#? OUT=folder to write its report there
	@exec $(PROGRAM) $(TIED) faults $(options)
