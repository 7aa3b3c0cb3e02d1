# Everything fails at once, for as long as you like. Random, so it is not part of `make test`.

##@ Prove it

.PHONY: chaos
chaos: $(DEV_READY) ## kill, disconnect and delay at random, then check every guarantee
#? SECONDS=120 for longer than a minute, SEED=1 to repeat a run
	@CHAOS_SEED="$(SEED)" CHAOS_SECONDS="$(or $(SECONDS),60)" $(PY) -m pytest -q -s -n0 --tb=short --show-capture=no $(ARGS) tests/e2e/test_chaos.py
