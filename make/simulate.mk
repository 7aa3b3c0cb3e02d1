# The flows under a seeded schedule of everything that can go wrong: see docs/adr/0031-a-simulator-of-greenlets.md.

##@ Prove it

.PHONY: simulate
simulate: $(DEV_READY) ## break everything by a seeded plan in virtual time, then check every promise
#? N=1000 seeds instead of a minute, SEED=1 for the first one, UNTIL=failure without an end
#? SHOW=yes prints what happened also where all promises were kept
	@exec $(PY) -m simulator $(options)
