# Sallyport and the bare minimum that does the same work, measured in one run.

##@ Measure it

BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready

.PHONY: bench
bench: $(RUN_READY) $(BENCH_READY) ## compare Sallyport with the bare minimum that does the same work, and with frameworks
#? ONLY=handler,cold for parts, ROWS=1000000 for a large table
#? ONLY=peers for the frameworks, ONLY=workers for other queues' workers; installed at first
#? OUT=folder to write the figures of the parts tables, instructions, peers and workers there, as JSON
#? SMALL=yes for a few rounds, too few to measure anything
	@exec $(PROGRAM) $(TIED) bench $(options)

$(BENCH_READY): requirements-bench.txt local/set-up
	@local/set-up $(BENCH_VENV) requirements-bench.txt
	@touch $@
