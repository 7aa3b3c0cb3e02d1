# The flows under a seeded schedule of everything that can go wrong: see docs/adr/0031-a-simulator-of-greenlets.md.

##@ Prove it

.PHONY: simulate
simulate: $(DEV_READY) ## break everything by a seeded plan in virtual time, then check every promise
#? N=1000 seeds instead of a minute, or DELIVERIES=1000000, or UNTIL=failure; SEED=1 for the first seed
#? TAPE=.simulation/1.json plays a story that was saved, by its choices
#? SHOW=yes prints and draws what happened in the first seed, also where all promises were kept
#? MUTANT="a lapsed claim is sent again" with this mistake in the code, see simulator/mutants.py
	@exec $(PROGRAM) $(TIED) simulator $(options)

.PHONY: reconcile-proof
reconcile-proof: $(DEV_READY) ## ask a misbehaving bank about 10,000 unknown deliveries, and hold the verdicts against its books
#? N=1000 deliveries instead, SEED=1 for what goes wrong
#? MUTANT="absent before absent_after" with this mistake in the code, see simulator/reconciling.py
	@exec $(PROGRAM) $(TIED) simulator.reconciling $(options)

.PHONY: simulate-mutants
simulate-mutants: $(DEV_READY) ## put one deliberate mistake after the other into the code, which make simulate must find
#? N=500 seeds at most for each, SEED=1 for the first one
#? ONLY="a lapsed claim" for the mistakes with this in their names
	@exec $(PROGRAM) $(TIED) simulator.search $(options)
