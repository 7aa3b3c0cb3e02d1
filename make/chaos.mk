# Everything goes wrong at once, for as long as one likes. Random, so it is not part of `make test`.

##@ Prove it

.PHONY: chaos
chaos: $(DEV_READY) ## kill, cut off and delay at random, then count the promises
#? SECONDS=120 for longer than a minute, SEED=1 for the same things again
	@CHAOS_SEED="$(strip $(call number,SEED,,1))" CHAOS_SECONDS="$(or $(strip $(call number,SECONDS,,120)),60)" $(PY) -m pytest -q -s -n0 --tb=short --show-capture=no $(ARGS) tests/e2e/test_chaos.py
