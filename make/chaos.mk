# Everything goes wrong at once, for as long as one likes. Random, so it is not part of `make test`.

##@ Break it

.PHONY: chaos
chaos: $(DEV_READY) ## kill, cut off and delay at random, then count the promises; SEED=1 SECONDS=120
	@CHAOS_SEED="$(SEED)" CHAOS_SECONDS="$(or $(SECONDS),60)" $(PY) -m pytest -q -s $(ARGS) tests/e2e/test_chaos.py
