# Ours beside the bare minimum that does the same work, in one run.

##@ Measure it

BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready

.PHONY: bench
bench: $(RUN_READY) $(BENCH_READY) ## ours beside the bare minimum that does the same work
#? ONLY=handler,cold for parts, ROWS=1000000 for a large table
#? SMALL=yes for a few rounds that measure nothing
	@$(PY) -m bench $(if $(ONLY),--only $(ONLY)) $(call number,ROWS,--rows,1000000) $(call switch,SMALL,--small)

$(BENCH_READY): requirements-bench.txt local/set-up
	@local/set-up $(BENCH_VENV) requirements-bench.txt
	@touch $@
